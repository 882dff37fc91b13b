"""What `relay check` makes of a verdict on DMARC."""

from __future__ import annotations

import pytest

from relay.dmarc_check import finding
from relay.finding import Finding, fail, ok, warn
from relay.policy.alignment import Alignment, Kind


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (Alignment(Kind.PASSES, "SPF will pass"), ok("dmarc", "a.test: SPF will pass")),
        (
            Alignment(Kind.NO_POLICY, "SPF will pass"),
            ok("dmarc", "a.test: SPF will pass; the domain has no DMARC record"),
        ),
        (Alignment(Kind.FAILS, "why", ("this", "that")), fail("dmarc", "a.test: why", "this; or that")),
        (Alignment(Kind.PARTLY, "why", ("this",)), warn("dmarc", "a.test: why", "this")),
        (Alignment(Kind.UNPROVEN, "why", ("this",)), warn("dmarc", "a.test: why", "this")),
        (Alignment(Kind.UNKNOWN, "why"), warn("dmarc", "a.test: why", "relay explain --from a.test says more")),
    ],
)
def test_findings(found: Alignment, shown: Finding) -> None:
    assert finding("a.test", found) == shown
