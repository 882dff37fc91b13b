"""Looks from time to time at mail that is not tried: it expires too, and its sender is told that it is late.

A destination may rest, or an operator hold the mail; the clock may have been set back. Nothing may wait for ever.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from relay.delivery.settling import Office, Settler
from relay.events import DefectFound, StoreFailed
from relay.mail.duration import utc
from relay.mail.message import Claim
from relay.mail.outcome import Cause, Deferred
from relay.mail.record import AttemptRecord
from relay.mail.status import Status
from relay.policy.retry import Schedules, Settlement, first_review, longest_wait, review, shortest_age
from relay.queue.store import QueueStore, Rest, Review, StoreUnavailable

EVERY_SECONDS = 30.0  # or more often, where the settings give mail ages as short as that
BATCH = 100
JUMP = timedelta(minutes=1)


class Reviewer:
    """One for each service; `run` never ends by itself."""

    def __init__(self, store: QueueStore, office: Office) -> None:
        self._store = store
        self._office = office
        self._settler = Settler(store, office)

    async def run(self) -> None:
        """Look at everything once in a while.

        Not at first, nor when the clock was set forward or the machine slept: mail is tried once more before it is
        given up.
        """
        last = self._office.clock()
        while True:
            seconds = pause(self._office.schedules)
            await asyncio.sleep(seconds)
            before, last = last, self._office.clock()
            if has_jumped(before, last, seconds):
                continue
            try:
                await self.look()
            except StoreUnavailable as error:
                self._office.emit(StoreFailed(str(error)))

    async def look(self) -> None:
        """Settle all that is past its time. Raises StoreUnavailable."""
        now = self._office.clock()
        schedules = self._office.schedules
        await self._store.bring_forward(now + longest_wait(schedules))
        untried = first_review(now, schedules) - now
        rests = await self._store.rests()  # before anything is claimed, as it may fail
        while reviews := await self._store.reviews(now, untried, BATCH):
            for one in reviews:
                try:
                    await self._review(one, rests.get(one.claim.destination), now)
                except StoreUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001  a defect must not keep all other mail from its end
                    self._office.emit(DefectFound(f"review of {one.claim.id}", repr(error)))

    async def _review(self, one: Review, rest: Rest | None, now: datetime) -> None:
        why = None if rest is None or rest.until <= now else _as_deferred(rest)
        settlement = review(one.claim, self._office.schedules, now, why, held=one.held)
        await self._settler.close(one.claim, settlement, _record(one.claim, rest, settlement, now), now)


def pause(schedules: Schedules) -> float:
    """Seconds between two looks: short beside the ages that they look for."""
    return min(EVERY_SECONDS, max(1.0, shortest_age(schedules).total_seconds() / 4))


def has_jumped(before: datetime, now: datetime, seconds: float) -> bool:
    """Whether the clock went ahead by much more than the `seconds` that were waited."""
    return now - before > timedelta(seconds=seconds) + JUMP


def _as_deferred(rest: Rest) -> Deferred:
    return Deferred(Status.parse(rest.status), rest.reason, cause=None if rest.cause is None else Cause(rest.cause))


def _record(claim: Claim, rest: Rest | None, settlement: Settlement, now: datetime) -> AttemptRecord | None:
    """Kept where something came of the look."""
    if not settlement.failed and not settlement.delayed:
        return None
    why = f"{claim.destination} rests until {utc(rest.until)}" if rest and rest.until > now else ""
    return AttemptRecord((f"looked at without a try{f': {why}' if why else ''}",))
