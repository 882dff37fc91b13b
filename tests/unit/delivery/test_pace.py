"""What a destination is given: a table of what attempts said, and what came of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.pace import FIRST_REST, JITTER, LONGEST_REST, START, Pace, Sign, sign_of
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome, TlsUsed
from relay.mail.status import Kind, Reply, Status

NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
MIDDLE = 0.5  # of the jitter: the plain length

OK = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("ok",)), "mx.test", TlsUsed.NONE)
NO_SUCH_USER = Failed(Status(Kind.PERMANENT, 1, 1), "no such user", "mx.test", Reply.of(550, ("who?",)))
NO_DOMAIN = Failed(Status(Kind.PERMANENT, 1, 2), "no such domain")
SILENT = Deferred(Status(Kind.TEMPORARY, 4, 1), "nobody answers")
ASKED = Deferred(Status(Kind.TEMPORARY, 2, 1), "mailbox busy", "mx.test", Reply.of(450, ("busy",)))
CLOSING = Deferred(Status(Kind.TEMPORARY, 3, 2), "shutting down", "mx.test", Reply.of(421, ("4.3.2 bye",)))
TURNED_AWAY = Deferred(Status(Kind.TEMPORARY, 0, 0), "no service", "mx.test", Reply.of(554, ("no",)))


@pytest.mark.parametrize(
    ("results", "sign"),
    [
        ([(OK, None)], Sign.REACHED),
        ([(NO_SUCH_USER, None)], Sign.REACHED),
        ([(ASKED, Cause.MAILBOX_FULL)], Sign.REACHED),
        ([(ASKED, Cause.GREYLISTING)], Sign.REACHED),
        ([(NO_DOMAIN, None)], Sign.NONE),
        ([(SILENT, Cause.LOCAL)], Sign.NONE),
        ([(SILENT, Cause.DNS)], Sign.NONE),
        ([(SILENT, None)], Sign.NONE),
        ([(SILENT, Cause.OUTAGE)], Sign.TROUBLE),
        ([(SILENT, Cause.TLS_POLICY)], Sign.TROUBLE),
        ([(SILENT, Cause.LOGIN)], Sign.TROUBLE),
        ([(SILENT, Cause.OUTAGE), (SILENT, Cause.TLS_POLICY)], Sign.TROUBLE),
        ([(ASKED, Cause.THROTTLING)], Sign.BUSY),
        ([(OK, None), (ASKED, Cause.THROTTLING)], Sign.BUSY),
        ([(OK, None), (SILENT, Cause.OUTAGE)], Sign.REACHED),
        ([(SILENT, Cause.OUTAGE), (ASKED, Cause.THROTTLING)], Sign.BUSY),
        ([(ASKED, Cause.MAILBOX_FULL), (SILENT, Cause.OUTAGE)], Sign.REACHED),
        ([(ASKED, Cause.OUTAGE)], Sign.REACHED),  # said of one recipient: 451 4.3.0 lookup failure
        ([(ASKED, Cause.LOGIN)], Sign.TROUBLE),
        ([(CLOSING, Cause.OUTAGE)], Sign.TROUBLE),
        ([(TURNED_AWAY, Cause.OUTAGE)], Sign.TROUBLE),
        ([(TURNED_AWAY, Cause.REPUTATION)], Sign.REACHED),
        ([], Sign.NONE),
    ],
)
def test_what_an_attempt_says(results: list[tuple[Outcome, Cause | None]], sign: Sign) -> None:
    outcomes = {index: outcome for index, (outcome, _) in enumerate(results)}
    assert sign_of(outcomes, {index: cause for index, (_, cause) in enumerate(results)}) is sign


SIGNS = {"+": Sign.REACHED, "-": Sign.TROUBLE, "<": Sign.BUSY, ".": Sign.NONE}


def told(pace: Pace, signs: str, now: datetime = NOON) -> list[int]:
    """After each attempt, a second apart: how many there may be at once, or how many minutes it rests, as a minus."""
    found = []
    for sign in signs:
        now += SECOND
        rest = pace.learn(SIGNS[sign], now - SECOND / 2, now, MIDDLE)
        found.append(pace.at_once if rest is None else -(rest // MINUTE))
    return found


@pytest.mark.parametrize(
    ("most", "signs", "expected"),
    [
        (20, "", []),
        (20, "+" * 17, [*range(6, 21), 20, 20]),
        (20, "-" + "+" * 9, [4] * 5 + [5] * 5),  # after trouble it grows with a whole round of success only
        (20, "+-+", [6, 5, 5]),
        (5, "+++", [5, 5, 5]),
        (20, "....", [5, 5, 5, 5]),
        (20, "<", [2]),
        (20, "<<<<", [2, 1, 1, -1]),
        (20, "<+<+<+", [2, 2, 1, 2, 1, 2]),  # that now and then it asks for less makes it no destination that is down
        (20, "---", [4, 3, -1]),
        (20, "--+--+--+", [4, 3, 3, 2, -1, 5, 4, 3, 3]),
        (1, "--", [1, -1]),
        (2, "--", [1, -1]),
        (1, "-+-+-+", [1] * 6),
        (20, "--------", [4, 3, -1, -2, -4, -8, -15, -15]),
        (20, "---+", [4, 3, -1, 5]),
        (20, "---.", [4, 3, -1, 1]),
        (20, "----+---", [4, 3, -1, -2, 5, 4, 3, -1]),
        (20, "---<", [4, 3, -1, -2]),
        (3, "---+", [2, -1, -2, 3]),
    ],
)
def test_what_a_destination_is_given(most: int, signs: str, expected: list[int]) -> None:
    assert told(Pace(most), signs) == expected


def test_it_grows_to_the_most_and_halves() -> None:
    pace = Pace(20)
    for _ in range(400):
        pace.learn(Sign.REACHED, NOON, NOON, MIDDLE)
    assert pace.at_once == 20
    assert told(pace, "<<") == [10, 5]


def test_what_failed_along_with_what_began_a_rest_says_nothing_new() -> None:
    """Twenty attempts that meet a dead host together are one failure, and it rests a minute, not a quarter of an hour.

    One of them may take longer than the rest, too.
    """
    pace = Pace(20)
    for _ in range(400):
        pace.learn(Sign.REACHED, NOON, NOON, MIDDLE)
    later = NOON + MINUTE
    rests = [pace.learn(Sign.TROUBLE, NOON, later + number * SECOND, MIDDLE) for number in range(20)]
    assert [rest for rest in rests if rest is not None] == [FIRST_REST]
    assert pace.rests == 1
    probe = later + 2 * MINUTE
    assert pace.learn(Sign.BUSY, NOON, probe, MIDDLE) is None
    assert pace.learn(Sign.TROUBLE, probe, probe + SECOND, MIDDLE) == 2 * MINUTE


def test_what_began_before_a_rest_and_arrived_ends_it() -> None:
    pace = Pace(5)
    assert told(pace, "---") == [4, 3, -1]
    assert pace.since is not None
    assert pace.learn(Sign.REACHED, NOON, NOON + MINUTE, MIDDLE) is None
    assert (pace.rests, pace.at_once) == (0, 5)
    assert pace.is_new


def test_a_rest_is_since_the_first_of_them() -> None:
    pace = Pace(1)
    told(pace, "---", NOON)
    assert pace.since == NOON + 2 * SECOND
    assert pace.rests == 2


def test_after_a_restart_one_message_is_tried_first() -> None:
    pace = Pace(20)
    pace.resumed(3, NOON)
    assert (pace.at_once, pace.rests, pace.since) == (1, 3, NOON)
    assert not pace.is_new
    assert told(pace, "-") == [-8]
    assert told(pace, "+") == [START]


@given(st.integers(1, 50), st.text(list(SIGNS), max_size=60), st.floats(0, 1, exclude_max=True))
def test_there_is_always_room_for_one_and_never_for_more_than_the_most(most: int, signs: str, draw: float) -> None:
    pace = Pace(most)
    now = NOON
    for sign in signs:
        now += SECOND
        rest = pace.learn(SIGNS[sign], now, now, draw)
        assert 1 <= pace.at_once <= most
        assert (pace.since is None) == (pace.rests == 0)
        if rest is not None:
            assert FIRST_REST * (1 - JITTER / 2) <= rest <= LONGEST_REST * (1 + JITTER / 2)
            assert pace.at_once == 1


@pytest.mark.parametrize(
    ("make", "is_new"),
    [
        ((20, None, ""), True),
        ((20, None, "+"), True),
        ((20, None, "-"), False),
        ((20, None, "-+"), False),
        ((20, None, "---+"), True),
        ((3, None, "+"), True),
        ((20, 60, "+"), False),
    ],
)
def test_what_is_worth_keeping(make: tuple[int, int | None, str], is_new: bool) -> None:
    most, rate, signs = make
    pace = Pace(most, rate)
    told(pace, signs)
    assert pace.is_new is is_new


# Rates


def test_without_a_rate_there_is_no_limit() -> None:
    pace = Pace(5)
    pace.begun()
    assert pace.may_begin(NOON) is None
    assert pace.next_begin(NOON) is None
    assert pace.has_saved(NOON)


@pytest.mark.parametrize(("rate", "burst"), [(1, 1), (59, 1), (60, 1), (119, 1), (120, 2), (6000, 100)])
def test_what_a_rate_allows_at_once(rate: int, burst: int) -> None:
    pace = Pace(5, rate)
    assert pace.may_begin(NOON) == burst
    assert pace.may_begin(NOON + timedelta(hours=1)) == burst
    assert pace.has_saved(NOON + timedelta(hours=1))
    pace.begun()
    assert not pace.has_saved(NOON + timedelta(hours=1))


@given(st.integers(1, 100_000), st.integers(0, 999_999))
def test_a_rate_is_kept_and_used(rate: int, micros: int) -> None:
    """Whoever begins whenever it is allowed begins as often as the rate says, within what it allows at once."""
    pace = Pace(5, rate)
    start = now = NOON + timedelta(microseconds=micros)
    span = timedelta(seconds=min(3600.0, 60 * 300 / rate))
    count = 0
    while now < start + span:
        while pace.may_begin(now):
            pace.begun()
            count += 1
        after = pace.next_begin(now)
        assert after is not None
        assert after > now
        assert pace.may_begin(after)
        now = after
    allowed = span.total_seconds() * rate / 60
    assert allowed <= count + 1
    assert count <= allowed + max(1.0, rate / 60) + 1e-3


def test_a_clock_that_goes_back_allows_nothing_more() -> None:
    pace = Pace(5, 60)
    assert pace.may_begin(NOON) == 1
    pace.begun()
    assert pace.may_begin(NOON - timedelta(hours=1)) == 0
    assert pace.may_begin(NOON - timedelta(hours=1) + SECOND) == 1
