# ruff: noqa: N802  (verbs are named as aiosmtpd names them: smtp_EHLO)
"""The talk with one client from greeting to goodbye: commands in, replies out, and the verbs that carry no mail.

RFC 5321 section 4.1 (commands), RFC 3207 (STARTTLS), RFC 2920 (pipelining). `login` logs in, `session` takes mail.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from relay.events import DefectFound
from relay.mail.status import Reply
from relay.policy.clients import Grant, Peer
from relay.settings import ListenerSettings, ListenerTls
from relay.submission import replies
from relay.submission.access import client_address
from relay.submission.client_certificate import certificate_names
from relay.submission.crowd import Seat
from relay.submission.front import refused
from relay.submission.shared import Shared
from relay.submission.stream import BadLine, Gone, Stream

MAX_LINE_OCTETS = 12288  # RFC 4954 §4: of AUTH; other commands are shorter
_MAX_COMMAND = 2048  # octets; RFC 5321 §4.5.3.1.4 asks for 512, and each extension for more
_MAX_ERRORS = 20
_MAX_COMMANDS = 200  # of a client that may not send anything
_MOST_UNITS = 10  # of `tarpit`, for one answer
# RFC 3207 §4. BDAT answers for itself: there is no message for it, but its octets have to be read.
_BEFORE_TLS = frozenset({"EHLO", "STARTTLS", "NOOP", "QUIT", "BDAT"})
# A web page can make a browser in a trusted network send us lines of its choice. A browser begins with one of these.
_WEB_VERBS = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PATCH", "DELETE", "TRACE", "PRI"})
_NOT_IMPLEMENTED = frozenset({"EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "ATRN"})
# A client, or something before it that is less strict than we are, may take such a line for a BDAT.
_LIKE_BDAT = re.compile(rb"[\x00-\x20]*BDAT(?![!-~])", re.IGNORECASE)
_PROTOCOL_ERRORS = frozenset({500, 501, 502, 503, 504})

Verb = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a client came: at which listener, and, when something came before the session, who it is and its seat."""

    listener: ListenerSettings
    peer: Peer | None = None
    seat: Seat | None = None


