"""The part for people: what happened to the message, for whom, and who can mend it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from email.utils import format_datetime

from relay.mail.message import Claim
from relay.mail.outcome import Cause, Deferred, Delivered, Dropped, Failed, State
from relay.ndr.due import Due, Kind, Stamp
from relay.ndr.report import basic_code, status_of
from relay.ndr.text import one_line, sentence
from relay.policy.retry import SettledRecipient

# How a reason ends that names the step of the session, and the step in other words.
_STEPS_BY_REASON = {
    "while connecting": "connecting to the mail host",
    "before its greeting": "being greeted by the mail host",
    "after EHLO": "being greeted by the mail host (EHLO)",
    "after STARTTLS": "making the session safe (STARTTLS)",
    "after AUTH": "logging in at the mail host (AUTH)",
    "after MAIL FROM": "naming the sender (MAIL)",
    "after RCPT TO": "naming the recipient (RCPT)",
    "after RCPT TO for another recipient": "naming another recipient (RCPT)",
    "after DATA": "sending the message (DATA)",
    "after BDAT": "sending the message (BDAT)",
    "in the middle of the message": "sending the message",
    "after the end of the message": "the mail host's word that it has the message, which may have arrived",
}
# The same where the host has answered: to what it says "later".
_CONSENT_BY_REASON = {
    "in its greeting": "to a session at all",
    "refused EHLO": "to a session at all (EHLO)",
    "refused EHLO and HELO": "to a session at all (EHLO)",
    "after MAIL FROM": "to the sender (MAIL)",
    "after RCPT TO": "to the recipient (RCPT)",
    "after RCPT TO for another recipient": "to another recipient of the message (RCPT)",
    "after DATA": "to being sent the message (DATA)",
    "after BDAT": "to the message (BDAT)",
    "in the middle of the message": "to the message, of which it has seen a part",
    "after the end of the message": "to the message, which it has seen whole",
}
_STEPS_BY_CAUSE = {
    Cause.DNS: "finding the mail host in DNS",
    Cause.TLS_POLICY: "making the session as safe as it must be (TLS)",
    Cause.LOGIN: "logging in to the next mail server",
    Cause.UNKNOWN: "the mail host's word that it has the message, which may have arrived",
    Cause.LOCAL: "the work of this server itself",
    Cause.OUTAGE: "reaching the mail host",
}
_WHETHER_IT_CAME = "The recipient can tell you whether it came: please ask before you send it again."
_NEEDS_LESS = {
    (3, 3): "without a time by which it must come back (DELIVERBY)",
    (6, 3): "in plain ASCII or to an address without special letters",
    (6, 7): "in plain ASCII or to an address without special letters",
}
_STEPS_BY_STATUS = {
    (3, 0): "the work of this server itself",
    (4, 1): "connecting to the mail host",
    (4, 2): "the conversation with the mail host, which broke off",
    (4, 3): "finding the mail host in DNS",
    (4, 4): "finding the mail host in DNS",
    (4, 8): "making the session as safe as it must be (TLS)",
    (7, 4): "making the session as safe as it must be (TLS)",
    (7, 5): "making the session as safe as it must be (TLS)",
    (7, 6): "making the session as safe as it must be (TLS)",
    (7, 10): "making the session as safe as it must be (TLS)",
    (7, 30): "making the session as safe as it must be (TLS)",
}


def letter(due: Due, claim: Claim, stamp: Stamp, attached: str) -> str:
    """The whole text, lines ended by CRLF. `attached`: what of the message goes back, in words."""
    whose = "the message" if due.kind is Kind.UNDELIVERABLE else "your message"
    return "\r\n\r\n".join(
        [
            _wrapped(f"This is the mail server {stamp.hostname}."),
            _wrapped(_opening(due, claim)),
            *(_paragraph(due.kind, settled, stamp) for settled in due.recipients),
            _wrapped(f"Queue id of {whose}: {claim.id}. Attached are the technical report and {attached}."),
        ]
    )


def _opening(due: Due, claim: Claim) -> str:
    of = f"of {format_datetime(claim.arrived)}"
    match due.kind:
        case Kind.FAILURE:
            return f"Your message {of} could not be delivered to the recipients below, and it will not be tried again."
        case Kind.DELAY:
            still = "still not" if any(one.delay_notices > 1 for one in due.recipients) else "not"
            late = any(one.overdue for one in due.recipients)
            return (
                f"Your message {of} has {still} been delivered to the recipients below"
                f"{f', which was to be by {_deadline(claim)}' * late}. You need do nothing: we "
                "go on with it, and you hear of it if it fails for good."
            )
        case Kind.RELAYED:
            return f"Your message {of} was handed on for the recipients below{_why_told_of_relaying(due, claim)}"
        case Kind.UNDELIVERABLE:
            return (
                f"A message {of} that has no sender to write to (a bounce or another automatic notice) could not be "
                "delivered to the recipients below, and it will not be tried again. Nobody but you is told. "
                "Where a bounce answers a forged sender there is nothing to mend."
            )


def _why_told_of_relaying(due: Due, claim: Claim) -> str:
    """The rest of the sentence, and what more there is to say."""
    by = claim.deliver_by
    if by is None or not all(isinstance(one.outcome, Delivered) and one.outcome.traced for one in due.recipients):
        return (
            ", to a mail server that does not report on delivery. You asked to be told of success; this is as much as "
            "can be said, unless that server says later that it failed."
        )
    if by.trace:
        return ". You asked to be told of each mail server that takes it."
    return (
        f", to a mail server that does not know of times by which mail is to be delivered. Whether it was there by "
        f"{_deadline(claim)}, as you wanted, will not be told."
    )


def _deadline(claim: Claim) -> str:
    return "the time that you gave" if claim.deliver_by is None else format_datetime(claim.deliver_by.time)


def _paragraph(kind: Kind, settled: SettledRecipient, stamp: Stamp) -> str:
    blocks = (
        textwrap.wrap(line, 72, initial_indent="    ", subsequent_indent="      ", break_long_words=False)
        for line in _lines(kind, settled, stamp)
    )
    address = one_line(str(settled.recipient.address))
    return "\r\n".join([f"  {address}", *(line for block in blocks for line in block)])


def _lines(kind: Kind, settled: SettledRecipient, stamp: Stamp) -> Iterator[str]:
    outcome = settled.outcome
    status = status_of(kind, settled)
    if isinstance(outcome, Delivered):
        yield f"Handed on to: {one_line(outcome.host)}"
        yield f"Its words: {one_line(outcome.reply.text)}"
        yield f"Code: {status}"
        return
    if isinstance(outcome, Dropped):
        raise TypeError("of what was dropped nobody is told")
    if kind is Kind.DELAY:
        yield f"What does not work yet: {failing_step(settled)}."
    yield f"What went wrong: {sentence(outcome.reason)}."
    if outcome.reply is not None:
        yield f"The words of {one_line(outcome.host or 'the receiving server')}: {sentence(outcome.reply.text)}"
    elif outcome.host is not None:
        yield f"Receiving server: {one_line(outcome.host)}"
    if isinstance(outcome, Failed) and outcome.expired:
        yield _patience(settled)
    if kind is Kind.DELAY:
        yield _prospects(settled)
    # The postmaster is none of those whom the advice is for.
    if kind is not Kind.UNDELIVERABLE and isinstance(outcome, Deferred | Failed):
        asks = settled.cause is Cause.UNKNOWN
        yield _WHETHER_IT_CAME if asks else f"Who can mend it: {advice(outcome)}"
    yield f"Code: {status}" if kind is Kind.DELAY else f"Code: {basic_code(outcome)} {status}"


def _patience(settled: SettledRecipient) -> str:
    """How often it was tried before we gave up, and when that was."""
    attempts = settled.recipient.attempts
    often = {0: "never tried", 1: "tried once"}.get(attempts, f"tried {attempts} times")
    when = "" if settled.expires is None else f" at {format_datetime(settled.expires)}"
    return f"It was {often}, until its time ran out{when}."


def _prospects(settled: SettledRecipient) -> str:
    """When it is tried next, and until when."""
    parts = []
    if settled.state is State.HELD:
        parts.append("It is on hold until the administrators of this server release it.")
    elif settled.next_attempt is not None:
        parts.append(f"The next try is at {format_datetime(settled.next_attempt)}.")
    if settled.expires is not None:
        parts.append(f"We give up at {format_datetime(settled.expires)}.")
    return " ".join(parts)


def failing_step(settled: SettledRecipient) -> str:
    """Which step of the delivery does not work, in words: from the reason, the reply, the status and the cause."""
    outcome = settled.outcome
    reason = "" if isinstance(outcome, Delivered) else outcome.reason
    if settled.cause is Cause.UNKNOWN:
        return _STEPS_BY_CAUSE[Cause.UNKNOWN]
    if outcome.reply is not None:
        to = _by_ending(_CONSENT_BY_REASON, reason)
        return f"the mail host's consent{'' if to is None else f' {to}'}; it wants to be asked again later"
    step = _by_ending(_STEPS_BY_REASON, reason)
    if step is not None:
        return step
    by_status = _STEPS_BY_STATUS.get((outcome.status.subject, outcome.status.detail))
    return by_status or _STEPS_BY_CAUSE.get(settled.cause or Cause.OTHER, "the delivery to the mail host")


def _by_ending(table: Mapping[str, str], reason: str) -> str | None:
    """The system's words may follow: `after MAIL FROM: connection reset by peer`."""
    return next((words for ending, words in table.items() if reason.endswith(ending) or f"{ending}: " in reason), None)


