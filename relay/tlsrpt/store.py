"""What TLS reports need to outlive a restart: `tlsrpt.sqlite3` in the queue folder. docs/tls-reports.md.

The counts of each day by domain, policy and fault; reports that were made and where they still have to go; and for
some weeks what became of them. One thread of its own touches the file; other processes may open it at the same time.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from relay.disk_table import aside
from relay.files import give_away
from relay.policy.tls_report import Tally
from relay.tlsrpt import asking, tables
from relay.tlsrpt.asking import Asked, Told
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.outbox import Due, Ended, NewReport, Outcome

FILE_NAME = "tlsrpt.sqlite3"
KEEP = timedelta(days=30)  # what became of reports, and counts that nobody asked for
KEEP_UNTOLD = timedelta(days=7)  # why a domain was not told: most domains ask for no reports
_BUSY_SECONDS = 5.0
_QUICK_CHECK_OCTETS = 16 << 20  # a file up to this size is read through when it is opened

T = TypeVar("T")


class ReportStoreError(Exception):
    """The file cannot be used now; nothing was changed. It may be tried again."""


class ReportStore:
    """The file in `folder`. `report` is told, in a sentence, when it is damaged or was deleted, and what follows.

    Every verb is one transaction, on disk on return, and raises ReportStoreError. A damaged file is moved aside, and
    the verb is done with a new one.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        self._path = folder / FILE_NAME
        self._report = report
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=FILE_NAME)

    async def open(self) -> None:
        """Open the file or make it. Raises ReportStoreError; the store can be used all the same, and tries again."""
        await self._run(lambda connection: None)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def add(self, counts: Mapping[tuple[date, Tally], int]) -> int:
        """Add sessions to the counts of their days. Returns how many there was no room for."""
        return await self._run(lambda connection: tables.add(connection, counts))

    async def waiting(self, before: date) -> tuple[tuple[date, str], ...]:
        """The days before this one of which something is counted, each with a domain that may be told of it."""
        return await self._run(lambda connection: tables.waiting(connection, before))

    async def counts(self, day: date, domain: str) -> tuple[Counted, ...]:
        """What is counted of a domain that day, in no order."""
        return await self._run(lambda connection: tables.counts(connection, day, domain))

    async def totals(self, day: date) -> dict[str, tuple[int, int]]:
        """How many sessions succeeded and failed that day, by domain."""
        return await self._run(lambda connection: tables.totals(connection, day))

    async def issue(
        self, day: date, domain: str, make: Callable[[tuple[Counted, ...]], NewReport], now: datetime
    ) -> NewReport | None:
        """Put the report that `make` makes of the counts into the outbox, in their place. None: nothing is counted.

        `make` runs in another thread, within the transaction: a crash neither doubles nor loses a session, and what
        is counted meanwhile is not lost but waits for another report.
        """

        def work(connection: sqlite3.Connection) -> NewReport | None:
            counts = tables.counts(connection, day, domain)
            if not counts:
                return None
            report = make(counts)
            tables.issue(connection, day, domain, report, now)
            return report

        return await self._run(work)

    async def drop(self, day: date, domain: str, why: str, now: datetime) -> None:
        """Forget the counts of a domain that is not told of them; `why` is kept, for whoever looks."""
        await self._run(lambda connection: tables.drop(connection, day, domain, why, now))

    async def claim(self, now: datetime, lease: timedelta, limit: int) -> tuple[Due, ...]:
        """Deliveries that are due, the oldest first. The attempt is counted before this returns.

        Nobody else gets them for `lease`, and not after `settle` either; without that they are due again then.
        """
        return await self._run(lambda connection: tables.claim(connection, now, now + lease, limit))

    async def settle(self, due: Due, outcome: Outcome, now: datetime) -> bool:
        """Write down what became of a claimed delivery. False: the lease was lost, and somebody else has it."""
        return await self._run(lambda connection: tables.settle(connection, due, outcome, now))

    async def next_due(self) -> datetime | None:
        """When the next delivery is due, or its lease ends; None: there is none."""
        return await self._run(tables.next_due)

    async def ended(self, day: date, domain: str | None = None) -> tuple[Ended, ...]:
        """What became of that day's counts, of one domain or of all."""
        return await self._run(lambda connection: tuple(tables.ended(connection, day, domain)))

    async def ask(self, day: date, domains: tuple[str, ...]) -> int:
        """Ask the running service to tell these domains (none: all) of that day at once. Returns a number."""
        return await self._run(lambda connection: asking.ask(connection, day, domains))

    async def asked(self) -> tuple[Asked, ...]:
        """What was asked and not answered yet."""
        return await self._run(asking.asked)

    async def answer(self, number: int, told: Mapping[str, Told]) -> None:
        """Say what became of what was asked, by domain."""
        await self._run(lambda connection: asking.answer(connection, number, told))

    async def answer_to(self, number: int) -> dict[str, Told] | None:
        """The answer; None: there is none yet."""
        return await self._run(lambda connection: asking.answer_to(connection, number))

    async def unask(self, number: int) -> None:
        """Take back what was asked, answered or not."""
        await self._run(lambda connection: asking.forget(connection, number))

    async def tidy(self, now: datetime) -> None:
        """Forget what is too old. To be called again and again."""
        await self._run(lambda connection: tables.tidy(connection, now - KEEP, now - KEEP_UNTOLD))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        except (sqlite3.Error, OSError) as error:
            raise ReportStoreError(f"{self._path} cannot be used ({error})") from None

    # From here on in the thread

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._transaction() as connection:
                return work(connection)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._move_aside(error)
        with self._transaction() as connection:
            return work(connection)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _opened(self) -> sqlite3.Connection:
        """The connection to the file that has the name now: with write-ahead logging SQLite does not look."""
        if self._connection is not None and self._inode != _inode(self._path):
            self._close()
            self._report(f"{self._path} was deleted or replaced; what it had counted is lost")
        if self._connection is None:
            self._connection = self._open()
            self._inode = _inode(self._path)
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self._make()
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            if self._path.stat().st_size <= _QUICK_CHECK_OCTETS:
                fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if fault != "ok":
                    raise sqlite3.DatabaseError(fault)
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            tables.create(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """By hand, for its mode (who writes to whom is nobody else's business) and its owner: commands open it too."""
        with suppress(FileExistsError):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                give_away(file, self._path.parent)
            finally:
                os.close(file)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _move_aside(self, error: sqlite3.Error) -> None:
        self._close()
        moved = aside(self._path)
        for end in ("-wal", "-shm"):  # they must never be read into the new file
            log = self._path.with_name(self._path.name + end)
            if log.exists():
                log.replace(moved.with_name(moved.name + end))
        self._path.replace(moved)
        self._report(f"{self._path} is damaged ({error}) and was moved to {moved}; what it had counted is lost")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is to blame, and not the disk, the moment or our use of it."""
    if isinstance(error, sqlite3.OperationalError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the low octet is the primary code
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
