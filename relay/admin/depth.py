"""How deep the queue is, read again only after some seconds, and after more where reading takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from relay.queue.store import Depth, StoreUnavailable

KEEP_SECONDS = 5.0
_SHARE = 100  # reading may take one part in so many of the time, however large the queue is and however often one asks


class DepthGauge:
    """Reads with `read`, which may raise StoreUnavailable. `monotonic` gives seconds."""

    def __init__(self, read: Callable[[], Awaitable[Depth]], monotonic: Callable[[], float]) -> None:
        self._read = read
        self._monotonic = monotonic
        self._reading = asyncio.Lock()
        self._last: Depth | None = None
        self._good_until = float("-inf")

    async def depth(self) -> Depth | None:
        """The depth now or some seconds ago; None when it couldn't be read."""
        async with self._reading:
            begun = self._monotonic()
            if begun >= self._good_until:
                try:
                    self._last = await self._read()
                except StoreUnavailable:
                    self._last = None
                ended = self._monotonic()
                self._good_until = ended + max(KEEP_SECONDS, _SHARE * (ended - begun))
            return self._last
