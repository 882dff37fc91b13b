"""Writes down what an attempt came to, with the notices to the sender, and tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from relay.delivery.notices import NoticeWriter, lost_bounces
from relay.events import AttemptFinished, DefectFound, Emit, NoticeQueued, StoreFailed
from relay.mail.address import Address
from relay.mail.message import Claim, MessageId, NewMessage, Notify, RecipientDsn
from relay.mail.outcome import Delivered, State
from relay.mail.record import Attempted, AttemptRecord
from relay.policy.requirement import nothing_required
from relay.policy.retry import Schedules, SettledRecipient, Settlement, settle
from relay.queue.store import QueueStore, StoreUnavailable

STORE_RETRY_SECONDS = 1.0
_NO_NOTICE = "it failed for good, and the notice to its sender could not be made"


class Moves(Protocol):
    """See Routes.with_fallback."""

    def __call__(self, claim: Claim, settlement: Settlement, now: datetime, *, free: bool) -> Settlement:
        """The settlement, with what moves on its new route."""


def _stay(claim: Claim, settlement: Settlement, now: datetime, *, free: bool) -> Settlement:
    """Where there is no other way."""
    return settlement


@dataclass(frozen=True, slots=True)
class Office:
    """What is needed besides the queue. `draw` gives random numbers from 0 to below 1.

    `moves` gives what goes another way from now on its new route (`Routes.with_fallback`). `postmaster` is told of what
    cannot be told to its sender.
    """

    schedules: Schedules
    hostname: str
    clock: Callable[[], datetime]
    new_id: Callable[[], MessageId]
    draw: Callable[[], float]
    emit: Emit
    moves: Moves = _stay
    postmaster: Address | None = None


class Settler:
    """Settles claims. Once `stopping` is set it no longer waits for a queue that cannot be written."""

    def __init__(self, store: QueueStore, office: Office) -> None:
        self._store = store
        self._office = office
        self._writer = NoticeWriter(office.hostname, office.postmaster, office.new_id, store.read, office.emit)
        self.stopping = asyncio.Event()

    async def settle(self, claim: Claim, attempted: Attempted, began: datetime) -> Settlement | None:
        """Close an attempt that began at `began`. None: the lease was lost, or the queue cannot be written."""
        office = self._office
        now = office.clock()
        by_schedule = settle(claim, attempted.outcomes, office.schedules, now, office.draw())
        settlement = office.moves(claim, by_schedule, now, free=nothing_required(attempted.record))

        def write(notices: Sequence[NewMessage]) -> Awaitable[bool]:
            return self._store.settle(claim, settlement, notices, now, record=attempted.record, began=began)

        try:
            kept = await self._write(claim, settlement, now, write)
        except Exception as error:  # noqa: BLE001  a defect in a notice must not have the mail delivered again
            office.emit(DefectFound(f"notices about {claim.id}", repr(error)))
            settlement = _untold(settlement)
            kept = await self._write(claim, settlement, now, write)
        if not kept:
            if kept is False:
                office.emit(DefectFound(f"delivery of {claim.id}", "the lease was lost before the attempt was over"))
            return None
        for settled in settlement.recipients:
            office.emit(_finished(claim, settled))
        return settlement

    async def close(self, claim: Claim, settlement: Settlement, record: AttemptRecord | None, now: datetime) -> None:
        """Close a review. An attempt may have taken the mail meanwhile: then nothing is done."""

        def write(notices: Sequence[NewMessage]) -> Awaitable[bool]:
            return self._store.settle_review(claim, settlement, notices, now, record=record)

        if await self._write(claim, settlement, now, write, tried=False):
            for settled in settlement.failed:
                self._office.emit(_finished(claim, settled))

    async def _write(
        self,
        claim: Claim,
        settlement: Settlement,
        now: datetime,
        write: Callable[[Sequence[NewMessage]], Awaitable[bool]],
        *,
        tried: bool = True,
    ) -> bool | None:
        """What `write` returns; None: we are told to stop while the queue cannot be written."""
        office = self._office
        while True:
            # The remote server may have the message already: hold on to the result until the disk takes it.
            # With new ids each time: one may be taken.
            notices = await self._writer.write(claim, settlement, now, tried=tried)
            try:
                kept = await write([notice for _, notice in notices])
                break
            except StoreUnavailable as error:
                office.emit(StoreFailed(str(error)))
                if self.stopping.is_set():
                    return None
                await self.pause()
        for event in lost_bounces(claim, settlement) if kept else ():
            office.emit(event)
        for kind, notice in notices if kept else ():
            about = str(notice.envelope.recipients[0])
            office.emit(NoticeQueued(str(notice.id), str(claim.id), kind.value, about))
        return kept

    async def pause(self) -> None:
        """Wait before asking the store again, but not when we are told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STORE_RETRY_SECONDS):
                await self.stopping.wait()


def _untold(settlement: Settlement) -> Settlement:
    """The same without any notice: what has failed is held for the operator, since nobody else hears of it."""
    return Settlement(
        tuple(
            replace(
                one,
                recipient=replace(one.recipient, dsn=RecipientDsn(Notify.NEVER)),
                state=State.HELD if one.state is State.FAILED else one.state,
                hold=_NO_NOTICE if one.state is State.FAILED else one.hold,
                delay_notices=one.recipient.delay_notices,
            )
            for one in settlement.recipients
        )
    )


def _finished(claim: Claim, settled: SettledRecipient) -> AttemptFinished:
    outcome = settled.outcome
    reply = outcome.reply.text if outcome.reply is not None else None
    return AttemptFinished(
        id=str(claim.id),
        recipient=str(settled.recipient.address),
        state=settled.state.value,
        attempts=settled.recipient.attempts,
        status=str(outcome.status),
        cause=None if settled.cause is None else settled.cause.value,
        host=outcome.host,
        tls=outcome.tls.value,
        reason=None if isinstance(outcome, Delivered) else outcome.reason,
        reply=reply,
        next_attempt=settled.next_attempt,
    )
