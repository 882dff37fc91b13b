"""The users file, read and written: `name:hash`, or `name:hash:verifier`, one user a line.

The hash is argon2's, for mechanisms that show the password; the verifier is that of SCRAM, which does not show it. Both
are of the same password. The file is replaced as a whole or not at all, and comments and other lines stay as they are.
"""

from __future__ import annotations

import secrets
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import argon2

from relay import scram
from relay.files import Stamp, changing, read_entries, replace_file
from relay.submission.claims import MAX_OCTETS
from relay.submission.scram import ROUNDS, SALT_OCTETS, Verifier, make_verifier, parse_verifier


@dataclass(frozen=True, slots=True)
class User:
    """One line. `verifier` None: SCRAM is not for this user."""

    name: str
    hash: str = field(repr=False)
    verifier: Verifier | None = None

    @property
    def has_scram(self) -> bool:
        """Whether every client can log in with SCRAM: keys made elsewhere may have more rounds than some take."""
        return self.verifier is not None and self.verifier.rounds <= ROUNDS


def read_users(path: Path) -> tuple[Stamp, dict[str, User]]:
    """The file's stamp, and its users by name. Raises ValueError, naming file and line, and OSError."""
    stamp, entries = read_entries(path)
    users: dict[str, User] = {}
    for place, text in entries:
        user = _parse(text, place)
        if user.name in users:
            raise ValueError(f"{place}: the user {user.name!r} is there twice")
        users[user.name] = user
    return stamp, users


def add_user(path: Path, name: str, password: str, rounds: int = ROUNDS) -> None:
    """Add a user that there is not yet; the file is made if need be.

    Raises ValueError for a name or password that cannot be used, a mistake in the file or a name that is there, and
    OSError. `rounds` are those of SCRAM.
    """
    name, password = _checked(name, password)
    with changing(path):
        lines, known = _lines(path)
        if name in known:
            raise ValueError(f"there is a user {name} already: `relay user passwd` gives a new password")
        _write(path, [*lines, _line(_made(name, password, rounds))])


def change_password(path: Path, name: str, password: str, rounds: int = ROUNDS) -> None:
    """Give a user that there is a new password. Raises as `add_user`, and ValueError when there is no such user."""
    name, password = _checked(name, password)
    with changing(path):
        lines, known = _lines(path)
        if name not in known:
            raise ValueError(f"there is no user {name}: `relay user add` makes one")
        new = _line(_made(name, password, rounds))
        _write(path, [new if _name_in(line) == name else line for line in lines])


def remove_user(path: Path, name: str) -> None:
    """Take a user out. Raises ValueError when there is none of this name, or for a mistake in the file, and OSError."""
    with changing(path):
        lines, known = _lines(path)
        if normal(name) not in known:
            raise ValueError(f"there is no user {name}")
        _write(path, [line for line in lines if _name_in(line) != normal(name)])


def normal(text: str) -> str:
    """A name or password in the one form in which it is compared. RFC 8265 section 4.2.2."""
    return unicodedata.normalize("NFC", text)


def _checked(name: str, password: str) -> tuple[str, str]:
    """Both in their one form. Raises ValueError, which does not repeat the password."""
    name, password = normal(name), normal(password)
    if not name or name != name.strip() or name[0] == "#" or ":" in name or not name.isprintable():
        raise ValueError(f"{name!r} cannot be a user name: it needs printable characters, no colon, and no # in front")
    if not password or "\0" in password:
        raise ValueError("the password must not be empty")
    if max(len(name.encode()), len(password.encode())) > MAX_OCTETS:
        raise ValueError(f"name and password have at most {MAX_OCTETS} octets")
    return name, password


def _made(name: str, password: str, rounds: int) -> User:
    verifier = None
    # Clients send the name as SASLprep makes it: another user's, perhaps. And they cannot send what it forbids.
    with suppress(ValueError):
        if scram.prepared(name) == name:
            verifier = make_verifier(password, secrets.token_bytes(SALT_OCTETS), rounds)
    return User(name, argon2.PasswordHasher().hash(password), verifier)


def _lines(path: Path) -> tuple[list[str], dict[str, User]]:
    """The lines of a file without mistakes, and its users; none of either when it is not there."""
    if not path.exists():
        return [], {}
    _, users = read_users(path)
    text = path.read_text("utf-8").removesuffix("\n")
    return text.split("\n") if text else [], users


def _write(path: Path, lines: list[str]) -> None:
    replace_file(path.resolve(), "".join(f"{line}\n" for line in lines))


def _line(user: User) -> str:
    return f"{user.name}:{user.hash}" if user.verifier is None else f"{user.name}:{user.hash}:{user.verifier}"


def _name_in(line: str) -> str:
    """Whose line this is; of a comment something that is nobody's name."""
    return normal(line.strip().partition(":")[0])


def _parse(text: str, place: str) -> User:
    name, colon, rest = text.partition(":")
    if not colon or not name or name != name.strip():
        raise ValueError(f"{place}: not of the form name:hash")
    hash, further, verifier = rest.partition(":")
    try:
        argon2.extract_parameters(hash)
    except argon2.exceptions.InvalidHash:
        raise ValueError(f"{place}: what follows the name is not an argon2 hash") from None
    try:
        return User(normal(name), hash, parse_verifier(verifier) if further else None)
    except ValueError as error:
        raise ValueError(f"{place}: what follows the hash {error}") from None
