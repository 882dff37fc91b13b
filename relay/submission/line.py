"""A line before a few places: who finds none free waits for one, and goes ahead of those that count for less.

No queue of asyncio has an order that the last to come may change, and an end that the least must make room at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Waiting:
    rank: int
    turn: asyncio.Future[bool]


class Line:
    """`places` at once, and at most `most_waiting` before them: the lowest rank first, and of one rank the first."""

    def __init__(self, places: int, most_waiting: int) -> None:
        self._free = places
        self._most_waiting = most_waiting
        self._waiting: list[_Waiting] = []  # in the order of their turns

    @asynccontextmanager
    async def place(self, rank: int) -> AsyncGenerator[bool, None]:
        """A place, once there is one; False: there is none, so many are before this one in the line."""
        has_one = await self._enter(rank)
        try:
            yield has_one
        finally:
            if has_one:
                self._leave()

    async def _enter(self, rank: int) -> bool:
        if self._free:
            self._free -= 1
            return True
        mine = _Waiting(rank, asyncio.get_running_loop().create_future())
        before = next((at for at, one in enumerate(self._waiting) if one.rank > rank), len(self._waiting))
        self._waiting.insert(before, mine)
        if len(self._waiting) > self._most_waiting:
            last = self._waiting.pop().turn
            if not last.done():  # else it has left, and has not been heard yet
                last.set_result(False)
        try:
            return await mine.turn
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif mine.turn.done() and not mine.turn.cancelled() and mine.turn.result():
                self._leave()  # its turn came in the very moment in which it left
            raise

    def _leave(self) -> None:
        """The place goes to the first of the line."""
        while self._waiting:
            turn = self._waiting.pop(0).turn
            if not turn.done():
                turn.set_result(True)
                return
        self._free += 1
