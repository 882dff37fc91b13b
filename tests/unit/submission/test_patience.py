"""How long a client may let us wait."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from relay.submission.patience import SLOWEST, after_octets, after_waiting

FULL = 300.0


def seconds_until_cut(pieces: Sequence[tuple[float, int]]) -> float | None:
    """When a client is cut that sends these pieces, each after a wait; None: it is not."""
    left, now = FULL, 0.0
    for wait, octets in pieces:
        if wait >= left:
            return now + left
        now += wait
        left = after_octets(after_waiting(left, wait), octets, FULL)
    return None


def test_silence() -> None:
    assert seconds_until_cut([(1, 100_000), (300, 1)]) == 301


def test_an_octet_each_few_minutes() -> None:
    cut = seconds_until_cut([(120, 1)] * 100)
    assert cut is not None and cut < 301


def test_much_at_first_buys_nothing_for_later() -> None:
    cut = seconds_until_cut([(1, 50_000_000)] + [(100, 1)] * 100)
    assert cut is not None and cut < 302


def test_links_that_are_merely_slow() -> None:
    assert seconds_until_cut([(1, 120)] * 100_000) is None  # 1200 baud
    assert seconds_until_cut([(240, 1), *[(10, 2400)] * 30, (240, 1)]) is None  # gone for four minutes, twice
    assert seconds_until_cut([(290, 29_000)] * 100) is None


@given(st.lists(st.tuples(st.floats(0.001, 400), st.integers(1, 200_000)), max_size=60))
def test_who_keeps_the_pace_stays_and_who_stays_has_kept_it(pieces: list[tuple[float, int]]) -> None:
    if all(octets >= SLOWEST * wait and wait < FULL - 0.01 for wait, octets in pieces):
        assert seconds_until_cut(pieces) is None
    if seconds_until_cut(pieces) is None:
        waited, octets = (sum(part) for part in zip(*pieces, strict=True)) if pieces else (0, 0)
        assert waited <= FULL + octets / SLOWEST + 0.01
