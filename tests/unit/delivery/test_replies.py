"""Cutting octets into replies: real and broken ones, at every split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.replies import MAX_REPLY_LINES, MAX_REPLY_OCTETS, ReplyError, ReplyReader, printable
from relay.mail.status import Reply

GOOD = [
    (b"250 2.1.0 ok\r\n", 250, ("2.1.0 ok",), "2.1.0"),
    (b"250 ok\n", 250, ("ok",), "2.0.0"),  # a bare LF
    (b"250\r\n", 250, ("",), "2.0.0"),  # RFC 5321 section 4.2: the code alone
    (b"250 \r\n", 250, ("",), "2.0.0"),
    (b"354 go\r\n", 354, ("go",), "2.0.0"),
    (b"599 odd\r\n", 599, ("odd",), "5.0.0"),
    (b"550-5.1.1 no\r\n550-such\r\n550 user\r\n", 550, ("5.1.1 no", "such", "user"), "5.1.1"),
    (b"250-a\r\n250\r\n", 250, ("a", ""), "2.0.0"),
    (b"550 4.1.1 the code decides\r\n", 550, ("4.1.1 the code decides",), "5.1.1"),
    ("451 später\r\n".encode(), 451, ("später",), "4.0.0"),
    (b"451 sp\xe4ter\r\n", 451, ("sp\ufffdter",), "4.0.0"),  # Latin-1
    (b"550 a\tb\x07\x1b[31m\x00c\r\r\n", 550, ("a b[31mc",), "5.0.0"),
    ("550 a\u202eb\u2028c\u009bd\r\n".encode(), 550, ("abcd",), "5.0.0"),
]

BAD = [
    b"\r\n",
    b"25 ok\r\n",
    b"25\r\n",
    b"2500 ok\r\n",
    b"250ok\r\n",
    b"250\tok\r\n",
    b" 250 ok\r\n",
    b"+25 ok\r\n",
    b"2_5 ok\r\n",
    b"199 ok\r\n",
    b"100 ok\r\n",
    b"600 ok\r\n",
    b"000 ok\r\n",
    b"\xb2\xb2\xb2 ok\r\n",
    "２５０ ok\r\n".encode(),
    b"HTTP/1.1 400 Bad Request\r\n",
    b"\x16\x03\x01\x02\x00\x01\n",
    b"250-a\r\n550 b\r\n",
    b"250-a\r\nb\r\n",
    b"250-a\r\n\r\n",
]


def read_all(reader: ReplyReader) -> list[Reply]:
    found = []
    while (reply := reader.next()) is not None:
        found.append(reply)
    return found


@pytest.mark.parametrize(("octets", "code", "lines", "status"), GOOD)
def test_good(octets: bytes, code: int, lines: tuple[str, ...], status: str) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    reply = reader.next()
    assert reply is not None
    assert (reply.code, reply.lines, str(reply.status)) == (code, lines, status)
    assert reader.next() is None
    assert reader.unread == 0


@pytest.mark.parametrize("octets", BAD)
def test_bad(octets: bytes) -> None:
    reader = ReplyReader()
    reader.feed(octets)
    with pytest.raises(ReplyError) as caught:
        read_all(reader)
    assert str(caught.value).isprintable()


def test_bad_quotes_the_beginning() -> None:
    reader = ReplyReader()
    reader.feed(b"\x1b]0;" + b"x" * 5000 + b"\n")
    with pytest.raises(ReplyError, match=r'^"\]0;x{196}\.\.\." is not a line of an SMTP reply$'):
        reader.next()


@given(
    st.lists(
        st.tuples(
            st.integers(200, 599),
            st.lists(st.text(st.characters(exclude_categories=["C", "Z"])), min_size=1, max_size=4),
            st.sampled_from([b"\r\n", b"\n"]),
        ),
        max_size=5,
    ),
    st.data(),
)
def test_splits(replies: list[tuple[int, list[str], bytes]], data: st.DataObject) -> None:
    """Replies that come in pieces of any size are the same as in one."""
    octets = b"".join(
        b"%d%s%s%s" % (code, b" " if line is lines[-1] and index == len(lines) - 1 else b"-", line.encode(), end)
        for code, lines, end in replies
        for index, line in enumerate(lines)
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=10)))
    reader = ReplyReader()
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(octets)], strict=True):
        reader.feed(octets[start:stop])
        found += read_all(reader)
    assert [(reply.code, list(reply.lines)) for reply in found] == [(code, lines) for code, lines, _ in replies]
    assert reader.unread == 0


def test_every_split() -> None:
    octets = b"250-mx.test\r\n250-SIZE 1\n250 HELP\r\n550-5.1.1 no\r\n550 user\r\n354 go\r\n"
    for cut in range(len(octets)):
        reader = ReplyReader()
        reader.feed(octets[:cut])
        found = read_all(reader)
        reader.feed(octets[cut:])
        found += read_all(reader)
        assert [reply.code for reply in found] == [250, 550, 354]


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_anything(pieces: list[bytes]) -> None:
    """Whatever comes: replies within their bounds, or ReplyError; and all octets are accounted for."""
    reader = ReplyReader()
    try:
        for piece in pieces:
            reader.feed(piece)
            for reply in read_all(reader):
                assert 200 <= reply.code <= 599
                assert all(line.isprintable() for line in reply.lines)
    except ReplyError as error:
        assert str(error).isprintable()
    else:
        assert reader.unread <= sum(map(len, pieces))


def test_most_lines() -> None:
    reader = ReplyReader()
    reader.feed(b"250-x\r\n" * (MAX_REPLY_LINES - 1) + b"250 x\r\n")
    reply = reader.next()
    assert reply is not None
    assert len(reply.lines) == MAX_REPLY_LINES


def test_too_many_lines() -> None:
    reader = ReplyReader()
    reader.feed(b"250-x\r\n" * MAX_REPLY_LINES)
    with pytest.raises(ReplyError, match="more than 100 lines"):
        reader.next()


def test_longest() -> None:
    reader = ReplyReader()
    reader.feed(b"250 " + b"x" * (MAX_REPLY_OCTETS - 6) + b"\r\n")
    assert reader.next() is not None


@pytest.mark.parametrize("octets", [b"250 " + b"x" * MAX_REPLY_OCTETS, (b"250-" + b"x" * 996 + b"\r\n") * 33])
def test_too_long(octets: bytes) -> None:
    """A line without an end, and lines without an end of them: refused as soon as the bound is passed."""
    reader = ReplyReader()
    reader.feed(octets)
    with pytest.raises(ReplyError, match="more than 32768 octets"):
        reader.next()


def test_bound_is_for_each_reply() -> None:
    """The answers to hundreds of pipelined commands may come at once."""
    reader = ReplyReader()
    reader.feed((b"250 " + b"x" * 500 + b"\r\n") * 600)
    assert len(read_all(reader)) == 600


@given(st.binary())
def test_printable(octets: bytes) -> None:
    assert printable(octets).isprintable()
