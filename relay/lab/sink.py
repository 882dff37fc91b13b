"""A scripted MX host on loopback: it takes mail, keeps it to the octet, and misbehaves as its script says.

It speaks SMTP itself, on plain streams, because most of what a script asks for (silence, resets, octets that are no
SMTP) is what an SMTP library prevents. It notes what the client does wrong (`Sink.complaints`) and never repairs it.
It must not be used outside the lab. RFC 5321, RFC 3207 (STARTTLS), RFC 2920 (PIPELINING), RFC 3030 (CHUNKING), RFC 8689
(REQUIRETLS).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import Counter
from dataclasses import dataclass

from relay.lab.auth import decoded, logged_in
from relay.lab.listener import Listener
from relay.lab.script import Break, How, SinkScript, Stage
from relay.lab.server_names import names_of
from relay.lab.smtp import Answer, Client, parse_path, path_fault, reply_code
from relay.settings import HostPort

__all__ = ["Break", "How", "ReceivedMail", "Sessions", "Sink", "SinkScript", "Stage"]

_LAST_IN_GROUP = ("EHLO", "HELO", "DATA", "STARTTLS", "NOOP", "VRFY", "QUIT")  # RFC 2920 section 3.1
_GARBAGE = b"\x00\xff\xfe this is neither SMTP nor TLS\r\n"


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A message that the sink took, and the session it came in.

    `octets` is the content with dot-stuffing undone, else as sent. The parameters are those of MAIL, and of each RCPT
    that was accepted. `user` logged in, if it is not empty. `answered` is False when the script broke the session in
    place of the final reply. `time` is in seconds on the event loop's clock: good for intervals.
    """

    sender: str
    recipients: tuple[str, ...]
    octets: bytes
    tls_version: str | None
    sni: str | None
    helo: str
    user: str
    mail_parameters: tuple[str, ...]
    rcpt_parameters: tuple[tuple[str, ...], ...]
    answered: bool
    time: float


