"""Proofs of absence by a real Knot, with NSEC, NSEC3 and NSEC3 with opt-out, as a real Unbound takes them.

A zone with opt-out says nothing of names between its own, so that nothing is proved there (RFC 5155 section 9.2): what
does not exist, and what a wildcard gives, is not secure. Records that are there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_dns import EE, Ds, Servers, Signing, Zone, needed, serve, validating

from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import Answer, Missing, NotFound
from relay.lookup.tlsa import find_tlsa
from relay.policy.mx import MailHosts, MxHost, NoSuchDomain
from relay.policy.tlsa import NoTlsa, TlsaRecord, TlsaResult, UsableTlsa

pytestmark = needed

TLSA = TlsaRecord(3, 1, 1, b"\xab" * 32)
RECORDS = f"""
@ MX 10 mx
mx A 192.0.2.1
has A 192.0.2.5
_25._tcp.has TLSA {EE}
other A 192.0.2.6
_26._tcp.other TLSA {EE}
every A 192.0.2.7
*._tcp.every TLSA {EE}
*.wild A 192.0.2.3
*.mail MX 10 mx
alias CNAME mx
lost CNAME nothing
plain TXT "x"
child NS ns.test.
"""
CHILD = Zone(f"@ MX 10 mx\nmx A 192.0.2.8\n_25._tcp.mx TLSA {EE}\n", Signing.NO, Ds.NONE)
KINDS = {"nsec.test": Signing.NSEC, "nsec3.test": Signing.NSEC3, "optout.test": Signing.OPT_OUT}
ZONES = {name: Zone(RECORDS, signing) for name, signing in KINDS.items()}
ZONES |= {f"child.{name}": CHILD for name in KINDS}

each_zone = pytest.mark.parametrize("zone", KINDS)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with serve(tmp_path_factory.mktemp("dns"), ZONES) as built:
        yield built


NX, NODATA, THERE = Missing.NXDOMAIN, Missing.NODATA, None
# Type, name, what there is of it, and whether it can be proved with opt-out; without, all of it is.
ROWS: list[tuple[str, str, Missing | None, bool]] = [
    ("mx", "mx", NODATA, True),  # no MX at a host, which has a record of its own to say so
    ("aaaa", "mx", NODATA, True),
    ("tlsa", "mx", NODATA, True),
    ("txt", "_mta-sts", NX, False),
    ("tlsa", "_25._tcp.mx", NX, False),
    ("tlsa", "_25._tcp.other", NX, False),  # only another port has one
    ("tlsa", "_tcp.other", NODATA, True),  # a name with nothing at it and something below
    ("a", "_tcp.has", NODATA, True),
    ("tlsa", "_25._tcp.has", THERE, True),
    ("mx", "nothing", NX, False),
    ("a", "a.b.nothing", NX, False),
    ("tlsa", "_25._tcp.every", THERE, False),  # by a wildcard: that nothing nearer is there has to be proved
    ("a", "x.wild", THERE, False),
    ("a", "x.y.wild", THERE, False),
    ("mx", "x.wild", NODATA, False),
    ("tlsa", "_25._tcp.x.wild", NODATA, False),  # the wildcard covers that name too, and has no TLSA
    ("a", "wild", NODATA, True),
    ("mx", "x.mail", THERE, False),
    ("a", "x.mail", NODATA, False),
    ("mx", "alias", NODATA, True),
    ("a", "alias", THERE, True),
    ("a", "lost", NX, False),
    ("tlsa", "_25._tcp.alias", NX, False),
]


@pytest.mark.asyncio
@validating
@each_zone
async def test_what_is_not_there(servers: Servers, flavour: str, zone: str) -> None:
    resolver = await servers.trusting(flavour)
    for rdtype, label, kind, proved_with_opt_out in ROWS:
        found = await getattr(resolver, rdtype)(f"{label}.{zone}")
        seen = found.kind if isinstance(found, NotFound) else None
        assert isinstance(found, Answer | NotFound), (rdtype, label, found)
        assert seen is kind, (rdtype, label, found)
        assert found.secure is (proved_with_opt_out or zone != "optout.test"), (rdtype, label, found)


@pytest.mark.asyncio
@each_zone
async def test_a_child_that_is_not_signed_is_insecure_and_nothing_worse(servers: Servers, zone: str) -> None:
    resolver = await servers.trusting()
    for rdtype, name in (("mx", "child"), ("a", "mx.child"), ("tlsa", "_25._tcp.mx.child")):
        found = await getattr(resolver, rdtype)(f"{name}.{zone}")
        assert isinstance(found, Answer) and not found.secure, found
    absent = await resolver.a(f"nothing.child.{zone}")
    assert isinstance(absent, NotFound) and not absent.secure


def usable(host: str) -> UsableTlsa:
    return UsableTlsa(host, (host,), (TLSA,))


@pytest.mark.asyncio
@validating
@each_zone
async def test_tlsa_of_hosts(servers: Servers, flavour: str, zone: str) -> None:
    """A denial is no failure, whichever way it is proved, and it never turns into "the zone is not signed"."""
    none = f"there are no signed TLSA records at _25._tcp.{{}}.{zone}"
    proved = zone != "optout.test"
    unsigned = "the addresses of {} are not signed (DNSSEC)"
    expected: dict[str, TlsaResult] = {
        "mx": NoTlsa(none.format("mx")),
        "other": NoTlsa(none.format("other")),
        "has": usable(f"has.{zone}"),
        "every": usable(f"every.{zone}") if proved else NoTlsa(none.format("every")),
        "alias": NoTlsa(f"{none.format('mx')} or _25._tcp.alias.{zone}"),
        "x.wild": NoTlsa(none.format("x.wild") if proved else unsigned.format(f"x.wild.{zone}")),
        "mx.child": NoTlsa(unsigned.format(f"mx.child.{zone}")),
    }
    resolver = await servers.trusting(flavour)
    for label, result in expected.items():
        host = await find_addresses(resolver, MxHost(f"{label}.{zone}"))
        assert isinstance(host, MxHost), host
        assert await find_tlsa(resolver, host, 25) == result


@pytest.mark.asyncio
@validating
@each_zone
async def test_destinations(servers: Servers, flavour: str, zone: str) -> None:
    proved = zone != "optout.test"
    host = f"mx.{zone}"
    resolver = await servers.trusting(flavour)
    assert await find_destination(resolver, zone) == MailHosts(zone, (MxHost(host, 10, mx_secure=True),))
    by_wildcard = f"x.mail.{zone}"
    assert await find_destination(resolver, by_wildcard) == MailHosts(
        by_wildcard, (MxHost(host, 10, mx_secure=proved),)
    )
    has = f"has.{zone}"  # without MX: it is its own mail host
    assert await find_destination(resolver, has) == MailHosts(has, (MxHost(has, mx_secure=True),))
    for name in ("nothing", "plain", "lost"):
        assert isinstance(await find_destination(resolver, f"{name}.{zone}"), NoSuchDomain), name
