"""Every act on every state, against a table; and what the acts promise besides."""

from __future__ import annotations

import asyncio
import email
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.mail.message import Body, InlineBody, MessageId, NewMessage, Notify, RecipientDsn
from relay.mail.outcome import State
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import visitor
from relay.queue.control import Act, Action, Tally
from relay.queue.giving_up import composer
from relay.queue.pattern import parse_pattern
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import QueueEntry, Rest, by_domain

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LATER = NOW + HOUR / 2  # when the operator acts
LEASE = timedelta(minutes=30)

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]
EVERYTHING = QueueFilter()

# What a recipient is before, how it is afterwards (None: as before), and whether it is due at once.
AFTER: dict[tuple[Act, str], tuple[str, bool] | None] = {
    (Act.HOLD, "queued"): ("held", False),
    (Act.HOLD, "deferred"): ("held", False),
    (Act.HOLD, "held"): None,
    (Act.RELEASE, "queued"): None,
    (Act.RELEASE, "deferred"): None,
    (Act.RELEASE, "held"): ("deferred", True),
    (Act.RETRY, "queued"): ("queued", True),
    (Act.RETRY, "deferred"): ("deferred", True),
    (Act.RETRY, "held"): None,
    (Act.FAIL, "queued"): ("failed", False),
    (Act.FAIL, "deferred"): ("failed", False),
    (Act.FAIL, "held"): ("failed", False),
    (Act.DROP, "queued"): ("dropped", False),
    (Act.DROP, "deferred"): ("dropped", False),
    (Act.DROP, "held"): ("dropped", False),
    (Act.REROUTE, "queued"): ("queued", True),
    (Act.REROUTE, "deferred"): ("deferred", True),
    (Act.REROUTE, "held"): ("held", False),
}
ELSEWHERE = ("under way", "delivered", "failed", "dropped")  # never touched


def ids(first: int = 1 << 40) -> Callable[[], MessageId]:
    numbers = iter(range(first, first + 1000))
    return lambda: MessageId(next(numbers))


COMPOSE = composer("relay.test", ids(), NOW)


async def perform(
    store: SqliteStore, act: Act, selection: QueueFilter = EVERYTHING, dry_run: bool = False, route: str | None = None
) -> Tally:
    action = Action(act, selection, "ops", "too old", route, dry_run)
    return await store.controls.perform(action, LATER, composer("relay.test", ids(), LATER))


async def entries(store: SqliteStore) -> list[QueueEntry]:
    found = await store.find(None, history=True)
    return [entry for entry in found if entry.id.number < 1 << 40]


async def notices(store: SqliteStore) -> list[QueueEntry]:
    found = await store.find(None, history=True)
    return [entry for entry in found if entry.id.number >= 1 << 40]


async def bring_to(store: SqliteStore, what: str, number: int, message: MakeMessage, settle: MakeSettlement) -> None:
    """Put a message and bring it into this state."""
    await store.put((message(number),))
    if what == "queued":
        return
    (claim,) = await store.claim(1, LEASE, NOW, {}, 100)
    if what == "under way":
        return
    state = State.DEFERRED if what in ("held", "dropped") else State(what)
    await store.settle(claim, settle(claim, state), (), NOW, record=AttemptRecord(), began=NOW)
    if what in ("held", "dropped"):
        await perform(store, Act.HOLD if what == "held" else Act.DROP, QueueFilter(ids=(MessageId(number),)))


@pytest.mark.parametrize("act", list(Act), ids=lambda act: act.value)
async def test_every_act_on_every_state(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, act: Act
) -> None:
    before = ["deferred", "held", *ELSEWHERE, "queued"]  # what is claimed first comes first
    for number, what in enumerate(before, 1):
        await bring_to(store, what, number, message, settlement)
    old = {entry.id.number: entry for entry in await entries(store)}
    tried = await perform(store, act, dry_run=True)
    assert {entry.id.number: entry for entry in await entries(store)} == old
    tally = await perform(store, act)
    assert (tried.recipients, tried.done, tried.under_way, tried.unfit) == (
        *(tally.recipients, tally.done, tally.under_way, tally.unfit),
    )
    new = {entry.id.number: entry for entry in await entries(store)}
    done = 0
    for number, what in enumerate(before, 1):
        wanted = AFTER.get((act, what))
        if wanted is None:
            assert new[number] == old[number], what
            continue
        done += 1
        state, due = wanted
        assert new[number].state.value == state, what
        assert new[number].attempts == old[number].attempts
        if due:
            assert new[number].next_attempt in (LATER, old[number].next_attempt if what == "queued" else LATER), what
        else:
            assert new[number].next_attempt is None, what
    under_way = int(act is not Act.RELEASE)
    assert (tally.recipients, tally.done, tally.under_way) == (4, done, under_way)
    assert tally.unfit == 4 - done - under_way
    assert tally.messages == 4 and tally.done_messages == done


