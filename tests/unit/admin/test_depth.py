"""The reading of the queue's depth is bounded, however often somebody asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from relay.admin.depth import KEEP_SECONDS, DepthGauge
from relay.queue.store import Depth, StoreUnavailable

pytestmark = pytest.mark.asyncio


@dataclass
class Queue:
    """A clock, and a queue that takes `takes` seconds to read."""

    takes: float = 0.0
    broken: bool = False
    now: float = 0.0
    readings: int = 0
    gauge: DepthGauge = field(init=False)

    def __post_init__(self) -> None:
        self.gauge = DepthGauge(self._read, lambda: self.now)

    async def _read(self) -> Depth:
        self.readings += 1
        await asyncio.sleep(0)
        self.now += self.takes
        if self.broken:
            raise StoreUnavailable("no")
        return Depth(self.readings, 0, None)


async def test_it_is_read_again_after_some_seconds() -> None:
    queue = Queue()
    assert await queue.gauge.depth() == Depth(1, 0, None)
    queue.now += KEEP_SECONDS - 0.1
    assert await queue.gauge.depth() == Depth(1, 0, None)
    queue.now += 0.1
    assert await queue.gauge.depth() == Depth(2, 0, None)


async def test_a_reading_that_takes_long_is_kept_for_longer() -> None:
    queue = Queue(takes=1.0)
    await queue.gauge.depth()
    queue.now += 99
    await queue.gauge.depth()
    assert queue.readings == 1
    queue.now += 1
    await queue.gauge.depth()
    assert queue.readings == 2


async def test_many_who_ask_at_once_cost_one_reading() -> None:
    queue = Queue()
    assert set(await asyncio.gather(*(queue.gauge.depth() for _ in range(20)))) == {Depth(1, 0, None)}


async def test_a_queue_that_cannot_be_read_is_not_asked_all_the_time() -> None:
    queue = Queue(broken=True)
    assert await queue.gauge.depth() is None
    assert await queue.gauge.depth() is None
    assert queue.readings == 1
    queue.broken = False
    queue.now += KEEP_SECONDS
    assert await queue.gauge.depth() == Depth(2, 0, None)
