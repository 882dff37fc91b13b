"""A line before a few places: who goes first, who is sent away, and what becomes of the place of one who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.line import Line

pytestmark = pytest.mark.asyncio


class Visitor:
    """Enters at once, and stays until told to go."""

    def __init__(self, line: Line, rank: int = 0) -> None:
        self.has_place: bool | None = None
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._visit(line, rank))

    async def _visit(self, line: Line, rank: int) -> None:
        async with line.place(rank) as self.has_place:
            if self.has_place:
                await self.go.wait()


async def settle() -> None:
    for _ in range(5):  # rounds of the event loop: nothing here waits for anything else
        await asyncio.sleep(0)


async def come(line: Line, ranks: Sequence[int]) -> list[Visitor]:
    visitors = []
    for rank in ranks:
        visitors.append(Visitor(line, rank))
        await settle()
    return visitors


async def order_of(visitors: Sequence[Visitor]) -> list[int]:
    """Let each go as soon as it has a place; who had one, in that order."""
    order: list[int] = []
    while True:
        inside = [at for at, one in enumerate(visitors) if one.has_place and not one.go.is_set()]
        if not inside:
            return order
        order += inside
        for at in inside:
            visitors[at].go.set()
        await settle()


async def test_the_lowest_rank_goes_first_and_of_one_rank_the_first() -> None:
    visitors = await come(Line(1, 9), [5, 3, 0, 3, -1, 0])
    assert await order_of(visitors) == [0, 4, 2, 5, 1, 3]


async def test_a_full_line_sends_its_last_away() -> None:
    visitors = await come(Line(1, 2), [0, 1, 3, 3, 2, 0])
    assert [one.has_place for one in visitors] == [True, None, False, False, False, None]
    assert await order_of(visitors) == [0, 5, 1]


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.sampled_from(["come", "go", "cancel", "cancel at once"])), max_size=40)
)
async def test_no_place_is_lost_and_none_is_given_twice(acts: list[tuple[int, str]]) -> None:
    line, visitors = Line(2, 3), list[Visitor]()
    for number, act in acts:
        if act == "come":
            visitors.append(Visitor(line, number))
        elif visitors:
            one = visitors[number % len(visitors)]
            one.go.set() if act == "go" else one.task.cancel()
        if act != "cancel at once":
            await settle()
        inside = [one for one in visitors if one.has_place and not one.task.done()]
        assert len(inside) <= 2
    for one in visitors:
        one.task.cancel()
    await settle()
    assert [one.has_place for one in await come(line, [0, 0, 0])] == [True, True, None]
