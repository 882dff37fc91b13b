"""Dot-stuffing in pieces, against a receiver that reads line by line."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.delivery.dots import DotStuffer

PIECES = [
    ([], b".\r\n"),
    ([b""], b".\r\n"),
    ([b"a\r\n"], b"a\r\n.\r\n"),
    ([b"a"], b"a\r\n.\r\n"),
    ([b"."], b"..\r\n.\r\n"),
    ([b".\r\n"], b"..\r\n.\r\n"),
    ([b"a\r\n.\r\nb\r\n"], b"a\r\n..\r\nb\r\n.\r\n"),
    ([b"a\r\n", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
    ([b"a\r", b"\n.b\r\n"], b"a\r\n..b\r\n.\r\n"),
    ([b"a\r", b"\n", b".b\r\n"], b"a\r\n..b\r\n.\r\n"),
    ([b"a\r\n.", b".b\r\n"], b"a\r\n...b\r\n.\r\n"),
    ([b"a.", b".b\r", b"\n"], b"a..b\r\n.\r\n"),
    ([b"\r\n.\r\n.\r\n"], b"\r\n..\r\n..\r\n.\r\n"),
    ([b"a\n.\r.b\r\n"], b"a\n.\r.b\r\n.\r\n"),  # only CRLF ends a line
    ([b"a\r"], b"a\r\r\n.\r\n"),
    ([b"a\n"], b"a\n\r\n.\r\n"),
]


def sent(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([stuffer.stuff(piece) for piece in pieces]) + stuffer.end()


def received(octets: bytes) -> tuple[bytes, bytes]:
    """RFC 5321 section 4.5.2, line by line: the message, and what came after its end."""
    message: list[bytes] = []
    while True:
        line, end, octets = octets.partition(b"\r\n")
        assert end, "the message does not end"
        if line == b".":
            return b"".join(message), octets
        message.append(line.removeprefix(b".") + end)


@pytest.mark.parametrize(("pieces", "expected"), PIECES)
def test_pieces(pieces: list[bytes], expected: bytes) -> None:
    assert sent(pieces) == expected


@given(st.lists(st.text("\r\n.a", max_size=6).map(str.encode), max_size=12))
@example([b"\r\n", b".", b"\r", b"\n."])
def test_what_arrives_is_what_was_sent(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    message, rest = received(sent(pieces))
    assert rest == b""
    assert message == (body if body.endswith(b"\r\n") or not body else body + b"\r\n")
