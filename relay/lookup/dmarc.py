"""The DMARC policy of a domain, and its organizational domain, from DNS. RFC 9989 section 4.10.

At most eight names are asked for (`relay.policy.dmarc`), one after another: most walks end after two.
"""

from __future__ import annotations

from relay.lookup.resolver import Answer, LookupFailed, Missing, NotFound, Resolver
from relay.policy.dmarc import (
    Dmarc,
    DmarcUnknown,
    NoDmarc,
    Step,
    ends_walk,
    names_of_walk,
    organizational_domain,
    policy_of,
    select_record,
)


async def find_policy(resolver: Resolver, domain: str) -> Dmarc | NoDmarc | DmarcUnknown:
    """The policy for mail with this domain (lower-case A-labels) in From."""
    steps = await _walk(resolver, domain)
    if isinstance(steps, DmarcUnknown):
        return steps
    found = policy_of(domain, steps)
    if isinstance(found, NoDmarc) or found.at == domain or found.record.missing is None:
        return found
    here = await resolver.mx(domain)
    if isinstance(here, LookupFailed):
        return DmarcUnknown(here.reason)
    return policy_of(domain, steps, exists=not (isinstance(here, NotFound) and here.kind is Missing.NXDOMAIN))


async def find_organizational_domain(resolver: Resolver, domain: str) -> str | DmarcUnknown:
    """The organizational domain of `domain`."""
    steps = await _walk(resolver, domain)
    return steps if isinstance(steps, DmarcUnknown) else organizational_domain(domain, steps)


async def _walk(resolver: Resolver, domain: str) -> tuple[Step, ...] | DmarcUnknown:
    """What counts, longest name first."""
    steps: list[Step] = []
    for name in names_of_walk(domain):
        found = await resolver.txt(f"_dmarc.{name}")
        if isinstance(found, LookupFailed):
            return DmarcUnknown(found.reason)
        record = select_record(found.records) if isinstance(found, Answer) else None
        if record is not None:
            steps.append(Step(name, record))
            if ends_walk(domain, steps[-1]):
                break
    return tuple(steps)
