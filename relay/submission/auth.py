"""AUTH PLAIN and LOGIN: the talk with the client, and the answer.

RFC 4954 (AUTH), RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN). When AUTH is allowed at all, under TLS only,
is for `session` to say.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from relay.events import AuthenticationFailed, Emit, FileRefused
from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.users import Users

_MAX_CHECKS = 16  # passwords being checked, or waiting for it, at once

Ask = Callable[[str], Awaitable[bytes | Reply]]  # sends a challenge (base64), returns the client's line or a refusal


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client says it is."""

    name: str
    password: str


Talk = Callable[[bytes | None, Ask], Awaitable[Credentials | Reply]]


async def talk_plain(initial: bytes | None, ask: Ask) -> Credentials | Reply:
    """RFC 4616: authorization identity, name and password in one response, with NULs between."""
    response = await _response(initial, "", ask)
    if isinstance(response, Reply):
        return response
    parts = response.split("\0")
    if len(parts) != 3 or not parts[1]:
        return replies.BAD_LOGIN_DATA
    acting_for, name, password = parts
    if acting_for not in ("", name):
        return replies.LOGIN_REFUSED  # nobody acts for others here
    return Credentials(name, password)


async def talk_login(initial: bytes | None, ask: Ask) -> Credentials | Reply:
    """Name, then password; some clients send the name at once."""
    name = await _response(initial, "VXNlcm5hbWU6", ask)  # "Username:"
    if isinstance(name, Reply):
        return name
    password = await _response(None, "UGFzc3dvcmQ6", ask)  # "Password:"
    if isinstance(password, Reply):
        return password
    return Credentials(name, password)


MECHANISMS: Mapping[str, Talk] = {"PLAIN": talk_plain, "LOGIN": talk_login}


class Authenticator:
    """Checks credentials against the users file, a few at a time: each costs a tenth of a second of CPU."""

    def __init__(self, users: Users, emit: Emit) -> None:
        self._users = users
        self._emit = emit
        self._checking = 0

    async def check(self, given: Credentials, client: str) -> Reply:
        """AUTHENTICATED, LOGIN_REFUSED or LOGIN_BUSY."""
        problem = self._users.refresh()
        if problem is not None:
            self._emit(FileRefused(problem))
        if self._users.remembers(given.name, given.password):
            return replies.AUTHENTICATED
        if self._checking >= _MAX_CHECKS:
            return replies.LOGIN_BUSY
        self._checking += 1
        try:
            fits = await self._users.check(given.name, given.password)
        finally:
            self._checking -= 1
        if fits:
            return replies.AUTHENTICATED
        self._emit(AuthenticationFailed(client, replies.printable(given.name, 255)))
        return replies.LOGIN_REFUSED


async def _response(initial: bytes | None, challenge: str, ask: Ask) -> str | Reply:
    """One response, decoded. RFC 4954 section 4: `*` gives up, and `=` is an empty initial response."""
    if initial == b"=":
        return ""
    line: bytes | Reply = initial if initial is not None else await ask(challenge)
    if isinstance(line, Reply):
        return line
    if line == b"*":
        return replies.LOGIN_CANCELLED
    try:
        return base64.b64decode(line, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return replies.BAD_LOGIN_DATA
