"""Whether mail of the domains that have a key will pass DMARC, for `relay check`."""

from __future__ import annotations

import asyncio
from datetime import datetime

from relay.explain_from import explain_from
from relay.finding import Finding, fail, ok, warn
from relay.mail.address import Address
from relay.policy.alignment import Alignment, Kind
from relay.settings import Settings

SUBJECT = "dmarc"
_MOST_DOMAINS = 20  # each takes some questions to DNS
_LOOK = "relay explain --from {} says more"


async def look_at_domains(settings: Settings, hostname: str, now: datetime) -> list[Finding]:
    """A finding for each domain of [[dkim_key]], of mail with an envelope sender in it."""
    domains = list(dict.fromkeys(key.domain for key in settings.dkim_key))[:_MOST_DOMAINS]
    return list(await asyncio.gather(*(_look_at(settings, hostname, domain, now) for domain in domains)))


async def _look_at(settings: Settings, hostname: str, domain: str, now: datetime) -> Finding:
    sender = Address("postmaster", domain, f"postmaster@{domain}")
    return finding(domain, (await explain_from(settings, hostname, domain, sender, now)).found)


def finding(domain: str, found: Alignment) -> Finding:
    """What a verdict is to the operator. Mail that fails is lost at most large receivers."""
    text = f"{domain}: {found.reason}"
    remedy = "; or ".join(found.remedies) or _LOOK.format(domain)
    match found.kind:
        case Kind.PASSES:
            return ok(SUBJECT, text)
        case Kind.NO_POLICY:
            return ok(SUBJECT, f"{text}; the domain has no DMARC record")
        case Kind.FAILS:
            return fail(SUBJECT, text, remedy)
        case _:
            return warn(SUBJECT, text, remedy)
