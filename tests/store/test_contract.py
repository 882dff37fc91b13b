"""Every promise of relay.queue.store, on the real store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.mail.address import parse_address
from relay.mail.message import Body, Claim, InlineBody, MessageId, NewMessage, SmtpUtf8, TlsDemand
from relay.mail.outcome import Cause, State, TlsUsed
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import visitor
from relay.queue.control import Act, Action
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import BodyWriter, Depth, QueueStore, Rest, StoreUnavailable

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LEASE = timedelta(minutes=30)
RECORD = AttemptRecord(("MTA-STS: no policy",))

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]
Reopen = Callable[[SqliteStore, datetime], Awaitable[SqliteStore]]


async def claim(
    store: QueueStore, now: datetime = NOW, limit: int = 100, skip: tuple[str, ...] = ()
) -> tuple[Claim, ...]:
    return await store.claim(limit, LEASE, now, dict.fromkeys(skip, 0), 1000)


async def settle(
    store: QueueStore, claim: Claim, settlement: Settlement, notices: Collection[NewMessage], now: datetime
) -> bool:
    return await store.settle(claim, settlement, notices, now, record=RECORD, began=now - timedelta(seconds=3))


async def octets(store: QueueStore, body: Body) -> bytes:
    return b"".join([chunk async for chunk in store.read(body)])


async def large_body(store: QueueStore, id: MessageId) -> Body:
    writer: BodyWriter = store.new_body(id)
    await writer.write(b"y" * 200_000)
    return await writer.finish()


async def retry_now(store: SqliteStore, id: MessageId | None) -> int:
    action = Action(Act.RETRY, QueueFilter(ids=() if id is None else (id,)), "root")
    return (await store.controls.perform(action, NOW, lambda *_: None)).done


def numbers(claims: tuple[Claim, ...]) -> list[int]:
    return [claim.id.number for claim in claims]


# put and claim


async def test_a_claim_has_everything_that_was_put(store: SqliteStore, message: MakeMessage) -> None:
    put = replace(
        message(7, "Jo@Example.ORG", '"a@b"@example.org', "other@example.net", body=b"\x00\xff\r\n"),
        eight_bit=True,
        smtputf8=SmtpUtf8.NEEDED,
        demand=TlsDemand.REQUIRED,
        arrived=NOW + timedelta(microseconds=1),
    )
    await store.put((put,))
    first, second = sorted(await claim(store, NOW + MINUTE), key=lambda claim: claim.destination)
    assert (first.destination, second.destination) == ("example.net", "example.org")
    assert [(recipient.index, recipient.address) for recipient in second.recipients] == [
        (0, parse_address(b"Jo@Example.ORG")),
        (1, parse_address(b'"a@b"@example.org')),
    ]
    assert [(recipient.attempts, recipient.delay_notices) for recipient in second.recipients] == [(1, False)] * 2
    for taken in (first, second):
        assert taken.lease_until == NOW + MINUTE + LEASE
        assert taken.sender == put.envelope.sender
        assert await octets(store, taken.body) == b"\x00\xff\r\n"
        for name in ("id", "arrived", "message_id", "eight_bit", "smtputf8", "demand"):
            assert getattr(taken, name) == getattr(put, name)


async def test_the_null_sender_stays_null(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, sender=None),))
    (taken,) = await claim(store)
    assert taken.sender is None
    (entry,) = await store.find(None, history=False)
    assert entry.sender == ""


async def test_several_messages_are_put_together_or_not_at_all(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    with pytest.raises(StoreUnavailable, match="taken"):
        await store.put((message(2), message(1)))
    assert numbers(await claim(store)) == [1]


async def test_a_message_without_recipients_is_a_mistake(store: SqliteStore, message: MakeMessage) -> None:
    put = message(1)
    with pytest.raises(ValueError, match="no recipients"):
        await store.put((replace(put, envelope=replace(put.envelope, recipients=())),))


async def test_a_body_of_another_message_is_a_mistake(store: SqliteStore, message: MakeMessage) -> None:
    body = await large_body(store, MessageId(1))
    with pytest.raises(ValueError, match="not its own"):
        await store.put((message(2, body=body),))


async def test_what_was_put_is_there_after_a_crash(store: SqliteStore, message: MakeMessage, reopen: Reopen) -> None:
    large = await large_body(store, MessageId(2))
    await store.put((message(1), message(2, body=large)))
    store = await reopen(store, NOW)
    first, second = await claim(store)
    assert await octets(store, first.body) == b"Subject: x\r\n\r\nx\r\n"
    assert await octets(store, second.body) == b"y" * 200_000


async def test_nothing_is_claimed_before_its_time(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, arrived=NOW + MINUTE),))
    assert await claim(store, NOW + MINUTE - timedelta(microseconds=1)) == ()
    assert await store.next_due((), NOW) == NOW + MINUTE
    assert numbers(await claim(store, NOW + MINUTE)) == [1]


async def test_what_a_sender_has_goes_by_due_time_then_age(store: SqliteStore, message: MakeMessage) -> None:
    early, late = NOW - 2 * MINUTE, NOW - MINUTE
    await store.put(
        (
            message(5, "x@a.example", arrived=late),
            message(4, "x@b.example", arrived=late),
            message(3, "x@a.example", arrived=late),
            message(6, "x@c.example", arrived=early),
        )
    )
    assert numbers(await claim(store, limit=1)) == [6]
    assert numbers(await claim(store, limit=2)) == [3, 4]
    assert numbers(await claim(store)) == [5]


async def test_the_order_holds_through_many_of_one_domain(store: SqliteStore, message: MakeMessage) -> None:
    domains = ("a.example", "b.example")
    await store.put([message(number, f"x@{domains[number // 7 % 2]}") for number in range(1, 400)])
    taken = [*await claim(store, limit=250), *await claim(store, limit=250)]
    assert sorted(numbers(tuple(taken))) == list(range(1, 400))
    for domain in domains:
        of_it = numbers(tuple(one for one in taken if one.destination == domain))
        assert of_it == sorted(of_it)


async def test_skipped_domains_stay(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, "x@a.example"), message(2, "x@b.example"), message(3, "x@c.example")))
    assert numbers(await claim(store, skip=("a.example", "c.example"))) == [2]
    assert await store.next_due(("b.example", "a.example"), NOW) == NOW
    assert await store.next_due(("a.example", "b.example", "c.example"), NOW) == NOW + LEASE
    assert numbers(await claim(store)) == [1, 3]


async def test_the_recipients_of_a_domain_go_together_even_when_due_at_different_times(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1, "a@example.org", "b@example.org"),))
    (taken,) = await claim(store)
    both = settlement(taken, State.DEFERRED, next_attempt=NOW + MINUTE)
    first, second = both.recipients
    await settle(store, taken, Settlement((first, replace(second, next_attempt=NOW + 2 * MINUTE))), (), NOW)
    (taken,) = await claim(store, NOW + 2 * MINUTE)
    assert [recipient.index for recipient in taken.recipients] == [0, 1]
    assert [recipient.attempts for recipient in taken.recipients] == [2, 2]


async def test_the_bare_postmaster_is_a_destination(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, "Postmaster"),))
    (taken,) = await claim(store)
    assert (taken.destination, taken.recipients[0].address.text) == ("", "Postmaster")


# leases


async def test_two_claims_never_hold_the_same_recipient(store: SqliteStore, message: MakeMessage) -> None:
    await store.put([message(number) for number in range(1, 101)])
    claims = await asyncio.gather(*(claim(store, limit=9) for _ in range(20)))
    taken = [one for several in claims for one in several]
    assert sorted(numbers(tuple(taken))) == list(range(1, 101))
    assert len({one.lease for one in taken}) == 100


async def test_a_lease_runs_until_its_end(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    await claim(store)
    assert await claim(store, NOW + LEASE - timedelta(microseconds=1)) == ()
    assert await store.next_due((), NOW) == NOW + LEASE
    (again,) = await claim(store, NOW + LEASE)
    assert again.recipients[0].attempts == 2


async def test_a_lost_lease_changes_nothing(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1),))
    (lost,) = await claim(store)
    (held,) = await claim(store, NOW + LEASE)
    before = await store.find(None, history=True)
    assert not await settle(store, lost, settlement(lost, State.DELIVERED), (message(2),), NOW)
    assert not await store.renew(lost, NOW + 9 * LEASE)
    assert not await store.release(lost, NOW)
    assert await store.find(None, history=True) == before
    assert await settle(store, held, settlement(held, State.DELIVERED), (), NOW)


async def test_a_lease_that_ran_out_is_lost_only_when_taken(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    assert await settle(store, taken, settlement(taken, State.DELIVERED), (), NOW + 2 * LEASE)


async def test_renewing_moves_the_end(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, "a@example.org", "b@example.org"),))
    (taken,) = await claim(store)
    assert await store.renew(taken, NOW + 2 * LEASE)
    assert await claim(store, NOW + LEASE) == ()
    assert numbers(await claim(store, NOW + 2 * LEASE)) == [1]


async def test_released_work_has_not_been_tried(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    assert await store.release(taken, NOW + MINUTE)
    assert not await store.release(taken, NOW)
    assert await claim(store) == ()
    (taken,) = await claim(store, NOW + MINUTE)
    assert taken.recipients[0].attempts == 1


async def test_put_claimed_is_a_put_and_a_claim(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, reopen: Reopen
) -> None:
    await store.put((replace(message(1, "x@a.example", "x@b.example", "y@a.example"), report=True),))
    ordinary = await claim(store)
    stored = replace(message(2, "x@a.example", "x@b.example", "y@a.example"), report=True)
    claims = await store.put_claimed(stored, NOW + LEASE, store.destinations(stored))

    def alike(found: tuple[Claim, ...]) -> list[Claim]:
        return [replace(one, id=stored.id, message_id=None, lease=0) for one in found]

    assert alike(ordinary) == alike(claims)
    assert len({one.lease for one in (*ordinary, *claims)}) == 4
    assert [entry.attempts for entry in await store.find(stored.id, False)] == [1, 1, 1]
    assert await claim(store) == ()
    assert await store.next_due((), NOW) == NOW + LEASE
    assert await settle(store, claims[0], settlement(claims[0], State.DELIVERED), (), NOW)
    store = await reopen(store, NOW)
    assert not await settle(store, claims[1], settlement(claims[1], State.DELIVERED), (), NOW)
    assert {(one.id, one.destination) for one in await claim(store, NOW + MINUTE)} == {
        (MessageId(1), "a.example"),
        (MessageId(1), "b.example"),
        (MessageId(2), "b.example"),
    }


async def test_put_claimed_with_an_id_that_is_taken(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    with pytest.raises(StoreUnavailable, match="is taken"):
        await store.put_claimed(message(1), NOW + LEASE, ("example.org",))
    assert numbers(await claim(store)) == [1]


async def test_after_a_crash_what_was_under_way_comes_back_later_with_each_attempt(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, reopen: Reopen
) -> None:
    await store.put((message(1, "x@a.example"), message(2, "x@b.example")))
    (lost,) = await claim(store, limit=1)
    store = await reopen(store, NOW)
    (other,) = await claim(store)
    assert await settle(store, other, settlement(other, State.DELIVERED), (), NOW)
    tick = timedelta(microseconds=1)
    now = NOW
    for attempts in (1, 2, 3):
        delay = attempts * timedelta(seconds=5)
        assert await claim(store, now + delay - tick, limit=1) == ()
        (again,) = await claim(store, now + delay, limit=1)
        assert again.recipients[0].attempts == attempts + 1  # written down before acting
        assert again.lease != lost.lease
        now += MINUTE
        store = await reopen(store, now)
    assert not await settle(store, lost, settlement(lost, State.DELIVERED), (), NOW)


# settle


async def test_settled_recipients_read_as_they_were_written(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1, "a@example.org", "b@example.org", "c@example.org"),))
    (taken,) = await claim(store)
    await settle(
        store, taken, settlement(taken, State.DELIVERED, State.DEFERRED, State.FAILED), (), NOW + timedelta(seconds=5)
    )
    delivered, deferred, failed = await store.find(MessageId(1), history=True)
    assert (delivered.state, delivered.status, delivered.reply, delivered.reason, delivered.tls) == (
        State.DELIVERED, "2.2.0", "250 2.0.0 thanks", None, TlsUsed.VERIFIED,
    )  # fmt: skip
    assert (deferred.state, deferred.status, deferred.reply, deferred.reason, deferred.tls) == (
        State.DEFERRED, "4.4.2", None, "the connection was closed", TlsUsed.NONE,
    )  # fmt: skip
    assert (failed.state, failed.status, failed.reply, failed.reason, failed.tls) == (
        State.FAILED, "5.1.1", "550 5.1.1 who?", "refused", TlsUsed.ENCRYPTED,
    )  # fmt: skip
    assert [entry.next_attempt for entry in (delivered, deferred, failed)] == [None, NOW + timedelta(hours=1), None]
    for entry, recipient in zip((delivered, deferred, failed), "abc", strict=True):
        assert entry.recipient == f"{recipient}@example.org"
        assert (entry.id, entry.message_id, entry.sender) == (
            MessageId(1), "1@sender.example", "from@sender.example",
        )  # fmt: skip
        assert (entry.attempts, entry.host) == (1, "mx.example")
        assert (entry.arrived, entry.changed) == (NOW, NOW + timedelta(seconds=5))


async def test_what_was_deferred_comes_back_with_its_marks(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    (settled,) = settlement(taken, State.DEFERRED, next_attempt=NOW + MINUTE).recipients
    await settle(store, taken, Settlement((replace(settled, delay_notices=True),)), (), NOW)
    assert await claim(store) == ()
    (again,) = await claim(store, NOW + MINUTE)
    assert (again.recipients[0].attempts, again.recipients[0].delay_notices) == (2, True)


async def test_held_mail_is_kept_and_not_tried(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1, "a@example.org", "b@example.org"),))
    (taken,) = await claim(store)
    await settle(store, taken, settlement(taken, State.HELD, State.DELIVERED), (), NOW)
    assert await claim(store, NOW + timedelta(days=99)) == ()
    assert await retry_now(store, None) == 0
    assert await store.next_due((), NOW) is None
    await store.tidy(NOW + timedelta(days=99))
    (entry,) = await store.find(None, history=False)
    assert entry.state is State.HELD


async def test_a_settled_claim_cannot_be_settled_again(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    assert await settle(store, taken, settlement(taken, State.DEFERRED), (), NOW)
    assert not await settle(store, taken, settlement(taken, State.DELIVERED), (), NOW)


async def test_notices_come_with_the_settlement_or_not_at_all(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    failed = settlement(taken, State.FAILED)
    before = await store.find(None, history=True)
    with pytest.raises(StoreUnavailable, match="taken"):
        await settle(store, taken, failed, (message(2), message(1)), NOW)
    assert await store.find(None, history=True) == before
    assert await settle(store, taken, failed, (message(2, "from@sender.example", sender=None),), NOW)
    assert numbers(await claim(store)) == [2]


async def test_a_settlement_for_others_is_a_mistake(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1, "a@example.org", "b@example.org"),))
    (taken,) = await claim(store)
    with pytest.raises(ValueError, match="all recipients"):
        await settle(store, taken, Settlement(settlement(taken, State.DELIVERED).recipients[:1]), (), NOW)


async def test_the_body_goes_with_the_last_recipient(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    body = await large_body(store, MessageId(1))
    await store.put((message(1, "x@a.example", "x@b.example", body=body), message(2, "x@c.example")))
    first, second, small = await claim(store)
    await settle(store, first, settlement(first, State.FAILED), (), NOW)
    assert len(await octets(store, second.body)) == 200_000
    await settle(store, second, settlement(second, State.DELIVERED), (), NOW)
    await settle(store, small, settlement(small, State.DELIVERED), (), NOW)
    await store.next_due((), NOW)  # the file goes after the settlement was answered, and before this is
    assert list((folder / "bodies").iterdir()) == []
    with pytest.raises(StoreUnavailable):
        await octets(store, body)


# find, retry_now, tidy


async def test_find_shows_open_mail_by_arrival_and_closed_mail_on_request(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(2, "x@a.example", "x@b.example"), message(1, "x@c.example"), message(3)))
    claims = {taken.destination: taken for taken in await claim(store)}
    for domain in ("a.example", "c.example"):
        await settle(store, claims[domain], settlement(claims[domain], State.DELIVERED), (), NOW)

    async def found(id: int | None, history: bool) -> list[tuple[int, str]]:
        entries = await store.find(None if id is None else MessageId(id), history)
        return [(entry.id.number, entry.recipient) for entry in entries]

    assert await found(None, False) == [(2, "x@b.example"), (3, "to@example.org")]
    assert await found(None, True) == [
        (1, "x@c.example"), (2, "x@a.example"), (2, "x@b.example"), (3, "to@example.org"),
    ]  # fmt: skip
    assert await found(2, False) == [(2, "x@b.example")]
    assert await found(2, True) == [(2, "x@a.example"), (2, "x@b.example")]
    assert await found(1, False) == []
    assert await found(99, True) == []


async def test_retry_now_makes_waiting_mail_due(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put([message(number, "x@a.example", "x@b.example") for number in (1, 2, 3)])
    claims = await claim(store)
    for taken in claims[:-1]:
        await settle(store, taken, settlement(taken, State.DEFERRED), (), NOW)
    assert await claim(store) == ()
    assert await retry_now(store, MessageId(1)) == 2
    assert numbers(await claim(store)) == [1, 1]
    assert await retry_now(store, MessageId(99)) == 0
    # Those of message 1 and one of message 3 are in an attempt.
    assert await retry_now(store, None) == 3
    assert numbers(await claim(store)) == [2, 2, 3]


async def test_retry_now_does_not_put_due_mail_at_the_end(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, arrived=NOW - MINUTE), message(2, arrived=NOW - 2 * MINUTE)))
    assert await retry_now(store, None) == 2
    assert numbers(await claim(store)) == [2, 1]


async def test_tidy_forgets_what_was_closed_before(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put([message(number, "x@a.example", "x@b.example") for number in (1, 2, 3)])
    claims = await claim(store)
    ends = {1: NOW, 2: NOW + MINUTE, 3: NOW}
    for taken in claims[:-1]:  # one recipient of message 3 stays open
        await settle(store, taken, settlement(taken, State.DELIVERED), (), ends[taken.id.number])
    await store.tidy(NOW)
    assert {entry.id.number for entry in await store.find(None, history=True)} == {1, 2, 3}
    await store.tidy(NOW + MINUTE)
    assert {entry.id.number for entry in await store.find(None, history=True)} == {2, 3}
    await store.tidy(NOW + timedelta(days=9))
    assert [entry.id.number for entry in await store.find(None, history=True)] == [3, 3]


async def test_tidy_returns_room_to_the_disk(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path, reopen: Reopen
) -> None:
    await store.put([message(number, body=b"x" * 60_000) for number in range(1, 601)])
    for taken in await claim(store, limit=600):
        await settle(store, taken, settlement(taken, State.DELIVERED), (), NOW)
    await store.tidy(NOW + MINUTE)
    store = await reopen(store, NOW)  # copies the log into the database
    assert (folder / "queue.db").stat().st_size < 18 << 20
    await store.put((message(1000),))


# wait


async def returns(waiting: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        await waiting


async def test_wait_returns_at_its_time_and_at_once_when_that_has_passed(store: SqliteStore) -> None:
    async with asyncio.timeout(5):
        await store.wait(NOW - MINUTE, NOW)
        await store.wait(NOW, NOW)
        begun = asyncio.get_running_loop().time()
        await store.wait(NOW + timedelta(milliseconds=50), NOW)
    assert asyncio.get_running_loop().time() - begun >= 0.05


@pytest.mark.parametrize("change", ["put", "settle", "release", "retry", "wake", "notice"])
async def test_wait_returns_when_work_may_be_there(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, change: str
) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    await store.wait(None, NOW)  # for the put
    waiting = asyncio.create_task(store.wait(None, NOW))
    await store.renew(taken, NOW + LEASE)
    assert not waiting.done()
    match change:
        case "put":
            await store.put((message(2),))
        case "settle":
            await settle(store, taken, settlement(taken, State.DEFERRED), (), NOW)
        case "notice":
            await settle(store, taken, settlement(taken, State.FAILED), (message(3),), NOW)
        case "release":
            await store.release(taken, NOW)
        case "retry":
            await retry_now(store, None)
        case "wake":
            store.wake()
    await returns(waiting)


async def test_a_change_between_claim_and_wait_is_not_missed(store: SqliteStore, message: MakeMessage) -> None:
    assert await claim(store) == ()
    await store.put((message(1),))
    async with asyncio.timeout(5):
        await store.wait(None, NOW)


async def test_wait_sees_another_process(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1),))
    (taken,) = await claim(store)
    await settle(store, taken, settlement(taken, State.DEFERRED), (), NOW)
    await store.wait(None, NOW)  # for the put and the settlement
    waiting = asyncio.create_task(store.wait(None, NOW))
    retry = Action(Act.RETRY, QueueFilter(ids=(MessageId(1),)), "root")
    found = await asyncio.to_thread(visitor.perform, folder, retry, NOW, lambda *_: None, lambda *_: "")
    assert (found.done, found.under_way) == (1, 0)
    await returns(waiting)
    assert numbers(await claim(store)) == [1]


# cancellation, and the end


async def test_a_cancelled_put_is_stored_all_the_same(store: SqliteStore, message: MakeMessage) -> None:
    putting = asyncio.create_task(store.put((message(1),)))
    await asyncio.sleep(0)  # it is in the thread's queue now
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    async with asyncio.timeout(5):
        await store.wait(None, NOW)
    assert numbers(await claim(store)) == [1]


async def test_a_body_is_not_discarded_when_its_cancelled_put_is_stored(
    store: SqliteStore, message: MakeMessage
) -> None:
    writer = store.new_body(MessageId(1))
    await writer.write(b"y" * 200_000)
    putting = asyncio.create_task(store.put((message(1, body=await writer.finish()),)))
    await asyncio.sleep(0)
    putting.cancel()
    await writer.discard()
    (taken,) = await claim(store)
    assert len(await octets(store, taken.body)) == 200_000


async def test_a_cancelled_settlement_still_removes_the_file(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1, body=await large_body(store, MessageId(1))),))
    (taken,) = await claim(store)
    settling = asyncio.create_task(settle(store, taken, settlement(taken, State.DELIVERED), (), NOW))
    await asyncio.sleep(0)
    settling.cancel()
    await store.next_due((), NOW)
    await store.next_due((), NOW)
    assert list((folder / "bodies").iterdir()) == []


async def test_close_finishes_what_was_begun(store: SqliteStore, message: MakeMessage, reopen: Reopen) -> None:
    putting = [asyncio.create_task(store.put((message(number),))) for number in range(1, 51)]
    await asyncio.sleep(0)
    store = await reopen(store, NOW)
    await asyncio.gather(*putting)
    assert len(await claim(store)) == 50


async def test_a_closed_queue_says_so(store: SqliteStore, message: MakeMessage) -> None:
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.put((message(1),))
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.find(None, history=False)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.check_writable()
    await store.close()


async def test_the_depth_counts_what_is_open_and_what_is_due(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    assert await store.depth(NOW) == Depth(0, 0, None)
    await store.put((message(1, "a@a.test", "b@a.test"), message(2, "c@c.test", "d@d.test", arrived=NOW + MINUTE)))
    assert await store.depth(NOW) == Depth(4, 2, NOW)
    assert await store.depth(NOW + MINUTE) == Depth(4, 4, NOW)
    (first,) = await claim(store)
    assert await store.depth(NOW + MINUTE) == Depth(4, 2, NOW)  # under way, and so not due
    assert await store.depth(NOW + LEASE) == Depth(4, 4, NOW)  # but when the lease has run out
    await settle(store, first, settlement(first, State.DELIVERED, State.DEFERRED), (), NOW)
    assert await store.depth(NOW + LEASE) == Depth(3, 2, NOW)
    (again,) = await claim(store, NOW + timedelta(hours=1), skip=("c.test", "d.test"))
    await settle(store, again, settlement(again, State.FAILED), (), NOW)
    assert await store.depth(NOW + LEASE) == Depth(2, 2, NOW + MINUTE)


async def test_the_depth_counts_what_is_held_why_mail_waits_and_what_rests(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1, "a@a.test"), message(2, "b@b.test"), message(3, "c@c.test"), message(4, "d@d.test")))
    for cause in (Cause.OUTAGE, Cause.OUTAGE, Cause.LOGIN):
        (one,) = await claim(store, limit=1)
        settled = settlement(one, State.DEFERRED)
        with_cause = tuple(replace(recipient, cause=cause) for recipient in settled.recipients)
        await settle(store, one, replace(settled, recipients=with_cause), (), NOW)
    await store.controls.perform(Action(Act.HOLD, QueueFilter(cause=Cause.LOGIN), "root"), NOW, lambda *_: None)
    await store.rest("a.test", Rest(NOW + MINUTE, NOW, 1, "4.4.1", "down"))
    await store.rest("b.test", Rest(NOW, NOW, 1, "4.4.1", "over"))
    assert await store.depth(NOW) == Depth(3, 1, NOW, 1, ((Cause.LOGIN, 1), (Cause.OUTAGE, 2)), 1)
    await store.put((message(5, "e@a.test"),))  # would be due, but its destination rests
    assert await store.depth(NOW) == Depth(4, 1, NOW, 1, ((Cause.LOGIN, 1), (Cause.OUTAGE, 2)), 1)
    assert (await store.depth(NOW + MINUTE)).due == 2


async def test_a_check_writes_and_changes_nothing(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    await store.put((message(1),))
    before = await store.find(None, history=True)
    with closing(sqlite3.connect(folder / "queue.db")) as other:

        def version() -> int:  # changes when somebody else has written
            return int(other.execute("PRAGMA data_version").fetchone()[0])

        first = version()
        assert version() == first
        await store.check_writable()
        assert version() != first
    assert await store.find(None, history=True) == before


async def test_it_is_a_queue_store(store: SqliteStore) -> None:
    contract: QueueStore = store  # the type checker's promise
    assert await contract.find(None, history=True) == ()


async def test_a_small_body_is_read_in_one_piece_many_times(store: SqliteStore) -> None:
    for _ in range(2):
        async with aclosing(store.read(InlineBody(b""))) as chunks:
            assert [chunk async for chunk in chunks] == [b""]
