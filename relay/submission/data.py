"""What comes after DATA or BDAT: where the message ends, and its octets without what the wire needs. Pure.

Only CRLF.CRLF ends DATA, whatever else looks like it, and BDAT ends by number: inside of it CRLF.CRLF is content. So
nothing can be smuggled through us. RFC 5321 sections 2.3.8, 4.1.1.4 and 4.5.2, RFC 3030 section 2.
Cost: a handful of scans at C speed for each chunk, no loop over lines.
"""

from __future__ import annotations

_END = b"\r\n.\r\n"


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


class PlainReader:
    """Takes a message's octets as they are (BDAT, HTTP), gives them back never ending between CR and LF."""

    def __init__(self) -> None:
        self._held = b""  # a CR, which may yet be the first half of a line end

    def feed(self, octets: bytes | bytearray) -> bytes:
        """The next octets of the message."""
        data = self._held + octets
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data[:-1] if self._held else data

    def end(self) -> bytes:
        """What is left."""
        return self._held
