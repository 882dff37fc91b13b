"""Finds the addresses in a header field such as To, and where they are in it. Pure.

RFC 5322 section 3.4 with the obsolete forms that old programs still write: comments, groups, routes, blanks round dots.
What it finds need not be an address: `mail.address` says that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb'(?P<quoted>"(?:[^"\\]|\\.)*"?)|(?P<literal>\[(?:[^\[\]\\]|\\.)*\]?)|(?P<special>[()<>,:;@.])'
    rb'|(?P<blank>[ \t\r\n]+)|(?P<atom>[^ \t\r\n"()<>,:;@.\[]+)',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Listed:
    """One address: its octets without blanks and comments, and where in the field it ends."""

    octets: bytes
    end: int

    @property
    def is_bare(self) -> bool:
        """Whether it is a local part alone, as programs write those of their own machine."""
        return b"@" not in self.octets


def listed(value: bytes) -> list[Listed]:
    """The addresses of a field, in their order; of groups, those of their members.

    Two words that no brackets follow come out as one with a blank between them, which is no address.
    """
    found, current = [], _Current()
    for kind, text, end in _tokens(value):
        if kind == "special" and text in b",;" and not current.in_angle:
            found += current.finish()
            current = _Current()
        elif kind == "special" and text == b":" and not current.in_angle:
            current = _Current()  # what came before is the name of a group
        else:
            current.take(kind, text, end)
    return found + current.finish()


class _Current:
    """The mailbox that is being read."""

    def __init__(self) -> None:
        self.in_angle = False
        self._words: list[bytes] = []
        self._end = 0
        self._had_angle = False
        self._blank = False

    def take(self, kind: str, text: bytes, end: int) -> None:
        if kind == "blank":
            self._blank = True
            return
        if text == b"<" and not self.in_angle:
            self._words, self._end, self._had_angle, self.in_angle = [], end, True, True
        elif text == b">" and self.in_angle:
            self.in_angle = False
        elif text == b":" and self._words[:1] == [b"@"]:
            self._words = []  # RFC 5322 §4.4: a route, to be passed over
        elif self.in_angle or not self._had_angle:
            apart = self._blank and self._words and kind != "special" and self._words[-1] not in (b"@", b".")
            self._words += [b" ", text] if apart else [text]
            self._end = end
        self._blank = False

    def finish(self) -> list[Listed]:
        octets = b"".join(self._words)
        return [Listed(octets, self._end)] if octets else []


def _tokens(value: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Kind, octets and end of each token; a comment, nested or not, is a blank."""
    depth = place = 0
    while place < len(value):
        if depth:
            octet = value[place : place + 1]
            place += 2 if octet == b"\\" else 1
            depth += (octet == b"(") - (octet == b")")
            if not depth:
                yield "blank", b" ", place
            continue
        found = _TOKEN.match(value, place)
        if found is None:  # a lone bracket
            yield "atom", value[place : place + 1], place + 1
            place += 1
        elif found[0] == b"(":
            depth, place = 1, found.end()
        else:
            yield found.lastgroup or "", found[0], found.end()
            place = found.end()
