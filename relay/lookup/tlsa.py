"""From a host to what DANE asks of it: which name's TLSA records count, and which of them SMTP can use.

Facts only; `relay.policy.verdict` decides what follows. The host's addresses were looked up before
(`relay.lookup.destination.find_addresses`): a host whose addresses are not signed is never asked for TLSA records,
as many servers of unsigned zones fail on such questions. RFC 7672 sections 2.1, 2.2 and 3.2.2.
"""

from __future__ import annotations

from relay.lookup.resolver import Answer, LookupFailed, NotFound, Resolver
from relay.policy.mx import MxHost
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaRecord, TlsaResult, UnusableTlsa, UsableTlsa, usable


async def find_tlsa(resolver: Resolver, host: MxHost, port: int, next_hop: str | None = None) -> TlsaResult:
    """What the TLSA records for `port` (TCP) of `host`, with addresses, ask for.

    `next_hop` is the domain whose MX records named the host; None when it was given in another way. A host named by
    an answer that was not validated (`mx_secure` False) is looked at all the same: its own records then protect the
    session as far as they can (Postfix's "half-dane").
    """
    if not resolver.trusted:
        return NoTlsa("the DNS resolver is not trusted to validate DNSSEC")
    for base in _base_domains(host):
        found = await resolver.tlsa(f"_{port}._tcp.{base}")
        match found:
            case LookupFailed():
                # RFC 7672 §2.1.2: an error at a signed step is no absence; the other name must not be tried either
                return TlsaLookupFailed(found.reason, found.bogus)
            case Answer(secure=True):
                return await _from_records(resolver, host, base, found.records, next_hop)
            case Answer() | NotFound():
                pass  # RFC 7672 §2.2: records that were not validated count as none
    return NoTlsa(_why_none(host, port))


def _base_domains(host: MxHost) -> tuple[str, ...]:
    """RFC 7672 §2.2.2: the name after CNAMEs first, if all of the chain is signed, then the name as the MX gives it."""
    if host.secure:
        return tuple(dict.fromkeys((host.expanded or host.name, host.name)))
    return (host.name,) if host.alias_secure else ()


async def _from_records(
    resolver: Resolver, host: MxHost, base: str, records: tuple[TlsaRecord, ...], next_hop: str | None
) -> TlsaResult:
    good = tuple(record for record in records if usable(record))
    if not good:
        return UnusableTlsa(base, records)
    # RFC 7672 §3.2.2: the base domain; only a validated MX answer makes the domain it was asked for a name of the host
    names = [base, host.name]
    if next_hop is not None and host.mx_secure:
        names += [next_hop, await _expanded_next_hop(resolver, next_hop)]
    others = tuple(record for record in records if record not in good)
    return UsableTlsa(base, tuple(dict.fromkeys(names)), good, others)


async def _expanded_next_hop(resolver: Resolver, next_hop: str) -> str:
    """The name that the MX records were found at, when that is known to be signed; from the cache as a rule."""
    found = await resolver.mx(next_hop)
    return found.canonical if not isinstance(found, LookupFailed) and found.secure else next_hop


def _why_none(host: MxHost, port: int) -> str:
    bases = _base_domains(host)
    if not bases:
        return f"the addresses of {host.name} are not signed (DNSSEC)"
    names = " or ".join(f"_{port}._tcp.{base}" for base in bases)
    return f"there are no signed TLSA records at {names}"
