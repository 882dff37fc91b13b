"""The decision: may this session carry this message? One function says yes or no.

`require` says before connecting what a session with one host must prove (`policy.requirement`); `judge` says after the
handshake whether it did; `decide` is the two together.

Only `judge` makes an `Allow`, and no message is sent without one (`delivery.smtp.OpenSession.send` takes it).

RFC 8461 sections 2, 4 and 5 (MTA-STS), RFC 7672 section 2.2 (DANE), RFC 8689 sections 4 and 5 (REQUIRETLS).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from relay.mail.outcome import TlsUsed
from relay.mail.status import Kind, Status
from relay.policy.chain import ChainFault, Trust, check_chain, name_fault
from relay.policy.memory import TlsMemory, is_lost, waits_until
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsSeen
from relay.policy.override import fits
from relay.policy.requirement import (
    ASKED_BY,
    DNS_UNDECIDED_4_7_5,
    NOT_LISTED_4_4_8,
    REQUIRETLS_UNAUTHENTICATED_5_7_10,
    Evidence,
    Identity,
    Level,
    Refuse,
    Requirement,
    Rule,
    Unenforced,
    require,
)
from relay.policy.tls_failure import (
    CONSEQUENCES,
    NOT_VERIFIED_4_7_5,
    TLS_NOT_OFFERED_4_7_4,
    TLS_TOO_OLD_4_7_6,
    ReportResult,
    TlsFailure,
    of_handshake,
    of_verify_code,
)
from relay.policy.tlsa import matches

__all__ = [
    "DNS_UNDECIDED_4_7_5",
    "NOT_LISTED_4_4_8",
    "NOT_VERIFIED_4_7_5",
    "REQUIRETLS_NOT_OFFERED_5_7_30",
    "REQUIRETLS_UNAUTHENTICATED_5_7_10",
    "TLS_NOT_OFFERED_4_7_4",
    "TLS_TOO_OLD_4_7_6",
    "Allow",
    "Evidence",
    "Level",
    "Refuse",
    "ReportResult",
    "Requirement",
    "Rule",
    "Verdict",
    "decide",
    "judge",
    "require",
]

REQUIRETLS_NOT_OFFERED_5_7_30: Final = Status(Kind.PERMANENT, 7, 30)


@dataclass(frozen=True, slots=True)
class Allow:
    """This session may carry this message.

    `would_refuse`: what a policy that is not enforced found wrong, and `unenforced` why it is not. `proven_by`: the
    rule whose requirement proved who the host is. `lost`: the host had TLS before, and mail goes out with a warning.
    """

    tls: TlsUsed
    rule: Rule
    would_refuse: Refuse | None = None
    unenforced: Unenforced | None = None
    proven_by: Rule | None = None
    lost: TlsMemory | None = None


Verdict = Allow | Refuse


def judge(need: Requirement, seen: ObservedSession, trust: Trust) -> Verdict:
    """Whether the session that was `seen` proved what it needed to. Total: every input has an answer."""
    refusal = _refusal(need, seen, trust) or _downgrade(need, seen, trust.now)
    if refusal is not None:
        return refusal
    would_refuse, unenforced, proven_by = _reported(need, seen, trust)
    if seen.tls is None:
        return Allow(TlsUsed.NONE, need.rule, would_refuse, unenforced, lost=_lost(need))
    tls = TlsUsed.ENCRYPTED if proven_by is None else TlsUsed.VERIFIED
    return Allow(tls, need.rule, would_refuse, unenforced, proven_by)


def decide(evidence: Evidence, seen: ObservedSession, trust: Trust) -> Verdict:
    """`require` and `judge` together: the whole decision for one host."""
    need = require(evidence)
    return need if isinstance(need, Refuse) else judge(need, seen, trust)


def _reported(
    need: Requirement, seen: ObservedSession, trust: Trust
) -> tuple[Refuse | None, Unenforced | None, Rule | None]:
    """What is not enforced and would have refused, and why it is not; and the rule that proved who the host is."""
    proven_by = _proof(need)
    while need.reported is not None:
        more = need.reported
        if isinstance(more, Refuse):
            return more, need.unenforced, proven_by
        refusal = _refusal(more, seen, trust)
        if refusal is not None:
            return refusal, need.unenforced, proven_by
        proven_by = proven_by or _proof(more)
        need = more
    return None, None, proven_by


def _proof(need: Requirement) -> Rule | None:
    """The rule by which a session that satisfies `need` has proven who the host is."""
    if need.level is not Level.AUTHENTICATED:
        return None
    if need.tlsa is not None:
        return Rule.DANE
    if need.identities:
        return need.identities[0].rule
    return need.fingerprints[0].rule if need.fingerprints else need.rule


def _downgrade(need: Requirement, seen: ObservedSession, now: datetime) -> Refuse | None:
    """RFC 3207 §6: a host that had TLS and has none now may be somebody else's doing; mail waits a while."""
    if seen.tls is not None or need.remembered is None:
        return None
    memory, rules = need.remembered.memory, need.remembered.rules
    until = waits_until(memory, rules, now)
    if until is None:
        return None
    what = (
        f"{need.host} had TLS from {memory.since:%Y-%m-%d} to {memory.last:%Y-%m-%d} and has none now; "
        f"mail waits for it until {until:%Y-%m-%d %H:%M} UTC"
    )
    return _refuse(TlsFailure.NOT_OFFERED, what, Rule.TLS_MEMORY)


