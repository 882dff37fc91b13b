"""Quoted-printable and base64, for octets that come in chunks of any size. Pure.

RFC 2045 sections 6.7 and 6.8. `binascii.b2a_qp` finds what must be escaped, but does not cut the lines: it needs whole
ones, of any length, and lets dots and `From ` stand at the start of lines.
"""

from __future__ import annotations

import binascii

_LINE = 76  # RFC 2045 §6.7 (5)
_LONG = 4_096  # so much of a line is waited for
_AHEAD = 8  # so much must be known after the place where a line is cut, and after an octet: "From ", CRLF
_TRIPLES = 57  # octets that make a line of 76 in base64


class QuotedPrintable:
    """Text whose lines end in CRLF, and in nothing else, into quoted-printable. Holds one line at most."""

    def __init__(self) -> None:
        self._raw = b""  # not yet looked at, after the last line end
        self._line = b""  # the beginning of the line, encoded, from the last soft line break on
        self._start = True  # whether `_raw` begins a line

    def feed(self, octets: bytes) -> bytes:
        """What is known of the encoded text after `octets`."""
        lines, end, self._raw = (self._raw + octets).rpartition(b"\r\n")
        encoded = self._whole_lines(lines + end) if end else b""
        if len(self._raw) <= _LONG:
            return encoded
        piece, self._raw = self._raw[:-_AHEAD], self._raw[-_AHEAD:]
        self._line += self._escape(piece)
        self._start = False
        folded, self._line = _fold(self._line, _LINE + _AHEAD)
        return encoded + folded

    def end(self) -> bytes:
        """The rest. Text that does not end in a line end gets none."""
        raw, self._raw = self._raw, b""
        # A blank at the very end stands before the line end of a delimiter.
        return self._whole_lines(raw + b"\r\n")[:-2]

    def _whole_lines(self, raw: bytes) -> bytes:
        text = self._line + self._escape(raw)
        self._line, self._start = b"", True
        return b"\r\n".join(
            [line if len(line) <= _LINE else b"".join(_fold(line, _LINE)) for line in text.split(b"\r\n")]
        )

    def _escape(self, raw: bytes) -> bytes:
        # With an octet more: `raw` can end within a line, and blanks there are not escaped.
        encoded = binascii.b2a_qp(b"%bx" % raw)[:-1]
        # Its soft line breaks go, and dots are not escaped where it happens to have begun a line.
        escaped = encoded.replace(b"=\r\n", b"").replace(b"=\n", b"").replace(b"=2E", b".")
        lines = b"\n" + escaped if self._start else escaped
        # At the start of a line: a dot (for hosts that are bad at RFC 5321 §4.5.2), and From (it begins a message in
        # some mailboxes).
        lines = lines.replace(b"\n.", b"\n=2E").replace(b"\nFrom ", b"\n=46rom ")
        return lines[1:] if self._start else lines


def _fold(line: bytes, limit: int) -> tuple[bytes, bytes]:
    """Cuts off the beginning of an encoded line with soft line breaks until no more than `limit` octets are left."""
    cut: list[bytes] = []
    at, first = 0, b""
    while len(line) - at + len(first) > limit:
        end = at + _LINE - 1 - len(first)
        # No cut within =XX.
        if line[end - 1] == 0x3D:
            end -= 1
        elif line[end - 2] == 0x3D:
            end -= 2
        cut += (first, line[at:end], b"=\r\n")
        at, first = end, b""
        if line.startswith((b".", b"From "), at):
            first = b"=%02X" % line[at]
            at += 1
    return b"".join(cut), first + line[at:]


class Base64:
    """Octets into base64, in lines of 76."""

    def __init__(self) -> None:
        self._raw = b""
        self._begun = False

    def feed(self, octets: bytes) -> bytes:
        """The lines that are full after `octets`, each but the first with the line end before it."""
        raw = self._raw + octets
        whole = len(raw) - len(raw) % _TRIPLES
        self._raw = raw[whole:]
        return self._lines(raw[:whole])

    def end(self) -> bytes:
        """The last line, without a line end."""
        raw, self._raw = self._raw, b""
        return self._lines(raw)

    def _lines(self, raw: bytes) -> bytes:
        if not raw:
            return b""
        encoded = binascii.b2a_base64(raw, newline=False)
        lines = [encoded[at : at + _LINE] for at in range(0, len(encoded), _LINE)]
        before, self._begun = (b"\r\n" if self._begun else b""), True
        return before + b"\r\n".join(lines)
