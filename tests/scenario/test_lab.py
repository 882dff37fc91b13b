"""The lab itself: every scenario comes out as expected, in time, and a fault in the decision core shows."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from relay.delivery import attempt, calling, plan
from relay.lab.catalogue import ALL
from relay.lab.command import chosen
from relay.lab.play import PASSAGES, play
from relay.lab.reports import POLICY_TYPES, RESULTS
from relay.lab.scenario import Host, Phase, Scenario, Sts, delivered, each, refused
from relay.lookup import resolver, sts
from relay.lookup.sts import StsFinder
from relay.lookup.tls_memory import TlsMemories
from relay.mail.outcome import TlsUsed
from relay.policy import memory, requirement, tls_report, verdict
from relay.policy.chain import Trust
from relay.policy.observed import ObservedSession
from relay.policy.override import Overrides
from relay.policy.requirement import Evidence, Level, Requirement, Rule
from relay.policy.sts import NoSts
from relay.policy.tls_report import of_session
from relay.policy.verdict import Allow
from relay.tlsrpt import outgoing
from relay.tlsrpt.letter import letter

REQUIRED = """
no-policy no-policy-no-starttls no-policy-self-signed sts-good sts-wildcard sts-no-starttls sts-old-tls sts-expired
sts-self-signed sts-wrong-name sts-not-listed sts-second-mx-good sts-testing-bad-cert sts-none sts-policy-404
sts-policy-redirect sts-policy-bad-cert dane-good dane-mismatch dane-no-starttls dane-mismatch-sts-good dane-unusable
dane-unsigned-zone dnssec-bogus null-mx no-such-domain greylisted one-of-two-refused lost-after-final-dot
sts-then-no-record sts-then-rotated sts-then-rotated-same-id sts-then-none sts-then-hour-over sts-then-cert-healed
dane-then-rolled-over dane-then-zone-healed requiretls-nothing tls-waived-sts override-none override-opportunistic
override-encrypt-no-starttls override-verify override-dane override-dane-only-none override-fingerprint override-ends
override-requiretls-none override-waived-verify tls-lost tls-lost-healed tls-lost-waived tls-lost-soon
"""

Patch = pytest.MonkeyPatch


def judge_says_yes_to_everything(patch: Patch) -> None:
    def says_yes(need: Requirement, seen: ObservedSession, _: Trust) -> Allow:
        return Allow(TlsUsed.ENCRYPTED if seen.tls else TlsUsed.NONE, need.rule)

    patch.setattr(calling, "judge", says_yes)


def nothing_is_required(patch: Patch) -> None:
    def asks_nothing(evidence: Evidence) -> Requirement:
        return Requirement(evidence.host.name, evidence.host.name, Level.ANY, Rule.OPPORTUNISTIC)

    for module in (attempt, plan):
        patch.setattr(module, "require", asks_nothing)


def any_tlsa_record_matches(patch: Patch) -> None:
    patch.setattr(verdict, "matches", lambda *_: None)


def any_name_is_listed(patch: Patch) -> None:
    patch.setattr(requirement, "lists", lambda *_: True)


def what_cannot_be_fetched_ends_a_policy(patch: Patch) -> None:
    def forgets(value: Any, **new: Any) -> object:
        return NoSts() if "stale_reason" in new else replace(value, **new)

    patch.setattr(sts, "replace", forgets)


def a_policy_never_expires(patch: Patch) -> None:
    patch.setattr(sts, "_live", lambda entry, _: entry.found if entry is not None else None)


def policies_are_not_refreshed(patch: Patch) -> None:
    async def nothing(*_: object) -> None:
        return None

    patch.setattr(StsFinder, "keep_fresh", nothing)


def a_refusal_makes_nobody_look_for_a_newer_policy(patch: Patch) -> None:
    patch.setattr(attempt.Attempt, "_is_refused_by_policy", lambda *_: False)


def a_failed_lookup_is_remembered_for_ever(patch: Patch) -> None:
    patch.setattr(resolver, "_FAILURE_SECONDS", 1e9)


def signatures_are_not_believed(patch: Patch) -> None:
    patch.setattr(resolver.Resolver, "trusted", property(lambda _: False, lambda *_: None), raising=False)


def overrides_are_left_out(patch: Patch) -> None:
    patch.setattr(Overrides, "find", lambda *_: None)


def an_override_never_ends(patch: Patch) -> None:
    find, long_ago = Overrides.find, datetime(1970, 1, 1, tzinfo=UTC)
    patch.setattr(Overrides, "find", lambda overrides, domain, host, _: find(overrides, domain, host, long_ago))


def every_override_replaces(patch: Patch) -> None:
    patch.setattr(requirement, "_is_replaced", lambda *_: True)


def no_override_replaces(patch: Patch) -> None:
    patch.setattr(requirement, "_is_replaced", lambda *_: False)


def any_fingerprint_fits(patch: Patch) -> None:
    patch.setattr(verdict, "fits", lambda *_: True)


def no_tls_is_remembered(patch: Patch) -> None:
    async def nothing(*_: object, **__: object) -> None:
        return None

    patch.setattr(TlsMemories, "note", nothing)


def lost_tls_is_waited_for_for_ever(patch: Patch) -> None:
    patch.setattr(verdict, "waits_until", lambda _, __, now: now + timedelta(days=1))


def tls_seen_once_counts(patch: Patch) -> None:
    patch.setattr(memory, "is_lost", lambda *_: True)


def a_report_is_mail_like_any_other(patch: Patch) -> None:
    patch.setattr(outgoing, "letter", lambda *given: replace(letter(*given), report=False))


def a_session_counts_under_one_policy(patch: Patch) -> None:
    patch.setattr(tls_report, "of_session", lambda *given: of_session(*given)[:1])


# These scenarios are played with the fault planted: every one of them must differ.
FAULTS: list[tuple[Callable[[Patch], None], str]] = [
    (judge_says_yes_to_everything, "dane-mismatch dane-2-wrong-name dane-mismatch-sts-good dane-no-starttls"),
    (
        nothing_is_required,
        "sts-expired sts-no-starttls sts-not-listed dane-mismatch dane-servfail requiretls-nothing"
        " override-encrypt-garbage",
    ),
    (any_tlsa_record_matches, "dane-mismatch dane-mismatch-sts-good dane-then-added dane-then-key-too-early"),
    (any_name_is_listed, "sts-not-listed sts-wildcard-deep sts-testing-not-listed sts-then-rotated"),
    (
        what_cannot_be_fetched_ends_a_policy,
        "sts-then-no-record sts-then-no-record-waiting sts-then-servfail sts-then-404 sts-then-all-gone",
    ),
    (a_policy_never_expires, "sts-then-hour-over sts-then-hour-over-404 sts-then-week-over"),
    (policies_are_not_refreshed, "sts-then-tightened-same-id sts-then-week-refreshed"),
    (a_refusal_makes_nobody_look_for_a_newer_policy, "sts-then-rotated-same-id sts-then-none-same-id"),
    (a_failed_lookup_is_remembered_for_ever, "dane-then-servfail-healed mx-servfail"),
    (signatures_are_not_believed, "dane-then-zone-signed dane-then-rolled-over requiretls-signed-mx"),
    (
        overrides_are_left_out,
        "override-none override-opportunistic override-encrypt-no-starttls override-verify override-dane"
        " override-dane-only-none override-fingerprint-other override-tls-1-3 override-mx-elsewhere eu.override-parent"
        " override-waived-verify tls-lost-override",
    ),
    (an_override_never_ends, "override-ended override-ends override-ends-waiting override-ends-unused"),
    (
        every_override_replaces,
        "override-encrypt-and-sts override-verify-and-dane override-fingerprint-and-sts override-requiretls-none",
    ),
    (no_override_replaces, "override-encrypt-for-sts override-verify-for-dane override-dane override-none"),
    (any_fingerprint_fits, "override-fingerprint-other override-fingerprint-renewed"),
    (no_tls_is_remembered, "tls-lost tls-lost-refused tls-lost-healed tls-lost-second"),
    (lost_tls_is_waited_for_for_ever, "tls-lost tls-lost-refused"),
    (tls_seen_once_counts, "tls-lost-soon tls-lost-long-ago"),
]

REPORT_FAULTS: list[tuple[Callable[[Patch], None], str]] = [
    (a_report_is_mail_like_any_other, "report-own-mail report-own-mail-expired"),
    (a_session_counts_under_one_policy, "dane-sts-both-good dane-mismatch-sts-good"),
]


def test_the_scenarios_that_must_be_there() -> None:
    names = [scenario.name for scenario in ALL]
    assert len(set(names)) == len(names) >= 100
    assert set(REQUIRED.split()) <= set(names)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_every_scenario_is_well_made(scenario: Scenario) -> None:
    recipients = [who for mail in scenario.mails for who in mail]
    assert len(scenario.expected.journeys) == len(recipients) == len(set(recipients)) > 0
    assert len(scenario.then) <= len(PASSAGES)
    assert scenario.tlsrpt is not None or not scenario.expected.reported
    times = [step.partition(":")[0] for journey in scenario.expected.journeys for step in journey[1:]]
    assert set(times) <= set(PASSAGES)
    for one in scenario.overrides:  # at what time of the day it ends depends on when the lab is started
        first, last = timedelta(days=one.last_day), timedelta(days=one.last_day + 1)
        assert not [time for time in (timedelta(0), *PASSAGES.values()) if first < time < last]


def test_every_kind_of_policy_and_failure_is_reported() -> None:
    told = {text for scenario in ALL for text in scenario.expected.reported}
    words = {word for text in told for word in text.split()}
    assert {*POLICY_TYPES, *RESULTS} <= words
    for kind in POLICY_TYPES:
        assert any(text.startswith(kind) and text.endswith(" ok") for text in told)


def test_a_phase_changes_what_it_names_and_nothing_else() -> None:
    sick, policy = (Host(leaf=None),), Sts()
    then = (Phase(hosts=sick), Phase(sts=policy, to=("eve",)))
    scenario = Scenario("a", "nothing", each(delivered("encrypted"), refused("7.4")), then=then)
    assert scenario.at(0) == scenario
    assert scenario.at(1) == replace(scenario, hosts=sick)
    assert scenario.at(2) == scenario.at(3) == replace(scenario, hosts=sick, sts=policy)
    assert scenario.mails == (("bob",), (), ("eve",))


@pytest.mark.timeout(300)
def test_every_scenario_is_as_expected() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = lab("--json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads(done.stdout)
    assert [row for row in result["scenarios"] if not row["ok"]] == []
    assert (done.returncode, result["failed"], result["passed"]) == (0, 0, len(ALL))
    assert set(result["scenarios"][0]) == {"name", "publishes", "expected", "seen", "code", "tls", "seconds", "ok"}
    assert "Traceback" not in done.stderr
    assert "never retrieved" not in done.stderr
    assert after.ru_utime - before.ru_utime < 40  # of computing: others may be at work on this machine


@pytest.mark.parametrize(("fault", "names"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_fault_shows(fault: Callable[[Patch], None], names: str, monkeypatch: Patch, tmp_path: Path) -> None:
    fault(monkeypatch)
    scenarios = tuple(map(unreported, chosen(names.split())))
    results = play(scenarios, tmp_path, lambda _: None)
    assert [result.scenario.name for result in results if result.ok] == []


@pytest.mark.parametrize(("fault", "names"), REPORT_FAULTS, ids=[fault.__name__ for fault, _ in REPORT_FAULTS])
def test_a_fault_of_reports_shows(
    fault: Callable[[Patch], None], names: str, monkeypatch: Patch, tmp_path: Path
) -> None:
    fault(monkeypatch)
    results = play(chosen(names.split()), tmp_path, lambda _: None)
    assert [result.scenario.name for result in results if result.ok] == []


def unreported(scenario: Scenario) -> Scenario:
    """Without TLS reports: those that do not come are waited for."""
    return replace(scenario, tlsrpt=None, expected=replace(scenario.expected, reported=frozenset()))


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_and_unknown_names() -> None:
    assert [line.split()[0] for line in lab("--list").stdout.splitlines()] == [scenario.name for scenario in ALL]
    unknown = lab("--only", "nonsense")
    assert unknown.returncode == 2
    assert "nonsense" in unknown.stderr
