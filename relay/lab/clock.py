"""The lab's time: it can be moved ahead, for Relay's clock and for everything that waits on the event loop alike.

So an hour of retries, a minute for a host that says nothing, and the life of a DNS answer all pass in an instant.
Only real time passes by itself; nothing here goes back.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import datetime, timedelta
from typing import TypeVar, TypeVarTuple

from relay.app import utc_now

_QUIET_SECONDS = 0.15  # of real time: all servers are in this process, so what can go on does so sooner

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class LabClock:
    """The real time and a bit: it can be moved ahead, never back."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        """What time it is in the lab."""
        return utc_now() + self.ahead

    def advance(self, by: timedelta) -> None:
        """Let `by` pass at once."""
        self.ahead += by


class LabLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the lab's: when `clock` is moved ahead, all timers up to there are due."""

    def __init__(self, clock: LabClock) -> None:
        self._lab_clock = clock
        self._lookout = _Lookout()
        super().__init__(self._lookout)

    def time(self) -> float:
        """The loop's clock, in seconds, that timers go by."""
        return super().time() + self._lab_clock.ahead.total_seconds()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Arguments], _Result], *args: *_Arguments
    ) -> asyncio.Future[_Result]:
        """As any loop does; what a thread is at work on is not quiet, however slow the disk."""
        work = super().run_in_executor(executor, func, *args)
        self._lookout.at_work += 1
        work.add_done_callback(self._lookout.ended)
        return work

    async def quiet(self, patience_seconds: float) -> None:
        """Return when nothing goes on any more: whatever still waits, waits for time to pass. Or out of patience."""
        self._lookout.reported = reported = self.create_future()
        self._lookout.until = time.monotonic() + patience_seconds
        await reported


class _Lookout(selectors.DefaultSelector):
    """Waits for sockets as the loop bids it, and reports when nothing has come for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.reported: asyncio.Future[None] | None = None
        self.until = 0.0
        self.at_work = 0  # threads

    def ended(self, _: object) -> None:
        """A thread has done its work."""
        self.at_work -= 1

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; nothing after `timeout` seconds (None: there is no timer)."""
        if self.reported is None:
            return super().select(timeout)
        has_time = timeout is None or timeout > _QUIET_SECONDS
        ready = super().select(_QUIET_SECONDS if has_time else timeout)
        if (has_time and not ready and not self.at_work) or time.monotonic() > self.until:
            if not self.reported.done():
                self.reported.set_result(None)
            self.reported = None
        return ready
