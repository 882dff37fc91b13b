"""Who may use the API: the tokens file, one `name:scope:sha256` a line, written by `relay admin token`.

A token is 32 random octets, so that its plain SHA-256 gives nothing away; the token itself is shown once and kept
nowhere. A changed file is noticed at the next request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from relay.files import Stamp, changing, file_stamp, read_entries, replace_file

_LINE = re.compile(r"([^:]+):([a-z]+):([0-9a-f]{64})\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_PREFIX = "relay_"  # so that scanners for leaked secrets know what they see


class Scope(Enum):
    """What a token is good for; to write is to read too, and to send is neither."""

    READ = "read"
    WRITE = "write"
    SEND = "send"

    def covers(self, needed: Scope) -> bool:
        """Whether who has this may do what needs that."""
        return self is needed or (self is Scope.WRITE and needed is Scope.READ)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: whose it is, what for, and its SHA-256."""

    name: str
    scope: Scope
    digest: bytes


class Tokens:
    """The tokens of the file; `refresh` notices when it changes."""

    def __init__(self, path: Path, stamp: Stamp, tokens: tuple[Token, ...]) -> None:
        self._path = path
        self._stamp: Stamp | None = stamp
        self._tokens = tokens

    @staticmethod
    def load(path: Path) -> Tokens:
        """Read the file. Raises ValueError, naming file and line, for a mistake in it, and OSError if unreadable."""
        return Tokens(path, *_read(path))

    @property
    def senders(self) -> frozenset[str]:
        """The names of those that may send."""
        return frozenset(token.name for token in self._tokens if token.scope is Scope.SEND)

    def refresh(self) -> str | None:
        """Read the file again if it has changed. Returns what is wrong with a new one, once; the old stays in force."""
        stamp = file_stamp(self._path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self._stamp, self._tokens = _read(self._path)
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def find(self, text: str) -> Token | None:
        """The token with this text. How long it takes does not tell how much of one was right."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        found = None
        for token in self._tokens:  # all of them, always
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def add_token(path: Path, name: str, scope: Scope) -> str:
    """Make a token under a new name, or in place of the one of that name. Returns it; only its hash is kept.

    Raises ValueError for a name that cannot be used or a mistake in the file, and OSError.
    """
    if not _NAME.match(name):
        raise ValueError(f"{name!r} cannot be the name of a token: letters, digits, dots, hyphens; at most 64")
    text = _PREFIX + secrets.token_urlsafe(32)
    new = f"{name}:{scope.value}:{hashlib.sha256(text.encode()).hexdigest()}"
    with changing(path):
        lines: list[str] = []
        if path.exists():
            _read(path)
            lines = path.read_text("utf-8").removesuffix("\n").split("\n")
        kept = [line for line in lines if line.strip().partition(":")[0] != name]
        replace_file(path.resolve(), "".join(f"{one}\n" for one in [*kept, new]))
    return text


def _read(path: Path) -> tuple[Stamp, tuple[Token, ...]]:
    stamp, entries = read_entries(path)
    tokens: dict[str, Token] = {}
    for place, text in entries:
        token = _parse(text, place)
        if token.name in tokens:
            raise ValueError(f"{place}: the token {token.name!r} is there twice")
        tokens[token.name] = token
    return stamp, tuple(tokens.values())


def _parse(text: str, place: str) -> Token:
    found = _LINE.match(text)
    if found is None or not _NAME.match(found[1]):
        raise ValueError(f"{place}: not of the form name:scope:hash, as `relay admin token` writes it")
    try:
        return Token(found[1], Scope(found[2]), bytes.fromhex(found[3]))
    except ValueError:
        raise ValueError(f"{place}: the scope must be read, write or send, not {found[2]!r}") from None
