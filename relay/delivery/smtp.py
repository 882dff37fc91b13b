"""A session with an SMTP server, once it is open (`delivery.opening`): sends messages over it.

To send takes an `Allow`, which only `policy.verdict` makes. What a host or the network does wrong is a value here.

RFC 5321 sections 3.3 and 4.1.1, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 8689 section 2
(REQUIRETLS).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass

from relay.delivery.capabilities import Capabilities
from relay.delivery.credentials import Credentials
from relay.delivery.login import LoginFailed, log_in
from relay.delivery.transaction import Commands, Lost, Stage, Timeouts, Transaction
from relay.delivery.wire import Broken, Wire
from relay.mail.status import Reply
from relay.policy.observed import ObservedSession
from relay.policy.verdict import Allow

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class MailOptions:
    """What to tell the host about the message. `size` is in octets, before dot-stuffing."""

    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    requiretls: bool = False


class OpenSession:
    """A session that is ready for MAIL. `observed` and `capabilities` hold for as long as it is open."""

    def __init__(self, wire: Wire, observed: ObservedSession, capabilities: Capabilities, timeouts: Timeouts) -> None:
        self.observed = observed
        self.capabilities = capabilities
        self.messages = 0  # begun, whatever came of them
        self._wire = wire
        self._timeouts = timeouts
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
        it is dot-stuffed and goes out octet for octet, with a CRLF added only where it does not end in one. `allow` is
        the proof that this session may carry this message.
        Raises ValueError, before anything is sent, for a control character in an address and for an option that the
        host does not offer (see `capabilities`). When `body` raises, the connection is closed, so that nothing of the
        message is delivered, and the exception comes through.
        """
        commands = _commands(sender, recipients, options, self.capabilities)
        if self._sending:
            raise RuntimeError("this session is sending another message")
        self._wire.transcript.begin_message()
        if not self._wire.usable:
            words = f": {self._wire.unread_words}" if self._wire.unread else ""  # 421, it was idle too long
            return (Lost(Stage.MAIL, f"ended the session before MAIL FROM{words}"),) * len(recipients)
        self._sending = True
        self.messages += 1
        transaction = Transaction(self._wire, self._timeouts)
        try:
            results = await transaction.run(commands, body, self.capabilities.pipelining)
            if transaction.begun and not transaction.ended and self._wire.usable:
                await self._reset()
        except BaseException:
            self._wire.abort()
            raise
        self._sending = False
        return results

    async def log_in(self, credentials: Credentials, allow: Allow) -> LoginFailed | Lost | None:
        """Log in; None when the host said yes. After anything else the session is to be closed. See `login.log_in`."""
        return await log_in(self._wire, self.capabilities.keywords, credentials, allow, self._timeouts.auth_seconds)

    def dialogue(self) -> tuple[str, ...]:
        """What was said, for the evidence: the opening of the session, and the last message but for its content."""
        return self._wire.transcript.lines()

    def reusable(self) -> bool:
        """Whether another message can be sent: the last one is over, the host is there and has said nothing more."""
        return not self._sending and self._wire.usable

    async def quit(self) -> None:
        """Say goodbye, wait a little for the answer, and hang up."""
        if self.reusable():
            self._wire.say(b"QUIT\r\n")
            await self._wire.reply(self._timeouts.quit_seconds)
            self._wire.close()
        else:
            self._wire.abort()

    def close(self) -> None:
        """Hang up without waiting; politely when nothing is under way."""
        if self.reusable():
            self._wire.leave()
        else:
            self._wire.abort()

    async def _reset(self) -> None:
        """End a transaction that did not come to the final dot. RFC 5321 §4.1.1.5."""
        self._wire.say(b"RSET\r\n")
        reply = await self._wire.reply(self._timeouts.quit_seconds)
        if isinstance(reply, Broken) or reply.code >= 300:
            self._wire.abort()


def _commands(sender: bytes, recipients: Sequence[bytes], options: MailOptions, can: Capabilities) -> Commands:
    """The envelope as command lines. Raises ValueError; see `OpenSession.send`."""
    if not recipients:
        raise ValueError("no recipients")
    for address in (sender, *recipients):
        if _CONTROL.search(address):
            raise ValueError(f"a control character in the address {address!r}")
    wanted = (
        (options.eight_bit, can.eight_bit_mime, b" BODY=8BITMIME"),  # RFC 6152 §3
        (options.smtputf8, can.smtputf8, b" SMTPUTF8"),  # RFC 6531 §3.4
        (options.requiretls, can.requiretls, b" REQUIRETLS"),  # RFC 8689 §2
    )
    mail = b"MAIL FROM:<" + sender + b">"
    if can.size is not None and options.size is not None:
        mail += b" SIZE=%d" % options.size  # RFC 1870 §3
    for asked, offered, parameter in wanted:
        if asked and not offered:
            raise ValueError(f"the host does not offer what{parameter.decode()} needs")
        if asked:
            mail += parameter
    return Commands(mail + b"\r\n", [b"RCPT TO:<" + address + b">\r\n" for address in recipients])