class Conversation(Stream):
    """One client. What it may do, `_grant`, is looked up anew whenever we learn more of it."""

    def __init__(self, shared: Shared, arrival: Arrival) -> None:
        super().__init__(shared.settings.timeout, shared.landing)
        self._shared = shared
        self._came = arrival
        self._seat = arrival.seat
        self._listener = arrival.listener
        self._peer: Peer
        self._grant: Grant | None = None
        self._helo: str | None = None
        self._extended = False
        self._errors = 0
        self._owed = 0.0  # seconds that the replies kept back have to wait for mistakes
        self._commands = 0  # while it may not send anything
        self._at_command = False  # we wait for the next command

    @abstractmethod
    def offers(self) -> list[str]:
        """The extensions for EHLO, with their parameters, at this moment."""

    @abstractmethod
    def forget(self) -> None:
        """Give up the mail transaction, if there is one."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a mail transaction is open."""

    async def converse(self) -> None:
        """Greet, then obey commands until the client or the service leaves."""
        if not self._admit():
            return
        self.say(replies.greeting(self._shared.hostname))
        while not self.closing:
            self._at_command = True
            line = await self.read_line(MAX_LINE_OCTETS)
            self._at_command = False
            if isinstance(line, BadLine):
                self._refuse_line(line.octets, line.answer)
            else:
                await self._obey(line)
            if self._owed:
                await self._tarpit()
            await self.flush_if_many()
            if self._shared.stopping and (not self.busy or self._grant is None):
                self.hang_up(replies.SHUTTING_DOWN)

    def leave_when_idle(self) -> None:
        """The service stops: say goodbye, at once when nothing is under way, otherwise after the message."""
        if self.shaking:
            self.abort()
        elif self._at_command and (not self.busy or self._grant is None):
            self.dismiss(replies.SHUTTING_DOWN)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._shared.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._shared.sessions.discard(self)
        self._shared.crowd.leave(self._seat)
        super().connection_lost(error)

    def _admit(self) -> bool:
        """Whether there is room for this client."""
        peer = self._link.get_extra_info("peername")
        if not peer:
            self.hang_up()  # it left before we looked
            return False
        caller = self._came.peer or Peer(client_address(peer[0]), self._listener.name)
        names = certificate_names(self._link)
        self._identify(replace(caller, certificates=names) if names else caller)
        shared = self._shared
        seat = replies.SHUTTING_DOWN if shared.stopping else self._seat or shared.enter(self._peer, self.trusted)
        if isinstance(seat, Reply):
            self.hang_up(seat)
            return False
        self._seat = seat
        return True

    def _identify(self, peer: Peer) -> None:
        """We know (more) of who this is: what may it do?"""
        self._peer = peer
        self._grant = self._shared.clients.grant(peer)
        self.trusted = self._grant is not None

    async def _obey(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        name = verb.decode("ascii", "replace").upper()
        if not self.trusted:
            self._commands += 1
            if self._commands > _MAX_COMMANDS:
                self._report(replies.TOO_MANY_COMMANDS, "connection")
                self.hang_up(replies.TOO_MANY_COMMANDS)
                return
        if name != "AUTH" and len(line) + 2 > _MAX_COMMAND:
            self._refuse_line(line, replies.LINE_TOO_LONG)
            return
        if name in _WEB_VERBS:
            self._report(replies.NOT_A_WEB_SERVER, "connection")
            self.hang_up(replies.NOT_A_WEB_SERVER)
            return
        if self._listener.tls is ListenerTls.REQUIRED and self.tls is None and name not in _BEFORE_TLS:
            self._refuse(replies.TLS_FIRST)
            return
        method: Verb | None = getattr(self, f"smtp_{name}", None)
        if method is None:
            unknown = replies.UNKNOWN_COMMAND if name else replies.EMPTY_LINE
            self._refuse_line(line, replies.NOT_IMPLEMENTED if name in _NOT_IMPLEMENTED else unknown)
            return
        try:
            await method(argument.strip(b" \t").decode("utf-8", "surrogateescape"))
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001  a defect of ours: the session goes on, the message does not
            self._shared.front.emit(DefectFound(f"submission, {name}", repr(error)))
            self.forget()
            self.say(replies.INTERNAL_ERROR)
            if name in ("DATA", "BDAT"):
                self.hang_up()  # a message half read: its next lines must not be taken for commands

    def _refuse_line(self, line: bytes, reply: Reply) -> None:
        """Refuse what is no command. If it was to be BDAT, octets follow that must not be taken for commands."""
        self._refuse(reply)
        if _LIKE_BDAT.match(line):
            self.hang_up(replies.LOST_COUNT)

    def _refuse(self, reply: Reply, about: str | None = None) -> None:
        """Say no; report it when it is `about` an address; count it when the client does not keep to the rules."""
        if about is not None:
            self._report(reply, about)
        if reply.code in _PROTOCOL_ERRORS or (reply.code >= 500 and not self.trusted):
            self.count_mistake()  # of a stranger each one: it could fill the log with addresses that are none
        if self._errors >= _MAX_ERRORS:
            self._report(replies.TOO_MANY_ERRORS, "connection")
            self.hang_up(replies.TOO_MANY_ERRORS)
        else:
            self.say(reply)

    def count_mistake(self) -> None:
        """One more mistake of the client; from the second on a stranger waits for the answer."""
        self._errors += 1
        unit = self._shared.settings.tarpit
        if unit is not None and not self.trusted and self._errors > 1:
            self._owed = unit.total_seconds() * min(self._errors, _MOST_UNITS)

    async def _tarpit(self) -> None:
        seconds, self._owed = self._owed, 0.0
        self._at_command = True  # nothing is under way: the service may stop
        if await self.pause(seconds):
            self._at_command = False
        else:
            self.hang_up()  # what it has sent ahead would fill the log, and cost nobody any time

    def _report(self, reply: Reply, about: str) -> None:
        self._shared.front.emit(refused(self._peer, reply.text, about))

    # Verbs, named as aiosmtpd names them. Arguments too come its way: as text, with surrogates for what is not UTF-8.

    async def smtp_EHLO(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.1: begin, and hear what is on offer."""
        if self._meet(arg, extended=True):
            self.say(replies.hello((self._shared.hostname, *self.offers())))

    async def smtp_HELO(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.1: begin, the old way."""
        if self._meet(arg, extended=False):
            self.say(replies.hello((self._shared.hostname,)))

    def _meet(self, arg: str, *, extended: bool) -> bool:
        if not arg:
            self._refuse(replies.HELO_SYNTAX)
            return False
        self._helo, self._extended = arg, extended
        self.forget()
        return True

    async def smtp_STARTTLS(self, arg: str) -> None:
        """RFC 3207: TLS from here on; everything said before is forgotten."""
        if arg:
            self._refuse(replies.NO_ARGUMENT)
        elif self.tls is not None:
            self._refuse(replies.ALREADY_TLS)
        elif self._shared.tls is None or self._listener.tls is ListenerTls.NONE:
            self._refuse(replies.NOT_IMPLEMENTED)
        else:
            self.say(replies.READY_FOR_TLS)
            await self._shake_hands(self._shared.tls.of(self._listener.ask_certificate))

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        # RFC 3207 §4.2: nothing that was said in clear text counts any more.
        self._helo, self._extended = None, False
        self.forget()
        self._identify(replace(self._peer, certificates=(), login=None))
        failure = await self.start_tls(context)
        if failure is not None:
            self._shared.front.emit(refused(self._peer, "connection closed", f"TLS handshake failed: {failure}"))
            raise Gone
        self._identify(replace(self._peer, certificates=certificate_names(self._link)))

    async def smtp_RSET(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.5: forget the message."""
        if arg:
            self._refuse(replies.NO_ARGUMENT)
        else:
            self.forget()
            self.say(replies.OK)

    async def smtp_NOOP(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.9."""
        self.say(replies.OK)

    async def smtp_VRFY(self, arg: str) -> None:
        """RFC 5321 section 3.5.3: neither yes nor no."""
        if arg:
            self.say(replies.CANNOT_VERIFY)
        else:
            self._refuse(replies.VRFY_SYNTAX)

    async def smtp_EXPN(self, arg: str) -> None:
        """RFC 5321 section 3.5.2: not for outsiders."""
        self._refuse(replies.NOT_IMPLEMENTED)

    async def smtp_HELP(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.8."""
        self.say(replies.HELP)

    async def smtp_QUIT(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.10: goodbye."""
        if arg:
            self._refuse(replies.NO_ARGUMENT)
        else:
            self.hang_up(replies.BYE)
