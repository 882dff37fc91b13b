"""When to try again, when to tell the sender, when to give up. Each cause has its waits and its lifetime.

`settle` is for mail that was tried, `review` for mail that is looked at without a try. RFC 5321 section 4.5.4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from relay.mail.duration import format_duration
from relay.mail.message import Claim, Recipient
from relay.mail.outcome import Cause, Deferred, Delivered, Dropped, Failed, Outcome, State
from relay.mail.status import Kind, Status
from relay.policy.cause import cause_of

JITTER = 0.2  # a delay is spread over ten percent either way, so that what failed together does not return together

EXPIRED_5_4_7 = Status(Kind.PERMANENT, 4, 7)
MAY_HAVE_ARRIVED = "it may have arrived all the same"


class OnUnknown(Enum):
    """What becomes of a message whose last reply was lost (RFC 5321 section 4.2.5: it may have arrived)."""

    RETRY = "retry"
    HOLD = "hold"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again. The last of `delays` repeats until `expire`, counted from the message's arrival.

    `named` and `expire_named` are the settings that they come from.
    """

    delays: tuple[timedelta, ...]
    expire: timedelta
    named: str = "retry.schedule"
    expire_named: str = "retry.expire"

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) <= timedelta(0) or self.expire <= timedelta(0):
            raise ValueError("a schedule needs delays and a lifetime greater than zero")

    def delay(self, attempts: int, jitter: float) -> timedelta:
        """How long to wait after attempt number `attempts` (from 1). `jitter`: a random number from 0 to below 1."""
        return self.delays[self._step(attempts) - 1] * (1 - JITTER / 2 + JITTER * jitter)

    def rule(self, attempts: int) -> str:
        """The line of the settings that gives that wait: `retry.dns_schedule, wait 2 of 6: 5m`."""
        step, steps = self._step(attempts), len(self.delays)
        repeats = ", which repeats" if step == steps else ""
        return f"{self.named}, wait {step} of {steps}{repeats}: {format_duration(self.delays[step - 1])}"

    def _step(self, attempts: int) -> int:
        return min(max(attempts, 1), len(self.delays))


@dataclass(frozen=True, slots=True)
class Schedules:
    """Schedules by cause; `general` for those that have none. No message lives longer than `general.expire`.

    `notices`: the ages at which the sender is told that it is late. `expire_held`: mail on hold expires too.
    """

    general: Schedule
    by_cause: Mapping[Cause, Schedule] = field(default_factory=dict)
    notices: tuple[timedelta, ...] = ()
    on_unknown: OnUnknown = OnUnknown.RETRY
    expire_held: bool = True

    def of(self, cause: Cause | None) -> Schedule:
        """For mail that waits for `cause`; None: for mail of which nothing is known yet."""
        if cause not in self.by_cause.keys():  # noqa: SIM118  (of keys mypy knows that None is none)
            return self.general
        own = self.by_cause[cause]
        if own.expire <= self.general.expire:
            return own
        return replace(own, expire=self.general.expire, expire_named=self.general.expire_named)

    def told(self, recipient: Recipient, age: timedelta) -> int:
        """How many delay notices the sender has had when those that are due at this age are sent."""
        return max(recipient.delay_notices, sum(notice <= age for notice in self.notices))


