"""What senders ask of time, in the decision: a life begins at the release, and ends or is late at the time for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.mail.message import Claim, DeliverBy, InlineBody, MessageId, Recipient
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import (
    EXPIRED_5_4_7,
    SENDERS_LIMIT,
    OnUnknown,
    Schedule,
    Schedules,
    SettledRecipient,
    all_missed,
    review,
    settle,
)

ARRIVED = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (
    timedelta(seconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
SCHEDULES = Schedules(Schedule((5 * MINUTE, HOUR), 5 * DAY), notices=(4 * HOUR, DAY))
LATER = Deferred(Status(Kind.TEMPORARY, 4, 1), "mx.b.test: connection refused", "mx.b.test", cause=Cause.OUTAGE)
GREY = Deferred(Status(Kind.TEMPORARY, 7, 1), "mx asks us to come again", "mx.b.test", Reply.of(450, ("4.7.1 grey",)))
LOST = Deferred(Status(Kind.TEMPORARY, 4, 2), "mx.b.test hung up", "mx.b.test", cause=Cause.UNKNOWN)
DONE = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("ok",)), "mx.b.test", TlsUsed.NONE)
RETURN, NOTIFY = DeliverBy(ARRIVED + HOUR, returns=True), DeliverBy(ARRIVED + HOUR)


def claim(
    by: DeliverBy | None = None, last: Deferred | None = None, told: int = 0, release: datetime | None = None
) -> Claim:
    return Claim(
        id=MessageId(1),
        sender=parse_address(b"s@a.test"),
        destination="b.test",
        recipients=(Recipient(0, parse_address(b"r@b.test"), 1, told, last=last),),
        body=InlineBody(b""),
        arrived=ARRIVED,
        lease=1,
        lease_until=ARRIVED,
        release=release,
        deliver_by=by,
    )


def settled_at(age: timedelta, of: Claim, outcome: Deferred | Delivered = LATER) -> SettledRecipient:
    return settle(of, {0: outcome}, SCHEDULES, ARRIVED + age, 0.5).recipients[0]


def reviewed_at(age: timedelta, of: Claim, *, held: bool = False) -> SettledRecipient:
    return review(of, SCHEDULES, ARRIVED + age, held=held).recipients[0]


# To come back at a time (mode R)


@pytest.mark.parametrize("last", [None, LATER, GREY])
def test_it_comes_back_when_its_time_is_over(last: Deferred | None) -> None:
    """With the status that RFC 2852 asks for, and all that is known of why."""
    settled = settled_at(HOUR, claim(RETURN, last), GREY)
    assert (settled.state, settled.rule, settled.expires) == (State.FAILED, SENDERS_LIMIT, RETURN.time)
    outcome = settled.outcome
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.reply, outcome.host, outcome.expired) == (
        EXPIRED_5_4_7,
        GREY.reply,
        "mx.b.test",
        True,
    )
    assert outcome.reason == (
        "it was to be delivered by 2030-01-01 13:00:00 UTC, as its sender asked: mx asks us to come again"
    )


def test_the_last_wait_ends_there() -> None:
    settled = settled_at(58 * MINUTE, claim(RETURN))
    assert (settled.state, settled.next_attempt, settled.expires) == (State.DEFERRED, RETURN.time, RETURN.time)
    assert settled.rule == f"retry.schedule, wait 1 of 2: 5m, cut short by {SENDERS_LIMIT}"
    assert settled.review == RETURN.time


def test_before_it_all_is_as_ever() -> None:
    early, plain = settled_at(MINUTE, claim(RETURN)), settled_at(MINUTE, claim())
    assert (early.next_attempt, early.rule, early.delay_notices) == (plain.next_attempt, plain.rule, 0)


def test_a_time_beyond_our_own_changes_nothing() -> None:
    """RFC 2852 section 4: it does not extend the normal retention."""
    late = DeliverBy(ARRIVED + 30 * DAY, returns=True)
    assert settled_at(5 * DAY, claim(late, LATER)) == replace(
        settled_at(5 * DAY, claim(None, LATER)), recipient=claim(late, LATER).recipients[0]
    )


@pytest.mark.parametrize("held", [False, True])
def test_without_a_try_it_comes_back_too(held: bool) -> None:
    assert reviewed_at(HOUR - SECOND, claim(RETURN), held=held).state is not State.FAILED
    settled = reviewed_at(HOUR, claim(RETURN), held=held)
    assert (settled.state, settled.outcome.status, settled.rule) == (State.FAILED, EXPIRED_5_4_7, SENDERS_LIMIT)


def test_even_where_mail_on_hold_never_expires() -> None:
    for_ever = replace(SCHEDULES, expire_held=False)
    assert review(claim(RETURN), for_ever, ARRIVED + HOUR, held=True).failed
    assert not review(claim(NOTIFY), for_ever, ARRIVED + 100 * DAY, held=True).failed


def test_a_lost_reply_on_hold_comes_back() -> None:
    hold = replace(SCHEDULES, on_unknown=OnUnknown.HOLD)
    settled = settle(claim(RETURN), {0: LOST}, hold, ARRIVED + MINUTE, 0.5).recipients[0]
    assert (settled.state, settled.expires, settled.review) == (State.HELD, RETURN.time, RETURN.time)


def test_what_arrives_in_the_last_moment_has_arrived() -> None:
    assert settled_at(2 * HOUR, claim(RETURN), DONE).state is State.DELIVERED


def test_no_attempt_is_begun_when_the_time_is_over() -> None:
    assert all_missed(claim(RETURN), RETURN.time - SECOND) == {}
    assert all_missed(claim(NOTIFY), RETURN.time + DAY) == {}
    assert all_missed(claim(), RETURN.time + DAY) == {}
    untried, tried = all_missed(claim(RETURN), RETURN.time)[0], all_missed(claim(RETURN, GREY), RETURN.time)[0]
    for failed in (untried, tried):
        assert isinstance(failed, Failed)
        assert failed.status == EXPIRED_5_4_7
        assert failed.expired
    assert isinstance(untried, Failed)
    assert untried.reason.endswith("as its sender asked: it could not be tried before that")
    assert tried.reply == GREY.reply


# To be told of at a time (mode N)


def test_its_sender_hears_when_the_time_is_over_and_it_goes_on() -> None:
    settled = settled_at(HOUR, claim(NOTIFY))
    assert (settled.state, settled.delay_notices, settled.overdue) == (State.DEFERRED, 1, True)
    assert settled.review == ARRIVED + 4 * HOUR
    assert settled.expires == ARRIVED + 5 * DAY


@pytest.mark.parametrize(
    ("age", "told", "now_told", "overdue"),
    [
        (HOUR - SECOND, 0, 0, False),
        (HOUR, 0, 1, True),
        (HOUR + MINUTE, 1, 1, False),
        (4 * HOUR, 1, 2, False),
        (4 * HOUR, 0, 2, True),  # nobody has looked before: one notice for both
        (DAY, 2, 3, False),
        (4 * DAY, 3, 3, False),
    ],
)
def test_it_is_one_of_the_times_at_which_the_sender_hears(
    age: timedelta, told: int, now_told: int, overdue: bool
) -> None:
    for settled in (settled_at(age, claim(NOTIFY, LATER, told)), reviewed_at(age, claim(NOTIFY, LATER, told))):
        assert (settled.delay_notices, settled.overdue) == (now_told, overdue)


def test_between_two_notices_of_ours() -> None:
    by = DeliverBy(ARRIVED + 5 * HOUR)
    assert (settled_at(4 * HOUR, claim(by)).delay_notices, settled_at(4 * HOUR, claim(by)).overdue) == (1, False)
    assert (settled_at(5 * HOUR, claim(by, LATER, 1)).delay_notices, settled_at(5 * HOUR, claim(by)).overdue) == (
        2,
        True,
    )
    assert settled_at(4 * HOUR, claim(by)).review == by.time


@pytest.mark.parametrize("seconds", [0, -1, -999_999_999])
def test_a_time_that_was_over_before_tells_nothing_new(seconds: int) -> None:
    """RFC 2852 section 4: who sent it on has told."""
    settled = settled_at(MINUTE, claim(DeliverBy(ARRIVED + seconds * SECOND)))
    assert (settled.delay_notices, settled.overdue) == (0, False)


def test_without_notices_of_ours_there_is_still_this_one() -> None:
    silent = replace(SCHEDULES, notices=())
    settled = settle(claim(NOTIFY), {0: LATER}, silent, ARRIVED + HOUR, 0.5).recipients[0]
    assert (settled.delay_notices, settled.overdue) == (1, True)


# Released later


def test_its_life_begins_when_it_is_released() -> None:
    release = ARRIVED + 20 * DAY
    of = claim(release=release)
    settled = settled_at(20 * DAY, of)
    assert (settled.state, settled.expires, settled.delay_notices) == (State.DEFERRED, release + 5 * DAY, 0)
    assert settled.review == release + 4 * HOUR
    assert settled_at(25 * DAY - SECOND, claim(release=release, last=LATER)).state is State.DEFERRED
    assert settled_at(25 * DAY, claim(release=release, last=LATER)).state is State.FAILED


def test_a_release_before_it_came_makes_it_no_older() -> None:
    of = claim(release=ARRIVED - 30 * DAY)
    assert settled_at(MINUTE, of).expires == ARRIVED + 5 * DAY


@given(
    by=st.none() | st.builds(DeliverBy, st.just(ARRIVED) | st.datetimes(timezones=st.just(UTC)), st.booleans()),
    release=st.none() | st.integers(-100, 10**6).map(lambda seconds: ARRIVED + seconds * SECOND),
    age=st.integers(0, 10**6),
    told=st.integers(0, 3),
    held=st.booleans(),
)
def test_nothing_that_waits_is_forgotten(
    by: DeliverBy | None, release: datetime | None, age: int, told: int, held: bool
) -> None:
    """What goes on is looked at again, later than now, and not after its end; notices never go back."""
    now = ARRIVED + age * SECOND
    for settled in (
        settle(claim(by, LATER, told, release), {0: LATER}, SCHEDULES, now, 0.5).recipients[0],
        review(claim(by, LATER, told, release), SCHEDULES, now, held=held).recipients[0],
    ):
        if settled.state is State.FAILED:
            continue
        assert settled.delay_notices >= told
        assert settled.expires is not None
        assert settled.review is not None
        assert now < settled.review <= settled.expires
        if by is not None and by.returns:
            assert settled.expires <= by.time
        assert not (settled.overdue and settled.delay_notices == told)
