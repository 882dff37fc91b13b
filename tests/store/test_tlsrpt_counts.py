"""Counting for TLS reports: in memory at once, on disk soon after, and never in the way of delivery."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from relay.events import Event, TlsReportsFailed
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy, Tally
from relay.tlsrpt import counts as module
from relay.tlsrpt import tables
from relay.tlsrpt.counts import LONGEST_POLICY, LONGEST_TEXT, Counts, bounded
from relay.tlsrpt.store import ReportStore

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 23, 59, 59, tzinfo=UTC)
DAY = date(2030, 1, 1)
NONE = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "a.example")
GOOD = Tally("a.example", NONE)
BAD = Tally("a.example", NONE, Fault(ReportResult.STARTTLS_NOT_SUPPORTED, host="mx.a.example"))


class Desk:
    """Counts over a file in a folder, and all that they told."""

    def __init__(self, folder: Path) -> None:
        self.events: list[Event] = []
        self.shown = Counter[Tally]()
        self.store = ReportStore(folder, lambda reason: self.events.append(TlsReportsFailed(reason)))
        self.counts = Counts(self.store, self.events.append, lambda tally: self.shown.update([tally]))

    async def close(self) -> None:
        await self.counts.write()
        await self.store.close()

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, TlsReportsFailed)]


def of(number: int) -> Tally:
    return Tally(f"{number}.example", NONE)


async def test_what_is_counted_is_on_disk_at_the_end(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.counts.add((GOOD, BAD), NOW)
    desk.counts.add((GOOD,), NOW + timedelta(seconds=2))  # another day
    desk.counts.add((), NOW)
    assert await desk.store.totals(DAY) == {}  # nothing waits for the disk
    await desk.close()
    desk = Desk(tmp_path)
    assert await desk.store.totals(DAY) == {"a.example": (1, 1)}
    assert await desk.store.totals(DAY + timedelta(1)) == {"a.example": (1, 0)}
    await desk.close()
    assert desk.events == []


async def test_what_is_counted_is_on_disk_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WRITE_AFTER_SECONDS", 0.001)
    desk = Desk(tmp_path)
    for expected in (1, 2, 3):
        desk.counts.add((GOOD,), NOW)
        async with asyncio.timeout(20):
            while await desk.store.totals(DAY) != {"a.example": (expected, 0)}:
                await asyncio.sleep(0)
    await desk.close()
    assert desk.shown == {GOOD: 3}


async def test_a_file_that_cannot_be_written_is_told_of_once_and_tried_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "not")
    for _ in range(3):
        desk.counts.add((GOOD, BAD), NOW)
        await desk.counts.write()
    assert len(desk.reasons) == 1
    assert "counted in memory" in desk.reasons[0]
    (tmp_path / "not").mkdir()
    desk.counts.add((GOOD,), NOW)
    await desk.counts.write()
    assert await desk.store.totals(DAY) == {"a.example": (4, 3)}
    await desk.close()


async def test_memory_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IN_MEMORY", 3)
    desk = Desk(tmp_path / "not")
    desk.counts.add([of(number) for number in range(2)], NOW)
    await desk.counts.write()
    desk.counts.add([of(0), *(of(number) for number in range(2, 7))], NOW)
    desk.counts.add([of(0)], NOW)
    await desk.counts.write()
    (tmp_path / "not").mkdir()
    await desk.counts.write()
    assert await desk.store.totals(DAY) == {"0.example": (3, 0), "1.example": (1, 0), "2.example": (1, 0)}
    assert desk.reasons[1:] == ["4 sessions are in no report: there are too many different ones"]
    await desk.close()


async def test_what_there_is_no_room_for_is_told_of_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_DOMAINS", 1)
    desk = Desk(tmp_path)
    for now in (NOW, NOW, NOW + timedelta(days=1)):
        desk.counts.add([of(1), of(2), of(3)], now)
        await desk.counts.write()
    said = "sessions are in no report: there are too many different ones"
    assert desk.reasons == [f"2 {said}", f"4 {said}"]
    await desk.close()


async def test_texts_have_a_limit(tmp_path: Path) -> None:
    lines = tuple(f"mx: {'a' * 60}{number}.example" for number in range(1000))
    policy = ReportedPolicy(PolicyType.STS, "a.example", lines, lines)
    fault = Fault(ReportResult.VALIDATION_FAILURE, "x" * 9999, "h\udc80st", "ü")
    found = bounded(Tally("a.example", policy, fault))
    assert found.policy.strings == lines[: len(found.policy.strings)]
    assert LONGEST_POLICY - 400 < sum(map(len, found.policy.strings)) <= LONGEST_POLICY
    assert found.policy.mx == ()
    assert found.fault == Fault(ReportResult.VALIDATION_FAILURE, "x" * LONGEST_TEXT, "h?st", "ü")
    many = bounded(Tally("a.example", ReportedPolicy(PolicyType.STS, "a.example", ("",) * 99_999)))
    assert len(many.policy.strings) == LONGEST_POLICY
    assert bounded(BAD) is BAD
    desk = Desk(tmp_path)
    desk.counts.add([Tally("a.example", policy, fault)], NOW)
    await desk.counts.write()
    (counted,) = await desk.store.counts(DAY, "a.example")
    assert (counted.policy, counted.fault) == (found.policy, found.fault)
    await desk.close()
