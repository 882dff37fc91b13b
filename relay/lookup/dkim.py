"""What DNS has of the keys that sign mail. RFC 6376 section 3.6.2.

Aliases are followed: many keys are published with a CNAME to who keeps the record. What a record says of a key is
decided in `relay.policy.dkim_match`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.lookup.resolver import Answer, LookupFailed, NotFound, Resolver
from relay.policy.dkim_match import Comparison, Missing, PublicKey, compare
from relay.signing.keys import KeyTable, SigningKey

_AT_ONCE = 20  # questions; a resolver may serve others too


@dataclass(frozen=True, slots=True)
class Checked:
    """A key, and what DNS has of it. LookupFailed: that is not known."""

    key: SigningKey
    found: Comparison | LookupFailed


async def check_keys(resolver: Resolver, keys: KeyTable, report_domain: str | None) -> tuple[Checked, ...]:
    """Every key, in the order of the table. `report_domain`: of the sender of TLS reports, if they go out by mail."""
    of_reports = keys.keys_for(report_domain) if report_domain is not None else ()
    turns = asyncio.Semaphore(_AT_ONCE)

    async def check(key: SigningKey) -> Checked:
        async with turns:
            return Checked(key, await compare_with_dns(resolver, key, key in of_reports))

    return tuple(await asyncio.gather(*map(check, keys.all)))


async def compare_with_dns(resolver: Resolver, key: SigningKey, reports: bool) -> Comparison | LookupFailed:
    """Ask for the record of one key. `reports`: as for `compare`."""
    found = await resolver.txt(key.record_name)
    match found:
        case LookupFailed():
            return found
        case NotFound(canonical=name):
            return Missing(None if name == key.record_name else name)
        case Answer(records=texts):
            return compare(texts, PublicKey(key.algorithm.key_type, key.public), reports)
