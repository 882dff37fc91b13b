"""Writes down what is in memory a little later, all of it at once: each write waits for the disk, as the queue does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class WriteBehind:
    """Has `write` called when there is something to write, in one event loop.

    `write` takes what there is, goes on with what has come meanwhile, and returns when there is nothing more. It may be
    called once more before it returns.
    """

    def __init__(self, write: Callable[[], Awaitable[None]], after_seconds: float) -> None:
        self._write = write
        self._after_seconds = after_seconds
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """There is something to write. Nothing is waited for."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after_seconds, self._begin)

    async def now(self) -> None:
        """Write what there is. It is written on return, as far as it can be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running is not None:
            await self._running
        await self._write()

    def _begin(self) -> None:
        self._timer = None
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._write()
