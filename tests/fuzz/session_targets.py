"""A whole session of submission: what a client may say, in pieces of any size, to a real Session, judged by a model.

The server listens nowhere, and its queue only remembers. The first octet of an input chooses who the client is, and how
it sends.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import logging
import re
import ssl
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from zlib import crc32

import argon2
from session_header import is_made_right
from session_link import Client, Link, check_enhanced, until
from session_model import MAX_RECIPIENTS, MAX_SIZE, Heard, Message, Model
from session_reading import PASSWORD, USER
from session_words import LOGIN, mutate
from target import Target

from relay.client_settings import ClientSettings
from relay.events import DefectFound, Event
from relay.lab.certs import LabCa
from relay.mail.message import Body, InlineBody, MessageId, NewMessage, SmtpUtf8, TlsDemand
from relay.queue.store import StoreUnavailable
from relay.settings import HostPort, ListenerSettings, Settings, SubmissionSettings
from relay.submission.conversation import Arrival
from relay.submission.front import Front
from relay.submission.server import SubmissionServer
from relay.submission.session import Session
from relay.submission.users import Users
from relay.submission.wire import Wire
from relay.tls import ServerContexts

_NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_TRUSTED_ADDRESS, _STRANGE_ADDRESS = "192.0.2.1", "198.51.100.1"
_TRACE = re.compile(rb"Received: from[^\n]*\n(?:\t[^\n]*\n)*?(?<= [+-][0-9]{4}\r\n)")  # up to the first date
_CONTROL = frozenset(map(chr, (*range(32), *range(127, 160))))
# The bits of the first octet.
_TRUSTED, _TLS_FIRST, _LOGGED_IN, _STORE_FAILS, _HASTY, _FIXED, _VANISHES = 1, 2, 4, 8, 16, 32, 64


class Writer:
    """The octets of one message, in memory."""

    def __init__(self) -> None:
        self._octets = bytearray()

    async def write(self, octets: bytes) -> None:
        self._octets += octets

    async def finish(self) -> Body:
        return InlineBody(bytes(self._octets))

    async def discard(self) -> None:
        self._octets.clear()


class Complaints(logging.Handler):
    """What asyncio has to say of us."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []
        logging.getLogger("asyncio").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


class World:
    """What all sessions have in common: an event loop, the server, and what it has stored and reported."""

    def __init__(self) -> None:
        self.stored: list[NewMessage] = []
        self.events: list[Event] = []
        self.store_fails = False
        self.complaints = Complaints()
        self._folder = tempfile.TemporaryDirectory()
        users = Path(self._folder.name) / "users"
        hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        users.write_text(f"{USER}:{hasher.hash(PASSWORD)}\n")
        numbers = itertools.count(1)
        front = Front(
            clock=lambda: _NOW,
            new_id=lambda: MessageId.make(_NOW, next(numbers)),
            emit=self.events.append,
            new_body=lambda _: Writer(),
            accept=self._accept,
            tls=ServerContexts(LabCa.make(datetime.now(UTC)).issue(("relay.test",)).server_context()),
            users=Users.load(users),
        )
        self.leaving, self.fixing = _listener("here", "leave"), _listener("there", "fix")
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(_server((self.leaving, self.fixing), front))
        self.shared = self.server._shared
        self.client_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client_tls.check_hostname, self.client_tls.verify_mode = False, ssl.CERT_NONE
        atexit.register(self._close)

    def begin(self, store_fails: bool) -> None:
        """Another session: what the one before has left does not count."""
        self.stored.clear()
        self.events.clear()
        self.complaints.heard.clear()
        self.store_fails = store_fails

    def check(self) -> None:
        """Whether nothing was reported that must not be."""
        assert not self.complaints.heard, self.complaints.heard
        for event in self.events:
            assert not isinstance(event, DefectFound), event
            for value in asdict(event).values():
                assert not isinstance(value, str) or _CONTROL.isdisjoint(value), event

    async def _accept(self, message: NewMessage) -> None:
        if self.store_fails:
            raise StoreUnavailable("as this input wants it")
        self.stored.append(message)

    def _close(self) -> None:
        self.loop.close()
        self._folder.cleanup()


def _listener(name: str, headers: str) -> ListenerSettings:
    return ListenerSettings.model_validate(
        {"name": name, "listen": (HostPort(host="127.0.0.1", port=25),), "headers": headers}
    )


async def _server(listeners: tuple[ListenerSettings, ...], front: Front) -> SubmissionServer:
    return SubmissionServer(_settings(listeners), "relay.test", front)


def _settings(listeners: tuple[ListenerSettings, ...]) -> Settings:
    client = ClientSettings.model_validate({"name": "near", "networks": (_TRUSTED_ADDRESS,)})
    submission = SubmissionSettings.model_validate(
        {
            "listen": (), "trusted_networks": (), "max_message_size": MAX_SIZE, "max_recipients": MAX_RECIPIENTS,
            "tarpit": "", "connections_per_minute": "", "max_connections_per_address": "",
            "max_failed_logins": 1_000_000,
        }
    )  # fmt: skip
    return Settings(submission=submission, listener=listeners, client=(client,))


@cache
def _world() -> World:
    return World()


def _check(octets: bytes) -> bool:
    """Returns whether something was stored."""
    world = _world()
    return world.loop.run_until_complete(_session(world, octets))


