"""The kinds of value that a setting can have: how each is written, what it becomes, and what is said of a wrong one.

Values only; nothing here reads a file or asks whether one exists.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from relay.mail.address import Address, AddressError, parse_address, parse_domain
from relay.mail.duration import SECONDS, format_duration

_DURATION = re.compile(r"([0-9]{1,12}) *([smhdw])\Z")
_LONGEST_DAYS = 3660  # ten years; a time of the far future cannot be added to a date
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,12}) *([kmg]?)b?\Z", re.IGNORECASE)
_SMALLEST_SIZE, _LARGEST_SIZE = 1 << 10, 100 << 30
_HOST_AND_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]+))(?::([0-9]{1,10}))?\Z")
_ROUTE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_SYSTEMD = "systemd:"
_HINTS = {"localhost": "; write 127.0.0.1 or [::1]", "*": "; all addresses are 0.0.0.0 and [::]"}
_SOCKET_NAME = re.compile(r"[!-9;-~]{1,255}\Z")  # systemd.socket(5): printable ASCII without colon
PEM_BEGIN = "-----BEGIN "
COUNT_LIMIT = 1_000_000  # an upper limit for counts: whoever writes more has mistyped


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


@dataclass(frozen=True, slots=True)
class Inherited:
    """Sockets that systemd has opened for us, by their name (`FileDescriptorName=`)."""

    name: str

    def __str__(self) -> str:
        return f"{_SYSTEMD}{self.name}"


def _split_port(text: object, default_port: int | None, lowest: int) -> tuple[str, int]:
    """Host and port. An address of IPv6 needs no brackets where the port may be left out."""
    if not isinstance(text, str):
        raise ValueError("must be text such as 127.0.0.1:2525")
    if default_port is not None and text.count(":") > 1 and not text.startswith("["):
        return text, default_port
    found = _HOST_AND_PORT.match(text)
    if found is None or (found[3] is None and default_port is None):
        raise ValueError("must be host:port, such as 192.0.2.1:25 or [2001:db8::1]:25")
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


def _listener_address(text: object) -> HostPort | Inherited:
    """An address, or `systemd:NAME`."""
    if isinstance(text, Inherited):
        return text
    if isinstance(text, str) and text.startswith(_SYSTEMD):
        name = text.removeprefix(_SYSTEMD)
        if _SOCKET_NAME.match(name) is None:
            raise ValueError("must be systemd: and the FileDescriptorName= of a socket unit")
        return Inherited(name)
    return _listen(text)


def _nameserver(text: object) -> HostPort:
    if isinstance(text, HostPort):
        return text
    host, port = _split_port(text, 53, lowest=1)
    return HostPort(host=_address(host), port=port)


def _address(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        hint = _HINTS.get(host.lower(), "")
        raise ValueError(f"{host!r} is not an IP address{hint}") from None


def _ipv4(text: str) -> str:
    """An address that this machine may have; empty: none."""
    return _own_address(text, ipaddress.IPv4Address, "an IPv4 address such as 192.0.2.10") if text else ""


def _ipv6(text: str) -> str:
    """As `_ipv4`."""
    return _own_address(text, ipaddress.IPv6Address, "an IPv6 address such as 2001:db8::10") if text else ""


def _public_address(text: str) -> str:
    """An address that others may see us with, of either family."""
    return _ipv6(text) if ":" in text else _own_address(text, ipaddress.IPv4Address, "an address such as 192.0.2.10")


def _own_address(text: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], what: str) -> str:
    try:
        address = kind(text.strip("[]"))
    except ValueError:
        raise ValueError(f"must be {what}") from None
    mapped = isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id)
    if mapped or address.is_unspecified or address.is_multicast:
        raise ValueError(f"nothing can be sent from {address}")
    return str(address)


def _next_hop(text: object) -> HostPort | None:
    if text is None or text == "" or isinstance(text, HostPort):
        return text or None  # type: ignore[return-value]
    return _place(text, None)


def _route_host(text: object) -> HostPort:
    return text if isinstance(text, HostPort) else _place(text, 25)


def _fallback(text: object) -> HostPort | str | None:
    """A place, or the name of a route."""
    is_name = isinstance(text, str) and text and ":" not in text
    return route_name(text) if is_name else _next_hop(text)


def route_name(value: object) -> str:
    """The name of a route. Raises ValueError for what cannot be one."""
    if not isinstance(value, str) or _ROUTE_NAME.match(value) is None:
        raise ValueError("must be a name of lower-case letters, digits and hyphens, such as smart-host")
    return value


def _place(text: object, default_port: int | None) -> HostPort:
    """A host that mail can go to."""
    host, port = _split_port(text, default_port, lowest=1)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if _is_numeric(host) or ":" in host:
            raise ValueError(f"{host!r} is neither a host name nor an IP address") from None
        return HostPort(host=_domain(host), port=port)
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"no host can be reached at {address}")
    return HostPort(host=str(address), port=port)


def dns_name(text: str) -> str:
    """Lower-case A-labels of any name, or part of one, without the final dot. Raises ValueError for anything else."""
    try:
        name = parse_domain(text.removesuffix("."))
    except AddressError:
        name = "["
    if name.startswith("["):
        raise ValueError(f"{text!r} is not a name as DNS has them")
    return name


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


@lru_cache(maxsize=1024)  # it is asked for each message
def is_address(host: str) -> bool:
    """Whether a host is named by its IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def host_name(value: str) -> str:
    """Lower-case A-labels of a host name. Raises ValueError for anything else, addresses included."""
    name = value if value.startswith("[") else _domain(value)  # first: letters that are left out may hide an address
    if name.startswith("[") or _is_numeric(name):
        raise ValueError("must be a host name such as mail.example.org, not an address")
    return name


