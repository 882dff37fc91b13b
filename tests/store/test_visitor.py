"""What another process may do with the queue, and what it must leave alone."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relay.queue import database, visitor
from relay.queue.control import Act, Action
from relay.queue.folder import holder
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import QueueError, by_domain

ANOTHER = 65534  # a user who owns nothing here
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def nobody(*_: object) -> None:
    """No notice."""


def test_a_queue_of_a_newer_version_is_not_changed(folder: Path) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER)")
        connection.execute("INSERT INTO schema_version VALUES (1000)")
        connection.commit()
    before = (folder / "queue.db").read_bytes()
    with pytest.raises(QueueError, match="newer version"):
        visitor.perform(folder, Action(Act.RETRY, QueueFilter(), "root"), NOW, nobody, by_domain)
    assert (folder / "queue.db").read_bytes() == before


@pytest.mark.asyncio
async def test_who_holds_the_folder_is_seen_and_nothing_made(store: SqliteStore, folder: Path, tmp_path: Path) -> None:
    assert holder(folder) == os.getpid()
    await store.close()
    assert holder(folder) is None
    assert holder(tmp_path / "missing") is None
    (tmp_path / "file").touch()
    assert holder(tmp_path / "file") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "queue"]


def test_the_schema_is_read_and_nothing_made(folder: Path) -> None:
    folder.mkdir()
    newest = visitor.schema(folder)[1]
    assert visitor.schema(folder) == (0, newest)
    assert list(folder.iterdir()) == []
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute("CREATE TABLE schema_version (version INTEGER)")
        connection.execute("INSERT INTO schema_version VALUES (1)")
        connection.commit()
        assert visitor.schema(folder) == (1, newest)
        connection.execute("UPDATE schema_version SET version = 1000")
        connection.commit()
    with pytest.raises(QueueError, match="newer version"):
        visitor.schema(folder)
    (folder / "queue.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(QueueError, match=r"queue\.db cannot be opened: "):
        visitor.schema(folder)


@contextmanager
def as_another_user(path: Path, mode: int) -> Iterator[None]:
    """As a user who has no more right to `path`, a file in a folder open to all, than `mode` gives everyone."""
    path.chmod(mode if os.geteuid() == 0 else mode & 0o444)
    try:
        if os.geteuid() == 0:
            os.seteuid(ANOTHER)
        yield
    finally:
        os.seteuid(os.getuid())
        path.chmod(0o600)


def test_who_may_not_use_the_queue_is_told_who_may() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        database.prepare(folder)
        wanted = f"the queue {folder}/queue.db is not for this user: run this as the user of the service, or as root"
        with as_another_user(folder / "queue.db", 0o600 if os.geteuid() == 0 else 0):
            for look in (visitor.open_reader, visitor.schema):
                with pytest.raises(QueueError) as refused:
                    look(folder)
                assert str(refused.value) == wanted
        with as_another_user(folder / "queue.db", 0o644):
            with pytest.raises(QueueError) as refused:
                visitor.remove_hold_rule(folder, 1)
            assert str(refused.value) == wanted
