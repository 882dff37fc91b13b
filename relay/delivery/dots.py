"""Dot-stuffing of a message in pieces. Pure.

RFC 5321 section 4.5.2. Apart from the dots that it asks for, and a CRLF where the message does not end in one, the
octets go out as they are: bare CR and LF were settled at submission and are neither repaired nor stuffed here.
"""

from __future__ import annotations


class DotStuffer:
    """One message on its way into DATA: each piece through `stuff`, then `end`."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two octets before the next piece; a message starts where a line starts

    def stuff(self, piece: bytes) -> bytes:
        """The octets to send for the next piece of the message."""
        tail = self._tail
        self._tail = (tail + piece[-2:])[-2:]
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        # A line end that was cut in two by the pieces.
        if piece.startswith(b".") and tail == b"\r\n":
            return b"." + stuffed
        if piece.startswith(b"\n.") and tail.endswith(b"\r"):
            return b"\n." + stuffed[1:]
        return stuffed

    def end(self) -> bytes:
        """The octets that end the message."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"
