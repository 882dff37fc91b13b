"""What each destination is given: more while it works, nothing while it is down, and no more than the operator says."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from worker_desk import LATER, NOON, Desk, desk, make_message

from relay.events import DestinationReached, DestinationRests
from relay.mail.message import Claim, NewMessage
from relay.mail.outcome import Cause, Deferred, State
from relay.mail.record import Attempted, AttemptRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.limits import LimitEntry
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.control import Act, Action
from relay.queue.selection import QueueFilter
from relay.queue.store import Rest

pytestmark = pytest.mark.asyncio

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LEASE = timedelta(minutes=30)
DOWN = Deferred(Status(Kind.TEMPORARY, 4, 1), "connection refused", "mx.test", cause=Cause.OUTAGE)
BUSY = Deferred(
    Status(Kind.TEMPORARY, 4, 5), "too many", "mx.test", Reply.of(421, ("too many",)), cause=Cause.THROTTLING
)
REST = Rest(NOON + 10 * MINUTE, NOON - MINUTE, 4, "4.4.1", "connection refused", Cause.OUTAGE.value)


def mail(domain: str, count: int, first: int = 1) -> list[NewMessage]:
    return [make_message(number, f"{number}@{domain}") for number in range(first, first + count)]


def tried(at: Desk) -> Counter[str]:
    return Counter(claim.destination for claim in at.courier.begun)


async def answered(at: Desk, domain: str) -> None:
    """Let those that wait there go on, until as many as may be at once wait again."""
    at.courier.let_go(domain)
    at.courier.shut(domain)
    await at.calm()


# More and less


async def test_it_grows_with_each_success_up_to_the_most(tmp_path: Path) -> None:
    async with desk(tmp_path, total=100, per_lane=8) as at:
        at.courier.shut("a.test")
        await at.store.put(mail("a.test", 300))
        at.start()
        await at.begun(5)
        await at.calm()
        seen = [at.courier.running["a.test"]]
        for _ in range(12):
            await answered(at, "a.test")
            seen.append(at.courier.running["a.test"])
        assert seen[0] == 5
        assert seen == sorted(seen)
        assert seen[-1] == at.courier.most["a.test"] == 8


async def test_what_waits_gets_its_deliverer_when_there_may_be_more(tmp_path: Path) -> None:
    """Even if nothing more is claimed: of ten one has arrived, and six may be under way, not five."""
    async with desk(tmp_path, total=100, per_lane=20) as at:
        answers = {number: asyncio.Event() for number in range(1, 11)}
        begun: list[int] = []
        deliver = at.worker._deliver

        async def one_by_one(claim: Claim) -> Attempted:
            begun.append(claim.id.number)
            await answers[claim.id.number].wait()
            return await deliver(claim)

        at.worker._deliver = one_by_one
        await at.store.put(mail("a.test", 10))
        at.start()
        await at.calm()
        assert len(begun) == 5
        answers[1].set()
        await at.settled(1)
        await at.calm()
        assert len(begun) == 1 + 6
        for answer in answers.values():
            answer.set()
        await at.settled(10)


async def test_throttled_it_gets_half(tmp_path: Path) -> None:
    async with desk(tmp_path, total=100, per_lane=20) as at:
        at.courier.shut("a.test")
        await at.store.put(mail("a.test", 300))
        at.start()
        await at.begun(5)
        for _ in range(14):
            await answered(at, "a.test")
        before = at.courier.running["a.test"]
        assert before >= 8
        at.courier.results["a.test"] = BUSY
        await answered(at, "a.test")
        assert at.courier.running["a.test"] <= before // 2


# Rests


async def test_one_that_is_down_rests_and_the_others_go_on(tmp_path: Path) -> None:
    async with desk(tmp_path, total=50) as at:
        at.courier.results["down.test"] = DOWN
        await at.store.put(mail("down.test", 100) + mail("up.test", 100, first=200))
        at.start()
        await at.settled(103)
        await at.calm()
        first = tried(at)["down.test"]
        assert tried(at)["up.test"] == 100
        assert 3 <= first <= 5  # those that were under way together
        (rests,) = at.seen(DestinationRests)
        assert (rests.destination, rests.until, rests.rests) == ("down.test", NOON + MINUTE, 1)
        assert at.worker.under_way == 0
        for number, minutes in ((1, 1), (2, 2), (3, 4)):
            at.pass_time(minutes * MINUTE - SECOND)
            await at.calm()
            assert tried(at)["down.test"] == first + number - 1
            at.pass_time(SECOND)
            await at.begun(100 + first + number)
            await at.calm()
            assert tried(at)["down.test"] == first + number  # one, to see whether it is up
        assert [one.rests for one in at.seen(DestinationRests)] == [1, 2, 3, 4]
        assert (await at.store.rests())["down.test"].failures == 4


async def test_when_it_is_back_everything_goes_out(tmp_path: Path) -> None:
    async with desk(tmp_path, total=50) as at:
        at.courier.results["down.test"] = DOWN
        await at.store.put(mail("down.test", 100))
        at.start()
        await at.until(lambda: bool(at.seen(DestinationRests)))
        await at.calm()
        failed = tried(at)["down.test"]
        at.courier.results.clear()
        at.pass_time(MINUTE)
        await at.settled(100)  # all but those that failed, whose time comes later
        (reached,) = at.seen(DestinationReached)
        assert (reached.destination, reached.since) == ("down.test", NOON)
        assert await at.store.rests() == {}
        at.pass_time(5 * MINUTE)
        await at.settled(100 + failed)
        assert {entry.state for entry in await at.entries()} == {State.DELIVERED}


async def test_mail_that_comes_during_a_rest_is_stored_for_its_turn(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results["down.test"] = DOWN
        await at.store.put(mail("down.test", 10))
        at.start()
        await at.until(lambda: bool(at.seen(DestinationRests)))
        await at.calm()
        before = len(at.courier.begun)
        await at.worker.admit(make_message(50, "50@down.test", "50@up.test"))
        await at.until(lambda: tried(at)["up.test"] == 1)
        await at.calm()
        assert tried(at) == {"down.test": before, "up.test": 1}
        at.courier.results.clear()
        at.pass_time(MINUTE)
        await at.settled(before + 1 + (10 - before) + 1)
        assert at.courier.order()[-1] == 50  # those that waited were there first


async def test_a_restart_in_a_rest_does_not_try_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.store.rest("down.test", REST)
        await at.store.put(mail("down.test", 20) + mail("up.test", 1, first=50))
        at.start()
        await at.settled(1)
        await at.calm()
        assert tried(at) == {"up.test": 1}
        at.courier.shut("down.test")
        at.pass_time(10 * MINUTE)
        await at.begun(2)
        await at.calm()
        assert tried(at)["down.test"] == 1
        at.courier.let_go("down.test")
        await at.settled(21)
        (reached,) = at.seen(DestinationReached)
        assert reached.since == REST.since


async def test_a_rest_that_somebody_ends(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results["down.test"] = DOWN
        await at.store.put(mail("down.test", 10))
        at.start()
        await at.until(lambda: bool(at.seen(DestinationRests)))
        await at.calm()
        at.courier.results.clear()
        failed = len(at.courier.begun)
        at.now += SECOND
        await at.store.controls.perform(Action(Act.RETRY, QueueFilter(), "root"), at.now, lambda *_: None)
        await at.settled(failed + 10)
        assert len(at.seen(DestinationReached)) == 1
        assert {entry.state for entry in await at.entries()} == {State.DELIVERED}


async def test_of_many_that_fail_together_it_rests_once(tmp_path: Path) -> None:
    async with desk(tmp_path, total=50) as at:
        at.courier.shut("down.test")
        at.courier.results["down.test"] = DOWN
        await at.store.put(mail("down.test", 30))
        at.start()
        await at.begun(5)
        at.courier.let_go("down.test")
        await at.until(lambda: bool(at.seen(DestinationRests)))
        await at.settled(5)
        await at.calm()
        assert [one.until for one in at.seen(DestinationRests)] == [NOON + MINUTE]


async def test_what_was_on_its_way_when_a_rest_began_goes_back(tmp_path: Path) -> None:
    """Mail that was being stored as claimed; else it would be tried during the rest, and make it longer."""
    async with desk(tmp_path, total=50) as at:
        at.courier.shut("down.test")
        at.courier.results["down.test"] = DOWN
        for number in range(1, 4):
            await at.worker.admit(make_message(number, "b@down.test"))
        await at.begun(3)
        at.courier.let_go("down.test")
        admitting = [asyncio.create_task(at.worker.admit(make_message(number, "b@down.test"))) for number in (11, 12)]
        await asyncio.gather(*admitting)
        await at.until(lambda: bool(at.seen(DestinationRests)))
        await at.calm()
        assert len(at.seen(DestinationRests)) == 1
        assert at.worker.under_way == 0
        begun = len(at.courier.begun)
        at.start()
        await at.calm()
        await at.worker.admit(make_message(13, "b@down.test"))
        await at.calm()
        assert len(at.courier.begun) == begun


async def test_one_message_of_which_one_destination_rests(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.store.rest("down.test", REST)
        await at.store.put([make_message(1, "b@up.test", "b@down.test", "c@other.test")])
        at.start()
        await at.settled(2)
        assert tried(at) == {"up.test": 1, "other.test": 1}
        at.pass_time(10 * MINUTE)
        await at.settled(3)
        assert {entry.state for entry in await at.entries()} == {State.DELIVERED}


async def test_stopping_during_a_rest(tmp_path: Path) -> None:
    """What waited for it is in the queue, and the next service waits for the rest as well."""
    async with desk(tmp_path) as at:
        at.courier.results["down.test"] = DOWN
        await at.store.put(mail("down.test", 12))
        at.start()
        await at.until(lambda: bool(at.seen(DestinationRests)))
        async with asyncio.timeout(10):
            await at.worker.stop(MINUTE)
            assert at.running is not None
            await at.running
        tries = Counter((await at.states()).values())
        assert tries == {"deferred 1": len(at.courier.begun), "queued 0": 12 - len(at.courier.begun)}
        assert set(await at.store.rests()) == {"down.test"}


# Rates


async def test_a_rate_is_kept_and_used(tmp_path: Path) -> None:
    """Over an hour, however much mail there is, and though ten are claimed before anything is known of it."""
    entries = [LimitEntry(("slow.test",), per_minute=1)]
    async with desk(tmp_path, total=50, entries=entries) as at:
        await at.store.put(mail("slow.test", 70))
        at.start()
        await at.begun(1)
        for number in range(1, 60):
            at.pass_time(MINUTE - SECOND)
            await at.calm()
            assert len(at.courier.begun) == number
            at.pass_time(SECOND)
            await at.settled(number + 1)
        assert at.courier.order() == list(range(1, 61))


async def test_admitted_mail_counts_too(tmp_path: Path) -> None:
    async with desk(tmp_path, entries=[LimitEntry(("*",), per_minute=1)]) as at:
        at.start()
        for number in range(1, 4):
            await at.worker.admit(make_message(number, f"{number}@slow.test", f"{number}@other.test"))
        await at.settled(2)
        await at.calm()
        assert tried(at) == {"slow.test": 1, "other.test": 1}
        at.pass_time(MINUTE)
        await at.settled(4)
        await at.calm()
        assert tried(at) == {"slow.test": 2, "other.test": 2}


async def test_a_rate_does_not_take_the_room_of_others(tmp_path: Path) -> None:
    """Twenty destinations with much mail and little leave to send it."""
    slow = [f"slow{number}.test" for number in range(20)]
    async with desk(tmp_path, total=20, entries=[LimitEntry(tuple(slow), per_minute=1)]) as at:
        for number, domain in enumerate(slow):
            await at.store.put(mail(domain, 20, first=1000 * (number + 1)))
        await at.store.put(mail("quick.test", 100))
        at.start()
        await at.settled(120)
        await at.calm()
        assert tried(at) == {"quick.test": 100, **dict.fromkeys(slow, 1)}
        assert at.worker.under_way == 0
        at.pass_time(MINUTE)
        await at.settled(140)


async def test_what_goes_back_for_want_of_leave_makes_room(tmp_path: Path) -> None:
    """Ten claims take all the room, one may begin and takes long: the nine that go back are room for others."""
    async with desk(tmp_path, total=10, entries=[LimitEntry(("slow.test",), per_minute=1)]) as at:
        at.courier.shut("slow.test")
        await at.store.put(mail("slow.test", 20))
        at.start()
        await at.begun(1)
        await at.store.put(mail("quick.test", 5, first=100))
        await at.settled(5)
        assert tried(at) == {"slow.test": 1, "quick.test": 5}


# Taking turns


async def test_admitted_mail_does_not_overtake_what_is_stored(tmp_path: Path) -> None:
    async with desk(tmp_path, total=100, per_lane=1) as at:
        at.courier.shut("a.test")
        at.start()
        for number in range(1, 40):
            await at.worker.admit(make_message(number, f"{number}@a.test"))
        await at.begun(1)
        for number in range(1, 40):
            await at.begun(number)
            await answered(at, "a.test")
            await at.worker.admit(make_message(100 + number, f"{100 + number}@a.test"))
        assert at.courier.order()[:39] == list(range(1, 40))


async def test_two_claims_of_one_message_at_once(tmp_path: Path) -> None:
    """Its recipients at one destination may be due at different times. Both claims are held, and counted."""
    async with desk(tmp_path) as at:
        await at.store.put([make_message(1, "b@a.test", "c@a.test")])
        (claim,) = await at.store.claim(1, LEASE, NOON, {}, 1)
        await at.store.settle(claim, apart(claim), (), NOON, record=AttemptRecord(), began=NOON)
        at.courier.shut("a.test")
        at.start()
        await at.begun(1)
        at.pass_time(MINUTE)
        await at.begun(2)
        await at.calm()
        assert at.worker.under_way == 2
        at.courier.let_go("a.test")
        await at.settled(2)
        await at.calm()
        assert at.worker.under_way == 0


def apart(claim: Claim) -> Settlement:
    """Deferred: one recipient is due at once, the other a minute later."""
    return Settlement(
        tuple(
            SettledRecipient(recipient, State.DEFERRED, LATER, NOON + recipient.index * MINUTE)
            for recipient in claim.recipients
        )
    )


async def test_mail_for_very_many_destinations_is_not_remembered_one_by_one(tmp_path: Path) -> None:
    """Mail that waits on disk for want of room makes no lane."""
    async with desk(tmp_path, total=1) as at:
        at.courier.shut()
        await at.worker.admit(make_message(1, "b@first.test"))
        await at.worker.admit(make_message(2, *[f"b@{number}.test" for number in range(100)]))
        await at.begun(1)
        assert len(list(at.worker._lanes)) == 1
        at.courier.let_go()
        at.start()
        await at.settled(101)
        await at.calm()
        assert list(at.worker._lanes) == []
        assert at.worker._lanes.stored == set()
