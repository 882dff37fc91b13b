"""Takes due mail out of the queue, gives it to attempts, and writes down what came of it.

Each destination has a lane with a bounded number of deliveries at once, so that one that is slow or down does not
hold up the others. A programming error in an attempt is reported and leaves the claim to its lease; it never becomes
a bounce.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay import ndr
from relay.events import AttemptFinished, DefectFound, Emit, NoticeQueued, StoreFailed
from relay.mail.message import Claim, MessageId, NewMessage
from relay.mail.outcome import Delivered
from relay.mail.record import Attempted
from relay.policy.retry import Schedules, SettledRecipient, Settlement, settle
from relay.queue.store import QueueStore, StoreUnavailable

LEASE = timedelta(minutes=30)
RENEW_EVERY_SECONDS = 300.0
BATCH = 100  # claims taken from the queue at once
STORE_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How many deliveries run at once. `shared_lane`: all mail goes to one place, whatever its domain."""

    total: int
    per_lane: int
    shared_lane: bool


@dataclass(frozen=True, slots=True)
class Office:
    """What the worker needs besides the queue. `draw` gives random numbers from 0 to below 1."""

    schedules: Schedules
    hostname: str
    clock: Callable[[], datetime]
    new_id: Callable[[], MessageId]
    draw: Callable[[], float]
    emit: Emit


