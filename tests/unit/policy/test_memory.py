"""What is remembered of a host's TLS, and what its loss means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.memory import MemoryRules, OnTlsLoss, TlsMemory, is_lost, noted, waits_until
from relay.policy.verdict import Rule

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
DANE = Rule.DANE.value


def rules(on_loss: OnTlsLoss = OnTlsLoss.DEFER, after: int = 7, defer_for: int = 2) -> MemoryRules:
    return MemoryRules(on_loss, after * DAY, defer_for * DAY)


def had(since: float, last: float, by: str | None = None, lost_at: float | None = None) -> TlsMemory:
    """A memory; the times are days."""
    return TlsMemory(day(since), day(last), by, None if lost_at is None else day(lost_at))


def day(number: float) -> datetime:
    return START + number * DAY


@dataclass(frozen=True)
class Session:
    """A session in the table: what was remembered, what was seen on that day, what is remembered afterwards."""

    name: str
    before: TlsMemory | None
    now: float
    tls: bool
    after: TlsMemory | None
    by: str | None = None


SESSIONS = [
    Session("the first with TLS", None, 3, True, had(3, 3)),
    Session("the first with TLS, authenticated", None, 3, True, had(3, 3, DANE), by=DANE),
    Session("never had TLS", None, 3, False, None),
    Session("never had TLS, whatever is said of it", None, 3, False, None, by=DANE),
    Session("it goes on", had(0, 3), 4, True, had(0, 4)),
    Session("it goes on, authenticated now", had(0, 3), 4, True, had(0, 4, DANE), by=DANE),
    Session("it goes on, not authenticated any more", had(0, 3, DANE), 4, True, had(0, 4)),
    Session("it is lost", had(0, 3, DANE), 4, False, had(0, 3, DANE, lost_at=4)),
    Session("it is lost, soon after it was first seen", had(0, 0), 0, False, had(0, 0, lost_at=0)),
    Session("it stays lost from when it was", had(0, 3, DANE, lost_at=4), 5, False, had(0, 3, DANE, lost_at=4)),
    Session("a loss that heals breaks no run", had(0, 3, lost_at=4), 5, True, had(0, 5)),
    Session("a long one too, if nobody was there meanwhile", had(0, 3, lost_at=4), 90, True, had(0, 90)),
    Session("a loss is told from others by its own time", had(0, 3), 90, False, had(0, 3, lost_at=90)),
    Session("lost for as long as it counts", had(0, 3, lost_at=4), 11, False, had(0, 3, lost_at=4)),
    Session("lost for longer", had(0, 3, lost_at=4), 11.001, False, None),
    Session("the clock went back, with TLS", had(5, 9), 7, True, had(5, 7)),
    Session("the clock went back to before the beginning, with TLS", had(5, 9), 1, True, had(1, 1)),
    Session("the clock went back, without TLS", had(5, 9), 1, False, had(5, 9, lost_at=1)),
    Session("the clock went back to before the loss", had(5, 9, lost_at=10), 1, False, had(5, 9, lost_at=1)),
]


@pytest.mark.parametrize("case", SESSIONS, ids=lambda case: case.name)
def test_sessions(case: Session) -> None:
    assert noted(case.before, rules(), day(case.now), tls=case.tls, authenticated_by=case.by) == case.after


@pytest.mark.parametrize(("after", "defer_for"), [(7, 2), (2, 7)])
def test_a_loss_is_forgotten_when_neither_time_is_left(after: int, defer_for: int) -> None:
    given_rules = rules(after=after, defer_for=defer_for)
    lost = had(0, 10, lost_at=11)
    assert noted(lost, given_rules, day(18), tls=False, authenticated_by=None) == lost
    assert noted(lost, given_rules, day(18) + TICK, tls=False, authenticated_by=None) is None


OFF, WARN, DEFER = OnTlsLoss.OFF, OnTlsLoss.WARN, OnTlsLoss.DEFER


@pytest.mark.parametrize(
    ("on_loss", "memory", "now", "lost", "until"),
    [
        (OFF, had(0, 100), 101, False, None),
        (WARN, had(0, 100), 101, True, None),
        (DEFER, had(0, 100), 101, True, 103),  # it is being lost now
        (DEFER, had(0, 100, lost_at=101), 101, True, 103),
        (DEFER, had(0, 100, lost_at=101), 102.999, True, 103),
        (DEFER, had(0, 100, lost_at=101), 103, True, None),
        (WARN, had(0, 100, lost_at=101), 104, True, None),
        (DEFER, had(0, 7), 8, True, 10),
        (DEFER, had(0, 6.999), 8, False, None),  # too young
        (WARN, had(0, 6.999), 90, False, None),  # it is not the time since that counts
        (DEFER, had(0, 100, lost_at=101), 50, True, 52),  # the clock went back
    ],
)
def test_what_a_loss_means(on_loss: OnTlsLoss, memory: TlsMemory, now: float, lost: bool, until: float | None) -> None:
    given_rules = rules(on_loss)
    assert is_lost(memory, given_rules) is lost
    assert waits_until(memory, given_rules, day(now)) == (None if until is None else day(until))


def test_the_ends_of_the_times_are_exact() -> None:
    assert is_lost(had(0, 7), rules()) and not is_lost(TlsMemory(day(0), day(7) - TICK, None), rules())
    lost = had(0, 100, lost_at=101)
    assert waits_until(lost, rules(), day(103) - TICK) == day(103)


def test_a_memory_that_cannot_be_is_not_made() -> None:
    assert TlsMemory(day(1), day(1), None)
    with pytest.raises(ValueError, match="before it was first seen"):
        TlsMemory(day(1) + TICK, day(1), None)


times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
durations = st.timedeltas(timedelta(seconds=1), timedelta(days=3660))
any_rules = st.builds(MemoryRules, st.sampled_from(OnTlsLoss), durations, durations)
sessions = st.lists(st.tuples(times, st.booleans(), st.sampled_from([None, "dane", "sts"])), max_size=12)


def remembered(seen: list[tuple[datetime, bool, str | None]], given_rules: MemoryRules) -> TlsMemory | None:
    memory = None
    for now, tls, by in seen:
        memory = noted(memory, given_rules, now, tls=tls, authenticated_by=by)
    return memory


@given(sessions, any_rules)
def test_whatever_the_clock_does_the_last_session_is_what_counts(
    seen: list[tuple[datetime, bool, str | None]], given_rules: MemoryRules
) -> None:
    memory = remembered(seen, given_rules)
    if memory is None:
        assert not seen or not seen[-1][1]
        return
    now, tls, by = seen[-1]
    assert memory.since <= memory.last
    if tls:
        assert (memory.last, memory.authenticated_by, memory.lost_at) == (now, by, None)
    else:
        assert memory.lost_at is not None and memory.lost_at <= now


@given(st.lists(times, min_size=1, max_size=12), any_rules)
def test_without_a_loss_a_run_is_from_the_first_session_to_the_last(
    runs: list[datetime], given_rules: MemoryRules
) -> None:
    first, *_, last = in_order = sorted([*runs, runs[0]])
    assert remembered([(now, True, DANE) for now in in_order], given_rules) == TlsMemory(first, last, DANE)


@given(sessions, any_rules, times)
def test_mail_waits_only_for_what_is_lost_and_never_longer_than_it_is_told(
    seen: list[tuple[datetime, bool, str | None]], given_rules: MemoryRules, now: datetime
) -> None:
    memory = remembered(seen, given_rules)
    if memory is None:
        return
    until = waits_until(memory, given_rules, now)
    if until is not None:
        assert given_rules.on_loss is DEFER and is_lost(memory, given_rules)
        assert now < until <= now + given_rules.defer_for


@given(st.lists(st.timedeltas(timedelta(0), DAY), min_size=1, max_size=40))
def test_a_host_that_stays_without_tls_gets_its_mail_and_is_forgotten(waits: list[timedelta]) -> None:
    memory: TlsMemory | None = had(0, 100)
    first = day(101) + waits[0]
    now = day(101)
    for wait in waits:
        now += wait
        assert memory is not None
        assert (waits_until(memory, rules(), now) is not None) == (now < first + 2 * DAY)
        memory = noted(memory, rules(), now, tls=False, authenticated_by=None)
        assert (memory is None) == (now > first + 7 * DAY)
        if memory is None:
            return


@given(st.builds(lambda since, length: TlsMemory(since, since + length, None), times, durations), any_rules, times)
def test_stricter_rules_never_let_more_through(memory: TlsMemory, given_rules: MemoryRules, now: datetime) -> None:
    longer = MemoryRules(given_rules.on_loss, given_rules.after, given_rules.defer_for + DAY)
    later = MemoryRules(given_rules.on_loss, given_rules.after + DAY, given_rules.defer_for)
    if waits_until(memory, given_rules, now) is not None:
        assert waits_until(memory, longer, now) is not None
    if is_lost(memory, later):
        assert is_lost(memory, given_rules)
