"""An 8-bit message made into a 7-bit one, for a host that does not offer 8BITMIME (RFC 6152 section 3). Pure.

In two passes over the octets, in chunks of any size: the first (`Planner`) finds which parts have 8-bit octets and
whether they may be encoded, the second (`Converter`) writes the message anew. Neither holds more than a header and a
line. What cannot be converted for certain is refused, in words for the sender.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from relay.mail.mime import Between, Content, Piece, Refused, Scanner
from relay.mail.mime_head import Head, Kind
from relay.mail.transfer_encoding import Base64, QuotedPrintable

_SEVEN_BIT_ONLY = bytes((*range(128), *b"?" * 128))


class Encoding(Enum):
    """What the Content-Transfer-Encoding field of a part is to say."""

    SEVEN_BIT = b"7bit"
    QUOTED_PRINTABLE = b"quoted-printable"
    BASE64 = b"base64"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change, by the number of the header in the message.

    `encodings`: new encodings. `versions`: messages that must say MIME-Version, if they do not. `margins`: whether
    there are 8-bit octets before the first or after the last part of a multipart.
    """

    encodings: dict[int, Encoding] = field(default_factory=dict)
    versions: frozenset[int] = frozenset()
    margins: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the message can go as it is."""
        return not self.encodings and not self.margins


@dataclass(frozen=True, slots=True)
class Unconvertible:
    """The message cannot be made 7-bit. `reason`: one line of ASCII for the sender."""

    reason: str


def plan(chunks: Iterable[bytes]) -> Plan | Unconvertible:
    """What must be done to the message whose octets are `chunks`."""
    planner = Planner()
    for chunk in chunks:
        planner.feed(chunk)
    return planner.end()


class Planner:
    """The first pass: each chunk through `feed`, then `end`."""

    def __init__(self) -> None:
        self._scanner = Scanner()
        self._line_ends = _LineEnds()
        self._encodings: dict[int, Encoding] = {}
        self._versions: set[int] = set()
        self._margins = False
        self._refusal: Unconvertible | None = None

    def feed(self, octets: bytes) -> None:
        """Takes the next octets of the message."""
        if self._refusal is None:
            self._line_ends.count(octets)
            self._take(self._scanner.feed(octets))

    def end(self) -> Plan | Unconvertible:
        """What must be done to the message, or why it cannot be done."""
        if self._refusal is None:
            self._take(self._scanner.end())
        if self._refusal is not None:
            return self._refusal
        if not self._line_ends.are_good:
            return Unconvertible("a line does not end in CR LF")
        return Plan(self._encodings, frozenset(self._versions), self._margins)

    def _take(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            reason = self._look_at(piece)
            if reason:
                self._refusal = Unconvertible(reason)
                return

    def _look_at(self, piece: Piece) -> str:
        """Notes what must be done because of `piece`; returns why it cannot be done, or an empty text."""
        match piece:
            case Refused(reason):
                return reason
            case Between(octets):
                self._margins = self._margins or not octets.isascii()
            case Head():
                return self._label(piece)
            case Content(octets, head) if not octets.isascii():
                if head.fixed:
                    return head.fixed
                self._encode(head)
        return ""

    def _label(self, head: Head) -> str:
        """What is to be done because of what the header says."""
        if any(not field.octets.isascii() for field in head.fields):
            return "a header has 8-bit octets"
        if head.kind is Kind.LEAF and head.encoding == b"binary" and not head.fixed:
            self._encode(head)  # its lines may be of any length, so that it needs more than another label
        elif head.encoding in (b"8bit", b"binary"):
            self._encodings[head.number] = Encoding.SEVEN_BIT  # RFC 2045 §6.4, and a leaf that is ASCII so far
        return ""

    def _encode(self, head: Head) -> None:
        # Text stays readable, to people too. In other types a CRLF need not be the end of a line, and base64 is safe
        # for all octets and of a known size.
        self._encodings[head.number] = Encoding.QUOTED_PRINTABLE if head.is_text else Encoding.BASE64
        self._versions.update(head.messages)


class Converter:
    """The second pass: each chunk through `feed`, then `end`; what they return is the message in 7 bits."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._scanner = Scanner()
        self._encoder: QuotedPrintable | Base64 | None = None

    def feed(self, octets: bytes) -> bytes:
        """What is known of the new message after `octets`. Raises ValueError when the plan is not of this message."""
        return b"".join(map(self._convert, self._scanner.feed(octets)))

    def end(self) -> bytes:
        """The rest of the new message. Raises ValueError when the plan is not of this message."""
        rest = b"".join(map(self._convert, self._scanner.end()))
        closing = b"\r\n" if isinstance(self._encoder, Base64) else b""
        return rest + self._end_encoder() + closing

    def _convert(self, piece: Piece) -> bytes:
        match piece:
            case Content(octets):
                return self._encoder.feed(octets) if self._encoder is not None else octets
            case Between(octets):
                # RFC 2046 §5.1.1: no reader shows this text, and it has no header that could say how it is encoded.
                return self._end_encoder() + octets.translate(_SEVEN_BIT_ONLY)
            case Head():
                return self._end_encoder() + self._new_head(piece)
            case Refused(reason):
                raise ValueError(reason)

    def _end_encoder(self) -> bytes:
        encoder, self._encoder = self._encoder, None
        return encoder.end() if encoder is not None else b""

    def _new_head(self, head: Head) -> bytes:
        encoding = self._plan.encodings.get(head.number)
        if encoding is Encoding.QUOTED_PRINTABLE:
            self._encoder = QuotedPrintable()
        elif encoding is Encoding.BASE64:
            self._encoder = Base64()
        octets = [field.octets for field in head.fields]
        if encoding is not None:
            line = b"Content-Transfer-Encoding: " + encoding.value + b"\r\n"
            octets = [line if field.name == b"content-transfer-encoding" else field.octets for field in head.fields]
            if line not in octets:
                octets.append(line)
            if encoding is Encoding.QUOTED_PRINTABLE and not head.has(b"content-type"):
                octets.append(b"Content-Type: text/plain; charset=unknown-8bit\r\n")  # RFC 1428 §3
        if head.number in self._plan.versions and not head.has(b"mime-version"):
            octets.append(b"MIME-Version: 1.0\r\n")
        return b"".join(octets) + head.blank


class _LineEnds:
    """Whether each line ends in CRLF, the last one too, and no CR or LF stands alone."""

    def __init__(self) -> None:
        self._cr = self._lf = self._both = 0
        self._last = b""

    def count(self, octets: bytes) -> None:
        self._cr += octets.count(b"\r")
        self._lf += octets.count(b"\n")
        self._both += octets.count(b"\r\n") + (self._last[-1:] == b"\r" and octets[:1] == b"\n")
        self._last = (self._last + octets[-2:])[-2:]

    @property
    def are_good(self) -> bool:
        return self._cr == self._lf == self._both and self._last in (b"\r\n", b"")
