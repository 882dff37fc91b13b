"""The worker when much happens at once: nothing is stuck, nothing is tried twice, nothing spins."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from worker_desk import DELIVERED, LATER, NOON, Desk, desk, make_message

from relay.events import DefectFound, DestinationReached, DestinationRests, StoreFailed
from relay.mail.outcome import Cause, Deferred, Outcome, State
from relay.mail.status import Kind, Reply, Status
from relay.policy.limits import LimitEntry
from relay.queue.control import Act, Action
from relay.queue.database import FILE_NAME
from relay.queue.selection import QueueFilter
from relay.queue.store import Rest

pytestmark = pytest.mark.asyncio

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
LEASE = timedelta(minutes=30)
DOWN = Deferred(Status(Kind.TEMPORARY, 4, 1), "connection refused", "mx.test", cause=Cause.OUTAGE)
BUSY = Deferred(
    Status(Kind.TEMPORARY, 4, 5), "too many", "mx.test", Reply.of(421, ("too many",)), cause=Cause.THROTTLING
)


RESULTS: list[Outcome | Exception] = [DOWN, DOWN, BUSY, LATER, DELIVERED]


def at_rest(at: Desk) -> bool:
    """Whether the worker holds nothing, and knows it."""
    worker = at.worker
    return (worker.under_way, worker._promised, len(worker._tasks)) == (0, 0, 0) and not any(
        lane.waiting or lane.running or lane.deliverers or lane.promised for lane in worker._lanes
    )


async def come_to_rest(at: Desk) -> None:
    for _ in range(100):
        if at_rest(at):
            return
        await at.calm()
    raise AssertionError("something is stuck")


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_comes_everything_arrives_in_the_end(seed: int, tmp_path: Path) -> None:
    """Mail comes in both ways while destinations go up and down, slow down, and operators look in."""
    chance = random.Random(seed)
    domains = ["a.test", "b.test", "c.test", "slow.test"]
    entries = [LimitEntry(("slow.test",), per_minute=30), LimitEntry(("c.test",), at_once=1)]
    number = 0
    held_for = timedelta(0)

    async with desk(tmp_path, total=chance.choice([3, 12, 40]), entries=entries) as at:

        def new() -> Any:
            nonlocal number
            number += 1
            to = chance.sample(domains, chance.randint(1, 3))
            return make_message(number, *[f"{number}@{domain}" for domain in to], sender=f"{number % 3}@sender.test")

        async def admit() -> None:
            await asyncio.gather(*(at.worker.admit(new()) for _ in range(chance.randint(1, 4))))

        async def put() -> None:
            await at.store.put([new() for _ in range(chance.randint(1, 15))])

        async def change() -> None:
            at.courier.results[chance.choice(domains)] = chance.choice(RESULTS)

        async def shut() -> None:
            at.courier.shut(chance.choice(domains))

        async def let_go() -> None:
            at.courier.let_all_go()
            at.courier._gates.clear()

        async def time() -> None:
            nonlocal held_for
            by = chance.choice([SECOND, 20 * SECOND, 2 * MINUTE, 16 * MINUTE])
            held_for = held_for + by if at.worker.under_way else timedelta(0)
            if held_for < LEASE - MINUTE:  # leases are renewed by a clock that nobody moves here
                at.pass_time(by)

        async def retry() -> None:
            await at.store.controls.perform(Action(Act.RETRY, QueueFilter(), "root"), at.now, lambda *_: None)

        async def pause() -> None:
            await at.store.next_due((), at.now)

        steps: list[Callable[[], Awaitable[None]]] = [
            *(admit, put, change, shut, let_go, let_go, time, time, retry, pause)
        ]
        at.start()
        for _ in range(60):
            await chance.choice(steps)()
            assert at.worker._free() >= 0
        await let_go()
        at.courier.results.clear()
        for _ in range(200):
            await at.calm()
            if all(entry.state is State.DELIVERED for entry in await at.entries()):
                break
            at.pass_time(SECOND if at.worker.under_way else chance.choice([20 * SECOND, 16 * MINUTE]))
        assert {entry.state for entry in await at.entries()} == {State.DELIVERED}
        delivered = [event for event in at.events if getattr(event, "state", "") == "delivered"]
        assert len(delivered) == len(await at.entries())
        await come_to_rest(at)
        assert await at.store.rests() == {}


@pytest.mark.parametrize("why", ["full", "rests", "told to rest", "rate", "lease", "nothing"])
async def test_it_does_not_spin(why: str, tmp_path: Path) -> None:
    """With mail that is due and cannot be taken, it waits for news."""
    entries = [LimitEntry(("slow.test",), per_minute=1)]
    async with desk(tmp_path, total=30, per_lane=1, entries=entries) as at:
        at.courier.shut("full.test")
        at.courier.results["rests.test"] = DOWN
        domain = {"rate": "slow.test", "told to rest": "told.test"}.get(why, f"{why}.test")
        if why == "told to rest":
            await at.store.rest(domain, Rest(NOON + MINUTE, NOON, 1, "4.4.1", "no", "outage"))
        if why != "nothing":
            await at.store.put([make_message(number, f"{number}@{domain}") for number in range(1, 21)])
        if why == "lease":
            assert len(await at.store.claim(100, LEASE, NOON, {}, 100)) == 20
        calls = 0
        claim = at.store.claim

        async def counted(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            return await claim(*args)

        at.store.claim = counted  # type: ignore[assignment,method-assign]
        at.start()
        await at.calm()
        await at.calm()
        before = calls
        for _ in range(30):
            await at.store.find(None, history=False)
        assert calls - before <= 2


async def test_a_wait_that_fails_is_told(tmp_path: Path) -> None:
    """It says so, and asks again after a while."""
    lost: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    async with desk(tmp_path) as at:
        at.start()
        await at.calm()
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as somebody:
            somebody.execute("ALTER TABLE recipient RENAME TO elsewhere")
            await at.until(lambda: bool(at.seen(StoreFailed)))
            somebody.execute("ALTER TABLE elsewhere RENAME TO recipient")
        await at.store.put([make_message(1, "b@a.test")])
        await at.settled(1)
    gc.collect()
    assert lost == []


async def test_a_rest_that_cannot_be_written_down_keeps_nothing_back(tmp_path: Path) -> None:
    async with desk(tmp_path, defects=True) as at:
        await plant(at, "BEFORE INSERT ON main.rest")
        at.courier.results["down.test"] = DOWN
        await at.store.put([make_message(number, f"{number}@down.test") for number in range(1, 13)])
        at.start()
        await at.settled(12)
        await come_to_rest(at)
        assert len(at.courier.begun) == 12
        assert at.seen(DestinationRests) == []
        assert at.seen(DefectFound)


async def test_a_reach_that_cannot_be_written_down_is_written_next_time(tmp_path: Path) -> None:
    async with desk(tmp_path, defects=True) as at:
        await at.store.rest("down.test", Rest(NOON + MINUTE, NOON, 1, "4.4.1", "no", "outage"))
        at.start()
        await at.calm()
        await plant(at, "BEFORE DELETE ON main.rest")
        at.pass_time(MINUTE)
        await at.store.put([make_message(1, "1@down.test")])
        await at.until(lambda: bool(at.seen(DefectFound)))
        await come_to_rest(at)
        assert set(await at.store.rests()) == {"down.test"}
        assert at.seen(DestinationReached) == []
        await at.store._running.run(lambda transaction: bool(transaction.connection.execute("DROP TRIGGER planted")))
        await at.store.put([make_message(2, "2@down.test"), make_message(3, "3@down.test")])
        await at.settled(3)
        await come_to_rest(at)
        assert await at.store.rests() == {}
        assert len(at.seen(DestinationReached)) == 1


async def plant(at: Desk, when: str) -> None:
    """From now on the queue fails there."""
    statement = f"CREATE TEMP TRIGGER planted {when} BEGIN SELECT RAISE(ABORT, 'planted'); END"
    await at.store._running.run(lambda transaction: bool(transaction.connection.execute(statement)))


async def test_a_stop_while_claims_go_back_and_others_come(tmp_path: Path) -> None:
    """Stopping, resting, admitting and claiming at once: everything is in the queue after it, due, and not counted."""
    for moment in range(6):
        folder = tmp_path / str(moment)
        folder.mkdir()
        async with desk(folder, total=40) as at:
            at.courier.shut("down.test")
            at.courier.results["down.test"] = DOWN
            await at.store.put([make_message(number, f"{number}@down.test") for number in range(1, 31)])
            at.start()
            await at.begun(5)
            at.courier.let_go("down.test")
            coming = [
                asyncio.create_task(at.worker.admit(make_message(number, f"{number}@b.test", f"{number}@down.test")))
                for number in (41, 42)
            ]
            for _ in range(moment):
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                await at.worker.stop(MINUTE)
                assert at.running is not None
                await at.running
            await asyncio.gather(*coming)
            assert at_rest(at)
            tried = {claim.id.number for claim in at.courier.begun if claim.destination == "down.test"}
            for entry in await at.entries():
                if entry.recipient.endswith("@down.test"):
                    expected = (State.DEFERRED, 1) if entry.id.number in tried else (State.QUEUED, 0)
                    assert (entry.state, entry.attempts) == expected


@pytest.mark.parametrize("verb", ["put_claimed", "claim"])
async def test_nothing_begins_in_a_rest(verb: str, tmp_path: Path) -> None:
    """What was on its way from the queue when the rest began goes back; it would be tried, and make it longer."""
    async with desk(tmp_path, total=50) as at:
        at.courier.shut("down.test")
        at.courier.results["down.test"] = DOWN
        for number in range(1, 6):
            await at.worker.admit(make_message(number, f"{number}@down.test"))
        await at.begun(5)
        arrived, slow = asyncio.Event(), asyncio.Event()
        answer = getattr(at.store, verb)

        async def late(*args: Any) -> Any:
            found = await answer(*args)
            arrived.set()
            await slow.wait()
            return found

        setattr(at.store, verb, late)
        more = make_message(11, "11@down.test")
        if verb == "claim":
            await at.store.put([more])
            at.start()
            coming = None
        else:
            coming = asyncio.create_task(at.worker.admit(more))
        async with asyncio.timeout(10):
            await arrived.wait()
        at.courier.let_go("down.test")
        await at.until(lambda: bool(at.seen(DestinationRests)))
        slow.set()
        if coming is not None:
            await coming
        await come_to_rest(at)
        assert at.courier.order() == [1, 2, 3, 4, 5]
        assert len(at.seen(DestinationRests)) == 1
        assert (await at.states())["11@down.test"] == "queued 0"


async def test_mail_that_comes_while_other_mail_goes_back_is_not_stuck(tmp_path: Path) -> None:
    """The only deliverer gives back what the rate does not allow, and meanwhile a minute passes."""
    async with desk(tmp_path, per_lane=1, entries=[LimitEntry(("slow.test",), per_minute=1)]) as at:
        arrived, slow = asyncio.Event(), asyncio.Event()
        release = at.store.release

        async def late(*args: Any) -> Any:
            arrived.set()
            await slow.wait()
            return await release(*args)

        at.store.release = late  # type: ignore[assignment,method-assign]
        await at.store.put([make_message(number, f"{number}@slow.test") for number in (1, 2, 3)])
        at.start()
        async with asyncio.timeout(10):
            await arrived.wait()
        at.pass_time(MINUTE)
        await at.calm()
        assert at.courier.order() == [1]
        slow.set()
        await at.settled(2)
