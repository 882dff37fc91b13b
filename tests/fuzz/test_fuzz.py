"""The fuzzing itself, in small: every target gets some inputs, and a fault that is planted in a parser is found."""

from __future__ import annotations

import ast
from collections.abc import Callable
from random import Random
from typing import Any

import certificate_targets
import mime_targets
import pytest
import smtp_targets
import sts_targets
from fuzz import Done, Finding, main, run
from mutation import by_octets, elements
from target import Target
from targets import TARGETS

from relay.mail.address import parse_address
from relay.mail.downgrade import Converter, Encoding, Plan
from relay.mail.header import Header
from relay.policy.clients import Clients, Grant
from relay.policy.sts import parse_record
from relay.submission import prepare
from relay.submission.lines import Lines


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_finds_nothing_and_has_inputs_that_are_accepted(name: str) -> None:
    target = TARGETS[name]
    result = run(target, len(target.seeds) + 200, seed=1)
    assert isinstance(result, Done), result
    assert result.accepted >= 3


def without_blanks(parse: Callable[..., Any]) -> Callable[..., Any]:
    """The parser with a fault: blanks at the end do not matter to it."""
    return lambda given: parse(given.rstrip(b" ") if isinstance(given, bytes) else tuple(one.rstrip() for one in given))


FAULTS: dict[str, tuple[str, object, str, Any]] = {
    "blanks after the last field": (
        "sts-record",
        sts_targets,
        "parse_record",
        without_blanks(parse_record),
    ),
    "a star takes any number of labels": (
        "sts-policy",
        sts_targets,
        "lists",
        lambda policy, host: any(host.endswith(pattern.removeprefix("*")) for pattern in policy.mx),
    ),
    "blanks after an address": ("address", smtp_targets, "parse_address", without_blanks(parse_address)),
    "case matters in a name": ("host-name", certificate_targets, "name_matches", lambda one, other: one == other),
    "labels stay": (
        "downgrade",
        mime_targets,
        "Converter",
        lambda plan: Converter(
            Plan({at: kind for at, kind in plan.encodings.items() if kind is not Encoding.SEVEN_BIT}, plan.versions)
        ),
    ),
    "everybody is somebody": ("session", Clients, "grant", lambda self, peer: Grant("anybody")),
    "a bare LF is a line end": ("session", Lines, "look", lambda self, octets: None),
    "the Sender is nobody's business": ("message", prepare, "_AUTHORS", {b"from": "From"}),
    "Bcc stays": ("message", Header, "without", lambda self, names: self),
    "any chain is good": ("chain", certificate_targets, "check_chain", lambda chain, trust: None),
}


@pytest.mark.parametrize(("name", "module", "part", "faulty"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, module: object, part: str, faulty: Any
) -> None:
    monkeypatch.setattr(module, part, faulty)
    assert isinstance(run(TARGETS[name], 5000, seed=1), Finding)


def no_zero(octets: bytes) -> bool:
    assert b"\0" not in octets
    return True


def test_a_finding_can_be_had_again_and_is_printed_as_a_literal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Target("no-zero", no_zero, (b"abc",), by_octets())
    first, second = run(target, 5000, seed=7), run(target, 5000, seed=7)
    assert isinstance(first, Finding) and isinstance(second, Finding)
    assert (first.number, first.octets) == (second.number, second.octets)
    monkeypatch.setitem(TARGETS, "no-zero", target)
    assert main(["--seed", "7", "--inputs", "5000", "no-zero"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "seed 7"
    assert ast.literal_eval(printed[-1]) == first.octets
    assert main(["--seed", "7", "--inputs", "1", "no-zero"]) == 0


def test_elements_are_put_together_with_the_right_lengths() -> None:
    for octets in TARGETS["certificate"].seeds:
        assert b"".join(one.octets() for one in elements(octets)) == octets
    changed = [TARGETS["certificate"].mutate(Random(seed), octets) for seed in range(300)]
    assert sum(1 for one in changed if elements(one)) > 150
