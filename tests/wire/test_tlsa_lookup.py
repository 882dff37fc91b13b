"""Which TLSA records count for a host: FEATURES of RFC 7672 section 2.2, against the lab's DNS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from relay.lab.zones import Fault, Question, Security, Zone, Zones
from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import Resolver
from relay.lookup.tlsa import find_tlsa
from relay.policy.mx import MailHosts, MxHost
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, TlsaResult, UnusableTlsa, UsableTlsa
from relay.settings import DnsSettings, TrustAd

EE = "3 1 1 " + "ab" * 32
ORIGINAL = "3 1 1 " + "cd" * 32
TA = "2 0 1 " + "ef" * 32

SIGNED = f"""
@               MX    10 mx
mx              A     192.0.2.1
_25._tcp.mx     TLSA  {EE}
bare            A     192.0.2.2
half            A     192.0.2.3
_25._tcp.half   TLSA  {EE}
_25._tcp.half   TLSA  0 0 1 {"00" * 32}
_25._tcp.half   TLSA  3 1 9 00
useless         A     192.0.2.4
_25._tcp.useless TLSA 1 1 1 {"11" * 32}
_25._tcp.useless TLSA 3 9 1 {"22" * 32}
both            CNAME mx
_25._tcp.both   TLSA  {ORIGINAL}
onlyorig        CNAME bare
_25._tcp.onlyorig TLSA {ORIGINAL}
outside         CNAME mx.unsigned.test.
_25._tcp.outside TLSA {ORIGINAL}
noneout         CNAME mx.unsigned.test.
tlsaalias       A     192.0.2.5
_25._tcp.tlsaalias CNAME _25._tcp.mx
tlsaout         A     192.0.2.6
_25._tcp.tlsaout CNAME _25._tcp.mx.unsigned.test.
tlsabad         A     192.0.2.6
_25._tcp.tlsabad CNAME _25._tcp.mx.bogus.test.
ports           A     192.0.2.7
_2525._tcp.ports TLSA {EE}
ta              MX    10 ta.signed.test.
ta              A     192.0.2.8
_25._tcp.ta     TLSA  {TA}
tadom           MX    10 both
tadomalias      CNAME tadom
"""


@asynccontextmanager
async def lab(trust: TrustAd = TrustAd.YES) -> AsyncIterator[tuple[Zones, Resolver]]:
    zones = Zones(
        {
            "signed.test": Zone(SIGNED),
            "unsigned.test": Zone(
                f"@ MX 10 mx.signed.test.\nmx A 192.0.2.9\n_25._tcp.mx TLSA {EE}\n"
                f"back CNAME mx.signed.test.\n_25._tcp.back TLSA {ORIGINAL}",
                Security.UNSIGNED,
            ),
            "bogus.test": Zone(f"mx A 192.0.2.10\n_25._tcp.mx TLSA {EE}", Security.BOGUS),
        }
    )
    resolver = Resolver([await zones.start()], timedelta(seconds=0.3))
    await resolver.assess(DnsSettings(trust_ad=trust))
    try:
        yield zones, resolver
    finally:
        await resolver.close()
        await zones.stop()


def record(text: str) -> TlsaRecord:
    usage, selector, matching_type, data = text.split()
    return TlsaRecord(int(usage), int(selector), int(matching_type), bytes.fromhex(data))


async def look(resolver: Resolver, name: str, port: int = 25) -> TlsaResult:
    host = await find_addresses(resolver, MxHost(name))
    assert isinstance(host, MxHost)
    return await find_tlsa(resolver, host, port)


RESULTS: list[tuple[str, TlsaResult]] = [
    ("mx.signed.test", UsableTlsa("mx.signed.test", ("mx.signed.test",), (record(EE),))),
    ("bare.signed.test", NoTlsa("there are no signed TLSA records at _25._tcp.bare.signed.test")),
    # usage 0 and an unknown matching type are left out one by one
    ("half.signed.test", UsableTlsa("half.signed.test", ("half.signed.test",), (record(EE),))),
    # the name after CNAMEs goes first, and the host's own name is one that a certificate may carry
    ("both.signed.test", UsableTlsa("mx.signed.test", ("mx.signed.test", "both.signed.test"), (record(EE),))),
    ("onlyorig.signed.test", UsableTlsa("onlyorig.signed.test", ("onlyorig.signed.test",), (record(ORIGINAL),))),
    # an alias that leads out of signed space: only the original name counts
    ("outside.signed.test", UsableTlsa("outside.signed.test", ("outside.signed.test",), (record(ORIGINAL),))),
    ("noneout.signed.test", NoTlsa("there are no signed TLSA records at _25._tcp.noneout.signed.test")),
    # an alias that begins in unsigned space: nothing counts, not even signed records at its end
    ("back.unsigned.test", NoTlsa("the addresses of back.unsigned.test are not signed (DNSSEC)")),
    ("mx.unsigned.test", NoTlsa("the addresses of mx.unsigned.test are not signed (DNSSEC)")),
    # the TLSA records themselves may be reached by an alias; the base domain stays
    ("tlsaalias.signed.test", UsableTlsa("tlsaalias.signed.test", ("tlsaalias.signed.test",), (record(EE),))),
    ("tlsaout.signed.test", NoTlsa("there are no signed TLSA records at _25._tcp.tlsaout.signed.test")),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "expected"), RESULTS, ids=[name for name, _ in RESULTS])
async def test_result(name: str, expected: TlsaResult) -> None:
    async with lab() as (_, resolver):
        assert await look(resolver, name) == expected


@pytest.mark.asyncio
async def test_records_that_smtp_cannot_use() -> None:
    async with lab() as (_, resolver):
        found = await look(resolver, "useless.signed.test")
        assert isinstance(found, UnusableTlsa)
        assert found.base == "useless.signed.test"
        assert set(found.records) == {record("1 1 1 " + "11" * 32), record("3 9 1 " + "22" * 32)}


@pytest.mark.asyncio
async def test_the_port_is_the_real_one() -> None:
    async with lab() as (_, resolver):
        assert isinstance(await look(resolver, "ports.signed.test", 2525), UsableTlsa)
        assert isinstance(await look(resolver, "ports.signed.test", 25), NoTlsa)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["mx.unsigned.test", "back.unsigned.test"])
async def test_unsigned_hosts_are_not_asked_for_records(name: str) -> None:
    """Many servers of unsigned zones fail on TLSA questions, and their mail would stop."""
    async with lab() as (zones, resolver):
        assert isinstance(await look(resolver, name), NoTlsa)
        assert not [question for question in zones.asked if question.rdtype == "TLSA"]


@pytest.mark.asyncio
async def test_an_untrusted_resolver_is_not_asked() -> None:
    async with lab(TrustAd.NO) as (zones, resolver):
        signed = MxHost("mx.signed.test", 0, True, ("192.0.2.1",), "mx.signed.test", True, True)
        found = await find_tlsa(resolver, signed, 25)
        assert found == NoTlsa("the DNS resolver is not trusted to validate DNSSEC")
        assert not zones.asked


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.TIMEOUT, Fault.REFUSED])
@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("mx.signed.test", "_25._tcp.mx.signed.test"),
        ("bare.signed.test", "_25._tcp.bare.signed.test"),
        ("both.signed.test", "_25._tcp.mx.signed.test"),  # and the original name is not tried in its place
        ("onlyorig.signed.test", "_25._tcp.onlyorig.signed.test"),
        ("outside.signed.test", "_25._tcp.outside.signed.test"),
    ],
)
async def test_a_failure_at_a_signed_step_is_no_absence(fault: Fault, name: str, failing: str) -> None:
    async with lab() as (zones, resolver):
        zones.set_fault(failing, "TLSA", fault)
        found = await look(resolver, name)
        assert isinstance(found, TlsaLookupFailed)
        assert not found.bogus
        assert f"{failing} (TLSA)" in found.reason
        if name == "both.signed.test":
            assert Question("_25._tcp.both.signed.test", "TLSA") not in zones.asked


@pytest.mark.asyncio
async def test_bogus_records() -> None:
    async with lab() as (_, resolver):
        found = await look(resolver, "tlsabad.signed.test")
        reason = "the DNS answer for _25._tcp.tlsabad.signed.test (TLSA) failed DNSSEC validation"
        assert found == TlsaLookupFailed(reason, bogus=True)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("ta.signed.test", ("ta.signed.test",)),
        ("tadom.signed.test", ("mx.signed.test", "both.signed.test", "tadom.signed.test")),
        (
            "tadomalias.signed.test",
            ("mx.signed.test", "both.signed.test", "tadomalias.signed.test", "tadom.signed.test"),
        ),
        # RFC 7672 section 3.2.2: an MX answer that was not validated gives the host no further names, yet DANE applies
        ("unsigned.test", ("mx.signed.test",)),
    ],
)
async def test_reference_names(domain: str, names: tuple[str, ...]) -> None:
    async with lab() as (_, resolver):
        destination = await find_destination(resolver, domain)
        assert isinstance(destination, MailHosts)
        host = await find_addresses(resolver, destination.hosts[0])
        assert isinstance(host, MxHost)
        found = await find_tlsa(resolver, host, 25, domain)
        assert isinstance(found, UsableTlsa)
        assert found.names == names
        without = await find_tlsa(resolver, host, 25)
        assert isinstance(without, UsableTlsa)
        assert without.names == tuple(name for name in names if not name.startswith("tadom"))
