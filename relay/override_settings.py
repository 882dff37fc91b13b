"""One table [[override]] of the settings file: the operator's own word on the TLS of some destinations."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from relay.policy.observed import TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode
from relay.setting_types import Section, Written, host_name

_VERSIONS = {
    "1.0": TlsVersion.TLS_1_0,
    "1.1": TlsVersion.TLS_1_1,
    "1.2": TlsVersion.TLS_1_2,
    "1.3": TlsVersion.TLS_1_3,
}
_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")


def domain_pattern(value: object) -> str:
    """A host name, in lower-case A-labels; with a dot in front it stands for all below it."""
    if not isinstance(value, str):
        raise ValueError("must be text such as example.org or .example.org")
    return "." + host_name(value[1:]) if value.startswith(".") else host_name(value)


def _host(value: object) -> str:
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value.strip("[]")))
        except ValueError:
            pass
    return domain_pattern(value)


def _until(value: object) -> datetime:
    """A date is in force to its end, in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if "T" in value or " " in value else date.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs its zone: 2027-03-31T18:00:00Z")
        return value.astimezone(UTC)
    if isinstance(value, date):
        try:
            return datetime.combine(value + timedelta(days=1), time(), UTC)
        except OverflowError:
            raise ValueError("is too far away") from None
    raise ValueError("must be a date such as 2027-03-31, the last day on which it is in force")


def _version(value: object) -> TlsVersion | None:
    if value is None or value == "" or isinstance(value, TlsVersion):
        return value or None  # type: ignore[return-value]
    if not isinstance(value, str) or value not in _VERSIONS:
        raise ValueError('must be "1.0", "1.1", "1.2" or "1.3"')
    return _VERSIONS[value]


def _fingerprint(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    found = _SHA256.match(value.lower().replace("sha256:", "").replace(":", "")) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a SHA-256 fingerprint: 64 hexadecimal digits, with or without colons")
    return bytes.fromhex(found[1])


def _line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be one line of text, and not empty")
    return value.strip()


_text: Any = PlainSerializer(str, return_type=str)
DomainPattern = Annotated[str, BeforeValidator(domain_pattern), Written("domain")]
HostPattern = Annotated[str, BeforeValidator(_host), Written("host")]
Until = Annotated[datetime, BeforeValidator(_until), _text, Written("date")]
OptionalVersion = Annotated[
    TlsVersion | None,
    BeforeValidator(_version),
    PlainSerializer(lambda value: "" if value is None else str(value).removeprefix("TLS "), return_type=str),
    Written("TLS version"),
]
Fingerprint = Annotated[
    bytes, BeforeValidator(_fingerprint), PlainSerializer(bytes.hex, return_type=str), Written("fingerprint")
]
Line = Annotated[str, AfterValidator(_line), Written("text")]


class OverrideSettings(Section):
    """A local rule on TLS for some destinations; any number of these tables."""

    domains: tuple[DomainPattern, ...] = Field(
        default=(), description="recipient domains; `.example.org` is everything below example.org"
    )
    hosts: tuple[HostPattern, ...] = Field(
        default=(), description="mail hosts: MX hosts or the next hop, by name or address; `.example.org` as above"
    )
    level: OverrideLevel = Field(description="what a session must prove")
    mode: OverrideMode = Field(
        default=OverrideMode.RAISE,
        description="raise: beside what the domain publishes; replace: in its place, which is then checked and logged",
    )
    minimum_tls: OptionalVersion = Field(default=None, description="oldest TLS version that counts where TLS is asked")
    names: tuple[DomainPattern, ...] = Field(
        default=(), description="for verify: names of which the certificate must have one; empty: the mail host's"
    )
    fingerprints: tuple[Fingerprint, ...] = Field(
        default=(), description="for fingerprint: SHA-256 of the host's certificate or of its public key, in hex"
    )
    reason: Line = Field(description="why it is there")
    owner: Line = Field(description="who answers for it")
    until: Until = Field(description="the last day on which it is in force (UTC)")

    @model_validator(mode="after")
    def _fits_together(self) -> OverrideSettings:
        fault = _fault(self)
        if fault is not None:
            raise ValueError(fault)
        return self

    def value(self) -> Override:
        """The override as the decision takes it."""
        return Override(
            domains=self.domains,
            hosts=self.hosts,
            level=self.level,
            mode=self.mode,
            reason=self.reason,
            owner=self.owner,
            until=self.until,
            minimum=self.minimum_tls,
            names=self.names,
            fingerprints=self.fingerprints,
        )


def _fault(given: OverrideSettings) -> str | None:
    """What does not go together."""
    level = given.level
    if not given.domains and not given.hosts:
        return "needs domains or hosts: whom it is for"
    if (level is OverrideLevel.FINGERPRINT) != bool(given.fingerprints):
        return "the level fingerprint and the list fingerprints need each other"
    if given.names and level is not OverrideLevel.VERIFY:
        return "names are for the level verify"
    if any(name.startswith(".") for name in given.names):
        return "names are whole host names"
    return _fault_when_raising(given) if given.mode is OverrideMode.RAISE else _fault_when_replacing(given)


def _fault_when_raising(given: OverrideSettings) -> str | None:
    asks_nothing = given.level in (OverrideLevel.OPPORTUNISTIC, OverrideLevel.DANE) and given.minimum_tls is None
    if given.level is OverrideLevel.NONE or asks_nothing:
        return f"the level {given.level.value} adds nothing to what is published; replace puts it in the place of that"
    if given.minimum_tls is not None and given.minimum_tls < TlsVersion.TLS_1_2:
        return "minimum_tls below 1.2 adds nothing: TLS that is asked for is 1.2 or newer"
    return None


def _fault_when_replacing(given: OverrideSettings) -> str | None:
    if given.minimum_tls is None:
        return None
    if given.level in (OverrideLevel.NONE, OverrideLevel.OPPORTUNISTIC):
        return f"minimum_tls counts where TLS is asked for, and the level {given.level.value} does not ask"
    if given.minimum_tls < TlsVersion.TLS_1_2 and given.level not in (OverrideLevel.ENCRYPT, OverrideLevel.FINGERPRINT):
        return f"minimum_tls below 1.2 goes with encrypt and fingerprint, not with {given.level.value}"
    return None
