"""Makes a message of what a program wrote: line ends, who it is from and for, and the header fields it lacks. Pure.

What Postfix's sendmail does, so that what works there works here: recipients of the header are added to those of the
command line, Resent- fields count before the others, Bcc goes, and a name without a domain gets that of this machine.
RFC 5322 sections 3.6 and 3.6.6, RFC 6409 section 8, RFC 5321 section 4.4 (no Return-Path).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, formataddr

from relay.mail.address import Address, AddressError, once_each, parse_address
from relay.mail.listed import listed

_LINE_END = re.compile(rb"\r*\n")
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_MBOX = re.compile(rb">*From ")
_DROPPED = frozenset((b"bcc", b"resent-bcc", b"return-path", b"content-length"))  # Postfix: message_drop_headers
_RECIPIENTS = frozenset((b"to", b"cc", b"bcc"))
_ADDRESSES = frozenset((b"from", b"sender", b"reply-to", b"to", b"cc"))
_RESENT = b"resent-"

Field = tuple[bytes, list[bytes]]  # the name in lower case, and the lines


@dataclass(frozen=True, slots=True)
class Author:
    """Who calls us: login name, the domain of this machine, and the full name, which may be empty."""

    user: str
    domain: str
    full_name: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What was said beside the message. `sender` None: not said; empty: the null sender.

    `extract`: the recipients of the header count too. `dot_ends`: a line with a dot alone ends the message.
    """

    sender: str | None
    recipients: Sequence[str]
    extract: bool
    dot_ends: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """A message ready to be handed in: its lines end with CRLF, and no octet of it need be changed."""

    sender: Address | None
    recipients: tuple[Address, ...]
    octets: bytes
    header_is_utf8: bool  # some octet of the header is over 127, and all of it is UTF-8

    @property
    def needs_smtputf8(self) -> bool:
        """RFC 6531 section 3.4: an address or the header is not ASCII."""
        return self.header_is_utf8 or self.has_utf8_address

    @property
    def has_utf8_address(self) -> bool:
        """Whether some address of the envelope has no ASCII form."""
        addresses = (*self.recipients, *((self.sender,) if self.sender is not None else ()))
        return any(address.needs_smtputf8 for address in addresses)


class DataError(Exception):
    """The message cannot be sent as it is: an address is none, or nobody is to get it. The text is one line."""


def compose(octets: bytes, wish: Wish, author: Author, now: datetime, unique: str) -> Draft:
    """Put a message in order. `unique`: what makes the Message-ID one of its kind. Raises DataError."""
    fields, body = _split(_lines(octets, wish.dot_ends))
    sender, recipients = _envelope(wish, author, fields)
    kept = [_qualified(name, field, author.domain) for name, field in fields if name not in _DROPPED]
    header = [*kept, *_missing({name for name, _ in fields}, sender, author, now, unique)]
    head = b"".join(line + b"\r\n" for field in header for line in field)
    whole = head + b"\r\n" + b"".join(line.replace(b"\r", b"\r\n") + b"\r\n" for line in body)
    return Draft(sender, recipients, whole, _is_utf8(head))


def as_it_is(octets: bytes, wish: Wish, author: Author) -> Draft:
    """The message with nothing changed but the line ends, where they are LF. Raises DataError."""
    sender, recipients = _envelope(wish, author, ())
    whole = octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n")
    whole += b"" if whole.endswith(b"\r\n") else b"\r\n"
    return Draft(sender, recipients, whole, _is_utf8(whole.partition(b"\r\n\r\n")[0]))


def _envelope(wish: Wish, author: Author, fields: Sequence[Field]) -> tuple[Address | None, tuple[Address, ...]]:
    named = [one for text in wish.recipients for one in _listed(text)]
    if wish.extract:
        named += _named_in(fields)
    recipients = once_each(_address(octets, author.domain, "") for octets in named)
    if not recipients:
        raise DataError("no recipients: give them as arguments, or in the header with -t")
    return _sender(wish.sender, author), recipients


def _lines(octets: bytes, dot_ends: bool) -> list[bytes]:
    """The lines, without their ends: CRLF or LF. What a lone dot or the end of the input ends."""
    lines = _LINE_END.split(octets)
    if lines[-1] == b"":
        lines.pop()
    if dot_ends and b"." in lines:
        del lines[lines.index(b".") :]
    while lines and _MBOX.match(lines[0]):  # as mail is kept in a mailbox file
        del lines[0]
    return lines


