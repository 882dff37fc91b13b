"""What the writer keeps in memory beside the tables: lines of new mail and of retries, leases that run, rests, holds.

New mail goes ahead of retries: of four claims three look at new mail first, the fourth at retries, so that neither
waits for ever. While much new mail comes in, retries have a ration.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable

from relay.queue.lines import Line
from relay.queue.ranks import Ranked, Ranks
from relay.queue.ration import Ration

Turn = tuple[bool, Ranked]
"""Whether it is one of a retry, and the line."""

RETRY_TURN = 4  # each so many claims retries come first
_SLACK = 64


class Turns:
    """Whose turn it is. Times are microseconds UTC.

    `rests`: destinations where nothing is tried before a time. `holds`: there may be rules that hold what comes in.
    `damaged`: it may be later than the truth, and is to be loaded anew.
    """

    def __init__(self) -> None:
        self.rests: dict[str, int] = {}
        self.holds = True
        self.damaged = False
        self._fresh = Ranks()
        self._retries = Ranks()
        self._ration = Ration()
        self._now = 0  # of the claim under way
        self._claimed = 0
        self._leases: dict[int, tuple[int, Ranked]] = {}  # by number: its end, and where its recipients stand then
        self._ends: list[tuple[int, int]] = []  # a heap, with outdated entries

    def load(self, fresh: Iterable[tuple[str, str, int, int]], retries: Iterable[tuple[str, str, int, int]]) -> None:
        """Forget the lines and begin with these: destination, sender, priority, when the first is due."""
        self._fresh.load(fresh)
        self._retries.load(retries)
        self.damaged = False

    def note_fresh(self, line: Line, time: int, priority: int = 0) -> None:
        """New mail in `line` is due at `time`."""
        self._fresh.note(line, time, priority)

    def came_in(self, now: int) -> None:
        """A new message was put, whoever has it now."""
        self._ration.note_fresh(now)

    def note_retry(self, line: Line, time: int, priority: int = 0) -> None:
        """Mail that was tried before is due at `time`."""
        self._retries.note(line, time, priority)

    def note(self, line: Line, time: int, priority: int = 0) -> None:
        """Mail of either kind."""
        self._fresh.note(line, time, priority)
        self._retries.note(line, time, priority)

    def lease(self, number: int, end: int, line: Line, priority: int = 0) -> None:
        """A lease runs, or runs longer: its mail is due at the end, should nobody settle it."""
        self._leases[number] = end, (priority, line)
        heapq.heappush(self._ends, (end, number))
        if len(self._ends) > 2 * len(self._leases) + _SLACK:
            self._ends = [(time, one) for one, (time, _) in self._leases.items()]
            heapq.heapify(self._ends)

    def end_lease(self, number: int) -> None:
        """A lease is over."""
        self._leases.pop(number, None)

    def rest(self, destination: str, until: int | None) -> None:
        """Nothing is tried there before `until`; None: it is open."""
        if until is None:
            self.rests.pop(destination, None)
        else:
            self.rests[destination] = until
        self._fresh.look_again(destination)
        self._retries.look_again(destination)

    def rest_of(self, destination: str, now: int) -> int:
        """Until when nothing is tried there; 0: it does not rest."""
        until = self.rests.get(destination, 0)
        return until if until > now else 0

    def advance(self, now: int, closed: Callable[[str], bool]) -> None:
        """What is due at `now` is ready. `closed`: destinations that take nothing at this moment."""
        while self._ends and self._ends[0][0] <= now:
            end, number = heapq.heappop(self._ends)
            lease = self._leases.get(number)
            if lease is not None and lease[0] == end:
                del self._leases[number]
                priority, line = lease[1]
                self.note(line, end, priority)
        self._now = now
        for ranks in (self._fresh, self._retries):
            ranks.advance(now, closed, lambda destination: self.rest_of(destination, now))

    def next(self, closed: Callable[[str], bool]) -> Turn | None:
        """The line to claim from; None: there is none."""
        kinds = ((True, self._retries), (False, self._fresh))
        for is_retry, ranks in kinds if self._claimed % RETRY_TURN == RETRY_TURN - 1 else reversed(kinds):
            if is_retry and self._ration.opens(self._now) > self._now:
                continue
            ranked = ranks.next(closed)
            if ranked is not None:
                return is_retry, ranked
        return None

    def served(self, turn: Turn, following: int | None, now: int, taken: bool) -> None:
        """After `next`: when the first that is left in that line is due, and whether something was claimed."""
        is_retry, ranked = turn
        self._claimed += taken
        if taken and is_retry:
            self._ration.note_retry()
        elif taken:
            self._ration.note_fresh(now)
        (self._retries if is_retry else self._fresh).served(ranked, following, now, taken)

    def first_time(self, closed: Collection[str], now: int) -> int | None:
        """When something may be claimed next, perhaps too early, never too late. `closed`: not there."""

        def opens(destination: str) -> int | None:
            return None if destination in closed else self.rest_of(destination, now) or now

        while self._ends and self._leases.get(self._ends[0][1], (0,))[0] != self._ends[0][0]:
            heapq.heappop(self._ends)
        retry = self._retries.first_time(opens, now)
        times = (
            self._fresh.first_time(opens, now),
            None if retry is None else max(retry, self._ration.opens(now)),
            self._ends[0][0] if self._ends else None,
        )
        return min((time for time in times if time is not None), default=None)
