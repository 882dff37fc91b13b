"""The octets of messages: in memory while small, in a file of the queue when large. The event loop never waits on disk.

A file is written under `incoming/`, flushed, renamed into `bodies/`, and the folder is flushed: only then may the
message be put. It is removed only after the transaction that closed the last recipient. What a crash leaves behind
belongs to no stored message and is swept at the next start.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from relay.mail.message import Body, FileBody, InlineBody, MessageId
from relay.queue.database import describe, sync_folder
from relay.queue.room import check_room
from relay.queue.store import StoreUnavailable

INLINE_LIMIT = 65536  # octets; from about 100 KB on a file is faster, and a large row holds up those behind it
BLOCK = 1 << 20
CHUNK = 256 << 10
_LARGE_PIECE = 16 << 10
_THREADS = 8
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_FINAL = "bodies"

T = TypeVar("T")


class Bodies:
    """The files of a queue folder. Its folders must exist: `prepare` makes them."""

    def __init__(self, folder: Path, is_stored: Callable[[MessageId], Awaitable[bool]]) -> None:
        """`is_stored`: whether a message with a body in a file is in the queue, after all puts that were begun."""
        self.incoming = folder / "incoming"
        self.final = folder / _FINAL
        self.is_stored = is_stored
        self._unsure: set[MessageId] = set()  # of files that are to go if their message is not stored
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="queue-bodies")

    def prepare(self, stored: Collection[str]) -> None:
        """Make the folders, and remove every file that is not the body of one of the messages `stored`.

        Blocking; raises OSError.
        """
        for folder in (self.incoming, self.final):
            folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(self.incoming.parent)
        for folder, keep in ((self.incoming, ()), (self.final, stored)):
            for path in folder.iterdir():
                if path.name not in keep and not path.is_dir():
                    path.unlink()

    def file_of(self, id: MessageId, size: int, crc: int | None = None) -> FileBody:
        """The body of a message that is kept in a file."""
        return file_of(self.final.parent, id, size, crc)

    def new(self, id: MessageId) -> FileOrMemory:
        """Begin the body of message `id`."""
        return FileOrMemory(self, id)

    def remove(self, id: MessageId) -> None:
        """Remove the file of a message that is not stored, or no more. Blocking; raises OSError."""
        remove(self.final.parent, id)

    async def remove_unless_stored(self, id: MessageId) -> None:
        """Remove the file of a message that was to be stored; `sweep` does so when that is not known now."""
        self._unsure.add(id)
        if not await self.is_stored(id):
            await self.in_thread(self.remove, id)
        self._unsure.discard(id)

    async def sweep(self) -> None:
        """Remove what could not be removed before, for trouble with the disk. Raises StoreUnavailable."""
        for id in tuple(self._unsure):
            await self.remove_unless_stored(id)

    async def read(self, body: Body) -> AsyncGenerator[bytes, None]:
        """The octets of a body in chunks of up to CHUNK octets; a small one in one piece.

        Raises StoreUnavailable when the file cannot be read, and when it is not what was put: perhaps only
        after the last chunk, so that nobody may take what came for the whole before this ends.
        """
        if isinstance(body, InlineBody):
            if body.crc is not None and zlib.crc32(body.octets) != body.crc:
                raise StoreUnavailable("its body in the database is not what was put")
            yield body.octets
            return
        offset = crc = 0
        ahead = self._submit(_read_chunk, body.path, 0)
        while chunk := await _result(ahead):
            offset += len(chunk)
            crc = zlib.crc32(chunk, crc)
            ahead = self._submit(_read_chunk, body.path, offset)
            yield chunk
        if offset != body.size:
            # Half a message must not pass for a whole one.
            raise StoreUnavailable(f"{body.path} has {offset} octets instead of {body.size}")
        if body.crc is not None and crc != body.crc:
            raise StoreUnavailable(f"{body.path} is not what was put")

    async def in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function that waits on disk. Its OSError comes out as StoreUnavailable.

        When the caller is cancelled, what was begun goes on in the thread.
        """
        return await _result(self._submit(function, *arguments))

    async def close(self) -> None:
        """Finish what was begun."""
        await asyncio.to_thread(self._threads.shutdown)

    def _submit(self, function: Callable[..., T], *arguments: object) -> Future[T]:
        try:
            return self._threads.submit(function, *arguments)
        except RuntimeError as error:
            raise StoreUnavailable("the queue is closed") from error


