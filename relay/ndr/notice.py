"""The octets of a notice: a letter, a report and what goes back of the message.

RFC 3464 section 2 and RFC 6522 (multipart/report), RFC 6533 section 4 (UTF-8), RFC 3834 (Auto-Submitted).
"""

from __future__ import annotations

import re
from email.header import Header
from email.utils import format_datetime

from relay.mail.message import Claim, Envelope, InlineBody, NewMessage, Notify, RecipientDsn, SmtpUtf8, TlsDemand
from relay.ndr.due import Due, Kind, Stamp
from relay.ndr.letter import letter
from relay.ndr.report import report_part
from relay.ndr.returned import encoded, returned
from relay.ndr.text import one_line

_SUBJECTS = {
    Kind.FAILURE: "Undeliverable: your message to",
    Kind.DELAY: "Delayed: your message to",
    Kind.RELAYED: "Handed on: your message to",
    Kind.UNDELIVERABLE: "Undeliverable bounce to",
}


def compose(due: Due, claim: Claim, original: bytes, stamp: Stamp) -> NewMessage:
    """The notice, ready for the queue.

    `original`: the message as it was accepted, whole where `due.returns_whole` says so, at least its header otherwise.
    Raises TypeError for an outcome that the kind of notice cannot speak of.
    """
    back = returned(due, claim, original)
    text = letter(due, claim, stamp, back.words).encode() + b"\r\n"
    parts = (
        b"Content-Type: text/plain; charset=utf-8\r\n" + encoded(text),
        report_part(due, claim, stamp),
        back.part,
    )
    boundary = f"relay-{stamp.id}"
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    eight_bit = not body.isascii()
    octets = _header(due, claim, stamp, boundary, eight_bit) + body + f"--{boundary}--\r\n".encode()
    return NewMessage(
        id=stamp.id,
        # RFC 3461 §6.1: no notice is wanted about this one.
        envelope=Envelope(None, (due.to,), (RecipientDsn(Notify.NEVER),)),
        body=InlineBody(octets),
        arrived=stamp.now,
        message_id=f"{stamp.id}@{stamp.hostname}",
        smtputf8=SmtpUtf8.NEEDED if due.to.needs_smtputf8 else SmtpUtf8.UNASKED,
        eight_bit=not octets.isascii(),
        # RFC 8689 §5: what is told of a confidential message is confidential.
        demand=TlsDemand.REQUIRED if claim.demand is TlsDemand.REQUIRED else TlsDemand.DEFAULT,
        notice=due.kind.value,
        priority=claim.priority,  # RFC 6710 §4.6
    )


def _header(due: Due, claim: Claim, stamp: Stamp, boundary: str, eight_bit: bool) -> bytes:
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{stamp.hostname}>",
        f"To: <{due.to.local}@{due.to.domain}>",
        f"Subject: {_subject(due)}",
        f"Date: {format_datetime(stamp.now)}",
        f"Message-ID: <{stamp.id}@{stamp.hostname}>",
        *_threading(claim.message_id),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
        *(("Content-Transfer-Encoding: 8bit",) if eight_bit else ()),  # RFC 2045 §6.4
    ]
    return ("\r\n".join(lines) + "\r\n\r\nThis is a delivery report in MIME format (RFC 3464).\r\n\r\n").encode()


def _subject(due: Due) -> str:
    """Whom it is about, in RFC 2047's words where it is not ASCII."""
    whom = f"{len(due.recipients)} recipients"
    if len(due.recipients) == 1:
        whom = one_line(str(due.recipients[0].recipient.address))
    subject = f"{_SUBJECTS[due.kind]} {whom}"
    return subject if subject.isascii() else Header(subject, "utf-8", header_name="Subject").encode(linesep="\r\n")


def _threading(message_id: str | None) -> tuple[str, ...]:
    """So that mail programs show the notice beside the message; only an id that is safe in a header."""
    if message_id is None or not re.fullmatch(r"[\x21-\x7e]{1,200}", message_id) or set("<>") & set(message_id):
        return ()
    return (f"In-Reply-To: <{message_id}>", f"References: <{message_id}>")
