"""Whose mail is claimed when: many senders, many destinations, rests, and what an opening of the queue does to all."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.mail.address import Address
from relay.mail.message import Claim, NewMessage
from relay.mail.outcome import State
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import visitor
from relay.queue.control import Act, Action
from relay.queue.database import FILE_NAME
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import Rest, StoreUnavailable, by_domain

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LEASE = timedelta(minutes=30)
SHARE = 10
DOWN = Rest(NOW + 10 * MINUTE, NOW - MINUTE, 3, "4.4.1", "connection refused", "outage")

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]
Reopen = Callable[[SqliteStore, datetime], Awaitable[SqliteStore]]


async def claim(store: SqliteStore, now: datetime = NOW, limit: int = 100, share: int = SHARE) -> tuple[Claim, ...]:
    return await store.claim(limit, LEASE, now, {}, share)


async def settle(store: SqliteStore, claim: Claim, settlement: Settlement, now: datetime = NOW) -> None:
    assert await store.settle(claim, settlement, (), now, record=AttemptRecord(), began=now)


async def defer_all(store: SqliteStore, make: MakeSettlement, until: datetime) -> None:
    while claims := await claim(store, share=1000):
        for one in claims:
            await settle(store, one, make(one, State.DEFERRED, next_attempt=until))


def numbers(claims: Iterable[Claim]) -> list[int]:
    return [claim.id.number for claim in claims]


# Senders and destinations in turn


async def test_much_mail_of_one_sender_does_not_keep_anothers_waiting(store: SqliteStore, message: MakeMessage) -> None:
    """To one domain, to a thousand, and to that of the other's mail: which came last."""
    flood = [message(number, "x@big.example", sender="bulk@a.example") for number in range(1, 1001)]
    flood += [message(number, f"x@{number}.example", sender="bulk@a.example") for number in range(1001, 2001)]
    await store.put(flood)
    await store.put(
        [
            message(3001, "y@big.example", sender="one@b.example"),
            message(3002, "y@1999.example", sender="two@b.example"),
            message(3003, "y@else.example", sender="three@b.example"),
        ]
    )
    assert {3001, 3002, 3003} <= set(numbers(await claim(store, limit=6)))


async def test_even_if_the_other_comes_to_a_full_destination(store: SqliteStore, message: MakeMessage) -> None:
    """As soon as there is room, it is its turn."""
    await store.put([message(number, "x@big.example", sender="bulk@a.example") for number in range(1, 101)])
    assert len(await claim(store)) == SHARE
    full = {"big.example": 0}
    assert await store.claim(10, LEASE, NOW, full, SHARE) == ()
    await store.put((message(201, "y@big.example", sender="one@b.example"),))
    assert await store.claim(10, LEASE, NOW, full, SHARE) == ()
    assert numbers(await store.claim(10, LEASE, NOW, {"big.example": 2}, SHARE)) == [11, 201]


async def test_a_sender_is_whoever_logged_in(store: SqliteStore, message: MakeMessage) -> None:
    """Whatever addresses it makes up; and what changes from message to message makes no sender."""
    made_up = [replace(message(n, sender=f"{n}@a.example"), login="bulk") for n in range(1, 51)]
    verp = [message(n, sender=f"news+{n}@b.example") for n in range(51, 101)]
    await store.put([*made_up, *verp, message(101, sender="one@c.example")])
    assert numbers(await claim(store, limit=6)) == [1, 51, 101, 2, 52, 3]


