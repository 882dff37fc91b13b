"""The queue on disk: SQLite for one process, durable by group commit. The `QueueStore` of the service.

Joins the writer's thread, the files of large messages and the lock of the folder; what a verb does to the tables is
in relay.queue.transactions. Other processes look in through relay.queue.visitor.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import TypeVar

from relay.mail.message import Body, Claim, FileBody, MessageId, NewMessage
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.queue import claiming, database, reviewing, transactions
from relay.queue.bodies import Bodies, FileOrMemory
from relay.queue.claiming import Ending, LeaseLostError, Order
from relay.queue.controls import Controls
from relay.queue.folder import FolderLock
from relay.queue.history import attempt_row, octets_of
from relay.queue.room import Room, check_room
from relay.queue.rows import Row, from_micros, to_micros
from relay.queue.store import Depth, Grouping, QueueEntry, QueueError, Rest, Review, StoreUnavailable, by_domain
from relay.queue.visitor import QueueReader, open_reader
from relay.queue.writer import Transaction, Writer

POLL_SECONDS = 1.0  # how soon `wait` sees what another process has written
_LEASES_IN_BLOCK = 1 << 40

T = TypeVar("T")


class SqliteStore:
    """A `QueueStore` in a folder. For one event loop; opened once and closed once.

    `grouping` says which recipients' mail goes to the same place.
    """

    def __init__(self, folder: Path, grouping: Grouping = by_domain) -> None:
        self._folder = folder.absolute()
        self._grouping = grouping
        self._bodies = Bodies(self._folder, self._is_stored)
        self._room = Room(self._folder)
        self.controls = Controls(self._folder, grouping, self._ask, self._write)
        self._changed = asyncio.Event()
        self._lease_numbers = count(1)
        self._lock: FolderLock | None = None
        self._writer: Writer | None = None

    async def open(self, now: datetime) -> None:
        """Take the folder for this process: lock, schema, orphaned files, and the leases of the last process undone.

        A recipient that was in an attempt when the last process died is due some seconds from `now`, later with each
        attempt, all of which stay counted. Raises QueueError, with nothing changed, when the folder cannot be used.
        """
        lock = await asyncio.to_thread(FolderLock, self._folder)
        try:
            block = await asyncio.to_thread(self._prepare, to_micros(now))
        except BaseException:
            lock.release()
            raise
        self._lock = lock
        self._lease_numbers = count(block * _LEASES_IN_BLOCK + 1)
        self._writer = Writer(self._connect, transactions.load_turns, self._changed.set)
        self._writer.start()

    async def close(self) -> None:
        """Finish what was begun and let the folder go. From then on every verb raises StoreUnavailable."""
        if self._writer is not None:
            await self._writer.stop()
        await self._bodies.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def new_body(self, id: MessageId) -> FileOrMemory:
        """Begin the body of message `id`."""
        return self._bodies.new(id)

    def read(self, body: Body) -> AsyncGenerator[bytes, None]:
        """The octets of a body in chunks of up to 256 KiB; may be called many times."""
        return self._bodies.read(body)

    async def put(self, messages: Collection[NewMessage], wakes: bool = True) -> None:
        """Store messages with all their recipients, in one transaction. Durable on return.

        Raises StoreUnavailable also when an id is taken (two ids drawn alike); a new id helps. When the caller is
        cancelled, the messages may be stored all the same. Raises ValueError for a message without recipients.
        `wakes`: `wait` returns for it; false for a caller who will ask for more in any case.
        """
        self._check(messages)
        all_destinations = [self._destinations(message) for message in messages]

        def work(transaction: Transaction) -> None:
            for message, destinations in zip(messages, all_destinations, strict=True):
                self._check_room(transaction, message.body.size)
                transactions.put(transaction, message, destinations)

        await self._running.run(work, wakes=wakes)

    async def put_claimed(
        self, message: NewMessage, lease_until: datetime, wanted: Collection[str]
    ) -> tuple[Claim, ...]:
        """Store a message as `put` does and claim it at once, as `claim` would, for a caller that has room.

        `wanted`: the destinations to claim. When the caller is cancelled, what was claimed comes back at the end of the
        lease.
        """
        self._check((message,))
        destinations = self._destinations(message)

        def work(transaction: Transaction) -> tuple[Claim, ...]:
            self._check_room(transaction, message.body.size)
            # What a rule holds is not claimed; then the rest of the message goes the long way.
            waits = message.due > message.arrived or transactions.held(transaction, message)
            free = () if waits else wanted
            claims = claiming.first_claims(message, destinations, free, lease_until, self._lease_numbers)
            transactions.put(transaction, message, destinations, claims)
            return claims

        claims = await self._running.run(work, wakes=not set(destinations) <= set(wanted))
        if not claims:
            self.wake()
        return claims

    def destinations(self, message: NewMessage) -> frozenset[str]:
        """Where the mail of this message goes."""
        return frozenset(self._destinations(message))

    async def claim(
        self, limit: int, lease: timedelta, now: datetime, room: Mapping[str, int], share: int
    ) -> tuple[Claim, ...]:
        """Take up to `limit` due claims; small bodies come with them.

        Not more of them than `room` says are for a destination that it names, and not more than `share` for any other,
        so that one with much mail leaves room for others; none for one that rests.

        The attempt is counted and the lease written before this returns. When the caller is cancelled, what was
        claimed comes back at the end of the lease.
        """
        order = Order(limit, to_micros(now + lease), to_micros(now), dict(room), share, self._lease_numbers)
        return await self._running.run(lambda transaction: claiming.claim(transaction, order, self._bodies.file_of))

    async def renew(self, claim: Claim, until: datetime) -> bool:
        """Extend the lease. False: it was lost."""
        end = to_micros(until)
        return await self._running.run(lambda transaction: claiming.renew(transaction, claim, end))

    async def settle(
        self,
        claim: Claim,
        settlement: Settlement,
        notices: Collection[NewMessage],
        now: datetime,
        *,
        record: AttemptRecord,
        began: datetime,
    ) -> bool:
        """Write what an attempt came to, with its evidence and notices, in one transaction, and drop the lease.

        The attempt lasted from `began` to `now`. `notices`: of failure first, then of delay. The evidence is not kept
        while the disk has no room for new mail.

        The body goes when the last recipient is closed. False: the lease was lost, nothing was written. A lease is
        lost when another claim has taken it after its end, or the queue was opened anew; its end alone loses nothing.
        """
        attempt = attempt_row(claim, settlement, notices, (began, now), record)
        return await self._close(Ending(claim, settlement, tuple(notices), to_micros(now), tried=True), attempt)

    async def settle_review(
        self,
        claim: Claim,
        settlement: Settlement,
        notices: Collection[NewMessage],
        now: datetime,
        *,
        record: AttemptRecord | None,
    ) -> bool:
        """Write what a review came to, as `settle` does; what goes on stays as it is. `record`: None, to keep none."""
        attempt = None if record is None else attempt_row(claim, settlement, notices, (now, now), record)
        return await self._close(Ending(claim, settlement, tuple(notices), to_micros(now), tried=False), attempt)

    async def _close(self, ending: Ending, attempt: Row | None) -> bool:
        claim, settlement = ending.claim, ending.settlement
        self._check(ending.notices)
        if {settled.recipient.index for settled in settlement.recipients} != {one.index for one in claim.recipients}:
            raise ValueError("a settlement is for all recipients of its claim")

        def work(transaction: Transaction) -> bool:
            closed = claiming.settle(transaction, ending, self._grouping)
            for notice in ending.notices:  # not asked for room: they come with mail that leaves
                transactions.put(transaction, notice, self._destinations(notice), about=claim.id)
            if attempt is not None and self._has_room(transaction, octets_of(attempt)):
                transactions.remember(transaction, attempt)
            return closed

        def after(closed: bool) -> None:
            if closed and isinstance(claim.body, FileBody):
                self._bodies.remove(claim.id)

        more = bool(ending.notices) or not all(settled.state.closed for settled in settlement.recipients)
        try:
            await self._running.run(work, after, wakes=more)
        except LeaseLostError:
            return False
        return True

    async def release(self, claim: Claim, next_attempt: datetime, *, counted: bool = False) -> bool:
        """Give a claim back unsettled. False: the lease was lost.

        Its attempt is not `counted` where none was made: the service is stopping, or has no room for it.
        """
        time = to_micros(next_attempt)
        return await self._running.run(
            lambda transaction: claiming.release(transaction, claim, time, counted), wakes=True
        )

    async def find(self, id: MessageId | None, history: bool) -> tuple[QueueEntry, ...]:
        """Entries by arrival; of one message when `id` is given; closed ones only with `history`."""
        return await self._bodies.in_thread(self._look_in, lambda reader: reader.find(id, history))

    async def depth(self, now: datetime) -> Depth:
        """How much mail there is. It costs some milliseconds for each 100,000 recipients, beside the writing."""
        return await self._bodies.in_thread(self._look_in, lambda reader: reader.depth(now))

    async def check_writable(self) -> None:
        """Write something that changes nothing, as mail is written. Raises StoreUnavailable as a `put` would."""

        def work(transaction: Transaction) -> None:
            check_room(self._folder, database.spare_octets(transaction.connection))
            transactions.rewrite(transaction)

        await self._running.run(work)

    async def wait(self, until: datetime | None, now: datetime) -> None:
        """Return when work may be there: something put, deferred or released, `wake`, another process, or `until`.

        A change since the last return counts, so nothing is missed between a claim and this. `until - now` is waited
        in real time. Another process is noticed within a second, by asking SQLite whether anybody else has written.
        For one task at a time.
        """
        loop = asyncio.get_running_loop()
        end = None if until is None else loop.time() + (until - now).total_seconds()
        while not self._changed.is_set():
            left = POLL_SECONDS if end is None else min(POLL_SECONDS, end - loop.time())
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                await self._running.run(_look)
        self._changed.clear()
        await asyncio.sleep(0)  # a caller in a loop must let others run

    def wake(self) -> None:
        """Make `wait` return: the clock was moved by hand, for instance."""
        self._changed.set()

    async def next_due(self, closed: Collection[str], now: datetime) -> datetime | None:
        """When something may be claimed next, but for the destinations that are `closed`: perhaps too early, never too
        late. A lease may end, a rest may be over. None: never by itself.
        """
        time, names = to_micros(now), frozenset(closed)
        found = await self._running.run(lambda transaction: transaction.turns.first_time(names, time))
        return None if found is None else from_micros(found)

    async def rest(self, destination: str, rest: Rest | None) -> None:
        """Let a destination rest: nothing is claimed for it before `rest.until`. None: it was reached."""
        await self._running.run(lambda transaction: transactions.rest(transaction, destination, rest), wakes=True)

    async def reviews(self, now: datetime, untried: timedelta, limit: int) -> tuple[Review, ...]:
        """Claim what is past the time at which it is to be looked at, tried or not, held or not.

        `untried`: the age at which what was never tried is to be looked at. What can be tried has a minute for that.
        """
        times = untried // timedelta(microseconds=1), to_micros(now)
        places = await self._bodies.in_thread(self._look_in, lambda reader: reader.overdue(*times, limit))
        if not places:
            return ()

        def work(transaction: Transaction) -> tuple[Review, ...]:
            return reviewing.lease(transaction, places, times, self._lease_numbers, self._bodies.file_of)

        return await self._running.run(work)

    async def bring_forward(self, latest: datetime) -> int:
        """Let nothing wait or rest until after `latest`: the clock was set back. Returns how many recipients did."""
        time = to_micros(latest)
        if not await self._bodies.in_thread(self._look_in, lambda reader: reader.any_far_ahead(time)):
            return 0

        def work(transaction: Transaction) -> int:
            found = reviewing.bring_forward(transaction.connection, time)
            transactions.load_turns(transaction)
            return found

        return await self._running.run(work, wakes=True)

    async def rests(self) -> dict[str, Rest]:
        """The destinations that rest, or rested last and were not reached since."""
        return await self._running.run(lambda transaction: transactions.rests(transaction.connection))

    async def tidy(self, closed_before: datetime) -> None:
        """Forget closed messages whose last change is older, and return to the disk what the queue needs no more.

        Rests that ended before go too, where nothing waits, and keys that were given before.
        """
        time = to_micros(closed_before)
        # A little at a time, so that nobody waits long behind it.
        while await self._running.run(lambda transaction: transactions.tidy(transaction, time)):
            pass
        while await self._running.run(lambda transaction: transactions.forget_once(transaction, time)):
            pass
        await self._running.run(lambda transaction: transactions.forget_rests(transaction, time))
        while await self._running.run(lambda transaction: database.give_back(transaction.connection)):
            pass
        await self._bodies.sweep()

    @property
    def _running(self) -> Writer:
        if self._writer is None:
            raise StoreUnavailable("the queue is not open")
        return self._writer

    def _connect(self) -> sqlite3.Connection:
        return database.connect(self._folder)

    def _prepare(self, now: int) -> int:
        """Everything on disk that comes before the first verb. Returns our block of lease numbers."""
        database.prepare(self._folder)
        try:
            with closing(self._connect()) as connection:
                block, files = transactions.take_over(connection, now, self._grouping)
            self._bodies.prepare(files)
        except (sqlite3.Error, OSError) as error:
            raise QueueError(f"the queue {self._folder} cannot be opened: {database.describe(error)}") from error
        return block

    def _destinations(self, message: NewMessage) -> tuple[str, ...]:
        sender, login = message.envelope.sender, message.login
        return tuple([self._grouping(sender, login, recipient) for recipient in message.envelope.recipients])

    def _check_room(self, transaction: Transaction, octets: int) -> None:
        self._room.check(octets, lambda: database.spare_octets(transaction.connection))

    def _has_room(self, transaction: Transaction, octets: int) -> bool:
        try:
            self._check_room(transaction, octets)
        except (StoreUnavailable, OSError):
            return False
        return True

    def _check(self, messages: Collection[NewMessage]) -> None:
        for message in messages:
            if not message.envelope.recipients:
                raise ValueError(f"message {message.id} has no recipients")
            if isinstance(message.body, FileBody) and message.body != self._bodies.file_of(
                message.id, message.body.size
            ):
                raise ValueError(f"the body of message {message.id} is not its own: {message.body.path}")

    async def _is_stored(self, id: MessageId) -> bool:
        return await self._running.run(lambda transaction: transactions.has_file(transaction, id))

    async def _ask(self, ask: Callable[[QueueReader], T]) -> T:
        return await self._bodies.in_thread(self._look_in, ask)

    async def _write(
        self, work: Callable[[Transaction], T], after: Callable[[T], None] | None = None, wakes: bool = False
    ) -> T:
        return await self._running.run(work, after, wakes)

    def _look_in(self, ask: Callable[[QueueReader], T]) -> T:
        try:
            with closing(open_reader(self._folder)) as reader:
                return ask(reader)
        except QueueError as error:
            raise StoreUnavailable(str(error)) from error


def _look(transaction: Transaction) -> None:
    """Nothing: the writer looks for changes by others before every batch."""
