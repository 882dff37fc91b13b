"""The lab itself: every scenario comes out as expected, in time, and a fault in the decision core shows."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from relay.lab.catalogue import ALL

REQUIRED = """
no-policy no-policy-no-starttls no-policy-self-signed sts-good sts-wildcard sts-no-starttls sts-old-tls sts-expired
sts-self-signed sts-wrong-name sts-not-listed sts-second-mx-good sts-testing-bad-cert sts-none sts-policy-404
sts-policy-redirect sts-policy-bad-cert dane-good dane-mismatch dane-no-starttls dane-mismatch-sts-good dane-unusable
dane-unsigned-zone dnssec-bogus null-mx no-such-domain greylisted one-of-two-refused lost-after-final-dot
"""

# Each plants a fault and then runs the lab: the table must not come out clean.
FAULTS = {
    "judge says yes to everything": """
from relay.mail.outcome import TlsUsed
from relay.policy.verdict import Allow
attempt.judge = lambda need, seen, trust: Allow(TlsUsed.ENCRYPTED if seen.tls else TlsUsed.NONE, need.rule)
""",
    "nothing is required": """
from relay.policy import requirement
attempt.require = lambda evidence: requirement._nothing_required(evidence, requirement.Rule.OPPORTUNISTIC)
""",
    "any TLSA record matches": """
from relay.policy import verdict
verdict.matches = lambda tlsa, chain, now: None
""",
    "any name is listed": """
from relay.policy import requirement
requirement.lists = lambda policy, host: True
""",
}


def test_the_scenarios_that_must_be_there() -> None:
    names = [scenario.name for scenario in ALL]
    assert len(set(names)) == len(names)
    assert set(REQUIRED.split()) <= set(names)


@pytest.mark.timeout(90)
def test_every_scenario_is_as_expected() -> None:
    began = time.monotonic()
    done = lab("--json")
    result = json.loads(done.stdout)
    assert [row for row in result["scenarios"] if not row["ok"]] == []
    assert (done.returncode, result["failed"], result["passed"]) == (0, 0, len(ALL))
    assert set(result["scenarios"][0]) == {"name", "publishes", "expected", "seen", "code", "tls", "seconds", "ok"}
    assert time.monotonic() - began < 30


@pytest.mark.timeout(90)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_in_the_decision_core_shows(fault: str) -> None:
    program = f"import relay.delivery.attempt as attempt\n{FAULTS[fault]}\nfrom relay.cli import main\n"
    program += "main(['lab', '--json'])"
    for name in ("sts-expired", "sts-no-starttls", "sts-not-listed", "dane-mismatch", "dane-mismatch-sts-good"):
        program = program.replace("'--json'", f"'--json', '--only', '{name}'")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["failed"] >= 1


def lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", "lab", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_list_and_unknown_names() -> None:
    assert [line.split()[0] for line in lab("--list").stdout.splitlines()] == [scenario.name for scenario in ALL]
    unknown = lab("--only", "nonsense")
    assert unknown.returncode == 2
    assert "nonsense" in unknown.stderr
