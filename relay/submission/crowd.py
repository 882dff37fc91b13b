"""How many clients there are, from where, and how fast they come: who is let in, and what the log hears of the others.

No I/O; the time is an argument: seconds that only grow. What is remembered is bounded, whoever comes from wherever:
IPv6 counts by /64, which is what one customer has, and of addresses that came lately the latest are kept.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass

from relay.mail.status import Reply
from relay.policy.clients import IPAddress, Source, source_of
from relay.submission import replies

_TRUSTED_SHARE = 4
_MINUTE = 60.0
_MOST_REMEMBERED = 10_000  # sources: about 2 MB
_NEWS_PER_MINUTE = 20


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """One client that is in. `source`: where it is counted, when it is nobody we trust."""

    source: Source | None


class Crowd:
    """The clients of all listeners. `most_from_one` and `most_per_minute` are for those we do not trust; None: any."""

    def __init__(self, most: int, most_from_one: int | None, most_per_minute: int | None) -> None:
        self._most = most
        self._most_from_one = most_from_one
        self._seats: set[Seat] = set()
        self._by_source: Counter[Source] = Counter()
        self._rate = None if most_per_minute is None else Rate(most_per_minute)

    def __len__(self) -> int:
        return len(self._seats)

    @property
    def sources(self) -> int:
        """How many sources of strangers are in."""
        return len(self._by_source)

    def enter(self, address: IPAddress, trusted: bool, now: float) -> Seat | Reply:
        """A seat, to be given back with `leave`, or why there is none. Strangers leave a quarter to those we trust."""
        if len(self._seats) >= (self._most if trusted else self._most - self._most // _TRUSTED_SHARE):
            return replies.TOO_MANY_CONNECTIONS
        source = None if trusted else source_of(address)
        if source is not None:
            if self._most_from_one is not None and self._by_source[source] >= self._most_from_one:
                return replies.TOO_MANY_FROM_ADDRESS
            if self._rate is not None and not self._rate.allows(source, now):
                return replies.TOO_FAST
            self._by_source[source] += 1
        seat = Seat(source)
        self._seats.add(seat)
        return seat

    def leave(self, seat: Seat | None) -> None:
        """The client is gone. Nothing happens when it had left before."""
        if seat is None or seat not in self._seats:
            return
        self._seats.remove(seat)
        if seat.source is not None:
            self._by_source[seat.source] -= 1
            if not self._by_source[seat.source]:
                del self._by_source[seat.source]


class Rate:
    """So many in a minute from each source: as many at once, and then one whenever the time for one has passed.

    This is the generic cell rate algorithm: of a source we keep the time at which all that it has had would be due.
    """

    def __init__(self, most_per_minute: int, remembered: int = _MOST_REMEMBERED) -> None:
        self._each = _MINUTE / most_per_minute
        self._remembered = remembered
        self._due: OrderedDict[Source, float] = (
            OrderedDict()
        )  # from the source that came first to the one that came last

    def __len__(self) -> int:
        return len(self._due)

    def allows(self, source: Source, now: float) -> bool:
        """Whether one more may come; if so it is counted."""
        due = max(self._due.get(source, now), now) + self._each
        if due > now + _MINUTE + 0.001:  # sums of floats are never exact
            return False
        self._due[source] = due
        self._due.move_to_end(source)
        self._forget(now)
        return True

    def _forget(self, now: float) -> None:
        for _ in range(2):  # so that more is forgotten than comes
            oldest = next(iter(self._due))
            if self._due[oldest] > now and len(self._due) <= self._remembered:
                return
            del self._due[oldest]
            if not self._due:
                return


class News:
    """What the log hears of clients that are turned away: some in a minute, so that nobody can flood it."""

    def __init__(self, most_per_minute: int = _NEWS_PER_MINUTE) -> None:
        self._most = most_per_minute
        self._until = 0.0
        self._told = 0
        self._untold = 0

    def tell(self, now: float) -> int | None:
        """None: be silent. Else how many were turned away in silence since it was last told of one."""
        if now >= self._until:
            self._until, self._told = now + _MINUTE, 0
        if self._told >= self._most:
            self._untold += 1
            return None
        self._told += 1
        untold, self._untold = self._untold, 0
        return untold
