"""From a domain to the MTA-STS policy in force for it: the TXT record, the cache, and when to fetch.

The rule that matters: what was fetched holds until it expires or another policy is fetched. Neither a missing record
nor a failing policy host ends it, as an attacker can bring about both. The fetch itself is in `relay.lookup.sts_fetch`,
the grammar in `relay.policy.sts`, and whether a session satisfies a policy is decided in `relay.policy.verdict`.

RFC 8461 sections 3.1 (the record), 3.3 (fetching) and 5.1 (applying).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from relay.events import Emit, PolicyChanged, PolicyFetched, PolicyFetchFailed
from relay.lookup.inflight import InFlight
from relay.lookup.resolver import Answer, LookupFailed, NotFound, Resolver
from relay.lookup.sts_cache import StsCache, StsCacheError, StsEntry
from relay.lookup.sts_fetch import PolicyFetcher
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsPolicy, StsResult, StsUnknown, parse_record

BACK_OFF = timedelta(minutes=5)  # after a failed fetch; RFC 8461 section 3.3
_NOTE_USE_EVERY = timedelta(days=1)
REFRESH_AFTER = timedelta(days=1)  # or half of the policy's life, if that is less; RFC 8461 section 3.3
UNUSED_AFTER = timedelta(days=180)
WAIT_AFTER_LOSS = timedelta(days=1)  # for policies that cannot be fetched, when it is not known which there were
_LOSS = ""  # in the cache, in place of a domain: when it was seen that policies were lost


@dataclass(frozen=True, slots=True)
class _NotAnnounced:
    """DNS gives no policy id: why, and what that means when no policy is in force from before."""

    reason: str
    meaning: StsResult


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
        return await self._find(domain, anew=False, used=True)

    async def refresh(self, domain: str) -> StsResult:
        """The same, but fetched even when the domain announces no new id, unless a fetch was made just now."""
        return await self._find(domain, anew=True, used=True)

    async def keep_fresh(self, draw: Callable[[], float]) -> None:
        """Fetch anew each policy well before it expires, and forget those that no mail has used for half a year.

        To be called again and again. `draw` gives random numbers from 0 to below 1, so that not all fall due at once.
        """
        try:
            entries = await self._cache.all()
        except StsCacheError:
            return  # whoever needs a policy finds out, and says so
        for domain, entry in entries.items():
            now = self._clock()
            live = _live(entry, now)
            if now - entry.used_at >= UNUSED_AFTER:
                await self._cache.forget(domain)
            elif live is not None:
                after = min(live.policy.max_age / 2, REFRESH_AFTER) * (0.5 + draw() / 2)
                if now >= live.fetched_at + after:
                    await self._find(domain, anew=True, used=False)

    async def close(self) -> None:
        """Give up all fetches that run."""
        await self._fetches.close()

    async def _find(self, domain: str, *, anew: bool, used: bool) -> StsResult:
        if not domain or domain.startswith("["):
            return NoSts()  # RFC 8461 §3: policies belong to domains
        announced = await self._announced(domain)
        try:
            entry = await self._cache.get(domain)
        except StsCacheError as error:
            if isinstance(announced, _NotAnnounced):
                return StsUnknown(f"{error}, and {announced.reason}")  # what is in force there is not known
            entry = None
        # no await from here to the put or the fetch: `entry` must be the newest when it is replaced
        now = self._clock()
        live = _live(entry, now)
        if isinstance(announced, _NotAnnounced):
            if live is None:
                meaning = announced.meaning
                return await self._without(meaning) if isinstance(meaning, StsFetchFailed) else meaning
            live = replace(live, stale_reason=announced.reason)  # RFC 8461 §3.1: this alone does not end a policy
        elif anew or live is None or live.id != announced:
            failure = _backing_off(entry, now, announced)
            if failure is not None:
                return await self._after_failure(live, failure)
            if live is not None and live.id == announced and now - live.fetched_at < BACK_OFF:
                return live  # this is what `refresh` wants
            used_at = now if used or entry is None else entry.used_at
            return await self._fetches.run(domain, lambda: self._fetch(domain, announced, used_at))
        if used and entry is not None and now - entry.used_at >= _NOTE_USE_EVERY:
            await self._cache.put(domain, replace(entry, used_at=now))
        return live

    async def _announced(self, domain: str) -> str | _NotAnnounced:
        """The policy id in the domain's TXT record."""
        name = f"_mta-sts.{domain}"
        found = await self._resolver.txt(name)
        match found:
            case LookupFailed(reason, bogus):
                return _NotAnnounced(reason, StsUnknown(reason, bogus) if bogus else StsFetchFailed(reason))
            case NotFound():
                return _NotAnnounced(f"there is no TXT record at {name}", NoSts())
            case Answer(records):
                return parse_record(records) or _NotAnnounced(f"there is no one valid record at {name}", NoSts())

    async def _fetch(self, domain: str, policy_id: str, used_at: datetime) -> StsResult:
        outcome = await self._fetcher.fetch(domain)
        now = self._clock()
        try:
            entry = await self._cache.get(domain)
        except StsCacheError as error:
            if not isinstance(outcome, StsPolicy):
                return StsUnknown(f"{outcome.reason}, and {error}")
            entry = None
        live = _live(entry, now)
        if isinstance(outcome, StsPolicy):
            found = StsFound(outcome, policy_id, now)
            await self._cache.put(domain, StsEntry(used_at, found))
            self._emit(PolicyFetched(domain, policy_id, outcome.mode.value))
            if live is not None and live.id == policy_id and live.policy != outcome:
                self._emit(PolicyChanged(domain, policy_id))
            return found
        await self._cache.put(domain, StsEntry(used_at, entry.found if entry else None, now, outcome, policy_id))
        self._emit(PolicyFetchFailed(domain, outcome.reason, live.id if live else None))
        return await self._after_failure(live, outcome)

    async def _after_failure(self, live: StsFound | None, failed: StsFetchFailed) -> StsResult:
        # RFC 8461 §3.3: the old policy stays in force while it lasts; without one it is as if there were no policy
        if live is None:
            return await self._without(failed)
        return replace(live, stale_reason=failed.reason, stale_problem=failed.problem)

    async def _without(self, failed: StsFetchFailed) -> StsResult:
        """What it means that there is no policy to be had, and none from before.

        When the cache was damaged, one may have been in force: that can't be decided, so mail waits for a while.
        """
        lost_at = await self._policies_lost_at()
        if lost_at is None or self._clock() - lost_at >= WAIT_AFTER_LOSS:
            return failed
        return StsUnknown(f"{failed.reason}, and the policies that were fetched before are lost (damaged file)")

    async def _policies_lost_at(self) -> datetime | None:
        """When it was seen that damage has cost policies, in this run of the service or before."""
        now = self._clock()
        try:
            entry = await self._cache.get(_LOSS)
        except StsCacheError:
            return now
        if self._cache.lost:
            self._cache.lost = False  # from here on the entry says so
            entry = StsEntry(now, failed_at=now, failure=StsFetchFailed("the file was damaged"))
            await self._cache.put(_LOSS, entry)
        return None if entry is None else entry.failed_at


def _live(entry: StsEntry | None, now: datetime) -> StsFound | None:
    """The policy that is in force: fetched, and not expired. RFC 8461 §3.2: max_age counts from the fetch."""
    if entry is None or entry.found is None or now >= entry.found.fetched_at + entry.found.policy.max_age:
        return None
    return entry.found


def _backing_off(entry: StsEntry | None, now: datetime, policy_id: str) -> StsFetchFailed | None:
    """Why the last fetch of this version failed, if it is too early for another. RFC 8461 §3.3: for each id."""
    if entry is None or entry.failed_at is None or entry.failed_id != policy_id:
        return None
    if not timedelta(0) <= now - entry.failed_at < BACK_OFF:
        return None
    return entry.failure
