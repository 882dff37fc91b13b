"""Canonical forms: the RFC's examples, odd cases, and any message in any pieces against a plain slow verifier."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_dkim import name_of, relaxed_body, relaxed_field, simple_body, split

from relay.signing.canonical import BodyHash, fields_of

# RFC 6376 section 3.4.5.
EXAMPLE_HEADER = b"A: X\r\nB : Y\t\r\n\tZ  "
EXAMPLE_BODY = b" C \r\nD \t E\r\n\r\n\r\n"

BODIES = [  # body, relaxed, simple
    (EXAMPLE_BODY, b" C\r\nD E\r\n", b" C \r\nD \t E\r\n"),
    (b"", b"", b"\r\n"),
    (b"\r\n", b"", b"\r\n"),
    (b"\r\n\r\n\r\n", b"", b"\r\n"),
    (b" \t \r\n", b"", b" \t \r\n"),
    (b" \t ", b"", b" \t \r\n"),
    (b"a", b"a\r\n", b"a\r\n"),
    (b"a\r\n", b"a\r\n", b"a\r\n"),
    (b"a \t\r\n \r\n", b"a\r\n", b"a \t\r\n \r\n"),
    (b"\r\na\r\n", b"\r\na\r\n", b"\r\na\r\n"),
    (b"a\r\n\r\nb", b"a\r\n\r\nb\r\n", b"a\r\n\r\nb\r\n"),
    (b".\r\n..a\r\n", b".\r\n..a\r\n", b".\r\n..a\r\n"),
    (b"\xe9\xff  \x00\r\n", b"\xe9\xff \x00\r\n", b"\xe9\xff  \x00\r\n"),
    (b"a\x0b\x0c \r\n", b"a\x0b\x0c\r\n", b"a\x0b\x0c \r\n"),  # no blanks: only space and tab are
    # Bare CR and LF are octets like others.
    (b"a\n\r\n\n", b"a\n\r\n\n\r\n", b"a\n\r\n\n\r\n"),
    (b"a\r\r\n", b"a\r\r\n", b"a\r\r\n"),
    (b"a \r", b"a \r\r\n", b"a \r\r\n"),
    (b"\n\r\n\r\n", b"\n\r\n", b"\n\r\n"),
    (b"\r\r\n\n\r\n", b"\r\r\n\n\r\n", b"\r\r\n\n\r\n"),
]


def hashed(body: bytes, relaxed: bool, size: int = 0) -> bytes:
    found = BodyHash(relaxed)
    for at in range(0, len(body), size or max(1, len(body))):
        found.feed(body[at : at + (size or len(body))])
    return found.digest()


@pytest.mark.parametrize(("body", "relaxed", "simple"), BODIES)
def test_bodies(body: bytes, relaxed: bytes, simple: bytes) -> None:
    for size in (0, 1, 2, 3):
        assert hashed(body, True, size) == hashlib.sha256(relaxed).digest()
        assert hashed(body, False, size) == hashlib.sha256(simple).digest()
    assert (relaxed_body(body), simple_body(body)) == (relaxed, simple)  # the other implementation knows its RFC too


def test_many_empty_lines_are_not_kept() -> None:
    body = b"a\r\n" + b"\r\n" * 100_000
    for size in (0, 1_001):
        assert hashed(body, True, size) == hashlib.sha256(b"a\r\n").digest()
        assert hashed(body + b"b", False, size) == hashlib.sha256(body + b"b\r\n").digest()
    odd = BodyHash(relaxed=True)
    for piece in (b"\r\n" * 50_000, b" \t" * 50_000, b"\r\n" * 50_000):
        odd.feed(piece)
        assert len(odd._held) <= 2
    assert odd.digest() == hashlib.sha256(b"").digest()


OCTETS = st.lists(
    st.sampled_from([b"\r\n", b" ", b"\t", b"\r", b"\n", b"a", b"b:", b".", b"\r\n\r\n", b"  ", b"\xff"]), max_size=40
).map(b"".join)


@given(st.lists(OCTETS, max_size=6))
def test_any_body_in_any_pieces(pieces: list[bytes]) -> None:
    body = b"".join(pieces)
    for relaxed, canonical in ((True, relaxed_body), (False, simple_body)):
        found = BodyHash(relaxed)
        for piece in pieces:
            found.feed(piece)
        assert found.digest() == hashlib.sha256(canonical(body)).digest()


def test_the_header_of_the_rfc() -> None:
    names = frozenset({b"a", b"b"})
    assert fields_of(EXAMPLE_HEADER, True, names) == ([b"a", b"b"], [b"a:X\r\n", b"b:Y Z\r\n"])
    assert fields_of(EXAMPLE_HEADER, False, names) == ([b"a", b"b"], [b"A: X\r\n", b"B : Y\t\r\n\tZ  \r\n"])


FIELDS = [  # header, relaxed, simple
    (b"From: a", [b"from:a\r\n"], [b"From: a\r\n"]),
    (b"FROM \t :a\r\n", [b"from:a\r\n"], [b"FROM \t :a\r\n"]),
    (b"From:", [b"from:\r\n"], [b"From:\r\n"]),
    (b"From:\r\n \r\n\t\r\n a  \tb\t", [b"from:a b\r\n"], [b"From:\r\n \r\n\t\r\n a  \tb\t\r\n"]),
    (b"From: a\r\nX: y\r\n z\r\nfrom: b", [b"from:a\r\n", b"from:b\r\n"], [b"From: a\r\n", b"from: b\r\n"]),
    (b"From: a: b", [b"from:a: b\r\n"], [b"From: a: b\r\n"]),
    (b"From: \xe9\x0b ", [b"from:\xe9\x0b\r\n"], [b"From: \xe9\x0b \r\n"]),
    (b" From: a\r\nFrom\r\n : b\r\nFrom a: c\r\n: d\r\n\r\n", [b"from:b\r\n"], []),
    (b"From\r\nnonsense\r\n From: a", [], []),
    (b"", [], []),
]


@pytest.mark.parametrize(("header", "relaxed", "simple"), FIELDS)
def test_fields(header: bytes, relaxed: list[bytes], simple: list[bytes]) -> None:
    for canonical, expected in ((True, relaxed), (False, simple)):
        assert fields_of(header, canonical, frozenset({b"from"})) == ([b"from"] * len(expected), expected)


@given(OCTETS.map(lambda octets: octets.replace(b"a", b"From: a").replace(b"b:", b"\r\nto: b")))
def test_any_header(octets: bytes) -> None:
    fields, _ = split(octets)
    header = octets if octets.startswith(b"\r\n") else octets.partition(b"\r\n\r\n")[0]
    if octets.startswith(b"\r\n"):
        header = b""
    names = frozenset({b"from", b"to"})
    expected = [field for field in fields if name_of(field) in names and b":" in field and field[:1] not in b" \t"]
    assert fields_of(header, True, names)[1] == [relaxed_field(field) + b"\r\n" for field in expected]
