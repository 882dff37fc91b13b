"""When domains are told of a day, and when what fails is tried again. Pure: the same answers after a restart.

The moments of a day's reports are spread over the hours after it, by the digest of who is told and who tells: nothing
of it need be kept, and the reports of many senders do not reach a domain at once. RFC 8460 sections 4.1 and 5.5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

REST = timedelta(minutes=5)  # after midnight: sessions that ended just before it are counted by then
PATIENCE = timedelta(hours=36)  # from the first try of something to the last
TOO_LATE = timedelta(days=2)  # after its end nobody is told of a day any more
_FIRST_WAIT = timedelta(minutes=15)
_DOUBLINGS = 5  # the longest wait is 8 hours


def end_of(day: date) -> datetime:
    """The first moment after a day, in UTC."""
    return datetime.combine(day, time(), UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """`spread`: over which time after a day its reports are begun. `who`: us, such as our domain."""

    spread: timedelta
    who: str

    def moment(self, day: date, domain: str) -> datetime:
        """When `domain` is to be told of `day`, in UTC."""
        digest = hashlib.sha256(f"{self.who}\0{day.isoformat()}\0{domain}".encode()).digest()
        share = int.from_bytes(digest[:4], "big") / (1 << 32)
        return end_of(day) + REST + self.spread * share


def again(first: datetime, attempts: int, now: datetime) -> datetime | None:
    """When to try again what was first tried at `first` and has failed `attempts` times, now too; None: not any more.

    After 15 minutes, then 30, 60 and so on, never after more than 8 hours.
    """
    until = now + _FIRST_WAIT * 2 ** min(attempts - 1, _DOUBLINGS)
    return until if until <= first + PATIENCE else None


def is_too_late(day: date, now: datetime) -> bool:
    """Whether nobody wants to hear of that day any more. RFC 8460 section 5.5: the next report says more."""
    return now >= end_of(day) + TOO_LATE