def _split(lines: list[bytes]) -> tuple[list[Field], list[bytes]]:
    """Header and body. What is no field begins the body, as where a script writes text alone."""
    fields: list[Field] = []
    for number, line in enumerate(lines):
        if line == b"":
            return fields, lines[number + 1 :]
        # A bare CR is no line end in a header: what follows it would pass for a field of its own.
        clean = line.replace(b"\r", b" ")
        if clean[:1] in (b" ", b"\t") and fields:
            if clean.strip():  # else it is nothing, and RFC 5322 §3.2.2 does not allow it
                fields[-1][1].append(clean)
            continue
        found = _FIELD.match(clean)
        if found is None:
            return fields, lines[number:]
        fields.append((found[1].lower(), [clean]))
    return fields, []


def _listed(text: str) -> list[bytes]:
    """The addresses in an argument: there may be several, with commas. What holds none is given back as it is."""
    octets = text.encode("utf-8", "surrogateescape")
    return [one.octets for one in listed(octets)] or [octets]


def _named_in(fields: Sequence[Field]) -> list[bytes]:
    """RFC 5322 section 3.6.6: of a message that is sent again, the Resent- fields say to whom."""
    resent = any(name.startswith(_RESENT) for name, _ in fields)
    prefix = _RESENT if resent else b""
    found = []
    for name, lines in fields:
        if name.startswith(prefix) and name.removeprefix(prefix) in _RECIPIENTS:
            value = b"\r\n".join(lines).partition(b":")[2]
            found += [one.octets for one in listed(value)]
    return found


def _qualified(name: bytes, lines: list[bytes], domain: str) -> list[bytes]:
    """A field of addresses in which each has a domain: cron writes `From: root (Cron Daemon)`, and hosts refuse it."""
    if name.removeprefix(_RESENT) not in _ADDRESSES:
        return lines
    label, colon, value = b"\r\n".join(lines).partition(b":")
    for mailbox in reversed(listed(value)):
        if mailbox.is_bare and b" " not in mailbox.octets:
            value = value[: mailbox.end] + b"@" + domain.encode() + value[mailbox.end :]
    return (label + colon + value).split(b"\r\n")


def _missing(
    names: set[bytes], sender: Address | None, author: Author, now: datetime, unique: str
) -> list[list[bytes]]:
    """RFC 6409 sections 8.2 and 8.3: Date, From and Message-ID where they are not there."""
    added = []
    prefix = "Resent-" if any(name.startswith(_RESENT) for name in names) else ""
    for name in dict.fromkeys(("", prefix)):
        if f"{name}From".lower().encode() not in names:
            address = sender.text if sender is not None else f"{author.user}@{author.domain}"
            added.append(f"{name}From: {_mailbox(author.full_name, address)}")
        if f"{name}Date".lower().encode() not in names:
            added.append(f"{name}Date: {format_datetime(now.replace(microsecond=0))}")
        if f"{name}Message-ID".lower().encode() not in names:
            added.append(f"{name}Message-ID: <{unique}{'r' if name else ''}@{author.domain}>")
    return [[line.encode()] for line in added]


def _mailbox(full_name: str, address: str) -> str:
    """RFC 5322 section 3.4; a name that is not ASCII becomes an encoded word (RFC 2047)."""
    name = "".join(letter if letter.isprintable() else " " for letter in full_name).strip()
    if not name:
        return address
    return formataddr((name, "x")).removesuffix("<x>") + f"<{address}>"


def _sender(said: str | None, author: Author) -> Address | None:
    if said == "":
        return None
    listed = _listed(author.user if said is None else said)
    return _address(listed[0] if len(listed) == 1 else b", ".join(listed), author.domain, "sender ")


def _address(octets: bytes, domain: str, what: str) -> Address:
    """An address, with this machine's domain where it has none. Raises DataError."""
    if not octets.strip():
        raise DataError(f"{what}an address is empty")
    try:
        return parse_address(octets if b"@" in octets else octets + b"@" + domain.encode())
    except AddressError as error:
        shown = octets.decode("utf-8", "replace")
        raise DataError(f"{what}{shown!r}: {error}") from None


def _is_utf8(head: bytes) -> bool:
    try:
        return not head.isascii() and bool(head.decode("utf-8"))
    except UnicodeDecodeError:
        return False