@pytest.mark.parametrize("act", list(Act), ids=lambda act: act.value)
async def test_an_act_is_remembered_with_who_and_why(store: SqliteStore, message: MakeMessage, act: Act) -> None:
    await store.put((message(1),))
    if act is Act.RELEASE:
        await perform(store, Act.HOLD)
    await perform(store, act, route="backup")
    trace, _ = await store.controls.message(MessageId(1))
    assert trace is not None
    (found,) = [one for one in trace.acts if one.act == act.value]
    assert (found.number, found.made, found.who) == (0, LATER, "ops")
    assert found.detail == ("backup" if act is Act.REROUTE else "too old")


async def test_a_held_message_waits_until_it_is_released(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    await perform(store, Act.HOLD)
    assert await store.claim(10, LEASE, NOW + 99 * HOUR, {}, 100) == ()
    (entry,) = await entries(store)
    assert (entry.state, entry.hold, entry.next_attempt) == (State.HELD, "too old", None)
    await perform(store, Act.RELEASE)
    (entry,) = await entries(store)
    assert (entry.state, entry.hold, entry.next_attempt) == (State.QUEUED, None, LATER)
    assert len(await store.claim(10, LEASE, LATER, {}, 100)) == 1


async def test_retry_does_not_put_off_what_was_due_before(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    await perform(store, Act.RETRY)
    assert [entry.next_attempt for entry in await entries(store)] == [NOW]


@pytest.mark.parametrize("outside", [False, True])
async def test_retry_ends_the_rest_of_what_it_tries(
    store: SqliteStore, message: MakeMessage, folder: Path, outside: bool
) -> None:
    await store.put((message(1), message(2, "x@example.net")))
    for name in ("example.org", "example.net"):
        await store.rest(name, Rest(NOW + 99 * HOUR, NOW, 1, "4.4.1", "down"))
    assert await store.claim(10, LEASE, LATER, {}, 100) == ()
    retry = Action(Act.RETRY, QueueFilter(ids=(MessageId(1),)), "root")
    tried = replace(retry, dry_run=True)
    for action in (tried, retry):
        if outside:
            await asyncio.to_thread(visitor.perform, folder, action, LATER, COMPOSE, by_domain)
        else:
            await store.controls.perform(action, LATER, COMPOSE)
        assert len(await store.rests()) == (2 if action.dry_run else 1)
    assert [claim.id.number for claim in await store.claim(10, LEASE, LATER, {}, 100)] == [1]


async def test_what_is_rerouted_goes_by_its_new_way_at_once(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await bring_to(store, "deferred", 1, message, settlement)
    await perform(store, Act.REROUTE, route="backup")
    (claim,) = await store.claim(10, LEASE, LATER, {}, 100)
    assert claim.destination == "route:backup"
    await store.release(claim, NOW)
    await perform(store, Act.REROUTE, route=None)
    (claim,) = await store.claim(10, LEASE, LATER, {}, 100)
    assert claim.destination == "example.org"


async def test_the_sender_is_told_of_what_is_given_up(store: SqliteStore, message: MakeMessage) -> None:
    body = b"Subject: hello\r\nX-Mark: 1\r\n\r\nsecret\r\n"
    await store.put((message(1, "a@example.org", "b@example.net", "c@example.com", body=body),))
    two = QueueFilter(recipient=parse_pattern("*@*.*g")), QueueFilter(recipient=parse_pattern("@example.net"))
    assert [len((await perform(store, Act.FAIL, one)).notices) for one in two[:1]] == [1]
    (failed, *open_ones) = await entries(store)
    assert (failed.state, failed.status) == (State.FAILED, "5.7.1")
    assert failed.reason == "given up by the administrator of this server: too old"
    assert [entry.state for entry in open_ones] == [State.QUEUED] * 2
    (claim,) = [one for one in await store.claim(10, LEASE, LATER, {}, 100) if one.id.number >= 1 << 40]
    assert isinstance(claim.body, InlineBody)
    parsed = email.message_from_bytes(claim.body.octets)
    assert parsed.get_content_type() == "multipart/report"
    assert [str(one.address) for one in claim.recipients] == ["from@sender.example"]
    assert claim.sender is None
    text = claim.body.octets.decode()
    assert "Status: 5.7.1\r\n" in text and "Final-Recipient: rfc822; a@example.org" in text
    assert "b@example.net" not in text and "X-Mark: 1" in text and "secret" not in text
    assert "Who can mend it: the administrators of this server, who decided it." in " ".join(text.split())


@pytest.mark.parametrize(
    ("sender", "notify", "told"),
    [
        ("from@sender.example", None, 1),
        ("from@sender.example", Notify.FAILURE, 1),
        ("from@sender.example", Notify.SUCCESS | Notify.DELAY, 0),
        ("from@sender.example", Notify.NEVER, 0),
        (None, None, 0),
    ],
)
@pytest.mark.parametrize("act", [Act.FAIL, Act.DROP], ids=lambda act: act.value)
async def test_who_is_told(
    store: SqliteStore, message: MakeMessage, sender: str | None, notify: Notify | None, told: int, act: Act
) -> None:
    put = message(1, sender=sender)
    await store.put((replace(put, envelope=replace(put.envelope, dsn=(RecipientDsn(notify),))),))
    wanted = told if act is Act.FAIL else 0
    assert len((await perform(store, act, dry_run=True)).notices) == wanted
    assert len((await perform(store, act)).notices) == wanted
    assert len(await notices(store)) == wanted
    trace, _ = await store.controls.message(MessageId(1))
    assert trace is not None
    assert [entry.state.value for entry in trace.recipients] == ["failed" if act is Act.FAIL else "dropped"]


async def test_a_notice_is_not_given_up_by_the_act_that_made_it(
    store: SqliteStore, message: MakeMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.queue.control.PIECE_WITH_NOTICES", 1)
    await store.put((message(1), message(2), message(3, "a@example.org", "b@example.org")))
    tally = await perform(store, Act.FAIL)
    assert (tally.recipients, tally.done, tally.messages) == (4, 4, 3)
    assert len(tally.notices) == 3  # one for each message, though its recipients did not fit into one piece
    assert [entry.state for entry in await notices(store)] == [State.QUEUED] * 3


@pytest.mark.parametrize("piece", [1, 2, 5000])
async def test_the_limit_counts_what_was_found(
    store: SqliteStore, message: MakeMessage, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr("relay.queue.control.PIECE", piece)
    await store.put([message(number, "a@example.org", "b@example.org") for number in range(1, 5)])
    assert (await perform(store, Act.HOLD, QueueFilter(limit=3))).done == 3
    assert [entry.state.value for entry in await entries(store)] == ["held"] * 3 + ["queued"] * 5
    released = await perform(store, Act.RELEASE, QueueFilter(states=(State.HELD,), limit=2))
    assert (released.done, released.messages) == (2, 1)
    tally = await perform(store, Act.HOLD, QueueFilter(recipient=parse_pattern("a@*")))
    assert (tally.recipients, tally.done, tally.unfit, tally.messages) == (4, 3, 1, 4)


@pytest.mark.parametrize("piece", [1, 3, 5000])
async def test_pieces_are_added_up_in_another_process_too(
    store: SqliteStore, message: MakeMessage, folder: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr("relay.queue.control.PIECE", piece)
    monkeypatch.setattr("relay.queue.visitor.LEAVE_SECONDS", 0)
    await store.put([message(number, "a@example.org", "b@example.org") for number in range(1, 4)])
    drop = Action(Act.DROP, QueueFilter(), "root")
    tally = await asyncio.to_thread(visitor.perform, folder, drop, LATER, COMPOSE, by_domain)
    assert (tally.done, tally.done_messages, len(tally.finished)) == (6, 3, 3)


async def large_body(store: SqliteStore, number: int) -> Body:
    writer = store.new_body(MessageId(number))
    await writer.write(b"Subject: large\r\n\r\n" + b"y" * 200_000)
    return await writer.finish()


@pytest.mark.parametrize("act", [Act.FAIL, Act.DROP], ids=lambda act: act.value)
async def test_a_body_goes_with_the_last_recipient(
    store: SqliteStore, message: MakeMessage, folder: Path, act: Act
) -> None:
    await store.put((message(1, "a@example.org", "b@example.net", body=await large_body(store, 1)),))
    file = folder / "bodies" / str(MessageId(1))
    first = await perform(store, act, QueueFilter(recipient=parse_pattern("@example.org")))
    assert (first.finished, file.exists()) == ((), True)
    second = await perform(store, act, QueueFilter(ids=(MessageId(1),)))
    await store.check_writable()  # the writer is beyond what comes after the commit
    assert (second.finished, file.exists()) == ((MessageId(1),), False)
    await store.tidy(LATER + HOUR)
    assert await entries(store) == []
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        assert connection.execute("SELECT count(*) FROM operator_act").fetchone() == (0,)


async def test_another_process_does_the_same_and_the_service_notices(
    store: SqliteStore, message: MakeMessage, folder: Path
) -> None:
    await store.put((message(1, body=await large_body(store, 1)), message(2)))
    hold = Action(Act.HOLD, QueueFilter(ids=(MessageId(2),)), "root", "wait")
    drop = Action(Act.DROP, QueueFilter(ids=(MessageId(1),)), "root")
    assert (await asyncio.to_thread(visitor.perform, folder, hold, LATER, COMPOSE, by_domain)).done == 1
    assert (await asyncio.to_thread(visitor.perform, folder, drop, LATER, COMPOSE, by_domain)).done == 1
    assert await store.claim(10, LEASE, LATER, {}, 100) == ()
    assert list((folder / "bodies").iterdir()) == []
    release = Action(Act.RELEASE, EVERYTHING, "root")
    await asyncio.to_thread(visitor.perform, folder, release, LATER, COMPOSE, by_domain)
    assert [claim.id.number for claim in await store.claim(10, LEASE, LATER, {}, 100)] == [2]


@pytest.mark.parametrize("act", [Act.HOLD, Act.RETRY, Act.DROP, Act.REROUTE], ids=lambda act: act.value)
async def test_without_a_service_nothing_is_in_an_attempt(
    store: SqliteStore,
    message: MakeMessage,
    folder: Path,
    reopen: Callable[[SqliteStore, datetime], Awaitable[SqliteStore]],
    act: Act,
) -> None:
    await store.put((message(1), message(2)))
    await store.claim(10, LEASE, NOW, {}, 100)
    action = Action(act, QueueFilter(ids=(MessageId(2),)), "root", route="backup")
    while_it_runs = await asyncio.to_thread(visitor.perform, folder, action, LATER, COMPOSE, by_domain)
    assert (while_it_runs.done, while_it_runs.under_way) == (0, 1)
    assert {entry.next_attempt for entry in await entries(store)} == {None}
    await store.close()
    afterwards = await asyncio.to_thread(visitor.perform, folder, action, LATER, COMPOSE, by_domain)
    assert (afterwards.done, afterwards.under_way) == (1, 0)
    store = await reopen(store, LATER)
    claimed = [claim.id.number for claim in await store.claim(10, LEASE, LATER, {}, 100)]
    assert claimed == ([2] if act in (Act.RETRY, Act.REROUTE) else [])


async def test_an_act_that_fails_leaves_all_as_it_was(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1), message(2)))

    def compose(*_: object) -> NewMessage:
        return message(1)  # whose id is taken

    with pytest.raises(Exception, match="taken"):
        await store.controls.perform(Action(Act.FAIL, EVERYTHING, "ops"), LATER, compose)
    assert [entry.state for entry in await entries(store)] == [State.QUEUED] * 2


async def test_mail_whose_body_cannot_be_read_can_be_given_up(
    store: SqliteStore, message: MakeMessage, folder: Path
) -> None:
    """The sender hears of it all the same, without its header; and nothing else is held up by it."""
    await store.put((message(1, body=await large_body(store, 1)), message(2)))
    (folder / "bodies" / str(MessageId(1))).unlink()
    assert (await perform(store, Act.FAIL)).done == 2
    assert [entry.state for entry in await entries(store)] == [State.FAILED] * 2
    assert len(await notices(store)) == 2