def _own_name(value: str) -> str:
    """A name that every server takes in EHLO. RFC 5321 section 4.1.2: letters, digits and hyphens, no underscore."""
    if not value:
        return value
    if not value.startswith("["):
        value = host_name(value)
    if "_" in value:
        raise ValueError("must not have an underscore: other servers refuse such a name in EHLO")
    return _domain(value)


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('must be a number and a unit (s, m, h, d, w) in quotes, such as "15m" or "5d"')
    seconds = int(found[1]) * SECONDS[found[2]]
    if seconds > _LONGEST_DAYS * 86400:
        raise ValueError(f"must be at most {_LONGEST_DAYS}d")
    return timedelta(seconds=seconds)


def parse_duration(text: str) -> timedelta:
    """A duration as it is written in the settings. Raises ValueError unless it is one, and longer than zero."""
    return _positive(_duration(text)) or timedelta(0)


def _optional_duration(value: object) -> timedelta | None:
    return None if value in ("", None) else _duration(value)


def _positive(value: timedelta | None) -> timedelta | None:
    if value is not None and value <= timedelta(0):
        raise ValueError("must be longer than zero")
    return value


def _size(value: object) -> int:
    found = _SIZE.match(value) if isinstance(value, str) else None
    if found is not None:
        value = int(found[1]) * _SIZES[found[2].lower()]
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError('must be a number of octets, or a number with k, M or G in quotes, such as "50M"')
    if not _SMALLEST_SIZE <= value <= _LARGEST_SIZE:
        raise ValueError("must be from 1k to 100G")
    return value


def _optional_size(value: object) -> int | None:
    return None if value in ("", None) else _size(value)


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


def _mailbox(value: object) -> Address | None:
    if value is None or value == "" or isinstance(value, Address):
        return value or None  # type: ignore[return-value]
    if not isinstance(value, str):
        raise ValueError("must be text such as postmaster@example.org")
    try:
        address = parse_address(value.encode("utf-8", "surrogatepass"))
    except AddressError as error:
        raise ValueError(f"must be an address such as postmaster@example.org: {error}") from None
    if not address.domain:
        raise ValueError("must be an address with a domain, such as postmaster@example.org")
    return address


def _count(value: object) -> int | None:
    if value is None or value == "":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= COUNT_LIMIT:
        raise ValueError(f"must be a whole number from 1 to {COUNT_LIMIT}")
    return value


def _path(value: object) -> Path | None:
    if value is None or value == "" or isinstance(value, Path):
        return value or None  # type: ignore[return-value]
    if not isinstance(value, str):
        raise ValueError("must be a path")
    if "\0" in value:
        raise ValueError("must not have a NUL in it")
    if PEM_BEGIN in value:
        raise ValueError("must name a file: a key itself does not belong into the settings")
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise ValueError("there is no such home folder") from None


def _given_path(value: object) -> Path:
    path = _path(value)
    if path is None:
        raise ValueError("must be a path")
    return path


_text: Any = PlainSerializer(lambda value: "" if value is None else str(value), return_type=str)
_written: Any = PlainSerializer(format_duration, return_type=str)
Listen = Annotated[HostPort, BeforeValidator(_listen), _text, Written("address:port")]
ListenerAddress = Annotated[
    HostPort | Inherited, BeforeValidator(_listener_address), _text, Written("address:port or systemd:NAME")
]
Nameserver = Annotated[HostPort, BeforeValidator(_nameserver), _text, Written("address[:port]")]
RouteHost = Annotated[HostPort, BeforeValidator(_route_host), _text, Written("host[:port]")]
NextHop = Annotated[HostPort | None, BeforeValidator(_next_hop), _text, Written("host:port")]
Fallback = Annotated[HostPort | str | None, BeforeValidator(_fallback), _text, Written("host:port or a route")]
Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive), _written, Written("duration")]
OptionalDuration = Annotated[
    timedelta | None, BeforeValidator(_optional_duration), AfterValidator(_positive), _written, Written("duration")
]
Size = Annotated[int, BeforeValidator(_size), PlainSerializer(format_size), Written("size")]
OptionalSize = Annotated[
    int | None,
    BeforeValidator(_optional_size),
    PlainSerializer(lambda value: "" if value is None else format_size(value)),
    Written("size, or empty"),
]
OptionalCount = Annotated[
    int | None,
    BeforeValidator(_count),
    PlainSerializer(lambda value: "" if value is None else value),
    Written(f"whole number, 1 to {COUNT_LIMIT}, or empty"),
]
Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network), _text, Written("network")]
HostName = Annotated[str, AfterValidator(host_name), Written("host name")]
OwnName = Annotated[str, AfterValidator(_own_name), Written("host name")]
Ipv4 = Annotated[str, AfterValidator(_ipv4), Written("IPv4 address")]
Ipv6 = Annotated[str, AfterValidator(_ipv6), Written("IPv6 address")]
PublicAddress = Annotated[str, AfterValidator(_public_address), Written("IP address")]
Port = Annotated[int, Field(ge=1, le=65535, strict=True), Written("port")]
OptionalMailbox = Annotated[Address | None, BeforeValidator(_mailbox), _text, Written("address")]
GivenPath = Annotated[Path, BeforeValidator(_given_path), _text, Written("path")]
OptionalPath = Annotated[Path | None, BeforeValidator(_path), _text, Written("path")]


class Section(BaseModel):
    """One table of the settings file: frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