class FileOrMemory:
    """The `BodyWriter` of this queue. For one task; nothing but `discard` may follow an error or a cancellation."""

    def __init__(self, bodies: Bodies, id: MessageId) -> None:
        self._bodies = bodies
        self._id = id
        self._pieces: list[bytes | bytearray] = []  # not written yet; a large message is not copied together
        self._waiting = 0  # octets in them
        self._size = self._crc = 0
        self._file: _File | None = None

    async def write(self, octets: bytes) -> None:
        """Add octets. Raises StoreUnavailable (disk full, I/O error)."""
        if len(octets) >= _LARGE_PIECE or not self._pieces:
            self._pieces.append(octets)
        elif isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += octets
        else:
            self._pieces.append(bytearray(octets))
        self._waiting += len(octets)
        self._size += len(octets)
        self._crc = zlib.crc32(octets, self._crc)
        if self._waiting <= (INLINE_LIMIT if self._file is None else BLOCK):
            return
        if self._file is None:
            self._file = _File(self._bodies.incoming / str(self._id), self._bodies.final / str(self._id))
        await self._bodies.in_thread(self._file.append, self._take_pieces())

    async def finish(self) -> Body:
        """The whole message as a Body to put into a NewMessage; a file is flushed to disk here."""
        if self._file is None:
            return InlineBody(b"".join(self._pieces))
        await self._bodies.in_thread(self._file.finish, self._take_pieces(), self._size)
        return self._bodies.file_of(self._id, self._size, self._crc)

    async def discard(self) -> None:
        """Throw away what was written, unless the message has been stored: then nothing happens."""
        self._take_pieces()
        if self._file is None:
            return
        finished = await self._bodies.in_thread(self._file.abandon)
        if finished:
            await self._bodies.remove_unless_stored(self._id)

    def _take_pieces(self) -> list[bytes | bytearray]:
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        return pieces


class _File:
    """A file on its way. Its methods block and may be called by several threads; the lock keeps them in turn."""

    def __init__(self, path: Path, final: Path) -> None:
        self._path = path
        self._final = final
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._place: Path | None = None  # where our file is; what else may lie there is not ours
        self._abandoned = False

    def append(self, pieces: list[bytes | bytearray]) -> None:
        with self._lock:
            self._write(pieces)

    def finish(self, pieces: list[bytes | bytearray], size: int) -> None:
        """Write the rest, and make file and name durable. `size`: what the whole file must have."""
        with self._lock:
            descriptor = self._write(pieces)
            if os.fstat(descriptor).st_size != size:
                raise OSError(errno.EIO, f"{self._path} has not all octets")  # after an error that was passed over
            os.fdatasync(descriptor)
            self._close()
            self._path.rename(self._final)
            self._place = self._final
            sync_folder(self._final.parent)

    def abandon(self) -> bool:
        """Remove the file; later calls do nothing. True: it has its final name and was left there."""
        with self._lock:
            self._abandoned = True
            self._close()
            if self._place == self._path:
                self._path.unlink(missing_ok=True)
            return self._place == self._final

    def _write(self, pieces: list[bytes | bytearray]) -> int:
        if self._abandoned:
            raise OSError(errno.ECANCELED, "the body was discarded")
        check_room(self._final.parent)
        if self._descriptor is None:
            self._descriptor = self._create()
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._descriptor, view) :]
        return self._descriptor

    def _create(self) -> int:
        """Create the file. An id that another body has, on its way or stored, must not overwrite that one."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if self._final.exists():
            os.close(descriptor)
            self._path.unlink()
            raise OSError(errno.EEXIST, f"{self._final} exists")
        self._place = self._path
        return descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def file_of(folder: Path, id: MessageId, size: int, crc: int | None = None) -> FileBody:
    """The body of a message that is kept in a file of the queue `folder`."""
    return FileBody(folder / _FINAL / str(id), size, crc)


def remove(folder: Path, id: MessageId) -> None:
    """Remove the file of a message whose last recipient is closed, if it has one. Blocking; raises OSError."""
    (folder / _FINAL / str(id)).unlink(missing_ok=True)


def chunks_of(path: Path) -> Iterator[bytes]:
    """The octets of a file. Blocking; raises OSError."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _read_chunk(path: Path, offset: int) -> bytes:
    # Opened for each chunk: there is nothing to close when the reader goes away between two of them.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StoreUnavailable(f"{path} is missing") from None
    try:
        return os.pread(descriptor, CHUNK, offset)
    finally:
        os.close(descriptor)


async def _result(future: Future[T]) -> T:
    try:
        return await asyncio.wrap_future(future)
    except OSError as error:
        raise StoreUnavailable(f"the queue cannot be used: {describe(error)}", error.errno in _NO_ROOM) from error
