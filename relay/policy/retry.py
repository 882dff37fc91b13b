"""After an attempt: close, wait until when, send a delay notice, or give up. RFC 5321 section 4.5.4.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from relay.mail.message import Claim, Recipient
from relay.mail.outcome import Cause, Deferred, Delivered, Dropped, Failed, Outcome, State
from relay.mail.status import Kind

JITTER = 0.2  # a delay is spread over ten percent either way, so that what failed together does not return together


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again. The last of `delays` repeats until `expire`, counted from the message's arrival."""

    delays: tuple[timedelta, ...]
    expire: timedelta
    delay_notice: timedelta | None  # None: no delay notices

    def __post_init__(self) -> None:
        if not self.delays or min(self.delays) <= timedelta(0) or self.expire <= timedelta(0):
            raise ValueError("a schedule needs delays and a lifetime greater than zero")

    def delay(self, attempts: int, jitter: float) -> timedelta:
        """How long to wait after attempt number `attempts` (from 1). `jitter`: a random number from 0 to below 1."""
        plain = self.delays[min(max(attempts, 1), len(self.delays)) - 1]
        return plain * (1 - JITTER / 2 + JITTER * jitter)


@dataclass(frozen=True, slots=True)
class SettledRecipient:
    """What is written down for one recipient. `next_attempt` is None when it is closed.

    `rule`: which line of the schedule gave `next_attempt`, in words. `review`: when it expires or its sender is to be
    told that it is late, whichever comes first, whether or not it is tried. `route`: that takes it from now on.
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
    claim: Claim, outcomes: Mapping[int, Outcome], schedule: Schedule, now: datetime, jitter: float
) -> Settlement:
    """Turn the outcomes of an attempt, by recipient index, into what is to be written down.

    Every recipient of the claim must have an outcome (KeyError otherwise). A deferral at or past the end of the
    message's life becomes a failure with the same subject and detail; the last wait never goes past that end.
    """
    return Settlement(
        tuple(
            _settle_one(claim, recipient, outcomes[recipient.index], schedule, now, jitter)
            for recipient in claim.recipients
        )
    )


def _settle_one(
    claim: Claim, recipient: Recipient, outcome: Outcome, schedule: Schedule, now: datetime, jitter: float
) -> SettledRecipient:
    match outcome:
        case Delivered():
            return SettledRecipient(recipient, State.DELIVERED, outcome, None, recipient.delay_notices)
        case Failed():
            return SettledRecipient(recipient, State.FAILED, outcome, None, recipient.delay_notices)
        case Dropped():
            return SettledRecipient(recipient, State.DROPPED, outcome, None, recipient.delay_notices)
        case Deferred():
            end = claim.arrived + schedule.expire
            if now >= end:
                return SettledRecipient(recipient, State.FAILED, _expired(outcome), None, recipient.delay_notices)
            notice_due = schedule.delay_notice is not None and now >= claim.arrived + schedule.delay_notice
            return SettledRecipient(
                recipient,
                State.DEFERRED,
                outcome,
                min(now + schedule.delay(recipient.attempts, jitter), end),
                recipient.delay_notices or int(notice_due),
            )
    assert_never(outcome)


def _expired(last: Deferred) -> Failed:
    """Giving up keeps the cause of the last attempt: "expired" alone helps nobody."""
    status = last.status.with_kind(Kind.PERMANENT)
    return Failed(status, last.reason, last.host, last.reply, last.tls, expired=True)
