# ruff: noqa: N802  (verbs are named as aiosmtpd names them: smtp_MAIL)
"""The verbs of one SMTP session: what they need, what they answer, and what they leave behind.

RFC 5321 section 4.1 (commands), RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 2920 (pipelining). Only what is honoured is
offered. Nothing is decided here about who may send (`access`) or whether a message is good (`receive`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay.events import DefectFound, SubmissionRefused
from relay.mail.status import Reply
from relay.settings import SubmissionSettings
from relay.submission import replies
from relay.submission.access import IPAddress, client_address, may_relay
from relay.submission.auth import MAX_LINE_OCTETS, MECHANISMS, Authenticator, Talk
from relay.submission.front import Front
from relay.submission.receive import Client, Receiver, Transaction
from relay.submission.stream import LANDING_OCTETS, Gone, Stream
from relay.submission.verbs import Mail, parse_mail, parse_rcpt

_MAX_COMMAND = 2048  # octets; RFC 5321 §4.5.3.1.4 asks for 512, and each extension for more
_MAX_ERRORS = 20
_TRUSTED_SHARE = 4
_MAX_FAILED_LOGINS = 3
# A web page can make a browser in a trusted network send us lines of its choice. A browser begins with one of these.
_WEB_VERBS = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PATCH", "DELETE", "TRACE", "PRI"})
_NOT_IMPLEMENTED = frozenset({"EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BDAT", "ATRN"})
_PROTOCOL_ERRORS = frozenset({500, 501, 502, 503, 504})

Verb = Callable[[str], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Shared:
    """What the sessions of one server have in common. `tls` may be replaced while they run."""

    settings: SubmissionSettings
    hostname: str
    front: Front
    receiver: Receiver
    tls: ssl.SSLContext | None
    authenticator: Authenticator | None
    stopping: bool = False
    sessions: set[Session] = field(default_factory=set)
    handshakes: set[object] = field(default_factory=set)  # that come before a session, and count like one
    landing: memoryview = field(default_factory=lambda: memoryview(bytearray(LANDING_OCTETS)))

    def is_trusted(self, peer: IPAddress) -> bool:
        """Whether clients at this address may send to anyone, logged in or not."""
        return may_relay(peer, None, self.settings.trusted_networks)

    def is_crowded(self, trusted: bool) -> bool:
        """Whether there are more clients than there may be; strangers leave a quarter to those we trust."""
        most = self.settings.max_connections
        room = most if trusted else most - most // _TRUSTED_SHARE
        return len(self.sessions) + len(self.handshakes) > room


class Session(Stream):
    """One client, from greeting to goodbye. `handshake`: its entry among the handshakes, when TLS came first."""

    def __init__(self, shared: Shared, handshake: object = None) -> None:
        super().__init__(shared.settings.timeout, shared.landing)
        self._shared = shared
        self._handshake = handshake
        self._peer: IPAddress
        self._trusted = False  # its address may send to anyone
        self._helo: str | None = None
        self._extended = False
        self._login: str | None = None
        self._transaction: Transaction | None = None
        self._errors = 0
        self._failed_logins = 0
        self._at_command = False  # we wait for the next command

    async def converse(self) -> None:
        """Greet, then obey commands until the client or the service leaves."""
        if not self._admit():
            return
        self.say(replies.greeting(self._shared.hostname))
        while not self.closing:
            self._at_command = True
            line = await self.read_line(MAX_LINE_OCTETS)
            self._at_command = False
            if isinstance(line, Reply):
                self._refuse(line)
            else:
                await self._obey(line)
            await self.flush_if_many()
            if self._shared.stopping and self._transaction is None:
                self.hang_up(replies.SHUTTING_DOWN)

    def leave_when_idle(self) -> None:
        """The service stops: say goodbye, at once when nothing is under way, otherwise after the message."""
        if self.shaking:
            self.abort()
        elif self._at_command and self._transaction is None:
            self.dismiss(replies.SHUTTING_DOWN)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there."""
        self._shared.handshakes.discard(self._handshake)
        self._shared.sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._shared.sessions.discard(self)
        super().connection_lost(error)

    def _admit(self) -> bool:
        """Whether there is room for this client."""
        peer = self._link.get_extra_info("peername")
        if not peer:
            self.hang_up()  # it left before we looked
            return False
        self._peer = client_address(peer[0])
        self._trusted = self._shared.is_trusted(self._peer)
        refusal = None
        if self._shared.stopping:
            refusal = replies.SHUTTING_DOWN
        elif self._shared.is_crowded(self._trusted):
            refusal = replies.TOO_MANY_CONNECTIONS
            self._report(refusal, "connection")
        if refusal is not None:
            self.hang_up(refusal)
            return False
        return True

    async def _obey(self, line: bytes) -> None:
        verb, _, argument = line.partition(b" ")
        name = verb.decode("ascii", "replace").upper()
        if name != "AUTH" and len(line) + 2 > _MAX_COMMAND:
            self._refuse(replies.LINE_TOO_LONG)
            return
        if name in _WEB_VERBS:
            self._report(replies.NOT_A_WEB_SERVER, "connection")
            self.hang_up(replies.NOT_A_WEB_SERVER)
            return
        method: Verb | None = getattr(self, f"smtp_{name}", None)
        if method is None:
            unknown = replies.UNKNOWN_COMMAND if name else replies.EMPTY_LINE
            self._refuse(replies.NOT_IMPLEMENTED if name in _NOT_IMPLEMENTED else unknown)
            return
        try:
            await method(argument.strip(b" \t").decode("utf-8", "surrogateescape"))
        except Gone:
            raise
        except Exception as error:  # noqa: BLE001  a defect of ours: the session goes on, the message does not
            self._shared.front.emit(DefectFound(f"submission, {name}", repr(error)))
            self._transaction = None
            self.say(replies.INTERNAL_ERROR)
            if name == "DATA":
                self.hang_up()  # a message half read: its next lines must not be taken for commands

    def _refuse(self, reply: Reply, about: str | None = None) -> None:
        """Say no; report it when it is `about` an address; count it when the client does not keep to the rules."""
        if about is not None:
            self._report(reply, about)
        if reply.code in _PROTOCOL_ERRORS or reply is replies.RELAYING_DENIED:
            self._errors += 1
        if self._errors >= _MAX_ERRORS:
            self._report(replies.TOO_MANY_ERRORS, "connection")
            self.hang_up(replies.TOO_MANY_ERRORS)
        else:
            self.say(reply)

    def _report(self, reply: Reply, about: str) -> None:
        self._shared.front.emit(SubmissionRefused(str(self._peer), reply.text, replies.printable(about)))

    # Verbs, named as aiosmtpd names them. Arguments too come its way: as text, with surrogates for what is not UTF-8.

    async def smtp_EHLO(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.1: begin, and hear what is on offer."""
        if self._meet(arg, extended=True):
            settings = self._shared.settings
            offers = [self._shared.hostname, f"SIZE {settings.max_message_size}"]
            offers += ["8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES", "DSN"]
            if self._shared.tls is not None and self.tls is None:
                offers.append("STARTTLS")
            if self.tls is not None:
                offers.append("REQUIRETLS")  # RFC 8689 §2: in sessions with TLS only
            if self._shared.authenticator is not None and self.tls is not None:
                offers.append(f"AUTH {' '.join(MECHANISMS)}")
            self.say(replies.hello(tuple(offers)))

    async def smtp_HELO(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.1: begin, the old way."""
        if self._meet(arg, extended=False):
            self.say(replies.hello((self._shared.hostname,)))

    def _meet(self, arg: str, *, extended: bool) -> bool:
        if not arg:
            self._refuse(replies.HELO_SYNTAX)
            return False
        self._helo, self._extended, self._transaction = arg, extended, None
        return True

    async def smtp_STARTTLS(self, arg: str) -> None:
        """RFC 3207: TLS from here on; everything said before is forgotten."""
        if arg:
            self._refuse(replies.NO_ARGUMENT)
        elif self.tls is not None:
            self._refuse(replies.ALREADY_TLS)
        elif self._shared.tls is None:
            self._refuse(replies.NOT_IMPLEMENTED)
        else:
            self.say(replies.READY_FOR_TLS)
            await self._shake_hands(self._shared.tls)

    async def _shake_hands(self, context: ssl.SSLContext) -> None:
        # RFC 3207 §4.2: nothing that was said in clear text counts any more.
        self._helo = self._login = self._transaction = None
        self._extended = False
        failure = await self.start_tls(context)
        if failure is not None:
            event = SubmissionRefused(str(self._peer), "connection closed", f"TLS handshake failed: {failure}")
            self._shared.front.emit(event)
            raise Gone

    async def smtp_AUTH(self, arg: str) -> None:
        """RFC 4954: log in."""
        authenticator = self._shared.authenticator
        talk = self._choose_mechanism(arg)
        if authenticator is None or isinstance(talk, Reply):
            self._refuse(talk if isinstance(talk, Reply) else replies.NOT_IMPLEMENTED)
            return
        _, given, initial = arg.partition(" ")
        credentials = await talk(initial.encode("utf-8", "surrogateescape") if given else None, self._ask)
        if isinstance(credentials, Reply):
            self._refuse(credentials)
            return
        answer = await authenticator.check(credentials, str(self._peer))
        if answer is replies.AUTHENTICATED:
            self._login = credentials.name
        elif answer is replies.LOGIN_REFUSED:
            self._failed_logins += 1
        if self._failed_logins >= _MAX_FAILED_LOGINS:
            self.hang_up(replies.TOO_MANY_FAILED_LOGINS)
        else:
            self.say(answer)

    def _choose_mechanism(self, arg: str) -> Talk | Reply:
        words = arg.split(" ")
        if self._shared.authenticator is None:
            return replies.NOT_IMPLEMENTED
        if self.tls is None:
            return replies.LOGIN_NEEDS_TLS
        if not self._extended:
            return replies.NO_HELO
        if self._login is not None:
            return replies.ALREADY_AUTHENTICATED
        if self._transaction is not None:
            return replies.LOGIN_IN_TRANSACTION  # RFC 4954 §4
        if not words[0] or len(words) > 2:
            return replies.AUTH_SYNTAX
        return MECHANISMS.get(words[0].upper(), replies.UNKNOWN_MECHANISM)

    async def _ask(self, text: str) -> bytes | Reply:
        self.say(replies.challenge(text))
        line = await self.read_line(MAX_LINE_OCTETS)
        return replies.LOGIN_LINE_TOO_LONG if line is replies.LINE_TOO_LONG else line

    async def smtp_MAIL(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.2: begin a message."""
        if self._helo is None:
            self._refuse(replies.NO_HELO)
        elif self._transaction is not None:
            self._refuse(replies.NESTED_MAIL)
        else:
            octets = arg.encode("utf-8", "surrogateescape")
            mail = parse_mail(octets, self._extended, self._shared.settings.max_message_size)
            if isinstance(mail, Mail) and mail.requiretls and self.tls is None:
                mail = replies.REQUIRETLS_NEEDS_TLS
            if isinstance(mail, Reply):
                self._refuse(mail, f"MAIL {arg}")
            else:
                self._transaction = Transaction(mail.sender, mail.smtputf8, mail.requiretls, mail.dsn)
                self.say(replies.SENDER_OK)

    async def smtp_RCPT(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.3: one recipient. Strangers get here and no further."""
        transaction = self._transaction
        if transaction is None:
            self._refuse(replies.NO_MAIL if self._helo is not None else replies.NO_HELO)
            return
        about = f"RCPT {arg}"
        if not self._trusted and self._login is None:  # as `may_relay` has it; the address was looked at once
            self._refuse(replies.RELAYING_DENIED, about)
            return
        rcpt = parse_rcpt(arg.encode("utf-8", "surrogateescape"), self._extended, transaction.smtputf8)
        if isinstance(rcpt, Reply):
            self._refuse(rcpt, about)
            return
        why_not = self._shared.front.refusal(transaction.sender, self._login, rcpt.recipient)
        if why_not is not None:
            self._refuse(replies.rejected(why_not), about)
            return
        key = rcpt.recipient.local, rcpt.recipient.domain
        if key not in transaction.recipients and len(transaction.recipients) >= self._shared.settings.max_recipients:
            self._refuse(replies.TOO_MANY_RECIPIENTS, about)  # RFC 5321 §4.5.3.1.10
            return
        transaction.add(key, rcpt)
        self.say(replies.RECIPIENT_OK)

    async def smtp_DATA(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.4: the message itself."""
        transaction = self._transaction
        if arg:
            self._refuse(replies.NO_ARGUMENT)
        elif transaction is None or self._helo is None:
            self._refuse(replies.NO_MAIL if self._helo is not None else replies.NO_HELO)
        elif not transaction.recipients:
            self._refuse(replies.NO_RCPT)
        else:
            client = Client(self._peer, self._helo, self._extended, self.tls, self._login)
            answer = await self._shared.receiver.receive(client, transaction, self)
            self._transaction = None
            self.say(answer)

    async def smtp_RSET(self, arg: str) -> None:
        """RFC 5321 section 4.1.1.5: forget the message."""
        if arg:
            self._refuse(replies.NO_ARGUMENT)
        else:
            self._transaction = None
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
