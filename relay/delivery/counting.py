"""Tells what one attempt shows to the counts of TLS reports, each thing once. RFC 8460 section 4.

What a session is under which policy is decided in `relay.policy.tls_report`. A failure before there is a session counts
once in an attempt, however many hosts it keeps the mail from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from relay.events import DefectFound, Emit
from relay.mail.outcome import Deferred, Failed
from relay.policy import tls_report
from relay.policy.chain import Trust
from relay.policy.observed import ObservedSession
from relay.policy.requirement import DNS_UNDECIDED_4_7_5, Evidence, Refuse
from relay.policy.sts import StsResult
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import PolicyType, Tally
from relay.policy.verdict import Verdict
from relay.setting_types import is_address

_Failure = tuple[str, PolicyType, str, ReportResult]


@dataclass(slots=True)
class Counting:
    """The counting of one attempt. `count`: None where nothing is to be counted, and then nothing is worked out.

    `public_addresses`: those that others see us with, where they are not our own.
    """

    count: Callable[[Sequence[Tally]], None] | None
    emit: Emit
    public_addresses: tuple[str, ...] = ()
    _told: set[_Failure] = field(default_factory=set)

    def session(self, evidence: Evidence, seen: ObservedSession, verdict: Verdict | None, trust: Trust) -> None:
        """A new session that came as far as STARTTLS or its absence; `verdict`: as in `tls_report.of_session`."""

        def work() -> Sequence[Tally]:
            return tls_report.of_session(evidence, replace(seen, source=self._public(seen.source)), verdict, trust)

        self._tell(evidence.domain, work)

    def refused(self, evidence: Evidence, refuse: Refuse) -> None:
        """A host that is not called."""
        self._tell(evidence.domain, lambda: self._new(tls_report.of_host(evidence, refuse)))

    def policy(self, domain: str, sts: StsResult) -> None:
        """The MTA-STS policy that is in force for a route, or why there is none."""
        self._tell(domain, lambda: self._new(tls_report.of_policy(domain, sts)))

    def not_found(self, domain: str, why: Deferred | Failed, host: str = "") -> None:
        """Mail hosts, or the addresses of one, that DNS does not give. It counts when the answer was no true one."""
        if why.status == DNS_UNDECIDED_4_7_5:
            self._tell(domain, lambda: self._new((tls_report.of_bogus_answer(domain, why.reason, host),)))

    def _tell(self, domain: str, work: Callable[[], Sequence[Tally]]) -> None:
        """A defect in it must not keep mail back, or have it sent once more."""
        if self.count is None or not _has_reports(domain):
            return
        try:
            tallies = work()
            if tallies:
                self.count(tallies)
        except Exception as error:  # noqa: BLE001  reported
            self.emit(DefectFound("TLS reports", repr(error)))

    def _new(self, tallies: Sequence[Tally]) -> Sequence[Tally]:
        """Those that were not told in this attempt."""
        new = [one for one in tallies if _failure(one) not in self._told]
        self._told.update(map(_failure, new))
        return new

    def _public(self, own: str) -> str:
        """How others see us where we send from `own`."""
        if not own or not self.public_addresses:
            return own
        version = ip_address(own).version
        return next((one for one in self.public_addresses if ip_address(one).version == version), own)


def _has_reports(domain: str) -> bool:
    """An address literal is no domain: there is nobody to be told."""
    return not is_address(domain.strip("[]").removeprefix("IPv6:"))


def _failure(tally: Tally) -> _Failure:
    assert tally.fault is not None  # noqa: S101  (before a session there is nothing else)
    return tally.domain, tally.policy.type, tally.policy.domain, tally.fault.result
