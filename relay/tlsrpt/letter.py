"""The mail that carries a TLS report to a mailbox: a few plain words for a person, and the report for a program. Pure.

RFC 8460 section 5.3 (multipart/report with report-type=tlsrpt, Subject, TLS-Report-*) and section 3 (signed, whatever
TLS there is), RFC 8689 section 5 (TLS-Required), RFC 3834 (Auto-Submitted), RFC 6710 (priority).
"""

from __future__ import annotations

import textwrap
from base64 import encodebytes
from dataclasses import dataclass
from datetime import date, datetime
from email.utils import format_datetime

from relay.mail.address import Address
from relay.mail.message import (
    Envelope,
    InlineBody,
    MessageId,
    NewMessage,
    Notify,
    Once,
    RecipientDsn,
    SmtpUtf8,
    TlsDemand,
)
from relay.ndr.returned import encoded
from relay.ndr.text import one_line

PRIORITY = -4  # a night's reports for thousands of domains must not stand before people's mail


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who reports: the address that reports come from, the organisation's name, and whom to ask (empty: nobody)."""

    sender: Address
    organization: str
    contact: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How many sessions succeeded and failed under one policy; a session counts under each policy that held for it."""

    policy: str  # its type, such as sts
    domain: str
    successful: int
    failed: int


@dataclass(frozen=True, slots=True)
class Enclosed:
    """A report: about which domain and day (UTC), what it counts, and its octets (gzip) and file name.

    `id` is the report-id of its JSON.
    """

    id: str
    domain: str
    day: date
    counts: tuple[Counts, ...]
    file_name: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Postmark:
    """What the mail has beside the report: queue id, time, our name, and the key under which it is queued once."""

    id: MessageId
    now: datetime
    hostname: str
    once: Once | None = None


def letter(report: Enclosed, submitter: Submitter, to: Address, postmark: Postmark) -> NewMessage:
    """The mail with `report` to one mailbox, ready for the queue."""
    boundary = f"relay-{postmark.id}"
    parts = (_words(report, submitter), _attachment(report))
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    header = _header(report, submitter, to, postmark, boundary)
    octets = header + b"\r\n" + body + f"--{boundary}--\r\n".encode()
    utf8 = to.needs_smtputf8 or submitter.sender.needs_smtputf8
    return NewMessage(
        id=postmark.id,
        envelope=Envelope(submitter.sender, (to,), (RecipientDsn(Notify.NEVER),)),  # no loops: nobody hears of it
        body=InlineBody(octets),
        arrived=postmark.now,
        message_id=f"{postmark.id}@{postmark.hostname}",
        eight_bit=not octets.isascii(),
        smtputf8=SmtpUtf8.NEEDED if utf8 else SmtpUtf8.UNASKED,
        demand=TlsDemand.WAIVED,  # RFC 8460 §3: it must arrive where TLS is what is broken
        priority=PRIORITY,
        once=postmark.once,
        report=True,
    )


def _header(report: Enclosed, submitter: Submitter, to: Address, postmark: Postmark, boundary: str) -> bytes:
    domain, by = report.domain, submitter.sender.domain
    fields = (
        f"From: <{_mailbox(submitter.sender)}>",
        f"To: <{_mailbox(to)}>",
        # RFC 8460 §5.3: tlsrpt-subject. It may be folded before each word, and the names in it are long.
        f"Subject: Report Domain: {domain}\r\n Submitter: {by}\r\n Report-ID: <{_message_id(report.id, by)}>",
        f"TLS-Report-Domain: {domain}",
        f"TLS-Report-Submitter: {by}",
        f"Date: {format_datetime(postmark.now)}",
        f"Message-ID: <{postmark.id}@{postmark.hostname}>",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"',
    )
    return "".join(f"{field}\r\n" for field in fields).encode()


def _mailbox(address: Address) -> str:
    return address.wire.decode()


def _message_id(report_id: str, domain: str) -> str:
    return report_id if "@" in report_id else f"{report_id}@{domain}"


def _words(report: Enclosed, submitter: Submitter) -> bytes:
    whose = one_line(submitter.organization)
    ask = f" Whoever has questions may ask {one_line(submitter.contact)}." if submitter.contact else ""
    counts = (
        f"  {one.policy} ({one.domain}): {one.successful} succeeded, {one.failed} failed" for one in report.counts
    )
    paragraphs = (
        _wrapped(
            f"{whose} sends mail to {report.domain}. This is what its mail servers met there with TLS, the encryption "
            f"of connections, on {report.day:%Y-%m-%d} (UTC). Sessions, by the policy that they were held to:"
        ),
        "\r\n".join(counts),
        _wrapped(
            "The attached file says more of it, for programs that read such reports (RFC 8460). You get it because the "
            f"DNS record _smtp._tls.{report.domain} asks for it.{ask}"
        ),
    )
    text = "\r\n\r\n".join(paragraphs) + "\r\n"
    return b"Content-Type: text/plain; charset=utf-8\r\n" + encoded(text.encode())


def _wrapped(text: str) -> str:
    return "\r\n".join(textwrap.wrap(text, 76, break_long_words=False))


def _attachment(report: Enclosed) -> bytes:
    head = (
        "Content-Type: application/tlsrpt+gzip\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment;\r\n filename="{report.file_name}"\r\n\r\n'
    )
    return head.encode() + encodebytes(report.octets).replace(b"\n", b"\r\n")
