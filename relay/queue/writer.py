"""Group commit: one thread that writes for everybody, with one flush to disk for all that wait.

While one commit is flushed the next batch collects; nothing sleeps to fill it. A batch in which an item fails is undone
and done again with a savepoint for each item, so that a bad one fails alone. A caller that is cancelled takes nothing
back: its item is in the thread and commits. It does not know what the items do.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from relay.queue.database import is_of_the_disk, unavailable
from relay.queue.store import StoreUnavailable
from relay.queue.turns import Turns

BATCH = 256

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Transaction:
    """What an item works on. Both are the thread's own; nothing of them may be kept."""

    connection: sqlite3.Connection
    turns: Turns


@dataclass(frozen=True, slots=True)
class _Item:
    work: Callable[[Transaction], Any]
    after: Callable[[Any], None] | None
    wakes: bool
    future: asyncio.Future[Any]


class _RolledBackError(Exception):
    """SQLite has undone the whole transaction, not only the statement that failed."""

    def __init__(self, cause: sqlite3.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Writer:
    """The thread and its queue.

    `connect` opens the connection, `load` reads the turns anew: at the beginning, after a failure, and when
    another process has written. `changed` is called on the event loop when something was committed that may be work.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        load: Callable[[Transaction], None],
        changed: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._load = load
        self._changed = changed
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)
        self._loop = asyncio.get_running_loop()
        # Used by the thread only:
        self._transaction: Transaction | None = None  # None: to be opened, or opened anew after a failure
        self._data_version = 0
        self._stale = True
        self._foreign = False  # another process has written since the last batch

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    async def run(
        self, work: Callable[[Transaction], T], after: Callable[[T], None] | None = None, wakes: bool = False
    ) -> T:
        """Do `work` in the thread, inside a transaction, and return its result when that is on disk.

        It may be done twice, the first time being undone: it must change nothing outside the transaction.

        `after` is called with the result, in the thread, after the commit, even when the caller has been cancelled;
        an OSError in it is ignored. What `work` raises comes out here and its changes are undone.
        Raises StoreUnavailable when the transaction fails; then nothing of it was written.
        """
        if self._stopping:
            raise StoreUnavailable("the queue is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._items.put(_Item(work, after, wakes, future))
        return await future

    async def stop(self) -> None:
        """Finish what was begun, and end the thread."""
        if not self._stopping:
            self._stopping = True
            self._items.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while self._run_batch():
            pass
        self._drop_connection()

    def _run_batch(self) -> bool:
        """Wait for work and do it. False: that was the last."""
        batch, last = self._collect()
        if batch:
            results = self._write(batch)
            with suppress(RuntimeError):  # the loop was closed without us
                self._loop.call_soon_threadsafe(self._resolve, batch, results, self._foreign)
            self._foreign = False
            _call_after(batch, results)
        return not last

    def _collect(self) -> tuple[list[_Item], bool]:
        """Wait for an item and take what else is there. True: it is the last batch."""
        batch: list[_Item] = []
        item = self._items.get()
        with suppress(Empty):
            while item is not None:
                batch.append(item)
                if len(batch) == BATCH:
                    return batch, False
                item = self._items.get_nowait()
            return batch, True
        return batch, False

    def _write(self, batch: list[_Item]) -> list[Any]:
        """Run a batch in one transaction. Returns a result or an exception for each item."""
        try:
            transaction = self._transaction or self._open()
            transaction.connection.execute("BEGIN IMMEDIATE")
            self._notice_others(transaction)
            try:
                results = [item.work(transaction) for item in batch]
            except Exception:  # noqa: BLE001  (found again, and told to its caller, when it is done alone)
                results = self._one_by_one(batch, transaction)
            transaction.connection.execute("COMMIT")
        except _RolledBackError as error:
            failure: Exception = error.cause
        except Exception as error:  # noqa: BLE001  (goes to the callers; the thread must live)
            failure = error
        else:
            return results
        self._drop_connection()
        return [unavailable(failure) if isinstance(failure, sqlite3.Error) else failure for _ in batch]

    def _open(self) -> Transaction:
        self._transaction = Transaction(self._connect(), Turns())
        self._stale = True
        self._data_version = self._read_data_version(self._transaction)
        return self._transaction

    def _notice_others(self, transaction: Transaction) -> None:
        """Inside the transaction, when nobody else can write: has another process written?"""
        version = self._read_data_version(transaction)
        if version != self._data_version:
            self._data_version = version
            self._stale = self._foreign = True
        if self._stale or transaction.turns.damaged:
            self._load(transaction)
            self._stale = False

    def _one_by_one(self, batch: list[_Item], transaction: Transaction) -> list[Any]:
        """Begin the batch again, after an item has failed, so that only those fail that have to."""
        if transaction.connection.in_transaction:
            transaction.connection.execute("ROLLBACK")
        transaction.connection.execute("BEGIN IMMEDIATE")
        self._load(transaction)  # what was undone has left its traces
        return [self._do(item, transaction) for item in batch]

    def _do(self, item: _Item, transaction: Transaction) -> Any:
        connection = transaction.connection
        connection.execute("SAVEPOINT item")
        try:
            result = item.work(transaction)
        except Exception as error:
            if not connection.in_transaction and isinstance(error, sqlite3.Error):
                raise _RolledBackError(error) from error
            connection.execute("ROLLBACK TO item")
            connection.execute("RELEASE item")
            return unavailable(error) if isinstance(error, sqlite3.Error) and is_of_the_disk(error) else error
        connection.execute("RELEASE item")
        return result

    def _drop_connection(self) -> None:
        if self._transaction is not None:
            with suppress(sqlite3.Error):
                self._transaction.connection.close()  # rolls back
            self._transaction = None

    def _resolve(self, batch: list[_Item], results: list[Any], foreign: bool) -> None:
        """On the event loop."""
        for item, result in zip(batch, results, strict=True):
            if item.future.done():
                continue  # cancelled
            if isinstance(result, Exception):
                item.future.set_exception(result)
            else:
                item.future.set_result(result)
        if foreign or any(item.wakes for item in batch):
            self._changed()

    @staticmethod
    def _read_data_version(transaction: Transaction) -> int:
        return int(transaction.connection.execute("PRAGMA data_version").fetchone()[0])


def _call_after(batch: list[_Item], results: list[Any]) -> None:
    for item, result in zip(batch, results, strict=True):
        if item.after is not None and not isinstance(result, Exception):
            with suppress(OSError):
                item.after(result)
