"""The policy and the organizational domain of a domain, with real DNS on loopback."""

from __future__ import annotations

from datetime import timedelta

import pytest

from relay.lab.zones import Fault, Zone, Zones
from relay.lookup.dmarc import find_organizational_domain, find_policy
from relay.lookup.resolver import Resolver
from relay.policy.dmarc import Dmarc, DmarcUnknown, NoDmarc, Request

RECORDS = """
_dmarc.own.example   TXT "v=DMARC1; p=reject"
_dmarc.sub.example   TXT "v=DMARC1; p=none; sp=quarantine; np=reject"
there.sub.example    MX  10 mx.sub.example.
_dmarc.suffix        TXT "v=DMARC1; p=reject; psd=y"
_dmarc.two.example   TXT "v=DMARC1; p=reject"
_dmarc.two.example   TXT "v=DMARC1; p=none"
"""


@pytest.mark.asyncio
async def test_policies_and_houses() -> None:
    zones = Zones({".": Zone(RECORDS)}, {("_dmarc.broken.example", "TXT"): Fault.SERVFAIL})
    resolver = Resolver([await zones.start()], timedelta(seconds=5))
    try:
        for domain, at, house, request in (
            ("own.example", "own.example", "own.example", Request.REJECT),
            ("there.sub.example", "sub.example", "sub.example", Request.QUARANTINE),
            ("gone.sub.example", "sub.example", "sub.example", Request.REJECT),
            ("a.b.suffix", "suffix", "b.suffix", Request.REJECT),
        ):
            found = await find_policy(resolver, domain)
            assert isinstance(found, Dmarc)
            assert (found.at, found.organizational, found.request) == (at, house, request)
            assert await find_organizational_domain(resolver, domain) == house
        assert await find_policy(resolver, "none.example") == NoDmarc("none.example")
        assert await find_policy(resolver, "two.example") == NoDmarc("two.example")
        failed = DmarcUnknown("DNS reported a failure (SERVFAIL) for _dmarc.broken.example (TXT)")
        assert await find_policy(resolver, "a.broken.example") == failed
        assert await find_organizational_domain(resolver, "broken.example") == failed
        zones.asked.clear()
        await find_policy(resolver, "a.b.c.d.e.f.g.h.i.j.k.l.none.example")
        assert len(zones.asked) == 8 - 2  # two of them are known from before
    finally:
        await resolver.close()
        await zones.stop()
