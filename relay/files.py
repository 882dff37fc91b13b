"""Small files that an administrator's command writes and the service reads again when they change."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SECRET_OCTETS = 32

Stamp = tuple[int, int, int]  # mtime in ns, size, inode: what tells a changed file


def file_stamp(path: Path) -> Stamp | None:
    """What tells whether a file has changed; None when it is not there."""
    try:
        return _stamp_of(path.stat())
    except OSError:
        return None


def readable_by_others(path: Path) -> bool:
    """Whether every user of this machine can read it. False, too, where that cannot be seen."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def read_entries(path: Path) -> tuple[Stamp, list[tuple[str, str]]]:
    """The stamp of a file, and its lines but for comments and empty ones, each with its place, in words.

    Raises OSError, and ValueError for a line that is not UTF-8.
    """
    with path.open("rb") as file:
        stamp = _stamp_of(os.fstat(file.fileno()))
        lines = file.read().splitlines()
    entries = []
    for number, line in enumerate(lines, 1):
        place = f"{path}, line {number}"
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            raise ValueError(f"{place}: not UTF-8") from None
        if text and text[0] != "#":
            entries.append((place, text))
    return stamp, entries


def read_word(path: Path) -> str:
    """The one word of printable ASCII in a file, such as a token.

    Raises OSError, and ValueError, which names the file and does not show what is in it.
    """
    try:
        text = path.read_text("ascii").strip()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not ASCII") from None
    if not text or not text.isprintable() or " " in text:
        raise ValueError(f"{path} does not hold a token")
    return text


def _stamp_of(seen: os.stat_result) -> Stamp:
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """One command at a time: who reads a file here, and replaces it, undoes nobody's change. Raises OSError.

    It is the folder that is locked: the file will be another one, and need not be there.
    """
    folder = os.open(path.resolve().parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system over the network may have no locks for folders
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def replace_file(path: Path, text: str) -> None:
    """Write the file under another name, sync it, and rename it over the old one, whose owner and mode it gets.

    Raises OSError.
    """
    with _written(path, text.encode()) as (file, temporary):
        if path.exists():
            old = path.stat()
            os.fchown(file, old.st_uid, old.st_gid)
            os.fchmod(file, old.st_mode & 0o660)
        os.fsync(file)
        temporary.replace(path)


def give_away(file: int, folder: Path) -> None:
    """What root makes in a folder belongs to whom that belongs to: a service that works there can use it.

    `file`: a descriptor of one that was made just now. Raises OSError.
    """
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(file, owner.st_uid, owner.st_gid)


def new_secret_file(path: Path, octets: bytes) -> None:
    """Make a file that nobody but its owner can read: all of it or none, and never over one that is there.

    Where root makes it, it belongs to whom the folder belongs to. Raises OSError, FileExistsError for what is there.
    """
    with _written(path, octets) as (file, temporary):
        give_away(file, path.parent)
        os.fsync(file)
        try:
            path.hardlink_to(temporary)  # a rename would go over a file that is there
        finally:
            temporary.unlink()


@contextmanager
def _written(path: Path, octets: bytes) -> Iterator[tuple[int, Path]]:
    """The octets in a new file of the same folder, mode 0600, which the body puts into its place; then it is synced."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(octets)
            file.flush()
            yield handle, temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def secret_file(path: Path) -> bytes:
    """32 random octets that outlive a restart: those of the file, which is made when they are not there.

    For whoever has the folder to itself. Raises OSError.
    """
    with suppress(FileNotFoundError, ValueError):
        found = bytes.fromhex(path.read_text("ascii").strip())
        if len(found) == _SECRET_OCTETS:
            return found
    made = secrets.token_bytes(_SECRET_OCTETS)
    replace_file(path, made.hex() + "\n")
    return made