async def test_new_mail_goes_ahead_and_retries_are_not_starved(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put([message(number) for number in range(1, 41)])
    await defer_all(store, settlement, NOW + MINUTE)
    await store.put([message(number, arrived=NOW + MINUTE) for number in range(101, 141)])
    taken = await claim(store, NOW + MINUTE, limit=40, share=1000)
    kinds = "".join("r" if one.id.number < 100 else "n" for one in taken)
    assert Counter(kinds) == {"n": 30, "r": 10}
    assert all("r" in kinds[place : place + 4] for place in range(0, 40, 4))


async def test_where_one_is_full_the_other_destinations_are_claimed(store: SqliteStore, message: MakeMessage) -> None:
    await store.put([message(number, f"x@{number % 3}.example") for number in range(1, 61)])
    taken = Counter(one.destination for one in await store.claim(100, LEASE, NOW, {"0.example": 2, "1.example": 0}, 5))
    assert taken == {"0.example": 2, "2.example": 5}


# Rests


async def test_a_destination_that_rests(store: SqliteStore, message: MakeMessage, reopen: Reopen) -> None:
    await store.put((message(1, "x@down.example"), message(2, "x@up.example")))
    await store.rest("down.example", DOWN)
    assert numbers(await claim(store)) == [2]
    assert await store.rests() == {"down.example": DOWN}
    assert await store.next_due((), NOW) == DOWN.until
    store = await reopen(store, NOW + MINUTE)
    assert await store.rests() == {"down.example": DOWN}
    assert numbers(await claim(store, DOWN.until - timedelta(microseconds=1))) == [2]  # that was under way
    assert numbers(await claim(store, DOWN.until)) == [1]
    assert await store.rests() == {"down.example": DOWN}  # it was not reached yet
    await store.rest("down.example", None)
    assert await store.rests() == {}


async def test_a_rest_may_become_longer(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1, "x@down.example"),))
    await store.rest("down.example", DOWN)
    longer = replace(DOWN, until=DOWN.until + MINUTE, failures=4)
    await store.rest("down.example", longer)
    assert await claim(store, DOWN.until) == ()
    assert await store.rests() == {"down.example": longer}
    await store.rest("down.example", None)
    assert numbers(await claim(store)) == [1]


@pytest.mark.parametrize("from_outside", [False, True])
@pytest.mark.parametrize("of_one", [False, True])
async def test_retry_now_ends_the_rest(
    from_outside: bool, of_one: bool, store: SqliteStore, message: MakeMessage, folder: Path
) -> None:
    put = message(1, "x@down.example")
    await store.put((put, message(2, "x@other.example")))
    await store.rest("down.example", DOWN)
    await store.rest("other.example", DOWN)
    assert await claim(store) == ()
    id = put.id if of_one else None
    action = Action(Act.RETRY, QueueFilter(ids=() if id is None else (id,)), "root")
    if from_outside:
        visitor.perform(folder, action, NOW, lambda *_: None, by_domain)
    else:
        await store.controls.perform(action, NOW, lambda *_: None)
    assert numbers(await claim(store)) == ([1] if of_one else [1, 2])
    assert set(await store.rests()) == ({"other.example"} if of_one else set())


async def test_rests_of_which_nobody_knows_any_more(store: SqliteStore, message: MakeMessage) -> None:
    """A domain that never was: its mail came back, and nothing is sent there again."""
    await store.put((message(1, "x@down.example"),))
    for name in ("down.example", "gone.example"):
        await store.rest(name, DOWN)
    await store.tidy(DOWN.until)
    assert set(await store.rests()) == {"down.example", "gone.example"}
    await store.tidy(DOWN.until + SECOND)
    assert set(await store.rests()) == {"down.example"}


# Opening


async def test_what_fell_due_while_nothing_ran_is_spread(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, reopen: Reopen
) -> None:
    """Two hundred retries over four seconds; what is new, and what is due later, as it was."""
    await store.put([message(number) for number in range(1, 202)])
    taken = await claim(store, limit=201, share=1000)
    for one in taken:
        due = NOW + (MINUTE if one.id.number < 201 else 30 * MINUTE)
        await settle(store, one, settlement(one, State.DEFERRED, next_attempt=due))
    await store.put((message(301),))
    now = NOW + 10 * MINUTE
    store = await reopen(store, now)
    times = {entry.id.number: entry.next_attempt for entry in await store.find(None, history=False)}
    assert times.pop(301) == NOW
    assert times.pop(201) == NOW + 30 * MINUTE
    found = sorted(time - now for time in times.values() if time is not None)
    assert timedelta(0) <= found[0] < SECOND
    assert 3 * SECOND < found[-1] <= 4 * SECOND
    assert len(set(found)) > 150
    assert numbers(await claim(store, now, share=1000))[0] == 301
    assert len(await claim(store, now + 4 * SECOND, limit=300, share=1000)) + 1 >= 200


async def test_no_more_than_five_minutes(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, reopen: Reopen, folder: Path
) -> None:
    await store.put([message(number) for number in range(1, 51)])
    await defer_all(store, settlement, NOW + MINUTE)
    await store.close()
    with closing(sqlite3.connect(folder / FILE_NAME)) as somebody:  # as many more, without their messages
        somebody.execute("PRAGMA foreign_keys = OFF")
        names = [row[1] for row in somebody.execute("PRAGMA table_info(recipient)")]
        columns = ", ".join("recipient.number + each.value" if name == "number" else name for name in names)
        somebody.execute(
            f"INSERT INTO recipient SELECT {columns} FROM recipient,"
            " (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 400)"
            " SELECT value FROM n) AS each"
        )
        somebody.commit()
    now = NOW + 10 * MINUTE
    store = await reopen(store, now)
    times = [entry.next_attempt - now for entry in await store.find(None, history=False) if entry.next_attempt]
    assert len(times) > 20_000
    assert timedelta(0) <= min(times) < SECOND
    assert 299 * SECOND < max(times) <= 300 * SECOND


