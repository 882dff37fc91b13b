"""When to try again, when to tell the sender, when to give up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.mail.message import Claim, InlineBody, MessageId, Recipient
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import JITTER, Schedule, settle

ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCHEDULE = Schedule((5 * MINUTE, 15 * MINUTE, 60 * MINUTE), timedelta(days=5), timedelta(hours=4))
LATER = Deferred(Status(Kind.TEMPORARY, 7, 5), "the certificate expired", "mx.b.test")
DONE = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("ok",)), "mx.b.test", TlsUsed.VERIFIED)
NEVER = Failed(Status(Kind.PERMANENT, 1, 1), "refused", "mx.b.test")


def claim(attempts: int = 1, delay_notices: bool = False, recipients: int = 1) -> Claim:
    address = parse_address(b"r@b.test")
    return Claim(
        id=MessageId(1),
        sender=parse_address(b"s@a.test"),
        destination="b.test",
        recipients=tuple(Recipient(index, address, attempts, delay_notices) for index in range(recipients)),
        body=InlineBody(b""),
        arrived=ARRIVED,
        lease=1,
        lease_until=ARRIVED,
    )


@pytest.mark.parametrize(
    ("attempts", "age", "wait"),
    [
        (1, timedelta(0), 5 * MINUTE),
        (2, 5 * MINUTE, 15 * MINUTE),
        (3, 20 * MINUTE, 60 * MINUTE),
        (4, 80 * MINUTE, 60 * MINUTE),  # the last one repeats
        (400, timedelta(days=4), 60 * MINUTE),
        (400, timedelta(days=5) - MINUTE, MINUTE),  # the last wait ends where the message's life ends
    ],
)
def test_waits(attempts: int, age: timedelta, wait: timedelta) -> None:
    now = ARRIVED + age
    [settled] = settle(claim(attempts), {0: LATER}, SCHEDULE, now, jitter=0.5).recipients
    assert settled.state is State.DEFERRED
    assert settled.next_attempt is not None
    assert abs(settled.next_attempt - now - wait) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("attempts", "jitter", "seconds"),
    [(1, 0.0, 270), (1, 0.5, 300), (1, 1.0, 330), (2, 0.0, 810), (3, 0.25, 3420), (0, 0.5, 300)],
)
def test_a_delay_is_spread_over_ten_percent_either_way(attempts: int, jitter: float, seconds: int) -> None:
    assert abs(SCHEDULE.delay(attempts, jitter).total_seconds() - seconds) < 0.001


def test_at_the_end_of_its_life_a_deferral_fails_with_its_cause() -> None:
    [settled] = settle(claim(9), {0: LATER}, SCHEDULE, ARRIVED + timedelta(days=5), 0.5).recipients
    assert settled.state is State.FAILED
    assert settled.next_attempt is None
    assert settled.outcome == Failed(Status(Kind.PERMANENT, 7, 5), LATER.reason, LATER.host, expired=True)


@pytest.mark.parametrize(
    ("outcome", "state"), [(DONE, State.DELIVERED), (NEVER, State.FAILED), (LATER, State.DEFERRED)]
)
def test_states(outcome: Outcome, state: State) -> None:
    [settled] = settle(claim(), {0: outcome}, SCHEDULE, ARRIVED, 0.0).recipients
    assert settled.state is state
    assert (settled.next_attempt is None) == state.closed


def test_recipients_are_settled_one_by_one() -> None:
    settlement = settle(claim(recipients=3), {0: DONE, 1: NEVER, 2: LATER}, SCHEDULE, ARRIVED, 0.0)
    assert [settled.state for settled in settlement.recipients] == [State.DELIVERED, State.FAILED, State.DEFERRED]
    assert [settled.recipient.index for settled in settlement.failed] == [1]
    assert settlement.delayed == ()


@pytest.mark.parametrize(
    ("age", "notified", "due"),
    [
        (timedelta(hours=3, minutes=59), False, False),
        (timedelta(hours=4), False, True),
        (timedelta(hours=4), True, False),  # once
        (timedelta(hours=3), True, False),  # told before the time for it was made longer
        (timedelta(days=6), True, False),
        (timedelta(days=6), False, False),  # it fails now: that notice says it
    ],
)
def test_delay_notice(age: timedelta, notified: bool, due: bool) -> None:
    settlement = settle(claim(5, notified), {0: LATER}, SCHEDULE, ARRIVED + age, 0.5)
    assert (len(settlement.delayed) == 1) is due
    assert settlement.recipients[0].delay_notices == int(notified or due)


@pytest.mark.parametrize("outcome", [DONE, NEVER])
@pytest.mark.parametrize("notified", [True, False])
def test_what_is_closed_was_told_of_or_not_as_before(outcome: Outcome, notified: bool) -> None:
    settlement = settle(claim(5, notified), {0: outcome}, SCHEDULE, ARRIVED + timedelta(days=1), 0.5)
    assert settlement.recipients[0].delay_notices == int(notified)
    assert settlement.delayed == ()


def test_no_delay_notice_when_none_is_wanted() -> None:
    schedule = Schedule(SCHEDULE.delays, SCHEDULE.expire, None)
    assert settle(claim(5), {0: LATER}, schedule, ARRIVED + timedelta(days=4), 0.5).delayed == ()


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True), st.integers(0, 5 * 86400 - 1))
def test_the_next_attempt_is_always_ahead_and_never_past_the_end(attempts: int, jitter: float, age: int) -> None:
    now = ARRIVED + timedelta(seconds=age)
    [settled] = settle(claim(attempts), {0: LATER}, SCHEDULE, now, jitter).recipients
    assert settled.next_attempt is not None
    assert now < settled.next_attempt <= ARRIVED + SCHEDULE.expire


@given(st.integers(1, 10), st.floats(0, 1, exclude_max=True))
def test_jitter_keeps_near_the_schedule(attempts: int, jitter: float) -> None:
    plain = SCHEDULE.delay(attempts, 0.5)
    assert plain * (1 - JITTER) <= SCHEDULE.delay(attempts, jitter) <= plain * (1 + JITTER)
    assert SCHEDULE.delay(attempts, jitter) <= SCHEDULE.delay(attempts + 1, jitter) * 1.0001


def test_a_missing_outcome_is_a_defect() -> None:
    with pytest.raises(KeyError):
        settle(claim(), {}, SCHEDULE, ARRIVED, 0.5)


@pytest.mark.parametrize(
    ("delays", "expire"),
    [
        ((), MINUTE),
        ((timedelta(0),), MINUTE),
        ((-MINUTE,), MINUTE),
        ((MINUTE, timedelta(0)), MINUTE),
        ((MINUTE,), timedelta(0)),
        ((MINUTE,), -MINUTE),
    ],
)
def test_schedules_that_cannot_be(delays: tuple[timedelta, ...], expire: timedelta) -> None:
    with pytest.raises(ValueError, match="greater than zero"):
        Schedule(delays, expire, None)


def test_the_shortest_schedule() -> None:
    assert Schedule((timedelta.resolution,), timedelta.resolution, None)
