"""8-bit messages made 7-bit: the exact octets that come out, what is refused, and what holds for any message."""

from __future__ import annotations

import email.policy
import tracemalloc
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.downgrade import Converter, Encoding, Plan, Planner, Unconvertible, plan
from relay.mail.mime import MAX_DEPTH, MAX_HEAD_OCTETS, MAX_HEADS, Refused, Scanner

UTF8 = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
QP = UTF8.replace(b"8bit", b"quoted-printable")
MIXED = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"

LABELLED = "a part is labelled as encoded and has 8-bit octets"
UNREADABLE = "a part has a Content-Type that cannot be read"
SIGNED = "a signed or encrypted part cannot be changed"
MESSAGE_TYPE = "a part of a message type cannot be encoded"
LIKE_A_BOUNDARY = "a line begins like a boundary and is none"
CONVERTED = {
    "text": (UTF8 + b"\nGr\xc3\xbc\xc3\x9fe = 1\n", QP + b"\nGr=C3=BC=C3=9Fe =3D 1\n"),
    "no MIME": (
        b"Received: x\nReceived: y\n\n\xe9\n",
        b"Received: x\nReceived: y\nContent-Transfer-Encoding: quoted-printable\n"
        b"Content-Type: text/plain; charset=unknown-8bit\nMIME-Version: 1.0\n\n=E9\n",
    ),
    "a type alone": (
        b"Content-Type:text/html\n\n.\xe9\n",
        b"Content-Type:text/html\nContent-Transfer-Encoding: quoted-printable\nMIME-Version: 1.0\n\n=2E=E9\n",
    ),
    "labelled 7bit": (
        b"MIME-Version: 1.0\nContent-type: text/plain\ncontent-transfer-encoding:\n 7BIT (not so)\nX: y\n\n\xe9\n",
        b"MIME-Version: 1.0\nContent-type: text/plain\nContent-Transfer-Encoding: quoted-printable\nX: y\n\n=E9\n",
    ),
    "blanks at line ends, dots, From": (
        UTF8 + b"\na \nb\t\n.\n.c\nFrom d\nFromage\nd.From \n \xe9\n\n",
        QP + b"\na=20\nb=09\n=2E\n=2Ec\n=46rom d\nFromage\nd.From=20\n =E9\n\n",
    ),
    "76 octets stay one line": (UTF8 + b"\n\xe9\n" + b"x" * 76 + b"\n", QP + b"\n=E9\n" + b"x" * 76 + b"\n"),
    "77 octets are cut": (
        UTF8 + b"\n\xe9\n" + b"x" * 77 + b"\n",
        QP + b"\n=E9\n" + b"x" * 75 + b"=\nxx\n",
    ),
    "no cut in =XX": (
        UTF8 + b"\n" + b"x" * 74 + b"\xe9yy\n" + b"x" * 73 + b"\xe9yy\n" + b"x" * 72 + b"\xe9yy\n",
        QP + b"\n" + b"x" * 74 + b"=\n=E9yy\n" + b"x" * 73 + b"=\n=E9yy\n" + b"x" * 72 + b"=E9=\nyy\n",
    ),
    "the blank at the end makes the line too long": (
        UTF8 + b"\n\xe9\n" + b"x" * 75 + b" \n" + b"x" * 73 + b" \n",
        QP + b"\n=E9\n" + b"x" * 75 + b"=\n=20\n" + b"x" * 73 + b"=20\n",
    ),
    "a cut before a dot and before From": (
        UTF8 + b"\n\xe9\n" + b"x" * 75 + b".y\n" + b"x" * 75 + b"From y\n" + b"x" * 75 + b"Fromy\n",
        QP + b"\n=E9\n" + b"x" * 75 + b"=\n=2Ey\n" + b"x" * 75 + b"=\n=46rom y\n" + b"x" * 75 + b"=\nFromy\n",
    ),
    "a line that is cut before a dot and again": (
        UTF8 + b"\n\xe9\n" + b"x" * 75 + b"." + b"y" * 74 + b"\n" + b"x" * 75 + b"." + b"y" * 73 + b"\n",
        QP + b"\n=E9\n" + b"x" * 75 + b"=\n=2E" + b"y" * 72 + b"=\nyy\n" + b"x" * 75 + b"=\n=2E" + b"y" * 73 + b"\n",
    ),
    "a line of 10,000": (
        UTF8 + b"\n\xe9" + b"x" * 9_999 + b"\n",
        QP + b"\n=E9" + b"x" * 72 + (b"=\n" + b"x" * 75) * 132 + b"=\n" + b"x" * 27 + b"\n",
    ),
    "parts: one with 8-bit octets, one labelled, one encoded": (
        MIXED + b"Content-Transfer-Encoding: 8bit\n\nbefore\n--b\n\n\xe9 \n--b\n"
        b"Content-Transfer-Encoding: 8bit\n\na=b\n--b\nContent-Transfer-Encoding: base64\n\nAAA=\n--b--\nafter\n",
        MIXED + b"Content-Transfer-Encoding: 7bit\n\nbefore\n--b\nContent-Transfer-Encoding: quoted-printable\n"
        b"Content-Type: text/plain; charset=unknown-8bit\n\n=E9=20\n--b\n"
        b"Content-Transfer-Encoding: 7bit\n\na=b\n--b\nContent-Transfer-Encoding: base64\n\nAAA=\n--b--\nafter\n",
    ),
    "other types than text become base64": (
        MIXED + b"\n--b\nContent-Type: application/x; name=\xff\n\n".replace(b"\xff", b"y") + b"\xff" * 58 + b"\n"
        b"--b\nContent-Type: image/png\nContent-Transfer-Encoding: binary\n\n\n--b--\n",
        MIXED + b"\n--b\nContent-Type: application/x; name=y\nContent-Transfer-Encoding: base64\n\n"
        + b"////" * 19 + b"\n/w==\n--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n\n--b--\n",
    ),
    "a message that is no text": (
        b"MIME-Version: 1.0\nContent-Type: audio/x\n\n\xff\n",
        b"MIME-Version: 1.0\nContent-Type: audio/x\nContent-Transfer-Encoding: base64\n\n/w0K\n",
    ),
    "text in margins": (
        MIXED + b"\n\xe9\n--b\n\nx\n--b--\n\xc3\xbc\n",
        MIXED + b"\n?\n--b\n\nx\n--b--\n??\n",
    ),
    "nested, the boundaries alike, blanks after them, no last delimiter": (
        MIXED + b"\n--b  \nContent-Type: multipart/x; boundary=\"bb\" (b)\nContent-Transfer-Encoding: 8BIT\n\n"
        b"--bb\t\n\n\xe9\n--bb-- \n--b\n\n\xe9\n",
        MIXED + b"\n--b  \nContent-Type: multipart/x; boundary=\"bb\" (b)\nContent-Transfer-Encoding: 7bit\n\n"
        b"--bb\t\nContent-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=unknown-8bit\n\n=E9\n"
        b"--bb-- \n--b\nContent-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=unknown-8bit\n\n"
        b"=E9\n",
    ),
    "the inner multipart is left open": (
        MIXED + b"\n--b\nContent-Type: multipart/x; boundary=a\n\n--a\nContent-Type: text/x\n\nx\n--b\n"
        b"Content-Type: text/y\n\n\xe9\n--b--\n",
        MIXED + b"\n--b\nContent-Type: multipart/x; boundary=a\n\n--a\nContent-Type: text/x\n\nx\n--b\n"
        b"Content-Type: text/y\nContent-Transfer-Encoding: quoted-printable\n\n=E9\n--b--\n",
    ),
    "labelled binary: a multipart and a signed part get another label, a leaf another encoding": (
        MIXED + b"Content-Transfer-Encoding: binary\n\n--b\nContent-Type: multipart/signed\n"
        b"Content-Transfer-Encoding: Binary\n\nx\n--b\nContent-Type: text/x\nContent-Transfer-Encoding: binary\n\n=\n"
        b"--b--\n",
        MIXED + b"Content-Transfer-Encoding: 7bit\n\n--b\nContent-Type: multipart/signed\n"
        b"Content-Transfer-Encoding: 7bit\n\nx\n--b\nContent-Type: text/x\n"
        b"Content-Transfer-Encoding: quoted-printable\n\n=3D\n--b--\n",
    ),
    "another label alone": (
        b"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\n\nx\n--b--\n",
        b"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 7bit\n\n--b\n\nx\n--b--\n",
    ),
    "the header of a multipart, as notices quote it": (
        MIXED + b"\n--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/x; boundary=c\n\n--b\n"
        b"Content-Type: text/x\n\n\xe9\n--b--\n",
        MIXED + b"\n--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/x; boundary=c\n\n--b\n"
        b"Content-Type: text/x\nContent-Transfer-Encoding: quoted-printable\n\n=E9\n--b--\n",
    ),
    "an embedded message": (
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: inner\n\n\xe9\n",
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\nMIME-Version: 1.0\n\nSubject: inner\n"
        b"Content-Transfer-Encoding: quoted-printable\nContent-Type: text/plain; charset=unknown-8bit\n"
        b"MIME-Version: 1.0\n\n=E9\n",
    ),
    "a digest": (
        b"MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n--b\n\n" + UTF8 + b"\n\xe9\n--b\n"
        b"Content-Type: text/plain\n\nx\n--b\nContent-Transfer-Encoding: 8bit\n\n" + QP + b"\nx\n--b--\n",
        b"MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n--b\n\n" + QP + b"\n=E9\n--b\n"
        b"Content-Type: text/plain\n\nx\n--b\nContent-Transfer-Encoding: 7bit\n\n" + QP + b"\nx\n--b--\n",
    ),
    "a signed part without 8-bit octets, beside one with them": (
        MIXED + b"\n--b\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nx\n"
        b"--s--\n--b\nContent-Type: text/x\n\n\xe9\n--b--\n",
        MIXED + b"\n--b\nContent-Type: multipart/signed; boundary=s\n\n--s\nContent-Transfer-Encoding: 8bit\n\nx\n"
        b"--s--\n--b\nContent-Type: text/x\nContent-Transfer-Encoding: quoted-printable\n\n=E9\n--b--\n",
    ),
    "parts without an empty line, an empty part": (
        MIXED + b"\n--b\nContent-Type: text/x\n--b\n\n--b\n\n\n--b\nContent-Type: text/x\n\n\xe9\n--b--",
        MIXED + b"\n--b\nContent-Type: text/x\n--b\n\n--b\n\n\n--b\nContent-Type: text/x\n"
        b"Content-Transfer-Encoding: quoted-printable\n\n=E9\n--b--",
    ),
    "a boundary in a comment and one in quotes": (
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed (\"; boundary=x) (a \\) (b)); name*0*=utf-8''b;\n name*1="
        b"\"\\\"; boundary=x\" ; Boundary = \"a:\\b(c)\" (;\n\n--a:b(c)\nContent-Type: text/x\n"
        b"\n\xe9\n--x\n--a:b(c)--\n",
        b"MIME-Version: 1.0\nContent-Type: multipart/mixed (\"; boundary=x) (a \\) (b)); name*0*=utf-8''b;\n name*1="
        b"\"\\\"; boundary=x\" ; Boundary = \"a:\\b(c)\" (;\n\n--a:b(c)\nContent-Type: text/x\n"
        b"Content-Transfer-Encoding: quoted-printable\n\n=E9\n--x\n--a:b(c)--\n",
    ),
    "a boundary that wants quotes and has none": (
        MIXED.replace(b"=b", b"=--=_Part:1/2?;; x=y;")
        + b"\n----=_Part:1/2?\nContent-Type: text/x\n\n\xe9\n----=_Part:1/2?--\n",
        MIXED.replace(b"=b", b"=--=_Part:1/2?;; x=y;")
        + b"\n----=_Part:1/2?\nContent-Type: text/x\n"
        b"Content-Transfer-Encoding: quoted-printable\n\n=E9\n----=_Part:1/2?--\n",
    ),
}  # fmt: skip

UNCONVERTIBLE = {
    "raw octets in the header": (b"Subject: \xe9\n\nx\n", "a header has 8-bit octets"),
    "raw octets in a part's header": (MIXED + b"\n--b\nX: \xe9\n\nx\n--b--\n", "a header has 8-bit octets"),
    "signed": (
        b"Content-Type: Multipart/Signed; boundary=b\n\n--b\n\n\xe9\n--b--\n",
        SIGNED,
    ),
    "signed, within": (
        MIXED + b"\n--b\nContent-Type: multipart/encrypted\n\n\xe9\n--b--\n",
        SIGNED,
    ),
    "partial": (b"Content-Type: message/partial\n\n\xe9\n", MESSAGE_TYPE),
    "status": (
        MIXED + b"\n--b\nContent-Type: message/delivery-status\n\n\xe9\n--b--\n",
        MESSAGE_TYPE,
    ),
    "global": (b"Content-Type: message/global\n\n\xe9\n", MESSAGE_TYPE),
    "labelled base64": (UTF8.replace(b"8bit", b"base64") + b"\n\xe9\n", LABELLED),
    "labelled quoted-printable": (QP + b"\n\xe9\n", LABELLED),
    "an encoding that nobody knows": (
        UTF8.replace(b"8bit", b"x-y") + b"\n\xe9\n",
        LABELLED,
    ),
    "no boundary": (b"Content-Type: multipart/mixed\n\n\xe9\n", UNREADABLE),
    "two boundaries": (
        MIXED.replace(b"=b", b"=b; boundary=c") + b"\n--b\n\n\xe9\n",
        UNREADABLE,
    ),
    "a boundary with a blank and no quotes": (MIXED.replace(b"=b", b"=b c") + b"\n--b c\n\n\xe9\n", UNREADABLE),
    "a boundary, and one in pieces": (MIXED.replace(b"=b", b"=b; boundary*0=c") + b"\n--b\n\n\xe9\n", UNREADABLE),
    "a boundary in pieces": (
        MIXED.replace(b"y=b", b"y*0=b") + b"\n--b\n\n\xe9\n",
        UNREADABLE,
    ),
    "no semicolon": (MIXED.replace(b";", b"") + b"\n--b\n\n\xe9\n", UNREADABLE),
    "a boundary that ends in a blank": (
        MIXED.replace(b"=b", b'="b "') + b"\n--b\n\n\xe9\n",
        UNREADABLE,
    ),
    "an empty boundary": (
        MIXED.replace(b"=b", b'=""') + b"\n--\n\n\xe9\n",
        UNREADABLE,
    ),
    "two types": (
        b"Content-Type: text/plain\n" + UTF8 + b"\n\xe9\n",
        "a header has two Content-Type or two Content-Transfer-Encoding fields",
    ),
    "a form feed": (
        MIXED.replace(b"; ", b";\f") + b"\n--b\n\n\xe9\n--b--\n",
        "a Content-Type or Content-Transfer-Encoding field has a control character",
    ),
    "no header": (b"hello\n\n\xe9\n", "a header has a line that is no field"),
    "a blank before the colon": (b"Subject : x\n\n\xe9\n", "a header has a line that is no field"),
    "a header that begins in the middle": (b" x: y\n\n\xe9\n", "a header has a line that is no field"),
    "a line like a boundary": (MIXED + b"\n--b\n\n\xe9\n--bc\n--b--\n", LIKE_A_BOUNDARY),
    "in a header": (MIXED + b"\n--b\nX: y\n--bc\n\n\xe9\n--b--\n", LIKE_A_BOUNDARY),
    "two delimiters in one": (
        MIXED + b"\n--b\nContent-Type: multipart/mixed; boundary=\"b--\"\n\n--b--\n\n\xe9\n",
        LIKE_A_BOUNDARY,
    ),
    "a boundary within itself": (
        MIXED + b"\n--b\n" + MIXED + b"\n--b\n\n\xe9\n",
        "two multiparts, one in the other, have the same boundary",
    ),
    "after the end": (MIXED + b"\n--b\n\nx\n--b--\n--b\n\n\xe9\n", "a multipart goes on after its end"),
    "no parts": (MIXED + b"\n\xe9\n", "a multipart has none of its parts"),
    "an end and no parts": (MIXED + b"\n--b--\n\xe9\n", "a multipart has none of its parts"),
    "two delimiter lines": (
        MIXED + b"\n--b\n\nx\n--b\n--b--\n\xe9\n",
        "a part has neither a header nor an empty line",
    ),
    "no parts, within": (
        MIXED + b"\n--b\nContent-Type: multipart/x; boundary=c\n\n\xe9\n--b--\n",
        "a multipart has none of its parts",
    ),
    "a long header": (b"X: " + b"y" * MAX_HEAD_OCTETS + b"\n\n\xe9\n", "a header is too long"),
    "a header of many lines": (b"X: y\n" * (MAX_HEAD_OCTETS // 6 + 1) + b"\n\xe9\n", "a header is too long"),
    "deep": (b"Content-Type: message/rfc822\n\n" * (MAX_DEPTH + 1) + b"\n\xe9\n", "parts too deep in each other"),
    "many": (MIXED + b"\n" + b"--b\n\nx\n" * MAX_HEADS + b"--b--\n\xe9\n", "too many parts"),
    "a long delimiter line": (
        MIXED + b"\n--b" + b" " * 3_000 + b"\n\n\xe9\n--b--\n",
        LIKE_A_BOUNDARY,
    ),
}  # fmt: skip


def crlf(octets: bytes) -> bytes:
    return octets.replace(b"\n", b"\r\n")


def in_chunks(octets: bytes, size: int) -> Iterator[bytes]:
    return (octets[at : at + size] for at in range(0, len(octets), size))


def convert(octets: bytes, size: int = 1 << 16) -> bytes:
    found = plan(in_chunks(octets, size))
    assert isinstance(found, Plan), found
    converter = Converter(found)
    return b"".join(map(converter.feed, in_chunks(octets, size))) + converter.end()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
@pytest.mark.parametrize(("before", "after"), CONVERTED.values(), ids=CONVERTED)
def test_converted(before: bytes, after: bytes, size: int) -> None:
    ended = before if before.endswith(b"\n") else before + b"\n"
    ended_after = after if after.endswith(b"\n") else after + b"\n"
    assert convert(crlf(ended), size) == crlf(ended_after)


@pytest.mark.parametrize("after", [after for _, after in CONVERTED.values()], ids=CONVERTED)
def test_nothing_is_left_to_do(after: bytes) -> None:
    found = plan([crlf(after if after.endswith(b"\n") else after + b"\n")])
    assert isinstance(found, Plan)
    assert found.is_empty


@pytest.mark.parametrize("size", [7, 50, 1 << 16])
@pytest.mark.parametrize(("octets", "reason"), UNCONVERTIBLE.values(), ids=UNCONVERTIBLE)
def test_unconvertible(octets: bytes, reason: str, size: int) -> None:
    assert plan(in_chunks(crlf(octets), size)) == Unconvertible(reason)


@pytest.mark.parametrize(
    "octets",
    [b"X: y\r\n\r\n\xe9\n", b"X: y\r\n\r\n\xe9\r\r\n", b"X: y\r\n\r\n\xe9\rx\ny\r\n", b"X: y\r\n\r\n\xe9", b"X: y\r"],
)
@pytest.mark.parametrize("size", [1, 1 << 16])
def test_line_ends(octets: bytes, size: int) -> None:
    assert plan(in_chunks(octets, size)) == Unconvertible("a line does not end in CR LF")


def test_the_limits_are_no_smaller() -> None:
    deep = b"Content-Type: message/rfc822\n\n" * MAX_DEPTH + b"\n\xe9\n"
    long = b"X: " + b"y" * (MAX_HEAD_OCTETS - 7) + b"\r\n\r\n\xe9\r\n"
    many = MIXED + b"\n" + b"--b\n\nx\n" * (MAX_HEADS - 1) + b"--b--\n"
    assert convert(crlf(deep)).isascii()
    assert convert(long).isascii()
    assert plan([crlf(many)]) == Plan()


def test_nothing_comes_after_a_refusal() -> None:
    scanner = Scanner()
    pieces = list(scanner.feed(crlf(MIXED + b"\n\xe9\n--bc\n--b--\n")))
    assert pieces[-1] == Refused("a line begins like a boundary and is none")
    assert [*scanner.feed(b"--b--\r\n"), *scanner.end()] == []


def test_a_plan_of_another_message() -> None:
    with pytest.raises(ValueError, match="no field"):
        Converter(Plan()).feed(b"hello\r\n\r\n")


def test_what_a_plan_says() -> None:
    assert plan([crlf(UTF8 + b"\n\xe9\n")]) == Plan({0: Encoding.QUOTED_PRINTABLE}, frozenset({0}))
    assert plan([crlf(QP + b"\nx\n")]) == Plan()
    assert plan([]) == Plan()
    assert plan([crlf(MIXED + b"\n\xe9\n--b\n\nx\n--b--\n")]) == Plan(margins=True)
    assert plan([crlf(MIXED + b"\n--b\n\nx\n--b--\n\xe9\n\nx\n")]) == Plan(margins=True)


def test_an_empty_plan() -> None:
    assert Plan().is_empty
    assert not Plan(margins=True).is_empty
    assert not Plan({0: Encoding.SEVEN_BIT}).is_empty


def test_the_first_reason_is_told() -> None:
    message = crlf(b"Subject: \xe9\nContent-Type: message/partial\n\n\xe9\n")
    for size in (1, len(message)):
        assert plan(in_chunks(message, size)) == Unconvertible("a header has 8-bit octets")


def test_memory() -> None:
    """15 MB in one part, as lines and as one line, in chunks of 64 KiB: neither pass holds on to it."""
    head = crlf(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n")
    for chunk in (("Grüße an alle Welt, " * 3 + "\r\n").encode() * 1_000, b"\xe9" * 64_000):
        count = 15_000_000 // len(chunk)
        tracemalloc.start()
        try:
            planner = Planner()
            for octets in (head, *[chunk] * count, b"\r\n"):
                planner.feed(octets)
            found = planner.end()
            assert isinstance(found, Plan)
            converter = Converter(found)
            for octets in (head, *[chunk] * (count // 10), b"\r\n"):
                converter.feed(octets)
            converter.end()
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()


# Any message that is well formed

_LINE = st.one_of(
    st.binary(max_size=200).map(lambda octets: octets.translate(None, b"\r\n\0")),
    st.text(alphabet="aä .=F€\t", max_size=300).map(str.encode),
    st.sampled_from([b".", b"From me", b"--", b"--x", b" ", b"", b"x" * 998, b"\xff" * 998]),
)
_TEXT = st.lists(_LINE, max_size=6).map(b"\r\n".join)
_ASCII = _TEXT.map(lambda octets: octets.translate(None, bytes(range(128, 256))))
_LEAF_TYPES = [
    *("text/plain; charset=utf-8", "text/html;\r\n charset=\"iso-8859-1\"", "application/x-y", "image/png (a picture)"),
]  # fmt: skip


@st.composite
def _leaf(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from([*_LEAF_TYPES, None]))
    encoding = draw(st.sampled_from(["8bit", "7BIT", "binary", None]))
    head = f"Content-Type: {kind}\r\n" if kind else ""
    if encoding:
        head += f"Content-Transfer-Encoding: {encoding}\r\n"
    return head.encode() + b"\r\n" + draw(_TEXT)


@st.composite
def _multipart(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    # A number of its own keeps one from beginning like another that is open.
    boundary = draw(st.uuids()).hex + draw(st.sampled_from(["", "=_", "'()+_,-./:=?", " x"]))
    parts = draw(st.lists(inner, min_size=1, max_size=3))
    label = draw(st.sampled_from(["", "Content-Transfer-Encoding: 8bit\r\n"]))
    digest = draw(st.sampled_from(["mixed", "alternative"]))
    head = f'Content-Type: multipart/{digest};\r\n\tboundary="{boundary}"\r\n{label}\r\n'.encode()
    delimiter = f"--{boundary}".encode()
    body = draw(_ASCII) + b"\r\n"
    for part in parts:
        body += delimiter + draw(st.sampled_from([b"", b" "])) + b"\r\n" + part + b"\r\n"
    return head + body + delimiter + b"--\r\n" + draw(_ASCII)


@st.composite
def _embedded(draw: st.DrawFn, inner: st.SearchStrategy[bytes]) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" + draw(inner)


_PART = st.recursive(_leaf(), lambda inner: _multipart(inner) | _embedded(inner), max_leaves=5)
_MESSAGE = _PART.map(lambda part: b"From: a@b.test\r\nMIME-Version: 1.0\r\n" + part + b"\r\n")


def _leaves(octets: bytes) -> list[tuple[str, str, bytes]]:
    message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(octets)
    return [
        (part.get_content_type(), str(part.get_param("charset")), bytes(part.get_payload(decode=True)))
        for part in message.walk()
        if not part.is_multipart()
    ]


@given(message=_MESSAGE, size=st.integers(1, 200))
def test_any_message(message: bytes, size: int) -> None:
    converted = convert(message)
    assert converted.isascii()
    assert max(map(len, converted.split(b"\r\n"))) <= 998
    assert converted.count(b"\r") == converted.count(b"\n") == converted.count(b"\r\n")
    assert convert(message, size) == converted, "in other chunks it is another message"
    assert plan([converted]) == Plan(), "something is left to do"
    for old, new in zip(_leaves(message), _leaves(converted), strict=True):
        assert new[0] == old[0]
        assert new[1] == old[1] or (old[1], new[1]) == ("None", "unknown-8bit")
        assert new[2] == old[2]
