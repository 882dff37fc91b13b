"""Passwords that were right a short while ago, under a keyed hash: to check one again costs 100 ms, or a question."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

_MOST: Final = 1024
_SECONDS: Final = 300.0


class Remembered:
    """What was asked (name, password, and what else matters), and the login that it gave.

    `now` is in seconds, of any clock that never goes back.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._kept: dict[bytes, tuple[str, float]] = {}  # keyed hash -> the login, and when it is forgotten

    def login(self, asked: tuple[str, ...], now: float) -> str | None:
        """As whom this very question logged in a short while ago; None: it did not."""
        login, until = self._kept.get(self._hash(asked), ("", 0.0))
        return login if until > now else None

    def keep(self, asked: tuple[str, ...], login: str, now: float) -> None:
        """Remember it for five minutes; the oldest of too many is forgotten."""
        hash = self._hash(asked)
        self._kept.pop(hash, None)
        if len(self._kept) >= _MOST:
            del self._kept[next(iter(self._kept))]
        self._kept[hash] = login, now + _SECONDS

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()

    def _hash(self, asked: tuple[str, ...]) -> bytes:
        return hashlib.blake2b(repr(asked).encode(), key=self._key).digest()
