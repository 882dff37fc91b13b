"""Takes due mail out of the queue, gives it to attempts, and lets each destination have as much as it can take.

Each destination has a lane, so that one that is slow or down does not hold up the others. A programming error in an
attempt is reported and puts the mail off; it never becomes a bounce.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.delivery.lanes import Lane, Lanes
from relay.delivery.pace import Sign, sign_of
from relay.delivery.settling import Office, Settler
from relay.events import DefectFound, DestinationReached, DestinationRests, StoreFailed
from relay.mail.message import Claim, NewMessage
from relay.mail.outcome import Deferred
from relay.mail.record import Attempted
from relay.policy.cause import cause_of
from relay.policy.limits import DestinationLimits
from relay.policy.retry import Settlement
from relay.queue.store import QueueStore, Rest, StoreUnavailable

LEASE = timedelta(minutes=30)
RENEW_EVERY_SECONDS = 300.0
JUMP_SECONDS = 60.0  # of the clock, beyond the time that passed
BATCH = 100  # claims taken from the queue at once


@dataclass(frozen=True, slots=True)
class Limits:
    """How many deliveries run at once, in all and for each destination."""

    total: int
    destinations: DestinationLimits


class Worker:
    """The delivery loop. `deliver` makes one attempt and returns what came of it."""

    def __init__(
        self,
        store: QueueStore,
        deliver: Callable[[Claim], Awaitable[Attempted]],
        limits: Limits,
        office: Office,
    ) -> None:
        self._store = store
        self._deliver = deliver
        self._total = limits.total
        self._office = office
        self._settler = Settler(store, office)
        self._lanes = Lanes(limits.destinations)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[int, Claim] = {}  # everything claimed and not yet settled, by the number of its lease
        self._looked: tuple[datetime, float] | None = None  # the clock, and the seconds of the event loop
        self._promised = 0  # claims that are on their way to us
        self._room = asyncio.Event()
        self._starved = False  # there is work, but too much under way in all
        self._stopping = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many recipients are claimed and not yet settled."""
        return sum(len(claim.recipients) for claim in self._held.values())

    async def run(self) -> None:
        """Deliver until `stop`. Returns when what was under way is done."""
        renewing = asyncio.create_task(self._renew_leases())
        try:
            await self._until_it_works(self._remember_rests)
            while not self._stopping.is_set():
                await self._until_it_works(self._fill_lanes)
        finally:
            renewing.cancel()
        if self._tasks:  # not where something has broken: who runs us is to hear of it at once
            await asyncio.wait(self._tasks)

    async def stop(self, grace: timedelta) -> None:
        """Take no more work, give back what has not begun, and let what is under way finish within `grace`."""
        self._stopping.set()
        self._settler.stopping.set()
        self._room.set()
        waiting = [claim for lane in self._lanes for claim in lane.waiting]
        for lane in self._lanes:
            lane.waiting.clear()  # all at once, before anybody else runs: a free deliverer would begin with them
        for claim in waiting:
            await self._give_back(claim)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        for task in self._tasks:
            task.cancel()

    async def admit(self, message: NewMessage) -> None:
        """Put a new message into the queue, and deliver it from there at once where there is room.

        It is on disk on return. Raises what the queue's `put` raises.
        """
        now = self._office.clock()
        if message.due > now:
            await self._store.put((message,))
            return
        destinations = self._store.destinations(message)
        wanted = [destination for destination in destinations if self._lanes.take(destination, now)]
        if self._stopping.is_set() or self._free() < len(wanted):
            wanted = []
        lanes = [self._lanes.of(destination) for destination in wanted]
        stored = destinations.difference(wanted)
        self._lanes.stored |= stored  # it goes first from now on
        try:
            if lanes:
                await self._put_claimed(message, lanes)
            else:
                busy = all(map(self._lanes.is_busy, destinations))
                await self._store.put((message,), wakes=not busy)
        finally:
            self._lanes.stored |= stored  # once more: a claim that was on its way did not see it
            if any(self._lanes.wants_stored(destination, self._office.clock()) for destination in stored):
                self._room.set()  # what was under way is over by now
            for lane in lanes:
                self._lanes.idle(lane)

    async def _put_claimed(self, message: NewMessage, wanted: list[Lane]) -> None:
        """`wanted`: where there is room for it."""
        self._promise(wanted, 1)
        try:
            names = [lane.destination for lane in wanted]
            claims = await self._store.put_claimed(message, self._office.clock() + LEASE, names)
        except BaseException:
            self._room.set()
            raise
        finally:
            self._promise(wanted, -1)
        self._take(claims)
        for claim in claims:
            await self._assign(claim)

    def _take(self, claims: Sequence[Claim]) -> None:
        """All of them are in our hands at once: while one goes back, there is no room for the others twice."""
        self._held.update((claim.lease, claim) for claim in claims)

    def _promise(self, lanes: list[Lane], more: int) -> None:
        self._promised += more * len(lanes)
        for lane in lanes:
            lane.promised += more

    async def _until_it_works(self, work: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            try:
                return await work()
            except StoreUnavailable as error:
                self._office.emit(StoreFailed(str(error)))
                await self._settler.pause()
        return None

    async def _remember_rests(self) -> None:
        """What was down before is tried with one message first."""
        for destination, rest in (await self._store.rests()).items():
            lane = self._lanes.of(destination)
            lane.pace.resumed(rest.failures, rest.since)
            self._lanes.rest(lane, rest.until, rest.since)

    async def _give_back(self, claim: Claim) -> None:
        self._over(claim)
        with suppress(StoreUnavailable):  # then it comes back at the end of its lease
            await self._store.release(claim, claim.arrived)  # ahead of what came after it

    def _free(self) -> int:
        """How many more claims we may hold."""
        return self._total - len(self._held) - self._promised

    async def _fill_lanes(self) -> None:
        """Claim what is due, as far as there is room, and wait until there may be more."""
        self._room.clear()  # before looking, so that room made while we look is not missed
        await self._mind_the_clock(self._office.clock())
        # Nothing may be awaited between here and the promise: mail that comes in would be given the same room.
        limit = min(BATCH, (self._free() + 1) // 2)  # the other half is for mail that comes in meanwhile
        if limit <= 0:
            self._starved = True
            await self._room.wait()
            self._starved = False
            return
        now = self._office.clock()
        rooms = self._lanes.rooms(now)
        self._promised += limit
        try:
            claims = await self._store.claim(limit, LEASE, now, rooms.known, rooms.share)
        finally:
            self._promised -= limit
        self._take(claims)
        if len(claims) < limit:  # all was claimed that there was room for
            self._lanes.emptied(rooms, claims)
        for claim in claims:
            if claim.destination in rooms.resting:  # somebody has ended that, or it was never written down
                self._lanes.wake(self._lanes.of(claim.destination))
            await self._assign(claim)
        now = self._office.clock()
        rooms = self._lanes.rooms(now)
        closed = rooms.full
        self._lanes.stored.update(closed)  # as far as we know
        stored = self._lanes.stored - rooms.resting
        if len(claims) < limit and not any(self._lanes.wants_stored(one, now) for one in stored):
            await self._wait_for_work(closed)

    async def _wait_for_work(self, closed: list[str]) -> None:
        """`closed`: the destinations that have no room."""
        now = self._office.clock()
        times = (await self._store.next_due(closed, now), self._lanes.next_begin(now))
        work = asyncio.create_task(self._store.wait(min(filter(None, times), default=None), now))
        other = asyncio.create_task(self._room.wait())
        try:
            done, _ = await asyncio.wait((work, other), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            other.cancel()
        if work in done:
            work.result()  # raises what went wrong

    def _over(self, claim: Claim) -> None:
        """A claim is out of our hands: news when there was too much in all, or when there is mail for its place."""
        self._held.pop(claim.lease, None)
        if self._starved or self._lanes.wants_stored(claim.destination, self._office.clock()):
            self._room.set()

    async def _assign(self, claim: Claim) -> None:
        lane = self._lanes.of(claim.destination)
        rests = lane.rests(self._office.clock())  # since the claim was on its way
        if rests or self._stopping.is_set():
            await self._give_back(claim)
            self._lanes.stored.add(claim.destination)
            self._lanes.idle(lane)
            return
        lane.waiting.append(claim)
        self._staff(lane)

    def _staff(self, lane: Lane) -> None:
        """As many deliverers as the destination may have and the mail needs, beside those who are free."""
        if not lane.waiting:
            return
        free = lane.deliverers - lane.running
        for _ in range(min(lane.pace.at_once - lane.deliverers, len(lane.waiting) - free)):
            lane.deliverers += 1
            task = asyncio.create_task(self._run_lane(lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_lane(self, lane: Lane) -> None:
        """One of the lane's deliverers: works while something waits and it is not one too many."""
        try:
            while lane.waiting and lane.deliverers <= lane.pace.at_once:
                now = self._office.clock()
                if lane.pace.may_begin(now) == 0:
                    await self._empty(lane)  # more was claimed than its rate allows
                    break
                claim = lane.waiting.popleft()
                lane.running += 1
                lane.pace.begun()
                try:
                    await self._attempt(lane, claim, now)
                finally:
                    lane.running -= 1
                    self._over(claim)
                    self._staff(lane)
        finally:
            lane.deliverers -= 1
            self._staff(lane)
            self._lanes.idle(lane)

    async def _attempt(self, lane: Lane, claim: Claim, began: datetime) -> None:
        try:
            settlement = await self._settler.settle(claim, await self._deliver(claim), began)
            if settlement is not None:
                await self._learn(lane, settlement, began)
        except StoreUnavailable as error:
            self._office.emit(StoreFailed(str(error)))
        except Exception as error:  # noqa: BLE001  a defect must not stop other mail, nor become a bounce
            self._office.emit(DefectFound(f"delivery of {claim.id}", repr(error)))
        else:
            return
        # Free until then, so that operators can have it, and that it expires even if every attempt ends like this.
        with suppress(StoreUnavailable):  # then it comes back at the end of its lease
            await self._store.release(claim, self._office.clock() + LEASE, counted=True)

    async def _learn(self, lane: Lane, settlement: Settlement, began: datetime) -> None:
        """Give the destination more from now on, or less, or let it rest."""
        now = self._office.clock()
        outcomes = {settled.recipient.index: settled.outcome for settled in settlement.recipients}
        sign = sign_of(outcomes, {settled.recipient.index: settled.cause for settled in settlement.recipients})
        length = lane.pace.learn(sign, began, now, self._office.draw())
        if length is not None:
            last = next(outcome for outcome in outcomes.values() if isinstance(outcome, Deferred))
            # Never longer than the schedule lets a message wait. What another route takes now waits no more.
            waiting = [one.next_attempt for one in settlement.recipients if one.route is None]
            times = [time for time in waiting if time is not None]
            await self._rest(lane, min([now + length, *times]), last)
        elif sign is Sign.REACHED and lane.down_since is not None:
            await self._reached(lane, lane.down_since)

    async def _reached(self, lane: Lane, since: datetime) -> None:
        """It was down, and is not any more. Where that cannot be written down, the next one that arrives tells it."""
        self._lanes.wake(lane)
        await self._store.rest(lane.destination, None)
        if lane.down_since == since and lane.pace.since is None:  # else another was quicker
            lane.down_since = None
            self._office.emit(DestinationReached(lane.destination, since))

    async def _rest(self, lane: Lane, until: datetime, last: Deferred) -> None:
        """What waits for it goes back into the queue."""
        pace = lane.pace
        assert pace.since is not None  # noqa: S101  (it rests)
        self._lanes.rest(lane, until, pace.since)
        rest = Rest(until, pace.since, pace.rests, str(last.status), last.reason, cause_of(last).value)
        try:
            await self._store.rest(lane.destination, rest)
        finally:
            await self._empty(lane)
        self._office.emit(DestinationRests(lane.destination, until, pace.since, pace.rests, rest.status, rest.reason))

    async def _empty(self, lane: Lane) -> None:
        """What waits goes back into the queue and stands there first."""
        waiting = list(lane.waiting)
        lane.waiting.clear()
        self._lanes.stored.add(lane.destination)
        for claim in waiting:
            await self._give_back(claim)
        self._lanes.stored.add(lane.destination)  # once more: a claim that was on its way did not see them

    async def _renew_leases(self) -> None:
        """An attempt may outlast its lease (a slow host, a large message): keep what we hold."""
        while True:
            await asyncio.sleep(RENEW_EVERY_SECONDS)
            await self._renew_all()

    async def _renew_all(self) -> None:
        for claim in tuple(self._held.values()):
            with suppress(StoreUnavailable):
                await self._store.renew(claim, self._office.clock() + LEASE)

    async def _mind_the_clock(self, now: datetime) -> None:
        """A clock that was set forward, or a machine that slept, ends no lease of ours: its mail would go out twice."""
        passed = asyncio.get_running_loop().time()
        before, self._looked = self._looked, (now, passed)
        if before is not None and (now - before[0]).total_seconds() - (passed - before[1]) > JUMP_SECONDS:
            await self._renew_all()
