"""MTA-STS policies on local disk, so that a restart forgets none of them, and in memory, so that a look costs nothing.

One small SQLite file, `sts.sqlite3` in the queue folder, belongs to this module alone and is touched by one thread of
its own. It keeps each policy as it was fetched. What to do with a policy is decided in `relay.lookup.sts`; nothing
here knows the time. RFC 8461 section 3.3 (caching) and section 10.2 (why it must last).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from relay.policy.sts import StsFound, parse_policy

T = TypeVar("T")

FILE_NAME = "sts.sqlite3"
_MEMORY_SIZE = 10_000  # domains, those without anything to remember included
_BUSY_SECONDS = 5.0
_SCHEMA = """CREATE TABLE IF NOT EXISTS policy (
    domain TEXT PRIMARY KEY,
    used_at TEXT NOT NULL,
    id TEXT, fetched_at TEXT, raw TEXT,
    failed_at TEXT, failure TEXT, failed_id TEXT
)"""
_COLUMNS = "used_at, id, fetched_at, raw, failed_at, failure, failed_id"


class StsCacheError(Exception):
    """The file cannot be read now, so it is not known whether a policy is in force."""


@dataclass(frozen=True, slots=True)
class StsEntry:
    """What is remembered of a domain. Times are aware UTC.

    `found` is the last policy that was fetched, expired or not. `failed_at`, `failure` and `failed_id` (the id that was
    announced) are set when the last fetch failed.
    """

    used_at: datetime
    found: StsFound | None = None
    failed_at: datetime | None = None
    failure: str | None = None
    failed_id: str | None = None


class StsCache:
    """The cache in `folder`. `report` is told, in a sentence, what is wrong with the file whenever something is.

    Without a file that works it goes on in memory alone.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        self._file = _PolicyFile(folder / FILE_NAME)
        self._report = report
        self._writable = True
        self._memory: OrderedDict[str, StsEntry | None] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sts-cache")

    async def open(self) -> None:
        """Open the file or make it. A damaged one is moved aside."""
        try:
            await self._run(self._file.open)
        except sqlite3.OperationalError as error:
            self._cannot_write(error)
        except sqlite3.DatabaseError as error:
            await self._start_over(error)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await self._run(self._file.close)
        self._thread.shutdown()

    async def get(self, domain: str) -> StsEntry | None:
        """What is remembered of `domain`. Raises StsCacheError."""
        if domain in self._memory:
            self._memory.move_to_end(domain)
            return self._memory[domain]
        entry = await self._read(domain)
        if domain not in self._memory:  # nobody has put anything newer meanwhile
            self._remember(domain, entry)
        return self._memory[domain]

    async def all(self) -> dict[str, StsEntry]:
        """Everything that is remembered, by domain, on disk and newer in memory. Raises StsCacheError."""
        try:
            found = await self._run(self._file.read_all)
        except sqlite3.Error as error:
            raise StsCacheError(f"the file of MTA-STS policies cannot be read ({error})") from None
        return found | {domain: entry for domain, entry in self._memory.items() if entry is not None}

    async def forget(self, domain: str) -> None:
        """Remember nothing of `domain` any more."""
        self._remember(domain, None)
        try:
            await self._run(lambda: self._file.delete(domain))
        except sqlite3.Error as error:
            self._cannot_write(error)

    async def put(self, domain: str, entry: StsEntry) -> None:
        """Remember `entry` in place of what was there: in memory at once, on disk on return (if it can be written)."""
        self._remember(domain, entry)
        try:
            await self._run(lambda: self._file.write(domain, entry))
            self._can_write()
        except sqlite3.OperationalError as error:
            self._cannot_write(error)
        except sqlite3.DatabaseError as error:
            await self._start_over(error)

    async def _read(self, domain: str) -> StsEntry | None:
        try:
            return await self._run(lambda: self._file.read(domain))
        except sqlite3.OperationalError as error:
            raise StsCacheError(f"the file of MTA-STS policies cannot be read ({error})") from None
        except sqlite3.DatabaseError as error:
            await self._start_over(error)
            return None

    def _remember(self, domain: str, entry: StsEntry | None) -> None:
        self._memory[domain] = entry
        self._memory.move_to_end(domain)
        if len(self._memory) > _MEMORY_SIZE:
            self._memory.popitem(last=False)

    def _can_write(self) -> None:
        if not self._writable:  # what was not found while there was no file may be found now
            self._memory = OrderedDict((domain, entry) for domain, entry in self._memory.items() if entry is not None)
        self._writable = True

    def _cannot_write(self, error: sqlite3.Error) -> None:
        if self._writable:  # once is enough
            self._report(f"{self._file.path} cannot be written ({error}); a restart would forget new MTA-STS policies")
        self._writable = False

    async def _start_over(self, error: sqlite3.Error) -> None:
        """Move the damaged file aside, and go on with a new one that has what is in memory."""
        known = {domain: entry for domain, entry in self._memory.items() if entry is not None}
        try:
            aside = await self._run(self._file.move_aside)
            self._report(
                f"{self._file.path} is damaged ({error}) and was moved to {aside}; "
                "MTA-STS policies fetched before are forgotten until they are fetched again"
            )
            for domain, entry in known.items():
                await self._run(lambda domain=domain, entry=entry: self._file.write(domain, entry))  # type: ignore[misc]
        except (OSError, sqlite3.Error) as second:
            self._writable = False
            self._report(f"{self._file.path} is damaged ({error}) and cannot be replaced ({second})")

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _PolicyFile:
    """The SQLite file. All methods run in one and the same thread; all may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or make it, and check it: sqlite3.DatabaseError, but not OperationalError, for a damaged one."""
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = EXTRA")  # a policy in force must survive a power cut
            fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if fault != "ok":
                raise sqlite3.DatabaseError(fault)
            connection.execute(_SCHEMA)
            connection.execute(f"SELECT domain, {_COLUMNS} FROM policy LIMIT 1")  # noqa: S608  (constants)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, domain: str) -> StsEntry | None:
        if self._connection is None:
            return None
        row = self._connection.execute(
            f"SELECT {_COLUMNS} FROM policy WHERE domain = ?",  # noqa: S608  (constants)
            (domain,),
        ).fetchone()
        return _entry(row) if row is not None else None

    def read_all(self) -> dict[str, StsEntry]:
        if self._connection is None:
            return {}
        rows = self._connection.execute(f"SELECT domain, {_COLUMNS} FROM policy")  # noqa: S608  (constants)
        entries = {domain: _entry(tuple(row)) for domain, *row in rows}
        return {domain: entry for domain, entry in entries.items() if entry is not None}

    def delete(self, domain: str) -> None:
        if self._connection is not None:
            self._connection.execute("DELETE FROM policy WHERE domain = ?", (domain,))

    def write(self, domain: str, entry: StsEntry) -> None:
        if self._connection is None:
            self.open()
        assert self._connection is not None  # noqa: S101  (opened)
        self._connection.execute(
            f"INSERT OR REPLACE INTO policy (domain, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (domain, *_row(entry)),
        )

    def move_aside(self) -> Path:
        """Rename the file, with its rollback journal, and begin a new one. Returns where the old one is."""
        self.close()
        aside = self.path.with_name(self.path.name + ".damaged")
        self.path.replace(aside)
        journal = self.path.with_name(self.path.name + "-journal")
        if journal.exists():  # it must never be rolled back into the new file
            journal.replace(aside.with_name(aside.name + "-journal"))
        self.open()
        return aside


def _row(entry: StsEntry) -> tuple[str | None, ...]:
    found = entry.found
    return (
        entry.used_at.isoformat(),
        found.id if found else None,
        found.fetched_at.isoformat() if found else None,
        found.policy.raw if found else None,
        entry.failed_at.isoformat() if entry.failed_at else None,
        entry.failure,
        entry.failed_id,
    )


def _entry(row: tuple[str | None, ...]) -> StsEntry | None:
    used_at, policy_id, fetched_at, raw, failed_at, failure, failed_id = row
    try:
        found = None
        if policy_id is not None and fetched_at is not None and raw is not None:
            found = StsFound(parse_policy(raw.encode()), policy_id, datetime.fromisoformat(fetched_at))
        failed = datetime.fromisoformat(failed_at) if failed_at is not None else None
        return StsEntry(datetime.fromisoformat(str(used_at)), found, failed, failure, failed_id)
    except ValueError:  # not written by us: as good as nothing
        return None
