"""New mail and retries, leases that run, rests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from relay.queue.turns import RETRY_TURN, Turns

X = ("x.example", "a@sender.example")
Y = ("y.example", "a@sender.example")


def never(destination: str) -> bool:
    return False


def serve(turns: Turns, now: int, count: int) -> list[bool]:
    """So many claims from lines that do not end: whether each was of a retry."""
    found = []
    for _ in range(count):
        turns.advance(now, never)
        turn = turns.next(never)
        assert turn is not None
        found.append(turn[0])
        turns.served(turn, 0, now, taken=True)
    return found


def test_of_four_claims_one_is_of_a_retry() -> None:
    turns = Turns()
    turns.load([(*X, 0, 0)], [(*Y, 0, 0)])
    assert serve(turns, 0, 2 * RETRY_TURN) == ([False] * (RETRY_TURN - 1) + [True]) * 2


@given(st.booleans(), st.integers(0, 5))
def test_what_is_alone_does_not_wait_for_its_turn(is_retry: bool, before: int) -> None:
    turns = Turns()
    turns.load([] if is_retry else [(*X, 0, 0)], [(*X, 0, 0)] if is_retry else [])
    assert serve(turns, 0, before + 1) == [is_retry] * (before + 1)


def test_looking_in_vain_takes_no_turn() -> None:
    """A line with nothing due in it is no claim."""
    turns = Turns()
    turns.load([(*X, 0, 0)], [(*Y, 0, 0)])
    turns.advance(0, never)
    for _ in range(3):
        turn = turns.next(never)
        assert turn == (False, (0, X))
        turns.served(turn, 0, 0, taken=False)
    assert serve(turns, 0, 4) == [False, False, False, True]


def test_a_lease_makes_its_mail_due_at_its_end() -> None:
    """Whether it was new or not: nobody knows any more."""
    turns = Turns()
    turns.lease(7, 100, X)
    assert turns.first_time((), 0) == 100
    turns.advance(99, never)
    assert turns.next(never) is None
    turns.advance(100, never)
    assert turns.next(never) == (False, (0, X))
    turns.served((False, (0, X)), None, 100, taken=False)
    assert turns.next(never) == (True, (0, X))
    turns.served((True, (0, X)), None, 100, taken=False)
    assert turns.next(never) is None
    assert turns.first_time((), 100) is None


def test_a_lease_that_was_renewed_or_ended() -> None:
    turns = Turns()
    turns.lease(1, 100, X)
    turns.lease(2, 150, Y)
    turns.lease(1, 300, X)
    assert turns.first_time((), 0) == 150
    turns.end_lease(2)
    turns.end_lease(2)
    assert turns.first_time((), 0) == 300
    turns.advance(200, never)
    assert turns.next(never) is None
    turns.end_lease(1)
    assert turns.first_time((), 0) is None


def test_the_first_end_of_a_renewed_lease_is_none() -> None:
    turns = Turns()
    turns.lease(1, 100, X)
    turns.lease(1, 300, X)
    turns.advance(200, never)
    assert turns.next(never) is None
    assert turns.first_time((), 200) == 300


def test_leases_that_come_and_go_leave_nothing() -> None:
    turns = Turns()
    for number in range(10_000):
        turns.lease(number, 1_000_000 + number, X)
        turns.lease(number, 2_000_000 + number, X)
        turns.end_lease(number)
    assert len(turns._ends) <= 66
    assert turns._leases == {}


def test_a_rest_opens_by_itself_and_what_is_closed_does_not() -> None:
    turns = Turns()
    turns.load([(*X, 0, 0), (*Y, 0, 0)], [])
    turns.rests = {"x.example": 500}
    now = 10
    turns.advance(now, lambda _: True)
    assert turns.next(lambda _: True) is None
    assert turns.rest_of("x.example", 499) == 500
    assert turns.rest_of("x.example", 500) == 0
    assert turns.rest_of("y.example", 0) == 0
    assert turns.first_time((), now) == now
    assert turns.first_time(("y.example",), now) == 500
    assert turns.first_time(("x.example", "y.example"), now) is None


def test_what_is_noted_of_either_kind() -> None:
    turns = Turns()
    turns.note(X, 5)
    turns.note_fresh(Y, 4)
    turns.advance(5, never)
    found = set()
    while (turn := turns.next(never)) is not None:
        found.add(turn)
        turns.served(turn, None, 5, taken=False)
    assert found == {(False, (0, X)), (True, (0, X)), (False, (0, Y))}


def test_loading_mends() -> None:
    turns = Turns()
    turns.damaged = True
    turns.note_fresh(X, 5)
    turns.load([], [(*Y, 0, 3)])
    assert not turns.damaged
    turns.advance(5, never)
    assert turns.next(never) == (True, (0, Y))
