"""Which header fields a signature is over. RFC 6376 section 5.4.1; docs/dkim.md lists them for people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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


@dataclass(frozen=True, slots=True)
class Choice:
    """What is signed of a header, by the place of each field among those that are SIGNED, from top to bottom.

    `tag`: `h=` with its semicolon, folded, for a line of its own that begins with a space. `order`: the places of the
    fields in the order of `h=`. `froms`: the places of From.
    """

    tag: bytes
    order: tuple[int, ...]
    froms: tuple[int, ...]


def choice(names: tuple[bytes, ...]) -> Choice:
    """For a header with fields of these names, from top to bottom.

    RFC 6376 section 5.4.2: of several fields of one name the last is signed first. Section 5.4: a name that stands
    for no field any more signs that there is none.
    """
    return _usual_choice(names) if len(names) <= _MANY_NAMES else _choice(names)


def _choice(names: tuple[bytes, ...]) -> Choice:
    places: dict[bytes, list[int]] = {name: [] for name in OVERSIGNED}
    for place in reversed(range(len(names))):
        places.setdefault(names[place], []).append(place)
    signed, order = list[bytes](), list[int]()
    for name, found in places.items():
        signed += [name] * (len(found) + (name in _OVERSIGNED))
        order += found
    return Choice(_names_tag(signed), tuple(order), tuple(places[b"from"]))


_usual_choice = lru_cache(maxsize=256)(_choice)  # mail of one origin has the same fields


def _names_tag(names: list[bytes]) -> bytes:
    lines = [b" h="]
    for name in names:
        if len(lines[-1]) + len(name) + 1 > MAX_COLUMNS:
            lines.append(b" ")
        lines[-1] += name + b":"
    return b"\r\n".join(lines)[1:-1] + b";"
