"""Opens the queue's SQLite database: settings that make a commit durable, schema versions, damage.

It knows nothing of mail. Every failure comes out as a QueueError of one line that names the path.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

from relay.queue.store import QueueError, StoreUnavailable

FILE_NAME = "queue.db"
BUSY_TIMEOUT_SECONDS = 5.0
MINIMUM_SQLITE = (3, 35, 0)  # RETURNING
STRICT_SQLITE = (3, 37, 0)
QUICK_CHECK_OCTETS = 16 << 20  # a database up to this size is read through when it is opened
CACHE_KIB = 16 << 10
PAGE_OCTETS = 4096
SPARE_KEPT_OCTETS = 16 << 20
GIVE_BACK_PAGES = 1000  # a few milliseconds
WAL_KEPT_OCTETS = 64 << 20  # a write-ahead log that grew beyond this is cut back

_STRICT = re.compile(r"\) STRICT(?:, (WITHOUT ROWID))?;")


def connect(folder: Path, timeout: float = BUSY_TIMEOUT_SECONDS) -> sqlite3.Connection:
    """A connection that reads and writes an existing database; a commit is on disk when it returns.

    Transactions are begun and ended by hand. May be used by another thread than this one. `timeout`: seconds to wait
    for another process that writes. Raises sqlite3.Error.
    """
    connection = _connect(folder, "rw", timeout)
    try:
        # These two count only before the first table is made.
        connection.execute(f"PRAGMA page_size = {PAGE_OCTETS}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # The default is FULL only where nobody built SQLite otherwise, and the mode is a property of the file.
        connection.execute("PRAGMA synchronous = FULL")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"write-ahead logging does not work here (journal mode {mode})")
        # Many builds overwrite all that is deleted, at the price of writing it: FAST does so where it costs nothing.
        connection.execute("PRAGMA secure_delete = FAST").fetchone()
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_OCTETS}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_read_only(folder: Path) -> sqlite3.Connection:
    """A connection that cannot change an existing database. Raises sqlite3.Error."""
    return _connect(folder, "ro", BUSY_TIMEOUT_SECONDS)


def prepare(folder: Path) -> None:
    """Create the database in `folder`, or bring an older one up to this version. Raises QueueError.

    A database that is damaged, of a newer version or of another program is not touched.
    """
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        needed = ".".join(map(str, MINIMUM_SQLITE))
        raise QueueError(f"the queue {folder} needs SQLite {needed} or newer; this Python has {sqlite3.sqlite_version}")
    path = folder / FILE_NAME
    try:
        if not path.exists():
            # Made by hand for its mode: mail is nobody else's business.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(connect_read_only(folder)) as connection:
            version = schema_version(connection, path)
            _check(connection, path)
        if version < newest_version():
            with closing(connect(folder)) as connection:
                _migrate(connection, version)
        sync_folder(folder)
    except (sqlite3.Error, OSError) as error:
        raise QueueError(f"the queue {path} cannot be opened: {describe(error)}") from error


def schema_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the database's schema, 0 for an empty one. Raises QueueError when it cannot be used."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return 0
    if "schema_version" not in tables:
        raise QueueError(f"the queue {path} is a database of another program")
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    version = int(row[0]) if row else 0
    newest = newest_version()
    if version > newest:
        raise QueueError(
            f"the queue {path} was written by a newer version of Relay (schema {version}, this one knows {newest})"
        )
    return version


def newest_version() -> int:
    """The schema version that this version of Relay writes."""
    return max(number for number, _ in _migrations())


def spare_octets(connection: sqlite3.Connection) -> int:
    """Room inside the database file that rows have left behind. Raises sqlite3.Error."""
    return int(connection.execute("PRAGMA freelist_count").fetchone()[0]) * PAGE_OCTETS


def give_back(connection: sqlite3.Connection) -> bool:
    """Return some of that room to the disk when it is a lot. True: there is more. Raises sqlite3.Error."""
    if spare_octets(connection) <= SPARE_KEPT_OCTETS:
        return False
    connection.execute(f"PRAGMA incremental_vacuum({GIVE_BACK_PAGES})").fetchall()
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe(error: Exception) -> str:
    """An error in a few words on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())


def unavailable(error: sqlite3.Error) -> StoreUnavailable:
    """What the caller of a verb is told about an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low octet is the primary code
    return StoreUnavailable(f"the queue cannot be used: {describe(error)}", full=code == sqlite3.SQLITE_FULL)


def is_of_the_disk(error: sqlite3.Error) -> bool:
    """Whether an error speaks of the database or the disk, and not of a mistake in our use of it."""
    ours = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, ours)


def _connect(folder: Path, mode: str, timeout: float) -> sqlite3.Connection:
    uri = f"{(folder / FILE_NAME).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size > QUICK_CHECK_OCTETS:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise QueueError(f"the queue {path} is damaged: {' '.join(str(found).split())}")


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    """Apply what is missing, each file in one transaction."""
    for number, sql in _migrations():
        if number <= version:
            continue
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        for statement in _statements(sql):
            connection.execute(statement)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?)", (number,))
        connection.execute("COMMIT")


def _migrations() -> list[tuple[int, str]]:
    files = (resources.files("relay.queue") / "schema").iterdir()
    return sorted((int(file.name[:4]), file.read_text()) for file in files if file.name.endswith(".sql"))


def _statements(sql: str) -> Iterator[str]:
    """The statements of a file, one by one: `executescript` would commit between them."""
    if sqlite3.sqlite_version_info < STRICT_SQLITE:
        sql = _STRICT.sub(r") \1;", sql)
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
