"""Whose turn it is: the order in which due mail is claimed, found in a few steps however much is queued.

Mail stands in lines, one for each destination and each sender. Senders are served in turn, so that a million messages
of one do not keep another's waiting; the destinations of one sender are served in turn; in a line the earliest goes
first. A destination that is full or rests is stepped over at once, however long its lines are.

Kept in memory beside the database. The time kept for a line is never later than the truth, but may be earlier;
whoever finds nothing due in a line says so with `served`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable

Line = tuple[str, str]
"""Destination and sender (rows.flow_of)."""

_SLACK = 64


class Lines:
    """The lines of new mail, or those of mail to be tried again. Times are microseconds UTC."""

    def __init__(self) -> None:
        self._times: dict[Line, int] = {}  # when the first of each line is due
        self._later: list[tuple[int, Line]] = []  # a heap: has every line that is not ready, and outdated entries
        self._ready: set[Line] = set()
        self._rings: dict[str, deque[str]] = {}  # by destination: the senders of its ready lines; the first is next
        self._offered: dict[str, deque[str]] = {}  # by sender: the destinations where it is next
        self._turns: deque[str] = deque()  # the senders in _offered
        self._parked: dict[str, None] = {}  # destinations with ready lines, closed when looked at: offered to nobody

    def load(self, firsts: Iterable[tuple[str, str, int]]) -> None:
        """Forget everything and begin with these: destination, sender, when the first is due."""
        self._times = {(destination, sender): time for destination, sender, time in firsts}
        self._ready.clear()
        self._rings.clear()
        self._offered.clear()
        self._turns.clear()
        self._parked.clear()
        self._rebuild()

    def note(self, line: Line, time: int) -> None:
        """Something in `line` is due at `time`."""
        known = self._times.get(line)
        if line not in self._ready and (known is None or time < known):
            self._put_off(line, time)

    def advance(self, now: int, closed: Callable[[str], bool]) -> None:
        """What is due at `now` is ready from here on. `closed`: destinations that take nothing at this moment."""
        while self._later and self._later[0][0] <= now:
            time, line = heapq.heappop(self._later)
            if line not in self._ready and self._times.get(line) == time:
                self._make_ready(line)
        for destination in [one for one in self._parked if not closed(one)]:
            del self._parked[destination]
            self._offer(destination)

    def next(self, closed: Callable[[str], bool]) -> Line | None:
        """The line that is to be served now; None: none is ready where mail is taken."""
        while self._turns:
            sender = self._turns[0]
            offered = self._offered[sender]
            while offered and closed(offered[0]):
                self._parked[offered.popleft()] = None
            if offered:
                return offered[0], sender
            self._leave()
        return None

    def served(self, line: Line, following: int | None, now: int, taken: bool = True) -> None:
        """After `next`: what is first in that line now is due at `following`; None: nothing is there any more.

        `taken`: something was claimed, so that it is the others' turn.
        """
        destination, sender = line
        ring = self._rings[destination]
        ring.popleft()
        self._offered[sender].popleft()
        if following is not None and following <= now:
            ring.append(sender)
            self._times[line] = following
        else:
            self._ready.discard(line)
            if following is None:
                del self._times[line]
            else:
                self._put_off(line, following)
        if ring:
            self._offer(destination)
        else:
            del self._rings[destination]
        if not self._offered[sender]:
            self._leave()
        elif taken:
            self._turns.rotate(-1)

    def first_time(self, opens: Callable[[str], int | None]) -> int | None:
        """When the next line may be served; None: none will.

        `opens`: when a destination opens by itself, now for one that is open; None: not by itself.
        """
        self._drop_outdated()
        times = [self._later[0][0]] if self._later else []
        if self._offered:
            times += [time for offered in self._offered.values() for one in offered if (time := opens(one)) is not None]
        times += [time for one in self._parked if (time := opens(one)) is not None]
        return min(times, default=None)

    def _make_ready(self, line: Line) -> None:
        destination, sender = line
        self._ready.add(line)
        ring = self._rings.get(destination)
        if ring is None:
            self._rings[destination] = deque((sender,))
            self._offer(destination)
        else:
            ring.append(sender)

    def _offer(self, destination: str) -> None:
        sender = self._rings[destination][0]
        offered = self._offered.get(sender)
        if offered is None:
            self._offered[sender] = deque((destination,))
            self._turns.append(sender)
        else:
            offered.append(destination)

    def _leave(self) -> None:
        """The sender whose turn it is has nothing on offer."""
        del self._offered[self._turns.popleft()]

    def _put_off(self, line: Line, time: int) -> None:
        self._times[line] = time
        heapq.heappush(self._later, (time, line))
        if len(self._later) > 2 * len(self._times) + _SLACK:
            self._rebuild()

    def _drop_outdated(self) -> None:
        while self._later:
            time, line = self._later[0]
            if line not in self._ready and self._times.get(line) == time:
                return
            heapq.heappop(self._later)

    def _rebuild(self) -> None:
        self._later = [(time, line) for line, time in self._times.items() if line not in self._ready]
        heapq.heapify(self._later)
