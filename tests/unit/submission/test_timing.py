"""HOLDFOR, HOLDUNTIL, BY and MT-PRIORITY: what is taken, what it comes to, and what is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.message import DeliverBy
from relay.mail.status import Reply
from relay.submission.timing import MAX_SECONDS, NO_TIMING, Timing, future_release, timing
from relay.submission.verbs import Mail, parse_mail

NOW = datetime(2030, 1, 1, 12, 0, 30, 250_000, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
MAX_HOLD = 30 * DAY


def asked(parameters: str, max_hold: timedelta | None = MAX_HOLD) -> Timing | Reply:
    mail = parse_mail(f"FROM:<a@example.test> {parameters}".encode(), True, 1000)
    return timing(mail.wish, NOW, max_hold) if isinstance(mail, Mail) else mail


def until(text: str) -> datetime:
    found = asked(f"HOLDUNTIL={text}")
    assert isinstance(found, Timing), found
    assert found.release is not None
    assert found.release_asked == f"until;{text}"
    return found.release


TAKEN = {
    "": NO_TIMING,
    "HOLDFOR=1": Timing(NOW + SECOND, "for;1"),
    "holdfor=86400": Timing(NOW + DAY, "for;86400"),
    f"HOLDFOR={30 * 86400}": Timing(NOW + MAX_HOLD, f"for;{30 * 86400}"),
    "MT-PRIORITY=0": NO_TIMING,
    "MT-PRIORITY=9": Timing(priority=9),
    "mt-priority=-9": Timing(priority=-9),
    "BY=60;R": Timing(deliver_by=DeliverBy(NOW + 60 * SECOND, returns=True)),
    "BY=+60;N": Timing(deliver_by=DeliverBy(NOW + 60 * SECOND)),
    "by=60;nt": Timing(deliver_by=DeliverBy(NOW + 60 * SECOND, trace=True)),
    "BY=000000060;RT": Timing(deliver_by=DeliverBy(NOW + 60 * SECOND, returns=True, trace=True)),
    "BY=0;N": Timing(deliver_by=DeliverBy(NOW)),
    "BY=-999999999;N": Timing(deliver_by=DeliverBy(NOW - MAX_SECONDS * SECOND)),
    "BY=999999999;R": Timing(deliver_by=DeliverBy(NOW + MAX_SECONDS * SECOND, returns=True)),
    "HOLDFOR=60 BY=60;R": Timing(NOW + 60 * SECOND, "for;60", 0, DeliverBy(NOW + 60 * SECOND, returns=True)),
    "BY=61;N MT-PRIORITY=3 HOLDFOR=60 SIZE=7": Timing(
        NOW + 60 * SECOND, "for;60", 3, DeliverBy(NOW + 61 * SECOND, returns=False)
    ),
}


@pytest.mark.parametrize("parameters", TAKEN)
def test_what_is_taken(parameters: str) -> None:
    assert asked(parameters) == TAKEN[parameters]


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2030-01-01T12:00:31Z", NOW.replace(second=31, microsecond=0)),
        ("2030-01-02t00:00:00z", datetime(2030, 1, 2, tzinfo=UTC)),
        ("2030-01-02T00:00:00+00:00", datetime(2030, 1, 2, tzinfo=UTC)),
        ("2030-01-02T00:00:00-00:00", datetime(2030, 1, 2, tzinfo=UTC)),
        ("2030-01-02T00:00:00.0Z", datetime(2030, 1, 2, tzinfo=UTC)),
        ("2030-01-02T00:00:00.000000001Z", datetime(2030, 1, 2, 0, 0, 1, tzinfo=UTC)),  # never earlier than asked
        ("2030-01-01T23:59:60Z", datetime(2030, 1, 2, tzinfo=UTC)),  # RFC 3339 §5.7: a leap second
        ("1999-01-01T00:00:00Z", datetime(1999, 1, 1, tzinfo=UTC)),  # in the past: it waits for nothing
        ("2030-01-31T12:00:30Z", datetime(2030, 1, 31, 12, 0, 30, tzinfo=UTC)),
    ],
)
def test_until_when(text: str, time: datetime) -> None:
    assert until(text) == time


REFUSED = {
    "HOLDFOR": "501 5.5.4",
    "HOLDFOR=": "501 5.5.4",
    "HOLDFOR=0": "501 5.5.4",
    "HOLDFOR=01": "501 5.5.4",
    "HOLDFOR=-1": "501 5.5.4",
    "HOLDFOR=1.5": "501 5.5.4",
    "HOLDFOR=1000000000": "501 5.5.4",
    f"HOLDFOR={30 * 86400 + 1}": "501 5.5.4",
    "HOLDFOR=60 HOLDFOR=60": "501 5.5.4",
    "HOLDFOR=60 HOLDUNTIL=2030-01-02T00:00:00Z": "501 5.5.4",
    "HOLDUNTIL": "501 5.5.4",
    "HOLDUNTIL=tomorrow": "501 5.5.4",
    "HOLDUNTIL=2030-01-02": "501 5.5.4",
    "HOLDUNTIL=2030-01-02T00:00Z": "501 5.5.4",
    "HOLDUNTIL=2030-01-02T00:00:00": "501 5.5.4",
    "HOLDUNTIL=2030-01-02T00:00:00+01:00": "501 5.5.4",  # normalised to UTC, it must be
    "HOLDUNTIL=2030-01-02T00:00:00.Z": "501 5.5.4",
    "HOLDUNTIL=2030-13-01T00:00:00Z": "501 5.5.4",
    "HOLDUNTIL=2030-02-30T00:00:00Z": "501 5.5.4",
    "HOLDUNTIL=2030-01-02T24:00:00Z": "501 5.5.4",
    "HOLDUNTIL=2030-01-02T00:00:61Z": "501 5.5.4",
    "HOLDUNTIL=0000-01-01T00:00:00Z": "501 5.5.4",
    "HOLDUNTIL=9999-12-31T23:59:60Z": "501 5.5.4",
    "HOLDUNTIL=2030-01-31T12:00:31Z": "501 5.5.4",
    "HOLDUNTIL=9999-12-31T23:59:59Z": "501 5.5.4",
    "MT-PRIORITY": "501 5.5.4",
    "MT-PRIORITY=10": "501 5.5.4",
    "MT-PRIORITY=-0": "501 5.5.4",
    "MT-PRIORITY=+1": "501 5.5.4",
    "MT-PRIORITY=-10": "501 5.5.4",
    "MT-PRIORITY=01": "501 5.5.4",
    "BY": "501 5.5.4",
    "BY=60": "501 5.5.4",
    "BY=60;": "501 5.5.4",
    "BY=;R": "501 5.5.4",
    "BY=60;X": "501 5.5.4",
    "BY=60;TR": "501 5.5.4",
    "BY=60;RTT": "501 5.5.4",
    "BY=0;R": "501 5.5.4",
    "BY=-0;R": "501 5.5.4",
    "BY=-60;RT": "501 5.5.4",
    "BY=1000000000;N": "501 5.5.4",
    "BY=60;R BY=60;R": "501 5.5.4",
    "HOLDFOR=61 BY=60;R": "501 5.5.4",
    "HOLDUNTIL=2030-01-02T00:00:00Z BY=60;N": "501 5.5.4",
}


@pytest.mark.parametrize("parameters", REFUSED)
def test_what_is_refused(parameters: str) -> None:
    answer = asked(parameters)
    assert isinstance(answer, Reply), answer
    assert f"{answer.code} {answer.status}" == REFUSED[parameters]


@pytest.mark.parametrize(
    "parameters", ["HOLDFOR=60", "HOLDUNTIL=2030-01-02T00:00:00Z", "HOLDUNTIL=1999-01-01T00:00:00Z"]
)
def test_where_nothing_is_held_the_parameters_are_not_known(parameters: str) -> None:
    answer = asked(parameters, max_hold=None)
    assert isinstance(answer, Reply)
    assert answer.text == "555 5.5.4 Parameter not recognized"


def test_the_refusal_says_how_far_one_may_go() -> None:
    answer = asked("HOLDFOR=999999999")
    assert isinstance(answer, Reply)
    assert answer.text == "501 5.5.4 Mail is not held beyond 2030-01-31T12:00:30Z"


@pytest.mark.parametrize("max_hold", [SECOND, DAY, MAX_HOLD, 100_000 * DAY, timedelta.max])
def test_what_is_announced_is_taken(max_hold: timedelta) -> None:
    """RFC 4865 section 4.2: everything up to it, whenever the client comes with it."""
    keyword, seconds, latest = future_release(NOW, max_hold).split(" ")
    assert keyword == "FUTURERELEASE"
    assert re.fullmatch(r"[1-9][0-9]{0,8}", seconds)
    for parameters in (f"HOLDFOR={seconds}", f"HOLDUNTIL={latest}"):
        found = asked(parameters, max_hold)
        assert isinstance(found, Timing), found


@given(st.text(alphabet="0123456789-:TZtz.+;RNFORHLDUIBY= ", max_size=60))
def test_nothing_makes_it_fail(text: str) -> None:
    for prefix in ("", "HOLDUNTIL=", "HOLDFOR=", "BY=", "MT-PRIORITY="):
        assert isinstance(asked(prefix + text), Timing | Reply)


@given(st.datetimes(), st.sampled_from(["Z", "z", "+00:00", "-00:00"]))
def test_any_time_at_all(time: datetime, zone: str) -> None:
    found = asked(f"HOLDUNTIL={time.isoformat()}{zone}")
    if isinstance(found, Timing):
        assert found.release is not None
        assert timedelta(0) <= found.release - time.replace(tzinfo=UTC) < SECOND
        assert found.release <= NOW + MAX_HOLD
    else:
        assert time.replace(tzinfo=UTC) > NOW + MAX_HOLD - SECOND
