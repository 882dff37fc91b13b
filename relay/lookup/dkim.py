"""What DNS has of a key that signs mail. RFC 6376 section 3.6.2.

Aliases are followed: many keys are published with a CNAME to who keeps the record. What a record says of a key is
decided in `relay.policy.dkim_match`.
"""

from __future__ import annotations

from relay.lookup.resolver import Answer, LookupFailed, NotFound, Resolver
from relay.policy.dkim_match import Comparison, Missing, PublicKey, compare
from relay.signing.keys import SigningKey


async def compare_with_dns(resolver: Resolver, key: SigningKey, reports: bool) -> Comparison | LookupFailed:
    """Ask for the record of `key`. LookupFailed: it is not known what DNS has. `reports`: as for `compare`."""
    found = await resolver.txt(key.record_name)
    match found:
        case LookupFailed():
            return found
        case NotFound(canonical=name):
            return Missing(None if name == key.record_name else name)
        case Answer(records=texts):
            return compare(texts, PublicKey(key.algorithm.key_type, key.public), reports)
