"""The lines of a message as it comes: what SMTP does not carry, lines that are too long, line ends made right. Pure.

RFC 5321 section 2.3.8, RFC 5322 section 2.1.1. All take chunks that never end between CR and LF (`data`), and come to
the same however a message is cut. Cost: a handful of scans at C speed for each chunk, no loop over lines.
"""

from __future__ import annotations

import re

MAX_LINE_OCTETS = 998  # RFC 5322 §2.1.1, without the CRLF
_FAULT = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")
_HARMLESS = bytes(octet for octet in range(256) if octet not in b"\r\n\x00")
_FAULT_NAMES = {b"\r": "Bare CR", b"\n": "Bare LF", b"\x00": "NUL"}


def normalise(octets: bytes) -> bytes:
    """`octets` with a CRLF for each bare CR and bare LF, and without NUL.

    A NUL between CR and LF parts them: which octets make a line end must not hang on what is dropped.
    """
    if len(octets.translate(None, _HARMLESS)) == 2 * octets.count(b"\r\n"):
        return octets
    lines = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return lines.translate(None, b"\0")


def long_line(octets: bytes, before: int = 0) -> int | None:
    """Where the first line with more than 998 octets begins; `before`: how many of its octets came before `octets`.

    None: there is none so far. A line that began before begins at 0 here.
    """
    start, room = 0, MAX_LINE_OCTETS + 2 - before
    while len(octets) - start >= room:
        # From line to line would be a loop over lines: the last line end that is near enough will do.
        end = octets.rfind(b"\n", start, start + room)
        if end < 0:
            return start
        start, room = end + 1, MAX_LINE_OCTETS + 2
    return None


class Lines:
    """Looks at the lines of one message. `refuse_long`: lines of more than 998 octets are a fault too."""

    def __init__(self, refuse_long: bool) -> None:
        self._refuse_long = refuse_long
        self._ended = 0  # lines
        self._open = 0  # octets of the line that has not ended

    def look(self, octets: bytes) -> str | None:
        """Take the next octets. Returns the first fault in them, in words, or None. After a fault comes nothing."""
        line_ends = octets.count(b"\r\n")
        if len(octets.translate(None, _HARMLESS)) != 2 * line_ends:
            found = _FAULT.search(octets)
            if found is not None:
                line, octet = self._place(octets, found.start())
                name = _FAULT_NAMES[found[0]]
                return f"{name} in the message (line {line}, octet {octet}); lines must end with CRLF"
        if self._refuse_long:
            start = long_line(octets, self._open)
            if start is not None:
                line, _ = self._place(octets, start)
                return f"Line {line} of the message is longer than {MAX_LINE_OCTETS} octets"
        self._ended += line_ends
        last = octets.rfind(b"\r\n")
        self._open = self._open + len(octets) if last < 0 else len(octets) - last - 2
        return None

    def _place(self, octets: bytes, at: int) -> tuple[int, int]:
        """Line and octet in the message, from 1."""
        line = self._ended + octets.count(b"\r\n", 0, at) + 1
        last = octets.rfind(b"\r\n", 0, at)
        return line, at + 1 + self._open if last < 0 else at - last - 1
