"""From counts to reports: when a day is over, each domain is asked in DNS where it wants to be told of it.

Its counts become a report in the outbox, or are forgotten where nobody wants one; both in one transaction, so that a
crash neither doubles nor loses a session. What is in the outbox is sent by `relay.tlsrpt.outgoing`. A domain whose
record cannot be looked up is asked again and again, as `relay.tlsrpt.schedule` says. RFC 8460 sections 3 and 4.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TypeVar

from relay.events import Emit, TlsReportGivenUp, TlsReportsUnwanted
from relay.lookup.resolver import Answer, LookupFailed, Resolver
from relay.policy.tlsrpt_record import LABELS, TlsrptRecord, parse_tlsrpt
from relay.tlsrpt.asking import Told
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.outbox import NewReport
from relay.tlsrpt.report import Reporter, build_report, compress, encode, report_id
from relay.tlsrpt.schedule import Schedule, again, is_too_late
from relay.tlsrpt.store import ReportStore

AT_ONCE = 8  # lookups
_PLAN_EVERY = timedelta(minutes=10)  # days end, and counts of them come late

T = TypeVar("T")
R = TypeVar("R")

Key = tuple[date, str]  # a day, and a domain that is told of it


@dataclass(frozen=True, slots=True)
class Tools:
    """What it takes to make reports. `unique` gives letters and digits, never the same twice.

    `flush` writes what is counted and still in memory into the store.
    """

    store: ReportStore
    resolver: Resolver
    reporter: Reporter
    schedule: Schedule
    unique: Callable[[], str]
    clock: Callable[[], datetime]
    emit: Emit
    flush: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Made:
    """Its report is in the outbox, or (`id` None) there was nothing to tell."""

    id: str | None
    words: str = ""


_NOTHING = _Made(None, "nothing is counted of it")


@dataclass(frozen=True, slots=True)
class _Unwanted:
    """DNS says for sure that the domain wants none; `words` say how."""

    words: str


@dataclass(frozen=True, slots=True)
class _Unknown:
    """It could not be looked up whether it wants one."""

    words: str


class ReportSender:
    """Tells domains of days that have ended. Its verbs raise ReportStoreError, and may be called again then."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._plan: list[tuple[datetime, Key]] = []  # a heap
        self._planned: dict[Key, int] = {}  # how many lookups have failed
        self._planned_at: datetime | None = None

    async def tell_due(self) -> None:
        """Tell every domain whose moment has come."""
        try:
            await self._plan_ended_days()
            now = self._tools.clock()
            due = []
            while self._plan and self._plan[0][0] <= now:
                due.append(heapq.heappop(self._plan)[1])
            results = await _each(due, self._tell_in_time)
        except BaseException:
            self._forget_plan()  # it is made anew from what is on disk
            raise
        if unwanted := sum(isinstance(one, _Unwanted) for one in results):
            self._tools.emit(TlsReportsUnwanted(unwanted))

    async def tell_asked(self) -> None:
        """Tell the domains that another process wants to be told at once, of a day that may not be over."""
        store = self._tools.store
        for asked in await store.asked():
            await self._tools.flush()
            keys = [(asked.day, domain) for domain in asked.domains or await store.totals(asked.day)]
            told = {
                domain: Told(result.id if isinstance(result, _Made) else None, result.words)
                for (_, domain), result in zip(keys, await _each(keys, self._tell), strict=True)
            }
            await store.answer(asked.number, told)

    async def _plan_ended_days(self) -> None:
        now, before = self._tools.clock(), self._planned_at
        if before is not None and before <= now < before + _PLAN_EVERY:
            return
        waiting = set(await self._tools.store.waiting(now.date()))
        for key in waiting - self._planned.keys():
            self._planned[key] = 0
            heapq.heappush(self._plan, (self._tools.schedule.moment(*key), key))
        self._planned_at = now

    def _forget_plan(self) -> None:
        self._plan.clear()
        self._planned.clear()
        self._planned_at = None

    async def _tell_in_time(self, key: Key) -> _Made | _Unwanted | _Unknown:
        """Tell a domain; what can't be looked up is tried again, or given up."""
        failures = self._planned.pop(key)
        if is_too_late(key[0], self._tools.clock()):
            return await self._give_up(key, "it is too late: the day ended two days ago")
        result = await self._tell(key)
        if not isinstance(result, _Unknown):
            return result
        failures += 1
        until = again(self._tools.schedule.moment(*key), failures, self._tools.clock())
        if until is None:
            return await self._give_up(key, result.words)
        self._planned[key] = failures
        heapq.heappush(self._plan, (until, key))
        return result

    async def _give_up(self, key: Key, why: str) -> _Made:
        day, domain = key
        await self._tools.store.drop(day, domain, why, self._tools.clock())
        self._tools.emit(TlsReportGivenUp(domain, day.isoformat(), None, "none", None, why))
        return _Made(None, why)

    async def _tell(self, key: Key) -> _Made | _Unwanted | _Unknown:
        """Ask where the domain wants to be told, and make the report or forget the counts."""
        day, domain = key
        if not await self._tools.store.counts(day, domain):
            return _NOTHING  # it may have been told by hand
        found = await self._record(domain)
        now = self._tools.clock()
        match found:
            case TlsrptRecord():
                uris = tuple(place.uri for place in found.places)
                made = await self._tools.store.issue(
                    day, domain, lambda counts: self._report(day, counts, uris, now), now
                )
                return _NOTHING if made is None else _Made(made.id, "; ".join(found.ignored))
            case _Unwanted():
                await self._tools.store.drop(day, domain, found.words, now)
        return found

    async def _record(self, domain: str) -> TlsrptRecord | _Unwanted | _Unknown:
        if domain.startswith("["):
            return _Unwanted("it is an address, and has no record")
        found = await self._tools.resolver.txt(f"{LABELS}.{domain}")
        if isinstance(found, LookupFailed):
            return _Unknown(found.reason)
        record = parse_tlsrpt(found.records if isinstance(found, Answer) else ())
        return _Unwanted(record) if isinstance(record, str) else record

    def _report(self, day: date, counts: Iterable[Counted], uris: tuple[str, ...], now: datetime) -> NewReport:
        reporter = self._tools.reporter
        id = report_id(day, self._tools.unique(), reporter)
        return NewReport(id, compress(encode(build_report(id, day, counts, reporter))), uris, now)


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Do `work` for all, for some of them at once. The results, in order; raises when one did, after all have ended."""
    results: dict[int, R] = {}
    rest = iter(enumerate(items))

    async def drain() -> None:
        for number, item in rest:
            results[number] = await work(item)

    ends = await asyncio.gather(*(drain() for _ in range(min(AT_ONCE, len(items)))), return_exceptions=True)
    for end in ends:
        if end is not None:
            raise end
    return [results[number] for number in range(len(items))]