def advice(outcome: Deferred | Failed) -> str:
    """One sentence on who can mend what went wrong, from the status and from who found it."""
    status = (outcome.status.subject, outcome.status.detail)
    if status in {(7, 10), (7, 30)} and outcome.reply is None:
        return (
            "you, by sending it without the demand for TLS all the way, or the administrators of the recipient's "
            "mail server."
        )
    if status in {(7, 4), (7, 5), (7, 6), (4, 8)} and outcome.reply is None:
        return (
            "the administrators of the recipient's domain: their mail server, or what DNS says of it, is not as safe "
            "as they promise. Please tell them by another way; they will need the code and the sentence above."
        )
    if status in _NEEDS_LESS and outcome.reply is None:
        return (
            f"you, by sending it {_NEEDS_LESS[status]}, or the administrators of the recipient's mail server, which is "
            "out of date."
        )
    if status in {(1, 1), (1, 2), (1, 3), (1, 10)}:
        return "you: please check the address, every letter of it."
    if status in {(3, 4), (2, 3)}:
        return "you, by sending it in smaller pieces or by another way."
    if status == (2, 2):
        return "the recipient, whose mailbox is full."
    if outcome.reply is not None:
        return "the administrators of the receiving server, whose words are above."
    if status in {(3, 0), (7, 1)}:
        why = "who decided it" if status == (7, 1) else "which is short of something that it needs to send mail"
        return f"the administrators of this server, {why}."
    trouble = "DNS gives no answer about it" if status == (4, 3) else "their mail server could not be reached"
    return f"the administrators of the recipient's domain, or time: {trouble}."


def _wrapped(text: str) -> str:
    return "\r\n".join(textwrap.wrap(text, 76, break_long_words=False))
