"""The addresses of web hosts that strangers name: those that our resolver finds and our guard lets pass, for aiohttp.

What is checked is the very address that is then connected to. aiohttp asks no resolver about a host that is an IP
address: whoever takes URLs from strangers must refuse those himself.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from relay.guard import AddressGuard
from relay.lookup.resolver import Answer, LookupFailed, Resolver

_MOST_ADDRESSES = 6


class _NoAddress(OSError):  # noqa: N818  (the name says it)
    """The host has no address that we may connect to."""


class GuardedResolver(AbstractResolver):
    """Gives aiohttp the addresses that our resolver finds and our guard lets pass."""

    def __init__(self, resolver: Resolver, guard: AddressGuard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Good addresses of `host`, of both families. Raises OSError with a clause for a person when there is none."""
        found = await asyncio.gather(self._resolver.aaaa(host), self._resolver.a(host))
        answers = [one for one in found if isinstance(one, Answer)]
        failures = [one for one in found if isinstance(one, LookupFailed)]
        addresses = [address for answer in answers for address in answer.records]
        refusals = [self._guard.refusal(address) for address in addresses]
        good = [address for address, refusal in zip(addresses, refusals, strict=True) if refusal is None]
        if any(failure.bogus for failure in failures) or not good:
            reasons = [failure.reason for failure in failures] + [refusal for refusal in refusals if refusal]
            raise _NoAddress(reasons[0] if reasons else "it has no address")
        return [_resolved(host, address, port) for address in good[:_MOST_ADDRESSES]]

    async def close(self) -> None:
        """Nothing to close: the resolver is shared."""


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=flags)
