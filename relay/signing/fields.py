"""Which header fields a signature is over. RFC 6376 section 5.4.1; docs/dkim.md lists them for people."""

from __future__ import annotations

from functools import lru_cache

from relay.signing.canonical import Fields

# What readers show or act on: also signed once more than they are there, so that nobody can add one (RFC 6376 §8.15).
OVERSIGNED = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"reply-to",
    b"message-id",
    b"in-reply-to",
    b"references",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
# Signed as often as they are there: hosts on the way, and lists, may add their own.
WHEN_THERE = (
    b"sender",
    b"resent-date",
    b"resent-from",
    b"resent-sender",
    b"resent-to",
    b"resent-cc",
    b"resent-message-id",
    b"list-id",
    b"list-help",
    b"list-owner",
    b"list-post",
    b"list-archive",
    b"list-subscribe",
    b"list-unsubscribe",
    b"list-unsubscribe-post",  # RFC 8058 §4: it must be signed
    b"content-id",
    b"content-description",
    b"content-disposition",
    b"content-language",
    b"auto-submitted",
    b"feedback-id",  # whoever counts complaints by it takes it only when signed
    b"autocrypt",
    b"tls-required",
    b"tls-report-domain",
    b"tls-report-submitter",
)
SIGNED = frozenset(OVERSIGNED + WHEN_THERE)
_OVERSIGNED = frozenset(OVERSIGNED)
MAX_COLUMNS = 78  # RFC 5322 §2.1.1
_MANY_NAMES = 64


def chosen(fields: Fields) -> tuple[tuple[bytes, ...], bytes]:
    """The names for `h=`, and the fields that they stand for, put together in that order.

    RFC 6376 section 5.4.2: of several fields of one name the last is signed first. Section 5.4: a name that stands
    for no field any more signs that there is none.
    """
    names: list[bytes] = []
    octets: list[bytes] = []
    for name in OVERSIGNED:
        names.append(name)
        if name in fields:
            found = fields[name]
            names += [name] * len(found)
            octets += found[::-1]
    for name, found in fields.items():
        if name not in _OVERSIGNED:
            names += [name] * len(found)
            octets += found[::-1]
    return tuple(names), b"".join(octets)


def names_tag(names: tuple[bytes, ...]) -> bytes:
    """The tag `h=` with its semicolon, folded, for a line of its own that begins with a space."""
    return _usual_names_tag(names) if len(names) <= _MANY_NAMES else _names_tag(names)


def _names_tag(names: tuple[bytes, ...]) -> bytes:
    lines = [b" h="]
    for name in names:
        if len(lines[-1]) + len(name) + 1 > MAX_COLUMNS:
            lines.append(b" ")
        lines[-1] += name + b":"
    return b"\r\n".join(lines)[1:-1] + b";"


_usual_names_tag = lru_cache(maxsize=256)(_names_tag)  # mail of one origin has the same fields
