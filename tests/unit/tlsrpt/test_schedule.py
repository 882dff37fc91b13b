"""When reports are begun, and tried again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.tlsrpt.schedule import PATIENCE, REST, Schedule, again, end_of, is_too_late

DAY = date(2026, 12, 31)
MIDNIGHT = datetime(2027, 1, 1, tzinfo=UTC)
HOURS = timedelta(hours=4)


def test_a_day_ends_at_midnight_in_utc() -> None:
    assert end_of(DAY) == MIDNIGHT


@given(st.text(max_size=20), st.timedeltas(timedelta(), timedelta(days=1)))
def test_a_moment_lies_within_the_spread_and_stays(domain: str, spread: timedelta) -> None:
    moment = Schedule(spread, "a.test").moment(DAY, domain)
    assert MIDNIGHT + REST <= moment <= MIDNIGHT + REST + spread
    assert moment == Schedule(spread, "a.test").moment(DAY, domain)


def test_moments_are_spread_evenly() -> None:
    moments = [Schedule(HOURS, "a.test").moment(DAY, f"d{number}.test") for number in range(4000)]
    by_hour = [
        sum(MIDNIGHT + REST + n * HOURS / 4 <= one < MIDNIGHT + REST + (n + 1) * HOURS / 4 for one in moments)
        for n in range(4)
    ]
    assert min(by_hour) > 800


def test_another_sender_and_another_day_have_other_moments() -> None:
    one = Schedule(HOURS, "a.test").moment(DAY, "x.test")
    assert Schedule(HOURS, "b.test").moment(DAY, "x.test") != one
    assert Schedule(HOURS, "a.test").moment(date(2026, 12, 30), "x.test") != one - timedelta(days=1)


def test_waits_grow_and_end_within_patience() -> None:
    now = MIDNIGHT
    waits: list[float] = []
    while (until := again(MIDNIGHT, len(waits) + 1, now)) is not None:
        waits.append((until - now) / timedelta(minutes=1))
        now = until
    assert waits == [15, 30, 60, 120, 240, 480, 480, 480]
    assert now - MIDNIGHT <= PATIENCE


@given(st.integers(1, 10_000), st.timedeltas(timedelta(), timedelta(days=10)))
def test_a_next_try_is_later_than_now(attempts: int, since: timedelta) -> None:
    until = again(MIDNIGHT, attempts, MIDNIGHT + since)
    assert until is None or MIDNIGHT + since < until <= MIDNIGHT + PATIENCE


@pytest.mark.parametrize(("after", "late"), [(0, False), (47.9, False), (48, True), (1000, True)])
def test_too_late(after: float, late: bool) -> None:
    assert is_too_late(DAY, MIDNIGHT + timedelta(hours=after)) is late
