"""When to try again, when to tell the sender, when to give up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.mail.message import Claim, InlineBody, MessageId, Recipient
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import (
    JITTER,
    OnUnknown,
    Schedule,
    Schedules,
    SettledRecipient,
    first_review,
    longest_wait,
    review,
    settle,
)

ARRIVED = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
GENERAL = Schedule((5 * MINUTE, 15 * MINUTE, HOUR), 5 * DAY)
TLS = Schedule((15 * MINUTE, 30 * MINUTE), 2 * DAY, "retry.tls_policy_schedule", "retry.tls_policy_expire")
GREY = Schedule(
    (2 * MINUTE, 3 * MINUTE, 4 * MINUTE), 10 * DAY, "retry.greylisting_schedule", "retry.greylisting_expire"
)
SCHEDULES = Schedules(GENERAL, {Cause.TLS_POLICY: TLS, Cause.GREYLISTING: GREY}, (4 * HOUR, 1 * DAY, 3 * DAY))
LATER = Deferred(Status(Kind.TEMPORARY, 4, 1), "mx.b.test: connection refused", "mx.b.test", cause=Cause.OUTAGE)
NO_TLS = Deferred(Status(Kind.TEMPORARY, 7, 5), "the certificate expired", "mx.b.test", cause=Cause.TLS_POLICY)
GREYLISTED = Deferred(
    Status(Kind.TEMPORARY, 7, 1),
    "mx.b.test asks us to come again later",
    "mx.b.test",
    Reply.of(450, ("4.7.1 Greylisted",)),
)
LOST = Deferred(Status(Kind.TEMPORARY, 4, 2), "mx.b.test hung up", "mx.b.test", cause=Cause.UNKNOWN)
DONE = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("ok",)), "mx.b.test", TlsUsed.VERIFIED)
NEVER = Failed(Status(Kind.PERMANENT, 1, 1), "refused", "mx.b.test")


def claim(attempts: int = 1, told: int = 0, recipients: int = 1, last: Deferred | None = None) -> Claim:
    address = parse_address(b"r@b.test")
    return Claim(
        id=MessageId(1),
        sender=parse_address(b"s@a.test"),
        destination="b.test",
        recipients=tuple(Recipient(index, address, attempts, told, last=last) for index in range(recipients)),
        body=InlineBody(b""),
        arrived=ARRIVED,
        lease=1,
        lease_until=ARRIVED,
    )


def settled_at(
    age: timedelta, outcome: Outcome, of: Claim | None = None, schedules: Schedules = SCHEDULES
) -> SettledRecipient:
    """What is written down for the first recipient."""
    return settle(of or claim(), {0: outcome}, schedules, ARRIVED + age, 0.5).recipients[0]


# The waits.


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
    settled = settled_at(age, LATER, claim(attempts))
    assert settled.state is State.DEFERRED
    assert settled.next_attempt is not None
    assert abs(settled.next_attempt - ARRIVED - age - wait) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("outcome", "attempts", "last", "wait", "rule"),
    [
        (GREYLISTED, 1, None, 2 * MINUTE, "retry.greylisting_schedule, wait 1 of 3: 2m"),
        (GREYLISTED, 2, GREYLISTED, 3 * MINUTE, "retry.greylisting_schedule, wait 2 of 3: 3m"),
        (GREYLISTED, 3, GREYLISTED, 4 * MINUTE, "retry.greylisting_schedule, wait 3 of 3, which repeats: 4m"),
        (NO_TLS, 9, NO_TLS, 30 * MINUTE, "retry.tls_policy_schedule, wait 2 of 2, which repeats: 30m"),
        (LATER, 2, LATER, 15 * MINUTE, "retry.schedule, wait 2 of 3: 15m"),  # no schedule of its own
        (GREYLISTED, 3, LATER, 4 * MINUTE, "retry.greylisting_schedule, wait 3 of 3, which repeats: 4m"),  # in all
        (LOST, 1, None, 5 * MINUTE, "retry.schedule, wait 1 of 3: 5m"),
    ],
)
def test_each_cause_has_its_waits_and_the_rule_says_which(
    outcome: Deferred, attempts: int, last: Deferred | None, wait: timedelta, rule: str
) -> None:
    settled = settled_at(HOUR, outcome, claim(attempts, last=last))
    assert (settled.next_attempt, settled.rule) == (ARRIVED + HOUR + wait, rule)


def test_the_cause_is_written_down() -> None:
    assert [settled_at(HOUR, one).cause for one in (LATER, NO_TLS, GREYLISTED, LOST, DONE, NEVER)] == [
        Cause.OUTAGE,
        Cause.TLS_POLICY,
        Cause.GREYLISTING,
        Cause.UNKNOWN,
        None,
        None,
    ]


def test_a_wait_that_the_end_of_life_cuts_short_says_so() -> None:
    settled = settled_at(2 * DAY - MINUTE, NO_TLS, claim(9, last=NO_TLS))
    assert settled.next_attempt == settled.expires == ARRIVED + 2 * DAY
    assert settled.rule is not None and settled.rule.endswith("30m, cut short by retry.tls_policy_expire: 2d")


@pytest.mark.parametrize(
    ("attempts", "jitter", "seconds"),
    [(1, 0.0, 270), (1, 0.5, 300), (1, 1.0, 330), (2, 0.0, 810), (3, 0.25, 3420), (0, 0.5, 300)],
)
def test_a_delay_is_spread_over_ten_percent_either_way(attempts: int, jitter: float, seconds: int) -> None:
    assert abs(GENERAL.delay(attempts, jitter).total_seconds() - seconds) < 0.001


def test_the_longest_wait() -> None:
    assert longest_wait(SCHEDULES) == 66 * MINUTE
    assert longest_wait(Schedules(TLS, {Cause.DNS: Schedule((2 * HOUR, MINUTE), DAY)})) == 132 * MINUTE


def test_a_wait_that_ends_with_the_life_is_not_cut() -> None:
    settled = settled_at(2 * DAY - 30 * MINUTE, NO_TLS, claim(9, last=NO_TLS))
    assert settled.next_attempt == ARRIVED + 2 * DAY
    assert settled.rule == "retry.tls_policy_schedule, wait 2 of 2, which repeats: 30m"


def test_without_schedules_of_their_own_all_have_the_general_one() -> None:
    assert {Schedules(GENERAL).of(cause) for cause in (*Cause, None)} == {GENERAL}
    assert SCHEDULES.of(None) is GENERAL


def test_a_life_as_long_as_the_general_one_is_still_its_own() -> None:
    own = replace(TLS, expire=GENERAL.expire)
    assert Schedules(GENERAL, {Cause.TLS_POLICY: own}).of(Cause.TLS_POLICY) == own


def test_nothing_is_told_where_nothing_is_said() -> None:
    assert SettledRecipient(claim().recipients[0], State.QUEUED, LATER, None).delay_notices == 0


# The lifetimes.


@pytest.mark.parametrize(
    ("outcome", "life", "setting"),
    [
        (LATER, 5 * DAY, "retry.expire: 5d"),
        (NO_TLS, 2 * DAY, "retry.tls_policy_expire: 2d"),
        (GREYLISTED, 5 * DAY, "retry.expire: 5d"),  # its own is longer, and nothing is kept longer than retry.expire
    ],
)
def test_at_the_end_of_its_life_a_deferral_fails_with_its_cause(
    outcome: Deferred, life: timedelta, setting: str
) -> None:
    before, at = (settled_at(age, outcome, claim(9, last=outcome)) for age in (life - SECOND, life))
    assert before.state is State.DEFERRED
    assert (at.state, at.next_attempt, at.review, at.rule, at.expires) == (
        State.FAILED, None, None, setting, ARRIVED + life,
    )  # fmt: skip
    status = outcome.status.with_kind(Kind.PERMANENT)
    assert at.outcome == Failed(status, outcome.reason, outcome.host, outcome.reply, expired=True)
    assert at.cause is not None and at.cause is before.cause


@pytest.mark.parametrize("last", [None, LATER, GREYLISTED])
def test_nothing_is_given_up_at_the_first_sight_of_a_cause(last: Deferred | None) -> None:
    settled = settled_at(3 * DAY, NO_TLS, claim(9, last=last))
    assert (settled.state, settled.next_attempt) == (State.DEFERRED, ARRIVED + 3 * DAY + 30 * MINUTE)
    assert settled_at(3 * DAY + 30 * MINUTE, NO_TLS, claim(10, last=NO_TLS)).state is State.FAILED


@pytest.mark.parametrize("last", [None, LATER])
def test_the_first_sight_of_a_cause_at_the_very_end_of_its_life_and_before(last: Deferred | None) -> None:
    early, late = (settled_at(age, NO_TLS, claim(9, last=last)) for age in (HOUR, 2 * DAY))
    assert (early.expires, late.expires) == (ARRIVED + 2 * DAY, ARRIVED + 5 * DAY)
    assert late.state is State.DEFERRED


@pytest.mark.parametrize("last", [None, LATER, NO_TLS])
def test_unless_all_time_is_over(last: Deferred | None) -> None:
    settled = settled_at(5 * DAY, NO_TLS, claim(9, last=last))
    assert settled.state is State.FAILED
    assert settled.rule == ("retry.tls_policy_expire: 2d" if last is NO_TLS else "retry.expire: 5d")


def test_the_cause_of_the_attempt_before_is_read_from_its_reply_where_it_was_not_kept() -> None:
    short = replace(SCHEDULES, by_cause={Cause.GREYLISTING: replace(GREY, expire=DAY)})
    assert settled_at(2 * DAY, GREYLISTED, claim(9, last=GREYLISTED), short).state is State.FAILED
    assert settled_at(2 * DAY, GREYLISTED, claim(9, last=LATER), short).state is State.DEFERRED


# A reply that was lost.


def test_what_may_have_arrived_is_tried_again() -> None:
    assert settled_at(HOUR, LOST).state is State.DEFERRED


def test_or_held() -> None:
    schedules = replace(SCHEDULES, on_unknown=OnUnknown.HOLD)
    settled = settled_at(HOUR, LOST, schedules=schedules)
    assert (settled.state, settled.next_attempt, settled.outcome) == (State.HELD, None, LOST)
    assert settled.hold is not None and "may have arrived" in settled.hold
    assert (settled.rule, settled.cause) == ("retry.unknown = hold", Cause.UNKNOWN)
    assert (settled.review, settled.expires) == (ARRIVED + 4 * HOUR, ARRIVED + 5 * DAY)
    assert settled_at(DAY, LOST, schedules=schedules).delay_notices == 2
    assert settled_at(HOUR, LOST, schedules=replace(schedules, notices=())).review == ARRIVED + 5 * DAY
    for_ever = replace(schedules, expire_held=False, notices=())
    assert settled_at(HOUR, LOST, schedules=for_ever).review is None
    assert settled_at(HOUR, LATER, schedules=schedules).state is State.DEFERRED


def test_or_given_up_and_the_sender_hears_that_it_may_have_arrived() -> None:
    settled = settled_at(HOUR, LOST, schedules=replace(SCHEDULES, on_unknown=OnUnknown.FAIL))
    status = Status(Kind.PERMANENT, 4, 2)
    reason = "mx.b.test hung up; it may have arrived all the same"
    assert (settled.state, settled.outcome) == (State.FAILED, Failed(status, reason, "mx.b.test"))
    assert settled.rule == "retry.unknown = fail"
    assert settled_at(HOUR, LATER, schedules=replace(SCHEDULES, on_unknown=OnUnknown.FAIL)).state is State.DEFERRED


def test_what_may_have_arrived_says_so_when_it_expires() -> None:
    settled = settled_at(5 * DAY, LOST, claim(9, last=LOST))
    assert isinstance(settled.outcome, Failed) and settled.outcome.expired
    assert settled.outcome.reason == "mx.b.test hung up; it may have arrived all the same"
    said = replace(LOST, reason=settled.outcome.reason)  # not twice
    assert settled_at(5 * DAY, said, claim(9, last=said)).outcome == settled.outcome


# One by one.


@pytest.mark.parametrize(
    ("outcome", "state"), [(DONE, State.DELIVERED), (NEVER, State.FAILED), (LATER, State.DEFERRED)]
)
def test_states(outcome: Outcome, state: State) -> None:
    settled = settled_at(timedelta(0), outcome)
    assert settled.state is state
    assert (settled.next_attempt is None) == state.closed == (settled.review is None)


def test_recipients_are_settled_one_by_one() -> None:
    settlement = settle(claim(recipients=3), {0: DONE, 1: NEVER, 2: LATER}, SCHEDULES, ARRIVED, 0.0)
    assert [settled.state for settled in settlement.recipients] == [State.DELIVERED, State.FAILED, State.DEFERRED]
    assert [settled.recipient.index for settled in settlement.failed] == [1]
    assert settlement.delayed == ()


def test_a_missing_outcome_is_a_defect() -> None:
    with pytest.raises(KeyError):
        settle(claim(), {}, SCHEDULES, ARRIVED, 0.5)


# Delay notices.


@pytest.mark.parametrize(
    ("age", "told", "then", "review"),
    [
        (timedelta(0), 0, 0, 4 * HOUR),
        (timedelta(hours=3, minutes=59), 0, 0, 4 * HOUR),
        (4 * HOUR, 0, 1, DAY),
        (4 * HOUR, 1, 1, DAY),  # once
        (3 * HOUR, 1, 1, DAY),  # told before the time for it was made longer
        (2 * DAY, 0, 2, 3 * DAY),  # one notice for two that are due
        (2 * DAY, 1, 2, 3 * DAY),
        (4 * DAY, 2, 3, 5 * DAY),  # none is left: the next look is at the end
        (4 * DAY, 3, 3, 5 * DAY),
        (4 * DAY, 7, 7, 5 * DAY),  # there were more in the settings once
    ],
)
def test_delay_notices(age: timedelta, told: int, then: int, review: timedelta) -> None:
    settlement = settle(claim(5, told, last=LATER), {0: LATER}, SCHEDULES, ARRIVED + age, 0.5)
    [settled] = settlement.recipients
    assert (settled.delay_notices, settled.review) == (then, ARRIVED + review)
    assert (len(settlement.delayed) == 1) is (then > told)


@pytest.mark.parametrize("told", [0, 1])
def test_what_fails_at_its_end_is_told_by_that_notice_alone(told: int) -> None:
    settlement = settle(claim(5, told, last=LATER), {0: LATER}, SCHEDULES, ARRIVED + 6 * DAY, 0.5)
    assert (settlement.delayed, settlement.recipients[0].delay_notices) == ((), told)


@pytest.mark.parametrize("outcome", [DONE, NEVER])
@pytest.mark.parametrize("told", [0, 2])
def test_what_is_closed_was_told_of_or_not_as_before(outcome: Outcome, told: int) -> None:
    settlement = settle(claim(5, told), {0: outcome}, SCHEDULES, ARRIVED + 4 * DAY, 0.5)
    assert settlement.recipients[0].delay_notices == told
    assert settlement.delayed == ()


def test_no_delay_notice_when_none_is_wanted() -> None:
    settled = settled_at(4 * DAY, LATER, schedules=replace(SCHEDULES, notices=()))
    assert (settled.delay_notices, settled.review) == (0, ARRIVED + 5 * DAY)


def test_the_first_look_at_mail_that_was_never_tried() -> None:
    assert first_review(ARRIVED, SCHEDULES) == ARRIVED + 4 * HOUR
    assert first_review(ARRIVED, replace(SCHEDULES, notices=(9 * DAY,))) == ARRIVED + 5 * DAY
    assert first_review(ARRIVED, replace(SCHEDULES, notices=())) == ARRIVED + 5 * DAY


# TLS reports


@pytest.mark.parametrize(
    ("outcome", "schedules", "life", "rule"),
    [
        (LATER, SCHEDULES, 36 * HOUR, "the life of a TLS report: 36h"),
        (NO_TLS, SCHEDULES, 36 * HOUR, "the life of a TLS report: 36h"),
        (GREYLISTED, SCHEDULES, 36 * HOUR, "the life of a TLS report: 36h"),
        (LATER, replace(SCHEDULES, general=Schedule((HOUR,), DAY)), DAY, "retry.expire: 1d"),
        (LOST, replace(SCHEDULES, on_unknown=OnUnknown.HOLD), 36 * HOUR, "the life of a TLS report: 36h"),
    ],
)
def test_a_tls_report_is_given_up_sooner_and_nobody_hears_that_it_is_late(
    outcome: Deferred, schedules: Schedules, life: timedelta, rule: str
) -> None:
    report = replace(claim(5, last=outcome), report=True)
    (waits,) = settle(report, {0: outcome}, schedules, ARRIVED + life - SECOND, 0.5).recipients
    assert (waits.state, waits.next_attempt, waits.review) == (State.DEFERRED, ARRIVED + life, ARRIVED + life)
    assert waits.delay_notices == 0
    (ended,) = settle(report, {0: outcome}, schedules, ARRIVED + life, 0.5).recipients
    assert (ended.state, ended.rule) == (State.FAILED, rule)
    assert review(report, schedules, ARRIVED + life - SECOND).recipients[0].delay_notices == 0
    assert review(report, schedules, ARRIVED + life).recipients[0].state is State.FAILED


# Schedules that cannot be, and the least that can.


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
        Schedule(delays, expire)


def test_the_shortest_schedule() -> None:
    shortest = Schedule((timedelta.resolution,), timedelta.resolution)
    assert shortest.delay(1, 0.0) > timedelta(0)


# What holds for all of them.

spans = st.timedeltas(SECOND, 10 * DAY).map(lambda span: timedelta(seconds=int(span.total_seconds())))
delays = st.lists(spans, min_size=1, max_size=5).map(tuple)
jitters = st.floats(0, 1, exclude_max=True)
deferrals = st.builds(lambda cause: replace(LATER, cause=cause), st.sampled_from(Cause))
schedules = st.builds(
    Schedules,
    st.builds(Schedule, delays, spans),
    st.dictionaries(
        st.sampled_from([cause for cause in Cause if cause is not Cause.OTHER]), st.builds(Schedule, delays, spans)
    ),
    st.lists(spans, max_size=4).map(lambda ages: tuple(sorted(ages))),
)


@given(schedules, deferrals, st.none() | deferrals, st.integers(1, 1000), jitters, st.integers(0, 11 * 86400))
def test_the_next_attempt_is_ahead_near_the_schedule_and_never_past_the_end(
    schedules: Schedules, outcome: Deferred, last: Deferred | None, attempts: int, jitter: float, age: int
) -> None:
    """Also: the integers are not truncated to a wait of nothing, and the next look is ahead too."""
    now = ARRIVED + timedelta(seconds=age)
    [settled] = settle(claim(attempts, last=last), {0: outcome}, schedules, now, jitter).recipients
    if settled.state is State.FAILED:
        assert settled.expires is not None and now >= settled.expires
        return
    schedule = schedules.of(outcome.cause)
    plain = schedule.delays[min(attempts, len(schedule.delays)) - 1]
    assert settled.next_attempt is not None and settled.expires is not None and settled.review is not None
    assert now < settled.next_attempt <= settled.expires <= ARRIVED + schedules.general.expire
    assert settled.next_attempt - now <= longest_wait(schedules)
    assert settled.next_attempt - now <= plain * (1 + JITTER / 2) + timedelta.resolution
    if settled.next_attempt < settled.expires:
        assert settled.next_attempt - now >= plain * (1 - JITTER / 2) - timedelta.resolution
    assert now < settled.review <= settled.expires


@given(schedules, deferrals, st.none() | deferrals, st.integers(0, 11 * 86400))
def test_a_change_of_cause_never_ends_a_life_that_is_not_over(
    schedules: Schedules, outcome: Deferred, last: Deferred | None, age: int
) -> None:
    now = ARRIVED + timedelta(seconds=age)
    [settled] = settle(claim(9, last=last), {0: outcome}, schedules, now, 0.5).recipients
    if settled.state is State.FAILED and (last is None or last.cause is not outcome.cause):
        assert now >= ARRIVED + schedules.general.expire


@given(schedules, st.lists(deferrals, min_size=1, max_size=6), jitters)
def test_whatever_the_causes_it_ends_and_in_time(schedules: Schedules, outcomes: list[Deferred], jitter: float) -> None:
    """A message's life, tried whenever its time comes, until it fails: told of each age at most once."""
    now, attempts, told, last = ARRIVED, 1, 0, None
    while True:
        outcome = outcomes[attempts % len(outcomes)]
        settlement = settle(claim(attempts, told, last=last), {0: outcome}, schedules, now, jitter)
        [settled] = settlement.recipients
        assert settled.cause is outcome.cause and settled.delay_notices in range(told, len(schedules.notices) + 1)
        assert (settled in settlement.failed) is (settled.next_attempt is None)
        if settled.next_attempt is None:
            break
        assert settled.next_attempt > now
        # Of short waits only some, lest the test take as long as the mail does.
        now = max(settled.next_attempt, now + schedules.general.expire / 50)
        attempts, told, last = attempts + 1, settled.delay_notices, outcome
    assert attempts <= 52 and settled.state is State.FAILED
    assert isinstance(settled.outcome, Failed) and settled.outcome.expired
