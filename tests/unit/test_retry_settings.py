"""[retry]: what the settings become for the decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from relay.config import reference
from relay.mail.outcome import Cause
from relay.policy.retry import OnUnknown, Schedule, Schedules, first_review, longest_wait
from relay.settings import Settings

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BY_CAUSE = [cause for cause in Cause if cause is not Cause.OTHER]


def schedules(**given: Any) -> Schedules:
    return Settings.model_validate({"retry": given}).retry.schedules


def test_every_cause_has_its_own_schedule_and_its_names_are_those_of_settings() -> None:
    made, settings = schedules(), {entry.name for entry in reference()}
    assert made.by_cause.keys() == set(BY_CAUSE)
    for cause in BY_CAUSE:
        named = made.by_cause[cause].named
        assert named == f"retry.{cause.value.replace('-', '_')}_schedule" and named in settings
        assert made.by_cause[cause].expire_named in settings
    assert (made.general.named, made.general.expire_named) == ("retry.schedule", "retry.expire")
    assert made.of(Cause.OTHER) == made.of(None) == made.general


@pytest.mark.parametrize("cause", BY_CAUSE, ids=lambda cause: cause.value)
def test_the_defaults_begin_soon_grow_and_leave_time_for_several_attempts(cause: Cause) -> None:
    schedule = schedules().of(cause)
    assert MINUTE <= schedule.delays[0] <= HOUR
    assert all(first <= second for first, second in pairwise(schedule.delays))
    assert 2 * DAY <= schedule.expire <= 5 * DAY
    assert sum(schedule.delays, timedelta()) < schedule.expire


@pytest.mark.parametrize("cause", BY_CAUSE, ids=lambda cause: cause.value)
def test_each_can_be_set_and_left_to_the_general_value(cause: Cause) -> None:
    name = cause.value.replace("-", "_")
    made = schedules(**{f"{name}_schedule": ["7m"], f"{name}_expire": "30h"})
    own = Schedule((7 * MINUTE,), 30 * HOUR, f"retry.{name}_schedule", f"retry.{name}_expire")
    assert made.of(cause) == own
    assert all(made.of(other) == schedules().of(other) for other in Cause if other is not cause)
    left = schedules(schedule=["9m"], expire="3d", **{f"{name}_schedule": [], f"{name}_expire": ""})
    assert left.of(cause) == left.general == Schedule((9 * MINUTE,), 3 * DAY)


def test_no_cause_keeps_mail_longer_than_all_mail_is_kept() -> None:
    made = schedules(expire="1d", outage_expire="10d")
    assert {made.of(cause).expire for cause in Cause} == {DAY}
    assert {made.of(cause).expire_named for cause in Cause} == {"retry.expire"}


def test_delay_notices_are_put_in_order() -> None:
    assert schedules(delay_notice=["2d", "4h", "1d"]).notices == (4 * HOUR, DAY, 2 * DAY)
    assert schedules().notices == (4 * HOUR,)
    assert first_review(datetime(2026, 1, 1, tzinfo=UTC), schedules()) == datetime(2026, 1, 1, 4, tzinfo=UTC)


def test_the_rest_of_the_section() -> None:
    assert (schedules().on_unknown, schedules().expire_held) == (OnUnknown.RETRY, True)
    other = schedules(unknown="fail", expire_held=False)
    assert (other.on_unknown, other.expire_held) == (OnUnknown.FAIL, False)
    assert longest_wait(schedules()) == 4.4 * HOUR