@dataclass(frozen=True, slots=True)
class SettledRecipient:
    """What is written down for one recipient. `next_attempt` is None when it is closed or held.

    `rule`: which line of the settings gave `next_attempt`, or closed it, in words. `review`: when it expires or its
    sender is to be told that it is late, whichever comes first, whether or not it is tried. `route`: that takes it from
    now on. `hold`: why it is held. `expires`: until when it is tried, or was.
    """

    recipient: Recipient
    state: State
    outcome: Outcome
    next_attempt: datetime | None
    delay_notices: int = 0
    cause: Cause | None = None
    rule: str | None = None
    review: datetime | None = None
    route: str | None = None
    hold: str | None = None
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is written down for one claim, and whom the sender must be told about."""

    recipients: tuple[SettledRecipient, ...]

    @property
    def failed(self) -> tuple[SettledRecipient, ...]:
        """The recipients that a failure notice must name."""
        return tuple(settled for settled in self.recipients if settled.state is State.FAILED)

    @property
    def delayed(self) -> tuple[SettledRecipient, ...]:
        """The recipients that a delay notice must name, now and not again."""
        return tuple(settled for settled in self.recipients if settled.delay_notices > settled.recipient.delay_notices)


def settle(
    claim: Claim, outcomes: Mapping[int, Outcome], schedules: Schedules, now: datetime, jitter: float
) -> Settlement:
    """Turn the outcomes of an attempt, by recipient index, into what is to be written down.

    Every recipient of the claim must have an outcome (KeyError otherwise). A deferral at or past the end of the
    message's life becomes a failure with the same subject and detail; the last wait never goes past that end.
    """
    return Settlement(
        tuple(
            _settle_one(claim, recipient, outcomes[recipient.index], schedules, now, jitter)
            for recipient in claim.recipients
        )
    )


def review(
    claim: Claim, schedules: Schedules, now: datetime, resting: Deferred | None = None, *, held: bool = False
) -> Settlement:
    """What becomes of recipients that are looked at without a try: those past their life fail, or a notice is due.

    `resting`: what their destination rests for. Of those that go on, state and next attempt stay as they are in the
    queue (here `next_attempt` is None); what is new is `delay_notices` and `review`.
    """
    return Settlement(tuple(_review_one(claim, one, schedules, now, resting, held) for one in claim.recipients))


def first_review(arrived: datetime, schedules: Schedules) -> datetime:
    """When mail that was never tried is to be looked at: at its first delay notice, or at the end of its life."""
    end = arrived + schedules.general.expire
    return min([end, *(arrived + notice for notice in schedules.notices)])


def shortest_age(schedules: Schedules) -> timedelta:
    """Nothing falls due earlier in the life of a message: neither a delay notice nor its end."""
    lives = [one.expire for one in (schedules.general, *schedules.by_cause.values())]
    return min([*lives, *schedules.notices])


def longest_wait(schedules: Schedules) -> timedelta:
    """No next attempt is further ahead than this; one that is shows a clock that was wrong."""
    return max(max(one.delays) for one in (schedules.general, *schedules.by_cause.values())) * (1 + JITTER / 2)


def _settle_one(
    claim: Claim, recipient: Recipient, outcome: Outcome, schedules: Schedules, now: datetime, jitter: float
) -> SettledRecipient:
    match outcome:
        case Delivered():
            return SettledRecipient(recipient, State.DELIVERED, outcome, None, recipient.delay_notices)
        case Failed():
            return SettledRecipient(recipient, State.FAILED, outcome, None, recipient.delay_notices)
        case Dropped():
            return SettledRecipient(recipient, State.DROPPED, outcome, None, recipient.delay_notices)
        case Deferred():
            cause = cause_of(outcome)
            if cause is Cause.UNKNOWN and schedules.on_unknown is OnUnknown.FAIL:
                return _failed(recipient, _given_up(outcome, cause, expired=False), cause, "retry.unknown = fail")
            if cause is Cause.UNKNOWN and schedules.on_unknown is OnUnknown.HOLD:
                return _held(claim, recipient, outcome, schedules, now)
            return _wait(claim, recipient, outcome, schedules, now, jitter)
    assert_never(outcome)


def _wait(
    claim: Claim, recipient: Recipient, outcome: Deferred, schedules: Schedules, now: datetime, jitter: float
) -> SettledRecipient:
    cause = cause_of(outcome)
    schedule = schedules.of(cause)
    end, limit = claim.arrived + schedule.expire, f"{schedule.expire_named}: {format_duration(schedule.expire)}"
    same = recipient.last is not None and cause_of(recipient.last) is cause
    if now >= end and not same:  # nobody gives up at the first sight of a cause, only when all time is over
        general = schedules.general
        end, limit = claim.arrived + general.expire, f"{general.expire_named}: {format_duration(general.expire)}"
    if now >= end:
        return _failed(recipient, _given_up(outcome, cause), cause, limit, end)
    planned, rule = now + schedule.delay(recipient.attempts, jitter), schedule.rule(recipient.attempts)
    told = schedules.told(recipient, now - claim.arrived)
    return SettledRecipient(
        recipient,
        State.DEFERRED,
        outcome,
        min(planned, end),
        told,
        cause,
        rule if planned <= end else f"{rule}, cut short by {limit}",
        _next_review(claim, told, end, schedules),
        expires=end,
    )


def _held(
    claim: Claim, recipient: Recipient, outcome: Deferred, schedules: Schedules, now: datetime
) -> SettledRecipient:
    """Kept for the operator, since another copy may be one too many."""
    end = claim.arrived + schedules.of(Cause.UNKNOWN).expire if schedules.expire_held else None
    told = schedules.told(recipient, now - claim.arrived)
    return SettledRecipient(
        recipient,
        State.HELD,
        outcome,
        None,
        told,
        Cause.UNKNOWN,
        "retry.unknown = hold",
        _next_review(claim, told, end, schedules),
        hold=f"the reply to the whole message was lost: {MAY_HAVE_ARRIVED} (retry.unknown = hold)",
        expires=end,
    )


def _review_one(
    claim: Claim, recipient: Recipient, schedules: Schedules, now: datetime, resting: Deferred | None, held: bool
) -> SettledRecipient:
    known = _newer(recipient.last, resting)
    cause = None if known is None else cause_of(known)
    schedule = schedules.of(cause)
    end = claim.arrived + schedule.expire if schedules.expire_held or not held else None
    if end is not None and now >= end:
        failed = _reviewed_too_late(recipient, known, cause, held)
        return _failed(recipient, failed, cause, f"{schedule.expire_named}: {format_duration(schedule.expire)}", end)
    told = schedules.told(recipient, now - claim.arrived)
    state = State.HELD if held else State.QUEUED if recipient.last is None else State.DEFERRED
    outcome = known or _not_yet(held)
    again = _next_review(claim, told, end, schedules)
    return SettledRecipient(recipient, state, outcome, None, told, cause, review=again, expires=end)


def _newer(last: Deferred | None, resting: Deferred | None) -> Deferred | None:
    """What keeps the mail: its destination's trouble, or its own last attempt, which tells more of the same trouble."""
    if resting is None or (last is not None and cause_of(last) is cause_of(resting)):
        return last
    return resting