def _lost(need: Requirement) -> TlsMemory | None:
    known = need.remembered
    return known.memory if known is not None and is_lost(known.memory, known.rules) else None


def _refusal(need: Requirement, seen: ObservedSession, trust: Trust) -> Refuse | None:
    if need.level is Level.ANY:
        return None
    fault = _fault(need, seen, trust)
    if fault is not None and need.requiretls:
        # RFC 8689 §4.2.1: when no host is left, the sender is told, and not days later; but not for a passing trouble.
        status = REQUIRETLS_UNAUTHENTICATED_5_7_10
        if _is_passing(seen):
            status = status.with_kind(Kind.TEMPORARY)
        return Refuse(status, fault.reason, fault.rule, fault.result)
    if fault is not None:
        return fault
    if need.requiretls and not seen.requiretls_offered:
        what = f"the sender requires TLS all the way (REQUIRETLS), and {need.host} does not offer REQUIRETLS"
        return Refuse(REQUIRETLS_NOT_OFFERED_5_7_30, what, Rule.REQUIRETLS)
    return None


def _is_passing(seen: ObservedSession) -> bool:
    """Whether the handshake failed in a way that may be over in a minute."""
    return seen.handshake is not None and CONSEQUENCES[of_handshake(seen.handshake)].passing


def _refuse(failure: TlsFailure, what: str, rule: Rule) -> Refuse:
    consequence = CONSEQUENCES[failure]
    return Refuse(consequence.status, what, rule, consequence.result)


def _fault(need: Requirement, seen: ObservedSession, trust: Trust) -> Refuse | None:
    """What is wrong: TLS is not there, failed or is too old, or the chain does not prove what it must."""
    if seen.tls is None:
        return _absence(need, seen)
    if seen.tls.version < need.minimum:
        what = f"{ASKED_BY[need.rule]} with {need.minimum} or newer, but {need.host} uses {seen.tls.version}"
        return _refuse(TlsFailure.VERSION, what, need.rule)
    return _identity_fault(need, seen.tls, trust)


def _absence(need: Requirement, seen: ObservedSession) -> Refuse:
    """Why there is no TLS."""
    if seen.handshake is not None:
        return _handshake_fault(need, seen.handshake)
    why = "was spoken to without STARTTLS" if seen.starttls_offered else "does not offer STARTTLS"
    return _refuse(TlsFailure.NOT_OFFERED, f"{ASKED_BY[need.rule]}, but {need.host} {why}", need.rule)


def _handshake_fault(need: Requirement, failure: HandshakeFailure) -> Refuse:
    # OpenSSL looks at certificates in the handshake for the sake of `identities` only.
    of_certificate = failure.problem is HandshakeProblem.CERTIFICATE and need.identities
    rule = _blamed(need, need.identities[0]) if of_certificate else need.rule
    detail = f": {failure.detail}" if failure.detail else ""
    what = f"{ASKED_BY[rule]}, but with {need.host} {failure.problem.value}{detail}"
    return _refuse(of_handshake(failure), what, rule)


def _identity_fault(need: Requirement, tls: TlsSeen, trust: Trust) -> Refuse | None:
    """Whether the chain proves each thing asked of it: a TLSA record, a fingerprint, names from trusted authorities."""
    if need.tlsa is not None:
        mismatch = matches(need.tlsa, tls.chain, trust.now)
        if mismatch is not None:
            what = f"the DANE (TLSA) records of {need.host} do not fit the server that answered: {mismatch}"
            return _refuse(TlsFailure.TLSA_MISMATCH, what, Rule.DANE)
    for pinned in need.fingerprints:
        if not (tls.chain and fits(pinned.digests, tls.chain[0])):
            what = f"the certificate of {need.host} is none of those in this server's own settings"
            return _refuse(TlsFailure.FINGERPRINT, what, pinned.rule)
    for identity in need.identities:
        fault = _name_and_chain_fault(identity.names, tls, trust)
        if fault is not None:
            rule = _blamed(need, identity)
            what = f"{ASKED_BY[rule]}, but the certificate of {need.host} was not accepted: {fault.text}"
            return _refuse(of_verify_code(fault.code), what, rule)
    return None


def _blamed(need: Requirement, identity: Identity) -> Rule:
    """Whom a certificate's fault is laid to: the one who asked for the name, or REQUIRETLS, which asks for all."""
    return Rule.REQUIRETLS if need.requiretls else identity.rule


def _name_and_chain_fault(names: tuple[str, ...], tls: TlsSeen, trust: Trust) -> ChainFault | None:
    fault = None if tls.path_verified and tls.chain else check_chain(tls.chain, trust)
    return fault if fault is not None else name_fault(tls.chain[0], *names)
