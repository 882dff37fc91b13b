"""A small table in memory, so that a look costs nothing, and on local disk, so that a restart forgets nothing.

Its SQLite file holds nothing else and is touched by one thread of its own. A file that is damaged is moved aside;
without one that works the table goes on in memory alone. What the values mean, and when they are too old, is for those
who use the table; nothing here knows the time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")
Row = tuple[str | None, ...]

_MEMORY_SIZE = 10_000  # keys, those without a value included
_BUSY_SECONDS = 5.0


def aside(path: Path) -> Path:
    """Where a damaged file of this path is moved."""
    return path.with_name(path.name + ".damaged")


class DiskTableError(Exception):
    """The file cannot be read now, so it is not known whether there is a value."""


@dataclass(frozen=True, slots=True)
class Layout(Generic[V]):
    """How values are kept on disk. All columns are text, and may be NULL except for the key.

    `decode` raises ValueError for a row that `encode` cannot have made; such a row is as good as none. `content` and
    `when_lost` are for reports: what the file holds, and what it means that all of it is lost.
    """

    file_name: str
    table: str
    key: str
    columns: tuple[str, ...]
    encode: Callable[[V], Row]
    decode: Callable[[Row], V]
    content: str
    when_lost: str


def parse_time(text: str | None) -> datetime:
    """A time that was written with `isoformat`. Raises ValueError for any other text and when it has no time zone."""
    time = datetime.fromisoformat(text or "")
    if time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return time


class DiskTable(Generic[V]):
    """The table in `folder`. `report` is told, in a sentence, what is wrong with the file whenever something is."""

    def __init__(self, folder: Path, layout: Layout[V], report: Callable[[str], None]) -> None:
        self._layout = layout
        self._file = _TableFile(folder / layout.file_name, layout)
        self._report = report
        self._writable = True
        self.lost = False  # damage has cost values, in the life of this object
        self._memory: OrderedDict[str, V | None] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=layout.file_name)

    async def open(self) -> None:
        """Open the file or make it. A damaged one is moved aside.

        Raises DiskTableError when that is not possible: what is in the file is not known then. The table can be used
        all the same, in memory alone.
        """
        try:
            await self._run(self._file.open)
        except sqlite3.OperationalError as error:
            self._writable = False
            raise DiskTableError(f"{self._file.path} cannot be opened ({error})") from None
        except sqlite3.DatabaseError as error:
            await self._start_over(error)

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        await self._run(self._file.close)
        self._thread.shutdown()

    async def get(self, key: str) -> V | None:
        """The value of `key`. It is the newest one on return. Raises DiskTableError."""
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        value = await self._read(key)
        if key not in self._memory:  # nobody has put anything newer meanwhile
            self._remember(key, value)
        return self._memory[key]

    async def all(self) -> dict[str, V]:
        """Every value by its key, on disk and newer in memory. Raises DiskTableError."""
        try:
            found = await self._run(self._file.read_all)
        except sqlite3.Error as error:
            raise self._unreadable(error) from None
        return found | self._known()

    async def put(self, key: str, value: V) -> None:
        """Set the value in place of what was there: in memory at once, on disk on return (if it can be written)."""
        await self.put_all({key: value})

    async def put_all(self, values: Mapping[str, V]) -> None:
        """Set several values, all of them in one transaction."""
        for key, value in values.items():
            self._remember(key, value)
        await self._change(lambda: self._file.write(values))

    def put_in_memory(self, key: str, value: V) -> None:
        """Set the value in memory alone: a restart, or a long time without a look at it, brings back that on disk."""
        self._remember(key, value)

    async def forget(self, key: str) -> None:
        """Have no value for `key` any more."""
        self._remember(key, None)
        await self._change(lambda: self._file.delete(key))

    async def forget_before(self, column: str, text: str) -> None:
        """Have no row on disk any more whose `column` (of the layout) is a text before this one, such as a time.

        What is in memory stays there until it makes room: whoever uses it must know what is too old.
        """
        await self._change(lambda: self._file.delete_before(column, text))

    async def _read(self, key: str) -> V | None:
        try:
            return await self._run(lambda: self._file.read(key))
        except sqlite3.OperationalError as error:
            raise self._unreadable(error) from None
        except sqlite3.DatabaseError as error:
            await self._start_over(error)
            return None

    async def _change(self, work: Callable[[], None]) -> None:
        try:
            await self._run(work)
            self._can_write()
        except sqlite3.OperationalError as error:
            if not await self._is_made_anew():
                self._cannot_write(error)
        except sqlite3.DatabaseError as error:
            await self._start_over(error)

    async def _is_made_anew(self) -> bool:
        """Whether the file was deleted under us, and there is a new one with what is in memory."""
        try:
            if not await self._run(self._file.renew_if_gone):
                return False
            known = self._known()
            await self._run(lambda: self._file.write(known))
        except sqlite3.Error:
            return False
        self._report(f"{self._file.path} was deleted; it was made anew, with what is in memory")
        return True

    def _unreadable(self, error: sqlite3.Error) -> DiskTableError:
        return DiskTableError(f"the file of {self._layout.content} cannot be read ({error})")

    def _remember(self, key: str, value: V | None) -> None:
        self._memory[key] = value
        self._memory.move_to_end(key)
        if len(self._memory) > _MEMORY_SIZE:
            self._memory.popitem(last=False)

    def _known(self) -> dict[str, V]:
        return {key: value for key, value in self._memory.items() if value is not None}

    def _can_write(self) -> None:
        if not self._writable:  # what was not found while there was no file may be found now
            self._memory = OrderedDict(self._known())
        self._writable = True

    def _cannot_write(self, error: sqlite3.Error) -> None:
        if self._writable:  # once is enough
            content = self._layout.content
            self._report(f"{self._file.path} cannot be written ({error}); a restart would forget new {content}")
        self._writable = False

    async def _start_over(self, error: sqlite3.Error) -> None:
        """Move the damaged file aside, and go on with a new one that has what is in memory."""
        self.lost = True
        try:
            aside = await self._run(self._file.move_aside)
            if aside is None:
                return  # done already: several may have met the damage at once
            self._report(f"{self._file.path} is damaged ({error}) and was moved to {aside}; {self._layout.when_lost}")
            known = self._known()
            await self._run(lambda: self._file.write(known))
        except (OSError, sqlite3.Error) as second:
            if self._writable:  # once is enough
                self._report(f"{self._file.path} is damaged ({error}) and cannot be replaced ({second})")
            self._writable = False

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _TableFile(Generic[V]):
    """The SQLite file. All methods run in one and the same thread; all may raise sqlite3.Error."""

    def __init__(self, path: Path, layout: Layout[V]) -> None:
        self.path = path
        self._layout = layout
        self._connection: sqlite3.Connection | None = None
        self._damaged = False
        table, key, columns = layout.table, layout.key, layout.columns
        names = ", ".join((key, *columns))
        typed = ", ".join(f"{column} TEXT" for column in columns)
        marks = ", ".join("?" for _ in (key, *columns))
        # All names are constants of the layout.
        self._create = f"CREATE TABLE IF NOT EXISTS {table} ({key} TEXT PRIMARY KEY, {typed})"
        self._select = f"SELECT {names} FROM {table}"  # noqa: S608
        self._select_one = f"{self._select} WHERE {key} = ?"
        self._replace = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"  # noqa: S608
        self._delete = f"DELETE FROM {table} WHERE {key} = ?"  # noqa: S608
        self._delete_before = {one: f"DELETE FROM {table} WHERE {one} < ?" for one in columns}  # noqa: S608

    def open(self) -> None:
        """Open or make it, and check it: sqlite3.DatabaseError, but not OperationalError, for a damaged one."""
        with self._noting_damage():
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute("PRAGMA synchronous = EXTRA")  # what is on disk must survive a power cut
                fault = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if fault != "ok":
                    raise sqlite3.DatabaseError(fault)
                connection.execute(self._create)
                connection.execute(f"{self._select} LIMIT 1")
            except sqlite3.Error:
                connection.close()
                raise
        self._connection = connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def read(self, key: str) -> V | None:
        if self._connection is None:
            return None
        with self._noting_damage():
            row = self._connection.execute(self._select_one, (key,)).fetchone()
        return self._value(row) if row is not None else None

    def read_all(self) -> dict[str, V]:
        if self._connection is None:
            return {}
        with self._noting_damage():
            values = {row[0]: self._value(row) for row in self._connection.execute(self._select)}
        return {key: value for key, value in values.items() if value is not None}

    def write(self, values: Mapping[str, V]) -> None:
        """All of them or none."""
        rows = [(key, *self._layout.encode(value)) for key, value in values.items()]
        connection = self._opened()
        with self._noting_damage():
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back
                connection.executemany(self._replace, rows)

    def delete(self, key: str) -> None:
        connection = self._opened()
        with self._noting_damage():
            connection.execute(self._delete, (key,))

    def delete_before(self, column: str, text: str) -> None:
        connection = self._opened()
        with self._noting_damage():
            connection.execute(self._delete_before[column], (text,))

    def renew_if_gone(self) -> bool:
        """Make a new file if there is none at the path any more. False: there is one."""
        if self.path.exists():
            return False
        self.close()
        self.open()
        return True

    def move_aside(self) -> Path | None:
        """Rename the file, with its rollback journal, if damage was met in it, and begin a new one.

        Returns where the old one is, or None when there is a new one already.
        """
        if not self._damaged:
            return None
        self.close()
        moved = aside(self.path)
        self.path.replace(moved)
        journal = self.path.with_name(self.path.name + "-journal")
        if journal.exists():  # it must never be rolled back into the new file
            journal.replace(moved.with_name(moved.name + "-journal"))
        self._damaged = False
        self.open()
        return moved

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self.open()
        assert self._connection is not None  # noqa: S101  (opened)
        return self._connection

    def _value(self, row: Row) -> V | None:
        """None for a row that was not written by us."""
        if not all(cell is None or isinstance(cell, str) for cell in row):
            return None
        try:
            return self._layout.decode(row[1:])
        except ValueError:
            return None

    @contextmanager
    def _noting_damage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self._damaged = True
            raise
