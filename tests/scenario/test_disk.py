"""Trouble with the disk while mail comes and goes: what was acknowledged goes out, the rest is told to come again, and
when the trouble is over everything goes on by itself.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from app_here import Here, running
from service import number_of, numbered

from relay.app import utc_now
from relay.events import DefectFound, DestinationRests, StoreFailed
from relay.lab.sink import Sink
from relay.mail.outcome import State
from relay.queue import bodies
from relay.queue.room import room

pytestmark = pytest.mark.asyncio

LARGE = 20_000  # lines of 11 octets: a file
FULL, UNAVAILABLE = b"452 4.3.1 ", b"451 4.3.0 "


def arrivals(sink: Sink) -> Counter[int]:
    return Counter(number_of(mail.octets) for mail in sink.received)


def bodies_in(folder: Path) -> list[Path]:
    return [path for name in ("incoming", "bodies") for path in (folder / name).iterdir()]


async def everything_went(here: Here, sink: Sink, *numbers: int) -> None:
    """These went out, once each, and nothing is left."""
    await here.until(lambda: len(here.finished("delivered")) == len(numbers))
    assert arrivals(sink) == Counter(numbers)
    assert await here.waiting() == []


# A disk that is full


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def leave(disk: Path, octets: int) -> None:
    """Fill the disk until so much is left."""
    free, _ = room(disk)
    with (disk / "ballast").open("ab") as ballast, suppress(OSError):
        while free > octets:
            size = min(free - octets, 1 << 20)
            ballast.write(b"x" * size)
            ballast.flush()
            free -= size


async def until_refused(here: Here) -> list[int]:
    """Send some mail. The disk is asked once in a while only: returns the numbers of what was taken before."""
    taken: list[int] = []
    for number in range(100, 110):
        answer = await here.send(numbered(number, 3000), recipient=b"r@v.test")
        if answer.startswith(FULL):
            return taken
        assert answer.startswith(b"250")
        taken.append(number)
    raise AssertionError("it takes mail for ever")


async def test_a_disk_that_is_full_and_has_room_again(tmp_path: Path) -> None:
    """It keeps a reserve for delivering: new mail is refused, and what is in goes out."""
    sink = Sink()
    address = await sink.start()
    await sink.stop()
    with small_disk(tmp_path / "disk", 32) as disk:
        async with running(disk / "state", address, retry={"schedule": ["1m"], "outage_schedule": []}) as here:
            assert (await here.send(numbered(1))).startswith(b"250")
            assert (await here.send(numbered(2, LARGE), recipient=b"r@u.test")).startswith(b"250")
            await here.until(lambda: len(here.finished("deferred")) == 2)
            leave(disk, room(disk)[1] - (64 << 10))
            assert (await here.send(numbered(3, LARGE))).startswith(FULL)
            taken = await until_refused(here)
            await sink.start(port=address.port)
            here.pass_time(timedelta(hours=1))
            await here.until(lambda: len(here.finished("delivered")) == 2 + len(taken))
            (disk / "ballast").unlink()
            for number, lines in ((4, 1), (5, LARGE)):
                assert (await here.send(numbered(number, lines))).startswith(b"250")
            await everything_went(here, sink, 1, 2, 4, 5, *taken)
            await here.until(lambda: bodies_in(disk / "state") == [])  # files go after the commit
            assert here.seen(DefectFound) == []
    await sink.stop()


async def test_a_disk_without_a_free_octet(tmp_path: Path) -> None:
    """Not even the reserve is there: what came of an attempt is kept in memory until it can be written down."""
    sink = Sink()
    address = await sink.start()
    await sink.stop()
    with small_disk(tmp_path / "disk", 16) as disk:
        async with running(disk / "state", address, retry={"schedule": ["1m"], "outage_schedule": []}) as here:
            for number in range(1, 21):
                assert (await here.send(numbered(number, 3000), b"r@%d.test" % number)).startswith(b"250")
            await here.until(lambda: here.seen(DestinationRests))
            leave(disk, 0)
            assert (await here.send(numbered(30, LARGE))).startswith(FULL)
            assert await until_refused(here) == []
            await sink.start(port=address.port)
            here.pass_time(timedelta(hours=1))
            # The log may have room left from before: then nothing fails.
            await here.until(lambda: here.seen(StoreFailed) or len(here.finished("delivered")) == 20)
            (disk / "ballast").unlink()
            assert (await here.send(numbered(32))).startswith(b"250")
            await everything_went(here, sink, *range(1, 21), 32)
            assert here.seen(DefectFound) == []
    await sink.stop()


# Errors of SQLite


class Trouble:
    """Makes statements of all connections fail while `fails` says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails: Callable[[str], bool] = lambda _sql: False
        self.error = sqlite3.OperationalError("disk I/O error")
        self.met = 0
        trouble = self

        class Faulty(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                trouble._meet(sql)
                return super().execute(sql, *parameters)

            def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                trouble._meet(sql)
                return super().executemany(sql, *parameters)

        monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Faulty))

    def _meet(self, sql: str) -> None:
        if self.fails(sql):
            self.met += 1
            raise self.error

    def of(self, text: str, code: int) -> None:
        self.error = sqlite3.OperationalError(text)
        self.error.sqlite_errorcode = code


