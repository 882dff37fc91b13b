"""The lab's time, on real event loops and sockets: what is due when it is moved, and when all is quiet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from relay.lab.clock import LabClock, LabLoop
from relay.lab.zones import Slow, Zone, Zones
from relay.lookup.resolver import Answer, LookupFailed, Resolver

DAY = timedelta(days=1)


def run(work: Callable[[LabClock, LabLoop], Coroutine[Any, Any, None]]) -> None:
    clock = LabClock()
    loop = LabLoop(clock)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work(clock, loop))


def test_moving_the_clock_makes_timers_due_in_their_order() -> None:
    async def work(clock: LabClock, loop: LabLoop) -> None:
        due: list[str] = []
        for hours, what in ((25, "tomorrow"), (23, "today"), (1, "soon")):
            loop.call_later(hours * 3600, due.append, what)
        began, time_began = clock(), loop.time()
        clock.advance(DAY)
        await loop.quiet(10)
        assert due == ["soon", "today"]
        assert DAY <= clock() - began < DAY + timedelta(seconds=10)
        assert 86400 <= loop.time() - time_began < 86410

    run(work)


def test_time_limits_go_by_it_too() -> None:
    async def work(clock: LabClock, loop: LabLoop) -> None:
        async def limited() -> str:
            try:
                async with asyncio.timeout(3600):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "time is up"
            return "no"

        waiting = asyncio.create_task(limited())
        await loop.quiet(10)
        assert not waiting.done()
        clock.advance(DAY)
        assert await waiting == "time is up"

    run(work)


def test_it_is_quiet_when_nothing_but_time_is_waited_for() -> None:
    """A host that answers is waited for; one that does not, only until the clock is moved."""

    async def work(clock: LabClock, loop: LabLoop) -> None:
        zones = Zones({"a.test": Zone("@ A 127.0.0.1")}, {("b.test", "A"): Slow(3600)})
        resolver = Resolver([await zones.start()], timedelta(minutes=1), monotonic=loop.time)
        answered, silent = (asyncio.create_task(resolver.a(name)) for name in ("a.test", "b.test"))
        await loop.quiet(10)
        assert isinstance(answered.result(), Answer)
        assert not silent.done()
        clock.advance(timedelta(minutes=1))
        assert isinstance(await silent, LookupFailed)
        await resolver.close()
        await zones.stop()

    run(work)


def test_what_dns_said_is_kept_by_that_time() -> None:
    async def work(clock: LabClock, loop: LabLoop) -> None:
        zones = Zones({"a.test": Zone("@ A 127.0.0.1", ttl=300)})
        resolver = Resolver([await zones.start()], timedelta(minutes=1), monotonic=loop.time)
        for asked in (1, 1, 2):
            await resolver.a("a.test")
            assert len(zones.asked) == asked
            clock.advance(timedelta(seconds=200))
        await resolver.close()
        await zones.stop()

    run(work)


def test_it_is_not_quiet_while_a_thread_is_at_work() -> None:
    async def work(_: LabClock, loop: LabLoop) -> None:
        slow = asyncio.create_task(asyncio.to_thread(time.sleep, 0.2))
        await loop.quiet(10)
        assert slow.done()

    run(work)


def test_patience_has_an_end() -> None:
    async def work(_: LabClock, loop: LabLoop) -> None:
        async def restless() -> None:
            while True:
                await asyncio.sleep(0.01)

        task = asyncio.create_task(restless())
        began = time.monotonic()
        await loop.quiet(0.3)
        assert 0.3 <= time.monotonic() - began < 5
        task.cancel()

    run(work)
