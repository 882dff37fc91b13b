"""What comes after DATA: finds its end, takes the dots off, and looks at the message as it passes. Pure.

Only CRLF.CRLF ends a message, whatever else looks like it; an octet that another server might read differently (a bare
CR, a bare LF, a NUL) is found and the message refused, after its true end. So nothing can be smuggled through us.
RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2. Cost: a handful of scans at C speed for each chunk, no loop over lines.
"""

from __future__ import annotations

import re

from relay.submission.replies import printable

_END = b"\r\n.\r\n"
_FAULT = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")
_HARMLESS = bytes(octet for octet in range(256) if octet not in b"\r\n\x00")
_FAULT_NAMES = {b"\r": "Bare CR", b"\n": "Bare LF", b"\x00": "NUL"}
_MAX_HEADER = 256 * 1024
_MAX_MESSAGE_ID = 998
# For a header in lower case with a line end before it: a fixed beginning lets `re` look for it at C speed.
_RECEIVED = re.compile(rb"\nreceived[ \t]*:")
_MESSAGE_ID = re.compile(rb"\nmessage-id[ \t]*:((?:[^\r\n]|\r\n[ \t])*)")
_TLS_REQUIRED = re.compile(rb"\ntls-required[ \t]*:((?:[^\r\n]|\r\n[ \t])*)")
_BRACKETED = re.compile(rb"<([^<>]*)>")


class DataReader:
    """Takes chunks off the wire, gives back the message's octets. The line before the first one is taken as ended."""

    def __init__(self) -> None:
        self._held = b"\r\n"  # what may yet turn out to be the beginning of the end
        self._skip = 2  # that first CRLF is not part of the message
        self.ended = False
        self.rest = b""  # what follows the end: the client's next commands

    def feed(self, octets: bytes | bytearray) -> bytes:
        """The next octets of the message, without stuffed dots; never ending between CR and LF."""
        data = self._held + octets
        dotted = b"\r\n." in data  # one scan instead of two for nearly every chunk of a large message
        end = data.find(_END) if dotted else -1
        if end >= 0:
            self.ended = True
            self.rest = data[end + 5 :]
            data = data[: end + 2]
            self._held = b""
        else:
            kept = len(data) - _overlap(data)
            self._held = data[kept:]
            data = data[:kept]
        # RFC 5321 §4.5.2: a dot at the start of a line is taken off. A CRLF at the end of `data` is always held back,
        # so a CRLF and its dot are never in different chunks.
        clean = data.replace(b"\r\n.", b"\r\n") if dotted else data
        if self._skip and clean:
            clean = clean[self._skip :]
            self._skip = 0
        return clean


def _overlap(data: bytes) -> int:
    """How many octets at the end of `data` are a beginning of CRLF.CRLF."""
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0


class Inspection:
    """Looks at a message's octets as they pass: size, 8-bit, faults, and what its header section says."""

    def __init__(self) -> None:
        self.size = 0
        self.eight_bit = False  # some octet is over 127
        self.fault: str | None = None  # the first octet that SMTP does not carry, and where
        self._lines = 0
        self._line_start = 0
        self._header = bytearray()
        self._header_open = True

    def look(self, octets: bytes) -> None:
        """Take the next octets, as DataReader gives them."""
        if self._header_open:
            self._collect_header(octets)
        if not self.eight_bit and not octets.isascii():
            self.eight_bit = True
        if self.fault is None:
            self._find_fault(octets)
        self.size += len(octets)

    @property
    def eight_bit_header(self) -> bool:
        """Whether the header section holds octets over 127. RFC 6532."""
        return not self._header.isascii()

    @property
    def waives_tls(self) -> bool:
        """Whether the header section says `TLS-Required: No`, once and nothing else. RFC 8689 section 3."""
        values = _TLS_REQUIRED.findall(b"\n" + self._header.lower())
        return len(values) == 1 and values[0].split() == [b"no"]

    @property
    def hops(self) -> int:
        """How many Received lines the header section has."""
        return len(_RECEIVED.findall(b"\n" + self._header.lower()))

    @property
    def message_id(self) -> str | None:
        """The first Message-ID without its brackets; None when there is none."""
        found = _MESSAGE_ID.search(b"\n" + self._header.lower())
        if found is None:
            return None
        text = self._header[found.start(1) - 1 : found.end(1) - 1].replace(b"\r\n", b"").strip()
        bracketed = _BRACKETED.search(text)
        value = (bracketed[1] if bracketed else text).strip()[:_MAX_MESSAGE_ID]
        return printable(value.decode("utf-8", "replace")) or None

    def _collect_header(self, octets: bytes) -> None:
        looked_at = max(0, len(self._header) - 3)
        self._header += octets[: _MAX_HEADER - len(self._header)]
        end = 0 if self._header.startswith(b"\r\n") else self._header.find(b"\r\n\r\n", looked_at)
        self._header_open = end < 0 and len(self._header) < _MAX_HEADER
        if end >= 0:
            del self._header[end:]

    def _find_fault(self, octets: bytes) -> None:
        line_ends = octets.count(b"\r\n")
        if len(octets.translate(None, _HARMLESS)) != 2 * line_ends:
            found = _FAULT.search(octets)
            if found is not None:
                self._report(octets, found)
        self._lines += line_ends
        last = octets.rfind(b"\r\n")
        if last >= 0:
            self._line_start = self.size + last + 2

    def _report(self, octets: bytes, found: re.Match[bytes]) -> None:
        line = self._lines + octets.count(b"\r\n", 0, found.start()) + 1
        last = octets.rfind(b"\r\n", 0, found.start())
        start = self._line_start if last < 0 else self.size + last + 2
        octet = self.size + found.start() - start + 1
        self.fault = f"{_FAULT_NAMES[found[0]]} in the message (line {line}, octet {octet}); lines must end with CRLF"
