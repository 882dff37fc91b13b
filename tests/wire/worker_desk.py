"""A worker with the real queue in a folder, a clock that stands still, and a courier that delivers when it is told to.

`Courier` is the `deliver` that a worker is given: a function from a claim to what came of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from relay.delivery.settling import Office
from relay.delivery.worker import Limits, Worker
from relay.events import DefectFound, Event
from relay.mail.address import Address, parse_address
from relay.mail.message import Body, Claim, Envelope, InlineBody, MessageId, NewMessage
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, TlsUsed
from relay.mail.record import Attempted, AttemptRecord, HostRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.limits import DestinationLimits, LimitEntry
from relay.policy.retry import Schedule, Schedules
from relay.policy.routing import Routes
from relay.queue.sqlite import SqliteStore
from relay.queue.store import QueueEntry

E = TypeVar("E", bound=Event)

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
PATIENCE_SECONDS = 10.0
SCHEDULES = Schedules(
    Schedule((timedelta(minutes=5), timedelta(minutes=20)), timedelta(days=5)), notices=(timedelta(hours=4),)
)
FIRST_NOTICE = 1 << 40  # notices get ids from here on
DELIVERED = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("2.0.0 kept",)), "mx.test", TlsUsed.ENCRYPTED)
LATER = Deferred(Status(Kind.TEMPORARY, 7, 5), "nobody is at home", "mx.test")
NEVER = Failed(Status(Kind.PERMANENT, 1, 1), "no such user", "mx.test", Reply.of(550, ("5.1.1 who?",)))

RECORD = AttemptRecord(
    ("MTA-STS: no policy",),
    (HostRecord("mx.test", "192.0.2.1", "nothing", "opportunistic", "no STARTTLS", "went out"),),
)


def make_message(
    number: int,
    *recipients: str,
    sender: str | None = "from@sender.test",
    arrived: datetime = NOON,
    body: Body = InlineBody(b"Subject: the original\r\n\r\ntext\r\n"),  # noqa: B008  (frozen)
) -> NewMessage:
    return NewMessage(
        id=MessageId(number),
        envelope=Envelope(
            None if sender is None else parse_address(sender.encode()),
            tuple(parse_address(recipient.encode()) for recipient in recipients),
        ),
        body=body,
        arrived=arrived,
    )


class Courier:
    """Notes every claim that it is given, and lets those of a closed domain wait."""

    def __init__(self) -> None:
        self.begun: list[Claim] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()  # how many ran at once, by domain; "" is all together
        self.results: dict[str, Outcome | Exception] = {}  # by address or domain; the rest is delivered
        self.changed = asyncio.Event()
        self._gates: dict[str, asyncio.Event] = {}

    async def __call__(self, claim: Claim) -> Attempted:
        self.begun.append(claim)
        for name in ("", claim.destination):
            self.running[name] += 1
            self.most[name] = max(self.most[name], self.running[name])
        self.changed.set()
        try:
            gate = self._gates.get(claim.destination) or self._gates.get("")
            if gate is not None:
                await gate.wait()
        finally:
            self.running.subtract(("", claim.destination))
            self.changed.set()
        outcomes = {one.index: self._result(one.address.text, claim.destination) for one in claim.recipients}
        return Attempted(outcomes, RECORD)

    def shut(self, domain: str = "") -> None:
        """Deliveries to `domain` (empty: to all) wait from now on."""
        self._gates[domain] = asyncio.Event()

    def let_go(self, domain: str = "") -> None:
        """Those that wait go on, and those that come do not wait."""
        self._gates[domain].set()

    def let_all_go(self) -> None:
        for gate in self._gates.values():
            gate.set()

    def order(self) -> list[int]:
        """The numbers of the messages begun."""
        return [claim.id.number for claim in self.begun]

    def _result(self, address: str, domain: str) -> Outcome:
        result = self.results.get(address, self.results.get(domain, DELIVERED))
        if isinstance(result, Exception):
            raise result
        return result


@dataclass
class Desk:
    """The worker and what belongs to it."""

    folder: Path
    store: SqliteStore
    courier: Courier
    worker: Worker = field(init=False)
    office: Office = field(init=False)
    events: list[Event] = field(default_factory=list)
    now: datetime = NOON
    notices: int = FIRST_NOTICE
    fail_ids: int = 0  # so many notices break off
    running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.running = asyncio.create_task(self.worker.run())

    def pass_time(self, by: timedelta) -> None:
        self.now += by
        self.store.wake()

    async def until(self, done: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for something that the courier or an event shows. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not done():
                self.courier.changed.clear()
                await self.courier.changed.wait()

    async def begun(self, count: int) -> None:
        await self.until(lambda: len(self.courier.begun) >= count)

    async def settled(self, count: int) -> None:
        """Wait until so many recipients have been settled in all."""
        await self.until(lambda: len([event for event in self.events if event.name == "attempt-finished"]) >= count)

    async def calm(self) -> None:
        """Give the worker ample opportunity to do what it should not: several trips to the queue and back."""
        for _ in range(5):
            self.store.wake()
            await self.store.next_due((), self.now)
            await self.store.find(None, history=False)

    async def entries(self) -> list[QueueEntry]:
        return list(await self.store.find(None, history=True))

    async def states(self) -> dict[str, str]:
        """Each recipient's state and number of attempts, such as `deferred 1`."""
        return {entry.recipient: f"{entry.state.value} {entry.attempts}" for entry in await self.entries()}

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.courier.changed.set()

    def new_id(self) -> MessageId:
        if self.fail_ids:
            self.fail_ids -= 1
            raise RuntimeError("a mistake")
        self.notices += 1
        return MessageId(self.notices)


def _one_place(sender: Address | None, login: str | None, recipient: Address, chosen: str | None = None) -> str:
    """All mail goes to one next hop."""
    return "route:next-hop"


@asynccontextmanager
async def desk(
    folder: Path,
    *,
    total: int = 10,
    per_lane: int = 5,
    entries: Iterable[LimitEntry] = (),
    shared: bool = False,
    schedules: Schedules = SCHEDULES,
    clock: Callable[[], datetime] | None = None,
    defects: bool = False,
    routes: Routes | None = None,
    postmaster: str | None = None,
) -> AsyncIterator[Desk]:
    """Open the queue and make the worker; `start` is up to the test. `defects`: they are no surprise."""
    ways = routes or Routes()
    courier = Courier()
    store = SqliteStore(folder, _one_place if shared else ways.destination)
    await store.open(NOON)
    made = Desk(folder, store, courier)
    read_clock = clock or (lambda: made.now)
    told = None if postmaster is None else parse_address(postmaster.encode())
    office = Office(schedules, "relay.test", read_clock, made.new_id, lambda: 0.5, made.emit, ways.with_fallback, told)
    made.office = office
    made.worker = Worker(store, courier, Limits(total, DestinationLimits(per_lane, entries)), office)
    try:
        yield made
    finally:
        courier.let_all_go()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await made.worker.stop(timedelta(seconds=PATIENCE_SECONDS))
            if made.running is not None:
                await made.running
        await store.close()
    assert defects or made.seen(DefectFound) == []
