"""What POST /v1/messages is given: a letter in JSON, or the envelope of a message that comes as it is. Values only.

A mistake is a FieldError that names the field; the text goes into the answer.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from relay.admin.requests import FieldError
from relay.mail.address import Address, AddressError, once_each, parse_address
from relay.mail.handed import HandedIn
from relay.mail.letter import Attachment, Letter, LetterError, Mailbox, read_mailbox, write
from relay.mail.listed import listed
from relay.mail.message import MessageDsn, Notify, RecipientDsn, Ret
from relay.mail.xtext import encode_xtext

_WISHES = ("notify", "ret", "envid", "hold_until", "priority")
_ADDRESSES = ("from", "to", "cc", "bcc", "reply_to")
_PARTS = ("subject", "text", "html", "headers", "attachments")
LETTER_FIELDS: Final = (*_ADDRESSES, *_PARTS, "envelope_from", *_WISHES)
ENVELOPE_FIELDS: Final = ("from", "to", *_WISHES)
ATTACHMENT_FIELDS: Final = ("name", "type", "content", "cid")
_ANY_TYPE = "application/octet-stream"
_MAX_ENVID = 100  # characters in xtext; RFC 3461 §4.4
# The fields that say who a message is from and for, folded or not, in a header section that begins at a line's start.
_NAMED = re.compile(rb"(?im)^(from|sender|to|cc|bcc)[ \t]*:((?:[^\r\n]|\r?\n[ \t])*)")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a letter gets from us."""

    date: datetime
    message_id: str


def read_letter(body: Any, stamp: Stamp) -> tuple[HandedIn, bytes]:
    """The envelope and the octets of a letter in JSON. Raises FieldError."""
    if not isinstance(body, dict):
        raise FieldError(None, "the body must be a JSON object")
    _known(body, LETTER_FIELDS)
    if not isinstance(body.get("from"), str):
        raise FieldError("from", "must be given, as text")
    author = _mailbox("from", body["from"])
    to, cc, bcc, reply_to = (_mailboxes(body, field) for field in ("to", "cc", "bcc", "reply_to"))
    recipients = once_each(mailbox.address for mailbox in (*to, *cc, *bcc))
    if not recipients:
        raise FieldError("to", "must name a recipient, or else cc or bcc")
    letter = Letter(
        author=author,
        date=stamp.date,
        message_id=stamp.message_id,
        to=to,
        cc=cc,
        reply_to=reply_to,
        subject=_text(body, "subject") or "",
        text=_text(body, "text"),
        html=_text(body, "html"),
        headers=tuple(_headers(body.get("headers"))),
        attachments=tuple(_attachments(body.get("attachments"))),
    )
    sender: Address | None = author.address
    if (said := _text(body, "envelope_from")) is not None:
        sender = _sender("envelope_from", said)
    asked = {field: body[field] for field in _WISHES if body.get(field) is not None}
    try:
        return HandedIn(sender, recipients, *_wishes(asked)), write(letter)
    except LetterError as error:
        raise FieldError(error.part, str(error)) from None


def read_envelope(query: Mapping[str, Sequence[str]], head: bytes) -> HandedIn:
    """The envelope of a message whose header section is `head`, if it is asked for. Raises FieldError."""
    _known(query, ENVELOPE_FIELDS)
    for field in query:
        if field != "to" and len(query[field]) > 1:
            raise FieldError(field, "is there more than once")
    named: dict[bytes, list[bytes]] = {}
    for name, value in _NAMED.findall(head):
        named.setdefault(name.lower(), []).extend(one.octets for one in listed(value))
    if "from" in query:
        sender = _sender("from", query["from"][0])
    else:
        authors = named.get(b"sender") or named.get(b"from") or []
        if len(authors) != 1:
            raise FieldError("from", "must be given: the header does not name one sender")
        sender = _address("from", authors[0])
    if "to" in query:
        found = [_address("to", text.encode("utf-8", "surrogatepass")) for text in query["to"]]
    else:
        found = [_address("to", octets) for name in (b"to", b"cc", b"bcc") for octets in named.get(name, ())]
    if not found:
        raise FieldError("to", "must be given: the header names no recipient")
    asked: dict[str, Any] = {field: query[field][0] for field in _WISHES if field in query}
    if "notify" in asked:
        asked["notify"] = asked["notify"].split(",")
    if re.fullmatch(r"-?[0-9]", asked.get("priority", "")):
        asked["priority"] = int(asked["priority"])
    return HandedIn(sender, once_each(found), *_wishes(asked))


