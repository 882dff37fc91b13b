"""When to try again, when to tell the sender, when to give up. Each cause has its waits and its lifetime.

`settle` is for mail that was tried, `review` for mail that is looked at without a try. Its life begins when it is to be
tried first: on arrival, or when its sender has it released. RFC 5321 section 4.5.4.1, RFC 2852 (Deliver By).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import assert_never

from relay.mail.duration import format_duration, utc
from relay.mail.message import Claim, DeliverBy, Recipient
from relay.mail.outcome import Cause, Deferred, Delivered, Dropped, Failed, Outcome, State
from relay.mail.status import Kind, Status
from relay.policy.cause import cause_of

JITTER = 0.2  # a delay is spread over ten percent either way, so that what failed together does not return together

REPORT_LIFE = timedelta(hours=36)  # of a TLS report: the next day's is of more use then

EXPIRED_5_4_7 = Status(Kind.PERMANENT, 4, 7)
SENDERS_LIMIT = "DELIVERBY, as its sender asked"
MAY_HAVE_ARRIVED = "it may have arrived all the same"


class OnUnknown(Enum):
    """What becomes of a message whose last reply was lost (RFC 5321 section 4.2.5: it may have arrived)."""

    RETRY = "retry"
    HOLD = "hold"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again. The last of `delays` repeats until `expire`, counted from when the message is to go.

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
class Life:
    """Until when a message is tried, and by which word: a line of the settings, or `asked` by its sender."""

    end: datetime
    limit: str
    asked: bool = False


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

    def of_reports(self) -> Schedules:
        """For TLS reports: a shorter life, and nobody hears that one is late. A second copy of one does no harm."""
        if self.general.expire <= REPORT_LIFE:
            general = self.general
        else:
            general = replace(self.general, expire=REPORT_LIFE, expire_named="the life of a TLS report")
        return replace(self, general=general, notices=(), on_unknown=OnUnknown.RETRY, expire_held=True)

    def of(self, cause: Cause | None) -> Schedule:
        """For mail that waits for `cause`; None: for mail of which nothing is known yet."""
        if cause not in self.by_cause.keys():  # noqa: SIM118  (of keys mypy knows that None is none)
            return self.general
        own = self.by_cause[cause]
        if own.expire <= self.general.expire:
            return own
        return replace(own, expire=self.general.expire, expire_named=self.general.expire_named)

    def notice_times(self, due: datetime, by: DeliverBy | None) -> list[datetime]:
        """When its sender is told that a message is late which was to go at `due`, and to be there `by` then.

        RFC 2852 section 4.1.3: also when the time to be there is over, unless it was when the message came.
        """
        times = [due + notice for notice in self.notices]
        return sorted([*times, by.time]) if by is not None and not by.returns and by.time > due else times

    def life(self, due: datetime, by: DeliverBy | None, cause: Cause | None) -> Life:
        """Until when a message is tried which was to go at `due`, and to be there `by` then, if `cause` keeps it."""
        schedule = self.of(cause)
        end = due + schedule.expire
        if by is not None and by.returns and by.time <= end:
            return Life(by.time, SENDERS_LIMIT, True)
        return Life(end, f"{schedule.expire_named}: {format_duration(schedule.expire)}")


@dataclass(frozen=True, slots=True)
class SettledRecipient:
    """What is written down for one recipient. `next_attempt` is None when it is closed or held.

    `rule`: which line of the settings gave `next_attempt`, or closed it, in words. `review`: when it expires or its
    sender is to be told that it is late, whichever comes first, whether or not it is tried. `route`: that takes it from
    now on. `hold`: why it is held. `expires`: until when it is tried, or was. `overdue`: the delay notice is due since
    the message was to be there by now, as its sender asked.
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
    overdue: bool = False


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
    schedules = schedules.of_reports() if claim.report else schedules
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
    schedules = schedules.of_reports() if claim.report else schedules
    return Settlement(tuple(_review_one(claim, one, schedules, now, resting, held) for one in claim.recipients))


def missed(claim: Claim, recipient: Recipient, now: datetime) -> Failed | None:
    """The failure of mail that its sender wants back by now, whatever became of it. RFC 2852 section 4.1.3: no further
    attempt is made. None: it may be tried.
    """
    by = claim.deliver_by
    if by is None or not by.returns or now < by.time:
        return None
    if recipient.last is not None:
        return _sent_back(_given_up(recipient.last, cause_of(recipient.last)), by.time)
    return _sent_back(Failed(EXPIRED_5_4_7, "it could not be tried before that", expired=True), by.time)


