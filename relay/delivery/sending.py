"""One message over a session that may carry it: what the host is told, and what each recipient comes to.

Which hosts are tried, and what becomes of the session afterwards, is `relay.delivery.attempt`.

RFC 5321 section 4.5.3.1.10 (552 for too many recipients), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
RFC 8689 (REQUIRETLS).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from relay.delivery.capabilities import Capabilities
from relay.delivery.results import of_answer
from relay.delivery.smtp import MailOptions, OpenSession
from relay.delivery.transaction import Lost
from relay.mail.message import Body, Claim, Recipient, SmtpUtf8, TlsDemand
from relay.mail.outcome import Delivered, Failed, Outcome
from relay.mail.status import Kind, Reply, Status
from relay.policy.verdict import Allow

TOO_LARGE_5_3_4 = Status(Kind.PERMANENT, 3, 4)
EIGHT_BIT_5_6_3 = Status(Kind.PERMANENT, 6, 3)
SMTPUTF8_5_6_7 = Status(Kind.PERMANENT, 6, 7)

ReadBody = Callable[[Body], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Told:
    """What one recipient comes to at this host. `may_go_on`: another host may still be tried for it."""

    outcome: Outcome
    may_go_on: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a message at one host, by index of recipient.

    `idled_out`: nobody has an answer because the session had ended before the message, as far as one can tell: where
    it was a session that was kept, that says nothing of the host.
    """

    told: Mapping[int, Told]
    idled_out: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the host took it for everybody."""
        return all(isinstance(one.outcome, Delivered) for one in self.told.values())


async def send_message(
    claim: Claim, recipients: Sequence[Recipient], session: OpenSession, allow: Allow, read: ReadBody
) -> Sent:
    """Send the message of `claim` to these of its recipients, where the host has what it needs.

    `read` gives the octets of a body. Raises what it raises; the session is closed then.
    """
    host = session.observed.host
    lacking = unfit(claim, session.capabilities, host)
    if lacking is not None:
        return Sent({recipient.index: Told(lacking, may_go_on=True) for recipient in recipients})
    sender = claim.sender.wire if claim.sender is not None else b""
    wires = [recipient.address.wire for recipient in recipients]
    async with aclosing(read(claim.body)) as body:
        answers = await session.send(sender, wires, body, _options(claim, session), allow)
    told = {
        recipient.index: Told(*of_answer(answer, host, allow.tls))
        for recipient, answer in zip(recipients, without_552(answers), strict=True)
    }
    return Sent(told, idled_out=all(map(_idled_out, answers)))


def _options(claim: Claim, session: OpenSession) -> MailOptions:
    return MailOptions(
        size=claim.body.size,
        eight_bit=claim.eight_bit,
        smtputf8=claim.smtputf8 is not SmtpUtf8.UNASKED and session.capabilities.smtputf8,
        requiretls=claim.demand is TlsDemand.REQUIRED and session.observed.requiretls_offered,
    )


def unfit(claim: Claim, can: Capabilities, host: str) -> Failed | None:
    """What this message needs and this host lacks; another host may have it."""
    if can.size and claim.body.size > can.size:
        return Failed(TOO_LARGE_5_3_4, f"the message has {claim.body.size} octets and {host} takes {can.size}", host)
    if claim.smtputf8 is SmtpUtf8.NEEDED and not can.smtputf8:
        return Failed(SMTPUTF8_5_6_7, f"the message needs SMTPUTF8, which {host} does not offer", host)
    if claim.eight_bit and not can.eight_bit_mime:
        return Failed(EIGHT_BIT_5_6_3, f"the message has 8-bit octets and {host} does not offer 8BITMIME", host)
    return None


def without_552(answers: Sequence[Reply | Lost]) -> list[Reply | Lost]:
    """RFC 5321 section 4.5.3.1.10: 552 to some of the recipients means that so many were too many: 452.

    Not so a full mailbox (5.2.2), a message too large (5.3.4), or a 552 to all, which is about the message.
    """
    too_many = [
        isinstance(one, Reply) and one.code == 552 and (one.status.subject, one.status.detail) in ((0, 0), (5, 3))
        for one in answers
    ]
    if not any(too_many) or all(too_many):
        return list(answers)
    return [
        Reply.of(452, one.lines) if refused and isinstance(one, Reply) else one
        for one, refused in zip(answers, too_many, strict=True)
    ]


def _idled_out(answer: Reply | Lost) -> bool:
    """Whether a session that was kept says in this way that it had ended before the message."""
    return answer.code == 421 if isinstance(answer, Reply) else not answer.after_final_dot
