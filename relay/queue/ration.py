"""How many retries begin while much new mail comes in or goes out.

A retry costs more than a delivery: its host is often down, and what was known of its domain has to be looked up again.
Without a ration, a hundred thousand of them that have fallen due slow new mail down to a tenth of its rate for minutes.
"""

from __future__ import annotations

WINDOW_MICROS = 1_000_000
# From so many new messages in a window on, so many retries may begin in it, and in the next one. What comes in slowly
# may do so because of the retries: then fewer of them show whether there is more.
SHARES = ((50, 30), (10, 100))
_LATEST_MICROS = 60_000_000  # a message may be put so long after its time of arrival


class Ration:
    """Times are microseconds UTC."""

    def __init__(self) -> None:
        self._end = 0  # of this window
        self._fresh = 0  # new messages put or claimed in it
        self._left: int | None = None  # retries that may begin in it; None: as many as there are

    def note_fresh(self, now: int) -> None:
        """A new message was put, or claimed."""
        self._look(now)
        self._fresh += 1
        share = _share(self._fresh)
        if share is not None and (self._left is None or self._left > share):
            self._left = share

    def note_retry(self) -> None:
        """A retry was claimed."""
        if self._left is not None:
            self._left -= 1

    def opens(self, now: int) -> int:
        """When the next retry may be claimed: `now`, or a little later."""
        self._look(now)
        return now if self._left is None or self._left > 0 else self._end

    def _look(self, now: int) -> None:
        """Begin a new window when this one is over, or the clock was set back."""
        if self._end - _LATEST_MICROS <= now < self._end:
            return
        is_next = self._end <= now < self._end + WINDOW_MICROS
        self._left = _share(self._fresh) if is_next else None
        self._fresh = 0
        self._end = now + WINDOW_MICROS


def _share(fresh: int) -> int | None:
    return next((share for least, share in SHARES if fresh >= least), None)
