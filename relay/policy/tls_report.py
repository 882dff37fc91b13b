"""What one session, or the want of one, is in a TLS report: under which policies it counts, and what failed. Pure.

Each policy that the domain publishes is looked at by itself, whatever was asked of the session: an override, REQUIRETLS
and `TLS-Required: no` change what becomes of a message, and nothing of what the domain is told.

RFC 8460 section 4 (what is reported) and section 1.1 (whose domain a policy is of).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final

from relay.mail.message import TlsDemand
from relay.policy.chain import ChainFault, Trust, check_chain, name_fault
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsSeen, TlsVersion
from relay.policy.requirement import Evidence, Refuse
from relay.policy.sts import (
    StsFetchFailed,
    StsFound,
    StsMode,
    StsPolicy,
    StsProblem,
    StsResult,
    StsUnknown,
    lists,
)
from relay.policy.tls_failure import CONSEQUENCES, ReportResult, TlsFailure, of_handshake, of_verify_code
from relay.policy.tlsa import (
    NoTlsa,
    TlsaLookupFailed,
    TlsaRecord,
    UnusableTlsa,
    UsableTlsa,
    mismatch,
    why_unusable,
)
from relay.policy.verdict import Allow, Verdict

_MOST_CHARACTERS: Final = 160  # of a reason
_UNPRINTABLE: Final = re.compile(r"[^ -~]+")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,255}")
_LINE_END: Final = re.compile(r"\r?\n")
_OF_PROBLEM: Final = {
    StsProblem.FETCH: ReportResult.STS_POLICY_FETCH_ERROR,
    StsProblem.CERTIFICATE: ReportResult.STS_WEBPKI_INVALID,
    StsProblem.INVALID: ReportResult.STS_POLICY_INVALID,
}


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


def of_session(evidence: Evidence, seen: ObservedSession, verdict: Verdict | None, trust: Trust) -> tuple[Tally, ...]:
    """What a new session with `evidence.host` counts as: once under each policy, or else under none.

    `verdict`: what `judge` said of it, so that nothing that it looked at is looked at again; None: it was not asked.
    Nothing is told of what the session does not show: a handshake that was broken off for the sake of a certificate
    shows no chain to hold against TLSA records.
    """
    satisfied = _is_all_satisfied(evidence, verdict)
    tallies = [
        Tally(evidence.domain, policy, None if fault is None else _on(seen, fault))
        for policy, fault in (
            *_of_tlsa(evidence, seen, satisfied, trust),
            *_of_sts(evidence, seen, satisfied, trust),
        )
    ]
    if tallies or _is_published(evidence):
        return tuple(tallies)
    return tuple(
        Tally(evidence.domain, _none_found(evidence.domain), None if fault is None else _on(seen, fault))
        for fault in _of_opportunistic(seen)
    )


def of_host(evidence: Evidence, refuse: Refuse) -> tuple[Tally, ...]:
    """The failures for which a host is not called, or which are known before it is."""
    found: list[tuple[ReportedPolicy, Fault]] = []
    tlsa = evidence.tlsa
    if isinstance(tlsa, TlsaLookupFailed):
        found.append(_lookup_failed(evidence, tlsa))
    elif isinstance(tlsa, NoTlsa) and refuse.result is ReportResult.DANE_REQUIRED:
        policy = ReportedPolicy(PolicyType.TLSA, evidence.host.name)
        found.append((policy, Fault(ReportResult.DANE_REQUIRED, _clean(tlsa.reason))))
    elif isinstance(tlsa, UnusableTlsa):
        found.append((_tlsa_policy(tlsa.base, tlsa.records, ()), _unusable(tlsa)))
    policy_in_force = _in_force(evidence.sts)
    if policy_in_force is not None and not lists(policy_in_force, evidence.host.name):
        found.append((_sts_policy(evidence.domain, policy_in_force), _not_listed(policy_in_force)))
    host = evidence.host.name
    return tuple(Tally(evidence.domain, policy, replace(fault, host=host)) for policy, fault in found)


def of_policy(domain: str, sts: StsResult) -> tuple[Tally, ...]:
    """What keeps the MTA-STS policy that `domain` announces from being had. Nothing where none is announced."""
    unknown = ReportedPolicy(PolicyType.STS, domain)
    match sts:
        case StsFetchFailed(reason, StsProblem() as problem):
            return (Tally(domain, unknown, Fault(_OF_PROBLEM[problem], _clean(reason))),)
        case StsFound(policy, stale_reason=str() as reason, stale_problem=StsProblem() as problem):
            known = _sts_policy(domain, policy)
            return (Tally(domain, known, Fault(_OF_PROBLEM[problem], _clean(reason))),)
        case StsUnknown(reason, bogus=True):
            return (Tally(domain, unknown, Fault(ReportResult.DNSSEC_INVALID, _clean(reason))),)
        case _:
            return ()


def of_bogus_answer(domain: str, reason: str, host: str = "") -> Tally:
    """The mail hosts of `domain`, or the addresses of `host`, that failed DNSSEC validation."""
    return Tally(domain, _none_found(domain), Fault(ReportResult.DNSSEC_INVALID, _clean(reason), host))


def _of_tlsa(
    evidence: Evidence, seen: ObservedSession, satisfied: bool, trust: Trust
) -> Iterator[tuple[ReportedPolicy, Fault | None]]:
    """The session under the host's TLSA records; nothing where it has none, or where it can't be told."""
    tlsa = evidence.tlsa
    if isinstance(tlsa, NoTlsa):
        return
    if isinstance(tlsa, TlsaLookupFailed):
        yield _lookup_failed(evidence, tlsa)
    elif isinstance(tlsa, UnusableTlsa):
        absent = None if _is_broken_off(seen) else _tls_fault(seen)
        yield _tlsa_policy(tlsa.base, tlsa.records, ()), absent or _unusable(tlsa)
    elif not _is_broken_off(seen):
        failed = None if satisfied else _tls_fault(seen) or _mismatch(tlsa, seen.tls, trust)
        yield _tlsa_policy(tlsa.base, tlsa.records, tlsa.others), failed


def _of_sts(
    evidence: Evidence, seen: ObservedSession, satisfied: bool, trust: Trust
) -> Iterator[tuple[ReportedPolicy, Fault | None]]:
    """The session under the domain's MTA-STS policy; nothing where none is in force."""
    policy = _in_force(evidence.sts)
    if policy is None:
        return
    fault = None
    if not satisfied:
        host = evidence.host.name
        listed = None if lists(policy, host) else _not_listed(policy)
        fault = listed or _tls_fault(seen) or _certificate_fault(host, seen.tls, trust)
    yield _sts_policy(evidence.domain, policy), fault


