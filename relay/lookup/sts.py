"""From a domain to the MTA-STS policy in force for it: the TXT record, the cache, and the fetch over HTTPS.

The rule that matters: what was fetched holds until it expires or another policy is fetched. Neither a missing record
nor a failing policy host ends it, as an attacker can bring about both. Whether a session satisfies a policy is decided
in `relay.policy.verdict`; the grammar is in `relay.policy.sts`.

RFC 8461 sections 3 (discovery), 3.3 (fetching), 5.1 (applying); RFC 6125 (the policy host's certificate).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from relay.events import Emit, PolicyFetched, PolicyFetchFailed
from relay.guard import AddressGuard
from relay.lookup.inflight import InFlight
from relay.lookup.resolver import Answer, LookupFailed, NotFound, Resolver
from relay.lookup.sts_cache import StsCache, StsCacheError, StsEntry
from relay.policy.sts import (
    MAX_POLICY_OCTETS,
    NoSts,
    StsFetchFailed,
    StsFound,
    StsPolicy,
    StsResult,
    StsSyntaxError,
    StsUnknown,
    parse_policy,
    parse_record,
)

BACK_OFF = timedelta(minutes=5)  # RFC 8461 §3.3: at least this long between failed fetches
FETCH_TIMEOUT = timedelta(seconds=60)  # for all of a fetch; RFC 8461 §3.3 suggests one minute
_NOTE_USE_EVERY = timedelta(days=1)


class StsFinder:
    """Finds policies. `clock` gives aware UTC; `emit` is told of every fetch."""

    def __init__(
        self,
        resolver: Resolver,
        cache: StsCache,
        fetcher: PolicyFetcher,
        clock: Callable[[], datetime],
        emit: Emit,
    ) -> None:
        self._resolver = resolver
        self._cache = cache
        self._fetcher = fetcher
        self._clock = clock
        self._emit = emit
        self._fetches: InFlight[str, StsResult] = InFlight()

    async def find(self, domain: str) -> StsResult:
        """The policy in force for `domain` (as Address.domain). Literals and the empty domain have none."""
        return await self._find(domain, anew=False)

    async def refresh(self, domain: str) -> StsResult:
        """The same, but the policy is fetched even if the domain announces no new one, unless a fetch just failed."""
        return await self._find(domain, anew=True)

    async def close(self) -> None:
        """Give up all fetches that run."""
        await self._fetches.close()

    async def _find(self, domain: str, anew: bool) -> StsResult:
        if not domain or domain.startswith("["):
            return NoSts()  # RFC 8461 §3: policies are published by domains
        announced = await self._announced(domain)
        try:
            entry = await self._cache.get(domain)
        except StsCacheError as error:
            entry, absent = None, StsUnknown(f"{error}, so a policy may be in force")
        else:
            absent = None
        live = _live(entry, self._clock())
        if isinstance(announced, str):
            if live is not None and live.id == announced and not anew:
                return await self._used(domain, live, entry)
            failure = _backing_off(entry, self._clock())
            if failure is not None:
                return _after_failure(live, failure)
            return await self._fetches.run(domain, lambda: self._fetch(domain, announced))
        if live is None:
            return absent if absent is not None and isinstance(announced, NoSts) else announced
        # RFC 8461 §3.1: the absence of a usable TXT record does not end a cached policy
        return await self._used(domain, replace(live, stale_reason=_stale_reason(announced)), entry)

    async def _announced(self, domain: str) -> str | NoSts | StsFetchFailed | StsUnknown:
        """The policy id in the domain's TXT record, or what it means that there is none, but for the cache."""
        found = await self._resolver.txt(f"_mta-sts.{domain}")
        match found:
            case LookupFailed(reason, bogus):
                return StsUnknown(reason) if bogus else StsFetchFailed(reason)
            case NotFound():
                return NoSts()
            case Answer():
                return parse_record(found.records) or NoSts()
