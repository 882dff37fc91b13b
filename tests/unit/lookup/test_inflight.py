"""Once for all who ask at the same moment."""

from __future__ import annotations

import asyncio

import pytest

from relay.lookup.inflight import InFlight


class Work:
    """Counts its runs; each waits until it is let go, then returns its number or raises."""

    def __init__(self) -> None:
        self.runs = 0
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def run(self) -> int:
        self.runs += 1
        number = self.runs
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return number


async def begin(waiters: list[asyncio.Task[int]], work: Work, runs: int = 1) -> None:
    while work.runs < runs:
        await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters)


@pytest.mark.asyncio
async def test_one_run_for_all_who_wait_and_a_new_one_afterwards() -> None:
    flight: InFlight[str, int] = InFlight()
    work = Work()
    waiters = [asyncio.create_task(flight.run("a", work.run)) for _ in range(5)]
    await begin(waiters, work)
    work.go.set()
    assert await asyncio.gather(*waiters) == [1] * 5
    assert await flight.run("a", work.run) == 2


@pytest.mark.asyncio
async def test_keys_do_not_wait_for_each_other() -> None:
    flight: InFlight[str, int] = InFlight()
    slow, quick = Work(), Work()
    quick.go.set()
    waiter = asyncio.create_task(flight.run("slow", slow.run))
    await begin([waiter], slow)
    assert await flight.run("quick", quick.run) == 1
    slow.go.set()
    assert await waiter == 1


@pytest.mark.asyncio
async def test_an_error_reaches_all_and_is_not_kept() -> None:
    flight: InFlight[str, int] = InFlight()
    work = Work()
    work.error = LookupError("once")
    waiters = [asyncio.create_task(flight.run("a", work.run)) for _ in range(2)]
    await begin(waiters, work)
    work.go.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [LookupError, LookupError]
    work.error = None
    assert await flight.run("a", work.run) == 2


@pytest.mark.asyncio
async def test_all_who_wait_may_leave_and_the_work_is_still_done() -> None:
    flight: InFlight[str, int] = InFlight()
    work = Work()
    waiters = [asyncio.create_task(flight.run("a", work.run)) for _ in range(2)]
    await begin(waiters, work)
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    late = asyncio.create_task(flight.run("a", work.run))
    await begin([late], work)
    work.go.set()
    assert await late == 1


@pytest.mark.asyncio
async def test_close_ends_what_runs() -> None:
    flight: InFlight[str, int] = InFlight()
    work = Work()
    waiter = asyncio.create_task(flight.run("a", work.run))
    await begin([waiter], work)
    await flight.close()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await flight.close()
