"""The reporting part of the service: on with an organization, off without."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from report_endpoint import CA

from relay import reporting as module
from relay.events import DefectFound, Event, TlsReportsFailed, TlsReportsUnsigned
from relay.guard import AddressGuard
from relay.policy.tls_report import PolicyType, ReportedPolicy, Tally
from relay.reporting import Reporting, Ways, reporter
from relay.settings import Settings
from relay.tls import https_context
from relay.tlsrpt.reader import of_day, of_domain
from relay.tlsrpt.report import Reporter
from relay.tlsrpt.store import FILE_NAME, KEEP

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
ON = {"organization": "Example Inc.", "contact": "tls@c.example"}
GOOD = Tally("a.example", ReportedPolicy(PolicyType.NO_POLICY_FOUND, "a.example"))


def settings(**tlsrpt: Any) -> Settings:
    return Settings.model_validate({"tlsrpt": tlsrpt})


def part(folder: Path, given: Settings, events: list[Event], now: datetime = NOW) -> Reporting:
    return Reporting(given, folder, lambda: now, events.append, lambda tally: None)


async def test_without_an_organization_there_is_nothing(tmp_path: Path) -> None:
    events: list[Event] = []
    reporting = part(tmp_path, settings(contact="tls@c.example"), events)
    assert reporting.count is None
    await reporting.open()
    await reporting.tidy()
    await reporting.close()
    assert (events, list(tmp_path.iterdir())) == ([], [])


async def test_with_one_sessions_are_counted_and_forgotten_in_time(tmp_path: Path) -> None:
    events: list[Event] = []
    reporting = part(tmp_path, settings(**ON), events)
    await reporting.open()
    assert reporting.count is not None
    reporting.count((GOOD, GOOD))
    await reporting.close()
    assert of_day(tmp_path, date(2030, 1, 1)).totals == {"a.example": (2, 0)}
    later = part(tmp_path, settings(**ON), events, NOW + KEEP + timedelta(days=1))
    await later.open()
    await later.tidy()
    await later.close()
    assert of_domain(tmp_path, date(2030, 1, 1), "a.example").counts == ()
    assert events == []


async def test_a_file_that_cannot_be_used_does_not_keep_the_service_from_starting(tmp_path: Path) -> None:
    events: list[Event] = []
    (tmp_path / FILE_NAME).mkdir()
    reporting = part(tmp_path, settings(**ON), events)
    await reporting.open()
    assert reporting.count is not None
    reporting.count((GOOD,))
    await reporting.tidy()
    await reporting.close()
    assert [type(event) for event in events] == [TlsReportsFailed, TlsReportsFailed]


async def test_a_defect_is_told_of_and_stops_neither_the_service_nor_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REST_SECONDS", 0.0)
    events: list[Event] = []
    reporting = part(tmp_path, settings(**ON, spread="1s"), events, NOW + timedelta(days=1))
    await reporting.open()
    await reporting._store.add({(NOW.date(), GOOD): 1})
    ways = Ways(cast("Any", None), AddressGuard(True), https_context(CA.pem), "r.example", *cast("Any", [None] * 3))
    running = asyncio.create_task(reporting.send(ways))
    async with asyncio.timeout(5):
        while sum(isinstance(event, DefectFound) for event in events) < 2:
            await asyncio.sleep(0)
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
    await reporting.close()
    assert {type(event) for event in events} == {TlsReportsUnsigned, DefectFound}
    assert of_day(tmp_path, NOW.date()).totals == {"a.example": (1, 0)}


async def test_who_reports() -> None:
    assert reporter(settings()) is None
    assert reporter(settings(**ON)) == Reporter("Example Inc.", "tls@c.example", "c.example")
    found = reporter(settings(**ON, sender="tls@s.example"))
    assert found == Reporter("Example Inc.", "tls@c.example", "s.example")
