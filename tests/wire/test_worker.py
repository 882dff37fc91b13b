"""The delivery loop with the real queue: how much runs at once, whose turn it is, and what goes in at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from worker_desk import NOON, desk, make_message

from relay.queue.store import StoreUnavailable
from relay.queue.visitor import open_reader


def on_disk(folder: Path) -> dict[str, int]:
    """The attempts of each open recipient, as another process sees them."""
    with closing(open_reader(folder)) as reader:
        return {entry.recipient: entry.attempts for entry in reader.find(None, history=False)}


@pytest.mark.asyncio
async def test_no_more_than_the_total_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path, total=3) as at:
        at.courier.shut()
        await at.store.put([make_message(number, f"b@{number}.test") for number in range(1, 9)])
        at.start()
        await at.begun(3)
        await at.calm()
        assert len(at.courier.begun) == 3
        at.courier.let_go()
        await at.settled(8)
        assert at.courier.most[""] == 3


@pytest.mark.asyncio
async def test_recipients_are_under_way_from_the_claim_until_they_are_settled(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.shut()
        await at.store.put([make_message(1, "a@x.test", "b@x.test", "c@y.test"), make_message(2, "d@x.test")])
        at.start()
        await at.begun(3)
        assert at.worker.under_way == 4
        at.courier.let_go()
        await at.settled(4)
        await at.calm()
        assert at.worker.under_way == 0


@pytest.mark.asyncio
async def test_no_more_than_its_share_to_one_destination(tmp_path: Path) -> None:
    """In the order in which they came, and other destinations do not wait for it."""
    async with desk(tmp_path, total=10, per_lane=2) as at:
        at.courier.shut("slow.test")
        await at.store.put([make_message(number, "b@slow.test") for number in range(1, 7)])
        at.start()
        await at.begun(2)
        await at.store.put([make_message(7, "b@quick.test")])
        await at.settled(1)
        await at.calm()
        assert at.courier.order() == [1, 2, 7]
        at.courier.let_go("slow.test")
        await at.settled(7)
        assert at.courier.order() == [1, 2, 7, 3, 4, 5, 6]
        assert at.courier.most["slow.test"] == 2


@pytest.mark.asyncio
async def test_a_slow_destination_with_much_mail_leaves_room_for_others(tmp_path: Path) -> None:
    async with desk(tmp_path, total=10, per_lane=2) as at:
        at.courier.shut("slow.test")
        await at.store.put([make_message(number, "b@slow.test") for number in range(1, 16)])
        await at.store.put([make_message(16, "b@quick.test")])
        at.start()
        await at.until(lambda: 16 in at.courier.order(), seconds=2)


@pytest.mark.asyncio
async def test_room_that_comes_free_is_used(tmp_path: Path) -> None:
    """A lane that was full is looked at again, though nothing new has come into the queue."""
    async with desk(tmp_path, total=20, per_lane=1) as at:
        at.courier.shut("a.test")
        await at.store.put([make_message(1, "b@a.test"), make_message(2, "b@a.test")])
        at.start()
        await at.begun(1)
        await at.store.put([make_message(number, "b@a.test") for number in (3, 4, 5)])
        await at.calm()
        assert on_disk(tmp_path) == {"b@a.test": 0}  # of five messages the last one is shown; it is not claimed
        at.courier.let_go("a.test")
        await at.settled(5)
        assert at.courier.order() == [1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_one_lane_for_all_mail(tmp_path: Path) -> None:
    """With a next hop all mail goes to one place: its share is that of one destination, whatever the domains."""
    async with desk(tmp_path, total=10, per_lane=2, shared=True) as at:
        at.courier.shut()
        await at.store.put([make_message(number, f"b@{number}.test") for number in range(1, 8)])
        at.start()
        await at.begun(2)
        await at.calm()
        assert at.courier.order() == [1, 2]
        assert sum(on_disk(tmp_path).values()) == 4  # two run and two are ready; the others stay in the queue
        at.courier.let_go()
        await at.settled(7)
        assert (at.courier.most[""], at.courier.order()) == (2, [1, 2, 3, 4, 5, 6, 7])


@pytest.mark.asyncio
async def test_what_has_been_due_longest_comes_first(tmp_path: Path) -> None:
    async with desk(tmp_path, total=1) as at:
        ages = {1: 1, 2: 30, 3: 20, 4: 10}
        await at.store.put(
            [
                make_message(number, f"b@{number}.test", arrived=NOON - timedelta(minutes=age))
                for number, age in ages.items()
            ]
        )
        at.start()
        await at.settled(4)
        assert at.courier.order() == [2, 3, 4, 1]


@pytest.mark.asyncio
async def test_nothing_is_claimed_twice(tmp_path: Path) -> None:
    """Mail that comes both ways at once, to few lanes with little room."""
    async with desk(tmp_path, total=7, per_lane=2) as at:
        at.start()
        messages = [
            make_message(number, f"b@{number % 5}.test", f"c@{number % 5}.test", f"d@{number % 3}.example")
            for number in range(1, 61)
        ]
        await asyncio.gather(
            *(at.worker.admit(message) if message.id.number % 2 else at.store.put([message]) for message in messages)
        )
        await at.settled(180)
        await at.calm()
        assert Counter((claim.id.number, claim.destination) for claim in at.courier.begun) == Counter(
            {(message.id.number, domain): 1 for message in messages for domain in _domains(message.id.number)}
        )
        assert {(entry.state.value, entry.attempts) for entry in await at.entries()} == {("delivered", 1)}
        assert at.courier.most[""] <= 7
        assert max(at.courier.most[f"{number}.test"] for number in range(5)) <= 2


def _domains(number: int) -> tuple[str, str]:
    return f"{number % 5}.test", f"{number % 3}.example"


# `admit`: without `start`, so that whatever begins has not gone by way of the queue.


@pytest.mark.asyncio
async def test_admitted_mail_goes_straight_into_an_attempt(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.shut()
        await at.worker.admit(make_message(1, "b@a.test", "c@a.test", "b@c.test"))
        assert on_disk(tmp_path) == {"b@a.test": 1, "c@a.test": 1, "b@c.test": 1}
        await at.begun(2)
        assert {claim.destination: len(claim.recipients) for claim in at.courier.begun} == {"a.test": 2, "c.test": 1}
        at.courier.let_go()
        await at.settled(3)
        assert on_disk(tmp_path) == {}


@pytest.mark.asyncio
async def test_without_room_it_stays_in_the_queue_for_its_turn(tmp_path: Path) -> None:
    async with desk(tmp_path, total=1) as at:
        at.courier.shut()
        for number in (1, 2, 3):
            await at.worker.admit(make_message(number, f"b@{number}.test"))
        assert on_disk(tmp_path) == {"b@1.test": 1, "b@2.test": 0, "b@3.test": 0}
        at.courier.let_go()
        await at.settled(1)
        assert at.courier.order() == [1]
        at.start()
        await at.settled(3)
        assert at.courier.order() == [1, 2, 3]


@pytest.mark.asyncio
async def test_a_full_lane_and_too_many_destinations(tmp_path: Path) -> None:
    async with desk(tmp_path, total=4, per_lane=1) as at:
        at.courier.shut("a.test")
        for number in (1, 2, 3):
            await at.worker.admit(make_message(number, f"{number}@a.test"))
            await at.begun(1)
        await at.worker.admit(make_message(4, "b@b.test", "c@c.test", "d@d.test"))
        assert on_disk(tmp_path) == {
            "1@a.test": 1,  # under way
            "2@a.test": 1,  # ready
            "3@a.test": 0,
            "b@b.test": 0,  # there is room for two of the three: it stays together
            "c@c.test": 0,
            "d@d.test": 0,
        }
        await at.worker.admit(make_message(5, "e@e.test", "f@f.test"))
        await at.settled(2)
        assert at.courier.order() == [1, 5, 5]


@pytest.mark.asyncio
async def test_one_lane_for_all_admitted_mail(tmp_path: Path) -> None:
    async with desk(tmp_path, total=10, per_lane=1, shared=True) as at:
        at.courier.shut()
        for number in (1, 2, 3):
            await at.worker.admit(make_message(number, f"b@{number}.test"))
        assert on_disk(tmp_path) == {"b@1.test": 1, "b@2.test": 1, "b@3.test": 0}
        await at.begun(1)
        assert at.courier.order() == [1]


@pytest.mark.asyncio
async def test_room_is_promised_while_the_message_is_stored(tmp_path: Path) -> None:
    async with desk(tmp_path, total=2) as at:
        at.courier.shut()
        await asyncio.gather(*(at.worker.admit(make_message(number, f"b@{number}.test")) for number in range(1, 7)))
        assert sum(on_disk(tmp_path).values()) == 2
        await at.begun(2)
        assert at.courier.order() == [1, 2]


@pytest.mark.asyncio
async def test_a_message_that_cannot_be_stored_takes_no_room(tmp_path: Path) -> None:
    """The failure comes out, so that the client is told; the room is for the next one."""
    async with desk(tmp_path, total=1) as at:
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(1)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="taken"):
                await at.worker.admit(make_message(1, "b@a.test"))
        at.courier.shut()
        await at.worker.admit(make_message(2, "b@a.test"))
        await at.begun(2)
        with pytest.raises(StoreUnavailable, match="taken"):  # without room, too
            await at.worker.admit(make_message(1, "b@a.test"))


@pytest.mark.asyncio
async def test_a_caller_that_is_cancelled_takes_no_room(tmp_path: Path) -> None:
    """What it stored all the same comes back at the end of its lease."""
    async with desk(tmp_path, total=1) as at:
        admitting = asyncio.create_task(at.worker.admit(make_message(1, "b@a.test")))
        await asyncio.sleep(0)
        admitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await admitting
        await at.worker.admit(make_message(2, "b@a.test"))
        await at.settled(1)
        at.start()
        await at.calm()
        assert at.courier.order() == [2]
        at.pass_time(timedelta(minutes=30))
        await at.settled(2)
        assert at.courier.order() == [2, 1]
