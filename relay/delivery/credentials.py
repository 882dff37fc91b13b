"""With which name and password, or token, this server logs in at a next hop; the secrets are in files of their own.

A file is read at each login, so that a renewed token or a changed password counts at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from relay.files import readable_by_others

_LARGEST_SECRET = 64 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name, and what proves it: a password, a token (XOAUTH2), or both, for the host to choose.

    `setting` says where they come from, in the words of the settings: it is told when a login fails. Raises ValueError
    for control characters and where there is nothing that proves the name.
    """

    user: str
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    setting: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.password and not self.token:
            raise ValueError("neither a password nor a token")
        for secret in (self.user, self.password, self.token):
            if secret is not None and _CONTROL.search(secret):
                raise ValueError("a control character in a name, a password or a token")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There are no credentials. `reason` names the setting and the file."""

    reason: str


@dataclass(frozen=True, slots=True)
class Login:
    """A login as the settings have it; at least one of the files is given. `setting` as of `Credentials`."""

    user: str
    setting: str
    password_file: Path | None = None
    token_file: Path | None = None

    def read(self) -> Credentials | Unreadable:
        """The credentials as the files have them now. It reads small files, and waits for the disk."""
        try:
            password = _secret(self.password_file, f"password_file of {self.setting}")
            token = _secret(self.token_file, f"token_file of {self.setting}")
        except ValueError as error:
            return Unreadable(str(error))
        return Credentials(self.user, password, token, self.setting)

    def readable_by_others(self) -> tuple[Path, ...]:
        """Those of the files that every user of this machine can read: worth a warning."""
        files = (self.password_file, self.token_file)
        return tuple(path for path in files if path is not None and readable_by_others(path))


def _secret(path: Path | None, setting: str) -> str | None:
    """The content without the line end that editors put there. Raises ValueError with what is wrong, and where."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_SECRET + 1)
        text = octets.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{setting}: {path} is not UTF-8 text") from None
    if len(octets) > _LARGEST_SECRET:
        raise ValueError(f"{setting}: {path} is too large for a secret")
    if not text:
        raise ValueError(f"{setting}: {path} is empty")
    if _CONTROL.search(text):
        raise ValueError(f"{setting}: {path} has more than one line, or a control character")
    return text