@dataclass(slots=True)
class Sessions:
    """Counts of a sink. `aborted`: the client left without QUIT, and not because of the script."""

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
        if script.context is not None:
            names_of(script.context).contexts = script.contexts

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
    """One connection."""

    def __init__(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sink = sink
        self._client = Client(reader, writer, sink.complaints.append)
        self._tls: ssl.SSLObject | None = None
        self._sni: str | None = None
        self._forget()

    def _forget(self) -> None:
        """Know nothing of the client, as before EHLO."""
        self._helo = ""
        self._extended = False
        self._user = ""
        self._reset()

    def _reset(self) -> None:
        """Begin a new transaction."""
        self._sender: str | None = None
        self._mail_parameters: tuple[str, ...] = ()
        self._recipients: list[tuple[str, tuple[str, ...]]] = []
        self._parts: list[bytes] = []  # of a message that comes with BDAT

    async def run(self) -> None:
        """Speak until the client or the script ends it."""
        script = self._sink.script
        await self._answer(Stage.CONNECT, "greeting", script.greeting, f"220 {script.name} ESMTP lab")
        while True:
            line = await self._client.line()
            self._sink.commands.append(line)
            verb, _, rest = line.partition(" ")
            verb = verb.upper()
            alone = verb in _LAST_IN_GROUP or (verb != "BDAT" and not self._offers("PIPELINING"))
            if self._client.ahead and alone:
                self._sink.complaints.append(f"more was sent before {verb} was answered")
            await self._command(verb, rest)

    async def _command(self, verb: str, rest: str) -> None:
        match verb:
            case "EHLO" | "HELO":
                await self._hello(verb, rest)
            case "STARTTLS":
                await self._starttls()
            case "AUTH":
                await self._auth(rest)
            case "MAIL":
                await self._mail(rest)
            case "RCPT":
                await self._rcpt(rest)
            case "DATA":
                await self._data()
            case "BDAT":
                await self._bdat(rest)
            case "RSET":
                self._reset()
                await self._say("250 2.0.0 ok")
            case "NOOP":
                await self._say("250 2.0.0 ok")
            case "VRFY":
                await self._say("252 2.5.2 send it and see")
            case "QUIT":
                await self._answer(Stage.QUIT, "quit", (), "221 2.0.0 bye")
                raise _HangUpError
            case _:
                await self._blame("500 5.5.2 no such command", f"{verb[:20]!r} is no command")

    async def _hello(self, verb: str, name: str) -> None:
        self._forget()
        script, stage = self._sink.script, Stage.TLS_EHLO if self._tls else Stage.EHLO
        if verb == "EHLO":
            code = await self._answer(stage, "ehlo", script.ehlo, "\n".join([f"250 {script.name}", *self._keywords()]))
        else:
            code = await self._answer(stage, "helo", (), f"250 {script.name}")
        if code == 250:
            self._helo, self._extended = name, verb == "EHLO"

    def _keywords(self) -> tuple[str, ...]:
        script = self._sink.script
        if self._tls:
            return script.extensions + script.tls_extensions
        return (*script.extensions, "STARTTLS") if script.context or script.starttls else script.extensions

    def _offers(self, extension: str) -> bool:
        return self._extended and any(one.split(" ")[0].upper() == extension for one in self._keywords())

    async def _starttls(self) -> None:
        if self._tls or not self._offers("STARTTLS"):
            await self._blame("502 5.5.1 not offered", "STARTTLS was not offered")
            return
        script = self._sink.script
        code = await self._answer(Stage.STARTTLS, "starttls", script.starttls, "220 2.0.0 go ahead")
        if code != 220:
            return
        await self._reach(Stage.HANDSHAKE)
        if script.context is None:
            raise _HangUpError
        try:
            self._tls = await self._client.start_tls(script.context)
        except OSError:
            self._sink.sessions.failed_handshakes += 1
            raise _HangUpError from None
        self._sni = names_of(script.context).asked.get(self._tls)
        self._sink.sessions.handshakes += 1
        self._forget()  # RFC 3207 section 4.2

    async def _auth(self, rest: str) -> None:
        """RFC 4954. A client must be inside TLS, whatever is offered."""
        mechanism, _, initial = rest.partition(" ")
        if not self._tls or not self._offers("AUTH") or self._user:
            await self._blame("503 5.5.1 not now", "AUTH where it cannot be")
            return

        async def ask(challenge: bytes) -> bytes:
            await self._client.say(f"334 {base64.b64encode(challenge).decode()}")
            return decoded(await self._client.line())

        user = await logged_in(mechanism, initial, self._sink.script.users, ask)
        ordinary = "235 2.7.0 welcome" if user else "535 5.7.8 wrong name or password"
        if await self._answer(Stage.AUTH, "auth", self._sink.script.auth, ordinary) == 235:
            self._user = user or ""

    async def _mail(self, rest: str) -> None:
        if not self._helo or self._sender is not None:
            await self._blame("503 5.5.1 not now", "MAIL out of sequence")
            return
        path = await self._path("FROM", rest)
        if path is None:
            return
        if self._sink.script.users and not self._user:
            await self._say("530 5.7.0 log in first")
            return
        code = await self._answer(Stage.MAIL, "mail", self._sink.script.mail, "250 2.1.0 ok")
        if code == 250:
            self._sender, self._mail_parameters = path

    async def _rcpt(self, rest: str) -> None:
        if self._sender is None:
            # A pipelining client cannot know that its MAIL was refused: no complaint.
            await self._say("503 5.5.1 no sender")
            return
        path = await self._path("TO", rest)
        if path is None:
            return
        script, address = self._sink.script, path[0].lower()
        answers = script.rcpt.get(address, script.rcpt.get("*", ()))
        full = len(self._recipients) >= script.max_recipients
        ordinary = "452 4.5.3 too many recipients" if full else "250 2.1.5 ok"
        code = await self._answer(Stage.RCPT, ("rcpt", address), answers, ordinary)
        if code in (250, 251):
            self._recipients.append(path)

    async def _path(self, keyword: str, rest: str) -> tuple[str, tuple[str, ...]] | None:
        """The address and parameters of MAIL and RCPT; None when they are wrong, which has been answered then."""
        path = parse_path(keyword, rest)
        if path is None:
            await self._blame("501 5.5.4 syntax", f"no path in {rest!r}")
            return None
        fault = path_fault(keyword, path, self._mail_parameters, self._offers)
        if fault is not None:
            await self._blame(*fault)
            return None
        return path

    async def _data(self) -> None:
        ordinary = "354 go ahead" if self._recipients else "554 5.5.1 no valid recipients"
        if await self._answer(Stage.DATA, "data", self._sink.script.data, ordinary) != 354:
            return
        await self._client.some()
        await self._reach(Stage.BODY)
        await self._content(await self._client.content())

    async def _bdat(self, rest: str) -> None:
        size, _, last = rest.partition(" ")
        if not self._offers("CHUNKING") or not size.isdecimal() or last.upper() not in ("", "LAST"):
            await self._blame("501 5.5.4 syntax", f"BDAT {rest[:40]!r}")
            return
        await self._client.some()
        await self._reach(Stage.BODY)
        octets = await self._client.exactly(int(size))
        if not self._recipients:  # RFC 3030 section 2: what was on its way is read and forgotten
            await self._say("503 5.5.1 no valid recipients")
            return
        self._parts.append(octets)
        if last:
            await self._content(b"".join(self._parts))
        elif await self._answer(Stage.BDAT, "bdat", self._sink.script.bdat, f"250 2.0.0 {size} octets") != 250:
            self._reset()

    async def _content(self, octets: bytes) -> None:
        """The whole message has come: keep it, and answer."""
        if not octets.isascii() and "BODY=8BITMIME" not in map(str.upper, self._mail_parameters):
            self._sink.complaints.append("8-bit content without BODY=8BITMIME")
        broken = self._sink.due(Stage.FINAL_DOT)
        answer = self._sink.take("final-dot", self._sink.script.final_dot, "250 2.0.0 kept")
        if reply_code(answer) == 250:
            self._keep(octets, answered=broken is None)
        self._reset()
        await self._break(broken)
        await self._say(answer)

    def _keep(self, octets: bytes, *, answered: bool) -> None:
        mail = ReceivedMail(
            sender=self._sender or "",
            recipients=tuple(address for address, _ in self._recipients),
            octets=octets,
            tls_version=self._tls.version() if self._tls else None,
            sni=self._sni,
            helo=self._helo,
            user=self._user,
            mail_parameters=self._mail_parameters,
            rcpt_parameters=tuple(parameters for _, parameters in self._recipients),
            answered=answered,
            time=asyncio.get_running_loop().time(),
        )
        self._sink.keep(mail)

    async def _answer(self, stage: Stage, key: object, answers: tuple[Answer, ...], ordinary: str) -> int:
        """Break the session if the script says so, or answer. Returns the reply code."""
        await self._reach(stage)
        return await self._say(self._sink.take(key, answers, ordinary))

    async def _blame(self, answer: str, complaint: str) -> None:
        self._sink.complaints.append(complaint)
        await self._say(answer)

    async def _say(self, answer: Answer) -> int:
        """Send an answer and return its code. 421 ends the session. RFC 5321 section 3.8."""
        await self._client.say(answer)
        code = reply_code(answer)
        if code == 421:
            raise _HangUpError
        return code

    async def _reach(self, stage: Stage) -> None:
        await self._break(self._sink.due(stage), stage)

    async def _break(self, how: How | None, stage: Stage = Stage.FINAL_DOT) -> None:
        """Break the session in this way; None: do not."""
        match how:
            case None:
                return
            case How.CLOSE:
                pass
            case How.RESET:
                self._client.reset()
            case How.STALL:
                await self._client.until_end()
            case How.GARBAGE:
                if stage is Stage.HANDSHAKE:
                    await self._client.some()  # sent any earlier, it could be taken for more of the reply
                await self._client.say(_GARBAGE)
        raise _HangUpError
