"""The lab itself: every scenario comes out as expected, in time, and a fault in the decision core shows."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace

import pytest

from relay.lab.catalogue import ALL
from relay.lab.play import PASSAGES
from relay.lab.scenario import Host, Phase, Scenario, Sts, delivered, each, refused

REQUIRED = """
no-policy no-policy-no-starttls no-policy-self-signed sts-good sts-wildcard sts-no-starttls sts-old-tls sts-expired
sts-self-signed sts-wrong-name sts-not-listed sts-second-mx-good sts-testing-bad-cert sts-none sts-policy-404
sts-policy-redirect sts-policy-bad-cert dane-good dane-mismatch dane-no-starttls dane-mismatch-sts-good dane-unusable
dane-unsigned-zone dnssec-bogus null-mx no-such-domain greylisted one-of-two-refused lost-after-final-dot
sts-then-no-record sts-then-rotated sts-then-rotated-same-id sts-then-none sts-then-hour-over sts-then-cert-healed
dane-then-rolled-over dane-then-zone-healed requiretls-nothing tls-waived-sts
"""

# Each plants a fault and then plays these scenarios: every one of them must differ.
FAULTS = {
    "judge says yes to everything": (
        """
import relay.delivery.attempt as attempt
from relay.mail.outcome import TlsUsed
from relay.policy.verdict import Allow
attempt.judge = lambda need, seen, trust: Allow(TlsUsed.ENCRYPTED if seen.tls else TlsUsed.NONE, need.rule)
""",
        "dane-mismatch dane-2-wrong-name dane-mismatch-sts-good dane-no-starttls",
    ),
    "nothing is required": (
        """
import relay.delivery.attempt as attempt
from relay.policy import requirement
attempt.require = lambda evidence: requirement._nothing_required(evidence, requirement.Rule.OPPORTUNISTIC)
""",
        "sts-expired sts-no-starttls sts-not-listed dane-mismatch dane-servfail requiretls-nothing",
    ),
    "any TLSA record matches": (
        """
from relay.policy import verdict
verdict.matches = lambda tlsa, chain, now: None
""",
        "dane-mismatch dane-mismatch-sts-good dane-then-added dane-then-key-too-early",
    ),
    "any name is listed": (
        """
from relay.policy import requirement
requirement.lists = lambda policy, host: True
""",
        "sts-not-listed sts-wildcard-deep sts-testing-not-listed sts-then-rotated",
    ),
    "what cannot be looked up or fetched ends a policy": (
        """
import dataclasses
from relay.lookup import sts
from relay.policy.sts import NoSts
sts.replace = lambda value, **new: NoSts() if "stale_reason" in new else dataclasses.replace(value, **new)
""",
        "sts-then-no-record sts-then-no-record-waiting sts-then-servfail sts-then-404 sts-then-all-gone",
    ),
    "a policy never expires": (
        """
from relay.lookup import sts
sts._live = lambda entry, now: entry.found if entry is not None else None
""",
        "sts-then-hour-over sts-then-hour-over-404 sts-then-week-over",
    ),
    "policies are not refreshed": (
        """
from relay.lookup.sts import StsFinder
async def nothing(finder, draw): pass
StsFinder.keep_fresh = nothing
""",
        "sts-then-tightened-same-id sts-then-week-refreshed",
    ),
    "a refusal makes nobody look for a newer policy": (
        """
from relay.delivery.attempt import Attempt
Attempt._is_refused_by_policy = lambda attempt, route: False
""",
        "sts-then-rotated-same-id sts-then-none-same-id",
    ),
    "a failed lookup is remembered for ever": (
        """
from relay.lookup import resolver
resolver._FAILURE_SECONDS = 1e9
""",
        "dane-then-servfail-healed mx-servfail",
    ),
    "signatures are not believed": (
        """
from relay.lookup.resolver import Resolver
Resolver.trusted = property(lambda resolver: False, lambda resolver, value: None)
""",
        "dane-then-zone-signed dane-then-rolled-over requiretls-signed-mx",
    ),
}


def test_the_scenarios_that_must_be_there() -> None:
    names = [scenario.name for scenario in ALL]
    assert len(set(names)) == len(names) >= 100
    assert set(REQUIRED.split()) <= set(names)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_every_scenario_is_well_made(scenario: Scenario) -> None:
    recipients = [who for mail in scenario.mails for who in mail]
    assert len(scenario.expected.journeys) == len(recipients) == len(set(recipients)) > 0
    assert len(scenario.then) <= len(PASSAGES)
    times = [step.partition(":")[0] for journey in scenario.expected.journeys for step in journey[1:]]
    assert set(times) <= set(PASSAGES)


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
    assert after.ru_utime - before.ru_utime < 30  # of computing: others may be at work on this machine


@pytest.mark.timeout(90)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_shows(fault: str) -> None:
    plant, names = FAULTS[fault]
    arguments = ["lab", "--json", *(word for name in names.split() for word in ("--only", name))]
    program = f"{plant}\nfrom relay.cli import main\nmain({arguments})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)["scenarios"] if row["ok"]] == []


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_and_unknown_names() -> None:
    assert [line.split()[0] for line in lab("--list").stdout.splitlines()] == [scenario.name for scenario in ALL]
    unknown = lab("--only", "nonsense")
    assert unknown.returncode == 2
    assert "nonsense" in unknown.stderr
