"""A session with an SMTP server, once it is open (`delivery.opening`): sends messages over it.

To send takes an `Allow`, which only `policy.verdict` makes. What a host or the network does wrong is a value here.

RFC 5321 sections 3.3 and 4.1.1, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 8689 section 2
(REQUIRETLS), RFC 3030 (CHUNKING), RFC 3461 (DSN), RFC 9422 (LIMITS), RFC 2852 (DELIVERBY), RFC 6710 (MT-PRIORITY).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, replace

from relay.delivery import dsn
from relay.delivery.capabilities import Capabilities
from relay.delivery.credentials import Credentials
from relay.delivery.exchange import Exchange
from relay.delivery.login import LoginFailed, log_in
from relay.delivery.transaction import Commands, Lost, Stage, Timeouts, Transaction
from relay.delivery.wire import Broken, Wire
from relay.mail.message import MessageDsn, RecipientDsn
from relay.mail.status import Reply
from relay.policy.observed import ObservedSession
from relay.policy.verdict import Allow

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class MailOptions:
    """What to tell the host about the message, and how to send it. `size` is in octets, before dot-stuffing.

    `dsn` and `rcpts`: what to pass on of delivery reports; `rcpts` has an entry for each recipient, or none at all.
    `chunks`: with BDAT, not DATA. `by`: the value of BY; `priority`: that of MT-PRIORITY.
    """

    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    requiretls: bool = False
    chunks: bool = False
    dsn: MessageDsn | None = None
    rcpts: Sequence[RecipientDsn] = ()
    by: str | None = None
    priority: int | None = None


class OpenSession:
    """A session that is ready for MAIL. `observed` holds for as long as it is open.

    `capabilities` too, but for CHUNKING where the host turns out not to know it. `took_mail`: it took MAIL of the last
    message; `stages`: where each recipient of that got its answer. `domains`: of the recipients so far, where the host
    limits them. `counted_for`: domains in whose TLS report it is.
    """

    def __init__(self, wire: Wire, observed: ObservedSession, capabilities: Capabilities, timeouts: Timeouts) -> None:
        self.observed = observed
        self.capabilities = capabilities
        self.messages = 0  # begun, whatever came of them
        self.took_mail = False
        self.stages: tuple[Stage, ...] = ()
        self.domains: set[bytes] = set()
        self.counted_for: set[str] = set()
        self._wire = wire
        self._exchange = Exchange(wire, timeouts)
        self._sending = False

    async def send(
        self,
        sender: bytes,
        recipients: Sequence[bytes],
        body: AsyncIterable[bytes],
        options: MailOptions,
        allow: Allow,
    ) -> tuple[Reply | Lost, ...]:
        """Send one message; returns a result for each recipient, in order.

        `sender` (empty: the null sender) and `recipients` are the octets between the angle brackets. `body` is final:
        it goes out octet for octet; with DATA it is dot-stuffed, and a CRLF is added where it does not end in one.
        `allow` is the proof that this session may carry this message.
        Where the host does not know BDAT after all, `chunks` is answered with a Lost of Stage.CHUNK; the session may
        still be good for DATA.
        Raises ValueError, before anything is sent, for a control character in an address and for an option that the
        host does not offer (see `capabilities`). When `body` raises, the connection is closed, so that nothing of the
        message is delivered, and the exception comes through.
        """
        can = self.capabilities
        commands = _commands(sender, recipients, options, can)
        if self._sending:
            raise RuntimeError("this session is sending another message")
        self._wire.transcript.begin_message()
        self.took_mail = False
        self.stages = (Stage.MAIL,) * len(recipients)
        if not self._wire.usable:
            words = f": {self._wire.unread_words}" if self._wire.unread else ""  # 421, it was idle too long
            return (Lost(Stage.MAIL, f"ended the session before MAIL FROM{words}"),) * len(recipients)
        self._sending = True
        self.messages += 1
        if can.limits.domains is not None:
            self.domains.update(map(domain_of, recipients))
        transaction = Transaction(self._exchange, can.pipelining, options.chunks)
        try:
            results = await transaction.run(commands, body)
            if transaction.begun and not transaction.ended and self._wire.usable:
                await self._reset()
            self.took_mail, self.stages = transaction.begun, transaction.stages
            if transaction.bdat_unknown:
                self.capabilities = replace(can, chunking=False)
        except BaseException:
            self._wire.abort()
            raise
        self._sending = False
        return results

    async def log_in(self, credentials: Credentials, allow: Allow) -> LoginFailed | Lost | None:
        """Log in; None when the host said yes. After anything else the session is to be closed. See `login.log_in`."""
        return await log_in(self._wire, self.capabilities.keywords, credentials, allow, self._exchange.auth_seconds)

    def dialogue(self) -> tuple[str, ...]:
        """What was said, for the evidence: the opening of the session, and the last message but for its content."""
        return self._wire.transcript.lines()

    def reusable(self) -> bool:
        """Whether another message can be sent: the last one is over, the host is there and takes one more."""
        return self._idle() and not self.exhausted

    @property
    def exhausted(self) -> bool:
        """Whether it has carried as many messages as the host takes over one session. RFC 9422 section 4.1."""
        most = self.capabilities.limits.mails
        return most is not None and self.messages >= most

    def _idle(self) -> bool:
        """Nothing is under way, and the host has said nothing more."""
        return not self._sending and self._wire.usable

    async def quit(self) -> None:
        """Say goodbye, wait a little for the answer, and hang up."""
        if self._idle():
            self._wire.say(b"QUIT\r\n")
            await self._wire.reply(self._exchange.quit_seconds)
            self._wire.close()
        else:
            self._wire.abort()

    def close(self) -> None:
        """Hang up without waiting; politely when nothing is under way."""
        if self._idle():
            self._wire.leave()
        else:
            self._wire.abort()

    async def _reset(self) -> None:
        """End a transaction that did not come to the final dot. RFC 5321 §4.1.1.5."""
        self._wire.say(b"RSET\r\n")
        reply = await self._wire.reply(self._exchange.quit_seconds)
        if isinstance(reply, Broken) or reply.code >= 300:
            self._wire.abort()


def domain_of(address: bytes) -> bytes:
    """The domain of an address as it goes over the wire, for comparing."""
    return address.rpartition(b"@")[2].lower()


def _commands(sender: bytes, recipients: Sequence[bytes], options: MailOptions, can: Capabilities) -> Commands:
    """The envelope as command lines. Raises ValueError; see `OpenSession.send`."""
    if not recipients:
        raise ValueError("no recipients")
    for address in (sender, *recipients):
        if _CONTROL.search(address):
            raise ValueError(f"a control character in the address {address!r}")
    asks_dsn = options.dsn is not None or bool(options.rcpts)
    wanted = (
        (options.eight_bit, can.eight_bit_mime, b" BODY=8BITMIME"),  # RFC 6152 §3
        (options.smtputf8, can.smtputf8, b" SMTPUTF8"),  # RFC 6531 §3.4
        (options.requiretls, can.requiretls, b" REQUIRETLS"),  # RFC 8689 §2
        (options.chunks, can.chunking, b""),
        (asks_dsn, can.dsn, dsn.of_message(options.dsn)),
        (options.by is not None, can.deliver_by is not None, f" BY={options.by}".encode()),  # RFC 2852 §4
        (options.priority is not None, can.mt_priority, f" MT-PRIORITY={options.priority}".encode()),  # RFC 6710 §4.2
    )
    mail = b"MAIL FROM:<" + sender + b">"
    if can.size is not None and options.size is not None:
        mail += b" SIZE=%d" % options.size  # RFC 1870 §3
    for asked, offered, parameters in wanted:
        if asked and not offered:
            raise ValueError(f"the host does not offer what is asked of it: {options}")
        if asked:
            mail += parameters
    rcpts = [b"RCPT TO:<" + address + b">\r\n" for address in recipients]
    if options.rcpts:
        asked_of = zip(recipients, options.rcpts, strict=True)
        rcpts = [
            b"RCPT TO:<" + address + b">" + dsn.of_recipient(asked, address, can.smtputf8) + b"\r\n"
            for address, asked in asked_of
        ]
    return Commands(mail + b"\r\n", rcpts)
