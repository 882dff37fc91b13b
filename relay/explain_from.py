"""Builds what `relay explain --from` needs, from the same parts and settings as the service. It asks DNS alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from relay.lookup.alignment import Asked
from relay.lookup.resolver import Resolver
from relay.mail.address import Address
from relay.policy.alignment import WARNED, Alignment, Facts, Kind, judge
from relay.policy.routing import PREFIX
from relay.reception import alignment_finder
from relay.settings import Settings
from relay.signing.keys import load_keys

_ANYBODY = Address("", "invalid", "invalid")  # a recipient whom only a route for all can mean


@dataclass(frozen=True, slots=True)
class FromExplained:
    """What is known, what follows, and which keys of the settings cannot be used, in sentences."""

    now: datetime
    facts: Facts
    found: Alignment
    unusable_keys: tuple[str, ...]


async def explain_from(
    settings: Settings, hostname: str, domain: str, sender: Address | None, now: datetime
) -> FromExplained:
    """Whether mail with this domain in From, from this envelope sender, will pass DMARC."""
    keys, unusable = load_keys(settings.dkim_key)
    smart_host = settings.routes.destination(sender, None, _ANYBODY).startswith(PREFIX)
    resolver = Resolver(settings.dns.nameservers, settings.dns.timeout)
    try:
        finder = alignment_finder(settings, hostname, resolver, lambda: keys)
        facts = await finder.find(Asked(domain, sender, smart_host))
    finally:
        await resolver.close()
    found = judge(facts)
    if found.kind in WARNED and any(key.domain == domain for key in unusable):
        found = replace(found, kind=Kind.UNKNOWN)  # the service may be able to read it
    return FromExplained(now, facts, found, tuple([key.reason for key in unusable]))
