"""An admin server on loopback, alone, with the real queue."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

import aiohttp

from relay.admin.api import Api, Desk
from relay.admin.mail import Mail
from relay.admin.metrics import Metrics
from relay.admin.server import AdminServer, Sources, Stage
from relay.admin.tokens import Tokens
from relay.events import Event
from relay.mail.message import MessageId, NewMessage
from relay.policy.routing import Direct, Entry, Routes
from relay.queue.sqlite import SqliteStore
from relay.rerouting import chosen_route
from relay.settings import AdminSettings, HostPort, Settings, SubmissionSettings
from relay.submission.admission import Admission
from relay.submission.front import Front
from relay.submission.intake import Intake
from relay.submission.receive import Receiver

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
ANYWHERE = HostPort(host="127.0.0.1", port=0)
MAX_SIZE = 200_000


class Running:
    """An admin server with the real queue, and what it has reported."""

    def __init__(self, folder: Path, tokens: Tokens | None = None, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(submission=SubmissionSettings(max_message_size=MAX_SIZE))
        self.store = SqliteStore(folder)
        self.accepting, self.may_accept = asyncio.Event(), asyncio.Event()
        self.may_accept.set()
        self.accepted = 0  # messages that came so far
        self.put_error: Exception | None = None
        self.events: list[Event] = []
        self.defect = False
        sources = Sources(
            Metrics(), lambda: self.store.depth(NOW), self.under_way, self.store.check_writable, lambda: NOW, self.emit
        )
        ids = count(MessageId.make(NOW, random.getrandbits(16)).number)
        self.intake = self._intake(ids)
        desk = Desk(
            tokens,
            self.store.controls,
            partial(chosen_route, routes=Routes((Entry("backup", Direct()),))),
            "relay.test",
            lambda: MessageId(next(ids)),
            lambda: NOW,
            self.emit,
            Mail(self.intake.submit, self.store.controls.stored_once, MAX_SIZE, "relay.test", lambda: NOW),
        )
        self.api = Api(desk)
        self.server = AdminServer(AdminSettings(listen=(ANYWHERE,)), sources, self.api)
        self.address = ANYWHERE

    def _intake(self, ids: Iterator[int]) -> Intake:
        """What takes mail, as the service has it."""
        front = Front(
            clock=lambda: NOW,
            new_id=lambda: MessageId(next(ids)),
            emit=self.emit,
            new_body=self.store.new_body,
            accept=self.accept,
            tls=None,
            users=None,
            refusal=lambda _sender, _login, recipient: "not there" if recipient.domain == "no.example" else None,
        )
        given = self.settings.submission
        receiver = Receiver("relay.test", given, front)
        intake = Intake(self.settings.clients, Admission(front, given.max_recipients), receiver, given.max_hold)
        intake.serving = True
        return intake

    async def accept(self, message: NewMessage) -> None:
        """A test may hold it up, or let it fail."""
        self.accepting.set()
        self.accepted += 1
        await self.may_accept.wait()
        if self.put_error is not None:
            raise self.put_error
        await self.store.put((message,))

    def under_way(self) -> int:
        if self.defect:
            raise RuntimeError("a mistake of ours")
        return 7

    def emit(self, event: Event) -> None:
        self.events.append(event)

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        return await get(self.address, path, method)


async def get(address: HostPort, path: str, method: str = "GET") -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://{address}{path}", timeout=aiohttp.ClientTimeout(10)) as response,
    ):
        return response.status, await response.text()


@asynccontextmanager
async def running(
    folder: Path, tokens: Tokens | None = None, settings: Settings | None = None
) -> AsyncIterator[Running]:
    there = Running(folder, tokens, settings)
    await there.store.open(NOW)
    there.server.bind()
    (there.address,) = await there.server.start()
    there.server.stage = Stage.SERVING
    try:
        yield there
    finally:
        await there.server.stop()
        await there.store.close()
