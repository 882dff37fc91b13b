"""The parts of a MIME message, found while its octets go by. Pure; knows nothing of what is done with them.

RFC 2045 (fields), RFC 2046 section 5.1 (multipart) and 5.2 (message). Readers of mail differ in what they make of a
message that is not well formed. Here such a message is refused, in words, wherever two readers could see other parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relay.mail.mime_head import Head, Kind, read_head, split_fields

MAX_DEPTH = 100  # multiparts and embedded messages in each other
MAX_HEAD_OCTETS = 64 << 10
MAX_HEADS = 10_000
_MAX_LINE = 2_000  # so far is a line that begins like a delimiter waited for
_STEP = 64 << 10  # octets that are looked at together
_CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Content:
    """Octets of the body below `head`, a leaf's. The line end before a delimiter is none of them."""

    octets: bytes
    head: Head


@dataclass(frozen=True, slots=True)
class Between:
    """Octets outside of the parts: delimiter lines, and the text before the first and after the last part."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The message cannot be taken apart. Nothing comes after this. `reason`: a few words."""

    reason: str


Piece = Head | Content | Between | Refused


@dataclass(slots=True)
class _Frame:
    """A multipart that is open, or an embedded message (which has no delimiter)."""

    delimiter: bytes | None
    digest: bool = False
    message: int | None = None  # the number of the embedded message's head
    begun: bool = False  # a delimiter line was there that begins a part
    closed: bool = False  # the last delimiter line was there
    eight_bit: bool = False  # in the text before the first or after the last part


