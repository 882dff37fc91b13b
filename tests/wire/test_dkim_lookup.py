"""What DNS has of a key, asked of the lab's DNS."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from relay.lab.zones import Fault, Security, Zone, Zones
from relay.lookup.dkim import compare_with_dns
from relay.lookup.resolver import LookupFailed, Resolver
from relay.policy.dkim_match import Comparison, Matches, Missing, OtherKey, Revoked, Several
from relay.policy.dkim_record import key_record_text, zone_form
from relay.signing.keys import Algorithm, SigningKey

PUBLIC = bytes(range(256)) * 2  # its record has more than one string
TEXT = key_record_text("rsa", PUBLIC)


def strings(text: str) -> str:
    """The data of a TXT record, with no more than 255 octets in each string."""
    return zone_form("x", text).partition(" TXT ")[2].replace("\n", " ")


RECORDS = f"""
good._domainkey     TXT   {strings(TEXT)}
other._domainkey    TXT   {strings(key_record_text("rsa", b"other"))}
revoked._domainkey  TXT   "v=DKIM1; p="
two._domainkey      TXT   {strings(TEXT)}
two._domainkey      TXT   "v=spf1 -all"
alias._domainkey    CNAME good._domainkey.keeper.test.
dangling._domainkey CNAME nothing.keeper.test.
notext._domainkey   A     192.0.2.1
"""


def key(selector: str, domain: str = "d.test") -> SigningKey:
    return SigningKey(domain, selector, False, Algorithm.RSA_SHA256, 2048, PUBLIC, lambda octets: octets)


FOUND: list[tuple[SigningKey, Comparison]] = [
    (key("good"), Matches()),
    (key("alias"), Matches()),
    (key("other"), OtherKey()),
    (key("revoked"), Revoked()),
    (key("two"), Several(2, 1)),
    (key("none"), Missing()),
    (key("notext"), Missing()),
    (key("dangling"), Missing("nothing.keeper.test")),
    (key("none", "nowhere.test"), Missing()),
]


@pytest.mark.asyncio
async def test_what_is_there() -> None:
    keeper = Zone(f"good._domainkey TXT {strings(TEXT)}", Security.UNSIGNED)
    zones = Zones({"d.test": Zone(RECORDS), "keeper.test": keeper})
    resolver = Resolver([await zones.start()], timedelta(seconds=2))
    try:
        for one, found in FOUND:
            assert await compare_with_dns(resolver, one, reports=False) == found, one.selector
        text = base64.b64encode(PUBLIC).decode()
        zones.replace("new._domainkey.d.test", "TXT", strings(f"v=DKIM1; s=tlsrpt; p={text}"))
        assert await compare_with_dns(resolver, key("new"), reports=True) == Matches()
    finally:
        await resolver.close()
        await zones.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.TIMEOUT, Fault.BOGUS])
async def test_what_cannot_be_found_out_is_no_mismatch(fault: Fault) -> None:
    zones = Zones({"d.test": Zone(RECORDS)}, {("good._domainkey.d.test", "TXT"): fault})
    resolver = Resolver([await zones.start()], timedelta(seconds=0.2))
    try:
        assert isinstance(await compare_with_dns(resolver, key("good"), reports=False), LookupFailed)
    finally:
        await resolver.close()
        await zones.stop()