def _of_opportunistic(seen: ObservedSession) -> Iterator[Fault | None]:
    """The session where nothing is published: no certificate is asked for, but by ourselves."""
    if not _is_broken_off(seen):
        yield None if seen.tls is not None else _absence(seen.handshake)


def _is_published(evidence: Evidence) -> bool:
    return not isinstance(evidence.tlsa, NoTlsa) or _in_force(evidence.sts) is not None


def _is_all_satisfied(evidence: Evidence, verdict: Verdict | None) -> bool:
    """Whether `judge` has found that the session satisfies all that is published.

    It looks at that, enforced or not, unless the sender waives it.
    """
    return isinstance(verdict, Allow) and verdict.would_refuse is None and evidence.demand is not TlsDemand.WAIVED


def _is_broken_off(seen: ObservedSession) -> bool:
    """Whether the handshake failed for a certificate, of which more than the fault is not known."""
    return seen.handshake is not None and seen.handshake.problem is HandshakeProblem.CERTIFICATE


def _in_force(sts: StsResult) -> StsPolicy | None:
    """Mode `none` is no active policy: RFC 8461 section 5."""
    return sts.policy if isinstance(sts, StsFound) and sts.policy.mode is not StsMode.NONE else None


def _tls_fault(seen: ObservedSession) -> Fault | None:
    """What is wrong with the TLS of a session that must have it, whatever its certificate. RFC 8996: TLS 1.2."""
    if seen.tls is None:
        return _absence(seen.handshake)
    if seen.tls.version < TlsVersion.TLS_1_2:
        return _fault(TlsFailure.VERSION, f"{TlsFailure.VERSION.value}: {seen.tls.version}")
    return None