class Scanner:
    """One message: each chunk through `feed`, then `end`. All octets come out again, in their order."""

    def __init__(self) -> None:
        self._buffer = b""
        self._frames: list[_Frame] = []
        self._delimiters: tuple[bytes, ...] = ()
        self._longest = 0
        self._in_head = True
        self._lines: list[bytes] = []  # of the head that is read
        self._head_octets = 0
        self._message_head = True  # a message's head, not a part's
        self._heads = 0
        self._leaf: Head | None = None  # whose body is read; None between parts
        self._fresh = True  # where a line starts: after a head or a delimiter line
        self._refused = False

    def feed(self, octets: bytes) -> Iterator[Piece]:
        """The pieces that are known after `octets`, the next ones of the message. To be used up before the next."""
        for at in range(0, len(octets), _STEP):
            self._buffer += octets[at : at + _STEP]
            yield from self._pieces(final=False)

    def end(self) -> Iterator[Piece]:
        """The rest of the pieces."""
        yield from self._pieces(final=True)
        if not self._refused and any(frame.eight_bit and not frame.begun for frame in self._frames):
            yield self._refuse("a multipart has none of its parts")

    def _pieces(self, *, final: bool) -> Iterator[Piece]:
        while not self._refused:
            found, go_on = self._next_head(final) if self._in_head else self._next_body(final)
            yield from found
            if not go_on:
                return

    def _refuse(self, reason: str) -> Refused:
        self._refused = True
        return Refused(reason)

    # Heads

    def _next_head(self, final: bool) -> tuple[list[Piece], bool]:
        """The pieces up to the end of the head, and whether it was found."""
        buffer, at = self._buffer, 0
        while True:
            end = buffer.find(_CRLF, at) + 2
            line = buffer[at:end] if end > 1 else buffer[at:]
            if self._head_octets + len(line) > MAX_HEAD_OCTETS:
                return [self._refuse("a header is too long")], False
            if end == 1 and not final:
                self._buffer = buffer[at:]
                return [], False
            if line.startswith(self._delimiters):
                self._buffer = buffer[at:]
                if not self._lines and not self._message_head:
                    return [self._refuse("a part has neither a header nor an empty line")], False
                return self._end_head(), True
            at += len(line)
            self._head_octets += len(line)
            self._lines.append(line)
            if line in (_CRLF, b""):
                self._buffer = buffer[at:]
                return self._end_head(), True

    def _end_head(self) -> list[Piece]:
        lines, self._lines, self._head_octets = self._lines, [], 0
        self._in_head, self._fresh = False, True
        fields = split_fields(lines)
        if fields is None:
            return [self._refuse("a header has a line that is no field")]
        inside = self._frames[-1] if self._frames else None
        digest = inside is not None and inside.digest and not self._message_head
        messages = (0, *(frame.message for frame in self._frames if frame.message is not None))
        head = read_head(fields, self._heads, messages, digest=digest)
        if isinstance(head, str):
            return [self._refuse(head)]
        self._heads += 1
        if self._heads > MAX_HEADS:
            return [self._refuse("too many parts")]
        self._leaf = head if head.kind is Kind.LEAF else None
        self._message_head = False
        if self._leaf is not None:
            return [head]
        if len(self._frames) == MAX_DEPTH:
            return [self._refuse("parts too deep in each other")]
        if head.kind is Kind.MESSAGE:
            self._frames.append(_Frame(None, message=self._heads))
            self._message_head = self._in_head = True
            return [head]
        delimiter = b"--" + head.boundary
        if delimiter in self._delimiters:
            return [self._refuse("two multiparts, one in the other, have the same boundary")]
        self._frames.append(_Frame(delimiter, digest=head.digest))
        self._know_delimiters()
        return [head]

    # Bodies

    def _next_body(self, final: bool) -> tuple[list[Piece], bool]:
        """The pieces up to the next delimiter line and with it, and whether it was found."""
        buffer, start = self._buffer, 0
        while self._delimiters:
            if self._fresh:
                mark = line = 0
            else:
                mark = buffer.find(b"\r\n--", start)
                line = mark + 2
            if mark < 0:
                break
            known = final or len(buffer) - line >= self._longest or buffer.find(_CRLF, line) >= 0
            if not known:
                return self._up_to(mark), False
            if buffer.startswith(self._delimiters, line):
                end = buffer.find(_CRLF, line)
                if end < 0 and not final and len(buffer) - line < _MAX_LINE:
                    return self._up_to(mark), False
                pieces = self._up_to(mark)
                return pieces + self._delimiter(line - mark, end - mark if end >= 0 else len(self._buffer)), True
            self._fresh, start = False, line
        keep = 0 if final or not self._delimiters else _partial(buffer)
        return self._up_to(len(buffer) - keep), False

    def _up_to(self, mark: int) -> list[Piece]:
        """The octets before `mark`, which then are out of the buffer."""
        octets, self._buffer = self._buffer[:mark], self._buffer[mark:]
        if not octets:
            return []
        self._fresh = False
        if self._leaf is not None:
            return [Content(octets, self._leaf)]
        frame = self._frames[-1]
        frame.eight_bit = frame.eight_bit or not octets.isascii()
        return [Between(octets)]

    def _delimiter(self, line: int, end: int) -> list[Piece]:
        """The delimiter line from `line` to `end` in the buffer, where the line end before it begins."""
        # RFC 2046 §5.1.1: blanks may follow. It lets a delimiter be known by how the line begins, but many readers
        # compare the whole line: what they could see in two ways is refused.
        text = self._buffer[line:end].rstrip(b" \t")
        found = [
            (at, text != frame.delimiter)
            for at, frame in enumerate(self._frames)
            if frame.delimiter is not None and text in (frame.delimiter, frame.delimiter + b"--")
        ]
        if len(found) != 1 or end - line >= _MAX_LINE:
            return [self._refuse("a line begins like a boundary and is none")]
        at, closes = found[0]
        frame = self._frames[at]
        if frame.closed:
            return [self._refuse("a multipart goes on after its end")]
        if any(inner.eight_bit and not inner.begun for inner in self._frames[at + 1 :]):
            return [self._refuse("a multipart has none of its parts")]
        frame.begun, frame.closed = frame.begun or not closes, closes
        del self._frames[at + 1 :]
        self._know_delimiters()
        octets, self._buffer = self._buffer[: end + 2], self._buffer[end + 2 :]
        self._in_head, self._message_head, self._leaf = not closes, False, None
        self._fresh = True
        return [Between(octets)]

    def _know_delimiters(self) -> None:
        self._delimiters = tuple(frame.delimiter for frame in self._frames if frame.delimiter is not None)
        self._longest = max(map(len, self._delimiters), default=0)


def _partial(buffer: bytes) -> int:
    """How many octets at the end could be the beginning of a line end and a delimiter."""
    return next((size for size in (3, 2, 1) if buffer.endswith(b"\r\n--"[:size])), 0)
