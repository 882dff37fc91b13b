"""Writes down what an attempt came to, with the notices to the sender, and tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from relay import ndr
from relay.events import AttemptFinished, DefectFound, Emit, NoticeQueued, StoreFailed
from relay.mail.message import Claim, MessageId, NewMessage
from relay.mail.outcome import Delivered
from relay.mail.record import Attempted, AttemptRecord
from relay.policy.retry import Schedules, SettledRecipient, Settlement, settle
from relay.queue.store import QueueStore, StoreUnavailable

STORE_RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Office:
    """What is needed besides the queue. `draw` gives random numbers from 0 to below 1.

    `moves` gives what goes another way from now on its new route (`Routes.with_fallback`).
    """

    schedules: Schedules
    hostname: str
    clock: Callable[[], datetime]
    new_id: Callable[[], MessageId]
    draw: Callable[[], float]
    emit: Emit
    moves: Callable[[Claim, Settlement, datetime], Settlement] = lambda _claim, settlement, _now: settlement


class Settler:
    """Settles claims. Once `stopping` is set it no longer waits for a queue that cannot be written."""

    def __init__(self, store: QueueStore, office: Office) -> None:
        self._store = store
        self._office = office
        self.stopping = asyncio.Event()

    async def settle(self, claim: Claim, attempted: Attempted, began: datetime) -> Settlement | None:
        """Close an attempt that began at `began`. None: the lease was lost, or the queue cannot be written."""
        office = self._office
        now = office.clock()
        by_schedule = settle(claim, attempted.outcomes, office.schedules, now, office.draw())
        settlement = office.moves(claim, by_schedule, now)

        def write(notices: Sequence[NewMessage]) -> Awaitable[bool]:
            return self._store.settle(claim, settlement, notices, now, record=attempted.record, began=began)

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

        if await self._write(claim, settlement, now, write):
            for settled in settlement.failed:
                self._office.emit(_finished(claim, settled))

    async def _write(
        self,
        claim: Claim,
        settlement: Settlement,
        now: datetime,
        write: Callable[[Sequence[NewMessage]], Awaitable[bool]],
    ) -> bool | None:
        """What `write` returns; None: we are told to stop while the queue cannot be written."""
        office = self._office
        while True:
            # The remote server may have the message already: hold on to the result until the disk takes it.
            notices = await self._notices(claim, settlement, now)  # with new ids each time: one may be taken
            try:
                kept = await write([notice for _, notice in notices])
                break
            except StoreUnavailable as error:
                office.emit(StoreFailed(str(error)))
                if self.stopping.is_set():
                    return None
                await self.pause(STORE_RETRY_SECONDS)
        for kind, notice in notices if kept else ():
            about = str(notice.envelope.recipients[0])
            office.emit(NoticeQueued(str(notice.id), str(claim.id), kind.value, about))
        return kept

    async def pause(self, seconds: float) -> None:
        """Wait before asking the store again, but not when we are told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()

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
