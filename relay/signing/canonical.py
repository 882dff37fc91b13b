"""Header and body in the one form that signer and verifier both hash. Pure.

RFC 6376 section 3.4. The body comes in pieces of any size, cut anywhere, and nothing of it is kept but what the next
octet decides. Cost: a few scans at C speed for each piece, and one step for each field of the header.
"""

from __future__ import annotations

import hashlib

CRLF = b"\r\n"
_MANY_LINES = 16 * 1024  # empty lines that are hashed at once

# The names of fields in lower case, and the whole fields in canonical form, each with its CRLF: from top to bottom.
Fields = tuple[list[bytes], list[bytes]]


class BodyHash:
    """SHA-256 over a body: each piece through `feed`, then `digest`, once. RFC 6376 sections 3.4.3 and 3.4.4.

    The body is what arrives: where the message does not end in CRLF, one is added on the way, and hashed here.
    """

    def __init__(self, relaxed: bool) -> None:
        self._relaxed = relaxed
        self._hash = hashlib.sha256()
        self._held = b""  # blanks and CR at the end of the last piece: what comes next says what they are
        self._lines = 0  # line ends not yet hashed: they count only when something follows
        self._empty = True

    def feed(self, piece: bytes) -> None:
        """Takes the next octets of the body."""
        octets = self._held + piece if self._held else piece
        if self._relaxed:
            octets = _without_blanks(octets)
        octets = self._hold(octets)
        text, lines = _without_line_ends(octets)
        if text:
            self._hash_line_ends()
            self._hash.update(text)
            self._empty = False
            self._lines = lines
        else:
            self._lines += lines

    def digest(self) -> bytes:
        """The hash of the whole body."""
        rest = self._held.rstrip(b" ") if self._relaxed else self._held
        if rest:
            self._hash_line_ends()
            self._hash.update(rest)
            self._empty = False
        if not self._empty or not self._relaxed:
            self._hash.update(CRLF)
        return self._hash.digest()

    def _hold(self, octets: bytes) -> bytes:
        """The octets without those at the end that the next piece decides about."""
        held = 1 if octets.endswith(b"\r") else 0
        if self._relaxed and octets.endswith(b" ", 0, len(octets) - held):
            held += 1  # never two: they were made one
        self._held = octets[len(octets) - held :]
        return octets[:-held] if held else octets

    def _hash_line_ends(self) -> None:
        while self._lines > _MANY_LINES:
            self._hash.update(CRLF * _MANY_LINES)
            self._lines -= _MANY_LINES
        if self._lines:
            self._hash.update(CRLF * self._lines)
            self._lines = 0


def _without_line_ends(octets: bytes) -> tuple[bytes, int]:
    """What is before the CRLFs at the end, and how many there are. A bare CR or LF is text."""
    text = octets.rstrip(CRLF)
    ends = octets[len(text) :]
    lines = len(ends) >> 1
    if ends == CRLF * lines:
        return text, lines
    if ends.endswith(b"\r"):
        return octets, 0
    # Behind the last pair of equal ones they alternate, and all but a first LF are CRLFs.
    cut = max(ends.rfind(b"\r\r"), ends.rfind(b"\n\n")) + 1
    cut += ends.startswith(b"\n", cut)
    return octets[: len(text) + cut], (len(ends) - cut) >> 1


def _without_blanks(octets: bytes) -> bytes:
    """RFC 6376 section 3.4.4: one space for any blanks, and none at the end of a line."""
    octets = _single_spaced(octets)
    return octets.replace(b" \r\n", CRLF) if octets.rfind(b" \r\n") >= 0 else octets  # twice as fast as `in`


def _single_spaced(octets: bytes) -> bytes:
    if b"\t" in octets:
        octets = octets.replace(b"\t", b" ")
    while octets.rfind(b"  ") >= 0:  # twice as fast as `in`
        octets = octets.replace(b"  ", b" ")
    return octets


def fields_of(header: bytes, relaxed: bool, wanted: frozenset[bytes]) -> Fields:
    """The fields of a header section whose names, in lower case, are `wanted`.

    `header` is without the empty line after it. Lines that belong to no field are passed over.
    """
    return _relaxed_fields(header, wanted) if relaxed else _simple_fields(header, wanted)


def _relaxed_fields(header: bytes, wanted: frozenset[bytes]) -> Fields:
    """RFC 6376 section 3.4.2."""
    if b"\t" in header:
        header = header.replace(b"\t", b" ")
    names, fields = list[bytes](), list[bytes]()
    for line in _single_spaced(header.replace(b"\r\n ", b" ")).split(CRLF):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if name not in wanted:
            name = name.rstrip(b" ")
            if name not in wanted:
                continue
        if colon:
            names.append(name)
            fields.append(name + b":" + value.strip(b" ") + CRLF)
    return names, fields


def _simple_fields(header: bytes, wanted: frozenset[bytes]) -> Fields:
    """RFC 6376 section 3.4.1."""
    names, fields = list[bytes](), list[bytes]()
    goes_on = False  # a folded line belongs to the last one of `fields`
    for line in header.split(CRLF):
        if line.startswith((b" ", b"\t")):
            if goes_on:
                fields[-1] += line + CRLF
            continue
        name, colon, _ = line.partition(b":")
        name = name.rstrip(b" \t").lower()
        goes_on = bool(colon) and name in wanted
        if goes_on:
            names.append(name)
            fields.append(line + CRLF)
    return names, fields
