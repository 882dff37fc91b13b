"""A message as it comes in: judged on its way, and given back as it will be stored. Pure.

The header section is held back until its end, made ready (`prepare`) and given back in one piece; the body passes
through. What is counted and noted here is of the octets that are stored: the last look at them before the disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.mail.header import Header, first_stray_line
from relay.mail.status import Reply
from relay.policy.clients import Headers, LineEnds
from relay.submission import replies
from relay.submission.lines import Lines, normalise
from relay.submission.prepare import Treatment, prepare

MAX_HEADER_OCTETS = 256 * 1024
MAX_HOPS = 100  # Received lines; RFC 5321 §6.3: a large limit, normally at least 100
_MBOX = (b"From ", b">From ")
_NO_HEADER = Header(b"")
_BLANKS = (b" ", b"\t")  # what goes on with the line before: no first line may go on with our Received


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for one message. `max_size` is in octets, of the message as the client sends it."""

    max_size: int
    line_ends: LineEnds
    refuse_long_lines: bool
    header: Treatment


class Content:
    """One message: each chunk, never ending between CR and LF, through `feed`, then `end`.

    `problem` is why it is refused: nothing comes back any more. `header` and `eight_bit` (some octet is over 127) are
    of what has come back.
    """

    def __init__(self, rules: Rules) -> None:
        self.problem: Reply | None = None
        self.header = _NO_HEADER
        self.eight_bit = False
        self._rules = rules
        self._size = 0
        self._at_line_start = True
        self._lines = Lines(rules.refuse_long_lines)
        self._in_header = True
        self._held = bytearray()  # the header section as far as it has come
        self._judged = 0  # so far its lines are fields
        self._may_be_mbox = rules.header.headers is Headers.FIX

    def feed(self, octets: bytes) -> bytes:
        """Take the next octets of the message; returns the next octets to store."""
        if self.problem is not None:
            return b""
        if self._rules.line_ends is LineEnds.NORMALISE:
            octets = normalise(octets)
        if not octets:
            return b""
        self._at_line_start = octets.endswith(b"\r\n")
        self._size += len(octets)
        if self._size > self._rules.max_size:
            return self._refuse(replies.TOO_BIG)
        fault = self._lines.look(octets)
        if fault is not None:
            return self._refuse(replies.bad_content(fault))
        return self._out(self._hold(octets) if self._in_header else octets)

    def end(self) -> bytes:
        """The message has ended; returns the last octets to store.

        A last line without CRLF, which only BDAT can bring, gets one: with DATA the message could not leave without.
        """
        last = b"" if self._at_line_start else self.feed(b"\r\n")
        if self.problem is not None or not self._in_header:
            return last
        # RFC 5322 §3.5 lets a message without a body end with its header; Exim and others verify no signature of such.
        ended = self._rules.header.headers is not Headers.LEAVE
        return self._out(self._end_header(bytes(self._held), len(self._held), cut=ended))

    def _refuse(self, reply: Reply) -> bytes:
        self.problem = reply
        self._held.clear()
        return b""

    def _out(self, octets: bytes) -> bytes:
        if not self.eight_bit and not octets.isascii():
            self.eight_bit = True
        return octets

    def _hold(self, octets: bytes) -> bytes:
        """The octets from the header on as soon as its end is there."""
        known = len(self._held)
        data: bytes | bytearray = octets
        if known:
            self._held += octets
            data = self._held
        blank = -2 if data.startswith(b"\r\n") else data.find(b"\r\n\r\n", max(0, known - 3))
        ended = blank != -1
        last = blank if ended else data.rfind(b"\r\n", max(0, known - 1))
        lines = last + 2 if last != -1 else self._judged
        strict = self._rules.header.strict
        stray = first_stray_line(data, self._judged, lines) if strict else 0 if data.startswith(_BLANKS) else None
        if stray == 0 and self._may_be_mbox and data.startswith(_MBOX):
            # What programs that read a mailbox file leave in front of the header.
            self._may_be_mbox = False
            rest = bytes(data[data.find(b"\r\n") + 2 :])
            self._held, self._judged = bytearray(), 0
            return self._hold(rest)
        if stray is not None and strict and self._rules.header.headers is not Headers.FIX:
            line = data.count(b"\r\n", 0, stray) + 1
            return self._refuse(replies.bad_header(f"Line {line} of the header is no field"))
        end = stray if stray is not None else lines if ended else None
        if (len(data) if end is None else end) > MAX_HEADER_OCTETS:
            if strict:
                return self._refuse(replies.HEADER_TOO_BIG)
            return self._end_header(bytes(data), MAX_HEADER_OCTETS, cut=False)
        if end is not None:
            # RFC 5322 §2.1 wants an empty line before the body. Readers end the header at a line that is no field.
            return self._end_header(bytes(data), end, cut=stray is not None)
        if not known:
            self._held += octets
        self._judged = lines
        return b""

    def _end_header(self, data: bytes, end: int, *, cut: bool) -> bytes:
        """`data` with its header section, up to `end`, made ready; `cut`: without the empty line that ends it."""
        self._in_header = False
        self._held = bytearray()
        header = prepare(data[:end], self._rules.header)
        if isinstance(header, Reply):
            return self._refuse(header)
        if header.hops > MAX_HOPS:
            return self._refuse(replies.TOO_MANY_HOPS)
        self.header = header
        return header.octets + (b"\r\n" if cut else b"") + data[end:]
