"""The users of the users file: checks their passwords, and notices when the file changes.

Checking costs 100 ms and 64 MiB by design, so it runs in two threads beside the event loop, and a success is remembered
for a short while under a keyed hash. Passwords are never kept. RFC 8265 section 4 (NFC) for names and passwords.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import argon2

from relay.files import Stamp, file_stamp
from relay.submission.claims import MAX_OCTETS
from relay.submission.remembered import Remembered
from relay.submission.scram import Verifier, nobodys_verifier
from relay.submission.users_file import User, normal, read_users

_THREADS = 2


class Users:
    """Who may log in, as the file says; `refresh` notices when it changes.

    `secret` makes what is told of users that there are not. It is to be set to one that outlives a restart.
    """

    def __init__(self, path: Path, stamp: Stamp, users: Mapping[str, User]) -> None:
        self._path = path
        self._stamp: Stamp | None = stamp
        self._take(users)
        self.secret = secrets.token_bytes(32)
        self._hasher = argon2.PasswordHasher()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="password")
        self._remembered = Remembered()

    @staticmethod
    def load(path: Path) -> Users:
        """Read the file. Raises ValueError, naming file and line, for a mistake in it, and OSError if unreadable."""
        return Users(path, *read_users(path))

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._users)

    @property
    def names(self) -> frozenset[str]:
        """Who they are."""
        return frozenset(self._users)

    @property
    def all_have_scram(self) -> bool:
        """Whether SCRAM works for every user; a client that finds it on offer may try nothing else."""
        return self._all_have_scram

    def knows(self, name: str) -> bool:
        """Whether the file has a user of this name."""
        return normal(name) in self._users

    def verifier(self, name: str) -> Verifier:
        """What a client's proof is to be checked against. For a name that nobody has, one that nothing fits."""
        user = self._users.get(normal(name))
        if user is not None and user.verifier is not None:
            return user.verifier
        return nobodys_verifier(normal(name), self.secret, self._usual)

    async def refresh(self) -> str | None:
        """Read the file again if it has changed, beside the event loop: it may have many users.

        Returns what is wrong with a new one, once; the old stays in force, as it does for others until it is read.
        """
        stamp = file_stamp(self._path)
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            self._stamp, users = await asyncio.to_thread(read_users, self._path)
        except (OSError, ValueError) as error:
            return str(error)
        self._take(users)
        self._remembered.clear()
        return None

    def _take(self, users: Mapping[str, User]) -> None:
        """What each EHLO and each login asks is found out once, and takes as long for one name as for another."""
        self._users = dict(users)
        verifiers = [user.verifier for user in users.values()]
        kinds = Counter((one.rounds, len(one.salt)) for one in verifiers if one is not None)
        self._all_have_scram = bool(users) and all(user.has_scram for user in users.values())
        self._usual = kinds.most_common(1)[0][0] if kinds else None

    async def check(self, name: str, password: str) -> bool:
        """Whether this is the user's password. An unknown name takes as long as a wrong password."""
        name, password = normal(name), normal(password)
        if max(len(name.encode()), len(password.encode())) > MAX_OCTETS:
            return False
        known = self._users.get(name)
        # For an unknown name somebody's hash is checked, and the result not used: the time must not tell who exists.
        other = next(iter(self._users.values()), None)
        against = known or other
        if against is None:
            return False
        loop = asyncio.get_running_loop()
        fits = await loop.run_in_executor(self._threads, self._verify, against.hash, password)
        if not fits or known is None or self._users.get(name) != known:  # the file may have changed meanwhile
            return False
        self._remembered.keep((name, password), name, loop.time())
        return True

    def remembers(self, name: str, password: str) -> bool:
        """Whether this very pair was right a short while ago; costs nothing."""
        asked = normal(name), normal(password)
        return self._remembered.login(asked, asyncio.get_running_loop().time()) is not None

    def _verify(self, hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(hash, password)
        except argon2.exceptions.VerificationError:
            return False
