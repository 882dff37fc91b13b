"""The folder of the queue: made when it is missing, and held by one process at a time.

queue.db is the database (relay.queue.database), `bodies/` and `incoming/` the large messages (relay.queue.bodies),
`lock` says who has it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.queue.database import describe, sync_folder
from relay.queue.store import QueueError

LOCK_NAME = "lock"


class FolderLock:
    """The right to write into a queue folder. The system takes it back when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Make the folder (mode 0700) when it is missing, and lock it. Raises QueueError."""
        try:
            _make(folder)
            self._descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise QueueError(f"the queue folder {folder} cannot be used: {describe(error)}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            self.release()
            raise QueueError(f"the queue folder {folder} is in use by a running relay (pid {holder})") from None
        except OSError as error:
            self.release()
            raise QueueError(f"the queue folder {folder} cannot be used: {describe(error)}") from error

    def release(self) -> None:
        """Let the folder go."""
        os.close(self._descriptor)


@contextmanager
def held_if_free(folder: Path) -> Iterator[bool]:
    """Keep a service from starting in an existing `folder` for this while. False: one runs, and nothing is held."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # not ours to lock: whoever can write the queue itself is told of that by SQLite
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def holder(folder: Path) -> int | None:
    """The process id of the service that holds `folder`; None when none does. Raises OSError when that can't be seen.

    It is found out by holding the folder for an instant, as `held_if_free` does, together with others who only ask.
    """
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 20, 0).strip()
        return int(text) if text.isdigit() else 0  # 0: it has begun and not yet written its number
    finally:
        os.close(descriptor)
    return None


def _make(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700)
        sync_folder(path.parent)
    if not folder.is_dir():
        raise NotADirectoryError(None, "it is not a folder")
