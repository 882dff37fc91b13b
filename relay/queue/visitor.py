"""What another process may do with the queue, while the service runs or not: look at it, and do what operators do.

The lock of the folder is not taken. Looking needs no right to write beyond SQLite's shared-memory file.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from relay.mail.message import MessageId
from relay.mail.outcome import Cause, State
from relay.queue import control, database, hold_rules, reviewing, transactions
from relay.queue.bodies import chunks_of, file_of, remove
from relay.queue.control import Action, Desk, Progress, Tally
from relay.queue.folder import held_if_free
from relay.queue.giving_up import Compose
from relay.queue.history import (
    SELECT_ACTS,
    SELECT_ATTEMPTS,
    SELECT_MESSAGE,
    MessageTrace,
    notices_of,
    to_act,
    to_attempt,
    to_trace,
)
from relay.queue.hold_rules import HoldRule
from relay.queue.rows import IS_OPEN, SELECT_ENTRY, Row, from_micros, storable, to_entry, to_micros
from relay.queue.selection import QueueFilter
from relay.queue.stats import QueueStats, load_stats
from relay.queue.store import Depth, Earlier, Grouping, QueueEntry, QueueError, Rest
from relay.queue.turns import Turns
from relay.queue.writer import Transaction

LEAVE_SECONDS = 0.2  # for the service between the pieces of an act

_BODY = "SELECT octets FROM body WHERE message = ?"
_ORDER = "ORDER BY m.id, r.number"
_ALL = f"{SELECT_ENTRY} {_ORDER}"
_ALL_OPEN = f"{SELECT_ENTRY} WHERE m.closed IS NULL AND {IS_OPEN} {_ORDER}"
_ONE = f"{SELECT_ENTRY} WHERE m.id = ? {_ORDER}"
_ONE_OPEN = f"{SELECT_ENTRY} WHERE m.id = ? AND {IS_OPEN} {_ORDER}"
# Answered from an index alone, whatever the history is.
_DEPTH = (
    "SELECT count(*), total(next_attempt <= ?1 AND destination NOT IN (SELECT destination FROM rest WHERE until > ?1))"
    " FROM recipient INDEXED BY recipient_due WHERE next_attempt IS NOT NULL"
)
# Of the messages that are open, by an index: closed ones cost nothing here either.
_BY_CAUSE = (
    "SELECT r.state = 'held', r.cause, count(*) FROM message m JOIN recipient r ON r.message = m.id"
    " WHERE m.closed IS NULL AND (r.state = 'held' OR (r.next_attempt IS NOT NULL AND r.cause IS NOT NULL))"
    " GROUP BY 1, 2"
)
_RESTING = "SELECT count(*) FROM rest WHERE until > ?"
# The message with the smallest id is the oldest, but for those that were to wait: they count from their release.
_OLDEST = "SELECT arrived FROM message WHERE closed IS NULL AND coalesce(release, 0) <= arrived ORDER BY id LIMIT 1"
_OLDEST_RELEASED = (
    "SELECT release FROM message INDEXED BY message_release"
    " WHERE closed IS NULL AND release > arrived AND release <= ? ORDER BY release LIMIT 1"
)


class QueueReader:
    """A look into a queue. Close it soon after use."""

    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder

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

    def stored_once(self, owner: str, key: str) -> Earlier | None:
        """What came with this key, if it is remembered. Raises StoreUnavailable."""
        with self._asking() as ask:
            found = ask("SELECT request, message FROM once WHERE owner = ? AND key = ?", (owner, key)).fetchone()
            if found is None:
                return None
            rows = ask("SELECT address FROM recipient WHERE message = ? ORDER BY number", (found[1],)).fetchall()
        return Earlier(found[0], MessageId(found[1]), tuple(address for (address,) in rows))

    def depth(self, now: datetime) -> Depth:
        """How much mail there is. A running lease ends after `now`, so that what is in an attempt is not due.

        Raises StoreUnavailable.
        """
        held, causes = 0, Counter[Cause]()
        with self._asking() as ask:
            waiting, due = ask(_DEPTH, (to_micros(now),)).fetchone()
            oldest = [*ask(_OLDEST), *ask(_OLDEST_RELEASED, (to_micros(now),))]
            for is_held, cause, number in ask(_BY_CAUSE):
                held += number * is_held
                if cause is not None:
                    causes[Cause(cause)] += number
            (resting,) = ask(_RESTING, (to_micros(now),)).fetchone()
        return Depth(
            waiting,
            int(due),
            from_micros(min(oldest)[0]) if oldest else None,
            held,
            tuple(sorted(causes.items(), key=lambda one: one[0].value)),
            resting,
        )

    def select(self, selection: QueueFilter) -> tuple[QueueEntry, ...]:
        """The entries of a filter, by arrival. Raises StoreUnavailable."""
        sql, values = selection.condition()
        limit = -1 if selection.limit is None else selection.limit
        with self._asking() as ask:
            return tuple(map(to_entry, ask(f"{SELECT_ENTRY} WHERE {sql} {_ORDER} LIMIT ?", (*values, limit))))

    def stats(self, selection: QueueFilter, now: datetime, top: int | None) -> QueueStats:
        """What is open and fits the filter, in figures. `top`: the most groups. Raises StoreUnavailable."""
        with self._asking():
            return load_stats(self._connection, selection, now, top)

    def rests(self) -> dict[str, Rest]:
        """The destinations that are down, or were. Raises StoreUnavailable."""
        with self._asking():
            return transactions.rests(self._connection)

    def hold_rules(self) -> tuple[HoldRule, ...]:
        """What is held when it comes in. Raises StoreUnavailable."""
        with self._asking():
            return hold_rules.load_hold_rules(self._connection)

    def overdue(self, untried: int, now: int, limit: int) -> list[reviewing.Place]:
        """See reviewing.overdue. Raises StoreUnavailable."""
        with self._asking():
            return reviewing.overdue(self._connection, untried, now, limit)

    def any_far_ahead(self, latest: int) -> bool:
        """See reviewing.any_far_ahead. Raises StoreUnavailable."""
        with self._asking():
            return reviewing.any_far_ahead(self._connection, latest)

    @contextmanager
    def _asking(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """All answers are of one moment."""
        try:
            self._connection.execute("BEGIN")
            try:
                yield self._connection.execute
            finally:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise database.unavailable(error) from error

    def octets(self, id: MessageId) -> Iterator[bytes] | None:
        """A message as it was taken, in pieces; None when there is none, or it has left. Raises StoreUnavailable.

        The pieces of a large one raise OSError when its file has gone meanwhile.
        """
        with self._asking() as ask:
            row = ask(_BODY, (id.number,)).fetchone()
        if row is None:
            return None
        (octets,) = row
        return iter((octets,)) if octets is not None else chunks_of(file_of(self._folder, id, 0).path)

    def trace(self, name: str) -> tuple[MessageTrace, ...]:
        """All that is known of the message with this queue id, or of those with this Message-ID in their header.

        Empty when there is none, or none any more. Raises StoreUnavailable.
        """
        with self._asking():
            return tuple(map(self._trace, self._named(name)))

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
        acts = map(to_act, ask(SELECT_ACTS, (id,)))
        return to_trace(message, recipients, [to_attempt(row, recipients, notices) for row in rows], acts)

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()


def open_reader(folder: Path) -> QueueReader:
    """Look into the queue in `folder`. Raises QueueError, in one line, when there is none or it cannot be read."""
    return QueueReader(_visit(folder, database.connect_read_only), folder)


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
        raise _refused(path, error) from error


def perform(folder: Path, action: Action, now: datetime, compose: Compose, grouping: Grouping) -> Tally:
    """As `Controls.perform`, from another process: the service notices within a second.

    While no service runs there are no attempts, only what was interrupted: that is taken as waiting. Waits up to five
    seconds for the service's own writing, and between the pieces lets it write. Raises QueueError when there is no
    queue in `folder`, and StoreUnavailable when it cannot be written now; then pieces may have been done.
    """
    progress = Progress()
    with held_if_free(folder) as free:
        desk = Desk(now, compose, grouping, partial(file_of, folder), alone=free)
        while not progress.over:
            began = time.monotonic()
            with _writing(folder, action.dry_run) as connection:
                done = len(progress.tally.finished)
                progress = control.perform(Transaction(connection, Turns()), action, desk, progress)
            for id in progress.tally.finished[done:]:
                with suppress(OSError):  # it is swept at the next start
                    remove(folder, id)
            if not (free or action.dry_run or progress.over):
                # SQLite's writers do not queue: who waits asks every tenth of a second.
                time.sleep(max(LEAVE_SECONDS, time.monotonic() - began))
    return progress.tally


def add_hold_rule(folder: Path, rule: HoldRule) -> int:
    """Store a rule, from another process. Returns its id. Raises QueueError and StoreUnavailable."""
    with _writing(folder) as connection:
        return hold_rules.add_hold_rule(connection, rule)


def remove_hold_rule(folder: Path, id: int) -> bool:
    """Remove a rule, from another process. False: there is none. Raises QueueError and StoreUnavailable."""
    with _writing(folder) as connection:
        return hold_rules.remove_hold_rule(connection, id)


@contextmanager
def _writing(folder: Path, only_look: bool = False) -> Iterator[sqlite3.Connection]:
    """A transaction, which is undone when something goes wrong."""
    _visit(folder, database.connect_read_only).close()  # before anything is written into what is not ours
    with closing(_visit(folder, database.connect_read_only if only_look else database.connect)) as connection:
        try:
            connection.execute("BEGIN" if only_look else "BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise database.unavailable(error) from error


def _refused(path: Path, error: sqlite3.Error | OSError) -> QueueError:
    """What is said of a queue that cannot be opened; to who lacks the right, SQLite says much less."""
    no_right = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
    may = os.access(path, os.R_OK | os.W_OK, effective_ids=True)
    if isinstance(error, PermissionError) or (no_right and not may):
        return QueueError(f"the queue {path} is not for this user: run this as the user of the service, or as root")
    return QueueError(f"the queue {path} cannot be opened: {database.describe(error)}")


def _visit(folder: Path, connect: Callable[[Path], sqlite3.Connection]) -> sqlite3.Connection:
    path = folder / database.FILE_NAME
    try:
        if not path.exists():
            raise QueueError(f"there is no queue in {folder}")
        connection = connect(folder)
    except (sqlite3.Error, OSError) as error:
        raise _refused(path, error) from error
    try:
        version = database.schema_version(connection, path)
        if version == 0:
            raise QueueError(f"there is no queue in {folder}")
        if version < database.newest_version():
            raise QueueError(f"the queue {path} is of an older version of Relay: start the service once to convert it")
    except sqlite3.Error as error:
        connection.close()
        raise _refused(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection
