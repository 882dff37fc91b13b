"""No reply, whatever was put into it, becomes two replies, or a line that a client need not take."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.status import Reply
from relay.submission import replies

TEXT = st.text(st.characters() | st.sampled_from("\r\n\0\x7f\x85\u2028\ud800é"), max_size=600)
TABLE = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}
NO_ENHANCED_CODE = {"SEND_DATA"}  # RFC 2034 section 4: 3xx has none


@given(st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=4))
@example(250, ["a\r\n250 b"])
@example(250, ["x" * 1000])
@example(250, ["\U0010ffff" * 481])
@example(250, [""])
def test_wire(code: int, lines: list[str]) -> None:
    octets = replies.wire(Reply.of(code, tuple(lines)))
    sent = octets.split(b"\r\n")
    assert sent.pop() == b""
    assert len(sent) == len(lines)
    for number, line in enumerate(sent, 1):
        assert len(line) + 2 <= 512
        assert line.startswith(b"%d%s" % (code, b" " if number == len(sent) else b"-"))
        assert re.fullmatch(rb"[ -~]*", line)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=480))
def test_harmless_text_goes_out_as_it_is(text: str) -> None:
    assert replies.wire(Reply.of(550, (text,))) == f"550 {text}\r\n".encode()


WIRE = {
    ("OK",): b"250 OK\r\n",
    ("a", "b", "c"): b"250-a\r\n250-b\r\n250 c\r\n",
    ("é\u2028x",): b"250 ??x\r\n",
    ("a\tb\0c\x7f",): b"250 a?b?c?\r\n",
    ("a\r\n221 bye",): b"250 a??221 bye\r\n",
    ("\ud800\udfff",): b"250 ??\r\n",
    ("x" * 480,): b"250 " + b"x" * 480 + b"\r\n",
    ("x" * 481,): b"250 " + b"x" * 480 + b"\r\n",
}


@pytest.mark.parametrize("lines", WIRE)
def test_wire_word_for_word(lines: tuple[str, ...]) -> None:
    assert replies.wire(Reply.of(250, lines)) == WIRE[lines]


@pytest.mark.parametrize("name", TABLE)
def test_table(name: str) -> None:
    """Every reply has an enhanced code of its own class, and fits on a line as it is."""
    reply = TABLE[name]
    assert len(reply.lines) == 1
    if name not in NO_ENHANCED_CODE:
        assert re.match(rf"{reply.code // 100}\.\d+\.\d+ [A-Z]", reply.lines[0])
    assert replies.wire(reply) == f"{reply.code} {reply.lines[0]}\r\n".encode()


def test_table_is_not_empty() -> None:
    assert len(TABLE) > 40
    assert all(name in TABLE for name in NO_ENHANCED_CODE)


MADE = [
    (replies.greeting("relay.example.test"), b"220 relay.example.test ESMTP Relay\r\n"),
    (replies.hello(("relay.example.test", "SIZE 1")), b"250-relay.example.test\r\n250 SIZE 1\r\n"),
    (replies.challenge("VXNlcm5hbWU6"), b"334 VXNlcm5hbWU6\r\n"),
    (replies.challenge(""), b"334 \r\n"),  # RFC 4954 section 4: the blank stays
    (replies.queued("0abc"), b"250 2.0.0 queued as 0abc\r\n"),
    (replies.bad_sender("no\r\ngood"), b"553 5.1.7 no??good\r\n"),
    (replies.bad_recipient("not good"), b"553 5.1.3 not good\r\n"),
    (replies.bad_content("NUL"), b"554 5.6.0 NUL\r\n"),
]


@pytest.mark.parametrize(("reply", "expected"), MADE)
def test_made_replies(reply: Reply, expected: bytes) -> None:
    assert replies.wire(reply) == expected


@given(TEXT, st.integers(1, 700))
@example("a\x1b[2Jb\r\nfaked-line\u2029\x9b31m", 100)
def test_printable(text: str, limit: int) -> None:
    shown = replies.printable(text, limit)
    assert len(shown) == min(len(text), limit)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", shown)
    shown.encode()  # no surrogates: a log in UTF-8 can hold it
    for given_one, shown_one in zip(text, shown, strict=False):
        assert shown_one in (given_one, "\ufffd")
        assert shown_one == given_one or not given_one.isprintable()


def test_printable_has_a_limit() -> None:
    assert replies.printable("x" * 5000) == "x" * 1000
    assert replies.printable("äöü", 2) == "äö"
