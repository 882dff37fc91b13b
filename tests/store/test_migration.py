"""A queue of an older version is brought up when it is opened, and nothing in it is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import pytest

from relay.mail.message import MessageId, NewMessage, Once
from relay.mail.outcome import State
from relay.queue import visitor
from relay.queue.sqlite import SqliteStore
from relay.queue.store import QueueError

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
# Written by the first version: mail that waits, a large body, a bounce, and an attempt that a crash cut short.
SCHEMA_1 = Path(__file__).parents[1] / "data" / "queue_schema_1.sql"
LARGE = b"large\r\n" * 20_000


@pytest.fixture
def old(folder: Path) -> Path:
    """A folder as the first version left it."""
    (folder / "bodies").mkdir(parents=True)
    (folder / "bodies" / str(MessageId(2))).write_bytes(LARGE)
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA_1.read_text())
    return folder


@pytest.mark.asyncio
async def test_mail_that_waits_is_there_after_the_first_start(old: Path) -> None:
    store = SqliteStore(old)
    await store.open(NOW)
    try:
        entries = await store.find(None, history=True)
        assert [(entry.id.number, entry.recipient, entry.state.value, entry.attempts) for entry in entries] == [
            (1, "waits@example.org", "deferred", 1),
            (1, "kept@example.net", "delivered", 1),
            (2, "large@example.com", "queued", 0),
            (3, "gone@example.edu", "failed", 1),
            (4, "from@sender.example", "queued", 0),
            (5, "cut-short@example.biz", "queued", 1),
        ]
        claims = await store.claim(9, timedelta(minutes=30), NOW + timedelta(hours=2), {}, 100)
        bodies = {}
        for claim in claims:
            async with aclosing(store.read(claim.body)) as chunks:
                bodies[claim.id.number] = b"".join([chunk async for chunk in chunks])
        small = b"Subject: x\r\n\r\nx\r\n"
        assert bodies == {1: small, 2: LARGE, 4: small, 5: small}
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_old_mail_can_be_traced_without_evidence(old: Path) -> None:
    store = SqliteStore(old)
    await store.open(NOW)
    await store.close()
    with closing(visitor.open_reader(old)) as reader:
        (found,) = reader.trace("1@sender.example")
    assert (found.about, found.attempts) == (None, ())
    assert [entry.attempts for entry in found.recipients] == [1, 1]


def test_looking_in_changes_no_older_queue(old: Path) -> None:
    before = (old / "queue.db").read_bytes()
    with pytest.raises(QueueError, match="older version of Relay: start the service once"):
        visitor.open_reader(old)
    assert (old / "queue.db").read_bytes() == before


def of_schema(folder: Path, newest: int) -> Path:
    """A folder as the version with that schema left it: mail that waits for another attempt, and some on hold."""
    schema = resources.files("relay.queue") / "schema"
    (folder / "bodies").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript("CREATE TABLE schema_version (version INTEGER NOT NULL)")
        for number in range(1, newest + 1):
            connection.executescript((schema / f"{number:04}.sql").read_text())
        connection.execute("INSERT INTO schema_version VALUES (?)", (newest,))
        connection.executescript(
            """
            INSERT INTO message (id, sender, sender_domain, eight_bit, smtputf8, demand, size, arrived)
                VALUES (7, 'a@sender.example', 'sender.example', 0, 0, 'default', 17, 1893499200000000);
            INSERT INTO body VALUES (7, CAST('Subject: x' AS BLOB), NULL);
            INSERT INTO recipient (message, number, address, domain, destination, flow, state, attempts, next_attempt,
                tls, changed, delay_notices) VALUES
                (7, 0, 'a@x.example', 'x.example', 'x.example', 'a@sender.example', 'deferred', 1, 1893499260000000,
                'none', 1893499200000000, 0),
                (7, 1, 'b@y.example', 'y.example', 'y.example', 'a@sender.example', 'held', 1, NULL,
                'none', 1893499200000000, 0);
            """
        )
    return folder


@pytest.mark.asyncio
async def test_mail_of_the_third_version_has_asked_for_nothing(folder: Path) -> None:
    store = SqliteStore(of_schema(folder, 3))
    await store.open(NOW)
    try:
        (claim,) = await store.claim(9, timedelta(minutes=30), NOW + timedelta(hours=2), {}, 100)
        assert [str(one.address) for one in claim.recipients] == ["a@x.example"]
        assert (claim.release, claim.priority, claim.deliver_by, claim.due) == (None, 0, None, NOW)
        held = [one.recipient for one in await store.find(None, history=False) if one.state is State.HELD]
        assert held == ["b@y.example"]
        assert (await store.depth(NOW)).oldest == NOW
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_a_queue_of_the_fourth_schema_remembers_no_keys_yet(
    folder: Path, message: Callable[..., NewMessage]
) -> None:
    store = SqliteStore(of_schema(folder, 4))
    await store.open(NOW)
    try:
        assert await store.controls.stored_once("token:web", "k1") is None
        await store.put((replace(message(8), once=Once("token:web", "k1", b"digest")),))
        assert [entry.id.number for entry in await store.find(None, history=True)] == [7, 7, 8]
        assert await store.controls.stored_once("token:web", "k1") is not None
    finally:
        await store.close()


@pytest.mark.asyncio
async def test_a_queue_of_the_sixth_schema_has_no_tls_reports(folder: Path, message: Callable[..., NewMessage]) -> None:
    store = SqliteStore(of_schema(folder, 6))
    await store.open(NOW)
    try:
        await store.put((replace(message(8), report=True),))
        claims = await store.claim(9, timedelta(minutes=30), NOW + timedelta(hours=2), {}, 100)
        assert {claim.id.number: claim.report for claim in claims} == {7: False, 8: True}
    finally:
        await store.close()
