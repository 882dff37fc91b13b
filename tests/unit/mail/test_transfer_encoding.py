"""Quoted-printable and base64 in chunks of any size."""

from __future__ import annotations

import base64
import quopri
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.transfer_encoding import Base64, QuotedPrintable


def encode(encoder: QuotedPrintable | Base64, octets: bytes, sizes: tuple[int, ...] = (1 << 16,)) -> bytes:
    done, at, count = b"", 0, 0
    while at < len(octets):
        size = sizes[count % len(sizes)]
        done += encoder.feed(octets[at : at + size])
        at, count = at + size, count + 1
    return done + encoder.end()


@pytest.mark.parametrize("around", range(4_080, 4_110))
def test_what_stands_where_a_long_line_is_taken_in_pieces(around: int) -> None:
    for odd in (b" ", b"\t", b" \r\n", b"\r\n.\r\n", b"\r\nFrom x", b"From x", b".", b"=", b"\xe9", b".\r\n. \r\n\r\n"):
        octets = b"x" * around + odd + b"y" * 30 + odd
        at_once = encode(QuotedPrintable(), octets)
        assert encode(QuotedPrintable(), octets, (1,)) == encode(QuotedPrintable(), octets, (4_090, 7)) == at_once
        assert quopri.decodestring(at_once) == octets


_WORDS = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"\r\n", b"\r\n.", b"From ", b" ", b".", b"x" * 76, b"=" * 90])
)


@st.composite
def _texts(draw: st.DrawFn) -> bytes:
    words = [word if word in (b"\r\n", b"\r\n.") else word.translate(None, b"\r\n") for word in draw(st.lists(_WORDS))]
    return b"".join(words) * draw(st.sampled_from([1, 1, 2, 100]))


@given(octets=_texts(), sizes=st.lists(st.integers(1, 6_000), min_size=1).map(tuple))
def test_any_text(octets: bytes, sizes: tuple[int, ...]) -> None:
    encoded = encode(QuotedPrintable(), octets)
    assert encode(QuotedPrintable(), octets, sizes) == encoded
    assert quopri.decodestring(encoded) == octets
    for line in encoded.split(b"\r\n"):
        assert len(line) <= 76
        assert re.fullmatch(rb"(?:[\t -<>-~]|=[0-9A-F]{2})*=?", line)
        assert not line.startswith((b".", b"From "))
        assert not line.endswith((b" ", b"\t"))


@given(octets=st.binary(max_size=400), sizes=st.lists(st.integers(1, 100), min_size=1).map(tuple))
def test_any_octets(octets: bytes, sizes: tuple[int, ...]) -> None:
    encoded = encode(Base64(), octets, sizes)
    assert encoded == base64.encodebytes(octets).replace(b"\n", b"\r\n").removesuffix(b"\r\n")


def test_lines_of_base64() -> None:
    octets = Random(1).randbytes(200)
    assert encode(Base64(), octets, (1,)) == base64.encodebytes(octets).replace(b"\n", b"\r\n").removesuffix(b"\r\n")


def test_random_octets_in_one_line() -> None:
    octets = Random(1).randbytes(50_000).translate(None, b"\r\n")
    encoded = encode(QuotedPrintable(), octets, (9_999, 1, 5_000))
    assert encoded == encode(QuotedPrintable(), octets)
    assert max(map(len, encoded.split(b"\r\n"))) == 76
