"""A scripted MX host on loopback: it takes mail, keeps it to the octet, and misbehaves as its script says.

It speaks SMTP itself, on plain streams, because most of what a script asks for (silence, resets, octets that are no
SMTP) is what an SMTP library prevents. It notes what the client does wrong (`Sink.complaints`) and never repairs it.
It must not be used outside the lab. RFC 5321, RFC 3207 (STARTTLS), RFC 2920 (PIPELINING), RFC 8689 (REQUIRETLS).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from weakref import WeakKeyDictionary

from relay.lab.listener import Listener
from relay.settings import HostPort

Answer = str | bytes
"""A reply, such as `451 4.7.1 later`; each line of the text becomes a line of the reply. Octets are sent as they are."""

_PATH = re.compile(r'(?:FROM|TO):<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: +(.*))?\Z', re.IGNORECASE)
_SIZE = re.compile(r"SIZE=(\d+)", re.IGNORECASE)
_LONG_LINE = re.compile(rb"[^\r\n]{999}")  # RFC 5321 section 4.5.3.1.6: 1000 octets with CRLF
_BARE_ENDING = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_UNSTUFFED = re.compile(rb"(?:\A|\r\n)\.[^.]")
_LAST_IN_GROUP = ("EHLO", "HELO", "DATA", "STARTTLS", "NOOP", "VRFY", "QUIT")  # RFC 2920 section 3.1
_PARAMETERS = {  # extension: what it allows after MAIL FROM and RCPT TO
    "SIZE": ("SIZE",),
    "8BITMIME": ("BODY",),
    "SMTPUTF8": ("SMTPUTF8",),
    "REQUIRETLS": ("REQUIRETLS",),
    "DSN": ("RET", "ENVID", "NOTIFY", "ORCPT"),
}
_GARBAGE = b"\x00\xff\xfe this is neither SMTP nor TLS\r\n"
_MAX_LINE = 1 << 16
_CHUNK = 1 << 16


class Stage(Enum):
    """A point of the session: just before the sink would give this answer."""

    CONNECT = "connect"  # the greeting
    EHLO = "ehlo"  # the reply to EHLO in clear text
    STARTTLS = "starttls"  # the reply to STARTTLS
    HANDSHAKE = "handshake"  # the TLS handshake, when 220 has been said
    TLS_EHLO = "tls-ehlo"  # the reply to EHLO inside TLS
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"  # no answer is due: some of the content has come, the rest has not been read
    FINAL_DOT = "final-dot"  # the reply to the content; by then the message is kept, as if the reply were only lost
    QUIT = "quit"


class How(Enum):
    """What a `Break` does in place of the answer."""

    CLOSE = "close"
    RESET = "reset"  # RST in place of FIN
    STALL = "stall"  # nothing more is said until the client leaves
    GARBAGE = "garbage"  # octets that are neither SMTP nor TLS, then the end


@dataclass(frozen=True, slots=True)
class Break:
    """The session breaks at `stage`: the first `times` times that it is reached, or always (None)."""

    stage: Stage
    how: How = How.CLOSE
    times: int | None = None


@dataclass(frozen=True, slots=True)
class SinkScript:
    """How a sink behaves. The default is the happy day, but without TLS, for which it needs a certificate.

    `context` makes STARTTLS offered; `contexts` maps names (SNI, lower case) to contexts whose certificate is shown in
    its place. TLS versions are those of `context`. `extensions` are keywords for EHLO, `tls_extensions` those said only
    inside TLS. `name` is how the host greets.

    The rest are answers. The first use gets the first answer, the second the second, and so on; past the last one, the
    last is given again: `("550 5.1.1 no",)` always refuses, `("451 4.7.1 later", "250 2.0.0 ok")` is greylisting.
    Empty: the ordinary answer. `rcpt` goes by address, in lower case, and each address counts for itself; `*` is for
    those not named. An answer 421 also ends the session. STARTTLS is offered with `starttls` answers alone, too; octets
    such as `b"220 go\\r\\n250 and more\\r\\n"` inject clear text before the handshake.
    """

    context: ssl.SSLContext | None = None
    contexts: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    name: str = "mx.lab.test"
    extensions: tuple[str, ...] = (
        "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES", "DSN",
    )  # fmt: skip
    tls_extensions: tuple[str, ...] = ("REQUIRETLS",)  # RFC 8689 section 2: only inside TLS
    max_recipients: int = 1000  # in one transaction; 452 4.5.3 for more
    breaks: tuple[Break, ...] = ()
    greeting: tuple[Answer, ...] = ()
    ehlo: tuple[Answer, ...] = ()
    starttls: tuple[Answer, ...] = ()
    mail: tuple[Answer, ...] = ()
    rcpt: Mapping[str, tuple[Answer, ...]] = field(default_factory=dict)
    data: tuple[Answer, ...] = ()
    final_dot: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A message that the sink took, and the session it came in.

    `octets` is the content with dot-stuffing undone, else as sent. The parameters are those of MAIL, and of each RCPT
    that was accepted. `answered` is False when the script broke the session in place of the final reply. `time` is in
    seconds on the event loop's clock: good for intervals.
    """

    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    tls_version: str | None
    sni: str | None
    helo: str
    mail_parameters: tuple[str, ...]
    rcpt_parameters: tuple[tuple[str, ...], ...]
    answered: bool
    time: float