def all_missed(claim: Claim, now: datetime) -> dict[int, Outcome]:
    """The same for all recipients of a claim, by index; empty when they may be tried."""
    found = {recipient.index: missed(claim, recipient, now) for recipient in claim.recipients}
    return {index: failed for index, failed in found.items() if failed is not None}


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
    life = schedules.life(claim.due, claim.deliver_by, cause)
    same = recipient.last is not None and cause_of(recipient.last) is cause
    if now >= life.end and not same:  # nobody gives up at the first sight of a cause, only when all time is over
        life = schedules.life(claim.due, claim.deliver_by, None)
    if now >= life.end:
        return _expired(recipient, _given_up(outcome, cause), cause, life)
    planned, rule = now + schedule.delay(recipient.attempts, jitter), schedule.rule(recipient.attempts)
    told, overdue = _told(claim, recipient, schedules, now)
    return SettledRecipient(
        recipient,
        State.DEFERRED,
        outcome,
        min(planned, life.end),
        told,
        cause,
        rule if planned <= life.end else f"{rule}, cut short by {life.limit}",
        _next_review(claim, told, life.end, schedules),
        expires=life.end,
        overdue=overdue,
    )


def _held(
    claim: Claim, recipient: Recipient, outcome: Deferred, schedules: Schedules, now: datetime
) -> SettledRecipient:
    """Kept for the operator, since another copy may be one too many."""
    life = _life_of_held(claim, schedules, Cause.UNKNOWN)
    end = None if life is None else life.end
    told, overdue = _told(claim, recipient, schedules, now)
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
        overdue=overdue,
    )


def _life_of_held(claim: Claim, schedules: Schedules, cause: Cause | None) -> Life | None:
    """None: it is kept for ever, as the settings say; not so when its sender wants it back."""
    life = schedules.life(claim.due, claim.deliver_by, cause)
    return life if schedules.expire_held or life.asked else None


def _review_one(
    claim: Claim, recipient: Recipient, schedules: Schedules, now: datetime, resting: Deferred | None, held: bool
) -> SettledRecipient:
    known = _newer(recipient.last, resting)
    cause = None if known is None else cause_of(known)
    life = _life_of_held(claim, schedules, cause) if held else schedules.life(claim.due, claim.deliver_by, cause)
    if life is not None and now >= life.end:
        return _expired(recipient, _reviewed_too_late(recipient, known, cause, held), cause, life)
    end = None if life is None else life.end
    told, overdue = _told(claim, recipient, schedules, now)
    state = State.HELD if held else State.QUEUED if recipient.last is None else State.DEFERRED
    outcome = known or _not_yet(held)
    again = _next_review(claim, told, end, schedules)
    return SettledRecipient(recipient, state, outcome, None, told, cause, review=again, expires=end, overdue=overdue)


def _newer(last: Deferred | None, resting: Deferred | None) -> Deferred | None:
    """What keeps the mail: its destination's trouble, or its own last attempt, which tells more of the same trouble."""
    if resting is None or (last is not None and cause_of(last) is cause_of(resting)):
        return last
    return resting


def _told(claim: Claim, recipient: Recipient, schedules: Schedules, now: datetime) -> tuple[int, bool]:
    """How many delay notices its sender has had when those that are due now are sent. Also whether among those is the
    one that the message was to be there by now.
    """
    times = schedules.notice_times(claim.due, claim.deliver_by)
    told = max(recipient.delay_notices, sum(time <= now for time in times))
    new = times[recipient.delay_notices : told]
    return told, claim.deliver_by is not None and not claim.deliver_by.returns and claim.deliver_by.time in new


def _next_review(claim: Claim, told: int, end: datetime | None, schedules: Schedules) -> datetime | None:
    times = schedules.notice_times(claim.due, claim.deliver_by)[told:]
    return min(times + ([end] if end is not None else []), default=None)


def _expired(recipient: Recipient, failed: Failed, cause: Cause | None, life: Life) -> SettledRecipient:
    outcome = _sent_back(failed, life.end) if life.asked else failed
    return _failed(recipient, outcome, cause, life.limit, life.end)


def _sent_back(failed: Failed, by: datetime) -> Failed:
    """RFC 2852 section 4.1.3: status 5.4.7, whatever it was that kept the mail."""
    reason = f"it was to be delivered by {utc(by)}, as its sender asked: {failed.reason}"
    return replace(failed, status=EXPIRED_5_4_7, reason=reason)


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
