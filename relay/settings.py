"""Every setting there is: its name, type, default and one line of documentation. Values only; `config` loads them.

A new setting is a field here, with a `description`; `relay config example` follows from it, and a test asks for its row
in docs/config.md. Nothing here reads a file or asks whether one exists.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from relay.mail.address import AddressError, parse_domain

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"([0-9]{1,12}) *([smhdw])\Z")
_LONGEST_DAYS = 3660  # ten years; a time of the far future cannot be added to a date
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12}) *([kmg]?)b?\Z", re.IGNORECASE)
_SMALLEST_SIZE, _LARGEST_SIZE = 1 << 10, 100 << 30
_HOST_AND_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]+))(?::([0-9]{1,10}))?\Z")
_MOST = 1_000_000  # an upper limit for counts: whoever writes more has mistyped


@dataclass(frozen=True, slots=True)
class Written:
    """How a type is called in docs/config.md."""

    name: str


class HostPort(BaseModel):
    """A host (name, or address without brackets) and a port."""

    model_config = ConfigDict(frozen=True)
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split_port(text: object, default_port: int | None, lowest: int) -> tuple[str, int]:
    """Host and port. An address of IPv6 needs no brackets where the port may be left out."""
    if not isinstance(text, str):
        raise ValueError("must be text such as 127.0.0.1:2525")
    if default_port is not None and text.count(":") > 1 and not text.startswith("["):
        return text, default_port
    found = _HOST_AND_PORT.match(text)
    if found is None or (found[3] is None and default_port is None):
        raise ValueError("must be host:port, with an IPv6 address in brackets: [::1]:2525")
    port = int(found[3]) if found[3] is not None else default_port or 0
    if not lowest <= port <= 65535:
        raise ValueError(f"the port must be from {lowest} to 65535")
    if found[1] is not None and ":" not in found[1]:
        raise ValueError("only an IPv6 address is written in brackets")
    return found[1] if found[1] is not None else found[2], port


def _listen(text: object) -> HostPort:
    if isinstance(text, HostPort):
        return text
    host, port = _split_port(text, None, lowest=0)  # 0: any free port, for tests
    return HostPort(host=_address(host), port=port)


def _nameserver(text: object) -> HostPort:
    if isinstance(text, HostPort):
        return text
    host, port = _split_port(text, 53, lowest=1)
    return HostPort(host=_address(host), port=port)


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        hint = "; write 127.0.0.1 or [::1]" if host.lower() == "localhost" else ""
        raise ValueError(f"{host!r} is not an IP address{hint}") from None


def _next_hop(text: object) -> HostPort | None:
    if text is None or text == "" or isinstance(text, HostPort):
        return text or None  # type: ignore[return-value]
    host, port = _split_port(text, None, lowest=1)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _is_numeric(host) or ":" in host:
            raise ValueError(f"{host!r} is neither a host name nor an IP address") from None
        return HostPort(host=_domain(host), port=port)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"no host can be reached at {address}")
    return HostPort(host=str(address), port=port)


def _domain(text: str) -> str:
    """Lower-case A-labels without the final dot."""
    try:
        return parse_domain(text.removesuffix("."))
    except AddressError:
        raise ValueError(f"{text!r} is not a host name such as mail.example.org") from None


def _is_numeric(name: str) -> bool:
    return (
        name.rstrip(".").rpartition(".")[2].isdigit()
    )  # no top-level domain is a number: it is an address, or half of one


def _host_name(value: str) -> str:
    if value.startswith("[") or _is_numeric(value):
        raise ValueError("must be a host name such as mail.example.org, not an address")
    return _domain(value)


def _own_name(value: str) -> str:
    """A name that every server takes in EHLO. RFC 5321 section 4.1.2: letters, digits and hyphens, no underscore."""
    if not value:
        return value
    if not value.startswith("["):
        value = _host_name(value)
    if "_" in value:
        raise ValueError("must not have an underscore: other servers refuse such a name in EHLO")
    return _domain(value)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a number and a unit (s, m, h, d, w) in quotes, such as "15m" or "5d"')
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > _LONGEST_DAYS * 86400:
        raise ValueError(f"must be at most {_LONGEST_DAYS}d")
    return timedelta(seconds=seconds)


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
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def _size(value: object) -> int:
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is not None:
        value = int(found[1]) * _SIZES[found[2].lower()]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError('must be a number of octets, or a number with k, M or G in quotes, such as "50M"')
    if not _SMALLEST_SIZE <= value <= _LARGEST_SIZE:
        raise ValueError("must be from 1k to 100G")
    return value


def format_size(value: int) -> str | int:
    """How a size is written in the settings: with the largest unit that divides it."""
    for letter, factor in (("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10)):
        if value % factor == 0:
            return f"{value // factor}{letter}"
    return value


def _network(value: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text such as 192.0.2.0/24")
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("must be a network such as 192.0.2.0/24 or 2001:db8::/32") from None
    if network.network_address != ipaddress.ip_interface(value).ip:
        raise ValueError(f"is an address inside a network; the network is {network}")
    return network


def _path(value: object) -> Path | None:
    if value is None or value == "" or isinstance(value, Path):
        return value or None  # type: ignore[return-value]
    if not isinstance(value, str):
        raise ValueError("must be a path")
    if "\0" in value:
        raise ValueError("must not have a NUL in it")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such home folder") from None


_text: Any = PlainSerializer(lambda value: "" if value is None else str(value), return_type=str)
_written: Any = PlainSerializer(format_duration, return_type=str)
Listen = Annotated[HostPort, BeforeValidator(_listen), _text, Written("address:port")]
Nameserver = Annotated[HostPort, BeforeValidator(_nameserver), _text, Written("address[:port]")]
NextHop = Annotated[HostPort | None, BeforeValidator(_next_hop), _text, Written("host:port")]
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive), _written, Written("duration")]
OptionalDuration = Annotated[
    timedelta | None, BeforeValidator(_optional_duration), AfterValidator(_positive), _written, Written("duration")
]
Size = Annotated[int, BeforeValidator(_size), PlainSerializer(format_size), Written("size")]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network), _text, Written("network")]
HostName = Annotated[str, AfterValidator(_host_name), Written("host name")]
OwnName = Annotated[str, AfterValidator(_own_name), Written("host name")]
Port = Annotated[int, Field(ge=1, le=65535, strict=True), Written("port")]
OptionalPath = Annotated[Path | None, BeforeValidator(_path), _text, Written("path")]


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
        default=(HostPort(host="127.0.0.1", port=2525),),
        description="where mail is taken, with STARTTLS when a certificate is set",
    )
    listen_tls: tuple[Listen, ...] = Field(default=(), description="where mail is taken with TLS from the first octet")
    trusted_networks: tuple[Network, ...] = Field(
        default=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        description="clients in these networks may send to anyone without a password",
    )
    tls_certificate: OptionalPath = Field(default=None, description="PEM file with the certificate and its chain")
    tls_key: OptionalPath = Field(default=None, description="PEM file with the certificate's private key")
    users_file: OptionalPath = Field(
        default=None, description="file of users and argon2 hashes, written by `relay user add`"
    )
    max_message_size: Size = Field(default=50 * (1 << 20), description="largest message taken: octets, or with k, M, G")
    max_recipients: int = Field(
        default=1000, ge=100, le=_MOST, strict=True, description="most recipients of one message"
    )
    max_connections: int = Field(
        default=1000, ge=1, le=_MOST, strict=True, description="most clients at once; one more gets 421"
    )
    timeout: Duration = Field(default=timedelta(minutes=5), description="how long a silent client is kept")


class QueueSettings(Section):
    """Where mail rests, and for how long it is remembered."""

    path: OptionalPath = Field(
        default=None,
        description="the one writable folder; empty: $RELAY_STATE, else relay in $XDG_STATE_HOME or ~/.local/state",
    )
    history: Duration = Field(default=timedelta(days=7), description="how long delivered and failed mail is remembered")


class DnsSettings(Section):
    """Whom to ask, and whether to believe its word on DNSSEC."""

    nameservers: tuple[Nameserver, ...] = Field(
        default=(), description="address[:port] of resolvers; empty: the system's"
    )
    trust_ad: TrustAd = Field(
        default=TrustAd.AUTO,
        description="believe the AD bit: auto (loopback resolvers that pass the self-test), yes, no",
    )
    self_test_signed: HostName = Field(default="iana.org", description="a signed name: the resolver must say AD for it")
    self_test_bogus: HostName = Field(
        default="dnssec-failed.org", description="a wrongly signed name: it must be refused"
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10), description="how long one question may take, retries included"
    )


class TlsSettings(Section):
    """Authorities for policy hosts and for MX hosts whose policy asks for them."""

    ca_file: OptionalPath = Field(default=None, description="PEM file of authorities trusted beside the system's")


class DeliverySettings(Section):
    """Mail out."""

    port: Port = Field(default=25, description="port of MX hosts")
    next_hop: NextHop = Field(
        default=None, description="host:port that takes all mail in place of the MX lookup; empty: none"
    )
    allow_private_addresses: bool = Field(
        default=False, strict=True, description="connect to MX and policy hosts on loopback or private networks"
    )
    dane_insecure_mx: bool = Field(
        default=True, strict=True, description="keep to the TLSA records of a signed host that an unsigned MX names"
    )
    concurrency: int = Field(default=200, ge=1, le=_MOST, strict=True, description="most deliveries at once")
    concurrency_per_destination: int = Field(
        default=20, ge=1, le=_MOST, strict=True, description="most deliveries at once to one domain"
    )


class MtaStsSettings(Section):
    """MTA-STS policies."""

    port: Port = Field(default=443, description="port of policy hosts")


class RetrySettings(Section):
    """When to try again, and when to give up."""

    schedule: tuple[Duration, ...] = Field(
        default=tuple(timedelta(minutes=minutes) for minutes in (5, 15, 30, 60, 120, 240)),
        min_length=1,
        description="waits between attempts; the last one repeats",
    )
    expire: Duration = Field(default=timedelta(days=5), description="age at which the sender is told that it failed")
    delay_notice: OptionalDuration = Field(
        default=timedelta(hours=4), description="age at which the sender is told that it is late; empty: never"
    )


class AdminSettings(Section):
    """Health and metrics, for your own machines."""

    listen: tuple[Listen, ...] = Field(
        default=(), description="where health and metrics are answered, over plain HTTP; empty: nowhere"
    )


class Settings(Section):
    """All settings."""

    hostname: OwnName = Field(
        default="", description="our name in EHLO, Received and bounces; empty: the machine's full name"
    )
    submission: SubmissionSettings = SubmissionSettings()
    queue: QueueSettings = QueueSettings()
    dns: DnsSettings = DnsSettings()
    tls: TlsSettings = TlsSettings()
    delivery: DeliverySettings = DeliverySettings()
    mta_sts: MtaStsSettings = MtaStsSettings()
    retry: RetrySettings = RetrySettings()
    admin: AdminSettings = AdminSettings()
