"""From a domain to the hosts that take its mail, and from a host to its addresses; each step with its DNSSEC state.

Facts only: the order of hosts is made in `relay.policy.mx`, and what security means for delivery is decided in
`relay.policy.verdict`. Address literals never come here.

RFC 5321 section 5.1 (MX, implicit MX), RFC 7505 (null MX), RFC 7672 sections 2.1 and 2.2 (what is secure).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from relay.lookup.resolver import Answer, LookupFailed, Missing, MxRecord, NotFound, Resolver
from relay.mail.address import AddressError, parse_domain
from relay.policy.mx import Destination, DestinationLookupFailed, MailHosts, MxHost, NoSuchDomain, NullMx

_MOST_HOSTS = 20  # the best ones; no honest domain has more, and each costs several lookups
_MOST_ADDRESSES = 5  # of one host and family


async def find_destination(resolver: Resolver, domain: str) -> Destination:
    """The hosts that take mail for `domain` (lower-case A-labels), best first, without their addresses."""
    found = await resolver.mx(domain)
    match found:
        case LookupFailed():
            return DestinationLookupFailed(domain, found.reason, found.bogus)
        case NotFound(kind=Missing.NXDOMAIN):
            return NoSuchDomain(domain, _no_such_name(domain, found.canonical))
        case NotFound():
            return await _implicit_mx(resolver, domain, found.secure)
        case Answer():
            return _from_records(domain, found)


async def find_addresses(resolver: Resolver, host: MxHost) -> MxHost | LookupFailed | NotFound:
    """`host` with its addresses (IPv6 first), the name they were found at, and whether all that was validated.

    When only one family answers, it is used; but a failed validation makes the host unusable, as does a host that is
    an alias of which nobody can say whether it was signed.
    """
    v6, v4 = await asyncio.gather(resolver.aaaa(host.name), resolver.a(host.name))
    for found in (v6, v4):
        if isinstance(found, LookupFailed) and found.bogus:
            return found  # RFC 7672 §2.1.2: a bogus answer is an error, whatever the other family says
    answers = [found for found in (v6, v4) if isinstance(found, Answer)]
    if not answers:
        return _without_addresses(v6, v4)
    expanded = answers[0].canonical
    secure = all(answer.secure and answer.canonical == expanded for answer in answers)
    alias_secure = secure
    if not secure and expanded != host.name and resolver.trusted:
        # RFC 7672 §2.2.2: AD speaks of the whole chain; whether its first step was signed has to be asked by itself
        alias = await resolver.cname(host.name)
        if isinstance(alias, LookupFailed):
            return alias
        alias_secure = alias.secure
    addresses = tuple(address for answer in answers for address in answer.records[:_MOST_ADDRESSES])
    return replace(host, addresses=addresses, expanded=expanded, secure=secure, alias_secure=alias_secure)


async def _implicit_mx(resolver: Resolver, domain: str, secure: bool) -> Destination:
    """RFC 5321 §5.1: a domain without MX records, and with addresses, is its own mail host."""
    host = MxHost(domain, mx_secure=secure)
    found = await find_addresses(resolver, host)
    match found:
        case LookupFailed():
            return DestinationLookupFailed(domain, found.reason, found.bogus)
        case NotFound():
            return NoSuchDomain(domain, f"the domain {domain} has neither a mail host (MX) nor an address")
        case MxHost():
            return MailHosts(domain, (host,))


def _from_records(domain: str, found: Answer[MxRecord]) -> Destination:
    if [record.exchange for record in found.records] == ["."]:
        return NullMx(domain)  # RFC 7505 §3
    hosts: dict[str, MxHost] = {}
    for record in sorted(found.records, key=lambda record: record.preference):
        if _is_host_name(record.exchange):
            hosts.setdefault(record.exchange, MxHost(record.exchange, record.preference, found.secure))
    if not hosts:
        names = ", ".join(record.exchange for record in found.records[:3])
        return NoSuchDomain(domain, f"the MX records of {domain} name no possible host: {names}")
    return MailHosts(domain, tuple(hosts.values())[:_MOST_HOSTS])


def _is_host_name(exchange: str) -> bool:
    """Whether it can be a host at all: no root, no IP address put where a name belongs, no odd octets."""
    if exchange.startswith("[") or exchange.rpartition(".")[2].isdigit():
        return False
    try:
        parse_domain(exchange)
    except AddressError:
        return False
    return True


def _without_addresses(*found: Answer[str] | NotFound | LookupFailed) -> LookupFailed | NotFound:
    """What to say of a host when neither family has an address: failure before "no", "no such name" before "none"."""
    for failed in found:
        if isinstance(failed, LookupFailed):
            return failed
    missing = [one for one in found if isinstance(one, NotFound)]
    return next((one for one in missing if one.kind is Missing.NXDOMAIN), missing[0])


def _no_such_name(domain: str, canonical: str) -> str:
    if canonical == domain:
        return f"the domain {domain} does not exist"
    return f"the domain {domain} is an alias of {canonical}, which does not exist"
