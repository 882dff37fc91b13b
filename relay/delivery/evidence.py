"""Gathers what an attempt keeps as evidence: what was known, required and seen, and the verdict, host by host.

It decides nothing; the words are those of `policy.words`, the value is `mail.record`.
"""

from __future__ import annotations

from datetime import datetime

from relay.mail.outcome import Deferred, Failed
from relay.mail.record import AttemptRecord, HostRecord
from relay.policy import words
from relay.policy.observed import ObservedSession
from relay.policy.override import Override
from relay.policy.requirement import Refuse, Requirement
from relay.policy.sts import StsResult
from relay.policy.tlsa import NoTlsa, TlsaResult
from relay.policy.verdict import Verdict


class Trail:
    """The evidence of one attempt, as it comes."""

    def __init__(self) -> None:
        self._policies: list[str] = []
        self._tried: list[HostRecord] = []

    def record(self) -> AttemptRecord:
        """What there is so far."""
        return AttemptRecord(tuple(self._policies), tuple(self._tried))

    def policy(self, sts: StsResult, now: datetime) -> None:
        """The MTA-STS policy that is in force, or why there is none."""
        self._policies.append(f"MTA-STS: {words.of_sts(sts, now)}")

    def override(self, host: str, override: Override) -> None:
        """The operator's own word on a host."""
        self._policies.append(f"override for {host}: {words.of_override(override)}")

    def tlsa(self, host: str, tlsa: TlsaResult) -> None:
        """The DANE records of a host, if it has any."""
        if not isinstance(tlsa, NoTlsa):
            self._policies.append(f"DANE for {host}: {words.of_tlsa(tlsa)}")

    def not_called(self, host: str, why: Refuse | Deferred | Failed) -> None:
        """A host that no connection was tried with."""
        if isinstance(why, Refuse):
            self._tried.append(HostRecord(host, None, "", why.rule.value, "not called", words.of_verdict(why)))
        else:
            self._tried.append(HostRecord(host, None, "", "", why.reason, f"{why.status}"))

    def no_session(
        self, host: str, address: str, need: Requirement, outcome: Deferred | Failed, dialogue: tuple[str, ...]
    ) -> None:
        """A connection that came to nothing."""
        told = (words.of_requirement(need), need.rule.value, outcome.reason, f"no session, {outcome.status}")
        self._tried.append(HostRecord(host, address, *told, dialogue))

    def session(
        self, need: Requirement, seen: ObservedSession, verdict: Verdict, dialogue: tuple[str, ...] = ()
    ) -> None:
        """A session that was judged. `dialogue` when it failed."""
        told = (words.of_requirement(need), verdict.rule.value, words.of_session(seen), words.of_verdict(verdict))
        self._tried.append(HostRecord(need.host, seen.address, *told, dialogue))
