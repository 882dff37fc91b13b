"""The queue in figures, counted on real tables, and the page that shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.figures import page
from relay.mail.message import MessageId, NewMessage
from relay.mail.outcome import Cause, State
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import database
from relay.queue.control import Act, Action
from relay.queue.pattern import AddressPattern
from relay.queue.rows import to_micros
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import Rest
from relay.queue.visitor import open_reader

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

MakeMessage = Callable[..., NewMessage]
MakeSettlement = Callable[..., Settlement]


async def fill(store: SqliteStore, message: MakeMessage, settlement: MakeSettlement) -> None:
    """For example.org one held, one deferred, one delivered; for example.net one under way; example.com two of one."""
    await store.put((message(1, "a@example.org"), message(2, "a@example.org", arrived=NOW - 10 * MINUTE)))
    await store.put((message(3, "a@example.org", arrived=NOW - 100 * MINUTE),))
    for state in (State.DELIVERED, State.DEFERRED):
        (claim,) = await store.claim(1, 30 * MINUTE, NOW, {}, 100)
        await store.settle(claim, settlement(claim, state), (), NOW, record=AttemptRecord(), began=NOW)
    hold = Action(Act.HOLD, QueueFilter(states=(State.QUEUED,)), "root", "wait")
    await store.controls.perform(hold, NOW, lambda *_: None)
    await store.put((message(4, "a@example.net"),))
    await store.claim(1, 30 * MINUTE, NOW, {}, 100)
    await store.put((message(5, "a@example.com", "b@example.com", arrived=NOW - 3000 * MINUTE),))
    await store.rest("example.com", Rest(NOW + MINUTE, NOW - MINUTE, 2, "4.4.1", "refused"))
    await store.rest("example.org", Rest(NOW, NOW - MINUTE, 2, "4.4.1", "over"))


@pytest.mark.asyncio
async def test_what_is_counted(store: SqliteStore, message: MakeMessage, settlement: MakeSettlement) -> None:
    await fill(store, message, settlement)
    stats = await store.controls.stats(QueueFilter(), NOW, None)
    assert (stats.recipients, stats.messages, stats.under_way, stats.due) == (5, 4, 1, 0)  # what is due rests
    assert stats.oldest == NOW - 3000 * MINUTE
    assert stats.states == {State.DEFERRED: 1, State.HELD: 1, State.QUEUED: 3}
    groups = {group.name: group for group in stats.destinations}
    assert list(groups) == ["example.com", "example.org", "example.net"]
    assert [(one.recipients, one.messages, one.held, one.under_way) for one in groups.values()] == [
        (2, 1, 0, 0),
        (2, 2, 1, 0),
        (1, 1, 0, 1),
    ]
    assert groups["example.com"].ages == (0, 0, 0, 0, 0, 2)
    assert sum(groups["example.org"].ages) == 2 and sum(groups["example.net"].ages[:1]) == 1
    assert groups["example.com"].next_attempt == NOW - 3000 * MINUTE
    assert groups["example.org"].next_attempt == NOW + 60 * MINUTE
    assert groups["example.net"].next_attempt is None
    assert groups["example.com"].rest is not None and groups["example.org"].rest is None
    assert list(stats.resting) == ["example.com"]
    assert [(cause.name, cause.recipients) for cause in stats.causes] == [("not tried", 4), ("not known", 1)]
    assert [(sender.name, sender.recipients) for sender in stats.senders] == [("from@sender.example", 5)]


@pytest.mark.asyncio
async def test_senders_are_told_apart_by_login_and_not_by_what_changes(
    store: SqliteStore, message: MakeMessage
) -> None:
    senders = ("news+1@s.example", "news+2@s.example", "jo@s.example", None, "x@s.example")
    await store.put([message(number, "a@example.org", sender=sender) for number, sender in enumerate(senders, 1)])
    await store.put((replace(message(6, "a@example.org", "b@example.org", sender="y@s.example"), login="jo"),))
    stats = await store.controls.stats(QueueFilter(), NOW, None)
    assert [(one.name, one.recipients, one.messages) for one in stats.senders] == [
        ("jo", 2, 1),
        ("news@s.example", 2, 2),
        ("<>", 1, 1),
        ("jo@s.example", 1, 1),
        ("x@s.example", 1, 1),
    ]


@pytest.mark.asyncio
async def test_a_filter_and_a_limit_of_groups(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await fill(store, message, settlement)
    stats = await store.controls.stats(QueueFilter(), NOW, 1)
    assert [group.name for group in stats.destinations] == ["example.com"]
    assert stats.recipients == 5
    only = await store.controls.stats(QueueFilter(domain=AddressPattern(domain="example.net")), NOW, None)
    assert [(group.name, group.recipients) for group in only.destinations] == [("example.net", 1)]


@pytest.mark.asyncio
async def test_the_page(store: SqliteStore, message: MakeMessage, settlement: MakeSettlement) -> None:
    assert page(await store.controls.stats(QueueFilter(), NOW, None), NOW) == "No mail waits."
    await fill(store, message, settlement)
    shown = page(await store.controls.stats(QueueFilter(), NOW, None), NOW).splitlines()
    assert shown[0] == "5 recipients in 4 messages wait, the oldest for 2 days"
    heading = "DESTINATION RECIPIENTS MESSAGES OLDEST NEXT ATTEMPT HELD <=5m <=15m <=1h <=4h <=1d OLDER"
    assert " ".join(shown[3].split()) == heading
    assert " ".join(shown[4].split()) == "example.com 2 1 2 days rests, 60 s 0 0 0 0 0 0 2"
    assert shown[6].split()[:6] == ["example.net", "1", "1", "0", "s", "under"]
    assert shown[-3:] == [
        "RESTING DESTINATIONS",
        "example.com: nothing is tried before 2030-01-01 12:01:00 UTC, in 60 s",
        "    down since 2030-01-01 11:59:00 UTC, 2 failures in a row: 4.4.1 refused",
    ]


@pytest.mark.asyncio
async def test_the_page_in_a_narrow_window_and_cut_short(
    store: SqliteStore, message: MakeMessage, settlement: MakeSettlement
) -> None:
    await fill(store, message, settlement)
    whole = page(await store.controls.stats(QueueFilter(), NOW, None), NOW, 200)
    assert "<=5m" in whole and "more" not in whole
    narrow = page(await store.controls.stats(QueueFilter(), NOW, 1), NOW, 80).splitlines()
    assert max(map(len, narrow[:-2])) <= 80
    assert narrow[3].split()[-2:] == ["ATTEMPT", "HELD"]
    assert narrow[5] == "and 3 recipients more: --limit NUMBER shows more lines"


def test_a_hundred_thousand_are_counted_listed_and_held_within_seconds(folder: Path) -> None:
    folder.mkdir()
    database.prepare(folder)
    arrived = to_micros(NOW)
    with closing(database.connect(folder)) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO message (id, sender, sender_domain, eight_bit, smtputf8, demand, size, arrived)"
            " VALUES (?, 'a@b.example', 'b.example', 0, 0, 'default', 1, ?)",
            [(number, arrived) for number in range(1, 100_001)],
        )
        connection.executemany(
            "INSERT INTO recipient (message, number, address, domain, destination, flow, state, attempts, next_attempt,"
            " tls, changed, delay_notices, cause, status) VALUES (?, 0, 'x@' || ?2, ?2, ?2, '', 'deferred', 1, ?3,"
            " 'none', ?3, 0, ?4, '4.4.1')",
            [(number, f"d{number % 1000}.example", arrived, Cause.OUTAGE.value) for number in range(1, 100_001)],
        )
        connection.execute("COMMIT")
    with closing(open_reader(folder)) as reader:
        begun = time.monotonic()
        stats = reader.stats(QueueFilter(cause=Cause.OUTAGE), NOW, 10)
        counted = time.monotonic() - begun
        begun = time.monotonic()
        found = reader.select(QueueFilter(recipient=AddressPattern("x", "d7.example")))
        listed = time.monotonic() - begun
        assert reader.select(QueueFilter(ids=(MessageId(7),)))[0].recipient == "x@d7.example"
    assert (stats.recipients, len(stats.destinations), len(found)) == (100_000, 10, 100)
    assert counted < 5 and listed < 5  # a tenth of that on a machine that is not busy
