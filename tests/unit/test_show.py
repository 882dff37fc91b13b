"""The queue for people: a table that fits the terminal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.mail.message import MessageId
from relay.mail.outcome import Cause, State, TlsUsed
from relay.queue.store import QueueEntry, Rest
from relay.show import fold, table

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONG = QueueEntry(
    MessageId(1), None, "somebody.with.a.name@sender.example", "somebody.else@recipient.example", "recipient.example",
    State.DEFERRED, 12, "4.4.1", "451 4.7.1 come\x1b[2J again", "connection refused", "mx.recipient.example",
    TlsUsed.NONE, NOW + HOUR, NOW - HOUR, NOW, destination="recipient.example", cause=Cause.MAILBOX_FULL,
)  # fmt: skip


def test_in_a_wide_window_each_recipient_has_one_line() -> None:
    lines = table([LONG], NOW, None).splitlines()
    assert lines[0].split("  ")[0] == "ID"
    assert "somebody.with.a.name@sender.example -> somebody.else@recipient.example  deferred" in lines[1]
    assert lines == table([LONG], NOW, max(map(len, lines))).splitlines()


@pytest.mark.parametrize("width", [80, 100, 120])
def test_in_a_narrow_window_nobody_is_cut_short(width: int) -> None:
    lines = table([LONG], NOW, width).splitlines()
    assert lines[2] == "    somebody.with.a.name@sender.example -> somebody.else@recipient.example"
    assert lines[0].split() == ["ID", "AGE", "STATE", "TRIES", "NEXT", "ATTEMPT", "CAUSE"]
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(
    ("entry", "rest_ends", "wanted"),
    [
        (LONG, None, "in 60 min"),
        (LONG, 30, "in 60 min"),
        (LONG, 90, "rests, 90 min"),
        (replace(LONG, next_attempt=NOW), None, "now"),
        (replace(LONG, next_attempt=NOW), 0, "now"),
        (replace(LONG, next_attempt=NOW), 2, "rests, 2 min"),
        (replace(LONG, next_attempt=None, state=State.HELD), 90, "-"),
        (replace(LONG, next_attempt=None), 90, "under way"),
    ],
)
def test_when_it_goes_on(entry: QueueEntry, rest_ends: int | None, wanted: str) -> None:
    rests = {}
    if rest_ends is not None:
        rests["recipient.example"] = Rest(NOW + timedelta(minutes=rest_ends), NOW, 1, "4.4.1", "down")
    assert f"  {wanted}  " in table([entry], NOW, None, rests=rests).splitlines()[1]


def test_what_hosts_say_moves_no_cursor() -> None:
    assert "the host said: 451 4.7.1 come?[2J again" in table([LONG], NOW, 80)


@pytest.mark.parametrize(
    ("line", "width", "wanted"),
    [
        ("one two three", None, "one two three"),
        ("one two three", 13, "one two three"),
        ("one two three", 9, "one two\n  three"),
        ("  one: two-three", 10, "  one:\n  two-three"),
        ("a-word-of-many-letters", 10, "a-word-of-many-letters"),
    ],
)
def test_lines_are_folded_between_words(line: str, width: int | None, wanted: str) -> None:
    assert fold(line, 2, width) == wanted


def test_mail_that_its_sender_wants_later_says_so() -> None:
    early = replace(LONG, state=State.QUEUED, next_attempt=NOW + HOUR, release=NOW + HOUR)
    words = "    held by its sender until 2030-01-01 13:00:00 UTC"
    assert words in table([early], NOW, None).splitlines()
    for other in (replace(early, next_attempt=NOW), replace(early, next_attempt=None)):
        assert words not in table([other], NOW, None).splitlines()
    assert words not in table([early], NOW + HOUR, None).splitlines()
