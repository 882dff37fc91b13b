"""The destinations that have mail under way: what waits there, what runs, and how much more each can be given."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from relay.delivery.pace import START, Pace
from relay.mail.message import Claim
from relay.policy.limits import DestinationLimits

IDLE_KEPT = 1000  # destinations without mail whose pace is remembered


@dataclass(slots=True)
class Lane:
    """One destination. `waiting`: claimed and not begun. `stored`: it has mail on disk that was not claimed."""

    destination: str
    pace: Pace
    waiting: deque[Claim] = field(default_factory=deque)
    deliverers: int = 0
    running: int = 0  # attempts; a deliverer may be between two
    promised: int = 0  # claims that are being stored and come back to us
    stored: bool = False
    resting_until: datetime | None = None

    def room(self, now: datetime) -> int:
        """How many more claims it can be given: one waits for each that runs, so that none has to be looked for."""
        if self.resting_until is not None and now < self.resting_until:
            return 0
        held = self.running + len(self.waiting) + self.promised
        allowed = self.pace.may_begin(now)
        room = (1 if self.pace.rests else 2 * self.pace.at_once) - held
        return max(0, room if allowed is None else min(room, allowed - len(self.waiting) - self.promised))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self.waiting or self.deliverers or self.promised)


class Lanes:
    """All of them, by destination. Those that are idle are forgotten, the longest idle first, when they are many."""

    def __init__(self, limits: DestinationLimits) -> None:
        self._limits = limits
        self._lanes: dict[str, Lane] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def of(self, destination: str) -> Lane:
        """The lane of a destination, made when there is none."""
        lane = self._lanes.get(destination)
        if lane is None:
            limit = self._limits.of(destination)
            lane = self._lanes[destination] = Lane(destination, Pace(limit.at_once, limit.per_minute))
            self._forget_some()
        return lane

    def find(self, destination: str) -> Lane | None:
        """The lane of a destination that has one."""
        return self._lanes.get(destination)

    def idle(self, lane: Lane) -> None:
        """A lane may have nothing under way any more: forget it when nothing was learned."""
        if lane.is_idle and lane.pace.is_new and not lane.stored:
            self._lanes.pop(lane.destination, None)

    @property
    def share(self) -> int:
        """How many claims a destination can be given of which nothing is known."""
        return 2 * min(START, self._limits.plain.at_once)

    def rooms(self, now: datetime) -> dict[str, int]:
        """How many more claims each can be given; those that rest are left out, as the queue knows of them."""
        return {
            lane.destination: lane.room(now)
            for lane in self._lanes.values()
            if lane.resting_until is None or lane.resting_until <= now
        }

    def emptied(self, rooms: Mapping[str, int], claims: Collection[Claim]) -> None:
        """Less was claimed than was asked for: where there was room, nothing is left on disk that is due."""
        taken = Counter(claim.destination for claim in claims)
        for lane in list(self._lanes.values()):
            if lane.stored and taken[lane.destination] < rooms.get(lane.destination, 0):
                lane.stored = False
                self.idle(lane)

    def next_begin(self, now: datetime) -> datetime | None:
        """When a rate allows the next message where it allows none now."""
        times = [time for lane in self._lanes.values() if (time := lane.pace.next_begin(now)) is not None]
        return min(times, default=None)

    def _forget_some(self) -> None:
        if len(self._lanes) <= 2 * IDLE_KEPT:
            return
        idle = [lane for lane in self._lanes.values() if lane.is_idle and not lane.stored and not lane.pace.rests]
        for lane in idle[:-IDLE_KEPT]:
            del self._lanes[lane.destination]
