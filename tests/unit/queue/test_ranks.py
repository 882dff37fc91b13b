"""Who goes ahead: priorities, and that nobody has more than his turn of it, or none."""

from __future__ import annotations

from collections import Counter
from time import perf_counter

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.queue.lines import Line
from relay.queue.ranks import ANY_TURN, Ranks

Ranked = tuple[int, Line]


def never(destination: str) -> bool:
    return False


def nowhere(destination: str) -> int:
    return 0


class Mail:
    """Lines that have so much mail, all of it due."""

    def __init__(self, waiting: dict[Ranked, int]) -> None:
        self.waiting = dict(waiting)
        self.ranks = Ranks()
        self.ranks.load((*line, priority, 0) for (priority, line), number in waiting.items() if number)
        self.ranks.advance(1, never, nowhere)

    def add(self, priority: int, line: Line) -> None:
        self.waiting[priority, line] = self.waiting.get((priority, line), 0) + 1
        self.ranks.note(line, 1, priority)

    def serve(self) -> Ranked | None:
        self.ranks.advance(1, never, nowhere)
        ranked = self.ranks.next(never)
        if ranked is not None:
            self.waiting[ranked] -= 1
            self.ranks.served(ranked, 1 if self.waiting[ranked] else None, 1, taken=True)
        return ranked

    def serve_all(self) -> list[Ranked]:
        found = []
        while (ranked := self.serve()) is not None:
            found.append(ranked)
        return found


priorities = st.integers(-9, 9)
lines = st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"))
mail = st.dictionaries(st.tuples(priorities, lines), st.integers(1, 4), max_size=12)


@given(mail)
def test_everything_is_served_and_nothing_twice(waiting: dict[Ranked, int]) -> None:
    assert Counter(Mail(waiting).serve_all()) == Counter(waiting)


@given(mail)
def test_in_each_round_everybody_has_one_turn_and_the_urgent_are_first(waiting: dict[Ranked, int]) -> None:
    """With all mail there from the beginning."""
    left = Counter(waiting)
    mail, claims = Mail(waiting), 0
    has_ranks = any(priority for priority, _ in waiting)
    while left.total():
        senders = {line[1] for (_, line), number in left.items() if number}
        round_ = [mail.serve() for _ in senders]
        found = [ranked for ranked in round_ if ranked is not None]
        assert {line[1] for _, line in found} == senders
        if has_ranks:
            best = {
                sender: max(rank for (rank, line), number in left.items() if number and line[1] == sender)
                for sender in senders
            }
            ordinary = [one for claim, one in enumerate(found, claims) if claim % ANY_TURN != ANY_TURN - 1]
            assert all(priority == best[line[1]] for priority, line in ordinary)
            assert [one[0] for one in ordinary] == sorted([one[0] for one in ordinary], reverse=True)
        claims += len(found)
        left -= Counter(found)
    assert mail.serve() is None


@settings(max_examples=30)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(priorities, st.sampled_from("xyz")), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_an_endless_flood_of_urgent_mail_starves_nobody(
    flooders: int, victim: list[tuple[int, str]], before: int
) -> None:
    """However often their mail comes in, and wherever the victim stands when its own does."""
    mail = Mail({(9, ("x", f"flood{number}")): 1000 for number in range(flooders)})
    for _ in range(before):
        mail.serve()
    for priority, destination in victim:
        mail.add(priority, (destination, "victim"))
    found = []
    for number in range((len(victim) + 1) * (flooders + 1)):
        found.append(mail.serve())
        mail.add(9, ("y", f"flood{number % flooders}"))
    assert sum(ranked is not None and ranked[1][1] == "victim" for ranked in found) == len(victim)


def test_ever_new_senders_of_urgent_mail_starve_nobody() -> None:
    """One client may name a thousand senders."""
    mail = Mail({(0, ("x", f"victim{number}")): 3 for number in range(5)})
    found = []
    for number in range(700):
        for _ in range(2):
            mail.add(9, ("x", f"new{number}-{_}"))
        ranked = mail.serve()
        assert ranked is not None
        found.append(ranked[1][1])
    assert sum(sender.startswith("victim") for sender in found) == 15
    assert sum(sender.startswith("new") for sender in found[:40]) >= 30


def test_each_priority_has_its_turn_when_higher_ones_do_not_end() -> None:
    mail = Mail({(priority, ("x", f"{priority}")): 1 for priority in range(9)})
    found = set()
    for number in range(4 * 10 * 2):
        mail.add(9, ("x", f"new{number}"))
        mail.add(9, ("x", f"new{number}b"))
        ranked = mail.serve()
        assert ranked is not None
        found.add(ranked[0])
    assert found == set(range(10))


def test_one_urgent_message_after_the_other_has_not_every_turn() -> None:
    """That its line is empty in between begins no new round."""
    mail = Mail({(0, ("x", f"{number}")): 5 for number in range(10)})
    found = []
    for _ in range(33):
        mail.add(9, ("x", "drip"))
        ranked = mail.serve()
        assert ranked is not None
        found.append(ranked[1][1] == "drip")
        mail.add(-9, ("x", "drip"))
    assert found == [*[True], *[False] * 10] * 3


def test_urgent_mail_that_comes_in_does_not_wait_for_the_next_round() -> None:
    """Unless its sender has had the turn."""
    mail = Mail({(0, ("x", f"{number}")): 2 for number in range(100)})
    mail.serve()
    mail.add(9, ("x", "alarm"))
    assert mail.serve() == (9, ("x", "alarm"))
    mail.add(9, ("x", "alarm"))
    found = mail.serve_all()
    assert 95 < found.index((9, ("x", "alarm"))) <= 100


def test_a_priority_that_is_gone_leaves_nothing_behind() -> None:
    mail = Mail({(priority, ("x", "a")): 1 for priority in range(-9, 10)})
    mail.serve_all()
    assert mail.ranks.first_time(lambda _: 1, 1) is None
    mail.add(0, ("x", "a"))
    assert mail.serve_all() == [(0, ("x", "a"))]


def test_a_hundred_thousand_senders_with_priorities_cost_a_few_steps_each() -> None:
    many = 20_000
    mail = Mail({(number % 3, ("x", f"{number}")): 1 for number in range(many)})
    began = perf_counter()
    for number in range(2000):
        mail.serve()
        mail.add(9, ("x", f"{number}"))
    assert perf_counter() - began < 2.0
