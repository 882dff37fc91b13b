"""Cuts the octets that an SMTP server sends into replies, strictly and within bounds.

Pure: no I/O. What is not a reply raises ReplyError; nothing is guessed, since a reply paired with the wrong command
would report mail as delivered that is not.

RFC 5321 section 4.2 (replies), section 4.2.1 (codes of several lines), section 4.5.3.1.5 (length of a reply line).
"""

from __future__ import annotations

from functools import lru_cache

from relay.mail.status import Reply

MAX_REPLY_OCTETS = 32 * 1024  # RFC 5321 §4.5.3.1.5 asks for 512 a line; EHLO answers of real hosts stay below 4 KiB
MAX_REPLY_LINES = 100
MAX_QUOTED_OCTETS = 200


class ReplyError(ValueError):
    """What the server sent is not an SMTP reply. The text says what is wrong and quotes it, safe for a log."""


class ReplyReader:
    """Octets in, in pieces of any size; replies out, in order. Not to be used any more after a ReplyError."""

    def __init__(self) -> None:
        self._octets = bytearray()
        self._searched = 0  # no line ends before this offset
        self._code = b""  # of the reply under way
        self._lines: list[str] = []
        self._size = 0

    @property
    def unread(self) -> int:
        """How many octets were fed and not given out as a reply."""
        return len(self._octets) + self._size

    def beginning(self) -> str:
        """The first of the unread octets, for a log."""
        return quoted(bytes(self._octets[:MAX_QUOTED_OCTETS]))

    def feed(self, octets: bytes | memoryview) -> None:
        """Add what was received."""
        self._octets += octets

    def next(self) -> Reply | None:
        """The next whole reply, or None when more octets are needed. Raises ReplyError."""
        while (end := self._octets.find(b"\n", self._searched)) >= 0:
            line = bytes(self._octets[:end])
            del self._octets[: end + 1]
            self._searched = 0
            self._size += end + 1
            if self._size > MAX_REPLY_OCTETS:
                raise ReplyError(f"a reply of more than {MAX_REPLY_OCTETS} octets")
            reply = self._add(line)
            if reply is not None:
                return reply
        self._searched = len(self._octets)
        if self.unread > MAX_REPLY_OCTETS:
            raise ReplyError(f"a reply of more than {MAX_REPLY_OCTETS} octets")
        return None

    def _add(self, line: bytes) -> Reply | None:
        if line.endswith(b"\r"):  # RFC 5321 §4.2: CRLF ends a line; a bare LF is let pass, as everybody does
            line = line[:-1]
        code, separator = line[:3], line[3:4]
        # RFC 5321 §4.2: a code alone, without even a space behind it, is to be understood.
        if len(code) < 3 or not code.isdigit() or not b"2" <= code[:1] <= b"5" or separator not in (b" ", b"-", b""):
            raise ReplyError(f"{quoted(line)} is not a line of an SMTP reply")
        if self._lines and code != self._code:  # RFC 5321 §4.2.1: all lines carry the same code
            raise ReplyError(f"{quoted(line)} does not go on from a line with {self._code.decode()}")
        self._code = code
        self._lines.append(printable(line[4:]))
        if separator == b"-":
            if len(self._lines) >= MAX_REPLY_LINES:
                raise ReplyError(f"a reply of more than {MAX_REPLY_LINES} lines")
            return None
        reply = _reply(int(code), tuple(self._lines))
        self._lines = []
        self._size = 0
        return reply


@lru_cache(maxsize=512)
def _reply(code: int, lines: tuple[str, ...]) -> Reply:
    """Most replies of a host are the same few, over and over."""
    return Reply.of(code, lines)


def printable(octets: bytes) -> str:
    """A server's words for people and logs: UTF-8 where it is, no control or direction characters, tabs as spaces."""
    text = octets.decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(character for character in text.replace("\t", " ") if character.isprintable())


def quoted(octets: bytes) -> str:
    """The beginning of what a server sent, printable and in quotes."""
    rest = "..." if len(octets) > MAX_QUOTED_OCTETS else ""
    return f'"{printable(octets[:MAX_QUOTED_OCTETS])}{rest}"'
