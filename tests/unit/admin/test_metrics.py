"""Events to numbers: every event has a decision, every label a bound."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from relay import events
from relay.admin.metrics import OTHER, OWN_STATUSES, REMOTE, Metrics
from relay.events import AttemptFinished, Event
from relay.mail.outcome import Cause, State, TlsUsed
from relay.queue.store import Depth

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SOURCES = Path(events.__file__).parents[1]


def samples(metrics: Metrics) -> dict[str, float]:
    """Every number that is not zero, as `name{label,label}`."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        f"{sample.name}{{{','.join(sample.labels.values())}}}" if sample.labels else sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.value
    }


@pytest.mark.parametrize("tls", TlsUsed)
@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_whatever_an_attempt_comes_to_is_counted(state: State, tls: TlsUsed) -> None:
    """Held too, where a lost reply is to be looked at by somebody."""
    metrics = Metrics()
    metrics.counting(lambda _: None)(attempt(state.value, "4.4.2", None, tls.value))
    assert samples(metrics)[f"relay_recipients_total{{{state.value},{tls.value}}}"] == 1


def attempt(state: str, status: str, reply: str | None = None, tls: str = "none") -> AttemptFinished:
    return AttemptFinished("1", "a@b.test", state, 1, status, None, None, tls, None, reply, None)


ACCEPTED = events.MessageAccepted("1", None, "a@b.test", 3, 100, "127.0.0.1", None)
COUNTED: list[tuple[Event, dict[str, float]]] = [
    (ACCEPTED, {"relay_messages_accepted_total": 1}),
    (events.SubmissionRefused("127.0.0.1", "550 5.7.1 no", "RCPT"), {"relay_submission_refused_total": 1}),
    (events.AuthenticationFailed("::1", "bob", "PLAIN", "why"), {"relay_authentication_failed_total": 1}),
    (events.LoginsBarred("192.0.2.0/24"), {"relay_logins_barred_total": 1}),
    (events.LoginSourceFailed("login.url", "why"), {"relay_login_source_failed_total": 1}),
    (events.LoginSourceWorks("login.url"), {}),
    (
        events.QuotaReached("x, user bob", "127.0.0.1", "bob", "recipients_per_day", 5),
        {"relay_quota_reached_total": 1},
    ),
    (events.QuotaFailed("why"), {"relay_quota_failures_total": 1}),
    (events.PolicyTestFailed("d.test", "mx.d.test", "why"), {"relay_policy_test_failed_total": 1}),
    (events.PolicyOverridden("d.test", "mx.d.test", "none", "ops", "why"), {"relay_policy_overridden_total": 1}),
    (events.OverrideEnded("d.test", "none", "ops", NOW), {}),
    (
        events.TlsLost("d.test", "mx.d.test", "192.0.2.1", NOW, NOW, None, "delivered", None),
        {"relay_tls_lost_total{delivered}": 1},
    ),
    (
        events.TlsLost("d.test", "mx.d.test", "192.0.2.1", NOW, NOW, "dane", "deferred", NOW),
        {"relay_tls_lost_total{deferred}": 1},
    ),
    (events.TlsMemoryFailed("why"), {"relay_tls_memory_failures_total": 1}),
    (events.PolicyFetched("d.test", "1", "enforce"), {"relay_policy_fetches_total{fetched}": 1}),
    (events.PolicyFetchFailed("d.test", "why", None), {"relay_policy_fetches_total{failed}": 1}),
    (events.PolicyCacheFailed("why"), {"relay_policy_cache_failures_total": 1}),
    (events.DkimKeyMatches("d.test", "s1", None), {"relay_dkim_key_matches{d.test,s1}": 1}),
    (events.DkimKeyMismatch("d.test", "s1", "why", NOW, "sign"), {}),
    (events.DkimKeyUnknown("d.test", "s1", "why"), {}),
    (events.NoticeQueued("1", "2", "failure", "a@b.test"), {"relay_notices_total{failure}": 1}),
    (events.NoticeQueued("1", "2", "delay", "a@b.test"), {"relay_notices_total{delay}": 1}),
    (events.CertificateRefused("why"), {"relay_certificate_refused_total": 1}),
    (events.FileRefused("why"), {"relay_file_refused_total": 1}),
    (events.MessageUnsigned("1", "why"), {"relay_messages_unsigned_total": 1}),
    (events.DkimKeyRenewed("d.test", "s"), {}),
    (events.StoreFailed("why"), {"relay_store_failures_total": 1}),
    (events.DefectFound("here", "why"), {"relay_defects_total": 1}),
    (events.DnssecTrust(True, "why"), {"relay_dnssec_trusted": 1}),
    (events.DnssecTrust(False, "why"), {}),
    (events.PolicyChanged("d.test", "1"), {}),
    (events.ServiceStopped(), {}),
    (attempt("delivered", "2.0.0", "250 ok", "verified"), {"relay_recipients_total{delivered,verified}": 1}),
    (attempt("failed", "5.1.1", "550 no"), {"relay_recipients_total{failed,none}": 1}),
    (
        attempt("deferred", "4.7.5"),
        {"relay_recipients_total{deferred,none}": 1, "relay_deferrals_total{4.7.5}": 1},
    ),
    (
        attempt("deferred", "4.7.5", "450 4.7.5 greylisted", "encrypted"),
        {"relay_recipients_total{deferred,encrypted}": 1, f"relay_deferrals_total{{{REMOTE}}}": 1},
    ),
    (
        attempt("deferred", "4.123.45"),
        {"relay_recipients_total{deferred,none}": 1, f"relay_deferrals_total{{{OTHER}}}": 1},
    ),
]


