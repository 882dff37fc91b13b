"""The PROXY protocol: what is a header, what is none, and that nothing after one is taken for it."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.proxy import LOCAL, MAX_OCTETS, Header, Malformed, read_header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
MAPPED = "::ffff:192.0.2.1"


def binary(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


def addresses(source: str, target: str = "") -> bytes:
    return ip_address(source).packed + ip_address(target or source).packed + struct.pack("!2H", 4711, 25)


# Each is a whole header; the client, or None where the proxy does not name one.
GOOD: dict[str, tuple[bytes, str | None]] = {
    "1, IPv4": (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 25\r\n", "192.0.2.1"),
    "1, IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", "2001:db8::1"),
    "1, IPv6 in full": (
        b"PROXY TCP6 "
        + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff%d" % n for n in (1, 2)])
        + b" 65535 65535\r\n",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff1",
    ),
    "1, mapped": (f"PROXY TCP6 {MAPPED} {MAPPED} 1 2\r\n".encode(), "192.0.2.1"),
    "1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "1, unknown with more": (b"PROXY UNKNOWN ffff::1 anything at all\r\n", None),
    "1, as long as may be": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
    "2, IPv4": (binary(0x21, 0x11, addresses("192.0.2.1")), "192.0.2.1"),
    "2, IPv6": (binary(0x21, 0x21, addresses("2001:db8::1")), "2001:db8::1"),
    "2, mapped": (binary(0x21, 0x21, addresses(MAPPED)), "192.0.2.1"),
    "2, with additions": (binary(0x21, 0x11, addresses("192.0.2.1") + b"\x03\x00\x04\r\n\r\n"), "192.0.2.1"),
    "2, as long as may be": (
        binary(0x21, 0x11, addresses("192.0.2.1") + bytes(MAX_OCTETS - 28)),
        "192.0.2.1",
    ),
    "2, unspecified": (binary(0x21, 0x00, b""), None),
    "2, UNIX": (binary(0x21, 0x31, b"/run/x".ljust(216, b"\0")), None),
    "2, local": (LOCAL, None),
    "2, local with an address": (binary(0x20, 0x11, addresses("127.0.0.1")), None),
    "2, local of no known family": (binary(0x20, 0xFF, b"abc"), None),
}
BAD = {
    "SMTP": b"EHLO client.example\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "lower case": b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "other protocol": b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "other family": b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    "no IPv6": b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
    "leading zero": b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    "three parts": b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
    "no target": b"PROXY TCP4 192.0.2.1 1 2\r\n",
    "bad target": b"PROXY TCP4 192.0.2.1 192.0.2.999 1 2\r\n",
    "port too high": b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
    "port with zero": b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    "port with sign": b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
    "more": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    "nothing": b"PROXY \r\n",
    "unknown, run on": b"PROXY UNKNOWNX\r\n",
    "digits of another script": "PROXY TCP4 192.0.2.1 192.0.2.2 ١ 2\r\n".encode(),
    "bare LF": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
    "bare CR": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rE",
    "too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "without end": b"PROXY UNKNOWN " + b"x" * 93,
    "version 1 in binary": binary(0x11, 0x11, addresses("192.0.2.1")),
    "version 3": binary(0x31, 0x11, addresses("192.0.2.1")),
    "command 2": binary(0x22, 0x11, addresses("192.0.2.1")),
    "UDP": binary(0x21, 0x12, addresses("192.0.2.1")),
    "family 4": binary(0x21, 0x41, addresses("192.0.2.1")),
    "IPv4 too short": binary(0x21, 0x11, addresses("192.0.2.1")[:11]),
    "IPv6 too short": binary(0x21, 0x21, addresses("2001:db8::1")[:35]),
    "huge": binary(0x21, 0x11, addresses("192.0.2.1"), length=MAX_OCTETS - 15),
    "signature broken": SIGNATURE[:11] + b"\r\x21\x11\x00\x0c",
}


@pytest.mark.parametrize(("octets", "client"), GOOD.values(), ids=GOOD)
def test_headers(octets: bytes, client: str | None) -> None:
    expected = Header(len(octets), None if client is None else ip_address(client))
    for after in (b"", b"EHLO x\r\n", b"\x16\x03\x01", octets):
        assert read_header(octets + after) == expected
    for length in range(len(octets)):  # what has come so far belongs to a header that has not ended
        assert read_header(octets[:length]) is None


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_no_headers(octets: bytes) -> None:
    assert isinstance(read_header(octets), Malformed)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])
)
def test_whatever_comes(rest: bytes, beginning: bytes) -> None:
    """It ends, raises nothing, and a header is the same however much follows, and waits for all of it."""
    octets = beginning + rest
    found = read_header(octets)
    if isinstance(found, Header):
        assert 0 < found.length <= len(octets)
        assert read_header(octets[: found.length]) == found
        assert read_header(octets[: found.length - 1]) is None
    elif found is None:
        assert len(octets) < MAX_OCTETS


@given(st.sampled_from(sorted(GOOD)), st.binary(max_size=40), st.data())
def test_pieces(name: str, after: bytes, data: st.DataObject) -> None:
    """However it is cut, the same header comes out, and at no moment is more asked for than there is of it."""
    octets, client = GOOD[name]
    wire, have = octets + after, 0
    while True:
        seen = data.draw(st.integers(have + 1, max(have + 1, len(wire))))
        found = read_header(wire[:seen])
        if found is not None:
            break
        have = seen
        assert have < len(octets)
    assert found == Header(len(octets), None if client is None else ip_address(client))