@dataclass(slots=True)
class _Lane:
    waiting: deque[Claim]
    running: int = 0


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
        self._limits = limits
        self._office = office
        self._lanes: dict[str, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[tuple[MessageId, str], Claim] = {}  # everything claimed and not yet settled
        self._promised = 0  # claims that are being stored and come back to us
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def under_way(self) -> int:
        """How many recipients are claimed and not yet settled."""
        return sum(len(claim.recipients) for claim in self._held.values())

    async def run(self) -> None:
        """Deliver until `stop`. Returns when what was under way is done."""
        renewing = asyncio.create_task(self._renew_leases())
        try:
            while not self._stopping.is_set():
                try:
                    await self._fill_lanes()
                except StoreUnavailable as error:
                    self._office.emit(StoreFailed(str(error)))
                    await self._pause(STORE_RETRY_SECONDS)
        finally:
            renewing.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def stop(self, grace: timedelta) -> None:
        """Take no more work, give back what has not begun, and let what is under way finish within `grace`."""
        self._stopping.set()
        self._room.set()
        waiting = [claim for lane in self._lanes.values() for claim in lane.waiting]
        for lane in self._lanes.values():
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
        domains = {address.domain for address in message.envelope.recipients}
        if self._stopping.is_set() or self._free() < len(domains) or any(map(self._is_full, domains)):
            await self._store.put((message,))
            return
        self._promised += len(domains)
        try:
            claims = await self._store.put_claimed(message, self._office.clock() + LEASE)
        except BaseException:
            self._room.set()
            raise
        finally:
            self._promised -= len(domains)
        for claim in claims:
            await self._assign(claim)

    async def _give_back(self, claim: Claim) -> None:
        with suppress(StoreUnavailable):  # then it comes back at the end of its lease
            await self._store.release(claim, self._office.clock())

    def _free(self) -> int:
        """How many more claims we may hold."""
        held = len(self._held) + self._promised
        free = self._limits.total - held
        return min(free, 2 * self._limits.per_lane - held) if self._limits.shared_lane else free

    def _is_full(self, domain: str) -> bool:
        lane = self._lanes.get(domain)
        return lane is not None and len(lane.waiting) >= self._limits.per_lane

    async def _fill_lanes(self) -> None:
        """Claim what is due, as far as there is room, and wait until there may be more."""
        self._room.clear()  # before looking, so that room made while we look is not missed
        room = min(BATCH, self._free())
        if room <= 0:
            await self._room.wait()
            return
        skip = () if self._limits.shared_lane else tuple(filter(self._is_full, self._lanes))
        share = None if self._limits.shared_lane else self._limits.per_lane
        claims = await self._store.claim(room, LEASE, self._office.clock(), skip, share)
        for claim in claims:
            await self._assign(claim)
        if not claims:
            await self._wait_for_work(skip)

    async def _wait_for_work(self, skip: tuple[str, ...]) -> None:
        now = self._office.clock()
        work = asyncio.create_task(self._store.wait(await self._store.next_due(skip), now))
        # Room is news only to what was skipped for want of it.
        other = asyncio.create_task((self._room if skip else self._stopping).wait())
        try:
            await asyncio.wait((work, other), return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            other.cancel()

    async def _assign(self, claim: Claim) -> None:
        if self._stopping.is_set():
            await self._give_back(claim)
            return
        name = "" if self._limits.shared_lane else claim.destination
        lane = self._lanes.setdefault(name, _Lane(deque()))
        lane.waiting.append(claim)
        self._held[claim.id, claim.destination] = claim
        if lane.running < self._limits.per_lane:
            lane.running += 1
            task = asyncio.create_task(self._run_lane(name, lane))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_lane(self, name: str, lane: _Lane) -> None:
        """One of the lane's deliverers: works while something waits."""
        try:
            while lane.waiting:
                claim = lane.waiting.popleft()
                try:
                    await self._handle(claim)
                except StoreUnavailable as error:
                    self._office.emit(StoreFailed(str(error)))
                except Exception as error:  # noqa: BLE001  a defect must not stop other mail, nor become a bounce
                    self._office.emit(DefectFound(f"delivery of {claim.id}", repr(error)))
                finally:
                    self._held.pop((claim.id, claim.destination), None)
                    self._room.set()
        finally:
            lane.running -= 1
            if not lane.running and not lane.waiting:
                self._lanes.pop(name, None)

    async def _handle(self, claim: Claim) -> None:
        office = self._office
        began = office.clock()
        attempted = await self._deliver(claim)
        now = office.clock()
        settlement = settle(claim, attempted.outcomes, office.schedules, now, office.draw())
        while True:
            # The remote server may have the message already: hold on to the result until the disk takes it.
            notices = await self._notices(claim, settlement, now)  # with new ids each time: one may be taken
            try:
                kept = await self._store.settle(
                    claim, settlement, [notice for _, notice in notices], now, record=attempted.record, began=began
                )
                break
            except StoreUnavailable as error:
                office.emit(StoreFailed(str(error)))
                if self._stopping.is_set():
                    return
                await self._pause(STORE_RETRY_SECONDS)
        if not kept:
            office.emit(DefectFound(f"delivery of {claim.id}", "the lease was lost before the attempt was over"))
            return
        for settled in settlement.recipients:
            office.emit(_finished(claim, settled))
        for kind, notice in notices:
            about = str(notice.envelope.recipients[0])
            office.emit(NoticeQueued(str(notice.id), str(claim.id), kind.value, about))

    async def _notices(self, claim: Claim, settlement: Settlement, now: datetime) -> list[tuple[ndr.Kind, NewMessage]]:
        wanted = ((ndr.Kind.FAILURE, settlement.failed), (ndr.Kind.DELAY, settlement.delayed))
        notices = []
        for kind, recipients in wanted:
            if recipients and claim.sender is not None:
                end = claim.arrived + self._office.schedules.general.expire
                stamp = ndr.Stamp(self._office.new_id(), now, self._office.hostname, end)
                notice = ndr.compose(kind, claim, recipients, await self._header(claim), stamp)
                if notice is not None:
                    notices.append((kind, notice))
        return notices

    async def _header(self, claim: Claim) -> bytes:
        """The header of the message as it was accepted, up to what a notice gives back."""
        found = b""
        chunks = self._store.read(claim.body)
        try:
            async for chunk in chunks:
                found += chunk
                end = found.find(b"\r\n\r\n")
                if end >= 0:
                    return found[: end + 2]
                if len(found) > ndr.HEADER_LIMIT:
                    break
        except StoreUnavailable as error:  # what became of the mail matters more than its header in a notice
            self._office.emit(StoreFailed(str(error)))
        finally:
            await chunks.aclose()
        return found

    async def _renew_leases(self) -> None:
        """An attempt may outlast its lease (a slow host, a large message): keep what we hold."""
        while True:
            await asyncio.sleep(RENEW_EVERY_SECONDS)
            for claim in tuple(self._held.values()):
                with suppress(StoreUnavailable):
                    await self._store.renew(claim, self._office.clock() + LEASE)

    async def _pause(self, seconds: float) -> None:
        """Wait before asking the store again, but not when we are told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _finished(claim: Claim, settled: SettledRecipient) -> AttemptFinished:
    outcome = settled.outcome
    reply = outcome.reply.text if outcome.reply is not None else None
    return AttemptFinished(
        id=str(claim.id),
        recipient=str(settled.recipient.address),
        state=settled.state.value,
        attempts=settled.recipient.attempts,
        status=str(outcome.status),
        host=outcome.host,
        tls=outcome.tls.value,
        reason=None if isinstance(outcome, Delivered) else outcome.reason,
        reply=reply,
        next_attempt=settled.next_attempt,
    )