def needs_header(query: Mapping[str, Sequence[str]]) -> bool:
    """Whether the header has to say something that the query does not."""
    return "from" not in query or "to" not in query


def _known(given: Mapping[str, Any], known: Sequence[str]) -> None:
    for field in given:
        if field not in known:
            raise FieldError(field, f"is not known; there are {', '.join(known)}")


def _text(given: Mapping[str, Any], field: str) -> str | None:
    value = given.get(field)
    if value is not None and not isinstance(value, str):
        raise FieldError(field, "must be text")
    return value


def _mailbox(field: str, text: str) -> Mailbox:
    try:
        return read_mailbox(text)
    except AddressError as error:
        raise FieldError(field, str(error)) from None


def _mailboxes(given: Mapping[str, Any], field: str) -> tuple[Mailbox, ...]:
    value = given.get(field)
    values = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise FieldError(field, "must be an address, or a list of them")
    return tuple(_mailbox(field, one) for one in values)


def _address(field: str, octets: bytes) -> Address:
    try:
        address = parse_address(octets)
    except AddressError as error:
        raise FieldError(field, str(error)) from None
    if not address.domain:
        raise FieldError(field, "the address has no @ and domain")
    return address


def _sender(field: str, text: str) -> Address | None:
    return None if text in ("", "<>") else _address(field, text.encode("utf-8", "surrogatepass"))


def _headers(value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, dict):
        raise FieldError("headers", "must be an object of names and values")
    found = []
    for name, given in value.items():
        for one in given if isinstance(given, list) else [given]:
            if not isinstance(one, str):
                raise FieldError(f"headers.{name}", "must be text, or a list of texts")
            found.append((name, one))
    return found


def _attachments(value: Any) -> list[Attachment]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise FieldError("attachments", "must be a list of objects")
    found = []
    for number, one in enumerate(value):
        place = f"attachments[{number}]"
        for field in one:
            if field not in ATTACHMENT_FIELDS:
                raise FieldError(f"{place}.{field}", f"is not known; there are {', '.join(ATTACHMENT_FIELDS)}")
        texts = {field: one.get(field) for field in ATTACHMENT_FIELDS}
        for field, text in texts.items():
            if not isinstance(text, str) and (text is not None or field in ("name", "content")):
                raise FieldError(f"{place}.{field}", "must be text")
        try:
            octets = b64decode(texts["content"] or "", validate=True)
        except (binascii.Error, ValueError):
            raise FieldError(f"{place}.content", "must be base64") from None
        found.append(Attachment(texts["name"] or "", texts["type"] or _ANY_TYPE, octets, texts["cid"]))
    return found


def _wishes(given: Mapping[str, Any]) -> tuple[MessageDsn, RecipientDsn, datetime | None, int]:
    """RFC 3461, RFC 4865, RFC 6710."""
    notify = None
    words = given.get("notify")
    if words is not None:
        known = [event.name for event in Notify]
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise FieldError("notify", "must be a list of words")
        said = [word.strip().upper() for word in words]
        if said != ["NEVER"] and not all(word in known for word in said):
            raise FieldError("notify", "must be NEVER, or some of SUCCESS, FAILURE and DELAY")
        notify = Notify.NEVER
        for word in said:
            notify |= Notify[word]
    ret, envid = _text(given, "ret"), _text(given, "envid")
    if ret is not None and ret.upper() not in ("FULL", "HDRS"):
        raise FieldError("ret", "must be FULL or HDRS")
    if envid is not None:
        if not envid or not (envid.isascii() and envid.isprintable()) or len(encode_xtext(envid)) > _MAX_ENVID:
            raise FieldError("envid", "must be of 1 to 100 printable ASCII characters")
        envid = encode_xtext(envid)
    priority = given.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or not -9 <= priority <= 9:
        raise FieldError("priority", "must be a whole number from -9 to 9")
    dsn = MessageDsn(None if ret is None else Ret(ret.upper()), envid)
    return dsn, RecipientDsn(notify), _time(_text(given, "hold_until")), priority


def _time(text: str | None) -> datetime | None:
    """RFC 3339."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise FieldError("hold_until", "must be a time with its zone, such as 2030-01-31T09:00:00Z") from None
