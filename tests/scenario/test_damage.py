"""Octets of queue.db are overwritten: the service says so and ends, or says so while it runs; no mail is made of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from app_here import running
from service import numbered

from relay.events import DefectFound, StoreFailed
from relay.lab.sink import Sink
from relay.mail.address import parse_address
from relay.mail.message import Envelope, InlineBody, MessageId, NewMessage
from relay.queue import database
from relay.queue.sqlite import SqliteStore
from relay.queue.store import QueueError, StoreUnavailable

PAGE = 4096
MESSAGES = 200
RUBBISH = bytes(range(1, 256)) * 16 + bytes(16)  # a page


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """A queue with mail in it, as a service that was ended has left it: without a log."""
    now = datetime.now(UTC)
    store = SqliteStore(tmp_path / "state")
    await store.open(now)
    sender, recipient = parse_address(b"s@from.test"), parse_address(b"r@t.test")
    for number in range(1, MESSAGES + 1):
        body = InlineBody(numbered(number, 100))
        await store.put([NewMessage(MessageId(number), Envelope(sender, (recipient,)), body, now)])
    await store.close()
    with closing(sqlite3.connect(tmp_path / "state" / "queue.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    yield tmp_path / "state"


def root_of(path: Path, name: str) -> int:
    """The first page of a table or an index."""
    with closing(sqlite3.connect(path)) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
    return int(root[0])


def overwrite(path: Path, page: int, octets: bytes = RUBBISH) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(octets)


def start(folder: Path) -> subprocess.CompletedProcess[str]:
    """`relay run`, which is to end by itself."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    settings = {
        "RELAY_SUBMISSION__LISTEN": "127.0.0.1:0",
        "RELAY_QUEUE__PATH": str(folder),
        "RELAY_DNS__TRUST_AD": "no",
    }
    return subprocess.run(
        [sys.executable, "-m", "relay", "run"],
        env=environ | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def header(folder: Path) -> None:
    overwrite(folder / "queue.db", 1, b"this is no database at all" * 4)


def table(folder: Path) -> None:
    overwrite(folder / "queue.db", root_of(folder / "queue.db", "recipient"))


def bodies(folder: Path) -> None:
    overwrite(folder / "queue.db", root_of(folder / "queue.db", "body"))


def index(folder: Path) -> None:
    overwrite(folder / "queue.db", root_of(folder / "queue.db", "recipient_due"))


def cut(folder: Path) -> None:
    os.truncate(folder / "queue.db", (folder / "queue.db").stat().st_size // 2)


@pytest.mark.asyncio
@pytest.mark.parametrize("harm", [header, table, bodies, index, cut])
async def test_a_damaged_queue_is_not_opened(harm: Callable[[Path], None], folder: Path) -> None:
    """One line that names the file, and the code for what an operator must look at."""
    harm(folder)
    before = (folder / "queue.db").read_bytes()
    with pytest.raises(QueueError, match=r"queue\.db (is damaged|cannot be opened): "):
        await SqliteStore(folder).open(datetime.now(UTC))
    assert (folder / "queue.db").read_bytes() == before


def test_the_service_says_so_in_one_line(folder: Path) -> None:
    table(folder)
    done = start(folder)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"relay: the queue {folder / 'queue.db'} ")
    assert "Traceback" not in done.stderr
    assert "listener-started" not in done.stderr


@pytest.mark.asyncio
@pytest.mark.parametrize("harm", [table, bodies, index])
async def test_damage_of_a_large_queue_is_found_when_it_is_met(
    harm: Callable[[Path], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read through at the start: then the first verb that meets the damage says so."""
    monkeypatch.setattr(database, "QUICK_CHECK_OCTETS", 0)
    harm(folder)
    sink = Sink()
    try:
        async with running(folder, await sink.start()) as here:
            await here.until(lambda: here.seen(StoreFailed))
            assert "malformed" in here.seen(StoreFailed)[0].reason
            assert here.seen(DefectFound) == []
    except QueueError as error:
        assert "malformed" in str(error)
    assert all(mail.octets.endswith(numbered(1, 100)[-1000:]) for mail in sink.received)
    await sink.stop()


@pytest.mark.asyncio
async def test_a_damaged_log_loses_nothing_that_is_in_the_database(folder: Path) -> None:
    """SQLite keeps checksums of its log: what follows the first that is wrong is as if it had not been written."""
    (folder / "queue.db-wal").write_bytes(RUBBISH * 3)
    store = SqliteStore(folder)
    await store.open(datetime.now(UTC))
    assert len(await store.find(None, history=False)) == MESSAGES
    await store.close()


@pytest.mark.asyncio
async def test_the_file_is_overwritten_while_the_service_runs(tmp_path: Path, folder: Path) -> None:
    """Everything that it meets is said; nothing that was damaged goes out."""
    sink = Sink()
    address = await sink.start()
    await sink.stop()
    async with running(folder, address, retry={"schedule": ["1m"], "outage_schedule": []}) as here:
        await here.until(lambda: here.finished("deferred"))
        shutil.copy(folder / "queue.db", tmp_path / "copy.db")
        with closing(sqlite3.connect(folder / "queue.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = (folder / "queue.db").stat().st_size // PAGE
        for page in range(2, size + 1):
            overwrite(folder / "queue.db", page)
        # Its cache would hide the damage for long.
        with suppress(StoreUnavailable):
            await here.app._store._running.run(lambda one: one.connection.execute("PRAGMA shrink_memory"))
        await sink.start(port=address.port)
        here.pass_time(timedelta(hours=1))
        answer = await here.send(numbered(999))
        await here.until(lambda: here.seen(StoreFailed))
        assert answer.startswith(b"451 4.3.0 ")
    assert sink.received == []
    await sink.stop()
