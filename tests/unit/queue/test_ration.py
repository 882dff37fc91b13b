"""Retries go as they come until there is much new mail, and then in rations."""

from __future__ import annotations

import pytest

from relay.queue.ration import SHARES, WINDOW_MICROS, Ration

(MANY, FEW_RETRIES), (SOME, MORE_RETRIES) = SHARES


def take(ration: Ration, now: int, most: int = 1000) -> int:
    """How many retries may begin at `now`, up to `most`."""
    taken = 0
    while taken < most and ration.opens(now) <= now:
        ration.note_retry()
        taken += 1
    return taken


def bring(ration: Ration, now: int, count: int) -> None:
    for _ in range(count):
        ration.note_fresh(now)


def test_without_new_mail_there_is_no_ration() -> None:
    ration = Ration()
    assert [take(ration, second * WINDOW_MICROS) for second in range(3)] == [1000] * 3


@pytest.mark.parametrize(
    ("fresh", "retries"),
    [(SOME - 1, 1000), (SOME, MORE_RETRIES), (MANY - 1, MORE_RETRIES), (MANY, FEW_RETRIES), (9 * MANY, FEW_RETRIES)],
)
def test_the_more_new_mail_the_fewer_retries(fresh: int, retries: int) -> None:
    ration = Ration()
    bring(ration, 0, fresh)
    assert take(ration, 5) == retries
    assert take(ration, WINDOW_MICROS) == retries  # the window after it
    assert take(ration, 2 * WINDOW_MICROS) == 1000  # nothing came in the one before


def test_it_opens_again_with_the_next_window() -> None:
    ration = Ration()
    bring(ration, 100, MANY)
    take(ration, 100)
    assert ration.opens(200) == 100 + WINDOW_MICROS
    assert ration.opens(100 + WINDOW_MICROS) == 100 + WINDOW_MICROS


def test_a_message_that_was_put_late_begins_no_window() -> None:
    """Its time is that of its arrival, and claims go on meanwhile."""
    ration = Ration()
    bring(ration, WINDOW_MICROS, MANY)
    take(ration, WINDOW_MICROS)
    bring(ration, WINDOW_MICROS // 2, 1)
    assert ration.opens(WINDOW_MICROS + 1) > WINDOW_MICROS + 1


def test_a_clock_that_was_set_back_or_forward_closes_nothing() -> None:
    year = 365 * 86400 * WINDOW_MICROS
    for jump in (year, 3 * year):
        ration = Ration()
        bring(ration, 2 * year, MANY)
        take(ration, 2 * year)
        assert take(ration, jump) == 1000
