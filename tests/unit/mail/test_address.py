"""Envelope addresses: what RFC 5321 and RFC 6531 allow is kept to the octet, everything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import AddressError, parse_address, parse_domain

GOOD = [
    # octets, local part, domain to look up, octets on the wire
    (b"a@b.test", "a", "b.test", b"a@b.test"),
    (b"A.B+c@B.Test", "A.B+c", "b.test", b"A.B+c@B.Test"),
    (b'"a b"@c.test', '"a b"', "c.test", b'"a b"@c.test'),
    (b'"a\\"b"@c.test', '"a\\"b"', "c.test", b'"a\\"b"@c.test'),
    (b'"a@b"@c.test', '"a@b"', "c.test", b'"a@b"@c.test'),  # the last @ counts
    (b'"x"@c.test', '"x"', "c.test", b'"x"@c.test'),  # the quotes stay
    (b"a%b.test@c.test", "a%b.test", "c.test", b"a%b.test@c.test"),  # a percent sign routes nothing
    (b"a!b@c.test", "a!b", "c.test", b"a!b@c.test"),
    (b"=?utf-8?q?x?=@b.test", "=?utf-8?q?x?=", "b.test", b"=?utf-8?q?x?=@b.test"),  # not an encoded word here
    (b"a@b_c.test", "a", "b_c.test", b"a@b_c.test"),
    (b"a@localhost", "a", "localhost", b"a@localhost"),
    (b"a@[192.0.2.1]", "a", "[192.0.2.1]", b"a@[192.0.2.1]"),
    (b"a@[IPv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]", b"a@[IPv6:2001:DB8::1]"),
    ("jörg@b.test".encode(), "jörg", "b.test", "jörg@b.test".encode()),
    ("a@bücher.test".encode(), "a", "xn--bcher-kva.test", b"a@xn--bcher-kva.test"),
    ("ü@bücher.test".encode(), "ü", "xn--bcher-kva.test", "ü@bücher.test".encode()),
    (b"postmaster", "postmaster", "", b"postmaster"),
    (b"a" * 64 + b"@b.test", "a" * 64, "b.test", b"a" * 64 + b"@b.test"),
]

BAD = [
    (b"", "empty"),
    (b"a", "no domain"),
    (b"@b.test", "no local part"),
    (b"a@", "no domain"),
    (b"a b@c.test", "space outside quotes"),
    (b"a(c)@b.test", "comment"),
    (b"Name <a@b.test>", "display name"),
    (b"<a@b.test>", "brackets"),
    (b"@x.test:a@b.test", "source route"),
    (b"a@b.test,c@d.test", "two addresses"),
    (b"a@b@c.test", "two unquoted @"),
    (b".a@b.test", "dot at the start"),
    (b"a.@b.test", "dot at the end"),
    (b"a..b@c.test", "two dots"),
    (b'"a"b@c.test', "text after the quotes"),
    (b'"a@c.test', "quote not closed"),
    (b'"a\\"@c.test', "closing quote is escaped"),
    (b"a\x00@b.test", "NUL"),
    (b"a\r\n@b.test", "line break"),
    (b"a@b.test\n", "line break at the end"),
    (b'"a\r\nb"@c.test', "line break in quotes"),
    (b"a@b..test", "empty label"),
    (b"a@b.test.", "final dot"),
    (b"a@-b.test", "label begins with a hyphen"),
    (b"a@b c.test", "space in domain"),
    (b"a@" + b"b" * 64 + b".test", "label over 63"),
    (b"a@" + b"b." * 127 + b"test", "domain over 255"),
    (b"a" * 65 + b"@b.test", "local part over 64"),
    (b"a@[192.0.2.1", "literal not closed"),
    (b"a@[192.0.2.999]", "no such address"),
    (b"a@[2001:db8::1]", "IPv6 without its tag"),
    (b"a@[IPv6:fe80::1%eth0]", "zone id"),
    (b"a@[x]", "unknown literal"),
    (b"\xff@b.test", "not UTF-8"),
    ("a@b\u200b\u2028.test".encode(), "characters that IDNA forbids"),
]


@pytest.mark.parametrize(("octets", "local", "domain", "wire"), GOOD)
def test_good(octets: bytes, local: str, domain: str, wire: bytes) -> None:
    address = parse_address(octets)
    assert (address.local, address.domain, address.wire) == (local, domain, wire)
    assert address.text.encode() == octets


@pytest.mark.parametrize(("octets", "why"), BAD)
def test_bad(octets: bytes, why: str) -> None:
    with pytest.raises(AddressError):
        parse_address(octets)


@given(st.binary(max_size=80))
def test_any_octets_give_an_address_or_our_error(octets: bytes) -> None:
    try:
        address = parse_address(octets)
    except AddressError:
        return
    assert address.text.encode() == octets
    assert not set(address.wire) & set(b"\r\n\x00")
    assert parse_domain(address.domain) == address.domain if address.domain else address.local.lower() == "postmaster"


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_gives_an_address_or_our_error(local: str, domain: str) -> None:
    try:
        address = parse_address(f"{local}@{domain}".encode("utf-8", "surrogatepass"))
    except AddressError:
        return
    assert address.domain.isascii()
    assert address.domain == address.domain.lower() or address.domain.startswith("[IPv6:")


def test_literals_give_their_address() -> None:
    assert str(parse_address(b"a@[192.0.2.1]").literal) == "192.0.2.1"
    assert str(parse_address(b"a@[ipv6:::1]").literal) == "::1"
    assert parse_address(b"a@b.test").literal is None
