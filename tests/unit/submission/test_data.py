"""The end of DATA against a reader that goes line by line, and what is seen of a message, however it is cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.delivery.dots import DotStuffer
from relay.submission.data import DataReader, Inspection

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
    """Inspection relies on it."""
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


# Ends of messages that other servers have taken for the real one; each is followed by what would be smuggled.
NO_ENDS = {
    b"\n.\n": "Bare LF in the message (line 1, octet 6); lines must end with CRLF",
    b"\n.\r\n": "Bare LF in the message (line 1, octet 6); lines must end with CRLF",
    b"\r.\r": "Bare CR in the message (line 1, octet 6); lines must end with CRLF",
    b"\r.\r\n": "Bare CR in the message (line 1, octet 6); lines must end with CRLF",
    b"\r\n.\n": "Bare LF in the message (line 2, octet 1); lines must end with CRLF",
    b"\r\n.\r": "Bare CR in the message (line 2, octet 1); lines must end with CRLF",
    b"\r\n.\r\r\n": "Bare CR in the message (line 2, octet 1); lines must end with CRLF",
    b"\r\r\n.\r\r\n": "Bare CR in the message (line 1, octet 6); lines must end with CRLF",
    b"\n\r.\r\n": "Bare LF in the message (line 1, octet 6); lines must end with CRLF",
    b"\n\r\n.\n\r\n": "Bare LF in the message (line 1, octet 6); lines must end with CRLF",
    b"\r\n\0.\r\n": "NUL in the message (line 2, octet 1); lines must end with CRLF",
    b"\r\n.\0\r\n": "NUL in the message (line 2, octet 1); lines must end with CRLF",
    b"\0\r\n.\n": "NUL in the message (line 1, octet 6); lines must end with CRLF",
    b"\r\n..\r\n": None,
    b"\r\n. \r\n": None,
    b"\r\n .\r\n": None,
    b"\r\n.\t\r\n": None,
    b"\r\n\xe2\x80\xa4\r\n": None,  # a dot of Unicode
    b"\r\n\xae\r\n": None,  # a dot with its eighth bit set
    b"\xc2\x85.\xc2\x85": None,  # a line end of Unicode
    b"\x0b.\x0b": None,
}


@pytest.mark.parametrize("sequence", NO_ENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_nothing_else_ends_a_message(sequence: bytes, size: int) -> None:
    smuggled = b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<victim@example.test>\r\nDATA\r\nx"
    pieces = evenly(b"first" + sequence + smuggled + b"\r\n.\r\nNOOP\r\n", size)
    found = read(pieces)
    assert found is not None
    assert found[1] == b"NOOP\r\n"
    assert b"".join(found[0]).endswith(smuggled + b"\r\n")
    inspection = Inspection()
    for chunk in found[0]:
        inspection.look(chunk)
    assert inspection.fault == NO_ENDS[sequence]


def look(message: bytes, sizes: Sequence[int] = ()) -> Inspection:
    """An inspection of `message`, cut as the network would, that has seen what DataReader made of it."""
    stuffer = DotStuffer()
    found = read(cut(stuffer.stuff(message) + stuffer.end(), sizes))
    assert found is not None
    inspection = Inspection()
    for chunk in found[0]:
        inspection.look(chunk)
    return inspection


MESSAGE_IDS: dict[bytes, str | None] = {
    b"Message-ID: <a@b>\r\n\r\nx\r\n": "a@b",
    b"MESSAGE-ID:<a@b>\r\n\r\nx\r\n": "a@b",
    b"message-id \t:   <a@b>  \r\n\r\n": "a@b",
    b"Subject: x\r\nMessage-Id: <A@b>\r\nTo: y\r\n\r\n": "A@b",
    b"Message-ID: <a@b>\r\n": "a@b",  # no blank line, no body
    b"Message-ID: <a@b>": "a@b",
    b"Message-ID:\r\n <a@b>\r\n\r\n": "a@b",
    b"Message-ID:\r\n\t\r\n <a@b>\r\n\r\n": "a@b",
    b"Message-ID: <a\r\n @b>\r\n\r\n": "a @b",
    b"Message-ID: <a@b> (a comment)\r\n\r\n": "a@b",
    b"Message-ID: (one) <a@b> <c@d>\r\n\r\n": "a@b",
    b"Message-ID: a@b\r\n\r\n": "a@b",  # no brackets: better than nothing
    b"Message-ID: <a@b\r\n\r\n": "<a@b",
    b"Message-ID: < a@b >\r\n\r\n": "a@b",
    b"Message-ID: <a@b>\r\nMessage-ID: <c@d>\r\n\r\n": "a@b",
    b"Message-ID:\r\nMessage-ID: <c@d>\r\n\r\n": None,
    b"Message-ID: <>\r\n\r\n": None,
    b"Message-ID:\r\n\r\n": None,
    b"Message-ID: <\xc3\xa4@b>\r\n\r\n": "ä@b",
    b"Message-ID: <\xff@b>\r\n\r\n": "\ufffd@b",
    b"Message-ID: <a\x1b[2J@b>\r\n\r\n": "a\ufffd[2J@b",
    b"Message-ID: <" + b"x" * 2000 + b">\r\n\r\n": "x" * 998,
    b"X-Message-ID: <a@b>\r\n\r\n": None,
    b"Message-ID-X: <a@b>\r\n\r\n": None,
    b"Message-ID <a@b>\r\n\r\n": None,
    b"Subject: x\r\n Message-ID: <a@b>\r\n\r\n": None,  # the second line belongs to the subject
    b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n": None,  # the body
    b"\r\nMessage-ID: <a@b>\r\n": None,  # no header at all
    b"Subject: x\r\n\r\n": None,
    b"": None,
}


@pytest.mark.parametrize("message", MESSAGE_IDS, ids=lambda message: message[:40])
def test_message_id(message: bytes) -> None:
    for size in (1, 2, 3, 7, 10000):
        assert look(message, [size] * (len(message) + 5)).message_id == MESSAGE_IDS[message], size


HOPS = {
    b"": 0,
    b"Received: x\r\n\r\n": 1,
    b"RECEIVED:x\r\nreceived : x\r\nReceived\t: x\r\n y\r\n\r\n": 3,
    b"Received: x\r\n Received: y\r\n\r\n": 1,
    b"Received: x\r\n\r\nReceived: y\r\n": 1,
    b"\r\nReceived: y\r\n": 0,
    b"Subject: x\r\n\r\nlater\r\nReceived: y\r\n": 0,
    b"X-Received: x\r\nReceived-SPF: x\r\nReceived x\r\n\r\n": 0,
    b"Received: x\r\n" * 60 + b"\r\n": 60,
}


@pytest.mark.parametrize("message", HOPS, ids=lambda message: message[:30])
def test_hops(message: bytes) -> None:
    for size in (1, 2, 3, 7, 10000):
        assert look(message, [size] * (len(message) + 5)).hops == HOPS[message], size


# -> in the whole message, in its header section
EIGHT_BIT = {
    b"": (False, False),
    b"Subject: x\r\n\r\n\x7f\r\n": (False, False),
    b"Subject: x\r\n\r\n\x80\r\n": (True, False),
    b"Subject: x\r\n\r\nlater in the body: \x80\r\n": (True, False),
    b"Subject: \xc3\xa4\r\n\r\nx\r\n": (True, True),
    b"Subject: x\xff": (True, True),
    b"Subject: x\r\n\r\n\r\n\r\n\xff": (True, False),
    b"\r\n\xff\r\n\r\n": (True, False),
}


@pytest.mark.parametrize("message", EIGHT_BIT)
def test_eight_bit(message: bytes) -> None:
    for size in (1, 2, 3, 7, 10000):
        seen = look(message, [size] * (len(message) + 5))
        assert (seen.eight_bit, seen.eight_bit_header) == EIGHT_BIT[message], size


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
        assert look(message, [size] * (len(message) + 5)).fault == expected, size


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


HEADERS = st.lists(
    st.sampled_from(
        [
            b"Received: x\r\n",
            b"Message-ID:",
            b" <a@b>",
            b"\r\n",
            b"\r\n\t",
            b"\n",
            b"\r",
            b"\xe4",
            b"\0",
            b".",
            b"Subject:",
        ]
    ),
    max_size=14,
).map(b"".join)


@given(HEADERS, CUTS)
@example(b"a\r", [1])
@example(b"a\r\r\n\n", [3, 1])
def test_cuts_change_nothing(message: bytes, sizes: list[int]) -> None:
    message += b"" if message.endswith(b"\r\n") else b"\r\n"
    cut_up, whole = look(message, sizes), look(message)
    for seen in (cut_up, whole):
        assert seen.size == len(message)
        assert seen.eight_bit == (not message.isascii())
        assert seen.fault == first_fault(message)
    header = b"" if message.startswith(b"\r\n") else message.partition(b"\r\n\r\n")[0]
    assert cut_up.eight_bit_header == whole.eight_bit_header == (not header.isascii())
    assert cut_up.hops == whole.hops == header.count(b"\nReceived:") + header.startswith(b"Received:")
    assert cut_up.message_id == whole.message_id


def test_cuts_change_nothing_in_a_huge_header() -> None:
    """What lies beyond the part that is looked at must not be seen when it happens to come in one chunk with it."""
    message = b"X: " + b"x" * (300 << 10) + b"\xff\r\nReceived: x\r\nMessage-ID: <a@b>\r\n\r\n"
    found = []
    for size in (4096, 1 << 20):
        inspection = Inspection()
        for chunk in evenly(message, size):
            inspection.look(chunk)
        found.append((inspection.hops, inspection.message_id, inspection.eight_bit_header))
    assert found[0] == found[1]
