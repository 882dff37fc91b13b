"""One message over a session that may carry it: what the host is told, and what each recipient comes to.

A host that takes so many recipients at a time gets the message several times over, each time for others of them. Which
hosts are tried, and what becomes of the session afterwards, is `relay.delivery.calling`.

RFC 5321 section 4.5.3.1.10 (too many recipients), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 8689
(REQUIRETLS), RFC 3461 (DSN), RFC 9422 (LIMITS), RFC 2852 (DELIVERBY), RFC 6710 (MT-PRIORITY).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

from relay.delivery.body import Outgoing, ReadBody, Sign, body_for
from relay.delivery.capabilities import Capabilities
from relay.delivery.content import PART_OCTETS
from relay.delivery.deadline import by_value, is_traced, is_untold, kept_back, with_delay
from relay.delivery.results import BROKEN_4_4_2, not_read, of_answer
from relay.delivery.smtp import MailOptions, OpenSession, domain_of
from relay.delivery.transaction import Lost, Stage
from relay.mail.message import Claim, Recipient, SmtpUtf8, TlsDemand
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import missed
from relay.policy.verdict import Allow
from relay.queue.store import StoreUnavailable

TOO_MANY_4_5_3 = Status(Kind.TEMPORARY, 5, 3)
TOO_LARGE_5_3_4 = Status(Kind.PERMANENT, 3, 4)
SMTPUTF8_5_6_7 = Status(Kind.PERMANENT, 6, 7)

Answer = Reply | Lost


@dataclass(frozen=True, slots=True)
class Told:
    """What one recipient comes to at this host. `may_go_on`: another host may still be tried for it."""

    outcome: Outcome
    may_go_on: bool


@dataclass(frozen=True, slots=True)
class Means:
    """What it takes besides a session: `read` gives the octets of a body.

    `max_recipients`: at once, at most; the host's own limit counts too. `sign`: None where no mail is signed.
    """

    read: ReadBody
    clock: Callable[[], datetime]
    max_recipients: int | None = None
    sign: Sign | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a message at one host, by index of recipient.

    `idled_out`: nobody has an answer because the session had ended before the message, as far as one can tell: where
    it was a session that was kept, that says nothing of the host. `full`: the session takes no more of the recipients,
    and another one with the same host is likely to.
    """

    told: Mapping[int, Told]
    idled_out: bool = False
    full: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the host took it for everybody."""
        return all(isinstance(one.outcome, Delivered) for one in self.told.values())


async def send_message(
    claim: Claim,
    recipients: Sequence[Recipient],
    session: OpenSession,
    allow: Allow,
    means: Means,
) -> Sent:
    """Send the message of `claim` to these of its recipients, where the host has what it needs.

    Where the queue cannot be read the message waits; what else that raises comes through. The session is closed then.
    """
    can, host = session.capabilities, session.observed.host
    body: Outgoing | Failed | Deferred
    try:
        body = unfit(claim, can, host, means.clock()) or await body_for(claim, can, host, means.read)
        if means.sign is not None and isinstance(body, Outgoing):
            body = await means.sign(claim, body, means.clock())  # over what this host gets, for all its transactions
            body = _too_long(body.size, can, host) or body
    except StoreUnavailable as error:
        session.close()
        body = not_read(error)
    except BaseException:
        session.close()
        raise
    if isinstance(body, Failed | Deferred):
        return Sent({recipient.index: Told(body, may_go_on=True) for recipient in recipients})
    sending = _Sending(claim, session, allow, body, means.clock)
    await sending.run(list(recipients), means.max_recipients)
    return Sent(sending.told, sending.idled_out, sending.full)


class _Sending:
    """One message to one host: as many transactions as it takes. See `Sent` for what is there after `run`."""

    def __init__(
        self, claim: Claim, session: OpenSession, allow: Allow, body: Outgoing, clock: Callable[[], datetime]
    ) -> None:
        self.told: dict[int, Told] = {}
        self.idled_out = False
        self.full = False
        self._claim = claim
        self._session = session
        self._host = session.observed.host
        self._allow = allow
        self._body = body
        self._clock = clock
        self._sent: datetime = clock()  # the last MAIL
        self._taken = False  # over this session, for somebody

    async def run(self, waiting: list[Recipient], max_recipients: int | None) -> None:
        """Each transaction has fewer recipients before it than the last one, or gives up BDAT: it comes to an end."""
        session = self._session
        while waiting:
            self._sent = self._clock()
            late = {recipient.index: missed(self._claim, recipient, self._sent) for recipient in waiting}
            self.told.update((index, Told(failed, may_go_on=False)) for index, failed in late.items() if failed)
            if any(late.values()):  # the time is the same for all
                return
            waiting, apart = _set_apart(waiting)
            batch, rest = _divide(waiting, session, max_recipients)
            rest += apart
            if not batch:
                self.full = True
                self._leave(rest, self._more_later("domains"))
                return
            try:
                answers = await self._transact(batch)
            except StoreUnavailable as error:  # those who have it must not get it again for that
                self._leave(batch + rest, not_read(error))
                return
            self.idled_out = not self.told and all(_idled_out(one, session.took_mail) for one in answers)
            waiting = self._settle(batch, answers) + rest
            if waiting and not (session.took_mail and session.reusable()):
                self.full = self._taken or session.exhausted
                if isinstance(answers[0], Reply) and not session.took_mail:
                    self._leave(rest, answers[0])  # it is about the sender, or the session: they would hear the same
                elif session.exhausted:
                    self._leave(rest, self._more_later("messages"))
                else:
                    ended = f"{self._host} ended the session before it had heard of this recipient"
                    self._leave(rest, Deferred(BROKEN_4_4_2, ended, self._host, cause=Cause.OUTAGE))
                return

    async def _transact(self, batch: list[Recipient]) -> tuple[Answer, ...]:
        claim, session = self._claim, self._session
        sender = claim.sender.wire if claim.sender is not None else b""
        wires = [recipient.address.wire for recipient in batch]
        options = mail_options(claim, batch, session, self._body, self._sent)
        async with aclosing(self._body.read()) as octets:
            return await session.send(sender, wires, octets, options, self._allow)

    def _settle(self, batch: list[Recipient], answers: Sequence[Answer]) -> list[Recipient]:
        """Take the answers. Returns those of the batch that this host should hear of again, in another transaction."""
        answers = without_552(answers, self._taken)
        answered = zip(answers, batch, self._session.stages, strict=True)
        told = [self._of_answer(answer, recipient, stage) for answer, recipient, stage in answered]
        delivered = 0
        for recipient, one in zip(batch, told, strict=True):
            self.told[recipient.index] = one
            delivered += isinstance(one.outcome, Delivered)
        self._taken = self._taken or delivered > 0
        if delivered == len(batch):
            return []
        without_bdat = self._session.reusable() and not self._session.capabilities.chunking
        return [
            recipient
            for recipient, answer in zip(batch, answers, strict=True)
            if (delivered and _too_many(answer))  # with no progress it would go on for ever
            or (
                self._taken and _idled_out(answer, took_mail=True)
            )  # an end after so many messages, and nothing of the host
            or (without_bdat and isinstance(answer, Lost) and answer.stage is Stage.CHUNK)
        ]

    def _of_answer(self, answer: Answer, recipient: Recipient, stage: Stage) -> Told:
        outcome, may_go_on = of_answer(answer, stage, self._host, self._allow.tls)
        if isinstance(outcome, Delivered) and self._session.capabilities.dsn and _asks_dsn(self._claim, [recipient]):
            outcome = replace(outcome, dsn=True)
        if isinstance(outcome, Delivered) and is_traced(self._claim, self._session.capabilities, self._sent):
            outcome = replace(outcome, traced=True)
        if isinstance(outcome, Failed) and not self._session.took_mail and _too_large(outcome.reply):
            may_go_on = True  # RFC 1870 §6.1: as if it had said so with SIZE; another host may take more
        return Told(outcome, may_go_on)

    def _more_later(self, what: str) -> Deferred:
        reason = f"{self._host} takes no more {what} over one session"
        return Deferred(TOO_MANY_4_5_3, reason, self._host, cause=Cause.THROTTLING)

    def _leave(self, rest: list[Recipient], why: Reply | Deferred) -> None:
        """These were not asked about."""
        for recipient in rest:
            if isinstance(why, Reply):
                self.told[recipient.index] = self._of_answer(why, recipient, Stage.MAIL)
            else:
                self.told[recipient.index] = Told(why, may_go_on=True)


def mail_options(
    claim: Claim, recipients: Sequence[Recipient], session: OpenSession, body: Outgoing, now: datetime
) -> MailOptions:
    """What this host is told of the message, and how it gets it."""
    can = session.capabilities
    untold = is_untold(claim, can, now)
    passes_dsn = can.dsn and (untold or _asks_dsn(claim, recipients))
    asked = [with_delay(recipient.dsn) if untold else recipient.dsn for recipient in recipients]
    return MailOptions(
        size=body.size,
        eight_bit=body.eight_bit,
        # RFC 6531 §3.4: not for a message that can do without, whatever the client asked for. Many ask always, and the
        # next host but one, which may lack it, would have to send such a message back.
        smtputf8=claim.smtputf8 is SmtpUtf8.NEEDED,
        requiretls=claim.demand is TlsDemand.REQUIRED and session.observed.requiretls_offered,
        # A message that comes again goes with DATA: whatever is wrong with a host's BDAT, it is not stuck for ever.
        chunks=can.chunking and _gains_by_bdat(body, can) and all(one.attempts <= 1 for one in recipients),
        # RFC 3461 §5.2.2: a host without DSN is told nothing of it; the reports that it will not send are ours. An
        # empty reverse-path for those with NOTIFY=NEVER, which is allowed there, is not for us: hosts trust it less.
        dsn=claim.dsn if passes_dsn else None,
        rcpts=asked if passes_dsn else (),
        by=by_value(claim, can, now),
        priority=claim.priority if can.mt_priority else None,
    )


def _gains_by_bdat(body: Outgoing, can: Capabilities) -> bool:
    """Whether BDAT is faster: it saves the wait for 354, and with PIPELINING only the dots (docs/adr/0014)."""
    return not can.pipelining or body.size is None or body.size > PART_OCTETS


def unfit(claim: Claim, can: Capabilities, host: str, now: datetime) -> Failed | None:
    """What this message needs and this host lacks; another host may have it."""
    too_long = _too_long(claim.body.size, can, host)
    if too_long is not None:
        return too_long
    if claim.smtputf8 is SmtpUtf8.NEEDED and not can.smtputf8:
        return Failed(SMTPUTF8_5_6_7, f"the message needs SMTPUTF8, which {host} does not offer", host)
    return kept_back(claim, can, host, now)


def _too_long(size: int | None, can: Capabilities, host: str) -> Failed | None:
    if not can.size or size is None or size <= can.size:
        return None
    return Failed(TOO_LARGE_5_3_4, f"the message has {size} octets and {host} takes {can.size}", host)


def without_552(answers: Sequence[Answer], taken: bool) -> Sequence[Answer]:
    """RFC 5321 section 4.5.3.1.10: 552 to some of the recipients means that so many were too many: 452.

    Not so a full mailbox (5.2.2), a message too large (5.3.4), or a 552 to all, which is about the message, unless the
    host has `taken` it for others.
    """
    if 552 not in [one.code for one in answers if isinstance(one, Reply)]:
        return answers
    too_many = [
        isinstance(one, Reply) and one.code == 552 and (one.status.subject, one.status.detail) in ((0, 0), (5, 3))
        for one in answers
    ]
    if not any(too_many) or (all(too_many) and not taken):
        return answers
    return [
        Reply.of(452, one.lines) if refused and isinstance(one, Reply) else one
        for one, refused in zip(answers, too_many, strict=True)
    ]


def _ended_it(recipient: Recipient) -> bool:
    """Whether the last session ended with this recipient, by 421 or without a word: it may do so each time."""
    last = recipient.last
    if last is None or (last.reply is not None and last.reply.code != 421):
        return False
    return Stage.RCPT.value in last.reason and Stage.OTHER_RCPT.value not in last.reason


def _set_apart(waiting: list[Recipient]) -> tuple[list[Recipient], list[Recipient]]:
    """Those that keep nobody from the message, and those that may, for later and one by one."""
    apart = [recipient for recipient in waiting if _ended_it(recipient)]
    if not apart or len(waiting) == 1:
        return waiting, []
    others = [recipient for recipient in waiting if not _ended_it(recipient)]
    return (others, apart) if others else (apart[:1], apart[1:])


def _divide(
    waiting: list[Recipient], session: OpenSession, max_recipients: int | None
) -> tuple[list[Recipient], list[Recipient]]:
    """Those that go together now, and the rest. RFC 9422 section 4."""
    limits = session.capabilities.limits
    if max_recipients is None and limits.rcpts is None and limits.domains is None:
        return waiting, []
    most = min(limit for limit in (len(waiting), limits.rcpts, max_recipients) if limit is not None)
    domains = set(session.domains)
    batch: list[Recipient] = []
    rest: list[Recipient] = []
    for recipient in waiting:
        domain = domain_of(recipient.address.wire)
        is_new = limits.domains is not None and domain not in domains
        if len(batch) >= most or (is_new and len(domains) >= (limits.domains or 0)):
            rest.append(recipient)
        else:
            batch.append(recipient)
            domains.add(domain)
    return batch, rest


def _asks_dsn(claim: Claim, recipients: Sequence[Recipient]) -> bool:
    message = claim.dsn
    if message.ret is not None or message.envid is not None:
        return True
    return any(one.dsn.notify is not None or one.dsn.orcpt is not None for one in recipients)


def _too_many(answer: Answer) -> bool:
    """Whether it says that so many recipients at once were too many. RFC 5321 section 4.5.3.1.10."""
    if isinstance(answer, Lost) or answer.status.kind is not Kind.TEMPORARY or answer.code == 421:
        return False
    status = answer.status
    return (
        (answer.code == 452 and status.subject != 2)  # x.2.2: the mailbox is full
        or (status.subject, status.detail) == (5, 3)
        or "too many recipients" in answer.text.lower()
    )


def _too_large(reply: Reply | None) -> bool:
    return reply is not None and (reply.code == 552 or (reply.status.subject, reply.status.detail) == (3, 4))


def _idled_out(answer: Answer, took_mail: bool) -> bool:
    """Whether a session says in this way that it had ended before the message, or has lost its thread (503 to MAIL).

    Not so one that ends at BDAT: it took MAIL and RCPT, and may have taken the message for commands.
    """
    if isinstance(answer, Reply):
        return answer.code == 421 or (answer.code == 503 and not took_mail)  # RFC 5321 §4.2.3: bad sequence
    return not answer.after_final_dot and answer.stage is not Stage.CHUNK
