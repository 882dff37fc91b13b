"""Whose turn it is: against a plain model, and in how many steps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import product
from time import perf_counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.queue.lines import Line, Lines

SENDERS = "abc"
DESTINATIONS = "xyz"
PLACES = [(destination, sender) for destination in DESTINATIONS for sender in SENDERS]


def never(destination: str) -> bool:
    return False


class Mail:
    """The model: when each piece of mail is due, line by line, and the lines that go by it."""

    def __init__(self, closed: Iterable[str] = ()) -> None:
        self.due: dict[Line, list[int]] = defaultdict(list)
        self.closed = set(closed)
        self.rests: dict[str, int] = {}  # until when, by destination; such a one is closed too
        self.now = 0
        self.lines = Lines()

    def put(self, line: Line, *times: int) -> None:
        for time in times:
            self.due[line].append(time)
            self.lines.note(line, time)

    def ready(self, now: int) -> set[Line]:
        """What has to be served at some time."""
        return {line for line, times in self.due.items() if times and min(times) <= now and not self.is_closed(line[0])}

    def is_closed(self, destination: str) -> bool:
        return destination in self.closed or self.rest_of(destination) > 0

    def rest_of(self, destination: str) -> int:
        until = self.rests.get(destination, 0)
        return until if until > self.now else 0

    def serve(self, now: int) -> Line | None:
        """One piece of mail, as a claim does it. None: there is none."""
        self.now = now
        while (line := self.lines.next(self.is_closed)) is not None:
            assert not self.is_closed(line[0])
            times = sorted(self.due[line])
            taken = bool(times) and times[0] <= now
            if taken:
                times.pop(0)
                self.due[line] = times
            self.lines.served(line, times[0] if times else None, now, taken)
            if taken:
                return line
        return None

    def advance(self, now: int) -> None:
        self.now = now
        self.lines.advance(now, self.is_closed, self.rest_of)

    def serve_all(self, now: int) -> list[Line]:
        self.advance(now)
        return list(iter(lambda: self.serve(now), None))

    def opens(self, now: int) -> Callable[[str], int | None]:
        self.now = now
        return lambda destination: None if destination in self.closed else self.rest_of(destination) or now


def sizes(lines: Lines) -> int:
    """How many things it keeps."""
    offers = sum(len(one.back) + len(one.plain) for one in lines._offered.values())
    kept = (lines._times, lines._ready, lines._offered, lines._turns, lines._aside, lines._back, lines._watched)
    return offers + sum(map(len, kept)) + sum(map(len, lines._aside.values()))


class LinesMachine(RuleBasedStateMachine):
    """Whatever comes, opens and closes: all that is due and open is served, and nothing before its time."""

    @initialize()
    def begin(self) -> None:
        self.now = 0
        self.mail = Mail()

    @rule(line=st.sampled_from(PLACES), wait=st.integers(-3, 5))
    def put(self, line: Line, wait: int) -> None:
        self.mail.put(line, self.now + wait)

    @rule(line=st.sampled_from(PLACES))
    def note_for_nothing(self, line: Line) -> None:
        """A lease may have been settled before its end."""
        self.mail.lines.note(line, self.now)

    @rule(line=st.sampled_from(PLACES))
    def take_away(self, line: Line) -> None:
        """By an operator, for instance."""
        self.mail.due[line].clear()

    @rule(by=st.integers(1, 4))
    def pass_time(self, by: int) -> None:
        self.now += by

    @rule(destination=st.sampled_from(DESTINATIONS))
    def toggle(self, destination: str) -> None:
        self.mail.closed ^= {destination}

    @rule(destination=st.sampled_from(DESTINATIONS), wait=st.integers(0, 6))
    def rest(self, destination: str, wait: int) -> None:
        """For longer than before or for less; not at all with 0."""
        self.mail.rests[destination] = self.now + wait
        self.mail.lines.look_again(destination)

    @rule(count=st.integers(1, 4))
    def serve_some(self, count: int) -> None:
        self.mail.advance(self.now)
        for _ in range(count):
            self.mail.serve(self.now)

    @rule()
    def serve_all(self) -> None:
        self.mail.serve_all(self.now)
        assert self.mail.ready(self.now) == set()

    @rule()
    def load(self) -> None:
        self.mail.lines.load((*line, min(times)) for line, times in self.mail.due.items() if times)

    @invariant()
    def the_first_time_is_not_too_late(self) -> None:
        if not hasattr(self, "mail"):
            return
        open_times = [
            max(time, self.mail.rests.get(line[0], 0))
            for line, times in self.mail.due.items()
            for time in times
            if line[0] not in self.mail.closed
        ]
        found = self.mail.lines.first_time(self.mail.opens(self.now), self.now)
        if open_times:
            assert found is not None
            assert found <= max(min(open_times), self.now)

    def teardown(self) -> None:
        if not hasattr(self, "mail"):
            return
        self.mail.closed.clear()
        self.mail.serve_all(self.now + 20)
        assert not any(self.mail.due.values())
        assert sizes(self.mail.lines) == 0
        assert self.mail.lines.first_time(self.mail.opens(self.now + 20), self.now + 20) is None


LinesMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
test_lines_against_the_model = LinesMachine.TestCase


@given(st.dictionaries(st.sampled_from(PLACES), st.integers(1, 6), min_size=2))
def test_senders_are_served_in_turn(stock: dict[Line, int]) -> None:
    """Between two servings of one sender every other that has something is served once, wherever it goes."""
    mail = Mail()
    for line, count in stock.items():
        mail.put(line, *[0] * count)
    left = Counter[str]()
    for (_, sender), count in stock.items():
        left[sender] += count
    order = [sender for _, sender in mail.serve_all(0)]
    assert len(order) == left.total()
    since: dict[str, set[str]] = {}  # by sender: who was served since it was
    for sender in order:
        if sender in since:
            assert since[sender] >= {other for other, count in left.items() if count and other != sender}
        left[sender] -= 1
        for others in since.values():
            others.add(sender)
        since[sender] = set()


@given(st.dictionaries(st.sampled_from(DESTINATIONS), st.integers(1, 6), min_size=2))
def test_the_destinations_of_a_sender_are_served_in_turn(stock: dict[str, int]) -> None:
    mail = Mail()
    for destination, count in stock.items():
        mail.put((destination, "a"), *[0] * count)
    order = [destination for destination, _ in mail.serve_all(0)]
    rounds = []
    while any(stock.values()):
        rounds.append({destination for destination, count in stock.items() if count})
        stock = {destination: max(0, count - 1) for destination, count in stock.items()}
    for among in rounds:
        assert set(order[: len(among)]) == among
        del order[: len(among)]
    assert order == []


def test_one_in_the_line_of_a_thousand_destinations_does_not_wait_for_them() -> None:
    """Sender a was there first, and has mail for the destination of b beside many others."""
    mail = Mail()
    for number in range(1000):
        mail.put((str(number), "a"), 0)
    mail.put(("999", "b"), 0)
    mail.lines.advance(0, never)
    assert {mail.serve(0), mail.serve(0)} == {("0", "a"), ("999", "b")}


def test_nor_when_the_destination_was_closed() -> None:
    """While it was closed, a stood there first; b waits for that one, not for all that a has elsewhere."""
    mail = Mail({"999"})
    for number in (999, *range(999)):
        mail.put((str(number), "a"), 0)
    mail.put(("999", "b"), 0)
    mail.lines.advance(0, mail.is_closed)
    for _ in range(10):
        mail.serve(0)
    mail.closed.clear()
    mail.lines.advance(0, mail.is_closed)
    served = [mail.serve(0) for _ in range(6)]
    assert ("999", "b") in served


def test_what_comes_back_does_not_starve_the_rest_of_its_sender() -> None:
    """All three take turns at x and at y, which were closed; a has z besides."""
    mail = Mail("xy")
    for line in [*product("xy", SENDERS), ("z", "a")]:
        mail.put(line, *[0] * 100)
    mail.lines.advance(0, mail.is_closed)
    assert [mail.serve(0), mail.serve(0)] == [("z", "a")] * 2  # all others were met
    mail.closed.clear()
    mail.lines.advance(0, mail.is_closed)
    served = Counter(mail.serve(0) for _ in range(120))
    assert set(served) == {*product("xy", SENDERS), ("z", "a")}
    assert min(served.values()) >= 10


def order_at_x(mail: Mail) -> list[str]:
    """Who is served there from now on."""
    mail.closed.clear()
    return [sender for destination, sender in mail.serve_all(0) if destination == "x"]


def test_what_was_set_aside_keeps_its_order() -> None:
    """However often it opens and closes without anybody being served."""
    mail = Mail("x")
    for sender in SENDERS:
        mail.put(("x", sender), 0)
    for _ in range(3):
        mail.closed = {"x"}
        assert mail.serve_all(0) == []
        mail.closed.clear()
        for _ in range(2):
            mail.lines.advance(0, mail.is_closed)
    assert order_at_x(mail) == list(SENDERS)


def test_nor_does_one_that_was_never_set_aside_change_it() -> None:
    mail = Mail("x")
    for time, line in enumerate([("x", "a"), ("x", "b"), ("w", "c"), ("x", "c")], -5):
        mail.put(line, time, time)
    mail.lines.advance(0, mail.is_closed)
    assert mail.serve(0) == ("w", "c")  # a and b were met at x, c was not yet
    mail.closed = {"w"}
    mail.lines.advance(0, mail.is_closed)
    assert mail.serve(0) == ("x", "c")
    mail.closed = {"w", "x"}
    assert mail.serve_all(0) == []
    assert order_at_x(mail)[:3] == ["a", "b", "c"]


def test_what_comes_later_stands_behind_what_was_set_aside() -> None:
    mail = Mail("x")
    mail.put(("x", "b"), 0)
    assert mail.serve_all(0) == []
    mail.put(("x", "a"), 0)
    assert mail.serve_all(0) == []
    assert order_at_x(mail) == ["b", "a"]


def test_a_destination_with_room_for_one_is_shared() -> None:
    """It closes after each serving, as one does that is full."""
    mail = Mail()
    for sender in SENDERS:
        mail.put(("x", sender), *[0] * 20)
    order = []
    for _ in range(30):
        mail.closed.clear()
        mail.lines.advance(0, mail.is_closed)
        line = mail.serve(0)
        assert line is not None
        order.append(line[1])
        mail.closed = {"x"}
        assert mail.serve(0) is None
    assert [order[place : place + 3] for place in range(0, 30, 3)] == [order[:3]] * 10


def test_the_earlier_time_counts() -> None:
    lines = Lines()
    lines.note(("x", "a"), 50)
    lines.note(("x", "a"), 20)
    lines.note(("x", "a"), 70)
    assert lines.first_time(lambda _: 0, 0) == 20
    lines.advance(19, never)
    assert lines.next(never) is None
    lines.advance(20, never)
    assert lines.next(never) == ("x", "a")


def test_the_heap_does_not_grow_without_end() -> None:
    """A line whose time changes again and again leaves outdated entries."""
    lines = Lines()
    for number in range(100):
        lines.note(("x", str(number)), 10_000_000)
    for time in range(100_000, 0, -1):
        lines.note(("x", "a"), time)
    assert len(lines._later) <= 2 * 101 + 65


MANY = 100_000
FEWER = 30_000
PATIENCE_SECONDS = 1.0  # for a thousand servings; walking over the many for each takes minutes


def test_a_closed_destination_with_many_senders_costs_the_others_nothing() -> None:
    mail = Mail({"closed"})
    mail.lines.load([("closed", str(number), 0) for number in range(MANY)])
    mail.put(("open", "a"), *[0] * 2000)
    mail.lines.advance(0, mail.is_closed)
    mail.serve(0)  # sets the many aside, once
    began = perf_counter()
    for _ in range(1000):
        mail.lines.advance(0, mail.is_closed)
        assert mail.serve(0) == ("open", "a")
        assert mail.lines.first_time(mail.opens(0), 0) == 0
    assert perf_counter() - began < PATIENCE_SECONDS


def test_a_destination_with_many_senders_and_room_for_one_costs_little() -> None:
    mail = Mail()
    mail.due.update({("x", str(number)): [0] for number in range(FEWER)})
    mail.lines.load([("x", str(number), 0) for number in range(FEWER)])
    served = set()
    began = perf_counter()
    for number in range(1001):
        mail.closed.clear()
        mail.lines.advance(0, mail.is_closed)
        served.add(mail.serve(0))
        mail.closed = {"x"}
        assert mail.serve(0) is None
        if number == 0:  # the many were set aside, once
            began = perf_counter()
    assert len(served) == 1001
    assert perf_counter() - began < PATIENCE_SECONDS


def test_destinations_that_rest_cost_the_others_nothing() -> None:
    """They are not looked at before their time, or before somebody says that it has changed."""
    mail = Mail()
    asked: list[str] = []
    mail.rests = {str(number): 1000 for number in range(FEWER)}
    mail.due.update({(str(number), "a"): [0] for number in range(FEWER)})
    mail.lines.load([(str(number), "a", 0) for number in range(FEWER)])

    def is_closed(destination: str) -> bool:
        asked.append(destination)
        return mail.is_closed(destination)

    assert mail.serve_all(0) == []
    mail.advance(0)
    mail.lines.advance(1, is_closed, mail.rest_of)
    assert asked == []
    assert mail.lines.first_time(mail.opens(1), 1) == 1000
    mail.rests.pop("7")
    mail.lines.look_again("7")
    assert mail.serve_all(2) == [("7", "a")]
    mail.rests["8"] = 500
    mail.lines.look_again("8")
    assert mail.serve_all(2) == []
    assert mail.lines.first_time(mail.opens(2), 2) == 500
    assert mail.serve_all(500) == [("8", "a")]
    assert len(mail.serve_all(1000)) == FEWER - 2
