"""Is a password good? The users file knows, or else the operator's login service; neither is asked too much at once.

A check costs 100 ms of CPU, or a question over the network. At most 16 of each kind are under way or wait for a thread,
and 64 wait for these; one network has four of all, and its other clients wait for those, so that nobody can take all
the places.
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
from relay.submission.line import Line
from relay.submission.remembered import Remembered
from relay.submission.users import Users
from relay.submission.users_file import normal

_MAX_CHECKS: Final = 16
_MAX_WAITING: Final = 64
_MAX_OF_A_NETWORK: Final = 4


class Passwords:
    """Checks them."""

    def __init__(self, users: Users | None, service: LoginService | None) -> None:
        self._users = users
        self._service = service
        self._turns = _Turns()
        self._checking = Line(_MAX_CHECKS, _MAX_WAITING)
        self._asking = Line(_MAX_CHECKS, _MAX_WAITING)
        self._remembered = Remembered()  # what the service has said

    def remembered(self, question: Question) -> str | None:
        """The login, when this password was right a short while ago. Costs nothing."""
        name, password = question.name, question.password
        if self._users is not None and self._users.knows(name):
            return normal(name) if self._users.remembers(name, password) else None
        return self._remembered.login(_asked(question), asyncio.get_running_loop().time())

    async def check(
        self, question: Question, network: Network, rank: int, barred: Callable[[], bool]
    ) -> str | Reply | None:
        """The login; None: the password is wrong; a Reply: that cannot be said now.

        The lowest `rank` goes first where many wait. `barred` tells, when the turn has come, whether the client has
        used up its guesses.
        """
        service = None if self._users is not None and self._users.knows(question.name) else self._service
        line = self._checking if service is None else self._asking
        async with self._turns.of(network), line.place(rank) as has_place:
            if not has_place:
                return replies.LOGIN_BUSY
            if barred():
                return replies.LOGIN_BARRED
            login = self.remembered(question)
            if login is not None:
                return login
            return await self._check(question) if service is None else await self._ask(service, question)

    async def _check(self, question: Question) -> str | Reply | None:
        if self._users is None:
            return None
        fits = await self._users.check(question.name, question.password)
        return normal(question.name) if fits else None

    async def _ask(self, service: LoginService, question: Question) -> str | Reply | None:
        name, password = question.name, question.password
        if not name or not password or max(len(name.encode()), len(password.encode())) > MAX_OCTETS:
            return None
        found = await service.ask(question)
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
