"""What is in memory is written a little later, once for all that comes meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from relay.write_behind import WriteBehind

pytestmark = pytest.mark.asyncio


class Paper:
    """Takes what is said, one turn of the loop for each."""

    def __init__(self, after_seconds: float) -> None:
        self.said: list[str] = []
        self.written: list[list[str]] = []
        self.goes_on = asyncio.Event()
        self.behind = WriteBehind(self.write, after_seconds)

    def say(self, text: str) -> None:
        self.said.append(text)
        self.behind.soon()

    async def write(self) -> None:
        while self.said:
            taken, self.said = self.said, []
            await self.goes_on.wait()
            self.written.append(taken)

    async def has(self, *written: list[str]) -> bool:
        async with asyncio.timeout(5):
            while self.written != list(written):
                await asyncio.sleep(0)
        return True


async def test_one_write_for_what_comes_together_and_one_for_what_comes_meanwhile() -> None:
    paper = Paper(0.0)
    paper.goes_on.set()
    paper.say("a")
    paper.say("b")
    assert await paper.has(["a", "b"])
    paper.goes_on.clear()
    paper.say("c")
    while paper.said:
        await asyncio.sleep(0)
    paper.say("d")  # the timer runs out while "c" is being written
    for _ in range(10):
        await asyncio.sleep(0)
    paper.goes_on.set()
    assert await paper.has(["a", "b"], ["c"], ["d"])


async def test_at_the_end_nothing_waits() -> None:
    paper = Paper(3600.0)
    paper.goes_on.set()
    paper.say("a")
    await paper.behind.now()
    assert paper.written == [["a"]]
    paper.say("b")
    await paper.behind.now()
    assert paper.written == [["a"], ["b"]]
    assert len(asyncio.all_tasks()) == 1
