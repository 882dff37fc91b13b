"""The real service in a process that dies with -9 at a chosen point of a message's life.

The product has no hooks for this: before the service begins, `live` replaces one of its functions, in that process
only, by one that kills the process before or after the real one. It is started by multiprocessing's fork server, so
that no test waits for the imports.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from relay.app import App, utc_now
from relay.delivery.settling import Settler
from relay.events import Event, fields
from relay.queue import claiming, transactions
from relay.queue.bodies import Bodies, FileOrMemory
from relay.queue.sqlite import SqliteStore
from relay.settings import Settings
from relay.submission import replies
from relay.submission.session import Session

AHEAD = timedelta(minutes=12)  # of the second life: what had to wait a little is due, and no lease is over

Test = Callable[..., bool]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _always(*_: Any, **__: Any) -> bool:
    return True


def _before(owner: Any, name: str, when: Test = _always) -> None:
    """Die when the function is called."""
    real = getattr(owner, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        if when(*arguments, **more):
            die()
        return real(*arguments, **more)

    setattr(owner, name, dying)


def _after(owner: Any, name: str, when: Test = _always) -> None:
    """Die when the function returns."""
    real = getattr(owner, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        counts = when(*arguments, **more)
        result = real(*arguments, **more)
        if counts:
            die()
        return result

    setattr(owner, name, dying)


class _Commits:
    """Dies before or after a COMMIT: the next one after `arm` was called, or a statement was one of `announced`."""

    def __init__(self, *, after: bool, announced: Test = lambda *_: False) -> None:
        self._armed = False
        commits = self

        class Dying(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql == "COMMIT" and commits._armed:
                    if after:
                        super().execute(sql)
                    die()
                commits._armed = commits._armed or announced(sql, *parameters)
                return super().execute(sql, *parameters)

        sqlite3.connect = partial(sqlite3.connect, factory=Dying)  # type: ignore[assignment]

    def arm(self, owner: Any, name: str, when: Test) -> None:
        """The commit after `name` was called. `when` is asked with its arguments."""
        real = getattr(owner, name)

        def arming(*arguments: Any, **more: Any) -> Any:
            result = real(*arguments, **more)
            self._armed = self._armed or when(*arguments, **more)
            return result

        setattr(owner, name, arming)


def _commit_of(owner: Any, name: str, when: Test = _always, *, after: bool) -> None:
    _Commits(after=after).arm(owner, name, when)


def _second() -> Test:
    calls = iter((False, True))
    return lambda *_, **__: next(calls)


def _is_notice(*_: Any, about: object = None, **__: Any) -> bool:
    return about is not None


def _is_new_mail(*arguments: Any, about: object = None, **__: Any) -> bool:
    return about is None


def _is_arriving(path: Path, *_: Any) -> bool:
    return path.parent.name == "incoming"


def _says_queued(session: Session) -> bool:
    return b"queued as" in session._output


def _migration(number: int, *, after: bool) -> None:
    """At the commit of one of the files in relay/queue/schema."""

    def announced(sql: str, parameters: tuple[object, ...] = ()) -> bool:
        return sql.startswith("INSERT INTO schema_version") and parameters == (number,)

    _Commits(after=after, announced=announced)


def _after_claim() -> None:
    """What was claimed is on disk as such, and nobody has begun with it."""
    real = SqliteStore.claim

    async def claim(self: SqliteStore, *arguments: Any) -> Any:
        claims = await real(self, *arguments)
        if claims:
            die()
        return claims

    setattr(SqliteStore, "claim", claim)  # noqa: B010  (mypy)


_SETTLE = claiming, "settle"
_PUT = transactions, "put"

POINTS: Mapping[str, Callable[[], None]] = {
    "nowhere": lambda: None,
    # Mail comes in.
    "the body comes": lambda: _before(FileOrMemory, "write", _second()),
    "a large body is complete, without its name": lambda: _before(Path, "rename", _is_arriving),
    "a large body has its name": lambda: _after(Path, "rename", _is_arriving),
    "before the commit of a put": lambda: _commit_of(*_PUT, _is_new_mail, after=False),
    "after the commit of a put": lambda: _commit_of(*_PUT, _is_new_mail, after=True),
    "before the 250": lambda: _before(replies, "queued"),
    "after the 250": lambda: _after(Session, "_send", _says_queued),
    # Mail goes out. What lies between us and the other host is up to the sink, which kills us then.
    "before the commit of a claim": lambda: _commit_of(claiming, "_lease", after=False),
    "after a claim": _after_claim,
    "before a settlement": lambda: _before(Settler, "settle"),
    "before the commit of a settlement": lambda: _commit_of(*_SETTLE, after=False),
    "after the commit of a settlement": lambda: _commit_of(*_SETTLE, after=True),
    "before the file is removed": lambda: _before(Bodies, "remove"),
    "a notice is put": lambda: _before(*_PUT, _is_notice),
    "before the commit with a notice": lambda: _commit_of(*_PUT, _is_notice, after=False),
    "after the commit with a notice": lambda: _commit_of(*_PUT, _is_notice, after=True),
    "before the commit of a rest": lambda: _commit_of(transactions, "rest", after=False),
    "after the commit of a rest": lambda: _commit_of(transactions, "rest", after=True),
    # The house is cleaned.
    "before the commit of a tidy": lambda: _commit_of(transactions, "tidy", after=False),
    "after the commit of a tidy": lambda: _commit_of(transactions, "tidy", after=True),
    # The service begins.
    "leases are undone": lambda: _before(transactions, "_spread"),
    "before the commit of taking over": lambda: _commit_of(transactions, "_regroup", after=False),
    "after the commit of taking over": lambda: _commit_of(transactions, "_regroup", after=True),
    "files are swept": lambda: _before(Path, "unlink", lambda path, *_: path.parent.name in ("incoming", "bodies")),
    "before the commit of schema 2": lambda: _migration(2, after=False),
    "after the commit of schema 2": lambda: _migration(2, after=True),
    "before the commit of schema 3": lambda: _migration(3, after=False),
    "after the commit of schema 3": lambda: _migration(3, after=True),
}


def live(point: str, settings: Settings, folder: Path, ahead: timedelta, ready: Connection) -> None:
    """Run the service until it dies at `point`, or until SIGTERM. Sends the port through `ready` when it serves."""
    POINTS[point]()
    asyncio.run(_live(settings, folder, ahead, ready))


async def _live(settings: Settings, folder: Path, ahead: timedelta, ready: Connection) -> None:
    shift = ahead
    log = (folder.parent / "events").open("a")

    def emit(event: Event) -> None:
        log.write(f"{event.name} {fields(event)}\n")
        log.flush()

    app = App(settings, folder, "relay.test", lambda: utc_now() + shift, emit)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    addresses = await app.start()
    shift += ahead  # what a crash has made wait some seconds is due now
    app._store.wake()
    ready.send(addresses[0].port)
    await stopping.wait()
    await app.stop()
    log.close()
