"""What was counted of a domain in a day, as the store gives it and a report tells it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from relay.policy.tls_report import Fault, ReportedPolicy


@dataclass(frozen=True, slots=True)
class Counted:
    """How many sessions came to the same under one policy. `fault` None: they succeeded."""

    policy: ReportedPolicy
    fault: Fault | None
    number: int
