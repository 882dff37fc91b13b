"""For the submission tests: a running server over a real queue in a folder, and a client that says what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from relay.events import Event
from relay.lab.certs import LabCa
from relay.listen import InheritedSockets
from relay.mail.address import Address
from relay.mail.message import Body, Claim, MessageId, NewMessage
from relay.policy.clients import Headers
from relay.queue.sqlite import SqliteStore
from relay.queue.store import BodyWriter
from relay.settings import HostPort, ListenerSettings, Settings, SubmissionSettings
from relay.submission.alignment import AlignmentWatch
from relay.submission.callback import LoginService
from relay.submission.domains import DomainChecks
from relay.submission.jwks import TokenLogins
from relay.submission.quota import Quotas
from relay.submission.server import Front, SubmissionServer
from relay.submission.users import Users
from relay.tls import ServerContexts

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
HOSTNAME = "relay.example.test"
LOOPBACK = HostPort(host="127.0.0.1", port=0)
PATIENCE = 20.0


class Queue(SqliteStore):
    """The real queue; a test may make it slow or broken, and look into it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may_put = asyncio.Event()
        self.may_put.set()
        self.putting = asyncio.Event()
        self.write_error: Exception | None = None
        self.put_error: Exception | None = None
        self.new_body_error: Exception | None = None
        self.writers: list[Writer] = []

    def new_body(self, id: MessageId) -> Any:
        if self.new_body_error is not None:
            raise self.new_body_error
        writer = Writer(super().new_body(id), self)
        self.writers.append(writer)
        return writer

    async def accept(self, message: NewMessage) -> None:
        self.putting.set()
        await self.may_put.wait()
        if self.put_error is not None:
            raise self.put_error
        await self.put((message,))


class Writer:
    """The real writer; fails when the test wants it to."""

    def __init__(self, writer: BodyWriter, queue: Queue) -> None:
        self._writer = writer
        self._queue = queue
        self.discarded = asyncio.Event()
        self.largest = 0

    async def write(self, octets: bytes) -> None:
        self.largest = max(self.largest, len(octets))
        if self._queue.write_error is not None:
            raise self._queue.write_error
        await self._writer.write(octets)

    async def finish(self) -> Body:
        return await self._writer.finish()

    async def discard(self) -> None:
        await self._writer.discard()
        self.discarded.set()


@dataclass(frozen=True)
class Stored:
    """One message as the queue has it, with all its recipients, and its octets without our Received line."""

    claims: tuple[Claim, ...]
    recipients: tuple[str, ...]
    trace: bytes
    body: bytes

    @property
    def claim(self) -> Claim:
        return self.claims[0]


@dataclass
class Running:
    """A server, where it listens, its queue, and what it reported."""

    server: SubmissionServer
    addresses: tuple[HostPort, ...]
    queue: Queue
    events: list[Event] = field(default_factory=list)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, number: int = 0, **options: Any) -> Client:
        address = self.addresses[number]
        return await Client.connect(address.host, address.port, **options)

    async def event(self, kind: type[Event]) -> Event:
        """The first event of a kind, as soon as it comes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                self.heard.clear()
                await self.heard.wait()

    @property
    def unread(self) -> list[int]:
        """Of each session, how many octets wait to be looked at."""
        return [len(session._input) for session in self.server._shared.sessions]

    @property
    def undecrypted(self) -> list[int]:
        """Of each session, how many octets wait under TLS, as far as the event loop lets us see."""
        protocols = [getattr(session._link, "_ssl_protocol", None) for session in self.server._shared.sessions]
        buffers = [getattr(protocol, "_incoming", None) for protocol in protocols]
        return [0 if buffer is None else buffer.pending for buffer in buffers]

    @property
    def unsent(self) -> list[int]:
        """Of each session, how many octets of replies wait to be sent."""
        return [
            len(session._output) + session._link.get_write_buffer_size() for session in self.server._shared.sessions
        ]

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    async def stored(self) -> list[Stored]:
        """Every message in the queue, by age."""
        claims = await self.queue.claim(10000, timedelta(hours=1), NOW + timedelta(days=1), {}, 10000)
        messages: list[Stored] = []
        for _, group in itertools.groupby(sorted(claims, key=lambda claim: claim.id), lambda claim: claim.id):
            parts = tuple(group)
            octets = b"".join([chunk async for chunk in self.queue.read(parts[0].body)])
            trace, body = split_trace(octets)
            names = tuple(
                recipient.address.text
                for recipient in sorted((r for part in parts for r in part.recipients), key=lambda r: r.index)
            )
            messages.append(Stored(parts, names, trace, body))
        return messages


def split_trace(octets: bytes) -> tuple[bytes, bytes]:
    """Our Received line with its folded lines, and what follows it."""
    end = octets.index(b"\r\n") + 2
    while octets[end : end + 1] == b"\t":
        end = octets.index(b"\r\n", end) + 2
    return octets[:end], octets[end:]


@dataclass(frozen=True)
class Wanted:
    """How the server shall be."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # of [submission]
    tables: Mapping[str, Any] = field(default_factory=dict)  # and the others: listener, client
    tls: ssl.SSLContext | None = None
    users: Users | None = None
    service: LoginService | None = None
    tokens: TokenLogins | None = None
    asking: ssl.SSLContext | None = None  # for listeners that ask for a certificate
    inherited: InheritedSockets = field(default_factory=dict)
    domains: DomainChecks | None = None
    alignment: Callable[[Callable[[Event], None]], AlignmentWatch] | None = None  # given the place to report to
    loopback_trusted: bool = True
    clock: Callable[[], datetime] = lambda: NOW
    refusal: Callable[[Address | None, str | None, Address], str | None] = lambda _sender, _login, _recipient: None
    headers: Headers = Headers.LEAVE  # at the listeners of [submission]: most tests look at octets


