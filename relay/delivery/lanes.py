"""The destinations that have mail under way: what waits there, what runs, and how much more each can be given."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from relay.delivery.pace import Pace
from relay.mail.message import Claim
from relay.policy.limits import DestinationLimits

IDLE_KEPT = 1000  # destinations with nothing under way whose pace is remembered


@dataclass(slots=True)
class Lane:
    """One destination. `waiting`: claimed and not begun. `down_since`: the queue knows it as down."""

    destination: str
    pace: Pace
    waiting: deque[Claim] = field(default_factory=deque)
    deliverers: int = 0
    running: int = 0  # attempts; a deliverer may be between two
    promised: int = 0  # claims that are being stored and come back to us
    resting_until: datetime | None = None
    down_since: datetime | None = None

    def room(self, now: datetime) -> int:
        """How many more claims it can be given: one waits for each that runs, so that none has to be looked for."""
        if self.rests(now):
            return 0
        held = self.running + len(self.waiting) + self.promised
        allowed = self.pace.may_begin(now)
        room = (1 if self.pace.rests else 2 * self.pace.at_once) - held
        return max(0, room if allowed is None else min(room, allowed - len(self.waiting) - self.promised))

    def claims_wanted(self, now: datetime) -> int:
        """How many claims to ask the queue for: none while half of what may wait does, so that they come together."""
        return 0 if 2 * len(self.waiting) > self.pace.at_once else self.room(now)

    def rests(self, now: datetime) -> bool:
        """Whether nothing may be tried."""
        return self.resting_until is not None and now < self.resting_until

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self.waiting or self.deliverers or self.promised)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What one claim may take: for each of `known` so many, for any other `share`. `resting`: known, and not to be had.

    Those that rest are not in `known`, as the queue knows of them.
    """

    known: Mapping[str, int]
    share: int
    resting: frozenset[str]

    @property
    def full(self) -> list[str]:
        """Those that take nothing."""
        return [destination for destination, room in self.known.items() if room <= 0]


class Lanes:
    """All of them, by destination. Those that are idle are forgotten, the longest idle first, when they are many.

    `stored`: the destinations that have mail on disk which could not be claimed. It goes first.
    """

    def __init__(self, limits: DestinationLimits) -> None:
        self.stored: set[str] = set()
        self._limits = limits
        self._lanes: dict[str, Lane] = {}  # the longest idle first
        self._awake: dict[str, Lane] = {}  # those that do not rest; thousands that do must not cost the others time
        self._rising: list[tuple[datetime, str]] = []  # a heap: when those that rest are awake again
        self._many = 2 * IDLE_KEPT

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def of(self, destination: str) -> Lane:
        """The lane of a destination, made when there is none."""
        lane = self._lanes.get(destination)
        if lane is None:
            lane = self._lanes[destination] = self._awake[destination] = self._new(destination)
        return lane

    def rest(self, lane: Lane, until: datetime, since: datetime) -> None:
        """Nothing is to be tried there before `until`; it is down since `since`."""
        lane.resting_until, lane.down_since = until, since
        self._awake.pop(lane.destination, None)
        heapq.heappush(self._rising, (until, lane.destination))

    def wake(self, lane: Lane) -> None:
        """It rests no more."""
        lane.resting_until = None
        if lane.destination in self._lanes:
            self._awake[lane.destination] = lane

    def take(self, destination: str, now: datetime) -> bool:
        """Whether mail that comes in may go there ahead of the queue.

        Where some is stored, only while a deliverer has nothing to do: it takes nobody's place then. Else all that
        comes in under load would go by way of the disk for ever, each behind the one before.
        """
        lane = self._lanes.get(destination)
        if lane is None:
            return destination not in self.stored
        return lane.room(now) > (lane.pace.at_once if destination in self.stored else 0)

    def idle(self, lane: Lane) -> None:
        """A lane may have nothing under way any more: forget it when nothing was learned."""
        if lane.is_idle and self._lanes.get(lane.destination) is lane:
            if lane.down_since is None and lane.pace.is_new:
                self._forget(lane)
            else:
                self._lanes[lane.destination] = self._lanes.pop(lane.destination)

    def rooms(self, now: datetime) -> Rooms:
        """How many claims to ask for, for each; for one of which nothing is known, what `*` says."""
        self._rise(now)
        self._forget_some(now)
        return Rooms(
            known={destination: lane.claims_wanted(now) for destination, lane in self._awake.items()},
            share=self._new("").room(now),
            resting=frozenset(self._lanes.keys() - self._awake.keys()),
        )

    def is_busy(self, destination: str) -> bool:
        """Whether what is under way there will ask for what is on disk, so that nobody need be told of it."""
        lane = self._lanes.get(destination)
        return lane is not None and lane.running > 0 and lane.resting_until is None and not lane.pace.has_rate

    def wants_stored(self, destination: str, now: datetime) -> bool:
        """Whether claims are wanted for mail that is on disk for it."""
        if destination not in self.stored:
            return False
        lane = self._lanes.get(destination)
        return lane is None or lane.claims_wanted(now) > 0

    def emptied(self, rooms: Rooms, claims: Collection[Claim]) -> None:
        """Less was claimed than was asked for: where there was room, nothing new is left on disk that is due."""
        taken = Counter(claim.destination for claim in claims)
        self.stored -= {one for one in self.stored - rooms.resting if taken[one] < rooms.known.get(one, rooms.share)}

    def next_begin(self, now: datetime) -> datetime | None:
        """When a rate allows the next message where it allows none now."""
        times = [time for lane in self._awake.values() if (time := lane.pace.next_begin(now)) is not None]
        return min(times, default=None)

    def _rise(self, now: datetime) -> None:
        while self._rising and self._rising[0][0] <= now:
            _, destination = heapq.heappop(self._rising)
            lane = self._lanes.get(destination)
            if lane is not None and not lane.rests(now):
                self._awake[destination] = lane

    def _forget(self, lane: Lane) -> None:
        del self._lanes[lane.destination]
        self._awake.pop(lane.destination, None)

    def _new(self, destination: str) -> Lane:
        limit = self._limits.of(destination)
        return Lane(destination, Pace(limit.at_once, limit.per_minute))

    def _forget_some(self, now: datetime) -> None:
        if len(self._lanes) <= self._many:
            return
        lanes = self._lanes.values()
        idle = [lane for lane in lanes if lane.is_idle and not lane.rests(now) and lane.pace.has_saved(now)]
        for lane in idle[:-IDLE_KEPT]:
            self._forget(lane)
        self._many = 2 * max(IDLE_KEPT, len(self._lanes))  # so that looking for some is rare
