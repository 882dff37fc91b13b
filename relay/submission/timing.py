"""What MAIL may say of time and rank: later (HOLDFOR, HOLDUNTIL), by then (BY), ahead of others (MT-PRIORITY). Pure.

RFC 4865 (FUTURERELEASE), RFC 2852 (DELIVERBY), RFC 6710 (MT-PRIORITY).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from relay.mail.message import DeliverBy, utc_date_time
from relay.mail.status import Reply
from relay.submission import replies

MAX_SECONDS = 999_999_999  # RFC 4865 §3, RFC 2852 §4
_MAX = timedelta(seconds=MAX_SECONDS)

HOLDFOR = re.compile(rb"[1-9][0-9]{0,8}")
# RFC 4865 §3: a date-time of RFC 3339, in UTC.
HOLDUNTIL = re.compile(
    rb"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|[+-]00:00)"
)
BY = re.compile(rb"([+-]?[0-9]{1,9});([NR])(T?)", re.IGNORECASE)  # RFC 2852 §4
PRIORITY = re.compile(rb"0|-?[1-9]")  # RFC 6710 §7


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asked for, as it asked: `hold` is what goes into Future-Release-Request, `by` counts from now."""

    hold: str | None = None
    hold_for: timedelta | None = None
    hold_until: datetime | None = None
    by: timedelta | None = None
    returns: bool = False
    trace: bool = False
    priority: int = 0


NO_WISH = Wish()


@dataclass(frozen=True, slots=True)
class Timing:
    """The same in the terms of the queue. See NewMessage."""

    release: datetime | None = None
    release_asked: str | None = None
    priority: int = 0
    deliver_by: DeliverBy | None = None


NO_TIMING = Timing()


def read_wish(given: Mapping[bytes, bytes | None]) -> Wish | Reply:
    """From parameters that fit their forms above."""
    hold_for, hold_until, by, priority = (
        (given.get(key) or b"").decode() for key in (b"HOLDFOR", b"HOLDUNTIL", b"BY", b"MT-PRIORITY")
    )
    if not (hold_for or hold_until or by or priority):
        return NO_WISH
    if hold_for and hold_until:
        return replies.bad_parameter("HOLDFOR and HOLDUNTIL were both given")  # RFC 4865 §4.2 (9)
    until = None
    if hold_until:
        until = _date_time(hold_until.encode())
        if until is None:
            return replies.bad_parameter("HOLDUNTIL is no date and time that there is")
    seconds, _, mode = by.upper().partition(";")
    if "R" in mode and int(seconds) <= 0:
        return replies.bad_parameter("BY with R takes a number of seconds above zero")  # RFC 2852 §4
    return Wish(
        hold=f"for;{hold_for}" if hold_for else f"until;{hold_until}" if hold_until else None,
        hold_for=timedelta(seconds=int(hold_for)) if hold_for else None,
        hold_until=until,
        by=timedelta(seconds=int(seconds)) if by else None,
        returns="R" in mode,
        trace="T" in mode,
        priority=int(priority or 0),
    )


def timing(wish: Wish, now: datetime, max_hold: timedelta | None) -> Timing | Reply:
    """What is asked for at `now`; the refusal when it is not to be had. `max_hold`: None where nothing is held."""
    if wish is NO_WISH:
        return NO_TIMING
    release = now + wish.hold_for if wish.hold_for is not None else wish.hold_until
    if release is not None:
        if max_hold is None:
            return replies.UNKNOWN_PARAMETER
        latest = now + min(max_hold, _MAX)
        if release > latest:
            return replies.held_too_long(utc_date_time(latest))  # RFC 4865 §4.2 (7, 8)
    by = None if wish.by is None else DeliverBy(now + wish.by, wish.returns, wish.trace)
    if by is not None and release is not None and by.time < release:
        return replies.RELEASED_TOO_LATE  # RFC 4865 §5.2.2
    return Timing(release, wish.hold, wish.priority, by)


def future_release(now: datetime, max_hold: timedelta) -> str:
    """The line for EHLO. RFC 4865 section 3. The time is that of this minute's beginning."""
    return _future_release(now.replace(second=0, microsecond=0), min(max_hold, _MAX))


@lru_cache(maxsize=4)
def _future_release(minute: datetime, held: timedelta) -> str:
    return f"FUTURERELEASE {max(1, int(held.total_seconds()))} {utc_date_time(minute + held)}"


def _date_time(text: bytes) -> datetime | None:
    """RFC 3339 section 5.6, with its leap seconds; None: there is no such time. Never earlier than what is written."""
    found = HOLDUNTIL.fullmatch(text)
    assert found is not None  # noqa: S101  (the form was looked at)
    date, minutes, seconds, fraction = ((part or b"").decode() for part in found.groups())
    if int(seconds) > 60:
        return None
    try:
        minute = datetime.fromisoformat(f"{date}T{minutes}:00").replace(tzinfo=UTC)
        return minute + timedelta(seconds=int(seconds) + bool(fraction.strip("0")))
    except (ValueError, OverflowError):
        return None
