"""The header section of a message, as octets: where its fields are, where it ends, and what the fields say. Pure.

RFC 5322 sections 2.2 and 3.6, RFC 6532. Nothing is decoded or put together anew: fields are cut out and put in front,
the others stay octet for octet. Cost: a few scans at C speed, no loop over lines.
"""

from __future__ import annotations

import re

# RFC 5322 §4.5: blanks before the colon were allowed once, and many readers still take such a field.
_FIELD = rb"[!-9;-~]+[ \t]*:"
_FIRST = re.compile(_FIELD)
# With a line end before it: a fixed beginning lets `re` look for it at C speed.
_NO_FIELD = re.compile(rb"\n(?!" + _FIELD + rb"|[ \t])")
_NAMED = re.compile(
    rb"\n(bcc|date|dkim-signature|from|message-id|received|resent-bcc|resent-from|return-path|sender|tls-required)"
    rb"[ \t]*:"
)
_BLANK_LINE = re.compile(rb"\n[ \t]+(?:\r|\Z)")
_BRACKETED = re.compile(rb"<([^<>]*)>")
_BLANKS = (b" ", b"\t")
_MAX_MESSAGE_ID = 998


class Header:
    """A header section: whole lines, each with its CRLF, without the empty line after them."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self._found = list(_NAMED.finditer(b"\n" + octets.lower()))
        self._names = [match[1] for match in self._found]

    def count(self, name: bytes) -> int:
        """How many fields there are of this name (in lower case, one of those that we know)."""
        return self._names.count(name)

    def values(self, name: bytes) -> list[bytes]:
        """What the fields of this name say, folded as they came, without the last CRLF."""
        if name not in self._names:
            return []
        starts = [match.end() - 1 for match in self._found if match[1] == name]
        return [self.octets[start : self._end(start)] for start in starts]

    def without(self, names: frozenset[bytes]) -> Header:
        """The same without all fields of these names, their folded lines too."""
        if names.isdisjoint(self._names):
            return self
        kept = []
        at = 0
        for match in self._found:
            if match[1] in names:
                kept.append(self.octets[at : match.start()])
                at = self._end(match.end() - 1) + 2
        return Header(b"".join(kept) + self.octets[at:])

    @property
    def eight_bit(self) -> bool:
        """Whether there are octets over 127. RFC 6532."""
        return not self.octets.isascii()

    @property
    def waives_tls(self) -> bool:
        """Whether it says `TLS-Required: No`, once and nothing else. RFC 8689 section 3."""
        values = self.values(b"tls-required")
        return len(values) == 1 and values[0].lower().split() == [b"no"]

    @property
    def hops(self) -> int:
        """How many Received lines there are."""
        return self._names.count(b"received")

    @property
    def message_id(self) -> str | None:
        """The first Message-ID without its brackets, what is no UTF-8 replaced; None when there is none."""
        values = self.values(b"message-id")
        if not values:
            return None
        text = values[0].replace(b"\r\n", b"").strip()
        bracketed = _BRACKETED.search(text)
        value = (bracketed[1] if bracketed else text).strip()[:_MAX_MESSAGE_ID]
        return value.decode("utf-8", "replace") or None

    def _end(self, value: int) -> int:
        """Where the value that begins there ends, before its CRLF."""
        end = self.octets.find(b"\r\n", value)
        while end >= 0 and self.octets[end + 2 : end + 3] in _BLANKS:
            end = self.octets.find(b"\r\n", end + 2)
        return end if end >= 0 else len(self.octets)


def first_stray_line(octets: bytes | bytearray, start: int, end: int) -> int | None:
    """Where the first line begins that belongs to no field, among the lines from `start` to `end`; None: all do.

    Both are places where a line begins. What `start` begins may only go on with the line before it if there is one.
    """
    if start >= end:
        return None
    if start == 0 and _FIRST.match(octets, 0, end) is None:
        return 0
    found = _NO_FIELD.search(octets, max(0, start - 1), end - 1)
    return None if found is None else found.start() + 1


def has_blank_line(value: bytes) -> bool:
    """Whether a field's value has a folded line with nothing but blanks: for some readers the header ends there."""
    return _BLANK_LINE.search(value) is not None
