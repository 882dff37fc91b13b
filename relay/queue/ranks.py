"""Who goes ahead: the lines of new mail, or of retries, apart by the priority of their mail. RFC 6710.

Time goes in rounds. In each round every sender is served once, those first whose mail has the highest priority. So
mail of high priority passes all that waits, its sender's own first of all; and who calls all of his mail urgent is
first in each round, and has no more of it than anybody else.

Senders who come in during a round are served in it. Lest those without end keep others waiting, as one client can who
may name any sender, one claim of four looks at each priority in turn, and a round ends after so many claims.

Nearly always all mail has the priority 0. Then there are no rounds to be kept, only the turns of `lines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from relay.queue.lines import Line, Lines

ANY_TURN = 4  # each so many claims the priorities take turns
_SLACK = 64

Ranked = tuple[int, Line]
"""A priority, and a line of mail that has it."""


class Ranks:
    """Times are microseconds UTC."""

    def __init__(self) -> None:
        self._lines = {0: Lines()}  # the lowest first
        self._served: set[str] = set()  # the senders who had their turn in this round
        self._left = 0  # claims that this round may have
        self._claimed = 0

    def load(self, firsts: Iterable[tuple[str, str, int, int]]) -> None:
        """Forget everything and begin with these: destination, sender, priority, when the first is due."""
        found: dict[int, list[tuple[str, str, int]]] = {0: []}
        for destination, sender, priority, time in firsts:
            found.setdefault(priority, []).append((destination, sender, time))
        self._served.clear()
        self._lines = {priority: Lines() for priority in sorted(found)}
        for priority, lines in self._lines.items():
            lines.load(found[priority])

    def note(self, line: Line, time: int, priority: int) -> None:
        """Something of this priority in `line` is due at `time`."""
        if priority not in self._lines:
            # It stays until the next `load`: a round must not end because a line is empty, or who sends one urgent
            # message after the other would have every turn.
            self._lines = dict(sorted({**self._lines, priority: Lines()}.items()))
        self._lines[priority].note(line, time)

    def look_again(self, destination: str) -> None:
        """It rests no more, or until another time."""
        for lines in self._lines.values():
            lines.look_again(destination)

    def advance(self, now: int, closed: Callable[[str], bool], rest_of: Callable[[str], int]) -> None:
        """What is due at `now` is ready from here on. See Lines.advance."""
        for lines in self._lines.values():
            lines.advance(now, closed, rest_of)

    def next(self, closed: Callable[[str], bool]) -> Ranked | None:
        """The line that is to be served now; None: none is ready where mail is taken."""
        if len(self._lines) == 1:
            line = self._lines[0].next(closed)
            return None if line is None else (0, line)
        if self._left <= 0:
            self._begin_round()
        if self._claimed % ANY_TURN == ANY_TURN - 1:
            lowest = self._claimed // ANY_TURN % len(self._lines)
            priorities = list(self._lines)
            found = self._next_in_round(chain(priorities[lowest:], priorities[:lowest]), closed)
            if found is not None:
                return found
        found = self._next_in_round(reversed(self._lines), closed)
        if found is None and self._served:
            self._begin_round()
            found = self._next_in_round(reversed(self._lines), closed)
        return found

    def served(self, ranked: Ranked, following: int | None, now: int, taken: bool) -> None:
        """After `next`: see Lines.served."""
        priority, line = ranked
        self._lines[priority].served(line, following, now, taken)
        if taken and len(self._lines) > 1:
            self._served.add(line[1])
            self._claimed += 1
            self._left -= 1

    def first_time(self, opens: Callable[[str], int | None], now: int) -> int | None:
        """When the next line may be served. See Lines.first_time."""
        times = [lines.first_time(opens, now) for lines in self._lines.values()]
        return min((time for time in times if time is not None), default=None)

    def _begin_round(self) -> None:
        self._served.clear()
        waiting = sum(lines.begin_round() for lines in self._lines.values())
        self._left = ANY_TURN * waiting + _SLACK  # so that all of them had theirs, even if others come in all the time

    def _next_in_round(self, priorities: Iterable[int], closed: Callable[[str], bool]) -> Ranked | None:
        for priority in priorities:
            line = self._lines[priority].next(closed, self._served)
            if line is not None:
                return priority, line
        return None
