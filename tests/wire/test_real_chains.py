"""Aliases (CNAME, DNAME) across zones that are signed and zones that are not, with a real Unbound and a real Knot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_dns import EE, Ds, Servers, Signing, Zone, needed, serve, validating

from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import Answer, LookupFailed, Missing, NotFound
from relay.lookup.tlsa import find_tlsa
from relay.policy.mx import DestinationLookupFailed, MailHosts, MxHost, NoSuchDomain
from relay.policy.tlsa import NoTlsa, TlsaRecord, TlsaResult, UsableTlsa

pytestmark = needed

TLSA = TlsaRecord(3, 1, 1, b"\xab" * 32)
ZONES = {
    "one.test": Zone(f"""
@ MX 10 alias
mx A 192.0.2.1
_25._tcp.mx TLSA {EE}
alias CNAME mx
far CNAME mx.two.test.
_25._tcp.far TLSA {EE}
own CNAME bare.two.test.
_25._tcp.own TLSA {EE}
out CNAME mx.plain.test.
_25._tcp.out TLSA {EE}
naked CNAME mx.plain.test.
long CNAME far
round CNAME round2
round2 CNAME round
moved DNAME new.two.test.
gone DNAME plain.test.
domain CNAME two.test.
astray CNAME mx.broken.test.
"""),
    "two.test": Zone(
        f"""
@ MX 10 mx
mx A 192.0.2.2
_25._tcp.mx TLSA {EE}
bare A 192.0.2.3
mx.new A 192.0.2.4
_25._tcp.mx.new TLSA {EE}
x.new MX 10 mx
back CNAME mx.one.test.
""",
        Signing.NSEC,
    ),
    "plain.test": Zone(
        f"""
@ MX 10 in
mx A 192.0.2.5
_25._tcp.mx TLSA {EE}
in CNAME mx.one.test.
_25._tcp.in TLSA {EE}
moved DNAME new.two.test.
domain CNAME two.test.
""",
        Signing.NO,
        Ds.NONE,
    ),
    "broken.test": Zone("mx A 192.0.2.6\n", ds=Ds.WRONG),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with serve(tmp_path_factory.mktemp("dns"), ZONES) as built:
        yield built


def usable(*names: str) -> UsableTlsa:
    return UsableTlsa(names[0], names, (TLSA,))


def none(*bases: str) -> NoTlsa:
    return NoTlsa(f"there are no signed TLSA records at {' or '.join(f'_25._tcp.{base}' for base in bases)}")


def unsigned(host: str) -> NoTlsa:
    return NoTlsa(f"the addresses of {host} are not signed (DNSSEC)")


# A host as MX records name it; the name its addresses are at; are all steps signed, is the first; its TLSA records.
HOSTS: list[tuple[str, str, bool, bool, TlsaResult]] = [
    ("alias.one.test", "mx.one.test", True, True, usable("mx.one.test", "alias.one.test")),
    (
        "far.one.test",
        "mx.two.test",
        True,
        True,
        usable("mx.two.test", "far.one.test"),
    ),  # RFC 7672 §2.2.2: the end first
    ("long.one.test", "mx.two.test", True, True, usable("mx.two.test", "long.one.test")),
    ("own.one.test", "bare.two.test", True, True, usable("own.one.test")),  # nothing at the end: the name itself
    ("bare.two.test", "bare.two.test", True, True, none("bare.two.test")),
    ("out.one.test", "mx.plain.test", False, True, usable("out.one.test")),  # to an unsigned zone, by a signed alias
    ("naked.one.test", "mx.plain.test", False, True, none("naked.one.test")),
    ("in.plain.test", "mx.one.test", False, False, unsigned("in.plain.test")),  # a forger chose where it leads
    ("back.two.test", "mx.one.test", True, True, usable("mx.one.test", "back.two.test")),
    ("mx.moved.one.test", "mx.new.two.test", True, True, usable("mx.new.two.test", "mx.moved.one.test")),  # DNAME
    ("mx.moved.plain.test", "mx.new.two.test", False, False, unsigned("mx.moved.plain.test")),
]


@pytest.mark.asyncio
@validating
async def test_hosts_that_are_aliases(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for name, expanded, secure, alias_secure, tlsa in HOSTS:
        host = await find_addresses(resolver, MxHost(name))
        assert isinstance(host, MxHost), host
        assert (host.expanded, host.secure, host.alias_secure) == (expanded, secure, alias_secure), name
        assert await find_tlsa(resolver, host, 25) == tlsa, name


@pytest.mark.asyncio
@validating
@pytest.mark.parametrize(("name", "bogus"), [("round.one.test", False), ("astray.one.test", True)])
async def test_chains_that_lead_nowhere(servers: Servers, flavour: str, name: str, bogus: bool) -> None:
    """A loop, and a zone that is bogus: failures, and no word of absence."""
    resolver = await servers.trusting(flavour)
    host = await find_addresses(resolver, MxHost(name))
    assert isinstance(host, LookupFailed) and host.bogus is bogus
    destination = await find_destination(resolver, name)
    assert isinstance(destination, DestinationLookupFailed) and destination.bogus is bogus


@pytest.mark.asyncio
async def test_a_signed_dname_to_a_zone_that_is_not_signed(servers: Servers) -> None:
    """Unbound 1.17, asked for the CNAME that a DNAME makes, takes it for bogus; then the host waits."""
    resolver = await servers.trusting()
    assert isinstance(await resolver.a("mx.gone.one.test"), Answer)
    host = await find_addresses(resolver, MxHost("mx.gone.one.test"))
    assert host.bogus if isinstance(host, LookupFailed) else isinstance(host, MxHost) and host.alias_secure


DOMAINS: list[tuple[str, str, bool]] = [
    ("one.test", "alias.one.test", True),
    ("domain.one.test", "mx.two.test", True),
    ("x.moved.one.test", "mx.two.test", True),
    ("plain.test", "in.plain.test", False),
    ("domain.plain.test", "mx.two.test", False),  # the MX records are signed, what led to them is not
    ("x.moved.plain.test", "mx.two.test", False),
]


@pytest.mark.asyncio
@validating
async def test_domains_that_are_aliases(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for domain, host, secure in DOMAINS:
        expected = MailHosts(domain, (MxHost(host, 10, mx_secure=secure),))
        assert await find_destination(resolver, domain) == expected


@pytest.mark.asyncio
async def test_an_alias_of_a_domain_lends_its_name_to_the_host(servers: Servers) -> None:
    """RFC 7672 section 3.2.2: the domain that was asked for, and the one that it is an alias of."""
    resolver = await servers.trusting()
    for domain, names in (
        ("domain.one.test", ("mx.two.test", "domain.one.test", "two.test")),
        ("domain.plain.test", ("mx.two.test",)),
    ):
        destination = await find_destination(resolver, domain)
        assert isinstance(destination, MailHosts)
        host = await find_addresses(resolver, destination.hosts[0])
        assert isinstance(host, MxHost)
        assert await find_tlsa(resolver, host, 25, domain) == usable(*names)


@pytest.mark.asyncio
@validating
async def test_names_below_an_alias_that_are_not_there(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for name, canonical, secure in (
        ("none.moved.one.test", "none.new.two.test", True),
        ("none.moved.plain.test", "none.new.two.test", False),
    ):
        found = await resolver.a(name)
        assert isinstance(found, NotFound)
        assert (found.kind, found.canonical, found.secure) == (Missing.NXDOMAIN, canonical, secure)
        assert isinstance(await find_destination(resolver, name), NoSuchDomain)
