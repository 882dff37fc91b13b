"""What another process may do with the queue, while the service runs or not: look at it, and make mail due now.

The lock of the folder is not taken. Looking needs no right to write beyond SQLite's shared-memory file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path

from relay.mail.message import MessageId
from relay.mail.outcome import State
from relay.queue import database, reviewing, transactions
from relay.queue.folder import held_if_free
from relay.queue.history import SELECT_ATTEMPTS, SELECT_MESSAGE, MessageTrace, notices_of, to_attempt, to_trace
from relay.queue.rows import SELECT_ENTRY, Row, from_micros, storable, to_entry, to_micros
from relay.queue.store import Depth, QueueEntry, QueueError

_ORDER = "ORDER BY m.id, r.number"
_OPEN = "r.state NOT IN ('delivered', 'failed', 'dropped')"
_ALL = f"{SELECT_ENTRY} {_ORDER}"
_ALL_OPEN = f"{SELECT_ENTRY} WHERE m.closed IS NULL AND {_OPEN} {_ORDER}"
_ONE = f"{SELECT_ENTRY} WHERE m.id = ? {_ORDER}"
_ONE_OPEN = f"{SELECT_ENTRY} WHERE m.id = ? AND {_OPEN} {_ORDER}"
# Both are answered from an index alone, whatever the history is; the message with the smallest id is the oldest.
_DEPTH = (
    "SELECT count(*), total(next_attempt <= ?) FROM recipient INDEXED BY recipient_due WHERE next_attempt IS NOT NULL"
)
_OLDEST = "SELECT arrived FROM message WHERE closed IS NULL ORDER BY id LIMIT 1"


class QueueReader:
    """A look into a queue. Close it soon after use."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, id: MessageId | None, history: bool) -> tuple[QueueEntry, ...]:
        """Entries by arrival (ids grow with it); of one message when `id` is given; closed ones only with `history`.

        Raises StoreUnavailable.
        """
        try:
            if id is None:
                rows = self._connection.execute(_ALL if history else _ALL_OPEN)
            else:
                rows = self._connection.execute(_ONE if history else _ONE_OPEN, (id.number,))
            return tuple(map(to_entry, rows))
        except sqlite3.Error as error:
            raise database.unavailable(error) from error

    def depth(self, now: datetime) -> Depth:
        """How much mail there is. A running lease ends after `now`, so that what is in an attempt is not due.

        Raises StoreUnavailable.
        """
        try:
            waiting, due = self._connection.execute(_DEPTH, (to_micros(now),)).fetchone()
            oldest = self._connection.execute(_OLDEST).fetchone()
        except sqlite3.Error as error:
            raise database.unavailable(error) from error
        return Depth(waiting, int(due), None if oldest is None else from_micros(oldest[0]))

    def overdue(self, untried: int, now: int, limit: int) -> list[reviewing.Place]:
        """See reviewing.overdue. Raises StoreUnavailable."""
        try:
            return reviewing.overdue(self._connection, untried, now, limit)
        except sqlite3.Error as error:
            raise database.unavailable(error) from error

    def any_far_ahead(self, latest: int) -> bool:
        """See reviewing.any_far_ahead. Raises StoreUnavailable."""
        try:
            return reviewing.any_far_ahead(self._connection, latest)
        except sqlite3.Error as error:
            raise database.unavailable(error) from error

    def trace(self, name: str) -> tuple[MessageTrace, ...]:
        """All that is known of the message with this queue id, or of those with this Message-ID in their header.

        Empty when there is none, or none any more. Raises StoreUnavailable.
        """
        try:
            self._connection.execute("BEGIN")  # so that all answers are of one moment
            try:
                return tuple(map(self._trace, self._named(name)))
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise database.unavailable(error) from error

    def _named(self, name: str) -> Sequence[Row]:
        with suppress(ValueError):
            found = self._connection.execute(f"{SELECT_MESSAGE} WHERE id = ?", (MessageId.parse(name).number,))
            if rows := found.fetchall():
                return rows
        # Without an index: it would cost every message, and this is asked once in a while.
        text = storable(name.strip().removeprefix("<").removesuffix(">"))
        return self._connection.execute(f"{SELECT_MESSAGE} WHERE message_id = ? ORDER BY id", (text,)).fetchall()

    def _trace(self, message: Row) -> MessageTrace:
        ask = self._connection.execute
        id = message[0]
        recipients = tuple(map(to_entry, ask(_ONE, (id,))))
        rows = ask(SELECT_ATTEMPTS, (id,)).fetchall()
        notices: dict[MessageId, State] = {}
        for notice in (notice for row in rows for notice in notices_of(row)):
            for entry in map(to_entry, ask(_ONE, (notice.number,))):
                notices[notice] = entry.state
        return to_trace(message, recipients, [to_attempt(row, recipients, notices) for row in rows])

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


def open_reader(folder: Path) -> QueueReader:
    """Look into the queue in `folder`. Raises QueueError, in one line, when there is none or it cannot be read."""
    return QueueReader(_visit(folder, database.connect_read_only))


def schema(folder: Path) -> tuple[int, int]:
    """The version of the queue in `folder`, 0 when there is none yet, and the one that this Relay writes.

    Raises QueueError, in one line, when it cannot be read or is of a newer version.
    """
    path = folder / database.FILE_NAME
    try:
        if not path.exists():
            return 0, database.newest_version()
        with closing(database.connect_read_only(folder)) as connection:
            return database.schema_version(connection, path), database.newest_version()
    except (sqlite3.Error, OSError) as error:
        raise QueueError(f"the queue {path} cannot be opened: {database.describe(error)}") from error


def retry_now(folder: Path, id: MessageId | None, now: datetime) -> tuple[int, int]:
    """As `QueueStore.retry_now`, from another process: the service notices within a second.

    Returns how many recipients are due now, and how many an attempt has at this moment. While no service runs there
    are no attempts, only what was interrupted: that is due too. Waits up to five seconds for the service's own writing.
    Raises QueueError when there is no queue in `folder`, and StoreUnavailable when it cannot be written now.
    """
    _visit(folder, database.connect_read_only).close()  # before anything is written into what is not ours
    with held_if_free(folder) as free, closing(_visit(folder, database.connect)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            if free:
                transactions.end_leases(connection, id, to_micros(now))
            found = transactions.retry_now(connection, id, to_micros(now))
            under_way = transactions.under_way(connection, id)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise database.unavailable(error) from error
        return found, under_way


def _visit(folder: Path, connect: Callable[[Path], sqlite3.Connection]) -> sqlite3.Connection:
    path = folder / database.FILE_NAME
    try:
        if not path.exists():
            raise QueueError(f"there is no queue in {folder}")
        connection = connect(folder)
    except (sqlite3.Error, OSError) as error:
        raise QueueError(f"the queue {path} cannot be opened: {database.describe(error)}") from error
    try:
        version = database.schema_version(connection, path)
        if version == 0:
            raise QueueError(f"there is no queue in {folder}")
        if version < database.newest_version():
            raise QueueError(f"the queue {path} is of an older version of Relay: start the service once to convert it")
    except sqlite3.Error as error:
        connection.close()
        raise QueueError(f"the queue {path} cannot be opened: {database.describe(error)}") from error
    except BaseException:
        connection.close()
        raise
    return connection
