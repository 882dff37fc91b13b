"""Faults, long lines and line ends, against octet by octet, however a message is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.submission.data import PlainReader
from relay.submission.lines import Lines, normalise

CUTS = st.lists(st.integers(1, 6), max_size=40)


def pieces(message: bytes, sizes: Sequence[int]) -> list[bytes]:
    """As they come off the wire: never ending between CR and LF."""
    reader = PlainReader()
    given = []
    for size in sizes:
        given.append(reader.feed(message[:size]))
        message = message[size:]
    return [*given, reader.feed(message), reader.end()]


def fault(message: bytes, sizes: Sequence[int] = (), *, refuse_long: bool = False) -> str | None:
    lines = Lines(refuse_long)
    for piece in pieces(message, sizes):
        found = lines.look(piece)
        if found is not None:
            return found
    return None


FAULTS = {
    b"a\r\nb\r\n": None,
    b"\0": "NUL in the message (line 1, octet 1)",
    b"\n": "Bare LF in the message (line 1, octet 1)",
    b"\r": "Bare CR in the message (line 1, octet 1)",
    b"a\r\nbc\nd": "Bare LF in the message (line 2, octet 3)",
    b"a\r\nbc\rd\n": "Bare CR in the message (line 2, octet 3)",
    b"a\r\n\r\n\r\nbcd\0": "NUL in the message (line 4, octet 4)",
    b"a\r\n\n": "Bare LF in the message (line 2, octet 1)",
    b"a\r\r\n": "Bare CR in the message (line 1, octet 2)",
    b"a\n\r\n": "Bare LF in the message (line 1, octet 2)",
    b"a\n\r\n\r\0": "Bare LF in the message (line 1, octet 2)",  # the first of several
    b"\r\n.\r\n..\n": "Bare LF in the message (line 3, octet 3)",  # stuffed dots do not count
    b"x" * 100 + b"\r\n" + b"y" * 200 + b"\0": "NUL in the message (line 2, octet 201)",
}


@pytest.mark.parametrize("message", FAULTS, ids=lambda message: repr(message[:20]))
def test_fault(message: bytes) -> None:
    expected = FAULTS[message] and f"{FAULTS[message]}; lines must end with CRLF"
    for size in (1, 2, 3, 7, 10000):
        assert fault(message, [size] * (len(message) + 5)) == expected, size


def first_fault(message: bytes) -> str | None:
    """The same, octet by octet."""
    line = octet = 1
    place = 0
    while place < len(message):
        if message[place : place + 2] == b"\r\n":
            line, octet, place = line + 1, 1, place + 2
            continue
        name = {b"\r": "Bare CR", b"\n": "Bare LF", b"\0": "NUL"}.get(message[place : place + 1])
        if name is not None:
            return f"{name} in the message (line {line}, octet {octet}); lines must end with CRLF"
        octet, place = octet + 1, place + 1
    return None


HOSTILE = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\xff", b"\r\n", b"\r\n.", b".\r\n", b"\r\n.\r\n"]), max_size=16
).map(b"".join)


@given(HOSTILE, CUTS)
@example(b"a\r", [1])
@example(b"a\r\r\n\n", [3, 1])
def test_the_first_fault_is_found(message: bytes, sizes: list[int]) -> None:
    assert fault(message, sizes) == fault(message) == first_fault(message)


@given(HOSTILE, CUTS)
@example(b"\r\0\n", [2])
@example(b"\r\n\0\r\n", [3])
@example(b"\r", [])
def test_normalised_lines_end_with_crlf_however_they_are_cut(message: bytes, sizes: list[int]) -> None:
    wanted = re.sub(rb"\r\n|\r|\n", b"\r\n", message).replace(b"\0", b"")
    found = [normalise(piece) for piece in pieces(message, sizes)]
    assert b"".join(found) == wanted
    assert fault(b"".join(found)) is None
    assert not any(piece.endswith(b"\r") for piece in found)  # what comes after relies on it


# lines' lengths -> the first that is too long
LONG = {
    (998,): None,
    (999,): 1,
    (10, 998, 998, 0, 998): None,
    (10, 998, 998, 0, 999): 5,
    (998, 5000, 999): 2,
    (0,) * 500 + (999,): 501,
    (400,) * 20 + (1000, 1): 21,
    (100_000,): 1,
}


@pytest.mark.parametrize("lengths", LONG, ids=lambda lengths: repr(lengths[-3:]))
def test_long_lines(lengths: tuple[int, ...]) -> None:
    message = b"".join(b"x" * length + b"\r\n" for length in lengths)
    number = LONG[lengths]
    expected = None if number is None else f"Line {number} of the message is longer than 998 octets"
    for size in (1, 7, 997, 999, 1001, 1 << 20):
        assert fault(message, [size] * (len(message) // size + 1), refuse_long=True) == expected, size
    assert fault(message) is None  # unless they are to be refused


@given(st.lists(st.integers(0, 2500) | st.integers(990, 1005), max_size=8), st.lists(st.integers(1, 3000), max_size=8))
def test_the_first_long_line_is_found(lengths: list[int], sizes: list[int]) -> None:
    message = b"".join(b"x" * length + b"\r\n" for length in lengths)
    first = next((number for number, length in enumerate(lengths, 1) if length > 998), None)
    expected = None if first is None else f"Line {first} of the message is longer than 998 octets"
    assert fault(message, sizes, refuse_long=True) == expected
