"""Our resolver against a real validating Unbound in front of zones that a real Knot signs.

The lab's DNS server only plays a validator; here AD, bogus answers and proofs of absence are the real thing, with
extended errors and without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from real_dns import EE, SELF_TEST, Ds, Servers, Signing, Zone, needed, serve, validating

from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import Answer, LookupFailed, Missing, NotFound, Resolver
from relay.lookup.tlsa import find_tlsa
from relay.policy.mx import DestinationLookupFailed, MailHosts, MxHost
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, TlsaResult, UnusableTlsa, UsableTlsa

pytestmark = needed

TLSA = TlsaRecord(3, 1, 1, b"\xab" * 32)
MANY = 60  # TLSA records at one name: some kilobytes, which do not go into a packet
MANY_RECORDS = "\n".join(f"_25._tcp.many TLSA 3 1 2 {number:0128x}" for number in range(MANY))
ZONES = {
    "signed.test": Zone(f"""
@ A 192.0.2.1
@ MX 10 mx
mx A 192.0.2.1
mx AAAA 2001:db8::1
_25._tcp.mx TLSA {EE}
_25._tcp.mx TYPE52 \\# 5 0301010203
inside CNAME mx
out CNAME mx.unsigned.test.
_25._tcp.out TLSA {EE}
gone CNAME nothing.signed.test.
empty CNAME text
bad CNAME mx.wrong.test.
text TXT "one" "two"
big TXT {" ".join(f'"{number:0200d}"' for number in range(30))}
*.wild A 192.0.2.3
_25._tcp.badtlsa CNAME _25._tcp.mx.wrong.test.
badtlsa A 192.0.2.4
null MX 0 .
many A 192.0.2.12
{MANY_RECORDS}
odd A 192.0.2.13
_25._tcp.odd TYPE52 \\# 2 0301
_25._tcp.odd TLSA 3 1 9 abcd
_25._tcp.odd TLSA 1 1 1 {"ab" * 32}
_25._tcp.odd TLSA 3 2 1 {"ab" * 32}
_25._tcp.odd TLSA 3 1 1 abcd
_25._tcp.odd TLSA 3 1 0 abcd
"""),
    "unsigned.test": Zone(
        f"@ MX 10 mx.signed.test.\nmx A 192.0.2.9\n_25._tcp.mx TLSA {EE}\nback CNAME mx.signed.test.\n",
        Signing.NO,
        Ds.NONE,
    ),
    "stripped.test": Zone("@ A 192.0.2.11\n@ MX 10 mx\nmx A 192.0.2.11\n", Signing.NO),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with serve(tmp_path_factory.mktemp("dns"), ZONES, ("ede", "plain", "careless")) as built:
        yield built


@pytest.mark.asyncio
@validating
async def test_self_test_trusts_a_validating_resolver(servers: Servers, flavour: str) -> None:
    found, sentence = await servers.resolver(flavour).assess(SELF_TEST)
    assert found, sentence


@pytest.mark.asyncio
async def test_self_test_does_not_trust_others(servers: Servers) -> None:
    found, sentence = await servers.resolver("careless").assess(SELF_TEST)
    assert not found
    assert "does not vouch for the signed name signed.test" in sentence
    found, sentence = await Resolver([servers.knot.address], timedelta(seconds=5)).assess(SELF_TEST)
    assert not found


FOUND: list[tuple[str, str, bool, str]] = [
    ("a", "mx.signed.test", True, "mx.signed.test"),
    ("aaaa", "mx.signed.test", True, "mx.signed.test"),
    ("mx", "signed.test", True, "signed.test"),
    ("txt", "text.signed.test", True, "text.signed.test"),
    ("txt", "big.signed.test", True, "big.signed.test"),
    ("tlsa", "_25._tcp.mx.signed.test", True, "_25._tcp.mx.signed.test"),
    ("a", "inside.signed.test", True, "mx.signed.test"),
    ("a", "x.y.wild.signed.test", True, "x.y.wild.signed.test"),
    ("a", "mx.unsigned.test", False, "mx.unsigned.test"),
    ("mx", "unsigned.test", False, "unsigned.test"),
    ("a", "out.signed.test", False, "mx.unsigned.test"),
    ("cname", "out.signed.test", True, "out.signed.test"),
    ("a", "back.unsigned.test", False, "mx.signed.test"),
]


@pytest.mark.asyncio
@validating
async def test_answers(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for rdtype, name, secure, canonical in FOUND:
        found = await getattr(resolver, rdtype)(name)
        assert isinstance(found, Answer), (rdtype, name, found)
        assert (found.secure, found.canonical) == (secure, canonical), (rdtype, name)


ABSENT = [
    ("a", "nothing.signed.test", Missing.NXDOMAIN, True, "nothing.signed.test"),
    ("a", "text.signed.test", Missing.NODATA, True, "text.signed.test"),
    ("a", "wild.signed.test", Missing.NODATA, True, "wild.signed.test"),  # an empty non-terminal
    ("mx", "x.wild.signed.test", Missing.NODATA, True, "x.wild.signed.test"),  # a wildcard without such records
    ("a", "gone.signed.test", Missing.NXDOMAIN, True, "nothing.signed.test"),
    ("a", "empty.signed.test", Missing.NODATA, True, "text.signed.test"),
    ("tlsa", "_25._tcp.text.signed.test", Missing.NXDOMAIN, True, "_25._tcp.text.signed.test"),
    ("a", "nothing.test", Missing.NXDOMAIN, True, "nothing.test"),
    ("a", "nothing.unsigned.test", Missing.NXDOMAIN, False, "nothing.unsigned.test"),
    ("aaaa", "mx.unsigned.test", Missing.NODATA, False, "mx.unsigned.test"),
]


@pytest.mark.asyncio
@validating
async def test_proofs_of_absence(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for rdtype, name, kind, secure, canonical in ABSENT:
        found = await getattr(resolver, rdtype)(name)
        assert isinstance(found, NotFound), (rdtype, name, found)
        assert (found.kind, found.secure, found.canonical) == (kind, secure, canonical), (rdtype, name)


@pytest.mark.asyncio
@validating
@pytest.mark.parametrize("name", ["mx.wrong.test", "mx.stripped.test", "bad.signed.test", "nothing.wrong.test"])
async def test_bogus(servers: Servers, flavour: str, name: str) -> None:
    resolver = servers.resolver(flavour)
    for look in (resolver.a, resolver.txt):
        found = await look(name)
        assert isinstance(found, LookupFailed)
        assert found.bogus, found.reason


@pytest.mark.asyncio
@validating
async def test_a_zone_that_nobody_serves_is_a_failure_but_not_bogus(servers: Servers, flavour: str) -> None:
    found = await servers.resolver(flavour).a("example.invalid-zone")
    assert isinstance(found, LookupFailed)
    assert not found.bogus


@pytest.mark.asyncio
async def test_without_validation_nothing_is_secure_or_bogus(servers: Servers) -> None:
    resolver = servers.resolver("careless")
    for name in ("mx.signed.test", "mx.wrong.test", "mx.stripped.test"):
        found = await resolver.a(name)
        assert isinstance(found, Answer)
        assert not found.secure


@pytest.mark.asyncio
async def test_broken_tlsa_records_come_through(servers: Servers) -> None:
    found = await servers.resolver("ede").tlsa("_25._tcp.mx.signed.test")
    assert isinstance(found, Answer)
    assert set(found.records) == {TLSA, TlsaRecord(3, 1, 1, b"\x02\x03")}


@pytest.mark.asyncio
@validating
async def test_tlsa_records_of_odd_shapes(servers: Servers, flavour: str) -> None:
    """All come through, none is usable: that is not the same as none at all."""
    resolver = await servers.trusting(flavour)
    host = await find_addresses(resolver, MxHost("odd.signed.test"))
    assert isinstance(host, MxHost)
    found = await find_tlsa(resolver, host, 25)
    assert isinstance(found, UnusableTlsa) and found.base == "odd.signed.test"
    assert {str(record) for record in found.records} == {
        "3 1 255 ", "3 1 9 abcd", f"1 1 1 {'ab' * 32}", f"3 2 1 {'ab' * 32}", "3 1 1 abcd", "3 1 0 abcd"
    }  # fmt: skip


@pytest.mark.asyncio
@validating
async def test_more_tlsa_records_than_a_packet_holds(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    host = await find_addresses(resolver, MxHost("many.signed.test"))
    assert isinstance(host, MxHost)
    found = await find_tlsa(resolver, host, 25)
    assert isinstance(found, UsableTlsa)
    assert {int.from_bytes(record.data) for record in found.records} == set(range(MANY))


HOSTS: list[tuple[str, TlsaResult]] = [
    ("mx.signed.test", UsableTlsa("mx.signed.test", ("mx.signed.test",), (TLSA,))),
    ("inside.signed.test", UsableTlsa("mx.signed.test", ("mx.signed.test", "inside.signed.test"), (TLSA,))),
    ("out.signed.test", UsableTlsa("out.signed.test", ("out.signed.test",), (TLSA,))),
    ("x.wild.signed.test", NoTlsa("there are no signed TLSA records at _25._tcp.x.wild.signed.test")),
    ("mx.unsigned.test", NoTlsa("the addresses of mx.unsigned.test are not signed (DNSSEC)")),
    ("back.unsigned.test", NoTlsa("the addresses of back.unsigned.test are not signed (DNSSEC)")),
    (
        "badtlsa.signed.test",
        TlsaLookupFailed("the DNS answer for _25._tcp.badtlsa.signed.test (TLSA) failed DNSSEC validation", bogus=True),
    ),
]


@pytest.mark.asyncio
@validating
async def test_dane(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for name, expected in HOSTS:
        host = await find_addresses(resolver, MxHost(name))
        assert isinstance(host, MxHost), host
        assert await find_tlsa(resolver, host, 25) == expected


@pytest.mark.asyncio
@validating
async def test_destinations(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    domains = ("signed.test", "unsigned.test", "wrong.test", "stripped.test")
    signed, unsigned, wrong, stripped = await asyncio.gather(*(find_destination(resolver, name) for name in domains))
    assert signed == MailHosts("signed.test", (MxHost("mx.signed.test", 10, mx_secure=True),))
    assert unsigned == MailHosts("unsigned.test", (MxHost("mx.signed.test", 10, mx_secure=False),))
    for found in (wrong, stripped):
        assert isinstance(found, DestinationLookupFailed)
        assert found.bogus
