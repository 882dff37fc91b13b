"""Whose turn it is: the order in which due mail is claimed, found in a few steps however much is queued.

Mail stands in lines, one for each destination and each sender. Senders are served in turn, so that a million messages
of one do not keep another's waiting; the destinations of one sender are served in turn; in a line the earliest goes
first. The lines of a destination that is full or rests are set aside when they are met, however many they are; when it
takes mail again they come back one after another, each as soon as the one before was served.

Kept in memory beside the database. The time kept for a line is never later than the truth, but may be earlier;
whoever finds nothing due in a line says so with `served`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from itertools import chain

Line = tuple[str, str]
"""Destination and sender (rows.flow_of)."""

_SLACK = 64


def _never(_destination: str) -> int:
    """Nobody rests."""
    return 0


@dataclass(slots=True)
class _Offers:
    """The destinations where one sender may be served.

    In `back` those behind which other senders wait, in turn with the rest: else who has mail for a thousand
    destinations would keep those others waiting for a thousand turns.
    """

    back: deque[str] = field(default_factory=deque)
    plain: deque[str] = field(default_factory=deque)
    back_first: bool = True

    @property
    def queue(self) -> deque[str]:
        """The one to take from; empty: there is nothing."""
        return self.back if self.back and (self.back_first or not self.plain) else self.plain


class Lines:
    """The lines of new mail, or those of mail to be tried again. Times are microseconds UTC."""

    def __init__(self) -> None:
        self._times: dict[Line, int] = {}  # when the first of each line is due
        self._later: list[tuple[int, Line]] = []  # a heap: has every line that is not ready, and outdated entries
        self._ready: set[Line] = set()  # each stands in _offered or in _aside
        self._offered: dict[str, _Offers] = {}  # by sender
        self._turns: deque[str] = deque()  # the senders in _offered, but for those in _over
        self._over: list[str] = []  # those who had their turn in this round, when there are rounds
        self._aside: dict[str, deque[str]] = {}  # by destination that was closed when looked at: the senders there
        # Each of those stands in one of these. Thousands may rest at a time, and are not looked at before it is over.
        self._watched: dict[str, None] = {}
        self._rising: list[tuple[int, str]] = []  # a heap, with outdated entries
        self._back: dict[str, str] = {}  # by destination: the sender whose line came back from there and is on offer

    def load(self, firsts: Iterable[tuple[str, str, int]]) -> None:
        """Forget everything and begin with these: destination, sender, when the first is due."""
        self._times = {(destination, sender): time for destination, sender, time in firsts}
        self._ready.clear()
        self._offered.clear()
        self._turns.clear()
        self._over.clear()
        self._aside.clear()
        self._watched.clear()
        self._rising.clear()
        self._back.clear()
        self._rebuild()

    def note(self, line: Line, time: int) -> None:
        """Something in `line` is due at `time`."""
        known = self._times.get(line)
        if line not in self._ready and (known is None or time < known):
            self._put_off(line, time)

    def advance(self, now: int, closed: Callable[[str], bool], rest_of: Callable[[str], int] = _never) -> None:
        """What is due at `now` is ready from here on. `closed`: destinations that take nothing at this moment.

        `rest_of`: until when a closed destination rests; 0: it does not.
        """
        while self._later and self._later[0][0] <= now:
            time, line = heapq.heappop(self._later)
            if line not in self._ready and self._times.get(line) == time:
                self._ready.add(line)
                self._stand(line)
        while self._rising and self._rising[0][0] <= now:
            self.look_again(heapq.heappop(self._rising)[1])
        for destination in [one for one in self._watched if one not in self._back]:
            if not closed(destination):
                self._bring_back(destination)
            elif until := rest_of(destination):
                del self._watched[destination]
                heapq.heappush(self._rising, (until, destination))

    def look_again(self, destination: str) -> None:
        """It rests no more, or until another time."""
        if destination in self._aside:
            self._watched[destination] = None

    def begin_round(self) -> int:
        """Everybody has a turn again. Returns how many there are."""
        self._turns.extend(self._over)
        self._over.clear()
        return len(self._turns)

    def next(self, closed: Callable[[str], bool], served: Collection[str] = ()) -> Line | None:
        """The line that is to be served now; None: none is ready where mail is taken.

        `served`: the senders who have no turn before the next round.
        """
        while self._turns:
            sender = self._turns[0]
            if sender in served:
                self._over.append(self._turns.popleft())
                continue
            offers = self._offered[sender]
            while queue := offers.queue:
                if not closed(queue[0]):
                    return queue[0], sender
                self._set_aside(queue.popleft(), sender)
            self._leave()
        return None

    def served(self, line: Line, following: int | None, now: int, taken: bool = True) -> None:
        """After `next`: what is first in that line now is due at `following`; None: nothing is there any more.

        `taken`: something was claimed, so that it is the others' turn.
        """
        destination, sender = line
        offers = self._offered[sender]
        offers.queue.popleft()
        if self._back.get(destination) == sender:
            del self._back[destination]
        if following is not None and following <= now:
            self._times[line] = following
            self._stand(line)
        else:
            self._ready.discard(line)
            if following is None:
                del self._times[line]
            else:
                self._put_off(line, following)
        if destination in self._aside and destination not in self._back:
            self._bring_back(destination)
        if not offers.queue:
            self._leave()
        elif taken:
            offers.back_first = not offers.back_first
            self._turns.rotate(-1)

    def first_time(self, opens: Callable[[str], int | None], now: int) -> int | None:
        """When the next line may be served, at `now` or later; None: none will.

        `opens`: when a destination opens by itself, `now` for one that is open; None: not by itself.
        """
        self._drop_outdated()
        first = min([heap[0][0] for heap in (self._later, self._rising) if heap], default=None)
        offered = (place for offers in self._offered.values() for place in chain(offers.back, offers.plain))
        for place in chain(self._watched, offered):
            time = opens(place)
            if time is not None and (first is None or time < first):
                first = time
            if first is not None and first <= now:
                break
        return first

    def _stand(self, line: Line) -> None:
        """A line that is ready takes its place behind the others."""
        destination, sender = line
        if destination in self._aside:
            self._aside[destination].append(sender)
        else:
            self._offers_of(sender).plain.append(destination)

    def _offers_of(self, sender: str) -> _Offers:
        offers = self._offered.get(sender)
        if offers is None:
            offers = self._offered[sender] = _Offers()
            self._turns.append(sender)
        return offers

    def _set_aside(self, destination: str, sender: str) -> None:
        """The destination is closed. What came back from there stands first there again."""
        others = self._aside.setdefault(destination, deque())
        self._watched[destination] = None
        if self._back.get(destination) == sender:
            del self._back[destination]
            others.appendleft(sender)
        else:
            others.append(sender)

    def _bring_back(self, destination: str) -> None:
        """The first that was set aside is on offer; the next comes back when it was served."""
        others = self._aside[destination]
        sender = self._back[destination] = others.popleft()
        if not others:
            del self._aside[destination]
            self._watched.pop(destination, None)
        self._offers_of(sender).back.append(destination)

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
