"""How much a destination is given at once: more with each success, less with trouble, nothing while it is down. Pure.

A destination that fails several times in a row rests, a minute at first and up to a quarter of an hour; after a rest
one message is tried, and the rest of the mail waits for what becomes of that. RFC 5321 section 4.5.4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from math import ceil
from typing import Final

from relay.mail.outcome import Cause, Deferred, Delivered, Outcome

START: Final = 5  # attempts at once at a destination of which nothing is known
FIRST_REST: Final = timedelta(minutes=1)
LONGEST_REST: Final = timedelta(minutes=15)
JITTER: Final = 0.2  # a rest is spread over ten percent either way
_FEWEST_FAILURES: Final = 2  # in a row, before a destination rests
# What all of its mail may meet there, and not just this message.
_TROUBLE: Final = frozenset({Cause.OUTAGE, Cause.LOGIN, Cause.TLS_POLICY})


class Sign(Enum):
    """What an attempt says of its destination."""

    REACHED = "reached"  # it works: it took mail, or said no for reasons of its own
    BUSY = "busy"  # it asks for less
    TROUBLE = "trouble"
    NONE = "none"


def sign_of(outcomes: Mapping[int, Outcome], causes: Mapping[int, Cause | None]) -> Sign:
    """What the outcomes of an attempt, by recipient, say of the destination. `causes`: of those that were deferred."""
    deferred = {index: outcome for index, outcome in outcomes.items() if isinstance(outcome, Deferred)}
    if not deferred:
        return Sign.REACHED if any(map(_was_asked, outcomes.values())) else Sign.NONE
    if any(causes.get(index) is Cause.THROTTLING for index in deferred):
        return Sign.BUSY
    if any(isinstance(outcome, Delivered) for outcome in outcomes.values()):
        return Sign.REACHED
    if all(_is_of_all(one, causes.get(index)) for index, one in deferred.items()):
        return Sign.TROUBLE
    return Sign.REACHED if any(_was_asked(outcome) for outcome in outcomes.values()) else Sign.NONE


def _is_of_all(outcome: Deferred, cause: Cause | None) -> bool:
    """Whether all mail meets it there: no answer, 421, or a 5xx that fails nobody, as it came before any recipient."""
    if cause is Cause.LOGIN:
        return True
    return cause in _TROUBLE and (outcome.reply is None or outcome.reply.code == 421 or outcome.reply.code >= 500)


def _was_asked(outcome: Outcome) -> bool:
    return isinstance(outcome, Delivered) or outcome.reply is not None


class Pace:
    """What one destination is given. `most`: attempts at once. `per_minute`: messages; None: as many as there are."""

    def __init__(self, most: int, per_minute: int | None = None) -> None:
        self.failures = 0  # in a row
        self.rests = 0  # in a row
        self.since: datetime | None = None  # when the first of those began
        self._rested: datetime | None = None  # when the last of those began
        self._is_careful = False  # there was trouble
        self._most = most
        self._limit = float(min(START, most))
        self._rate = per_minute
        self._tokens = 0.0 if per_minute is None else self._burst
        self._counted: datetime | None = None

    @property
    def at_once(self) -> int:
        """How many attempts may be under way."""
        return int(self._limit)

    @property
    def is_new(self) -> bool:
        """Whether nothing was learned of the destination that is worth keeping."""
        unchanged = min(START, self._most) <= self._limit < 2 * START
        return not self.failures and not self.rests and unchanged and self._rate is None

    @property
    def has_rate(self) -> bool:
        """Whether messages in a minute are limited."""
        return self._rate is not None

    def has_saved(self, now: datetime) -> bool:
        """Whether the rate allows all that it ever does at once, as it would a destination that is new."""
        return (allowed := self.may_begin(now)) is None or allowed >= int(self._burst)

    def may_begin(self, now: datetime) -> int | None:
        """How many messages the rate allows now; None: it sets no limit."""
        if self._rate is None:
            return None
        if self._counted is not None and now > self._counted:  # a clock may go back
            self._tokens = min(self._burst, self._tokens + (now - self._counted).total_seconds() * self._rate / 60)
        self._counted = now
        return int(self._tokens + 1e-6)

    def begun(self) -> None:
        """One message more."""
        if self._rate is not None:
            self._tokens -= 1

    def next_begin(self, now: datetime) -> datetime | None:
        """When the rate allows a message again; None: it does now."""
        allowed = self.may_begin(now)
        if allowed is None or allowed > 0 or self._rate is None:
            return None
        return now + timedelta(microseconds=ceil((1 - self._tokens) * 60_000_000 / self._rate))

    def resumed(self, rests: int, since: datetime) -> None:
        """It was down when the service began: one message is tried first."""
        self.rests, self.since, self._limit = rests, since, 1.0

    def learn(self, sign: Sign, began: datetime, now: datetime, draw: float) -> timedelta | None:
        """Take in what an attempt said that began at `began`. Returns how long the destination is to rest; None: not.

        `draw`: a random number from 0 to below 1.
        """
        if sign is not Sign.REACHED and self._rested is not None and began <= self._rested:
            return None  # it failed along with those that began the rest
        self._is_careful = self._is_careful or sign in (Sign.BUSY, Sign.TROUBLE)
        match sign:
            case Sign.REACHED:
                resting = self.rests > 0
                self.failures = self.rests = 0
                self.since = self._rested = None
                self._limit = float(min(START, self._most)) if resting else self._grown()
            case Sign.BUSY if self._limit >= 2:
                self.failures = 0
                self._limit = max(1.0, self._limit / 2)
            case Sign.BUSY | Sign.TROUBLE:
                self.failures += 1
                self._limit = max(1.0, self._limit - 1)
                if self.rests or self.failures >= max(_FEWEST_FAILURES, self.at_once):
                    return self._rest(now, draw)
            case Sign.NONE:
                pass
        return None

    def _grown(self) -> float:
        """One attempt more at once; after the first trouble only when as many as there are have worked."""
        return min(float(self._most), self._limit + (1 / self._limit if self._is_careful else 1))

    def _rest(self, now: datetime, draw: float) -> timedelta:
        length = min(LONGEST_REST, FIRST_REST * float(1 << min(self.rests, 10)))
        self.rests += 1
        self.since = self.since or now
        self._rested = now
        self.failures = 0
        self._limit = 1.0
        return length * (1 - JITTER / 2 + JITTER * draw)

    @property
    def _burst(self) -> float:
        """What the rate allows at once: that of a second."""
        return max(1.0, (self._rate or 0) / 60)
