"""What the sender is told: failure and delay notices. Whether one is wanted, and its octets. Pure.

RFC 3461 section 6 (when), RFC 3464 (multipart/report with message/delivery-status), RFC 6533 section 3 (UTF-8
addresses), RFC 3834 (Auto-Submitted). A notice has the null sender, so none is ever sent about a notice.
"""

from __future__ import annotations

import quopri
import re
import textwrap
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from enum import Enum

from relay.mail.address import Address
from relay.mail.message import Claim, Envelope, InlineBody, MessageId, NewMessage, SmtpUtf8, TlsDemand
from relay.mail.outcome import Deferred, Failed, Outcome
from relay.policy.retry import SettledRecipient

HEADER_LIMIT = 65536  # octets of the original header that go back to the sender
_LONG_LINE = 900  # RFC 5322 §2.1.1 allows 998; leave room for what we put round it
_RECOGNISING = re.compile(rb"^(?:message-id|date)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]+")

# RFC 5321 basic codes for conditions that we found ourselves; the TLS ones are those that Exchange Online sends.
_BASIC_CODES = {(7, 4): 551, (7, 5): 551, (7, 6): 551, (4, 8): 551, (1, 10): 556}


class Kind(Enum):
    """Which notice."""

    FAILURE = "failure"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a notice says of itself: its queue id, the time, our name, and until when we go on trying."""

    id: MessageId
    now: datetime
    hostname: str
    retry_until: datetime


def compose(
    kind: Kind, claim: Claim, recipients: tuple[SettledRecipient, ...], original_header: bytes, stamp: Stamp
) -> NewMessage | None:
    """The notice about `recipients` of `claim`, ready for the queue; None when the message has the null sender.

    `original_header` is the header of the message as it was accepted; it is returned as text/rfc822-headers, but of a
    message that demands TLS all the way only what it takes to recognise it (RFC 8689 section 5).
    """
    if claim.sender is None or not recipients:
        return None  # RFC 5321 §4.5.5: never to the null sender
    confidential = claim.demand is TlsDemand.REQUIRED
    parts = (
        _text_part(_letter(kind, claim, recipients, stamp)),
        b"Content-Type: message/delivery-status\r\n\r\n" + _report(kind, claim, recipients, stamp),
        _header_part(_redacted(original_header) if confidential else original_header),
    )
    boundary = f"relay-{stamp.id}".encode()
    octets = _notice_header(kind, claim, recipients, stamp, boundary.decode())
    for part in parts:
        octets += b"--" + boundary + b"\r\n" + part + b"\r\n"
    octets += b"--" + boundary + b"--\r\n"
    return NewMessage(
        id=stamp.id,
        envelope=Envelope(None, (claim.sender,)),
        body=InlineBody(octets),
        arrived=stamp.now,
        message_id=f"{stamp.id}@{stamp.hostname}",
        smtputf8=SmtpUtf8.NEEDED if claim.sender.needs_smtputf8 else SmtpUtf8.UNASKED,
        eight_bit=not octets.isascii(),
        demand=TlsDemand.REQUIRED if confidential else TlsDemand.DEFAULT,
    )


def _notice_header(
    kind: Kind, claim: Claim, recipients: tuple[SettledRecipient, ...], stamp: Stamp, boundary: str
) -> bytes:
    first = recipients[0].recipient.address
    whom = _plain(first.wire.decode()) if first.text.isascii() or not first.needs_smtputf8 else "1 recipient"
    whom = whom if len(recipients) == 1 else f"{len(recipients)} recipients"
    subject = f"Undeliverable: your message to {whom}" if kind is Kind.FAILURE else f"Delayed: your message to {whom}"
    assert claim.sender is not None  # noqa: S101  (compose has looked)
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{stamp.hostname}>",
        f"To: <{claim.sender.wire.decode()}>",
        f"Subject: {subject}",
        f"Date: {format_datetime(stamp.now)}",
        f"Message-ID: <{stamp.id}@{stamp.hostname}>",
        *_threading(claim.message_id),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
    ]
    return ("\r\n".join(lines) + "\r\n\r\nThis is a delivery report in MIME format (RFC 3464).\r\n\r\n").encode()


def _threading(message_id: str | None) -> tuple[str, ...]:
    """So that mail programs show the notice beside the message; only an id that is safe in a header."""
    if message_id is None or not re.fullmatch(r"[\x21-\x7e]{1,200}", message_id) or set("<>") & set(message_id):
        return ()
    return (f"In-Reply-To: <{message_id}>", f"References: <{message_id}>")


def _letter(kind: Kind, claim: Claim, recipients: tuple[SettledRecipient, ...], stamp: Stamp) -> str:
    """The part for people."""
    failed = kind is Kind.FAILURE
    opening = (
        "could not be delivered to the recipients below, and it will not be tried again."
        if failed
        else "has not been delivered yet. You need do nothing: it is tried again and again, "
        f"until {format_datetime(stamp.retry_until)}."
    )
    paragraphs = [
        f"This is the mail server {stamp.hostname}.",
        f"Your message of {format_datetime(claim.arrived)} {opening}",
        *(_paragraph(failed, settled, stamp) for settled in recipients),
        f"Queue id of your message: {claim.id}. The technical report and the header of your message are attached.",
    ]
    return "\r\n\r\n".join(
        paragraph if paragraph.startswith("  ") else "\r\n".join(textwrap.wrap(paragraph, 76, break_long_words=False))
        for paragraph in paragraphs
    )


def _paragraph(failed: bool, settled: SettledRecipient, stamp: Stamp) -> str:
    outcome = _open_outcome(settled.outcome)
    lines = [f"  {settled.recipient.address}", f"What went wrong: {_plain(outcome.reason)}."]
    if outcome.reply is not None:
        lines.append(f"The words of {outcome.host or 'the receiving server'}: {_plain(outcome.reply.text)}")
    elif outcome.host is not None:
        lines.append(f"Receiving server: {outcome.host}")
    if isinstance(outcome, Failed) and outcome.expired:
        attempts = settled.recipient.attempts
        times = "once" if attempts == 1 else f"{attempts} times"
        lines.append(f"It was tried {times}, until its time ran out at {format_datetime(stamp.retry_until)}.")
    lines.append(f"Who can mend it: {advice(outcome)}")
    code = f"{_basic_code(outcome)} {outcome.status}" if failed else str(outcome.status)
    lines.append(f"Code: {code}")
    wrapped = (textwrap.wrap(line, 72, initial_indent="    ", subsequent_indent="      ") for line in lines[1:])
    return "\r\n".join([lines[0], *(line for block in wrapped for line in block)])


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
    if status in {(6, 3), (6, 7)} and outcome.reply is None:
        return (
            "you, by sending it in plain ASCII or to an address without special letters, or the administrators of the "
            "recipient's mail server, which is out of date."
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
    return "the administrators of the recipient's domain, or time: their mail server could not be reached."


def _report(kind: Kind, claim: Claim, recipients: tuple[SettledRecipient, ...], stamp: Stamp) -> bytes:
    """RFC 3464 section 2: the per-message fields, then a block for each recipient."""
    blocks = [
        [
            ("Reporting-MTA", f"dns; {stamp.hostname}"),
            ("X-Relay-Queue-ID", str(claim.id)),
            ("Arrival-Date", format_datetime(claim.arrived)),
        ]
    ]
    blocks += [_recipient_fields(kind, settled, stamp) for settled in recipients]
    return "\r\n".join("".join(_field(name, value) for name, value in block) for block in blocks).encode("ascii")


def _recipient_fields(kind: Kind, settled: SettledRecipient, stamp: Stamp) -> list[tuple[str, str]]:
    outcome = _open_outcome(settled.outcome)
    fields = [
        ("Final-Recipient", _typed_address(settled.recipient.address)),
        ("Action", "failed" if kind is Kind.FAILURE else "delayed"),
        ("Status", str(outcome.status)),
    ]
    if outcome.host is not None:
        fields.append(("Remote-MTA", f"dns; {outcome.host}"))
    if outcome.reply is not None:
        fields.append(("Diagnostic-Code", f"smtp; {_ascii(outcome.reply.text)}"))
    else:
        code = f"{_basic_code(outcome)} " if kind is Kind.FAILURE else ""
        fields.append(("Diagnostic-Code", f"x-relay; {code}{outcome.status} {_ascii(outcome.reason)}"))
    fields.append(("Last-Attempt-Date", format_datetime(stamp.now)))
    if kind is Kind.DELAY:
        fields.append(("Will-Retry-Until", format_datetime(stamp.retry_until)))
    return fields


def _basic_code(outcome: Deferred | Failed) -> int:
    if outcome.reply is not None and outcome.reply.code >= 500:
        return outcome.reply.code
    return _BASIC_CODES.get((outcome.status.subject, outcome.status.detail), 550)


def _open_outcome(outcome: Outcome) -> Deferred | Failed:
    if not isinstance(outcome, Deferred | Failed):
        raise TypeError("a recipient that is done with has no place in a failure or delay notice")
    return outcome


def _typed_address(address: Address) -> str:
    """RFC 3464 section 2.3.2; RFC 6533 section 3 (utf-8-addr-xtext) for what rfc822 cannot hold."""
    if not address.needs_smtputf8:
        return f"rfc822; {address.wire.decode()}"
    escaped = (c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):02X}}}" for c in address.text)
    return f"utf-8; {''.join(escaped)}"


def _field(name: str, value: str) -> str:
    """One field, folded at spaces so that no line is long. RFC 3464 section 2.1.1: RFC 5322 folding."""
    lines = textwrap.wrap(f"{name}: {value}", 76, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
    return "".join(f"{line[:_LONG_LINE]}\r\n" for line in lines)


def _text_part(text: str) -> bytes:
    octets = text.encode() + b"\r\n"
    return b"Content-Type: text/plain; charset=utf-8\r\n" + _encoded(octets)


def _header_part(original: bytes) -> bytes:
    """The original header, cut at a line's end when it is very long."""
    if len(original) > HEADER_LIMIT:
        original = original[: original.rfind(b"\r\n", 0, HEADER_LIMIT) + 2]
    return b"Content-Type: text/rfc822-headers\r\n" + _encoded(original)


def _redacted(original: bytes) -> bytes:
    return b"".join(field[0] for field in _RECOGNISING.finditer(original))


def _encoded(octets: bytes) -> bytes:
    """RFC 2045: as it is when every line is short ASCII, quoted-printable otherwise. Adds the blank line before it."""
    if octets.isascii() and all(len(line) <= _LONG_LINE for line in octets.split(b"\r\n")):
        return b"\r\n" + octets
    encoded = quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded


def _plain(text: str) -> str:
    return _UNPRINTABLE.sub(" ", text).strip().rstrip(".")


def _ascii(text: str) -> str:
    """RFC 3464 section 2.1.2: the report is 7-bit; what does not fit is shown as a question mark."""
    return _UNPRINTABLE.sub(" ", text).encode("ascii", "replace").decode().strip()
