"""How the worker ends: what has not begun goes back into the queue, what runs may finish, and nothing runs for ever."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from worker_desk import FIRST_NOTICE, NEVER, NOON, PATIENCE_SECONDS, Desk, desk, make_message

from relay.events import NoticeQueued, StoreFailed

LONG = timedelta(minutes=1)  # longer than a test may take: nothing here waits for its end
SHORT = timedelta(seconds=0.05)


async def stopped(at: Desk, grace: timedelta) -> None:
    """Stop it, and see that its loop ends."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await at.worker.stop(grace)
        if at.running is not None:
            await at.running


@pytest.mark.asyncio
@pytest.mark.parametrize("grace", [LONG, timedelta(0)])
async def test_with_nothing_to_do(grace: timedelta, tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.start()
        await at.calm()
        await stopped(at, grace)


@pytest.mark.asyncio
async def test_what_has_not_begun_goes_back_and_what_runs_may_finish(tmp_path: Path) -> None:
    """Back means: due since it came, ahead of later mail, and the attempt that was none is not counted."""
    async with desk(tmp_path, per_lane=1) as at:
        at.courier.shut()
        await at.store.put([make_message(number, f"{number}@a.test") for number in (1, 2, 3)])
        at.start()
        await at.begun(1)
        await at.calm()  # until the next one is ready as well
        at.now += timedelta(minutes=1)
        stopping = asyncio.create_task(stopped(at, LONG))
        await at.calm()
        assert not stopping.done()
        at.courier.let_go()
        await stopping
        assert await at.states() == {"1@a.test": "delivered 1", "2@a.test": "queued 0", "3@a.test": "queued 0"}
        assert at.courier.order() == [1]
        assert (await at.entries())[1].next_attempt == NOON


@pytest.mark.asyncio
async def test_what_takes_too_long_is_cut(tmp_path: Path) -> None:
    """Its attempt stays counted and its lease stays: nobody knows what the host has taken."""
    async with desk(tmp_path) as at:
        at.courier.shut("slow.test")
        at.start()
        await at.worker.admit(make_message(1, "b@slow.test"))
        await at.worker.admit(make_message(2, "b@quick.test"))
        await at.settled(1)
        await stopped(at, SHORT)
        assert at.courier.running[""] == 0
        assert await at.states() == {"b@slow.test": "queued 1", "b@quick.test": "delivered 1"}
        assert await at.store.next_due((), NOON) == NOON + timedelta(minutes=30)


@pytest.mark.asyncio
async def test_mail_that_comes_after_the_end_is_kept_in_the_queue(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.start()
        await stopped(at, LONG)
        await at.worker.admit(make_message(1, "b@a.test"))
        assert await at.states() == {"b@a.test": "queued 0"}
        assert at.courier.order() == []


@pytest.mark.asyncio
async def test_mail_that_is_being_stored_at_the_end_goes_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        admitting = asyncio.create_task(at.worker.admit(make_message(1, "b@a.test", "b@c.test")))
        await asyncio.sleep(0)
        await stopped(at, LONG)
        await admitting
        assert await at.states() == {"b@a.test": "queued 0", "b@c.test": "queued 0"}
        assert at.courier.order() == []


@pytest.mark.asyncio
async def test_mail_that_is_being_claimed_at_the_end_goes_back(tmp_path: Path) -> None:
    """Otherwise it begins after the end, without a limit on how long it may take."""
    async with desk(tmp_path) as at:
        await at.store.put([make_message(1, "b@a.test")])
        at.start()
        await asyncio.sleep(0)  # the loop has asked the queue, which answers from its thread
        await stopped(at, LONG)
        assert at.courier.order() == []
        assert await at.states() == {"b@a.test": "queued 0"}


@pytest.mark.asyncio
async def test_a_lane_that_ends_meanwhile(tmp_path: Path) -> None:
    async with desk(tmp_path, total=40, per_lane=4) as at:
        at.courier.shut("a.test")
        at.courier.shut("c.test")
        await at.store.put([make_message(number, f"{number}@a.test") for number in range(1, 15)])
        await at.store.put([make_message(15, "b@c.test")])
        at.start()
        await at.begun(5)
        at.courier.let_go("c.test")
        stopping = asyncio.create_task(stopped(at, LONG))
        await at.settled(1)
        await at.calm()
        at.courier.let_go("a.test")
        await stopping
        assert sorted(at.courier.order()) == [1, 2, 3, 4, 15]


@pytest.mark.asyncio
async def test_nothing_begins_after_the_end(tmp_path: Path) -> None:
    async with desk(tmp_path, total=40, per_lane=4) as at:
        at.courier.shut()
        await at.store.put([make_message(number, f"{number}@a.test") for number in range(1, 15)])
        at.start()
        await at.begun(4)
        at.courier.let_go()
        await stopped(at, LONG)
        assert at.courier.order() == [1, 2, 3, 4]


@pytest.mark.asyncio
@pytest.mark.usefixtures("impatient")
async def test_a_notice_whose_id_is_taken_gets_another(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.worker.admit(make_message(FIRST_NOTICE + 1, "old@old.test"))
        await at.settled(1)
        at.start()
        at.courier.results = {"a.test": NEVER}
        await at.worker.admit(make_message(1, "b@a.test"))  # its notice gets the id of the old message
        await at.until(lambda: bool(at.seen(NoticeQueued)))
        assert at.seen(StoreFailed)
        await stopped(at, LONG)
        assert (await at.states())["b@a.test"] == "failed 1"
