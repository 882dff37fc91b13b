"""A new message from its parts: text, HTML, attachments, and the fields of its header, as octets with CRLF. Pure.

RFC 5322, RFC 2045 to 2047, RFC 2387 (pictures that HTML shows), RFC 2231 (names of files). The body is 7-bit, so that
no host has to change it. The standard library's email package makes the body; the header is made here: the package
takes addresses apart and puts them together anew, and encodes words that are merely long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import EmailMessage, MIMEPart
from email.policy import SMTP
from email.utils import format_datetime, formataddr

from relay.mail.address import Address, AddressError, parse_address

_FORM = re.compile(r'\s*(?:"?(?P<name>[^<>]*?)"?\s*<(?P<inner>[^<>]+)>|(?P<bare>[^<>]+?))\s*\Z')
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TYPE = re.compile(r"([a-z0-9][a-z0-9!#$&^_.+-]{0,126})/([a-z0-9][a-z0-9!#$&^_.+-]{0,126})\Z", re.IGNORECASE)
_CID = re.compile(r"[!-;=?-~]{1,200}\Z")  # no brackets, no blanks
_MAX_MAILBOX = 1000  # characters: what finds the name in a longer one could take minutes
_MAX_FIELD = 32 * 1024  # of what a field says; RFC 5322 knows no limit, others do
_POLICY = SMTP.clone(cte_type="7bit")
# What other parts of the letter say, or others than its author.
_NOT_TO_BE_GIVEN = frozenset(
    ("from", "to", "cc", "bcc", "reply-to", "subject", "mime-version", "received", "return-path", "resent-bcc")
)


class LetterError(ValueError):
    """A part of a letter that cannot be so. `part`: which; the text says why."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(problem)
        self.part = part


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address, and the name before it, which may be empty."""

    name: str
    address: Address


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file. `type`: its media type. `cid`: by which the HTML shows it (`cid:...`); None: it is not shown there."""

    name: str
    type: str
    octets: bytes
    cid: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """What a letter is made of. `date` and `message_id` (no brackets) are used unless `headers` has such fields."""

    author: Mailbox
    date: datetime
    message_id: str
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()


def read_mailbox(text: str) -> Mailbox:
    """Read `a@example.org` or `Name <a@example.org>`. Raises AddressError."""
    if len(text) > _MAX_MAILBOX:
        raise AddressError(f"must not have more than {_MAX_MAILBOX} characters")
    found = _FORM.match(text)
    if found is None or _CONTROL.search(text):
        raise AddressError("must be an address, or a name and an address in < >")
    address = parse_address((found["inner"] or found["bare"]).strip().encode("utf-8", "surrogatepass"))
    if not address.domain:
        raise AddressError("the address has no @ and domain")
    return Mailbox(re.sub(r"\\(.)", r"\1", (found["name"] or "").strip()), address)


def write(letter: Letter) -> bytes:
    """The octets of the message. Raises LetterError."""
    given = {name.lower() for name, _ in letter.headers}
    fields = [_addresses("From", (letter.author,))]
    fields += [_addresses(name, value) for name, value in _address_fields(letter) if value]
    if letter.subject:
        fields.append(_field("Subject", letter.subject, "subject"))
    if "date" not in given:
        fields.append(f"Date: {format_datetime(letter.date.replace(microsecond=0))}")
    if "message-id" not in given:
        fields.append(f"Message-ID: <{letter.message_id}>")
    fields += [_given(name, value) for name, value in letter.headers]
    head = "".join(f"{field}\r\n" for field in fields).encode()
    return head + _body(letter).as_bytes(policy=_POLICY)


def _address_fields(letter: Letter) -> tuple[tuple[str, tuple[Mailbox, ...]], ...]:
    return ("To", letter.to), ("Cc", letter.cc), ("Reply-To", letter.reply_to)


def _addresses(name: str, mailboxes: tuple[Mailbox, ...]) -> str:
    """Each on a line of its own. Names that are not ASCII as encoded words (RFC 2047), addresses as they are."""
    return f"{name}: " + ",\r\n ".join(_shown(mailbox) for mailbox in mailboxes)


def _shown(mailbox: Mailbox) -> str:
    address = mailbox.address.wire.decode()
    if _CONTROL.search(mailbox.name):
        raise LetterError("from", "a name must not have control characters or line ends")
    if not mailbox.name:
        return address
    if mailbox.name.isascii():
        return formataddr((mailbox.name, "x")).removesuffix("<x>") + f"<{address}>"
    return f"{Header(mailbox.name, 'utf-8', 60).encode(linesep=chr(13) + chr(10))} <{address}>"


def _given(name: str, value: str) -> str:
    part = f"headers.{name}"
    if not _FIELD_NAME.match(name):
        raise LetterError("headers", f"{name!r} cannot be the name of a field")
    if name.lower() in _NOT_TO_BE_GIVEN or name.lower().startswith("content-"):
        raise LetterError(part, "cannot be given among the headers")
    return _field(name, value, part)


def _field(name: str, value: str, part: str) -> str:
    if _CONTROL.search(value):
        raise LetterError(part, "must not have control characters or line ends")
    if len(value) > _MAX_FIELD:
        raise LetterError(part, f"must not have more than {_MAX_FIELD} characters")
    encoded = Header(value, "us-ascii" if value.isascii() else "utf-8", 76, name).encode(linesep="\r\n")
    return f"{name}: {encoded}"


def _body(letter: Letter) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    if letter.text is not None or letter.html is None:
        message.set_content(_sound(letter.text or "", "text"), charset="utf-8")
    if letter.html is not None:
        if letter.text is not None:
            message.add_alternative(_sound(letter.html, "html"), subtype="html", charset="utf-8")
        else:
            message.set_content(_sound(letter.html, "html"), subtype="html", charset="utf-8")
    shown = [one for one in letter.attachments if one.cid is not None and letter.html is not None]
    if shown:
        page: MIMEPart = message
        if letter.text is not None:
            page = message.get_payload()[-1]  # type: ignore[assignment, index]
        for one in shown:
            kind, subtype = _media_type(one)
            page.add_related(one.octets, kind, subtype, filename=_file_name(one), cid=f"<{_cid(one)}>")
    for one in letter.attachments:
        if one not in shown:
            kind, subtype = _media_type(one)
            message.add_attachment(one.octets, kind, subtype, filename=_file_name(one))
    return message


def _sound(text: str, part: str) -> str:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise LetterError(part, "must not have NULs or lone surrogates")
    return text


def _media_type(attachment: Attachment) -> tuple[str, str]:
    found = _TYPE.match(attachment.type)
    if found is None:
        raise LetterError("attachments", f"{attachment.type!r} is not a media type such as application/pdf")
    kind = found[1].lower()
    if kind in ("message", "multipart"):  # RFC 2046 §5.1, §5.2.1: these may not be encoded in base64
        raise LetterError("attachments", f"{attachment.type} cannot be attached; use application/octet-stream")
    return kind, found[2].lower()


def _file_name(attachment: Attachment) -> str:
    if _CONTROL.search(attachment.name) or not attachment.name or len(attachment.name) > 200:
        raise LetterError("attachments", "a name has 1 to 200 characters, and none that control")
    return attachment.name


def _cid(attachment: Attachment) -> str:
    if attachment.cid is None or not _CID.match(attachment.cid):
        raise LetterError("attachments", "a cid has 1 to 200 ASCII characters without blanks and brackets")
    return attachment.cid
