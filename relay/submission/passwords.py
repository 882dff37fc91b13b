"""Is a password good? The users file knows, or else the operator's login service; neither is asked too much at once.

A check costs 100 ms of CPU, or a question over the network. At most 16 of each kind are under way or wait for a thread;
one network has four at once, and its other clients wait for those, so that nobody can take all the places.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.callback import LoginService, Question, Unasked
from relay.submission.claims import MAX_OCTETS
from relay.submission.failed_logins import Network
from relay.submission.remembered import Remembered
from relay.submission.users import Users
from relay.submission.users_file import normal

_MAX_CHECKS: Final = 16
_MAX_OF_A_NETWORK: Final = 4


class Passwords:
    """Checks them."""

    def __init__(self, users: Users | None, service: LoginService | None) -> None:
        self._users = users
        self._service = service
        self._turns = _Turns()
        self._checking = 0
        self._asking = 0
        self._remembered = Remembered()  # what the service has said

    def remembered(self, question: Question) -> str | None:
        """The login, when this password was right a short while ago. Costs nothing."""
        name, password = question.name, question.password
        if self._users is not None and self._users.knows(name):
            return normal(name) if self._users.remembers(name, password) else None
        return self._remembered.login(_asked(question), asyncio.get_running_loop().time())

    async def check(self, question: Question, network: Network, barred: Callable[[], bool]) -> str | Reply | None:
        """The login; None: the password is wrong; a Reply: that cannot be said now.

        `barred` tells, when the turn has come, whether the client has used up its guesses.
        """
        async with self._turns.of(network):
            if barred():
                return replies.LOGIN_BARRED
            login = self.remembered(question)
            if login is not None:
                return login
            if self._service is not None and (self._users is None or not self._users.knows(question.name)):
                return await self._ask(self._service, question)
            return await self._check(question)

    async def _check(self, question: Question) -> str | Reply | None:
        if self._users is None:
            return None
        if self._checking >= _MAX_CHECKS:
            return replies.LOGIN_BUSY
        self._checking += 1
        try:
            fits = await self._users.check(question.name, question.password)
        finally:
            self._checking -= 1
        return normal(question.name) if fits else None

    async def _ask(self, service: LoginService, question: Question) -> str | Reply | None:
        name, password = question.name, question.password
        if not name or not password or max(len(name.encode()), len(password.encode())) > MAX_OCTETS:
            return None
        if self._asking >= _MAX_CHECKS:
            return replies.LOGIN_BUSY
        self._asking += 1
        try:
            found = await service.ask(question)
        finally:
            self._asking -= 1
        if isinstance(found, Unasked):
            return replies.LOGIN_UNCHECKED
        if found is not None:
            self._remembered.keep(_asked(question), found, asyncio.get_running_loop().time())
        return found


def _asked(question: Question) -> tuple[str, ...]:
    """All that the service may go by."""
    return question.name, question.password, question.client, question.listener, question.mechanism


class _Turns:
    """Lets a few clients of each network in at once."""

    def __init__(self) -> None:
        self._doors: dict[Network, tuple[asyncio.Semaphore, list[None]]] = {}

    @asynccontextmanager
    async def of(self, network: Network) -> AsyncGenerator[None, None]:
        door, waiting = self._doors.setdefault(network, (asyncio.Semaphore(_MAX_OF_A_NETWORK), []))
        waiting.append(None)
        try:
            async with door:
                yield
        finally:
            waiting.pop()
            if not waiting:
                del self._doors[network]