@pytest.mark.parametrize(("event", "expected"), COUNTED, ids=lambda value: getattr(value, "name", ""))
def test_what_an_event_counts_as(event: Event, expected: dict[str, float]) -> None:
    metrics = Metrics()
    seen: list[Event] = []
    metrics.counting(seen.append)(event)
    assert seen == [event]
    assert samples(metrics) == expected


def test_of_every_event_it_is_decided_how_it_counts() -> None:
    defined = {one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event)} - {Event}
    assert Metrics().decided() == defined


def test_every_temporary_status_of_ours_has_its_own_number() -> None:
    texts = [file.read_text() for folder in ("policy", "delivery") for file in (SOURCES / folder).glob("*.py")]
    given = {f"4.{a}.{b}" for text in texts for a, b in re.findall(r"Status\(Kind\.TEMPORARY, (\d+), (\d+)\)", text)}
    assert "4.7.5" in given
    assert given <= set(OWN_STATUSES)


def test_strangers_cannot_make_new_series() -> None:
    metrics = Metrics()
    count = metrics.counting(lambda _: None)
    before = len(metrics.text().splitlines())
    for number in range(1000):
        count(attempt("deferred", f"4.{number}.0", f"450 4.{number}.0 no"))
        count(attempt("deferred", f"4.{number}.0"))
        count(events.PolicyFetchFailed(f"d{number}.test", f"{number}", None))
        count(events.SubmissionRefused(f"192.0.2.{number}", f"550 {number}", "x"))
    assert len(metrics.text().splitlines()) == before


def test_two_services_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.counting(lambda _: None)(ACCEPTED)
    assert samples(other) == {}


def test_every_series_is_there_from_the_start() -> None:
    """A counter that appears with its first failure hides that failure from `rate`."""
    shown = Metrics().text().decode()
    assert shown.count('relay_recipients_total{state="delivered"') == len(TlsUsed)
    assert 'relay_deferrals_total{status="4.7.5"} 0.0' in shown
    assert "_created" not in shown


QUEUE: list[tuple[Depth | None, int, dict[str, float]]] = [
    (Depth(0, 0, None), 0, {}),
    (
        Depth(10, 3, NOW - timedelta(hours=1), 4, ((Cause.LOGIN, 2), (Cause.OUTAGE, 5)), 6),
        2,
        {
            "relay_queue_recipients{due}": 3,
            "relay_queue_recipients{waiting}": 5,
            "relay_queue_recipients{under_way}": 2,
            "relay_queue_recipients{held}": 4,
            "relay_queue_causes{login}": 2,
            "relay_queue_causes{outage}": 5,
            "relay_queue_resting_destinations": 6,
            "relay_queue_oldest_seconds": 3600,
        },
    ),
    (Depth(1, 0, NOW + timedelta(hours=1)), 4, {"relay_queue_recipients{under_way}": 4}),  # read at two moments
]


@pytest.mark.parametrize(("depth", "under_way", "expected"), QUEUE)
def test_the_queue(depth: Depth | None, under_way: int, expected: dict[str, float]) -> None:
    metrics = Metrics()
    metrics.show_queue(depth, under_way, NOW)
    assert samples(metrics) == expected


def test_a_queue_that_cannot_be_read_is_not_shown_as_empty() -> None:
    metrics = Metrics()
    metrics.show_queue(Depth(5, 5, NOW), 0, NOW)
    metrics.show_queue(None, 1, NOW)
    shown = samples(metrics)
    assert shown.pop("relay_queue_recipients{under_way}") == 1
    assert len(shown) == 5 + len(Cause)
    assert all(math.isnan(value) for value in shown.values())
    assert all(map(math.isnan, shown.values()))


def test_a_key_that_does_not_match_any_longer_shows_zero() -> None:
    metrics = Metrics()
    emit = metrics.counting(lambda _: None)
    emit(events.DkimKeyMatches("d.test", "s1", None))
    emit(events.DkimKeyMatches("e.test", "s1", None))
    emit(events.DkimKeyMismatch("d.test", "s1", "why", NOW, "sign"))
    assert samples(metrics) == {"relay_dkim_key_matches{e.test,s1}": 1}
    assert b'relay_dkim_key_matches{domain="d.test",selector="s1"} 0.0' in metrics.text()
    emit(events.DkimKeyUnknown("e.test", "s1", "why"))  # changes nothing
    assert samples(metrics) == {"relay_dkim_key_matches{e.test,s1}": 1}
