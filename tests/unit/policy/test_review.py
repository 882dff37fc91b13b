"""What becomes of mail that is looked at without being tried: its destination rests, or it is on hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.mail.message import Claim, InlineBody, MessageId, Recipient
from relay.mail.outcome import Cause, Deferred, Failed, State
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import Schedule, Schedules, SettledRecipient, review

ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
TLS = Schedule((HOUR,), 2 * DAY, "retry.tls_policy_schedule", "retry.tls_policy_expire")
SCHEDULES = Schedules(Schedule((HOUR,), 5 * DAY), {Cause.TLS_POLICY: TLS}, (4 * HOUR, DAY))
REFUSED = Deferred(Status(Kind.TEMPORARY, 4, 1), "mx.b.test: connection refused", cause=Cause.OUTAGE)
TIMED_OUT = Deferred(Status(Kind.TEMPORARY, 4, 1), "mx2.b.test: timed out", "mx2.b.test", cause=Cause.OUTAGE)
NO_TLS = Deferred(Status(Kind.TEMPORARY, 7, 5), "the certificate expired", "mx.b.test", cause=Cause.TLS_POLICY)
FULL = Deferred(
    Status(Kind.TEMPORARY, 2, 2), "mx.b.test asks us to come again later", "mx.b.test", Reply.of(452, ("4.2.2 full",))
)


def claim(last: Deferred | None, told: int = 0) -> Claim:
    return Claim(
        id=MessageId(1),
        sender=parse_address(b"s@a.test"),
        destination="b.test",
        recipients=(Recipient(0, parse_address(b"r@b.test"), 3, told, last=last),),
        body=InlineBody(b""),
        arrived=ARRIVED,
        lease=1,
        lease_until=ARRIVED,
    )


def reviewed(
    age: timedelta,
    last: Deferred | None = None,
    resting: Deferred | None = None,
    *,
    held: bool = False,
    schedules: Schedules = SCHEDULES,
) -> SettledRecipient:
    return review(claim(last), schedules, ARRIVED + age, resting, held=held).recipients[0]


@pytest.mark.parametrize(
    ("last", "resting", "life", "failed", "rule"),
    [
        (FULL, None, 5 * DAY, ("5.2.2", FULL.reason), "retry.expire: 5d"),
        (NO_TLS, None, 2 * DAY, ("5.7.5", NO_TLS.reason), "retry.tls_policy_expire: 2d"),
        # The rest is the newer trouble; of the same trouble its own attempt tells more.
        (NO_TLS, REFUSED, 5 * DAY, ("5.4.1", REFUSED.reason), "retry.expire: 5d"),
        (TIMED_OUT, REFUSED, 5 * DAY, ("5.4.1", TIMED_OUT.reason), "retry.expire: 5d"),
        (
            None,
            REFUSED,
            5 * DAY,
            ("5.4.1", f"it could not be tried before its time ran out: {REFUSED.reason}"),
            "retry.expire: 5d",
        ),
        (None, None, 5 * DAY, ("5.4.7", "its time ran out before it could be tried"), "retry.expire: 5d"),
    ],
)
def test_at_the_end_of_its_life_it_fails_with_what_is_known(
    last: Deferred | None, resting: Deferred | None, life: timedelta, failed: tuple[str, str], rule: str
) -> None:
    assert not reviewed(life - SECOND, last, resting).state.closed
    settled = reviewed(life, last, resting)
    assert isinstance(settled.outcome, Failed) and settled.outcome.expired
    assert (str(settled.outcome.status), settled.outcome.reason) == failed
    assert (settled.state, settled.rule, settled.review, settled.expires) == (State.FAILED, rule, None, ARRIVED + life)
    if last is FULL:
        assert (settled.outcome.host, settled.outcome.reply) == (FULL.host, FULL.reply)


@pytest.mark.parametrize(
    ("last", "resting", "held", "state", "said"),
    [
        (FULL, None, False, State.DEFERRED, FULL),
        (FULL, REFUSED, False, State.DEFERRED, REFUSED),
        (None, REFUSED, False, State.QUEUED, REFUSED),
        (FULL, None, True, State.HELD, FULL),
        (None, None, True, State.HELD, None),
        (None, None, False, State.QUEUED, None),
    ],
)
def test_before_that_the_sender_hears_that_it_is_late(
    last: Deferred | None, resting: Deferred | None, held: bool, state: State, said: Deferred | None
) -> None:
    for age, told, then, again in (
        (HOUR, 0, 0, 4 * HOUR),
        (4 * HOUR, 0, 1, DAY),
        (DAY, 1, 2, 5 * DAY),
        (DAY, 2, 2, 5 * DAY),
    ):
        settlement = review(claim(last, told), SCHEDULES, ARRIVED + age, resting, held=held)
        [settled] = settlement.recipients
        assert (settled.state, settled.next_attempt) == (state, None)
        assert (settled.delay_notices, settled.review) == (then, ARRIVED + again)
        assert settled.expires == ARRIVED + 5 * DAY
        assert (settled in settlement.delayed) is (then > told)
        assert isinstance(settled.outcome, Deferred)
        assert settled.outcome == said or (said is None and "has not been tried yet" in settled.outcome.reason)


def test_mail_on_hold_expires_as_all_mail_does_unless_it_is_not_to() -> None:
    settled = reviewed(5 * DAY, held=True)
    assert (settled.state, str(settled.outcome.status)) == (State.FAILED, "5.4.7")
    assert isinstance(settled.outcome, Failed) and "on hold" in settled.outcome.reason
    for_ever = replace(SCHEDULES, expire_held=False)
    kept = reviewed(9 * DAY, FULL, held=True, schedules=for_ever)
    assert (kept.state, kept.review, kept.expires, kept.delay_notices) == (State.HELD, None, None, 2)
    assert reviewed(HOUR, FULL, held=True, schedules=for_ever).review == ARRIVED + 4 * HOUR
    # That is for mail on hold alone.
    assert reviewed(9 * DAY, FULL, schedules=for_ever).state is State.FAILED
    assert review(claim(FULL), for_ever, ARRIVED + 9 * DAY).recipients[0].state is State.FAILED


deferrals = st.none() | st.builds(lambda cause: replace(REFUSED, cause=cause), st.sampled_from(Cause))


@given(st.integers(0, 6 * 86400), deferrals, deferrals, st.booleans(), st.integers(0, 3))
def test_nobody_is_kept_past_the_end_and_the_next_look_is_ahead(
    age: int, last: Deferred | None, resting: Deferred | None, held: bool, told: int
) -> None:
    now = ARRIVED + timedelta(seconds=age)
    [settled] = review(claim(last, told), SCHEDULES, now, resting, held=held).recipients
    assert settled.state.closed or now < ARRIVED + 5 * DAY
    assert not settled.state.closed or settled.state is State.FAILED
    assert settled.state.closed or (settled.review is not None and settled.review > now)