ERRORS = {
    "I/O error": ("disk I/O error", sqlite3.SQLITE_IOERR, UNAVAILABLE),
    "full": ("database or disk is full", sqlite3.SQLITE_FULL, FULL),
    "corrupt": ("database disk image is malformed", sqlite3.SQLITE_CORRUPT, UNAVAILABLE),
}


@pytest.mark.parametrize("at", ["BEGIN", "INSERT INTO message", "INSERT INTO body", "INSERT INTO recipient", "COMMIT"])
@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_while_a_message_is_stored(
    at: str, error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trouble = Trouble(monkeypatch)
    text, code, answer = ERRORS[error]
    trouble.of(text, code)
    sink = Sink()
    async with running(tmp_path, await sink.start()) as here:
        assert (await here.send(numbered(1))).startswith(b"250")
        trouble.fails = lambda sql: sql.startswith(at)
        for lines in (1, LARGE):
            assert (await here.send(numbered(2, lines))).startswith(answer)
        assert trouble.met >= 2
        trouble.fails = lambda _sql: False
        await here.until(lambda: here.finished("delivered"))  # what was in is not disturbed
        assert (await here.send(numbered(3, LARGE))).startswith(b"250")
        await everything_went(here, sink, 1, 3)
        assert here.seen(DefectFound) == []
        assert here.seen(StoreFailed)[-1].reason.endswith(text)
        await here.app._store.tidy(utc_now() - timedelta(days=1))  # a file whose fate was not known then
    assert bodies_in(tmp_path) == []
    await sink.stop()


@pytest.mark.parametrize("at", ["UPDATE recipient SET state", "DELETE FROM body", "COMMIT"])
async def test_an_error_while_a_delivery_is_written_down(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remote host has the message: the result is held until the disk takes it, and it does not go out again."""
    trouble = Trouble(monkeypatch)
    sink = Sink()
    async with running(tmp_path, await sink.start()) as here:
        attempts: list[int] = []

        def fails(sql: str) -> bool:
            if (
                sink.received and sql.startswith(at) and len(attempts) < 2
            ):  # a batch is done a second time, item by item
                attempts.append(1)
                return True
            return False

        trouble.fails = fails
        assert (await here.send(numbered(1))).startswith(b"250")
        await everything_went(here, sink, 1)
        assert len(attempts) == 2
        assert here.seen(StoreFailed)
    await sink.stop()


async def test_the_write_ahead_log_cannot_grow(tmp_path: Path) -> None:
    """A real error of a real write: files of this process may not be longer than this for a while."""
    sink = Sink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with running(tmp_path, await sink.start()) as here:
        assert (await here.send(numbered(1))).startswith(b"250")
        await here.until(lambda: here.finished("delivered"))
        longest = max(path.stat().st_size for path in tmp_path.iterdir() if path.is_file())
        resource.setrlimit(resource.RLIMIT_FSIZE, (longest + 8192, hard))
        try:
            answers = [await here.send(numbered(number, 4000)) for number in range(2, 6)]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        # The log may begin anew and have room for the first of them.
        taken = [number for number, answer in enumerate(answers, 2) if answer.startswith(b"250")]
        assert {answer[:10] for answer in answers if not answer.startswith(b"250")} <= {UNAVAILABLE, FULL}
        assert len(taken) < len(answers)
        assert (await here.send(numbered(9))).startswith(b"250")
        await everything_went(here, sink, 1, *taken, 9)
    await sink.stop()


# Errors of the files that large bodies are in


def _fail(error: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("call", ["open", "write", "fdatasync", "rename", "fsync"])
@pytest.mark.parametrize(("error", "answer"), [(errno.EIO, UNAVAILABLE), (errno.ENOSPC, FULL)], ids=["EIO", "ENOSPC"])
async def test_a_large_body_cannot_be_written(
    call: str, error: int, answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Sink()
    async with running(tmp_path, await sink.start()) as here:
        with monkeypatch.context() as broken:
            if call == "rename":
                broken.setattr(Path, "rename", _fail(error))
            elif call == "fsync":
                broken.setattr(bodies, "sync_folder", _fail(error))
            else:
                broken.setattr(os, call, _fail(error))
            assert (await here.send(numbered(1, LARGE))).startswith(answer)
        assert bodies_in(tmp_path) == []
        assert (await here.send(numbered(2, LARGE))).startswith(b"250")
        await everything_went(here, sink, 2)
        assert here.seen(DefectFound) == []
    await sink.stop()


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 100)
        file.write(b"#")


@pytest.mark.parametrize("harm", [Path.unlink, _cut, _spoil], ids=["missing", "cut", "spoilt"])
async def test_a_large_body_is_not_what_it_was(harm: Callable[[Path], None], tmp_path: Path) -> None:
    """It does not go out, neither half nor spoilt, nor is it given up; other mail goes on."""
    sink = Sink()
    address = await sink.start()
    await sink.stop()
    async with running(tmp_path, address, retry={"schedule": ["1m"], "outage_schedule": []}) as here:
        assert (await here.send(numbered(1, LARGE))).startswith(b"250")
        await here.until(lambda: here.finished("deferred"))
        (path,) = bodies_in(tmp_path)
        harm(path)
        await sink.start(port=address.port)
        here.pass_time(timedelta(hours=1))
        await here.until(lambda: len(here.finished("deferred")) == 2)
        told = here.finished("deferred")[1]
        assert (told.id, told.cause) == (path.name, "local")
        assert str(path) in (told.reason or "")
        assert (await here.send(numbered(2, LARGE), recipient=b"r@other.test")).startswith(b"250")
        await here.until(lambda: here.finished("delivered"))
        assert arrivals(sink) == Counter([2])
        assert [entry.state for entry in await here.waiting()] == [State.DEFERRED]
    await sink.stop()


async def test_octets_of_a_small_body_were_changed_on_disk(tmp_path: Path) -> None:
    """SQLite has no checksums: it gives back whatever is there."""
    sink = Sink()
    address = await sink.start()
    await sink.stop()
    async with running(tmp_path, address, retry={"schedule": ["1m"], "outage_schedule": []}) as here:
        assert (await here.send(numbered(1))).startswith(b"250")
        await here.until(lambda: here.finished("deferred"))
        with sqlite3.connect(tmp_path / "queue.db") as connection:
            connection.execute("UPDATE body SET octets = CAST(replace(CAST(octets AS TEXT), 'text', 'tent') AS BLOB)")
        connection.close()
        await sink.start(port=address.port)
        here.pass_time(timedelta(hours=1))
        await here.until(lambda: len(here.finished("deferred")) == 2)
        assert "its body in the database is not what was put" in (here.finished("deferred")[1].reason or "")
        assert sink.received == []
        await asyncio.sleep(0)
    await sink.stop()
