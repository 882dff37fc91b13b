"""Every setting there is: its name, type, default and one line of documentation. Values only; `config` loads them.

A new setting is a field here, with a `description`; `relay config example` and docs/config.md follow from it.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+)\s*([smhdw])\Z")
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"(\d+)\s*([kmg]?)b?\Z", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?\Z")


class HostPort(BaseModel):
    """A host (name, or address without brackets) and a port."""

    model_config = ConfigDict(frozen=True)
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split_port(text: object, default_port: int | None) -> tuple[str, int]:
    if not isinstance(text, str):
        raise ValueError("must be text such as 127.0.0.1:2525")
    found = re.match(r"(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?\Z", text)
    bare_v6 = text.count(":") > 1 and not text.startswith("[")
    if bare_v6 and default_port is not None:
        return text, default_port
    if found is None or (found[3] is None and default_port is None):
        raise ValueError("must be host:port, with an IPv6 address in brackets: [::1]:2525")
    port = int(found[3]) if found[3] is not None else default_port or 0
    if not 0 <= port <= 65535:
        raise ValueError("the port must be from 0 to 65535")
    return found[1] if found[1] is not None else found[2], port


def _listen(text: object) -> HostPort:
    if isinstance(text, HostPort):
        return text
    host, port = _split_port(text, None)
    return HostPort(host=_address(host), port=port)


def _nameserver(text: object) -> HostPort:
    if isinstance(text, HostPort):
        return text
    host, port = _split_port(text, 53)
    return HostPort(host=_address(host), port=port)


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None


def _next_hop(text: object) -> HostPort | None:
    if text is None or text == "" or isinstance(text, HostPort):
        return text or None  # type: ignore[return-value]
    host, port = _split_port(text, None)
    if port == 0:
        raise ValueError("the port must be from 1 to 65535")
    try:
        return HostPort(host=_address(host), port=port)
    except ValueError:
        if not _HOST.match(host) or ".." in host:
            raise ValueError(f"{host!r} is neither a host name nor an IP address") from None
        return HostPort(host=host.lower(), port=port)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a number and a unit (s, m, h, d, w), such as 15m or 5d")
    try:
        return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    except OverflowError:
        raise ValueError("is too long") from None


def _optional_duration(value: object) -> timedelta | None:
    return None if value in ("", None) else _duration(value)


def _positive(value: timedelta | None) -> timedelta | None:
    if value is not None and value <= timedelta(0):
        raise ValueError("must be longer than zero")
    return value


def format_duration(value: timedelta | None) -> str:
    """How a duration is written in the settings: the largest unit that divides it. None is the empty text."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    unit = next(unit for unit in reversed(_UNITS) if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a number of octets, or a number with k, M or G, such as 50M")
    return int(found[1]) * _SIZES[found[2].lower()]


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"must be a network such as 192.0.2.0/24: {error}") from None


def _hostname(value: str) -> str:
    if value and (not _HOST.match(value) or ".." in value):
        raise ValueError("must be a host name such as mail.example.org")
    return value


def _path(value: object) -> Path | None:
    if value in ("", None):
        return None
    if not isinstance(value, str | Path):
        raise ValueError("must be the path of a file")
    return Path(value).expanduser()


