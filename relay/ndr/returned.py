"""What goes back of the message: the whole of it, its header, or no more than tells which one it was.

RFC 3461 section 6.2 (how much), RFC 6522 section 4 (text/rfc822-headers), RFC 6532 section 3.7 and RFC 6533 section 5
(message/global, message/global-headers), RFC 8689 section 5 (of confidential mail).
"""

from __future__ import annotations

import quopri
import re
from dataclasses import dataclass

from relay.mail.message import Claim, Ret, TlsDemand
from relay.ndr.due import FULL_LIMIT, Due, Kind, returns_whole

HEADER_LIMIT = 65536  # octets of the original header that go back to the sender
_LONG_LINE = 900  # of what we write ourselves
_LONGEST_LINE = 998  # RFC 5322 §2.1.1
_RECOGNISING = re.compile(rb"^(?:message-id|date)[ \t]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Returned:
    """The part with its MIME header, and what the letter says is attached."""

    part: bytes
    words: str


def returned(due: Due, claim: Claim, original: bytes) -> Returned:
    """The last part of the notice.

    `original`: the message as it was accepted, whole where `returns_whole` says so, at least its header otherwise.
    """
    header = _header_of(original)
    message = "the message" if due.kind is Kind.UNDELIVERABLE else "your message"
    if claim.demand is TlsDemand.REQUIRED:
        words = f"what identifies {message}; no more of it, because it was sent with the demand for TLS all the way"
        return Returned(_header_part(_redacted(header), utf8=False), words)
    part, words = _header_part(header, utf8=due.to.needs_smtputf8), f"the header of {message}"
    if due.kind is not Kind.FAILURE or claim.dsn.ret is not Ret.FULL:
        return Returned(part, words)
    if not returns_whole(due.kind, claim):
        return Returned(part, f"{words}; not the whole, because it is larger than {FULL_LIMIT >> 20} MiB")
    whole = _whole_part(original, header, utf8=due.to.needs_smtputf8) if len(original) == claim.body.size else None
    if whole is None:
        return Returned(part, f"{words}; not the whole, because it could not be put into this one unchanged")
    return Returned(whole, message)


def encoded(octets: bytes) -> bytes:
    """RFC 2045: as it is when every line is short ASCII, quoted-printable otherwise. Adds the blank line before it."""
    if octets.isascii() and all(len(line) <= _LONG_LINE for line in octets.split(b"\r\n")):
        return b"\r\n" + octets
    return b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + _quoted_printable(octets)


def _header_of(original: bytes) -> bytes:
    """The header, with its last line's end; cut at a line's end when it is very long."""
    end = original.find(b"\r\n\r\n", 0, HEADER_LIMIT)
    if end >= 0:
        return original[: end + 2]
    if len(original) > HEADER_LIMIT:
        return original[: original.rfind(b"\r\n", 0, HEADER_LIMIT) + 2]
    return original


def _header_part(header: bytes, *, utf8: bool) -> bytes:
    if utf8 and not header.isascii() and _is_utf8(header) and _has_short_lines(header):
        return b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + header
    return b"Content-Type: text/rfc822-headers\r\n" + encoded(header)  # RFC 6522 §4: quoted-printable where it must be


def _whole_part(original: bytes, header: bytes, *, utf8: bool) -> bytes | None:
    """The whole message; None when nothing can carry it as it is."""
    if not _has_short_lines(original):
        return None
    if header.isascii():
        eight_bit = b"" if original.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        return b"Content-Type: message/rfc822\r\n" + eight_bit + b"\r\n" + original  # RFC 2046 §5.2.1: never encoded
    if not _is_utf8(header):
        return None
    if utf8:
        return b"Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + original
    # RFC 6532 §3.7: message/global may be encoded, for hosts that do not take UTF-8.
    quoted = _quoted_printable(original)
    return b"Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted


def _redacted(header: bytes) -> bytes:
    return b"".join(field[0] for field in _RECOGNISING.finditer(header))


def _quoted_printable(octets: bytes) -> bytes:
    return quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")


def _has_short_lines(octets: bytes) -> bool:
    return all(len(line) <= _LONGEST_LINE for line in octets.split(b"\r\n"))


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
