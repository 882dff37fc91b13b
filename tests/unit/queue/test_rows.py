"""Values to rows and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.mail.message import Envelope, InlineBody, MessageId, NewMessage, Recipient
from relay.mail.outcome import Deferred, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import SettledRecipient
from relay.queue.rows import due, from_micros, message_row, settled_row, to_address, to_micros

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_comes_back_to_the_microsecond(time: datetime) -> None:
    try:
        expected = time.astimezone(UTC)
    except OverflowError:
        return  # the first and last day of the calendar, in another zone
    assert from_micros(to_micros(time)) == expected
    assert from_micros(to_micros(time)).tzinfo is UTC


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(TypeError):
        to_micros(datetime(2030, 1, 1))


@pytest.mark.parametrize(
    "text",
    [
        "user@example.org",
        "User@EXAMPLE.org",
        '"a@b"@example.org',
        '"a@b c"@[192.0.2.1]',
        "user@[IPv6:2001:db8::1]",
        "postmaster",
        "PostMaster",
        "jörg@bücher.example",
        "user@bücher.example",
    ],
)
def test_an_address_comes_back_as_it_was_parsed(text: str) -> None:
    address = parse_address(text.encode())
    assert to_address(address.text, address.domain) == address


def test_words_that_are_no_utf_8_can_be_stored() -> None:
    words = b"550 caf\xe9".decode("utf-8", "surrogateescape")
    recipient = Recipient(0, parse_address(b"a@example.org"), 1)
    outcome = Deferred(Status(Kind.TEMPORARY, 4, 2), words, words, Reply.of(451, (words,)), TlsUsed.NONE)
    settled = SettledRecipient(recipient, State.DEFERRED, outcome, NOW, False)
    message = NewMessage(MessageId(1), Envelope(None, (recipient.address,)), InlineBody(b""), NOW, message_id=words)
    for value in (*settled_row(1, 1, settled, 0), *message_row(message)):
        if isinstance(value, str):
            value.encode("utf-8")
    assert "caf\\udce9" in settled_row(1, 1, settled, 0)[4]


@pytest.mark.parametrize(
    ("state", "next_attempt", "expected"),
    [
        (State.DEFERRED, NOW + timedelta(hours=1), to_micros(NOW + timedelta(hours=1))),
        (State.QUEUED, NOW, to_micros(NOW)),
        (State.HELD, NOW, None),
        (State.DELIVERED, None, None),
        (State.FAILED, None, None),
    ],
)
def test_what_is_closed_or_held_is_never_due(state: State, next_attempt: datetime | None, expected: int | None) -> None:
    outcome = Deferred(Status(Kind.TEMPORARY, 4, 2), "later")
    recipient = Recipient(0, parse_address(b"a@example.org"), 1)
    assert due(SettledRecipient(recipient, state, outcome, next_attempt, False)) == expected
