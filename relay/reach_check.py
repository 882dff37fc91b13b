"""Calls the hosts that mail would go to, for `relay check`: connects, reads the greeting and hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address

from relay.findings import Called
from relay.guard import AddressGuard
from relay.health import Asked, greeting_problem
from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import LookupFailed, Resolver
from relay.policy.mx import MailHosts, MxHost, NullMx
from relay.settings import HostPort

GREETING_SECONDS = 30.0
_MOST_HOSTS = 3  # of a domain: they show what there is to see


async def mail_hosts(resolver: Resolver, domain: str, port: int) -> list[HostPort] | str:
    """The first mail hosts of a domain, or why there is none, in words."""
    found = await find_destination(resolver, domain)
    match found:
        case MailHosts(hosts=hosts):
            return [HostPort(host=host.name, port=port) for host in hosts[:_MOST_HOSTS]]
        case NullMx():
            return f"{domain} takes no mail (null MX)"
        case _:
            return found.reason


async def call(resolver: Resolver, guard: AddressGuard, hosts: Iterable[HostPort]) -> list[Called]:
    """Call each address of these hosts that mail would go to."""
    return await asyncio.gather(*(_call(resolver, guard, host) for host in hosts))


async def _call(resolver: Resolver, guard: AddressGuard, host: HostPort) -> Called:
    try:
        addresses: tuple[str, ...] = (str(ip_address(host.host)),)
    except ValueError:
        found = await find_addresses(resolver, MxHost(host.host))
        if not isinstance(found, MxHost):
            problem = found.reason if isinstance(found, LookupFailed) else "it has no address"
            return Called(host, (), (problem,))
        addresses = found.addresses
    problems = await asyncio.gather(*(_problem(guard, address, host.port) for address in addresses))
    answered = tuple(address for address, problem in zip(addresses, problems, strict=True) if problem is None)
    return Called(host, answered, tuple(problem for problem in problems if problem is not None))


async def _problem(guard: AddressGuard, address: str, port: int) -> str | None:
    refusal = guard.refusal(address)  # mail would not go there either
    if refusal is not None:
        return f"{refusal}: mail goes there only with delivery.allow_private_addresses"
    problem = await greeting_problem(Asked(HostPort(host=address, port=port)), GREETING_SECONDS)
    return None if problem is None else f"{address}: {problem}"
