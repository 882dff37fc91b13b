"""What operators do through the running service: the API's way to the queue. For one event loop.

Reads go beside the writing, in a thread; acts go through the writer, each in one transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from relay.mail.message import MessageId
from relay.queue import control, hold_rules, transactions
from relay.queue.bodies import file_of, remove
from relay.queue.control import Action, Desk, Progress, Tally
from relay.queue.giving_up import Compose
from relay.queue.history import MessageTrace
from relay.queue.hold_rules import HoldRule
from relay.queue.selection import QueueFilter
from relay.queue.stats import QueueStats
from relay.queue.store import Earlier, Grouping, QueueEntry, Rest
from relay.queue.visitor import QueueReader
from relay.queue.writer import Transaction

T = TypeVar("T")


class Write(Protocol):
    """As `Writer.run`."""

    def __call__(
        self, work: Callable[[Transaction], T], after: Callable[[T], None] | None = None, wakes: bool = False
    ) -> Awaitable[T]:
        """Do `work` in a transaction."""


class Controls:
    """All methods may raise StoreUnavailable."""

    def __init__(
        self,
        folder: Path,
        grouping: Grouping,
        look: Callable[[Callable[[QueueReader], Any]], Awaitable[Any]],
        write: Write,
    ) -> None:
        """`look` asks a reader, `write` is `Writer.run`."""
        self._folder = folder
        self._grouping = grouping
        self._look = look
        self._write = write

    async def select(self, selection: QueueFilter) -> tuple[QueueEntry, ...]:
        """The entries of a filter, by arrival."""
        found: tuple[QueueEntry, ...] = await self._look(lambda reader: reader.select(selection))
        return found

    async def message(self, id: MessageId) -> tuple[MessageTrace | None, dict[str, Rest]]:
        """All that is known of a message, or None, and the destinations that rest."""

        def ask(reader: QueueReader) -> tuple[MessageTrace | None, dict[str, Rest]]:
            return next(iter(reader.trace(str(id))), None), reader.rests()

        found: tuple[MessageTrace | None, dict[str, Rest]] = await self._look(ask)
        return found

    async def stored_once(self, owner: str, key: str) -> Earlier | None:
        """What came with this key before, as far as it is remembered."""
        found: Earlier | None = await self._look(lambda reader: reader.stored_once(owner, key))
        return found

    async def stats(self, selection: QueueFilter, now: datetime, top: int | None) -> QueueStats:
        """What is open and fits the filter, in figures. `top`: the most groups."""
        stats: QueueStats = await self._look(lambda reader: reader.stats(selection, now, top))
        return stats

    async def perform(self, action: Action, now: datetime, compose: Compose) -> Tally:
        """Do what an operator asks, or count what would be done.

        Much of it is done in pieces, each in one transaction: when this raises, some may have been done.
        """
        desk = Desk(now, compose, self._grouping, partial(file_of, self._folder))
        progress = Progress()
        while not progress.over:
            progress = await self._piece(action, desk, progress)
        return progress.tally

    async def _piece(self, action: Action, desk: Desk, progress: Progress) -> Progress:
        def work(transaction: Transaction) -> Progress:
            after = control.perform(transaction, action, desk, progress)
            if after.tally.done > progress.tally.done and not action.dry_run:
                transactions.load_turns(transaction)
            return after

        def after(done: Progress) -> None:
            for id in done.tally.finished[len(progress.tally.finished) :]:
                remove(self._folder, id)

        return await self._write(work, after, wakes=not action.dry_run)

    async def hold_rules(self) -> tuple[HoldRule, ...]:
        """What is held when it comes in."""
        rules: tuple[HoldRule, ...] = await self._look(lambda reader: reader.hold_rules())
        return rules

    async def add_hold_rule(self, rule: HoldRule) -> int:
        """Hold what the rule says from now on. Returns its id."""
        return await self._write(lambda transaction: transactions.add_hold_rule(transaction, rule))

    async def remove_hold_rule(self, id: int) -> bool:
        """Hold no more what the rule says; what it has held stays held. False: there is none of that number."""
        return await self._write(lambda transaction: hold_rules.remove_hold_rule(transaction.connection, id))
