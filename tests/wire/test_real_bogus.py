"""Zones that are wrong and zones that are outside DNSSEC, as a real Unbound tells them apart: bogus or only insecure.

What is bogus is never used and never absent. What nobody can validate counts as not signed, and mail goes as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

import pytest
from real_dns import EE, SELF_TEST, Ds, Servers, Signing, Zone, needed, serve, validating

from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import Answer, LookupFailed, Resolver
from relay.lookup.tlsa import find_tlsa
from relay.policy.mx import DestinationLookupFailed, MailHosts, MxHost
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, UsableTlsa

pytestmark = needed

TLSA = TlsaRecord(3, 1, 1, b"\xab" * 32)
RECORDS = f"@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx TLSA {EE}\n"


def altered(lines: Sequence[str]) -> list[str]:
    """What somebody on the way can do to a zone that was signed well."""
    kept = []
    for line in lines:
        owner, _, rdtype, *_ = line.split()
        if owner.startswith(("_25._tcp.stripped.", "bare.")) and rdtype == "RRSIG":
            continue
        kept.append(line.replace("192.0.2.2", "192.0.2.66").replace("CC" * 32, "CD" * 32))
    assert len(kept) < len(lines) and "192.0.2.66" in "".join(kept) and "CD" * 32 in "".join(kept)
    return kept


def without_denial(lines: Sequence[str]) -> list[str]:
    """The proofs of absence are gone."""
    kept = [line for line in lines if "NSEC3" not in line.split()[2:4] or "NSEC3PARAM" in line]
    assert len(kept) < len(lines)
    return kept


ZONES = {
    "good.test": Zone(RECORDS),
    "healing.test": Zone(RECORDS),
    "short.test": Zone(RECORDS, Signing.SHORT),
    "stripped.test": Zone(RECORDS, Signing.NO),
    "island.test": Zone(RECORDS, ds=Ds.NONE),
    "algorithm.test": Zone(RECORDS, ds=Ds.UNKNOWN_ALGORITHM),
    "digest.test": Zone(RECORDS, ds=Ds.UNKNOWN_DIGEST),
    "altered.test": Zone(
        f"good A 192.0.2.1\nforged A 192.0.2.2\nbare A 192.0.2.3\nstripped A 192.0.2.4\nswapped A 192.0.2.5\n"
        f"_25._tcp.stripped TLSA {EE}\n_25._tcp.swapped TLSA 3 1 1 {'cc' * 32}\n",
        alter=altered,
    ),
    "mute.test": Zone("@ MX 10 mx\nmx A 192.0.2.1\n", alter=without_denial),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with serve(tmp_path_factory.mktemp("dns"), ZONES, ("ede", "plain", "late", "late-plain")) as built:
        yield built


async def sees(resolver: Resolver, domain: str) -> str:
    """What there is to say of mail to `domain`, whose host is mx."""
    destination = await find_destination(resolver, domain)
    if isinstance(destination, DestinationLookupFailed):
        return "bogus" if destination.bogus else "failed"
    assert isinstance(destination, MailHosts), destination
    (host,) = destination.hosts
    found = await find_addresses(resolver, host)
    assert isinstance(found, MxHost), found
    tlsa = await find_tlsa(resolver, found, 25)
    if tlsa == UsableTlsa(host.name, (host.name,), (TLSA,)) and host.mx_secure:
        return "secure"
    assert tlsa == NoTlsa(f"the addresses of {host.name} are not signed (DNSSEC)") and not host.mx_secure
    return "insecure"


@pytest.mark.asyncio
@validating
@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("good.test", "secure"),
        ("short.test", "secure"),
        ("wrong.test", "bogus"),
        ("stripped.test", "bogus"),  # a DS, and no signature anywhere
        ("island.test", "insecure"),  # signed, but nobody above says so
        ("algorithm.test", "insecure"),  # RFC 4035 section 5.2: as if it were not signed
        ("digest.test", "insecure"),
    ],
)
async def test_whole_zones(servers: Servers, flavour: str, domain: str, expected: str) -> None:
    assert await sees(await servers.trusting(flavour), domain) == expected


@pytest.mark.asyncio
@pytest.mark.parametrize("flavour", ["late", "late-plain"])
async def test_signatures_that_have_expired(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    assert await sees(resolver, "good.test") == "secure"
    assert await sees(resolver, "short.test") == "bogus"
    for look, name in ((resolver.tlsa, "_25._tcp.mx.short.test"), (resolver.txt, "_mta-sts.short.test")):
        found = await look(name)
        assert isinstance(found, LookupFailed) and found.bogus  # neither records nor a proof of absence


@pytest.mark.asyncio
@validating
async def test_single_records_that_were_changed(servers: Servers, flavour: str) -> None:
    resolver = await servers.trusting(flavour)
    for label in ("forged", "bare"):
        host = await find_addresses(resolver, MxHost(f"{label}.altered.test"))
        assert isinstance(host, LookupFailed) and host.bogus
    for label in ("stripped", "swapped"):
        name = f"{label}.altered.test"
        host = await find_addresses(resolver, MxHost(name))
        assert isinstance(host, MxHost) and host.secure
        what = f"the DNS answer for _25._tcp.{name} (TLSA) failed DNSSEC validation"
        assert await find_tlsa(resolver, host, 25) == TlsaLookupFailed(what, bogus=True)
    assert isinstance(await resolver.a("good.altered.test"), Answer)


@pytest.mark.asyncio
@validating
async def test_a_no_without_proof_is_none(servers: Servers, flavour: str) -> None:
    """Whoever cuts the proofs out of answers must not switch DANE or MTA-STS off."""
    resolver = await servers.trusting(flavour)
    assert isinstance(await resolver.a("mx.mute.test"), Answer)
    for look, name in (
        (resolver.tlsa, "_25._tcp.mx.mute.test"),
        (resolver.txt, "_mta-sts.mute.test"),
        (resolver.mx, "mx.mute.test"),
        (resolver.a, "nothing.mute.test"),
    ):
        found = await look(name)
        assert isinstance(found, LookupFailed) and found.bogus, name


@pytest.mark.asyncio
@validating
async def test_a_zone_that_becomes_bogus_and_heals(servers: Servers, flavour: str) -> None:
    for ds, expected in ((Ds.RIGHT, "secure"), (Ds.WRONG, "bogus"), (Ds.NONE, "insecure"), (Ds.RIGHT, "secure")):
        servers.knot.set_ds("healing.test", ds)
        servers.unbound[flavour].forget()
        assert await sees(await servers.trusting(flavour), "healing.test") == expected


@pytest.mark.asyncio
async def test_a_failure_is_forgotten_soon_when_the_zone_heals(servers: Servers) -> None:
    """The same resolver: it does not stick to "bogus", and until then not to what it knew from before."""
    seconds = 0.0
    resolver = Resolver([servers.unbound["ede"].address], timedelta(seconds=10), monotonic=lambda: seconds)
    assert (await resolver.assess(SELF_TEST))[0]
    for ds, expected in ((Ds.RIGHT, "secure"), (Ds.WRONG, "bogus"), (Ds.RIGHT, "secure")):
        servers.knot.set_ds("healing.test", ds)
        servers.unbound["ede"].forget()
        seconds += 61 if ds is Ds.WRONG else 6  # past the TTL of the answers; past the time that failures are kept
        assert await sees(resolver, "healing.test") == expected


@pytest.mark.asyncio
async def test_nobody_serves_the_zone(servers: Servers) -> None:
    """Knot is gone: that is a failure, and neither absence nor forgery; and what is in the caches goes on to count."""
    unbound = servers.unbound["plain"]
    resolver = Resolver([unbound.address], timedelta(seconds=0.5))
    assert (await resolver.assess(SELF_TEST))[0]
    assert await sees(resolver, "good.test") == "secure"
    servers.knot.stop()
    try:
        assert await sees(resolver, "good.test") == "secure"
        unbound.forget()
        assert await sees(resolver, "island.test") == "failed"
        host = MxHost("mx.good.test", addresses=("192.0.2.1",), expanded="mx.good.test", secure=True, alias_secure=True)
        fresh = Resolver([unbound.address], timedelta(seconds=0.5))
        trusted, why = await fresh.assess(SELF_TEST)
        assert trusted and "could not be tested" in why  # docs/adr/0009: believed until it can be
        for look, name in ((fresh.tlsa, "_25._tcp.mx.good.test"), (fresh.txt, "_mta-sts.good.test")):
            found = await look(name)
            assert isinstance(found, LookupFailed) and not found.bogus
        tlsa = await find_tlsa(fresh, host, 25)
        assert isinstance(tlsa, TlsaLookupFailed) and not tlsa.bogus
    finally:
        servers.knot.start()
        unbound.forget()
    assert await sees(await servers.trusting("plain"), "good.test") == "secure"