@dataclass(slots=True)
class Sessions:
    """Counts. `aborted`: the client left without QUIT, and the script had not told the sink to leave first."""

    connections: int = 0
    handshakes: int = 0
    failed_handshakes: int = 0
    aborted: int = 0


class Sink:
    """One MX host. What it saw is in `received`, `sessions`, `commands` (every command line) and `complaints`."""

    def __init__(self, script: SinkScript | None = None) -> None:
        self.received: list[ReceivedMail] = []
        self.sessions = Sessions()
        self.commands: list[str] = []
        self.complaints: list[str] = []
        self.script = SinkScript()
        self._listener = Listener(self._serve)
        self._arrived = asyncio.Event()
        self._uses: Counter[object] = Counter()
        self._server_names: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()
        self._watched: set[ssl.SSLContext] = set()
        self.play(script or SinkScript())

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> HostPort:
        """Take mail at `host` and `port` (0: the kernel chooses one). Returns the address. Raises OSError."""
        return await self._listener.start(host, port)

    async def stop(self) -> None:
        """Stop, and end all sessions. What was received stays, and `start` works again. Can be repeated."""
        await self._listener.stop()

    def play(self, script: SinkScript) -> None:
        """Behave like this from the next command on; the answers of the new script begin with the first."""
        self.script = script
        self._uses.clear()
        if script.context is not None and script.context not in self._watched:
            self._watched.add(script.context)
            self._watch(script.context)

    async def wait_for(self, count: int, seconds: float = 10) -> list[ReceivedMail]:
        """Wait until `count` messages have come in all, and return them. Raises TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.received[:count]

    def keep(self, mail: ReceivedMail) -> None:
        """Add a message to `received` and wake those who wait."""
        self.received.append(mail)
        self._arrived.set()

    def take(self, key: object, answers: tuple[Answer, ...], ordinary: str) -> Answer:
        """The answer for the next use of `key`."""
        use = self._uses[key]
        self._uses[key] += 1
        return answers[min(use, len(answers) - 1)] if answers else ordinary

    def due(self, stage: Stage) -> How | None:
        """How the session breaks at this stage, now that it is reached once more; None: it goes on."""
        for one in self.script.breaks:
            if one.stage is stage:
                self._uses[one] += 1
                if one.times is None or self._uses[one] <= one.times:
                    return one.how
        return None

    def server_name(self, tls: ssl.SSLObject) -> str | None:
        """The name that the client asked for in its handshake (SNI)."""
        return self._server_names.get(tls)

    def _watch(self, context: ssl.SSLContext) -> None:
        """Note SNI, and choose the certificate by it. Sinks may share a context: each passes on to the one before."""
        before = context.sni_callback

        def chosen(tls: ssl.SSLObject, name: str | None, base: ssl.SSLContext) -> int | None:
            if name is not None:
                self._server_names[tls] = name.lower()
                if self.script.context is base and name.lower() in self.script.contexts:
                    tls.context = self.script.contexts[name.lower()]
            return before(tls, name, base) if before is not None else None

        context.sni_callback = chosen

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions.connections += 1
        try:
            await _Session(self, reader, writer).run()
        except (OSError, EOFError):
            self.sessions.aborted += 1
            raise
        except _HangUpError:
            return


class _HangUpError(Exception):
    """The script, or QUIT, ends this session."""


class _Session:
    """One connection. Octets are read into a buffer of our own, to see what the client sends before it may."""

    def __init__(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sink = sink
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._helo = ""
        self._reset()

    async def run(self) -> None:
        """Speak until the client or the script ends it."""
        await self._reach(Stage.CONNECT)
        script = self._sink.script
        await self._say(self._sink.take("greeting", script.greeting, f"220 {script.name} ESMTP lab"))
        while True:
            line = await self._line()
            self._sink.commands.append(line)
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            if self._buffer and (verb in _LAST_IN_GROUP or not self._offers("PIPELINING")):
                self._complain(f"more was sent before {verb} was answered")
            await self._command(verb, rest)

    async def _command(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO" | "HELO":
                await self._hello(verb, rest)
            case "STARTTLS":
                await self._starttls()
            case "MAIL":
                await self._mail(rest)
            case "RCPT":
                await self._rcpt(rest)
            case "DATA":
                await self._data()
            case "RSET":
                self._reset()
                await self._say("250 2.0.0 ok")
            case "NOOP":
                await self._say("250 2.0.0 ok")
            case "VRFY":
                await self._say("252 2.5.2 try it")
            case "QUIT":
                await self._reach(Stage.QUIT)
                await self._say("221 2.0.0 bye")
                raise _HangUpError
            case _:
                self._complain(f"{verb[:20]!r} is no command")
                await self._say("500 5.5.2 no such command")

    async def _hello(self, verb: str, name: str) -> None:
        await self._reach(Stage.TLS_EHLO if self._tls else Stage.EHLO)
        self._helo = name
        self._reset()
        keywords = self._keywords() if verb == "EHLO" else ()
        await self._say(self._sink.take("ehlo", self._sink.script.ehlo, "\n".join(["250 " + self._sink.script.name, *keywords])))

    def _keywords(self) -> tuple[str, ...]:
        script = self._sink.script
        if self._tls:
            return script.extensions + script.tls_extensions
        return (*script.extensions, "STARTTLS") if script.context or script.starttls else script.extensions

    def _offers(self, extension: str) -> bool:
        return any(keyword.split(" ")[0].upper() == extension for keyword in self._keywords())
