"""What senders ask of time and rank, in the queue: nothing goes early, and what is urgent goes first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.mail.message import Claim, DeliverBy, MessageId, NewMessage
from relay.mail.outcome import State
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import visitor
from relay.queue.control import Act, Action, Tally
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
LEASE = timedelta(minutes=30)
TOMORROW = NOW + DAY

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]
Reopen = Callable[[SqliteStore, datetime], Awaitable[SqliteStore]]


async def claim(store: SqliteStore, now: datetime = NOW, limit: int = 100, share: int = 100) -> tuple[Claim, ...]:
    return await store.claim(limit, LEASE, now, {}, share)


def numbers(claims: Iterable[Claim]) -> list[int]:
    return [one.id.number for one in claims]


async def act(
    store: SqliteStore, kind: Act, now: datetime = NOW, route: str | None = None, ids: tuple[MessageId, ...] = ()
) -> Tally:
    action = Action(kind, QueueFilter(ids=ids), "root", "why", route)
    return await store.controls.perform(action, now, lambda *_: None)


# A time of release


async def test_everything_asked_comes_back_with_the_claim(
    store: SqliteStore, message: MakeMessage, reopen: Reopen
) -> None:
    asked = replace(
        message(1),
        release=TOMORROW,
        release_asked="for;86400",
        priority=-3,
        deliver_by=DeliverBy(NOW + 2 * DAY, returns=True, trace=True),
        report=True,
    )
    await store.put((asked,))
    store = await reopen(store, NOW)
    (found,) = await claim(store, TOMORROW)
    assert (found.release, found.release_asked, found.priority) == (TOMORROW, "for;86400", -3)
    assert found.deliver_by == asked.deliver_by
    assert (found.due, found.release_request, found.report) == (TOMORROW, "for;86400", True)
    (entry,) = await store.find(None, history=False)
    assert entry.report
    assert (entry.release, entry.priority, entry.deliver_by) == (TOMORROW, -3, asked.deliver_by)


async def test_what_asks_for_nothing_has_nothing(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    (found,) = await claim(store)
    assert (found.release, found.release_request, found.priority, found.deliver_by) == (None, None, 0, None)
    assert not found.report


async def test_nothing_goes_before_its_sender_wants(store: SqliteStore, message: MakeMessage, reopen: Reopen) -> None:
    """Not by a claim, not by the short way of new mail, and not by a new start."""
    later = replace(message(1), release=TOMORROW)
    assert await store.put_claimed(later, NOW + LEASE, {"example.org"}) == ()
    await store.put((replace(message(2), release=TOMORROW),))
    for _ in range(2):
        assert await claim(store, TOMORROW - SECOND) == ()
        assert await store.next_due((), NOW) == TOMORROW
        store = await reopen(store, NOW)
    assert numbers(await claim(store, TOMORROW)) == [1, 2]


async def test_a_time_that_is_over_holds_nothing_up(store: SqliteStore, message: MakeMessage) -> None:
    past = replace(message(1), release=NOW - HOUR)
    (found,) = await store.put_claimed(past, NOW + LEASE, {"example.org"})
    assert (found.release, found.due) == (NOW - HOUR, NOW)


async def test_a_clock_that_was_set_back_brings_nothing_of_it_forward(store: SqliteStore, message: MakeMessage) -> None:
    """What waits long for another attempt does so by mistake; this does not."""
    await store.put((replace(message(1), release=TOMORROW), message(2, arrived=TOMORROW)))
    assert await store.bring_forward(NOW + HOUR) == 1
    assert numbers(await claim(store, NOW + HOUR)) == [2]
    assert await store.bring_forward(NOW + HOUR) == 0


async def test_after_its_first_attempt_it_is_brought_forward_as_all_mail(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((replace(message(1), release=TOMORROW),))
    (found,) = await claim(store, TOMORROW)
    wait = settlement(found, State.DEFERRED, next_attempt=TOMORROW + HOUR)
    assert await store.settle(found, wait, (), TOMORROW, record=AttemptRecord(), began=TOMORROW)
    assert await store.bring_forward(NOW + HOUR) == 1
    assert numbers(await claim(store, NOW + HOUR)) == [1]


@pytest.mark.parametrize(
    ("acts", "due"),
    [
        ((Act.RETRY,), NOW),
        ((Act.HOLD, Act.RELEASE), TOMORROW),
        ((Act.REROUTE,), TOMORROW),
        ((Act.HOLD, Act.REROUTE, Act.RELEASE), TOMORROW),
        ((Act.RETRY, Act.HOLD, Act.RELEASE), TOMORROW),
        ((Act.DROP,), None),
        ((Act.FAIL,), None),
    ],
)
async def test_of_all_acts_a_retry_alone_overrules_the_sender(
    store: SqliteStore, message: MakeMessage, acts: tuple[Act, ...], due: datetime | None
) -> None:
    await store.put((replace(message(1), release=TOMORROW),))
    for kind in acts:
        await act(store, kind, route="backup" if kind is Act.REROUTE else None, ids=(MessageId(1),))
    assert await store.next_due((), NOW) == due
    assert numbers(await claim(store)) == ([1] if due == NOW else [])


async def test_a_retry_of_all_mail_does_not_mean_what_its_sender_wants_later(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1), replace(message(2), release=TOMORROW), replace(message(3), release=NOW - HOUR)))
    for one in await claim(store):
        wait = settlement(one, State.DEFERRED, next_attempt=TOMORROW)
        assert await store.settle(one, wait, (), NOW, record=AttemptRecord(), began=NOW)
    found = await act(store, Act.RETRY)
    assert (found.recipients, found.done, found.unfit) == (3, 2, 1)
    assert sorted(numbers(await claim(store))) == [1, 3]
    assert sorted(numbers(await claim(store, TOMORROW + HOUR))) == [1, 2, 3]


async def test_after_an_attempt_a_release_of_mail_on_hold_makes_it_due(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    """A retry has had it tried early; then its time of release has had its say."""
    await store.put((replace(message(1), release=TOMORROW),))
    await act(store, Act.RETRY, ids=(MessageId(1),))
    (found,) = await claim(store)
    assert await store.settle(found, settlement(found, State.HELD), (), NOW, record=AttemptRecord(), began=NOW)
    await act(store, Act.RELEASE, NOW + HOUR)
    assert numbers(await claim(store, NOW + HOUR)) == [1]


async def test_its_life_begins_when_it_is_released(store: SqliteStore, message: MakeMessage) -> None:
    """Mail that was never tried is looked at so long after its release, not after its arrival."""
    await store.put((replace(message(1, "a@down.example"), release=TOMORROW), message(2, "b@down.example")))
    await act(store, Act.HOLD)
    assert [one.claim.id.number for one in await store.reviews(TOMORROW + HOUR, 2 * HOUR, 10)] == [2]
    assert [one.claim.id.number for one in await store.reviews(TOMORROW + 2 * HOUR, 2 * HOUR, 10)] == [1]


async def test_it_is_not_old_while_it_waits(store: SqliteStore, message: MakeMessage) -> None:
    """Who watches the age of the queue is not called for mail that is early."""
    await store.put((replace(message(1), release=TOMORROW),))
    depth = await store.depth(NOW + HOUR)
    assert (depth.open, depth.due, depth.oldest) == (1, 0, None)
    await store.put((message(2, arrived=NOW + HOUR),))
    assert (await store.depth(NOW + HOUR)).oldest == NOW + HOUR
    assert (await store.depth(TOMORROW)).oldest == NOW + HOUR
    await act(store, Act.DROP)
    await store.put((replace(message(3), release=TOMORROW), message(4, arrived=TOMORROW + HOUR)))
    assert (await store.depth(TOMORROW + HOUR)).oldest == TOMORROW


async def test_the_figures_tell_it_apart(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    await store.put((replace(message(1), release=TOMORROW), message(2)))
    with closing(visitor.open_reader(folder)) as reader:
        stats = reader.stats(QueueFilter(), NOW + HOUR, None)
        later = reader.stats(QueueFilter(), TOMORROW + HOUR, None)
    assert {group.name: group.recipients for group in stats.causes} == {"not tried": 1, "held by its sender": 1}
    assert stats.due == 1
    assert {group.name: group.recipients for group in later.causes} == {"not tried": 2}


async def test_an_early_try_that_was_not_made_is_still_an_early_one(store: SqliteStore, message: MakeMessage) -> None:
    """What the worker gives back was due: here since an operator wanted it so."""
    await store.put((replace(message(1), release=TOMORROW),))
    await act(store, Act.RETRY, ids=(MessageId(1),))
    (found,) = await claim(store)
    assert await store.release(found, found.arrived)
    assert numbers(await claim(store)) == [1]


async def test_a_crash_during_a_review_releases_nothing(
    store: SqliteStore, message: MakeMessage, reopen: Reopen
) -> None:
    """A review has its eye on what is to be there by a time, even if that is before the release."""
    await store.put((replace(message(1), release=TOMORROW, deliver_by=DeliverBy(NOW + HOUR)),))
    assert len(await store.reviews(NOW + HOUR, DAY, 10)) == 1
    store = await reopen(store, NOW + HOUR)
    assert await claim(store, TOMORROW - SECOND) == ()
    assert numbers(await claim(store, TOMORROW)) == [1]


# Until when


async def test_what_is_to_be_delivered_by_a_time_is_looked_at_then(store: SqliteStore, message: MakeMessage) -> None:
    """Untried, on hold or not; mail that can be tried has its minute first."""
    by = DeliverBy(NOW + HOUR)
    arrived = NOW + HOUR - 30 * SECOND
    await store.put((replace(message(1, arrived=arrived), deliver_by=by), message(2, arrived=arrived)))
    assert await store.reviews(NOW + HOUR, DAY, 10) == ()  # it is due, and has its attempt first
    await act(store, Act.HOLD)
    assert await store.reviews(NOW + HOUR - SECOND, DAY, 10) == ()
    assert [one.claim.id.number for one in await store.reviews(NOW + HOUR, DAY, 10)] == [1]


# Priority


async def test_the_urgent_goes_first_and_the_rest_by_age(store: SqliteStore, message: MakeMessage) -> None:
    asked = {1: 0, 2: -9, 3: 9, 4: 4, 5: 9, 6: 0, 7: -1}
    await store.put([replace(message(number), priority=priority) for number, priority in asked.items()])
    assert numbers([one for _ in asked for one in await claim(store, limit=1)]) == [3, 5, 4, 1, 6, 7, 2]


async def test_the_order_is_the_same_in_one_claim_and_after_a_new_start(
    store: SqliteStore, message: MakeMessage, reopen: Reopen
) -> None:
    await store.put([replace(message(number), priority=number % 3) for number in range(1, 7)])
    store = await reopen(store, NOW)
    assert numbers(await claim(store)) == [2, 5, 1, 4, 3, 6]


async def test_retries_have_their_priority_too(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put([replace(message(number), priority=number) for number in (1, 2, 3)])
    for one in await claim(store):
        wait = settlement(one, State.DEFERRED, next_attempt=NOW + HOUR)
        assert await store.settle(one, wait, (), NOW, record=AttemptRecord(), began=NOW)
    assert numbers(await claim(store, NOW + HOUR)) == [3, 2, 1]


async def test_one_senders_urgent_mail_passes_all_that_others_have(store: SqliteStore, message: MakeMessage) -> None:
    flood = [message(number, sender=f"{number % 5}@bulk.example") for number in range(1, 101)]
    await store.put([*flood, replace(message(500, sender="alarm@site.example"), priority=9)])
    assert numbers(await claim(store, limit=1)) == [500]


async def test_who_calls_everything_urgent_has_no_more_than_his_turns(store: SqliteStore, message: MakeMessage) -> None:
    """First in each round, once in each."""
    await store.put([replace(message(number, sender="loud@a.example"), priority=9) for number in range(1, 101)])
    await store.put([message(200 + number, sender=f"{number}@b.example") for number in range(4)])
    await store.put([message(300 + number, sender=f"{number}@b.example") for number in range(4)])
    found = numbers(await claim(store, limit=15))
    assert [number < 200 for number in found] == [True, *[False] * 4, True, *[False] * 4, *[True] * 5]


async def test_mail_of_low_priority_waits_for_others_and_is_not_forgotten(
    store: SqliteStore, message: MakeMessage
) -> None:
    await store.put([replace(message(number, sender="news@a.example"), priority=-9) for number in (1, 2)])
    await store.put([message(10 + number, sender="one@b.example") for number in range(20)])
    assert numbers(await claim(store, limit=4)) == [10, 1, 11, 2]


async def test_a_destination_that_is_full_is_passed_over_whatever_the_priority(
    store: SqliteStore, message: MakeMessage
) -> None:
    await store.put([replace(message(number, "x@big.example"), priority=9) for number in (1, 2, 3)])
    await store.put([message(10, "x@small.example")])
    assert numbers(await claim(store, share=1)) == [1, 10]
    assert numbers(await claim(store, share=1)) == [2]