def _by_route(sender: Address | None, login: str | None, recipient: Address, chosen: str | None = None) -> str:
    """All mail but that to direct.example goes over a route, that of a login over its own."""
    if chosen is not None:
        return f"route:{chosen}"
    if login is not None:
        return f"route:{login}"
    return recipient.domain if recipient.domain == "direct.example" else "route:smart"


async def test_the_settings_may_have_changed_where_mail_goes(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, folder: Path
) -> None:
    await store.put(
        (
            message(1, "x@a.example", "y@b.example", "z@direct.example"),
            replace(message(2, "x@a.example"), login="jo"),
            message(3, "x@a.example"),
            message(4, "x@a.example"),
        )
    )
    third = next(one for one in await claim(store) if one.id.number == 3)
    (recipient,) = settlement(third, State.DEFERRED, next_attempt=NOW).recipients
    await settle(store, third, Settlement((replace(recipient, route="chosen"),)))
    await store.close()
    wanted = {
        False: {
            (1, "a.example"), (1, "b.example"), (1, "direct.example"),
            (2, "a.example"), (3, "route:chosen"), (4, "a.example"),
        },
        True: {
            (1, "route:smart"), (1, "direct.example"),
            (2, "route:jo"), (3, "route:chosen"), (4, "route:smart"),
        },
    }  # fmt: skip
    now = NOW
    for routed in (True, False, True):
        now += 10 * MINUTE
        again = SqliteStore(folder, _by_route) if routed else SqliteStore(folder)
        await again.open(now)
        taken = await claim(again, now + MINUTE)
        assert {(one.id.number, one.destination) for one in taken} == wanted[routed]
        await again.close()


async def test_a_recipient_is_moved_to_another_route(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await store.put((message(1, "x@a.example", "y@a.example"),))
    (taken,) = await claim(store)
    both = settlement(taken, State.DEFERRED, next_attempt=NOW + MINUTE).recipients
    await settle(store, taken, Settlement((replace(both[0], route="backup"), both[1])))
    await store.rest("a.example", DOWN)
    (moved,) = await claim(store, NOW + MINUTE)
    assert (moved.destination, [one.index for one in moved.recipients]) == ("route:backup", [0])
    await store.rest("a.example", None)
    (stayed,) = await claim(store, NOW + MINUTE)
    assert (stayed.destination, [one.index for one in stayed.recipients]) == ("a.example", [1])


async def test_a_review_that_was_under_way_is_undone(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement, reopen: Reopen
) -> None:
    """Of held mail; else nobody could look at it again."""
    await store.put((message(1),))
    (taken,) = await claim(store)
    held = settlement(taken, State.HELD).recipients
    overdue = tuple(replace(one, next_attempt=None, review=NOW + MINUTE) for one in held)
    await settle(store, taken, Settlement(overdue))
    later = NOW + 2 * MINUTE
    assert len(await store.reviews(later, LEASE, 10)) == 1
    assert await store.reviews(later, LEASE, 10) == ()
    store = await reopen(store, later)
    assert len(await store.reviews(later, LEASE, 10)) == 1


# Failures


async def test_a_claim_that_fails_leaves_nothing_unclaimed(store: SqliteStore, message: MakeMessage) -> None:
    """It had leased the first when it failed at the second. That was undone in the tables, so it is claimed again."""
    await store.put((message(1, "x@a.example"), message(2, "x@b.example")))

    async def do(statement: str) -> None:
        await store._running.run(lambda transaction: transaction.connection.execute(statement) and None)

    await do(
        "CREATE TEMP TRIGGER planted BEFORE UPDATE ON main.recipient"
        " WHEN NEW.message = 2 AND NEW.lease IS NOT NULL BEGIN SELECT RAISE(ABORT, 'planted'); END"
    )
    for _ in range(2):
        with pytest.raises((sqlite3.Error, StoreUnavailable), match="planted"):
            await claim(store)
    assert await store.next_due((), NOW) == NOW
    assert numbers(await store.claim(1, LEASE, NOW, {"b.example": 0}, SHARE)) == [1]
    await do("DROP TRIGGER planted")
    assert numbers(await claim(store)) == [2]
