"""Statuses and replies: they print, parse, and cannot disagree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.status import Kind, Reply, Status


@pytest.mark.parametrize(
    ("code", "lines", "status", "text"),
    [
        (250, ("2.0.0 queued",), "2.0.0", "250 2.0.0 queued"),
        (250, ("OK",), "2.0.0", "250 OK"),
        (550, ("5.1.1 no such user", "5.1.1 really"), "5.1.1", "550 5.1.1 no such user 5.1.1 really"),
        (550, ("4.7.1 odd",), "5.7.1", "550 4.7.1 odd"),  # RFC 3463 §2: the reply code decides
        (451, ("5.7.1 odd",), "4.7.1", "451 5.7.1 odd"),
        (451, ("try later 4.7.1",), "4.0.0", "451 try later 4.7.1"),  # only at the start of the text
        (452, ("4.5.3",), "4.5.3", "452 4.5.3"),
        (554, (), "5.0.0", "554"),
        (550, ("5.1.1234 odd",), "5.0.0", "550 5.1.1234 odd"),
        (451, ("4.\u0661.\u0662 odd",), "4.0.0", "451 4.\u0661.\u0662 odd"),  # Arabic digits are none in SMTP
        (354, ("go ahead",), "2.0.0", "354 go ahead"),
        (421, ("",), "4.0.0", "421"),
    ],
)
def test_reply_of(code: int, lines: tuple[str, ...], status: str, text: str) -> None:
    reply = Reply.of(code, lines)
    assert (str(reply.status), reply.text) == (status, text)


@pytest.mark.parametrize("code", [-1, 0, 25, 199, 600, 999])
def test_codes_that_smtp_does_not_have(code: int) -> None:
    with pytest.raises(ValueError, match="SMTP reply code"):
        Reply.of(code, ("x",))


def test_a_reply_cannot_contradict_its_status() -> None:
    with pytest.raises(ValueError, match="does not agree"):
        Reply(450, Status(Kind.PERMANENT, 7, 1), ())


@given(st.sampled_from(Kind), st.integers(0, 999), st.integers(0, 999))
def test_status_text_and_back(kind: Kind, subject: int, detail: int) -> None:
    status = Status(kind, subject, detail)
    assert Status.parse(str(status)) == status
    assert status.with_kind(Kind.PERMANENT).kind is Kind.PERMANENT


@given(st.integers(200, 599), st.lists(st.text(), max_size=3))
def test_every_reply_has_a_status_of_its_class(code: int, lines: list[str]) -> None:
    reply = Reply.of(code, tuple(lines))
    assert code // 100 == 3 or reply.status.kind.value == code // 100


@pytest.mark.parametrize("text", ["", "4.7", "1.2.3", "x4.7.1", "4.7.1x", "4..1", "٤.7.1"])
def test_what_is_no_status(text: str) -> None:
    with pytest.raises(ValueError, match="no enhanced status"):
        Status.parse(text)
