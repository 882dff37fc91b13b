"""Queue ids: short text that sorts by time, and back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.message import ID_LENGTH, MessageId


@given(st.integers(1, (1 << 63) - 1))
def test_text_and_back(number: int) -> None:
    text = str(MessageId(number))
    assert len(text) == ID_LENGTH
    assert MessageId.parse(text) == MessageId(number)
    assert MessageId.parse(text.upper()) == MessageId(number)


@given(st.integers(1, (1 << 63) - 1), st.integers(1, (1 << 63) - 1))
def test_text_sorts_as_the_number_does(one: int, other: int) -> None:
    assert (str(MessageId(one)) < str(MessageId(other))) == (one < other)


def test_later_is_greater() -> None:
    early = MessageId.make(datetime(2026, 1, 1, tzinfo=UTC), 0xFFFFF)
    late = MessageId.make(datetime(2026, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), 0)
    assert early < late


@pytest.mark.parametrize("text", ["", "abc", "i" * 13, "0" * 13, "0" * 14, "z" * 13, "é" * 13, "1234567890 23"])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError):
        MessageId.parse(text)
