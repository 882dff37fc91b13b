"""Counts sessions for TLS reports: in memory at once, on disk within about a second. docs/tls-reports.md.

A dictionary takes what each delivery adds; once a second its content goes to the store in one transaction. Nothing
here raises or waits for the disk. A process that is killed loses the last second's counts, and no mail waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime

from relay.events import Emit, TlsReportsFailed
from relay.policy.tls_report import Fault, ReportedPolicy, Tally
from relay.tlsrpt.store import ReportStore, ReportStoreError
from relay.write_behind import WriteBehind

MOST_IN_MEMORY = 10_000  # different sessions that are not on disk, while the file cannot be written
LONGEST_TEXT = 255  # characters of each text of a fault
LONGEST_POLICY = 16 << 10  # characters of a policy; ordinary ones have some hundreds
_WRITE_AFTER_SECONDS = 1.0

Pending = dict[tuple[date, Tally], int]


class Counts:
    """What was counted, on its way to `store`. For one event loop. `show` is told of each session, for the metrics."""

    def __init__(self, store: ReportStore, emit: Emit, show: Callable[[Tally], None]) -> None:
        self._store = store
        self._emit = emit
        self._show = show
        self._pending: Pending = {}
        self._behind = WriteBehind(self._write, _WRITE_AFTER_SECONDS)
        self._works = True
        self._day = date.min
        self._told_on = date.min
        self._lost = 0

    def add(self, tallies: Iterable[Tally], now: datetime) -> None:
        """Count sessions that were made now (in UTC), one for each tally."""
        pending, day = self._pending, now.date()
        self._day = day
        for tally in tallies:
            self._show(tally)
            key = (day, bounded(tally))
            if key in pending:
                pending[key] += 1
            elif len(pending) < MOST_IN_MEMORY:
                pending[key] = 1
            else:
                self._lost += 1
        if pending:
            self._behind.soon()

    async def write(self) -> None:
        """Write what is in memory alone."""
        await self._behind.now()

    async def _write(self) -> None:
        while self._pending:
            taken, self._pending = self._pending, {}
            try:
                no_room = await self._store.add(taken)
            except ReportStoreError as error:
                self._put_back(taken)
                if self._works:  # once is enough
                    self._emit(TlsReportsFailed(f"{error}; sessions are counted in memory until it can"))
                self._works = False
                return
            self._works = True
            self._tell_lost(no_room)

    def _put_back(self, taken: Mapping[tuple[date, Tally], int]) -> None:
        newer, self._pending = self._pending, dict(taken)
        for key, number in newer.items():
            if key in self._pending or len(self._pending) < MOST_IN_MEMORY:
                self._pending[key] = self._pending.get(key, 0) + number
            else:
                self._lost += number

    def _tell_lost(self, no_room: int) -> None:
        self._lost += no_room
        if self._lost and self._told_on != self._day:  # once a day is enough
            self._told_on = self._day
            self._emit(TlsReportsFailed(f"{self._lost} sessions are in no report: there are too many different ones"))
            self._lost = 0


def bounded(tally: Tally) -> Tally:
    """The same, with no text longer than a report may have, and in characters that every reader of JSON knows.

    Hosts and policies are strangers' words.
    """
    policy, fault = tally.policy, tally.fault
    if _is_fine(policy) and (fault is None or all(map(_is_short, _texts(fault)))):
        return tally
    return replace(tally, policy=_cut_policy(policy), fault=None if fault is None else _cut_fault(fault))


def _is_short(text: str) -> bool:
    return len(text) <= LONGEST_TEXT and text.isascii()


def _is_fine(policy: ReportedPolicy) -> bool:
    lines = (*policy.strings, *policy.mx)
    return sum(map(len, lines)) + len(lines) <= LONGEST_POLICY and all(map(str.isascii, lines))


def _texts(fault: Fault) -> tuple[str, ...]:
    return fault.reason, fault.host, fault.helo, fault.address, fault.source


def _cut_fault(fault: Fault) -> Fault:
    return Fault(fault.result, *(_clean(text)[:LONGEST_TEXT] for text in _texts(fault)))


def _cut_policy(policy: ReportedPolicy) -> ReportedPolicy:
    """Whole lines from the first on; of the hosts as many as there is still room for."""
    left = LONGEST_POLICY
    kept: tuple[list[str], list[str]] = ([], [])
    for lines, all_lines in zip(kept, (policy.strings, policy.mx), strict=True):
        for line in all_lines:
            left -= len(line) + 1
            if left < 0:
                break
            lines.append(_clean(line))
    return replace(policy, strings=tuple(kept[0]), mx=tuple(kept[1]))


def _clean(text: str) -> str:
    """Without halves of characters, which are octets that were no UTF-8."""
    return text.encode("utf-8", "replace").decode()
