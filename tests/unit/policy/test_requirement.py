"""What an attempt's record says of what was required."""

from __future__ import annotations

import pytest

from relay.mail.record import AttemptRecord, HostRecord
from relay.policy.requirement import Rule, nothing_required

FREE = (Rule.OPPORTUNISTIC, Rule.WAIVED)


@pytest.mark.parametrize(
    ("rules", "free"),
    [
        *(((rule,), rule in FREE) for rule in Rule),
        (FREE, True),
        ((Rule.OPPORTUNISTIC, Rule.STS), False),
        ((), False),  # nothing is known of its hosts, and so nothing of what they must show
    ],
)
def test_nothing_required(rules: tuple[Rule, ...], free: bool) -> None:
    tried = tuple(HostRecord("mx.b.test", None, "", rule.value, "", "") for rule in rules)
    assert nothing_required(AttemptRecord(tried=tried)) is free
