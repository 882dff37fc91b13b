"""What is found in a header section, and what is cut out of it."""

from __future__ import annotations

from email.parser import BytesHeaderParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.header import Header, first_stray_line, has_blank_line


def header_of(message: bytes) -> Header:
    """Of a message, cut off at its first empty line."""
    if message.startswith(b"\r\n"):
        return Header(b"")
    end = message.find(b"\r\n\r\n")
    return Header(message if end < 0 else message[: end + 2])


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
    b"Message-ID: <a\x1b[2J@b>\r\n\r\n": "a\x1b[2J@b",
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
    assert header_of(message).message_id == MESSAGE_IDS[message]


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
    assert header_of(message).hops == HOPS[message]


# What there is -> what is left without Bcc and Resent-Bcc
WITHOUT = {
    b"": b"",
    b"To: a\r\n": b"To: a\r\n",
    b"Bcc: a\r\n": b"",
    b"BCC:a\r\nTo: b\r\nbcc : c\r\nResent-Bcc:\r\n": b"To: b\r\n",
    b"To: x\r\n y\r\nBcc: a,\r\n\tb,\r\n \r\n c\r\nCc: d\r\n\te\r\n": b"To: x\r\n y\r\nCc: d\r\n\te\r\n",
    b"Subject: x\r\n Bcc: a\r\n": b"Subject: x\r\n Bcc: a\r\n",
    b"X-Bcc: a\r\nBcc-X: b\r\nBcc c\r\n": b"X-Bcc: a\r\nBcc-X: b\r\nBcc c\r\n",
    b"Bcc: a": b"",
}


@pytest.mark.parametrize("octets", WITHOUT)
def test_without(octets: bytes) -> None:
    left = Header(octets).without(frozenset({b"bcc", b"resent-bcc"}))
    assert left.octets == WITHOUT[octets]
    assert left.count(b"bcc") == 0


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["From", "from", "BCC", "Bcc ", "To", "X-Bcc", "Sender", "Message-ID", "Received"]),
        st.lists(st.text("abc :,@\xe4", max_size=5).map(lambda text: f"x{text}"), min_size=1, max_size=3),
    ),
    max_size=8,
)


@given(FIELDS)
@example([("Bcc ", ["x", "x"]), ("To", ["x"])])
def test_fields_are_those_of_python(fields: list[tuple[str, list[str]]]) -> None:
    folded = "\r\n "
    parts = [f"{name}: {folded.join(lines)}" for name, lines in fields]
    octets = "".join(f"{part}\r\n" for part in parts).encode()
    header = Header(octets)
    names = [name.strip().lower() for name, _ in fields]
    for name in ("from", "bcc", "sender", "message-id", "received"):
        values = [folded.join(lines).encode() for (_, lines), n in zip(fields, names, strict=True) if n == name]
        assert [value.removeprefix(b" ") for value in header.values(name.encode())] == values
        assert header.count(name.encode()) == len(values)
    kept = [part for part, name in zip(parts, names, strict=True) if name != "bcc"]
    assert header.without(frozenset({b"bcc"})).octets == "".join(f"{part}\r\n" for part in kept).encode()
    assert first_stray_line(octets, 0, len(octets)) is None
    if all(name == name.strip() for name, _ in fields):
        assert len(BytesHeaderParser().parsebytes(octets).keys()) == len(fields)


# Lines -> where the first is that belongs to no field
STRAY = {
    b"": None,
    b"a:\r\n": None,
    b"a: b\r\n c\r\n\td\r\n \r\ne:f\r\n": None,
    b"a : b\r\n": None,
    b"!~:\r\n": None,
    b"hello\r\n": 0,
    b" a: b\r\n": 0,
    b": a\r\n": 0,
    b"a b: c\r\n": 0,
    b"From x@y Thu Jan  1 00:00:00 1970\r\na: b\r\n": 0,
    b"a: b\r\nhello\r\nc: d\r\n": 6,
    b"a: b\r\nc\x0b: d\r\n": 6,
    b"a: b\r\n\xc2\xa0c: d\r\n": 6,
    b"a: b\r\nFr\xc3\xb6m: d\r\n": 6,
    b"a: b\r\n.\r\n": 6,
    b"a: b\r\nc: d\r\nx\r\n": 12,
    b"a: b\r\n" * 3 + b"\t\r\n": None,
}


@pytest.mark.parametrize("octets", STRAY)
def test_stray_line(octets: bytes) -> None:
    assert first_stray_line(octets, 0, len(octets)) == STRAY[octets]


def test_stray_lines_are_looked_for_from_one_place_to_another() -> None:
    octets = b"x\r\na: b\r\n c\r\ny\r\nd: e\r\n"
    assert first_stray_line(octets, 3, len(octets)) == 13
    assert first_stray_line(octets, 3, 13) is None
    assert first_stray_line(octets, 9, 13) is None  # goes on with a field
    assert first_stray_line(octets, 16, len(octets)) is None
    assert first_stray_line(octets, 0, 0) is None


def test_blank_line() -> None:
    assert has_blank_line(b" a\r\n \r\n b")
    assert has_blank_line(b"\r\n\t \r\n b")
    assert has_blank_line(b" a\r\n ")
    assert not has_blank_line(b"\r\n a")
    assert not has_blank_line(b"  ")
    assert not has_blank_line(b" a\r\n b \r\n c")
