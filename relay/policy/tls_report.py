"""What one session, or the want of one, is in a TLS report: under which policies it counts, and what failed. Pure.

RFC 8460 section 4 (what is reported) and section 1.1 (whose domain a policy is of).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relay.policy.tls_failure import ReportResult


class PolicyType(Enum):
    """RFC 8460 section 4.4: policy-type."""

    TLSA = "tlsa"
    STS = "sts"
    NO_POLICY_FOUND = "no-policy-found"


@dataclass(frozen=True, slots=True)
class ReportedPolicy:
    """A policy as a report gives it. `domain` is the policy-domain: for TLSA, the TLSA base domain.

    `strings` are the lines of the MTA-STS policy, or the TLSA records, as they were published; `mx` the host patterns.
    """

    type: PolicyType
    domain: str
    strings: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a session counts as failed. RFC 8460 section 4.3; empty texts are left out of the report."""

    result: ReportResult
    reason: str = ""  # failure-reason-code
    host: str = ""  # receiving-mx-hostname
    helo: str = ""  # receiving-mx-helo
    address: str = ""  # receiving-ip
    source: str = ""  # sending-mta-ip


@dataclass(frozen=True, slots=True)
class Tally:
    """One session, or one failure before there was one, under one policy.

    `domain` is the recipient's domain (or that of the route): who is told, at its own `_smtp._tls` record.
    """

    domain: str
    policy: ReportedPolicy
    fault: Fault | None = None  # None: it counts as successful
