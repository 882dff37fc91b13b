"""Routes in the queue: what one destination is, what moves to the fallback, and what is dropped or rejected."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from worker_desk import NOON, Desk, desk, make_message

from relay.events import AttemptFinished, DestinationRests, NoticeQueued
from relay.mail.message import TlsDemand
from relay.mail.outcome import Cause, Deferred, Dropped, Failed
from relay.mail.status import Kind, Status
from relay.policy.routing import Entry, Hop, Place, Routes

MINUTES = timedelta(minutes=1)
BACKUP = Place("backup.test", 25)
SMART = Hop("smart", (Place("smart.test", 25),))
DOWN = Deferred(Status(Kind.TEMPORARY, 4, 1), "nobody answers", "mx.test", cause=Cause.OUTAGE)
KEPT_BACK = Deferred(Status(Kind.TEMPORARY, 7, 5), "not verified", "mx.test", cause=Cause.TLS_POLICY)


def ways(at: Desk) -> list[str]:
    return [claim.destination for claim in at.courier.begun]


@pytest.mark.asyncio
async def test_a_route_takes_the_recipients_of_many_domains_at_once(tmp_path: Path) -> None:
    routes = Routes((Entry("smart", SMART, ("a.test", "b.test")),))
    async with desk(tmp_path, routes=routes) as at:
        await at.worker.admit(make_message(1, "x@a.test", "y@b.test", "z@c.test"))
        await at.settled(3)
        assert sorted((claim.destination, len(claim.recipients)) for claim in at.courier.begun) == [
            ("c.test", 1),
            ("route:smart", 2),
        ]


@pytest.mark.asyncio
@pytest.mark.parametrize("demand", TlsDemand)
async def test_what_fails_directly_moves_to_the_fallback_and_is_tried_there_at_once(
    demand: TlsDemand, tmp_path: Path
) -> None:
    async with desk(tmp_path, routes=Routes(fallback=BACKUP, fallback_after=2)) as at:
        at.courier.results = {"a.test": DOWN, "kept@a.test": KEPT_BACK}
        at.start()
        await at.worker.admit(replace(make_message(1, "x@a.test", "kept@a.test"), demand=demand))
        await at.settled(2)
        await at.calm()
        assert ways(at) == ["a.test"]
        at.pass_time(10 * MINUTES)
        moves = demand is not TlsDemand.REQUIRED
        await at.settled(5 if moves else 4)
        await at.calm()
        assert [way for way in ways(at) if way != "a.test"] == ["route:fallback"] * moves
        state = "delivered 3" if moves else "deferred 2"
        assert await at.states() == {"x@a.test": state, "kept@a.test": "deferred 2"}


@pytest.mark.asyncio
async def test_what_the_fallback_defers_stays_with_it(tmp_path: Path) -> None:
    async with desk(tmp_path, routes=Routes(fallback=BACKUP, fallback_after=1)) as at:
        at.courier.results = {"a.test": DOWN, "route:fallback": DOWN}
        at.start()
        await at.worker.admit(make_message(1, "x@a.test"))
        await at.settled(2)
        at.pass_time(60 * MINUTES)
        await at.settled(3)
        assert ways(at) == ["a.test", "route:fallback", "route:fallback"]
        assert at.seen(AttemptFinished)[0].next_attempt == NOON


@pytest.mark.asyncio
async def test_dropped_mail_is_closed_and_nobody_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"spam.test": Dropped("the route bin discards it")}
        await at.worker.admit(make_message(1, "x@spam.test", arrived=NOON - timedelta(hours=5)))
        await at.settled(1)
        await at.calm()
        assert await at.states() == {"x@spam.test": "dropped 1"}
        (entry,) = await at.entries()
        assert (entry.reason, entry.next_attempt) == ("the route bin discards it", None)
        assert at.seen(NoticeQueued) == []


@pytest.mark.asyncio
async def test_mail_that_a_route_rejects_comes_back(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"shut.test": Failed(Status(Kind.PERMANENT, 7, 1), "the route shut rejects it: no")}
        await at.worker.admit(make_message(1, "x@shut.test"))
        await at.settled(1)
        (notice,) = at.seen(NoticeQueued)
        assert notice.kind == "failure"


@pytest.mark.asyncio
async def test_a_destination_rests_though_its_mail_moves_to_the_fallback(tmp_path: Path) -> None:
    """What moves is due there at once, which says nothing of when to try again here."""
    async with desk(tmp_path, routes=Routes(fallback=BACKUP, fallback_after=1), per_lane=1) as at:
        at.courier.results = {"a.test": DOWN}
        at.start()
        await at.store.put([make_message(number, f"{number}@a.test") for number in range(1, 6)])
        await at.until(lambda: bool(at.seen(DestinationRests)))
        (rests,) = at.seen(DestinationRests)
        assert rests.until == NOON + MINUTES
