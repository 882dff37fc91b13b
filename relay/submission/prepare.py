"""What becomes of a message's header section before it is stored, and whom it may name as author. Pure.

RFC 6409 section 8 (what a submission server may add), RFC 5322 section 3.6. Fields are added at the top and whole
fields are taken out; the others stay octet for octet and in their order, so that a signature of the client still fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from relay.mail.address import Address, AddressError, parse_address
from relay.mail.date import is_date
from relay.mail.header import Header, has_blank_line
from relay.mail.mailboxes import Mailboxes, parse_mailboxes, shown
from relay.mail.status import Reply
from relay.policy.clients import Headers
from relay.submission import replies
from relay.submission.lines import MAX_LINE_OCTETS, long_line

# Bcc: RFC 5322 §3.6.3. Return-Path: RFC 5321 §4.4, only the host that delivers writes it.
_REMOVED = frozenset({b"bcc", b"resent-bcc", b"return-path"})
_AUTHORS = {b"from": "From", b"sender": "Sender", b"resent-from": "Resent-From"}
_MAX_RESENT = 20
_AMBIGUOUS = re.compile(r"[@<>,:;()\\\s]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Treatment:
    """How to treat one message's header. `message_id` (no brackets) and `now` are for fields that are missing.

    `may_name`: whether a From, Sender or Resent-From field may name an address; None: any.
    """

    headers: Headers
    sender: Address | None
    message_id: str
    now: datetime
    may_name: Callable[[Address], bool] | None = None

    @property
    def strict(self) -> bool:
        """Whether each line of the header must be understood."""
        return self.headers is not Headers.LEAVE or self.may_name is not None


def prepare(octets: bytes, treatment: Treatment) -> Header | Reply:
    """The header section as it is to be stored, or the refusal of the message.

    `octets`: whole lines, each with its CRLF, and all of them fields if the treatment is strict.
    """
    header = Header(octets)
    if treatment.headers is not Headers.LEAVE:
        header = header.without(_REMOVED)
        froms = header.count(b"from")
        if froms > 1:
            return replies.bad_header(f"The message has {froms} From fields, one is allowed")
        done = _fixed(header, treatment) if treatment.headers is Headers.FIX else _judged(header)
        if isinstance(done, Reply):
            return done
        header = done
    refusal = None if treatment.may_name is None else _author_refusal(header, treatment.may_name)
    return header if refusal is None else refusal


def _fixed(header: Header, treatment: Treatment) -> Header:
    added = b""
    if not header.count(b"message-id"):
        added += b"Message-ID: <%s>\r\n" % treatment.message_id.encode()
    if not header.count(b"date"):
        added += b"Date: %s\r\n" % format_datetime(treatment.now.replace(microsecond=0)).encode()
    if not header.count(b"from"):
        added += b"From: %s\r\n" % _author(treatment)
    return Header(added + header.octets) if added else header


def _author(treatment: Treatment) -> bytes:
    """Who may stand for the author that is missing: the envelope sender, or for the null sender this machine."""
    if treatment.sender is not None:
        return treatment.sender.wire
    return f"MAILER-DAEMON@{treatment.message_id.rpartition('@')[2]}".encode()


def _judged(header: Header) -> Header | Reply:
    for name, title in ((b"from", "From"), (b"date", "Date"), (b"message-id", "Message-ID")):
        if not header.count(name):
            return replies.bad_header(f"The message has no {title} field")
    if not _mailboxes(header.values(b"from")[0]).addresses:
        return replies.bad_header("The From field has no address, or not in the form that RFC 5322 asks for")
    dates = header.values(b"date")
    if len(dates) > 1:
        return replies.bad_header(f"The message has {len(dates)} Date fields, one is allowed")
    if not is_date(dates[0]):
        return replies.bad_header("The Date field has no date in the form that RFC 5322 asks for")
    return header


def _mailboxes(value: bytes) -> Mailboxes:
    """What it names; nothing when that cannot be read."""
    try:
        return parse_mailboxes(value)
    except AddressError:
        return Mailboxes((), ())


def _author_refusal(header: Header, may_name: Callable[[Address], bool]) -> Reply | None:
    """Why this client may not send this header; None: it may.

    Readers of mail must see no author but those that were looked at, so what they could take in two ways is refused.
    """
    if _CONTROL.search(header.octets):
        return replies.author_refused("the header has a control character")
    if long_line(header.octets) is not None:
        return replies.author_refused(f"the header has a line of more than {MAX_LINE_OCTETS} octets")
    if header.count(b"from") != 1:
        return replies.author_refused(f"the message has {header.count(b'from') or 'no'} From fields, it must have one")
    if header.count(b"sender") > 1 or header.count(b"resent-from") > _MAX_RESENT:
        return replies.author_refused("the message has too many Sender or Resent-From fields")
    for name, title in _AUTHORS.items():
        for value in header.values(name):
            problem = _author_problem(value, may_name)
            if problem is not None:
                return replies.author_refused(f"{title}: {problem}")
    return None


def _author_problem(value: bytes, may_name: Callable[[Address], bool]) -> str | None:
    if has_blank_line(value):
        return "it has an empty line in it"
    try:
        mailboxes = parse_mailboxes(value)
        if not mailboxes.addresses:
            return "it names no address"
        if any(_AMBIGUOUS.search(shown(address.local)) for address in mailboxes.addresses):
            return "an address has something in its local part that looks like the end of it"
        named = (*mailboxes.addresses, *map(_address_in_name, mailboxes.addresses_in_names()))
    except AddressError as error:
        return str(error)
    strange = next((address for address in named if not may_name(address)), None)
    return None if strange is None else f"{strange} is not an address that you may use"


def _address_in_name(word: str) -> Address:
    try:
        return parse_address(word.encode())
    except AddressError:
        raise AddressError(f"a name has {word} in it, which looks like an address") from None