class Untouched(Settings):
    """Settings whose listeners of [submission] leave headers as they are."""

    @property
    def listeners(self) -> tuple[ListenerSettings, ...]:
        given = super().listeners
        short = len(given) - len(self.listener)
        return (*(one.model_copy(update={"headers": Headers.LEAVE}) for one in given[:short]), *given[short:])


@contextlib.asynccontextmanager
async def running(folder: Path, wanted: Wanted | None = None) -> AsyncGenerator[Running, None]:
    """A server on ports of its own choice; stopped and closed at the end."""
    wanted = wanted or Wanted()
    queue = Queue(folder / "queue")
    await queue.open(NOW)
    patience = timedelta(seconds=PATIENCE)
    options: dict[str, Any] = {"listen": (LOOPBACK,), "timeout": patience, "tarpit": None, **wanted.settings}
    if not wanted.loopback_trusted:
        options["trusted_networks"] = ()
    events: list[Event] = []
    heard = asyncio.Event()

    def emit(event: Event) -> None:
        events.append(event)
        heard.set()

    numbers = itertools.count(1)
    kind = Untouched if wanted.headers is Headers.LEAVE else Settings
    settings = kind(submission=SubmissionSettings(**options), **wanted.tables)
    quotas = Quotas(folder, wanted.clock, emit) if settings.clients.have_quotas else None
    if quotas is not None:
        await quotas.open()
    front = Front(
        clock=wanted.clock,
        new_id=lambda: MessageId.make(NOW, next(numbers)),
        emit=emit,
        new_body=queue.new_body,
        accept=queue.accept,
        tls=None if wanted.tls is None else ServerContexts(wanted.tls, wanted.asking),
        users=wanted.users,
        refusal=wanted.refusal,
        service=wanted.service,
        tokens=wanted.tokens,
        quotas=quotas,
        domains=wanted.domains,
        alignment=None if wanted.alignment is None else wanted.alignment(emit),
    )
    server = SubmissionServer(settings, HOSTNAME, front)
    try:
        server.bind(wanted.inherited)
        addresses = await server.start()
        yield Running(server, addresses, queue, events, heard)
    finally:
        queue.may_put.set()
        await server.stop(timedelta(0))
        if quotas is not None:
            await quotas.close()
        await queue.close()


class Client:
    """A client that sends octets and reads replies. Closes itself at the end of `async with`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @staticmethod
    async def connect(
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        greeted: bool = True,
        limit: int = 1 << 20,
        source: str | None = None,
    ) -> Client:
        """Connect, from `source` if given, with TLS from the first octet if `tls`; read the greeting if `greeted`."""
        local = None if source is None else (source, 0)
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=limit, local_addr=local)
        client = Client(reader, writer)
        if greeted:
            assert (await client.reply()).startswith("220 ")
        return client

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self.writer.wait_closed()

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply, with all its lines, without the last CRLF. Empty: the server has closed."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    line = await self.reader.readline()
                except ConnectionError:
                    return ""
                if not line:
                    return ""
                assert line.endswith(b"\r\n"), line
                assert len(line) <= 512, line
                lines.append(line[:-2].decode("ascii"))
                if line[3:4] == b" ":
                    return "\n".join(lines)
                assert line[3:4] == b"-", line

    async def ask(self, command: str | bytes) -> str:
        """Send a line (CRLF is added) and read the reply."""
        self.send((command if isinstance(command, bytes) else command.encode()) + b"\r\n")
        return await self.reply()

    async def hello(self) -> str:
        return await self.ask("EHLO client.example.test")

    async def begin(self, *recipients: str, options: str = "") -> None:
        """EHLO, MAIL, RCPT and DATA, up to 354."""
        await self.hello()
        assert (await self.ask(f"MAIL FROM:<sender@example.test>{options}")).startswith("250 2.1.0 ")
        for recipient in recipients or ("rcpt@example.test",):
            assert (await self.ask(f"RCPT TO:<{recipient}>")).startswith("250 2.1.5 ")
        assert (await self.ask("DATA")).startswith("354 ")

    async def deliver(self, wire: bytes, *recipients: str, options: str = "") -> str:
        """A whole message, `wire` being what goes out after DATA, final dot included."""
        await self.begin(*recipients, options=options)
        self.send(wire)
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        assert (await self.ask("STARTTLS")).startswith("220 2.0.0 ")
        async with asyncio.timeout(PATIENCE):
            await self.writer.start_tls(context)

    async def closed(self) -> bool:
        """Wait until the server has closed; False when it says something more."""
        return await self.reply() == ""

    @property
    def segments(self) -> int:
        """How many segments with data have come from the server (Linux: tcpi_data_segs_in)."""
        info = self.writer.get_extra_info("socket").getsockopt(6, 11, 160)
        return int(struct.unpack_from("I", info, 152)[0])


def lab_tls(*names: str) -> ssl.SSLContext:
    """A server's context with a throw-away certificate."""
    return LabCa.make(datetime.now(UTC)).issue(names or (HOSTNAME,)).server_context()


def client_tls() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def chunks_of(octets: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(octets), size):
        yield octets[start : start + size]