_text: Any = PlainSerializer(lambda value: "" if value is None else str(value), return_type=str)
Listen = Annotated[HostPort, BeforeValidator(_listen), _text]
Nameserver = Annotated[HostPort, BeforeValidator(_nameserver), _text]
NextHop = Annotated[HostPort | None, BeforeValidator(_next_hop), _text]
_written: Any = PlainSerializer(format_duration, return_type=str)
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive), _written]
OptionalDuration = Annotated[timedelta | None, BeforeValidator(_optional_duration), AfterValidator(_positive), _written]
Size = Annotated[int, BeforeValidator(_size), Field(ge=1024)]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network), _text]
HostName = Annotated[str, AfterValidator(_hostname)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
OptionalPath = Annotated[Path | None, BeforeValidator(_path), _text]


class TrustAd(Enum):
    """Whether the resolver's word on DNSSEC is believed."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class Section(BaseModel):
    """One table of the settings file: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class SubmissionSettings(Section):
    """Mail in: who may connect where, and who may send."""

    listen: tuple[Listen, ...] = Field(
        (HostPort(host="127.0.0.1", port=2525),), description="where mail is taken, with STARTTLS when a certificate is set"
    )
    listen_tls: tuple[Listen, ...] = Field((), description="where mail is taken with TLS from the first octet")
    trusted_networks: tuple[Network, ...] = Field(
        (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        description="clients in these networks may send to anyone without a password",
    )
    tls_certificate: OptionalPath = Field(None, description="PEM file with the certificate and its chain")
    tls_key: OptionalPath = Field(None, description="PEM file with the certificate's private key")
    users_file: OptionalPath = Field(None, description="file of users and argon2 hashes, written by `relay user add`")
    max_message_size: Size = Field(50 * (1 << 20), description="largest message taken: octets, or with k, M, G")
    max_recipients: int = Field(1000, ge=100, strict=True, description="most recipients of one message")
    max_connections: int = Field(1000, ge=1, strict=True, description="most clients at once; one more gets 421")
    timeout: Duration = Field(timedelta(minutes=5), description="how long a silent client is kept")


class QueueSettings(Section):
    """Where mail rests, and for how long it is remembered."""

    path: OptionalPath = Field(
        None, description="the one writable folder; empty: $RELAY_STATE, else $XDG_STATE_HOME/relay"
    )
    history: Duration = Field(timedelta(days=7), description="how long delivered and failed mail is remembered")


class DnsSettings(Section):
    """Whom to ask, and whether to believe its word on DNSSEC."""

    nameservers: tuple[Nameserver, ...] = Field((), description="address[:port] of resolvers; empty: the system's")
    trust_ad: TrustAd = Field(
        TrustAd.AUTO, description="believe the AD bit: auto (loopback resolvers that pass the self-test), yes, no"
    )
    self_test_signed: HostName = Field("iana.org", description="a signed name: the resolver must say AD for it")
    self_test_bogus: HostName = Field("dnssec-failed.org", description="a wrongly signed name: it must be refused")
    timeout: Duration = Field(timedelta(seconds=10), description="how long one question may take, retries included")


class TlsSettings(Section):
    """Authorities for policy hosts and for MX hosts whose policy asks for them."""

    ca_file: OptionalPath = Field(None, description="PEM file of authorities trusted beside the system's")


class DeliverySettings(Section):
    """Mail out."""

    port: Port = Field(25, description="port of MX hosts")
    next_hop: NextHop = Field(None, description="host:port that takes all mail in place of the MX lookup; empty: none")
    allow_private_addresses: bool = Field(
        False, strict=True, description="connect to MX and policy hosts on loopback or private networks"
    )
    concurrency: int = Field(200, ge=1, strict=True, description="most deliveries at once")
    concurrency_per_destination: int = Field(20, ge=1, strict=True, description="most deliveries at once to one domain")


class MtaStsSettings(Section):
    """MTA-STS policies."""

    port: Port = Field(443, description="port of policy hosts")


class RetrySettings(Section):
    """When to try again, and when to give up."""

    schedule: tuple[Duration, ...] = Field(
        tuple(timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 120, 240)),
        min_length=1,
        description="waits between attempts; the last one repeats",
    )
    expire: Duration = Field(timedelta(days=5), description="age at which the sender is told that it failed")
    delay_notice: OptionalDuration = Field(
        timedelta(hours=4), description="age at which the sender is told that it is late; empty: never"
    )


class Settings(Section):
    """All settings."""

    hostname: HostName = Field("", description="our name in EHLO, Received and bounces; empty: the machine's full name")
    submission: SubmissionSettings = SubmissionSettings()
    queue: QueueSettings = QueueSettings()
    dns: DnsSettings = DnsSettings()
    tls: TlsSettings = TlsSettings()
    delivery: DeliverySettings = DeliverySettings()
    mta_sts: MtaStsSettings = MtaStsSettings()
    retry: RetrySettings = RetrySettings()