def _next_review(claim: Claim, told: int, end: datetime | None, schedules: Schedules) -> datetime | None:
    times = [claim.arrived + notice for notice in schedules.notices[told:]]
    return min(times + ([end] if end is not None else []), default=None)


def _failed(
    recipient: Recipient, outcome: Failed, cause: Cause | None, rule: str, end: datetime | None = None
) -> SettledRecipient:
    return SettledRecipient(recipient, State.FAILED, outcome, None, recipient.delay_notices, cause, rule, expires=end)


def _given_up(last: Deferred, cause: Cause | None, *, expired: bool = True) -> Failed:
    """Giving up keeps the cause of the last attempt: "expired" alone helps nobody."""
    says_so = cause is not Cause.UNKNOWN or last.reason.endswith(MAY_HAVE_ARRIVED)
    reason = last.reason if says_so else f"{last.reason}; {MAY_HAVE_ARRIVED}"
    return Failed(last.status.with_kind(Kind.PERMANENT), reason, last.host, last.reply, last.tls, expired=expired)


def _reviewed_too_late(recipient: Recipient, known: Deferred | None, cause: Cause | None, held: bool) -> Failed:
    if known is None:
        where = "on hold, and was not tried before that" if held else "before it could be tried"
        return Failed(EXPIRED_5_4_7, f"its time ran out {where}", expired=True)
    failed = _given_up(known, cause)
    if recipient.last is None:
        return replace(failed, reason=f"it could not be tried before its time ran out: {failed.reason}")
    return failed


def _not_yet(held: bool) -> Deferred:
    """For the notice that mail which was never tried is late."""
    return Deferred(EXPIRED_5_4_7.with_kind(Kind.TEMPORARY), f"it {'is on hold and ' * held}has not been tried yet")
