"""Mail that is not tried: it expires, its sender is told that it is late, and no clock keeps it for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from worker_desk import LATER, NOON, Desk, desk, make_message

from relay.delivery.reviews import EVERY_SECONDS, JUMP, Reviewer, has_jumped, pause
from relay.events import DefectFound, NoticeQueued
from relay.mail.message import MessageId
from relay.mail.outcome import Cause, Deferred, State
from relay.mail.record import AttemptRecord
from relay.mail.status import Kind, Status
from relay.policy.retry import OnUnknown, Schedule, Schedules, settle
from relay.queue.store import Rest

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SCHEDULES = Schedules(Schedule((5 * MINUTE, HOUR), 5 * DAY), notices=(4 * HOUR, DAY))
DOWN = Rest(NOON + 10 * DAY, NOON, 9, "4.4.1", "mx.a.test: connection refused", Cause.OUTAGE.value)
LOST = Deferred(Status(Kind.TEMPORARY, 4, 2), "the reply was lost", "mx.a.test", cause=Cause.UNKNOWN)


async def rest(at: Desk) -> None:
    """It is still down."""
    await at.store.rest("a.test", replace(DOWN, until=at.now + 10 * MINUTE))


async def look(at: Desk) -> None:
    await Reviewer(at.store, at.office).look()


async def notices(at: Desk) -> list[str]:
    return [event.kind for event in at.events if isinstance(event, NoticeQueued)]


async def hold(at: Desk) -> None:
    """Message 1 is put and held by its own settlement."""
    await at.store.put((make_message(1, "b@a.test"),))
    (claim,) = await at.store.claim(1, HOUR, NOON, {}, 1)
    schedules = replace(SCHEDULES, on_unknown=OnUnknown.HOLD)
    held = settle(claim, {0: LOST}, schedules, NOON, 0.5)
    await at.store.settle(claim, held, (), NOON, record=AttemptRecord(), began=NOON)


@pytest.mark.parametrize(
    ("schedules", "seconds"),
    [
        (SCHEDULES, EVERY_SECONDS),
        (replace(SCHEDULES, notices=(timedelta(seconds=20),)), 5),
        (replace(SCHEDULES, by_cause={Cause.DNS: Schedule((HOUR,), timedelta(seconds=40))}), 10),
        (replace(SCHEDULES, general=Schedule((HOUR,), timedelta(seconds=1))), 1),
    ],
)
def test_short_ages_are_looked_for_more_often(schedules: Schedules, seconds: float) -> None:
    assert pause(schedules) == seconds


@pytest.mark.asyncio
async def test_mail_for_a_destination_that_rests_is_late_and_expires(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        await at.store.put((make_message(1, "b@a.test"),))
        for age, told in ((4 * HOUR - MINUTE, 0), (4 * HOUR, 1), (5 * HOUR, 1), (DAY + MINUTE, 2), (3 * DAY, 2)):
            at.now = NOON + age
            await rest(at)
            await look(at)
            assert await notices(at) == ["delay"] * told, age
        assert (await at.states())["b@a.test"] == "queued 0"
        at.now = NOON + 5 * DAY + MINUTE
        await rest(at)
        await look(at)
        assert await notices(at) == ["delay", "delay", "failure"]
        entry = next(one for one in await at.entries() if one.recipient == "b@a.test")
        assert (entry.state, entry.status) == (State.FAILED, "5.4.1")
        assert "connection refused" in (entry.reason or "")
        assert at.courier.begun == []


@pytest.mark.asyncio
async def test_mail_on_hold_is_late_and_expires(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        await hold(at)
        at.now = NOON + 4 * HOUR
        await look(at)
        assert await notices(at) == ["delay"]
        assert (await at.states())["b@a.test"] == "held 1"
        at.now = NOON + 5 * DAY
        await look(at)
        assert (await at.states())["b@a.test"] == "failed 1"


@pytest.mark.asyncio
async def test_mail_on_hold_waits_for_ever_when_it_is_to(tmp_path: Path) -> None:
    for_ever = Schedules(SCHEDULES.general, expire_held=False)
    async with desk(tmp_path, schedules=for_ever) as at:
        await hold(at)
        at.now = NOON + 400 * DAY
        await look(at)
        assert await at.states() == {"b@a.test": "held 1"}


@pytest.mark.asyncio
async def test_what_can_be_tried_is_left_to_its_attempt(tmp_path: Path) -> None:
    """The last try comes at the end of life itself; a review must not be quicker."""
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        await at.store.put((make_message(1, "b@a.test"),))
        (claim,) = await at.store.claim(1, HOUR, NOON, {}, 1)
        almost = NOON + 5 * DAY - MINUTE
        deferred = settle(claim, {0: LATER}, SCHEDULES, almost, 0.5)
        await at.store.settle(claim, deferred, (), almost, record=AttemptRecord(), began=almost)
        at.now = NOON + 5 * DAY
        await look(at)
        assert (await at.states())["b@a.test"] == "deferred 1"
        assert len(await at.store.claim(1, HOUR, at.now, {}, 1)) == 1


@pytest.mark.asyncio
async def test_what_is_under_way_is_left_alone(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        await at.store.put((make_message(1, "b@a.test"),))
        at.now = NOON + 6 * DAY
        assert len(await at.store.claim(1, HOUR, at.now, {}, 1)) == 1
        await look(at)
        assert await at.states() == {"b@a.test": "queued 1"}


@pytest.mark.asyncio
async def test_a_clock_that_was_set_back_keeps_no_mail_waiting(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(1)
        at.now = NOON - 30 * DAY
        await look(at)
        (entry,) = await at.entries()
        assert entry.next_attempt is not None
        assert entry.next_attempt <= at.now + 2 * HOUR


@pytest.mark.asyncio
async def test_a_hundred_and_more_expire_together(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        await at.store.put([make_message(number, f"{number}@a.test", sender=None) for number in range(1, 251)])
        await at.store.rest("a.test", DOWN)
        at.now = NOON + 6 * DAY
        await look(at)
        assert set((await at.states()).values()) == {"failed 0"}


@pytest.mark.asyncio
async def test_a_clock_that_was_set_back_lets_no_destination_rest_for_ever(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES) as at:
        await rest(at)
        at.now = NOON - 30 * DAY
        await at.store.put((make_message(1, "b@a.test", arrived=at.now),))
        await look(at)
        assert (await at.store.rests())["a.test"].until <= at.now + 2 * HOUR
        assert await at.store.claim(1, HOUR, at.now, {}, 1) == ()
        assert len(await at.store.claim(1, HOUR, at.now + 2 * HOUR, {}, 1)) == 1


@pytest.mark.asyncio
async def test_a_defect_in_a_review_keeps_no_other_mail_from_its_end(tmp_path: Path) -> None:
    async with desk(tmp_path, schedules=SCHEDULES, defects=True) as at:
        await at.store.put([make_message(number, f"{number}@a.test") for number in (1, 2)])
        await at.store.rest("a.test", DOWN)
        at.now = NOON + 6 * DAY
        ids = iter((RuntimeError("a mistake"), MessageId(77)))

        def new_id() -> MessageId:
            found = next(ids)
            if isinstance(found, Exception):
                raise found
            return found

        await Reviewer(at.store, replace(at.office, new_id=new_id)).look()
        states = await at.states()
        assert (states["1@a.test"], states["2@a.test"]) == ("queued 0", "failed 0")
        assert [event.where for event in at.seen(DefectFound)] == [f"review of {MessageId(1)}"]


@pytest.mark.asyncio
async def test_what_breaks_every_attempt_expires_all_the_same(tmp_path: Path) -> None:
    """Between two attempts nobody has it, so that a review may, or an operator."""
    async with desk(tmp_path, schedules=SCHEDULES, defects=True) as at:
        at.courier.results = {"a.test": RuntimeError("a mistake")}
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.until(lambda: bool(at.seen(DefectFound)))
        await at.calm()
        (entry,) = await at.entries()
        assert (entry.under_way, entry.attempts, entry.next_attempt) == (False, 1, NOON + HOUR / 2)
        at.now = NOON + 5 * DAY + MINUTE
        at.start()
        await at.begun(2)
        await at.calm()
        await look(at)
        assert (await at.states())["b@a.test"] == "failed 2"
        assert await notices(at) == ["failure"]


@pytest.mark.parametrize(
    ("passed", "jumped"),
    [
        (timedelta(seconds=30), False),
        (timedelta(seconds=30) + JUMP, False),  # a busy machine
        (timedelta(seconds=31) + JUMP, True),
        (7 * DAY, True),  # it slept: mail that is past its life now is tried first
        (-DAY, False),  # what waits for a time that far away is to be brought forward
    ],
)
def test_a_clock_that_went_ahead_is_noticed(passed: timedelta, jumped: bool) -> None:
    assert has_jumped(NOON, NOON + passed, 30.0) is jumped
