"""Each attempt that is settled leaves its evidence, in the same transaction, as long as the message is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.mail.message import Claim, MessageId, NewMessage, Origin
from relay.mail.outcome import Deferred, State, TlsUsed
from relay.mail.record import AttemptRecord, HostRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import Settlement
from relay.queue import history, room, visitor
from relay.queue.history import AttemptEntry, MessageTrace, NoticeSent
from relay.queue.sqlite import SqliteStore
from relay.queue.store import StoreUnavailable

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEASE = timedelta(minutes=30)
RECORD = AttemptRecord(
    ("MTA-STS: no policy",),
    (HostRecord("mx.example", "192.0.2.1", "TLS", "dane", "no STARTTLS", "4.7.4", ("S: 220 caf\udce9", "C: EHLO x")),),
)

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]


def trace(folder: Path, name: str) -> MessageTrace:
    with closing(visitor.open_reader(folder)) as reader:
        (found,) = reader.trace(name)
    return found


def attempts(folder: Path, id: int) -> tuple[AttemptEntry, ...]:
    return trace(folder, str(MessageId(id))).attempts


async def claim(store: SqliteStore, now: datetime = NOW) -> Claim:
    (taken,) = await store.claim(1, LEASE, now, {}, 100)
    return taken


async def test_it_is_kept_who_handed_a_message_in(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    origin = Origin("192.0.2.8", "users", "people")
    await store.put((replace(message(1, "a@example.org"), login="jo", origin=origin), message(2, "a@example.org")))
    assert (trace(folder, str(MessageId(1))).login, trace(folder, str(MessageId(1))).origin) == ("jo", origin)
    assert trace(folder, str(MessageId(2))).origin is None


async def test_an_attempt_reads_as_it_was_written(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1, "a@example.org", "b@example.org", "c@example.org", "d@example.org"),))
    taken = await claim(store)
    states = State.DELIVERED, State.DEFERRED, State.FAILED, State.DEFERRED
    notice = replace(message(2, "from@sender.example", sender=None), notice="failure")
    await store.settle(
        taken, settlement(taken, *states), (notice,), NOW + 2 * SECOND, record=RECORD, began=NOW + SECOND
    )
    (attempt,) = attempts(folder, 1)
    assert (attempt.domain, attempt.number) == ("example.org", 1)
    assert (attempt.began, attempt.ended) == (NOW + SECOND, NOW + 2 * SECOND)
    assert attempt.record == RECORD
    assert attempt.notices == (NoticeSent(MessageId(2), State.QUEUED, "failure"),)
    delivered, failed, deferred = attempt.results
    assert (delivered.recipients, failed.recipients, deferred.recipients) == ((0,), (2,), (1, 3))
    assert (delivered.status, delivered.reply, delivered.tls) == ("2.2.0", "250 2.0.0 thanks", TlsUsed.VERIFIED)
    assert (failed.status, failed.reason, failed.reply) == ("5.1.1", "refused", "550 5.1.1 who?")
    assert (deferred.status, deferred.reason) == ("4.4.2", "the connection was closed")
    assert (deferred.host, deferred.reply, deferred.next_attempt) == ("mx.example", None, NOW + timedelta(hours=1))


async def test_later_attempts_change_nothing_of_earlier_ones(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1, "a@example.org", "b@example.org"),))
    taken = await claim(store)
    await store.settle(taken, settlement(taken, State.DELIVERED, State.DEFERRED), (), NOW, record=RECORD, began=NOW)
    (first,) = attempts(folder, 1)
    later = NOW + timedelta(hours=1)
    taken = await claim(store, later)
    await store.settle(taken, settlement(taken, State.FAILED), (), later, record=AttemptRecord(), began=later)
    again, second = attempts(folder, 1)
    assert again == first
    assert (second.number, second.record, second.began) == (2, AttemptRecord(), later)
    assert [(result.recipients, result.state) for result in second.results] == [((1,), State.FAILED)]


async def test_a_notice_knows_what_it_speaks_of(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1),))
    taken = await claim(store)
    notice = message(2, "from@sender.example", sender=None)
    await store.settle(taken, settlement(taken, State.FAILED), (notice,), NOW, record=RECORD, began=NOW)
    assert trace(folder, str(MessageId(2))).about == MessageId(1)
    assert trace(folder, str(MessageId(1))).about is None


async def test_a_lost_lease_leaves_no_evidence(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1),))
    lost = await claim(store)
    held = await claim(store, NOW + LEASE)
    assert not await store.settle(lost, settlement(lost, State.DELIVERED), (), NOW, record=RECORD, began=NOW)
    assert attempts(folder, 1) == ()
    assert await store.settle(held, settlement(held, State.DELIVERED), (), NOW, record=RECORD, began=NOW)
    assert [attempt.number for attempt in attempts(folder, 1)] == [2]


async def test_a_settlement_that_fails_leaves_no_evidence(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1),))
    taken = await claim(store)
    with pytest.raises(StoreUnavailable, match="taken"):  # the notice has the id of the message
        await store.settle(taken, settlement(taken, State.FAILED), (message(1),), NOW, record=RECORD, began=NOW)
    assert attempts(folder, 1) == ()


async def test_a_claim_given_back_leaves_no_evidence(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    await store.put((message(1),))
    await store.release(await claim(store), NOW)
    assert attempts(folder, 1) == ()


async def test_evidence_goes_with_its_message(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1), message(2)))
    for state in (State.DELIVERED, State.DEFERRED):
        taken = await claim(store)
        await store.settle(taken, settlement(taken, state), (), NOW, record=RECORD, began=NOW)
    await store.tidy(NOW + SECOND)
    with closing(visitor.open_reader(folder)) as reader:
        assert reader.trace("1@sender.example") == ()
    assert len(attempts(folder, 2)) == 1
    # An id may come again, in theory: it must not inherit.
    await store.put((message(1),))
    assert attempts(folder, 1) == ()


async def test_a_notice_that_is_gone_is_still_named(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1),))
    taken = await claim(store)
    notice = message(2, "from@sender.example", sender=None)
    await store.settle(taken, settlement(taken, State.DEFERRED), (notice,), NOW, record=RECORD, began=NOW)
    taken = await claim(store)
    await store.settle(taken, settlement(taken, State.DELIVERED), (), NOW, record=RECORD, began=NOW)
    await store.tidy(NOW + SECOND)
    (attempt,) = attempts(folder, 1)
    assert attempt.notices == (NoticeSent(MessageId(2), None),)


async def test_what_an_older_version_kept_of_notices_is_read() -> None:
    """Their ids alone, as a list."""
    row = ("a.test", 1, 0, 0, "", None, '["0000000000002","0000000000003"]', None)
    assert history.notices_of(row) == (MessageId(2), MessageId(3))
    assert history.to_attempt(row, (), {}).notices == (NoticeSent(MessageId(2), None), NoticeSent(MessageId(3), None))


async def test_of_many_attempts_the_first_and_the_newest_stay(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put((message(1, "a@example.org", "b@other.example"),))
    for _ in range(45):
        for taken in await store.claim(2, LEASE, NOW, {}, 100):
            each = settlement(taken, State.DEFERRED, next_attempt=NOW)
            await store.settle(taken, each, (), NOW, record=AttemptRecord(), began=NOW)
    for domain in ("example.org", "other.example"):
        numbers = [attempt.number for attempt in attempts(folder, 1) if attempt.domain == domain]
        assert numbers == [*range(1, 11), *range(16, 46)]


async def test_many_long_replies_give_way_to_what_came_of_them(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    people = [f"{number}@example.org" for number in range(200)]
    await store.put((message(1, *people),))
    taken = await claim(store)
    plain = settlement(taken, State.DEFERRED)
    each = tuple(
        replace(
            settled,
            outcome=Deferred(
                Status(Kind.TEMPORARY, 7, 1), "asks us to wait", "mx.example", Reply.of(451, (f"{number} " * 100,))
            ),
        )
        for number, settled in enumerate(plain.recipients)
    )
    await store.settle(taken, Settlement(each), (), NOW, record=AttemptRecord(), began=NOW)
    (attempt,) = attempts(folder, 1)
    (result,) = attempt.results
    assert result.recipients == tuple(range(200))
    assert (result.state, result.status, result.reason, result.reply) == (State.DEFERRED, "4.7.1", None, None)


async def test_no_evidence_fills_the_room_that_deliveries_need(
    store: SqliteStore,
    message: MakeMessage,
    settlement: MakeSettlement,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await store.put((message(1),))
    taken = await claim(store)
    monkeypatch.setattr(room, "RESERVE_OCTETS", 1 << 62)
    monkeypatch.setattr(room, "_LARGEST_SHARE", 1)
    monkeypatch.setattr(room, "ASK_EVERY_OCTETS", 0)
    with pytest.raises(StoreUnavailable):
        await store.put((message(2),))
    assert await store.settle(taken, settlement(taken, State.DELIVERED), (), NOW, record=RECORD, began=NOW)
    assert attempts(folder, 1) == ()


async def test_a_message_is_found_by_either_name(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    same = replace(message(2), message_id="1@sender.example")
    await store.put((message(1), same, replace(message(3), message_id=str(MessageId(1)))))

    def found(name: str) -> list[int]:
        with closing(visitor.open_reader(folder)) as reader:
            return [one.id.number for one in reader.trace(name)]

    assert found(str(MessageId(2))) == [2]
    assert found(str(MessageId(2)).upper()) == [2]
    assert found("1@sender.example") == found(" <1@sender.example> ") == [1, 2]
    assert found(str(MessageId(1))) == [1]  # a queue id comes first
    for name in ("", "<>", "nobody@sender.example", str(MessageId(9)), "zzzzzzzzzzzzz", "caf\udce9"):
        assert found(name) == []


async def test_an_attempt_is_under_way(store: SqliteStore, message: MakeMessage, folder: Path) -> None:
    await store.put((message(1),))
    await claim(store)
    (recipient,) = (await asyncio.to_thread(trace, folder, str(MessageId(1)))).recipients
    assert (recipient.attempts, recipient.next_attempt, recipient.state) == (1, None, State.QUEUED)


async def test_results_of_another_version_are_left_out() -> None:
    row = (
        "example.org", 1, 0, 0, "",
        '[{"to":[0],"state":"melted","status":"4.0.0","tls":"none"},{"to":[1]},'
        '{"to":[2],"state":"deferred","status":"4.0.0","tls":"none","new":1}]',
        None, "no json",
    )  # fmt: skip
    entry = history.to_attempt(row, (), {})
    assert [result.recipients for result in entry.results] == [(2,)]
    assert entry.record == AttemptRecord()
