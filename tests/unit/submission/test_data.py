"""The end of DATA against a reader that goes line by line, however it is cut; and BDAT."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from relay.delivery.dots import DotStuffer
from relay.submission.data import DataReader, PlainReader

# What servers have taken for line ends and message ends, in bits that add up to the real ones often enough.
HOSTILE = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\xff", b"\r\n", b"\r\n.", b".\r\n", b"\r\n.\r\n", b"QUIT\r\n"]),
    max_size=16,
).map(b"".join)
CUTS = st.lists(st.integers(1, 6), max_size=40)


def cut(octets: bytes, sizes: Sequence[int]) -> list[bytes]:
    """`octets` in pieces of these sizes; the last piece is what is left."""
    pieces: list[bytes] = []
    for size in sizes:
        if len(octets) <= size:
            break
        pieces.append(octets[:size])
        octets = octets[size:]
    return [*pieces, octets]


def evenly(octets: bytes, size: int) -> list[bytes]:
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def by_lines(wire: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 section 4.5.2: the message, and what came after its end. None: it has not ended."""
    message: list[bytes] = []
    while True:
        line, end, wire = wire.partition(b"\r\n")
        if not end:
            return None
        if line == b".":
            return b"".join(message), wire
        message.append(line.removeprefix(b".") + end)


def read(pieces: list[bytes]) -> tuple[list[bytes], bytes] | None:
    """The same with a DataReader, the message in the chunks it came in."""
    reader = DataReader()
    chunks: list[bytes] = []
    for number, piece in enumerate(pieces):
        chunks.append(reader.feed(piece))
        if reader.ended:
            return chunks, reader.rest + b"".join(pieces[number + 1 :])
        assert reader.rest == b""
    return None


@given(HOSTILE, CUTS)
@example(b".\r\n", [])
@example(b".\r\nQUIT\r\n", [1, 1, 1])
@example(b"a\r\n.\r\n.\r\n", [4])
@example(b"a\r\n.\r.\r\n.\r\n", [5])
@example(b"\r\n.\n.\r\n.\r\n", [3, 1])
@example(b"\r\r\n.\r\n", [1, 2])
def test_message_and_rest_are_those_of_a_reader_by_lines(wire: bytes, sizes: list[int]) -> None:
    expected, found = by_lines(wire), read(cut(wire, sizes))
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (b"".join(found[0]), found[1]) == expected


@given(HOSTILE, CUTS)
def test_what_has_not_ended_is_whole_once_it_ends(wire: bytes, sizes: list[int]) -> None:
    wire += b"\r\n.\r\n"
    found = read(cut(wire, sizes))
    assert found is not None
    assert (b"".join(found[0]), found[1]) == by_lines(wire)


@given(HOSTILE, CUTS)
def test_no_chunk_ends_between_cr_and_lf(wire: bytes, sizes: list[int]) -> None:
    """What looks at lines relies on it."""
    found = read(cut(wire + b"\r\n.\r\n", sizes))
    assert found is not None
    chunks = [chunk for chunk in found[0] if chunk]
    for one, next_one in itertools.pairwise(chunks):
        assert not (one.endswith(b"\r") and next_one.startswith(b"\n"))


@given(HOSTILE, CUTS)
def test_what_our_own_client_stuffs_comes_out_again(body: bytes, sizes: list[int]) -> None:
    body += b"\r\n"
    stuffer = DotStuffer()
    wire = stuffer.stuff(body) + stuffer.end()
    found = read(cut(wire, sizes))
    assert found is not None
    assert (b"".join(found[0]), found[1]) == (body, b"")


@given(HOSTILE, CUTS)
@example(b"a\r", [1])
@example(b"a\r\n", [1, 1, 1])
def test_bdat_gives_every_octet_and_never_ends_between_cr_and_lf(wire: bytes, sizes: list[int]) -> None:
    reader = PlainReader()
    chunks = [*map(reader.feed, cut(wire, sizes)), reader.end()]
    assert b"".join(chunks) == wire
    for one, next_one in itertools.pairwise([chunk for chunk in chunks if chunk]):
        assert not (one.endswith(b"\r") and next_one.startswith(b"\n"))
