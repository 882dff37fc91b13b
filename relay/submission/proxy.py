"""The header that a proxy sends before the client's first octet: the PROXY protocol, version 1 and 2. Pure.

HAProxy, "The PROXY protocol, versions 1 & 2", sections 2.1 (text), 2.2 (binary). Who may send one is for `arrivals`.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass

from relay.policy.clients import IPAddress
from relay.submission.access import client_address

MAX_OCTETS = 4096  # of a header; version 2 allows 64 KiB of additions, and real ones have some hundred
# What a proxy sends when it speaks for itself, to see whether we are there.
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

_TEXT, _BINARY = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_TEXT = 107  # octets of a line of version 1, its CRLF included
_PORT = r"(?:0|[1-9][0-9]{0,4})"
_LINE = re.compile(rf"PROXY (TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) ({_PORT}) ({_PORT})\Z")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: |\Z)")
_HEAD = 16
_TCP4, _TCP6 = 0x11, 0x21
_NO_ADDRESS = (0x00, 0x31, 0x32)  # unspecified, and sockets of UNIX
_ADDRESSES = {_TCP4: struct.Struct("!4s4s2H"), _TCP6: struct.Struct("!16s16s2H")}


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header. `length`: its octets. `client` None: the proxy speaks for itself, or does not know for whom."""

    length: int
    client: IPAddress | None


@dataclass(frozen=True, slots=True)
class Malformed:
    """These octets begin no header."""

    problem: str


def read_header(octets: bytes) -> Header | Malformed | None:
    """The header at the beginning of `octets`; None when all of them belong to one that has not yet ended."""
    if octets.startswith(_BINARY) or _BINARY.startswith(octets):
        return _read_binary(octets)
    if octets.startswith(_TEXT) or _TEXT.startswith(octets):
        return _read_text(octets)
    return Malformed("no PROXY header")


def _read_text(octets: bytes) -> Header | Malformed | None:
    end = octets.find(b"\r\n", 0, _MAX_TEXT)
    if end < 0:
        too_long = len(octets) >= _MAX_TEXT
        # A line end that is none is told at once: the client's own octets must not be taken for the header's.
        broken = b"\n" in octets or b"\r" in octets[:-1]
        return Malformed("PROXY line without a line end") if too_long or broken else None
    line = octets[:end]
    if _UNKNOWN.match(line):
        return Header(end + 2, None)
    found = _LINE.match(line.decode("ascii", "replace"))
    if found is None or int(found[4]) > 65535 or int(found[5]) > 65535:
        return Malformed("PROXY line with a mistake")
    kind = ipaddress.IPv4Address if found[1] == "TCP4" else ipaddress.IPv6Address
    try:
        client, _ = kind(found[2]), kind(found[3])
    except ValueError:
        return Malformed("PROXY line with a mistake")
    return Header(end + 2, client_address(str(client)))


def _read_binary(octets: bytes) -> Header | Malformed | None:
    if len(octets) < _HEAD:
        return None
    command, family, length = struct.unpack_from("!BBH", octets, len(_BINARY))
    size = _HEAD + length
    if command >> 4 != 2 or command & 15 > 1:
        return Malformed("PROXY header of an unknown version or command")
    if size > MAX_OCTETS:
        return Malformed("PROXY header too long")
    is_local = command & 15 == 0
    layout = None if is_local else _ADDRESSES.get(family)
    if layout is None and not is_local and family not in _NO_ADDRESS:
        return Malformed("PROXY header of an unknown kind of address")
    if layout is not None and length < layout.size:
        return Malformed("PROXY header too short for its addresses")
    if len(octets) < size:
        return None
    if layout is None:
        return Header(size, None)
    source: bytes = layout.unpack_from(octets, _HEAD)[0]
    return Header(size, client_address(str(ipaddress.ip_address(source))))