async def _session(world: World, octets: bytes) -> bool:
    flags = octets[0] if octets else 0
    logged_in = bool(flags & _LOGGED_IN)
    tls_first = logged_in or bool(flags & _TLS_FIRST)
    pieces = _pieces((b"EHLO client.test\r\n" + LOGIN if logged_in else b"") + octets[1:])
    world.begin(bool(flags & _STORE_FAILS))
    model = Model(bool(flags & _TRUSTED), tls_first, world.store_fails, bool(flags & _FIXED))
    async with _connected(world, model) as (link, client):
        assert (await client.reply()).code == 220
        # Under TLS a client that leaves has left: there it waits for each answer.
        await _talk(world, model, client, pieces, hasty=bool(flags & _HASTY) and not tls_first)
        link.half_close()
        await until(lambda: link.closed, "the end")
        assert model.shaking or client.rest() == b"", "more is said than was asked"
    stored = [_as_message(one) for one in world.stored]
    assert [replace(one, content=b"") for one in stored] == [replace(one, content=b"") for one in model.stored]
    for found, expected in zip(stored, model.stored, strict=True):
        if model.fixed:
            assert is_made_right(expected.content, found.content), found.content
        else:
            # Or the first line would go on with our Received line.
            apart = b"\r\n" if expected.content.startswith((b" ", b"\t")) else b""
            assert found.content == apart + expected.content
    if flags & _VANISHES:
        await _vanish(world, model, pieces)
    world.check()
    return bool(stored)


async def _vanish(world: World, model: Model, pieces: list[bytes]) -> None:
    """The same client once more, which leaves while it is served: what is stored then was stored before, in order."""
    before = [_as_message(one) for one in world.stored]
    world.stored.clear()
    async with _connected(world, Model(model.trusted, model.tls_first, fixed=model.fixed)) as (link, client):
        for piece in pieces:
            await client.say(piece)
        for _ in range(crc32(b"".join(pieces)) % 40):
            await asyncio.sleep(0)
        link.abort()
    again = [_as_message(one) for one in world.stored]
    assert [replace(one, content=b"") for one in again] == [replace(one, content=b"") for one in before[: len(again)]]
    assert model.fixed or again == before[: len(again)]


@contextlib.asynccontextmanager
async def _connected(world: World, model: Model) -> AsyncGenerator[tuple[Link, Client], None]:
    """A session with its client, until it is over and nothing more is being stored."""
    link = Link(_TRUSTED_ADDRESS if model.trusted else _STRANGE_ADDRESS, model.tls_first)
    session = Session(world.shared, Arrival(world.fixing if model.fixed else world.leaving))
    wire = Wire(session)
    link.set_protocol(wire)
    wire.connection_made(link)
    try:
        yield link, Client(link)
    finally:
        link.abort()
        await session.lost
        await world.shared.receiver.drain()
    assert not world.shared.sessions, "a session that is over, and not forgotten"


async def _talk(world: World, model: Model, client: Client, pieces: list[bytes], *, hasty: bool) -> None:
    """Say the pieces, each after the answers to the one before, or all before hearing any; judge the answers."""
    if hasty:
        for piece in pieces:
            model.feed(piece)
            await client.say(piece)
        pieces = [b""]
    for piece in pieces:
        if not hasty:
            model.feed(piece)
            await client.say(piece)
        while model.due():
            reply = await client.reply()
            _check_form(reply)
            model.hear(reply)
        if model.closed or (model.shaking and hasty):
            return
        if model.shaking:
            await client.shake_hands(world.client_tls)
            model.shaking = False


def _pieces(stream: bytes) -> list[bytes]:
    """All at once, by lines, or anyhow."""
    chance = Random(crc32(stream))
    way = chance.randrange(4)
    if way == 0:
        return [stream]
    if way == 1:
        return stream.splitlines(keepends=True)
    found, at = [], 0
    while at < len(stream):
        size = chance.choice((1, 2, 3, 5, 20, 60, 300)) if way == 2 else chance.randrange(1, 200)
        found.append(stream[at : at + size])
        at += size
    return found


def _check_form(reply: Heard) -> None:
    if reply.code not in (334, 354) and not (reply.code == 250 and reply.lines[0].startswith("relay.test")):
        check_enhanced(reply)


def _as_message(message: NewMessage) -> Message:
    assert isinstance(message.body, InlineBody)
    trace, content = _split(message.body.octets)
    protocol = trace[trace.index("with") + 1]
    assert (message.smtputf8 is SmtpUtf8.UNASKED) != protocol.startswith("UTF8")
    sender = message.envelope.sender
    return Message(
        "" if sender is None else sender.text,
        tuple(recipient.text for recipient in message.envelope.recipients),
        content,
        protocol,
        message.login,
        message.demand is TlsDemand.REQUIRED,
    )


def _split(octets: bytes) -> tuple[list[str], bytes]:
    """The words of our Received line, and what follows it."""
    found = _TRACE.match(octets)
    assert found is not None, octets
    end = found.end()
    trace = octets[:end].decode("ascii")
    assert trace.replace("\r\n", "").replace("\t", "").isprintable()
    return trace.split(), octets[end:]


SESSION = Target(
    "session",
    _check,
    (
        b"\x01EHLO x\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
        b"\x04MAIL FROM:<> BODY=8BITMIME\r\nRCPT TO:<b@b.test>\r\nDATA\r\n.\r\nMAIL FROM:<a@a.test>\r\n",
        b"\x00EHLO x\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n.\r\n",
        b"\x01EHLO x\r\nSTARTTLS\r\nMAIL FROM:<e@e.test>\r\nEHLO x\r\nMAIL FROM:<a@a.test> REQUIRETLS\r\n"
        b"RCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.\r\n",
        b"\x11HELO x\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\n.\r\n\r\n.\r\nRSET\r\n",
        b"\x02EHLO x\r\n" + LOGIN + b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.\r\n",
        b"\x61EHLO x\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nBcc: c@b.test\r\nSubject: x\r\n\r\n.\r\n",
        b"\x09EHLO x\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nx\r\n.\r\n",
    ),
    mutate,
    inputs=100_000,  # with some fifteen commands each
)
