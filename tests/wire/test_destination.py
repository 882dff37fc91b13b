"""Domains to hosts and hosts to addresses, against the lab's DNS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from relay.lab.zones import Fault, Question, Security, Zone, Zones
from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import LookupFailed, Missing, NotFound, Resolver
from relay.policy.mx import DestinationLookupFailed, MailHosts, MxHost, NoSuchDomain, NullMx
from relay.settings import DnsSettings, TrustAd

SIGNED = """
@        MX    10 mx1
@        MX    10 MX2.Signed.TEST.
@        MX    5  best.unsigned.test.
mx1      A     192.0.2.1
mx1      AAAA  2001:db8::1
mx2      A     192.0.2.2
v6       AAAA  2001:db8::6
many     A     192.0.2.11
many     A     192.0.2.12
many     A     192.0.2.13
many     A     192.0.2.14
many     A     192.0.2.15
many     A     192.0.2.16
text     TXT   "no address"
inside   CNAME mx1
outside  CNAME mx.unsigned.test.
chain    CNAME outside
bad      CNAME mx.bogus.test.
nowhere  CNAME nothing.unsigned.test.
null     MX    0 .
null10   MX    10 .
rootamong MX   0 .
rootamong MX   10 mx1
tworoots MX    0 .
tworoots MX    10 .
implicit A     192.0.2.7
implicit6 AAAA 2001:db8::7
alias    CNAME @
aliasdom CNAME implicit
dangling CNAME nothing
ip       MX    10 192.0.2.1.
literal  MX    10 [192.0.2.1].
odd      MX    10 a\\.b.signed.test.
odd      MX    20 spa\\032ce.signed.test.
odd      MX    30 h\\195\\188t.signed.test.
odd      MX    40 -x.signed.test.
odd      MX    50 127.0.0.1.
mixed    MX    10 192.0.2.1.
mixed    MX    20 under_score.signed.test.
twice    MX    30 mx1
twice    MX    10 mx1
twice    MX    20 MX1
"""


@asynccontextmanager
async def lab(trust: TrustAd = TrustAd.YES) -> AsyncIterator[tuple[Zones, Resolver]]:
    crowd = "\n".join(f"@ MX {number} mx{number}" for number in range(100, 40, -1))
    zones = Zones(
        {
            "signed.test": Zone(SIGNED),
            "unsigned.test": Zone(
                "@ MX 10 mx\nmx A 192.0.2.9\nback CNAME mx1.signed.test.\nimplicit A 192.0.2.8", Security.UNSIGNED
            ),
            "bogus.test": Zone("@ MX 10 mx\nmx A 192.0.2.10", Security.BOGUS),
            "crowd.test": Zone(crowd),
        }
    )
    resolver = Resolver([await zones.start()], timedelta(seconds=1))
    await resolver.assess(DnsSettings(trust_ad=trust))
    try:
        yield zones, resolver
    finally:
        await resolver.close()
        await zones.stop()


def hosts(domain: str, *given: tuple[str, int], secure: bool = True) -> MailHosts:
    return MailHosts(domain, tuple(MxHost(name, preference, secure) for name, preference in given))


def no_host(domain: str, names: str) -> NoSuchDomain:
    return NoSuchDomain(domain, f"the MX records of {domain} name no possible host: {names}")


def no_mail(domain: str) -> NoSuchDomain:
    return NoSuchDomain(domain, f"the domain {domain} has neither a mail host (MX) nor an address")


DESTINATIONS = [
    hosts("unsigned.test", ("mx.unsigned.test", 10), secure=False),
    hosts("rootamong.signed.test", ("mx1.signed.test", 10)),
    hosts("mixed.signed.test", ("under_score.signed.test", 20)),
    hosts("twice.signed.test", ("mx1.signed.test", 10)),
    hosts("implicit.signed.test", ("implicit.signed.test", 0)),
    hosts("implicit6.signed.test", ("implicit6.signed.test", 0)),
    hosts("implicit.unsigned.test", ("implicit.unsigned.test", 0), secure=False),
    hosts("aliasdom.signed.test", ("aliasdom.signed.test", 0)),
    NullMx("null.signed.test"),
    NullMx("null10.signed.test"),  # the root is no host, whatever the preference
    no_host("tworoots.signed.test", "., ."),
    no_host("ip.signed.test", "192.0.2.1"),
    no_host("literal.signed.test", "[192.0.2.1]"),
    no_mail("text.signed.test"),
    NoSuchDomain("nothing.signed.test", "the domain nothing.signed.test does not exist"),
    NoSuchDomain("nothing.unsigned.test", "the domain nothing.unsigned.test does not exist"),
    NoSuchDomain(
        "dangling.signed.test",
        "the domain dangling.signed.test is an alias of nothing.signed.test, which does not exist",
    ),
    DestinationLookupFailed("bogus.test", "the DNS answer for bogus.test (MX) failed DNSSEC validation", bogus=True),
    DestinationLookupFailed(
        "bad.signed.test", "the DNS answer for bad.signed.test (MX) failed DNSSEC validation", bogus=True
    ),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("expected", DESTINATIONS, ids=lambda destination: destination.domain)
async def test_destination(
    expected: MailHosts | NullMx | NoSuchDomain | DestinationLookupFailed,
) -> None:
    async with lab() as (_, resolver):
        assert await find_destination(resolver, expected.domain) == expected


@pytest.mark.asyncio
@pytest.mark.parametrize("domain", ["signed.test", "alias.signed.test"])
async def test_hosts_come_best_first(domain: str) -> None:
    async with lab() as (_, resolver):
        found = await find_destination(resolver, domain)
        assert isinstance(found, MailHosts)
        assert found.hosts[0] == MxHost("best.unsigned.test", 5, mx_secure=True)
        assert {host.name for host in found.hosts[1:]} == {"mx1.signed.test", "mx2.signed.test"}
        assert found.domain == domain


@pytest.mark.asyncio
async def test_odd_names_are_no_hosts() -> None:
    async with lab() as (_, resolver):
        found = await find_destination(resolver, "odd.signed.test")
        assert isinstance(found, NoSuchDomain)
        assert found.reason.startswith("the MX records of odd.signed.test name no possible host: ")
        assert found.reason.isascii()
        assert found.reason.isprintable()


@pytest.mark.asyncio
async def test_at_most_twenty_hosts_and_the_best_ones() -> None:
    async with lab() as (_, resolver):
        found = await find_destination(resolver, "crowd.test")
        assert isinstance(found, MailHosts)
        assert [host.preference for host in found.hosts] == list(range(41, 61))


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.TIMEOUT, Fault.REFUSED])
@pytest.mark.parametrize("rdtype", ["MX", "A", "ANY"])
async def test_a_failure_is_no_absence(fault: Fault, rdtype: str) -> None:
    """No address because DNS fails is not "no address": mail waits."""
    async with lab() as (zones, resolver):
        zones.set_fault("implicit.signed.test", rdtype, fault)
        found = await find_destination(resolver, "implicit.signed.test")
        assert isinstance(found, DestinationLookupFailed)
        assert not found.bogus


@pytest.mark.asyncio
async def test_no_implicit_host_for_a_name_that_does_not_exist() -> None:
    async with lab() as (zones, resolver):
        zones.set_fault("implicit.signed.test", "MX", Fault.NXDOMAIN)
        assert isinstance(await find_destination(resolver, "implicit.signed.test"), NoSuchDomain)


ADDRESSES = [
    # name, addresses, expanded, secure, alias_secure
    ("mx1.signed.test", ("2001:db8::1", "192.0.2.1"), "mx1.signed.test", True, True),
    ("v6.signed.test", ("2001:db8::6",), "v6.signed.test", True, True),
    ("mx.unsigned.test", ("192.0.2.9",), "mx.unsigned.test", False, False),
    ("inside.signed.test", ("2001:db8::1", "192.0.2.1"), "mx1.signed.test", True, True),
    ("outside.signed.test", ("192.0.2.9",), "mx.unsigned.test", False, True),
    ("chain.signed.test", ("192.0.2.9",), "mx.unsigned.test", False, True),
    ("back.unsigned.test", ("2001:db8::1", "192.0.2.1"), "mx1.signed.test", False, False),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "addresses", "expanded", "secure", "alias_secure"), ADDRESSES)
async def test_addresses(
    name: str, addresses: tuple[str, ...], expanded: str, secure: bool, alias_secure: bool
) -> None:
    async with lab() as (_, resolver):
        host = MxHost(name, 10, mx_secure=True)
        assert await find_addresses(resolver, host) == MxHost(name, 10, True, addresses, expanded, secure, alias_secure)
    async with lab(TrustAd.NO) as (zones, resolver):
        assert await find_addresses(resolver, host) == MxHost(name, 10, True, addresses, expanded, False, False)
        assert Question(name, "CNAME") not in zones.asked


@pytest.mark.asyncio
async def test_at_most_five_addresses() -> None:
    async with lab() as (_, resolver):
        found = await find_addresses(resolver, MxHost("many.signed.test"))
        assert isinstance(found, MxHost)
        assert len(found.addresses) == 5


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nothing.signed.test", Missing.NXDOMAIN),
        ("nowhere.signed.test", Missing.NXDOMAIN),
        ("text.signed.test", Missing.NODATA),
    ],
)
async def test_hosts_without_addresses(name: str, kind: Missing) -> None:
    async with lab() as (_, resolver):
        found = await find_addresses(resolver, MxHost(name))
        assert isinstance(found, NotFound)
        assert found.kind is kind


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.TIMEOUT])
async def test_one_family_is_enough(fault: Fault) -> None:
    for rdtype, left in (("A", ("2001:db8::1",)), ("AAAA", ("192.0.2.1",))):
        async with lab() as (zones, resolver):
            zones.set_fault("mx1.signed.test", rdtype, fault)
            found = await find_addresses(resolver, MxHost("mx1.signed.test"))
            assert isinstance(found, MxHost)
            assert (found.addresses, found.secure) == (left, True)


@pytest.mark.asyncio
async def test_one_family_that_is_not_there_and_one_that_fails_is_a_failure() -> None:
    async with lab() as (zones, resolver):
        zones.set_fault("mx2.signed.test", "A", Fault.SERVFAIL)  # and no AAAA
        found = await find_addresses(resolver, MxHost("mx2.signed.test"))
        assert found == LookupFailed("DNS reported a failure (SERVFAIL) for mx2.signed.test (A)")


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["mx.bogus.test", "bad.signed.test"])
async def test_a_bogus_answer_makes_the_host_unusable(name: str) -> None:
    async with lab() as (_, resolver):
        found = await find_addresses(resolver, MxHost(name))
        assert isinstance(found, LookupFailed)
        assert found.bogus


@pytest.mark.asyncio
async def test_one_bogus_family_makes_the_host_unusable() -> None:
    """AAAA leads into a zone that fails validation, A does not: an attacker must not choose for us."""
    async with lab() as (zones, resolver):
        answer = await resolver.a("mx1.signed.test")
        assert not isinstance(answer, LookupFailed)
        zones.set_security("signed.test", Security.BOGUS)  # A is still in the cache
        found = await find_addresses(resolver, MxHost("mx1.signed.test"))
        assert isinstance(found, LookupFailed)
        assert found.bogus


@pytest.mark.asyncio
async def test_an_alias_of_unknown_security_makes_the_host_unusable() -> None:
    """RFC 7672 section 2.2.2: whether DANE applies could not be told."""
    async with lab() as (zones, resolver):
        zones.set_fault("outside.signed.test", "CNAME", Fault.SERVFAIL)
        found = await find_addresses(resolver, MxHost("outside.signed.test"))
        assert found == LookupFailed("DNS reported a failure (SERVFAIL) for outside.signed.test (CNAME)")