def _absence(handshake: HandshakeFailure | None) -> Fault:
    if handshake is None:
        return _fault(TlsFailure.NOT_OFFERED, TlsFailure.NOT_OFFERED.value)
    failure = of_handshake(handshake)
    return _fault(failure, f"{failure.value}: {handshake.detail}" if handshake.detail else failure.value)


def _mismatch(tlsa: UsableTlsa, tls: TlsSeen | None, trust: Trust) -> Fault | None:
    return _chain_fault(mismatch(tlsa, () if tls is None else tls.chain, trust.now))


def _certificate_fault(host: str, tls: TlsSeen | None, trust: Trust) -> Fault | None:
    """RFC 8461 section 4.2: a chain to a trusted root, and the name of the mail host."""
    chain = () if tls is None else tls.chain
    verified = tls is not None and tls.path_verified and bool(chain)
    path = None if verified else check_chain(chain, trust)
    return _chain_fault(path if path is not None else name_fault(chain[0], host))


def _chain_fault(found: ChainFault | None) -> Fault | None:
    return None if found is None else _fault(of_verify_code(found.code), found.text)


def _fault(failure: TlsFailure, reason: str) -> Fault:
    return Fault(CONSEQUENCES[failure].result, _clean(reason))


def _not_listed(policy: StsPolicy) -> Fault:
    return Fault(ReportResult.VALIDATION_FAILURE, _clean(f"host-not-listed: mx is {', '.join(policy.mx)}"))


def _lookup_failed(evidence: Evidence, tlsa: TlsaLookupFailed) -> tuple[ReportedPolicy, Fault]:
    """The records are not known, and the mail waits for them: whether forged or not to be had."""
    policy = ReportedPolicy(PolicyType.TLSA, evidence.host.name)
    return policy, Fault(ReportResult.DNSSEC_INVALID, _clean(tlsa.reason))


def _unusable(tlsa: UnusableTlsa) -> Fault:
    reasons = dict.fromkeys(why_unusable(record) or "" for record in tlsa.records[:4])
    return Fault(ReportResult.TLSA_INVALID, _clean("; ".join(reasons)))


def _on(seen: ObservedSession, fault: Fault) -> Fault:
    """`fault` with where it was."""
    helo = seen.helo if _HOST_NAME.fullmatch(seen.helo) else ""
    return replace(fault, host=seen.host, helo=helo, address=seen.address, source=seen.source)


def _clean(reason: str) -> str:
    """For a report that others read: printable ASCII, and short."""
    return _UNPRINTABLE.sub("?", reason)[:_MOST_CHARACTERS].rstrip()


def _none_found(domain: str) -> ReportedPolicy:
    return ReportedPolicy(PolicyType.NO_POLICY_FOUND, domain)


@lru_cache(maxsize=256)
def _sts_policy(domain: str, policy: StsPolicy) -> ReportedPolicy:
    lines = tuple(_LINE_END.split(policy.raw))
    return ReportedPolicy(PolicyType.STS, domain, lines[:-1] if not lines[-1] else lines, policy.mx)


@lru_cache(maxsize=256)
def _tlsa_policy(base: str, records: tuple[TlsaRecord, ...], others: tuple[TlsaRecord, ...]) -> ReportedPolicy:
    """In one order, whatever that of the answer: it changes from lookup to lookup."""
    return ReportedPolicy(PolicyType.TLSA, base, tuple(sorted(map(str, (*records, *others)))))
