"""The users file: names and argon2 hashes, one `name:hash` a line. Reads, checks and writes it.

Checking costs 100 ms and 64 MiB by design, so it runs in two threads beside the event loop, and a success is remembered
for a short while under a keyed hash. Passwords are never kept. RFC 8265 section 4 (NFC) for names and passwords.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2

from relay.files import Stamp, file_stamp, read_entries, replace_file

_THREADS = 2
_REMEMBERED = 1024  # successes
_REMEMBER_SECONDS = 300.0
_MAX_OCTETS = 255  # of a name or password


class Users:
    """Who may log in, as the file says; `refresh` notices when it changes."""

    def __init__(self, path: Path, stamp: Stamp, hashes: Mapping[str, str]) -> None:
        self._path = path
        self._stamp: Stamp | None = stamp
        self._hashes = dict(hashes)
        self._hasher = argon2.PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, float] = {}  # keyed hash of name and password -> when it is forgotten

    @staticmethod
    def load(path: Path) -> Users:
        """Read the file. Raises ValueError, naming file and line, for a mistake in it, and OSError if unreadable."""
        return Users(path, *_read(path))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._hashes)

    def refresh(self) -> str | None:
        """Read the file again if it has changed. Returns what is wrong with a new one, once; the old stays in force."""
        stamp = file_stamp(self._path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self._stamp, self._hashes = _read(self._path)
        except (OSError, ValueError) as error:
            return str(error)
        self._remembered.clear()
        return None

    async def check(self, name: str, password: str) -> bool:
        """Whether this is the user's password. An unknown name takes as long as a wrong password."""
        name, password = _normal(name), _normal(password)
        if max(len(name.encode()), len(password.encode())) > _MAX_OCTETS:
            return False
        known = self._hashes.get(name)
        # For an unknown name somebody's hash is checked, and the result not used: the time must not tell who exists.
        other = next(iter(self._hashes.values()), None)
        against = known or other
        if against is None:
            return False
        loop = asyncio.get_running_loop()
        fits = await loop.run_in_executor(self._threads, self._verify, against, password)
        if not fits or known is None or self._hashes.get(name) != known:  # the file may have changed meanwhile
            return False
        self._remember(self._secret(name, password), loop.time())
        return True

    def remembers(self, name: str, password: str) -> bool:
        """Whether this very pair was right a short while ago; costs nothing."""
        until = self._remembered.get(self._secret(_normal(name), _normal(password)), 0.0)
        return until > asyncio.get_running_loop().time()

    def _verify(self, hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(hash, password)
        except argon2.exceptions.VerificationError:
            return False

    def _secret(self, name: str, password: str) -> bytes:
        return hashlib.blake2b(f"{name}\0{password}".encode(), key=self._key).digest()

    def _remember(self, secret: bytes, now: float) -> None:
        self._remembered.pop(secret, None)
        if len(self._remembered) >= _REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[secret] = now + _REMEMBER_SECONDS


def add_user(path: Path, name: str, password: str) -> None:
    """Add a user, or give one a new password. The file is replaced as a whole, or not at all.

    Raises ValueError for a name or password that cannot be used or a mistake in the file, and OSError.
    """
    name, password = _normal(name), _normal(password)
    if not name or name != name.strip() or name[0] == "#" or ":" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be a user name: it needs printable characters, no colon, and no # in front")
    if not password or "\0" in password:
        raise ValueError("the password must not be empty")
    if max(len(name.encode()), len(password.encode())) > _MAX_OCTETS:
        raise ValueError(f"name and password have at most {_MAX_OCTETS} octets")
    line = f"{name}:{argon2.PasswordHasher().hash(password)}"
    lines: list[str] = []
    if path.exists():
        _read(path)
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    kept = [old for old in lines if _normal(old.strip().partition(":")[0]) != name]
    replace_file(path.resolve(), "".join(f"{text}\n" for text in [*kept, line]))


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _read(path: Path) -> tuple[Stamp, dict[str, str]]:
    stamp, entries = read_entries(path)
    hashes: dict[str, str] = {}
    for place, text in entries:
        name, hash = _parse(text, place)
        if name in hashes:
            raise ValueError(f"{place}: the user {name!r} is there twice")
        hashes[name] = hash
    return stamp, hashes


def _parse(text: str, place: str) -> tuple[str, str]:
    """Name and hash."""
    name, colon, hash = text.partition(":")
    if not colon or not name or name != name.strip():
        raise ValueError(f"{place}: not of the form name:hash")
    try:
        argon2.extract_parameters(hash)
    except argon2.exceptions.InvalidHash:
        raise ValueError(f"{place}: what follows the name is not an argon2 hash") from None
    return _normal(name), hash
