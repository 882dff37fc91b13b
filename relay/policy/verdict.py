"""The decision: may this session carry this message? One function says yes or no.

`require` says, before connecting, what a session with one host must prove; `judge` says, after the handshake, whether
it did; `decide` is the two together. Requirements add up: whatever the recipient's domain publishes, the sender asks
for or the operator sets must all hold, and none rescues another.

Only `judge` makes an `Allow`, and no message is sent without one (`delivery.smtp.OpenSession.send` takes it).

RFC 8461 sections 2, 4 and 5 (MTA-STS), RFC 7672 section 2.2 (DANE), RFC 8689 sections 4 and 5 (REQUIRETLS).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, assert_never

from relay.mail.message import TlsDemand
from relay.mail.outcome import TlsUsed
from relay.mail.status import Kind, Status
from relay.policy.chain import ChainFault, Trust, check_chain, names_match
from relay.policy.mx import MxHost
from relay.policy.observed import HandshakeProblem, ObservedSession, TlsVersion
from relay.policy.override import Level, Override
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsMode, StsPolicy, StsResult, StsUnknown, lists
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaResult, UnusableTlsa, UsableTlsa, matches

# The codes that Exchange Online uses, so that help desks and bounce parsers know them; class 5 once we give up.
TLS_NOT_OFFERED_4_7_4: Final = Status(Kind.TEMPORARY, 7, 4)
NOT_VERIFIED_4_7_5: Final = Status(Kind.TEMPORARY, 7, 5)
DNS_UNDECIDED_4_7_5: Final = Status(Kind.TEMPORARY, 7, 5)
TLS_TOO_OLD_4_7_6: Final = Status(Kind.TEMPORARY, 7, 6)
NOT_LISTED_4_4_8: Final = Status(Kind.TEMPORARY, 4, 8)
REQUIRETLS_UNAUTHENTICATED_5_7_10: Final = Status(Kind.PERMANENT, 7, 10)
REQUIRETLS_NOT_OFFERED_5_7_30: Final = Status(Kind.PERMANENT, 7, 30)
HOSTNAME_MISMATCH: Final = 62  # X509_V_ERR_HOSTNAME_MISMATCH


class ReportResult(Enum):
    """RFC 8460 section 4.3: what a refusal is called in a TLS report."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"


class Rule(Enum):
    """The row of the table that decided. docs/tls-policy.md lists them."""

    WAIVED = "tls-required-no"
    OVERRIDE = "override"
    DNS_UNDECIDED = "dns-undecided"
    DANE = "dane"
    DANE_UNUSABLE = "dane-unusable"
    STS_NOT_LISTED = "sts-not-listed"
    STS = "sts"
    REQUIRETLS = "requiretls"
    OPPORTUNISTIC = "opportunistic"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known before connecting to one host of one destination."""

    domain: str  # the recipient's domain (or the configured next hop): where policies are published
    host: MxHost
    tlsa: TlsaResult
    sts: StsResult
    demand: TlsDemand = TlsDemand.DEFAULT
    override: Override | None = None


_ASKED_BY: Final = {
    Rule.WAIVED: "the sender waives TLS",
    Rule.OVERRIDE: "this server's own settings demand TLS",
    Rule.DNS_UNDECIDED: "DNS is undecided",
    Rule.DANE: "DANE demands TLS",
    Rule.DANE_UNUSABLE: "the published DANE (TLSA) records demand TLS",
    Rule.STS_NOT_LISTED: "the MTA-STS policy demands TLS",
    Rule.STS: "the MTA-STS policy demands TLS",
    Rule.REQUIRETLS: "the sender demands TLS (REQUIRETLS)",
    Rule.OPPORTUNISTIC: "nothing demands TLS",
}


@dataclass(frozen=True, slots=True)
class Testing:
    """An MTA-STS policy in testing mode: what it would ask for, checked and reported, never refused."""

    name: str
    listed: bool


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a session with one host must prove before a message may use it."""

    host: str
    sni: str
    level: Level
    rule: Rule  # the strictest thing asked, named when the answer is yes
    tlsa: UsableTlsa | None = None  # the chain must match one of its records
    webpki_name: str | None = None  # the chain must lead to a trusted authority and carry this name
    testing: Testing | None = None
    minimum: TlsVersion = TlsVersion.TLS_1_0
    requiretls: bool = False
    clear_text: bool = True  # may we go on without TLS when TLS fails?


@dataclass(frozen=True, slots=True)
class Refuse:
    """This host may not have this message now. `status` is of class 4 unless it is REQUIRETLS that fails."""

    status: Status
    reason: str
    rule: Rule
    result: ReportResult | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """This session may carry this message. `would_refuse`: what a policy in testing mode found wrong."""

    tls: TlsUsed
    rule: Rule
    would_refuse: Refuse | None = None


Verdict = Allow | Refuse


def require(evidence: Evidence) -> Requirement | Refuse:
    """What a session with `evidence.host` must prove, or why the host is not even tried."""
    if evidence.demand is TlsDemand.WAIVED:
        return _nothing_required(evidence, Rule.WAIVED)  # RFC 8689 §3: the sender asks that no policy stops it
    override = evidence.override
    if override is not None and override.replaces:
        need: Requirement | Refuse = _raise_to(_nothing_required(evidence, Rule.OVERRIDE), override)
    else:
        need = _published(evidence)
        if override is not None and isinstance(need, Requirement):
            need = _raise_to(need, override)
    if evidence.demand is TlsDemand.REQUIRED and isinstance(need, Requirement):
        need = _authenticated_for_requiretls(need, evidence)
    return need


def judge(need: Requirement, seen: ObservedSession, trust: Trust) -> Verdict:
    """Whether the session that was `seen` proved what it needed to. Total: every input has an answer."""
    refusal = _refusal(need, seen, trust)
    if refusal is not None:
        return refusal
    if seen.tls is None:
        return Allow(TlsUsed.NONE, need.rule, _testing_refusal(need, seen, trust))
    if need.level is Level.AUTHENTICATED:
        return Allow(TlsUsed.VERIFIED, need.rule, _testing_refusal(need, seen, trust))
    testing = _testing_refusal(need, seen, trust)
    verified = need.testing is not None and testing is None
    return Allow(TlsUsed.VERIFIED if verified else TlsUsed.ENCRYPTED, need.rule, testing)


def decide(evidence: Evidence, seen: ObservedSession, trust: Trust) -> Verdict:
    """`require` and `judge` together: the whole decision for one host."""
    need = require(evidence)
    return need if isinstance(need, Refuse) else judge(need, seen, trust)


def _nothing_required(evidence: Evidence, rule: Rule) -> Requirement:
    sni = evidence.tlsa.base if isinstance(evidence.tlsa, UsableTlsa) else evidence.host.name
    return Requirement(evidence.host.name, sni, Level.ANY, rule)


def _published(evidence: Evidence) -> Requirement | Refuse:
    """What the recipient's domain asks for: DANE and MTA-STS, added up."""
    need = _nothing_required(evidence, Rule.OPPORTUNISTIC)
    match evidence.tlsa:
        case TlsaLookupFailed(reason):
            # RFC 7672 §2.1.2: a lookup that fails at a signed step must not turn DANE off.
            what = f"whether {need.host} publishes DANE (TLSA) records could not be found out: {reason}"
            return Refuse(DNS_UNDECIDED_4_7_5, what, Rule.DNS_UNDECIDED, ReportResult.DNSSEC_INVALID)
        case UsableTlsa() as tlsa:
            need = replace(
                need, tlsa=tlsa, level=Level.AUTHENTICATED, rule=Rule.DANE, minimum=TlsVersion.TLS_1_2, clear_text=False
            )
        case UnusableTlsa():
            # RFC 7672 §2.2: records none of which is usable still make TLS mandatory, unauthenticated.
            need = _raised(need, Level.ENCRYPTED, Rule.DANE_UNUSABLE)
        case NoTlsa():
            pass
        case _ as unreachable:
            assert_never(unreachable)
    match evidence.sts:
        case StsUnknown(reason):
            what = f"whether {evidence.domain} publishes an MTA-STS policy could not be found out: {reason}"
            return Refuse(DNS_UNDECIDED_4_7_5, what, Rule.DNS_UNDECIDED, ReportResult.DNSSEC_INVALID)
        case StsFound(policy):
            return _with_sts(need, evidence, policy)
        case NoSts() | StsFetchFailed():
            return need
    assert_never(evidence.sts)


def _with_sts(need: Requirement, evidence: Evidence, policy: StsPolicy) -> Requirement | Refuse:
    listed = lists(policy, need.host)
    if policy.mode is StsMode.NONE:
        return need
    if policy.mode is StsMode.TESTING:
        return replace(need, testing=Testing(need.host, listed))  # RFC 8461 §5: checked, reported, never refused
    if not listed:
        what = (
            f"the MTA-STS policy of {evidence.domain} (enforce) does not list the mail host {need.host}; "
            f"it allows {', '.join(policy.mx)}"
        )
        return Refuse(NOT_LISTED_4_4_8, what, Rule.STS_NOT_LISTED, ReportResult.VALIDATION_FAILURE)
    rule = Rule.DANE if need.tlsa is not None else Rule.STS
    return replace(_raised(need, Level.AUTHENTICATED, rule), webpki_name=need.host)


def _raise_to(need: Requirement, override: Override) -> Requirement:
    if override.level <= need.level and override.level is not Level.AUTHENTICATED:
        return need
    raised = _raised(need, override.level, Rule.OVERRIDE)
    return replace(raised, webpki_name=need.host) if override.level is Level.AUTHENTICATED else raised


def _raised(need: Requirement, level: Level, rule: Rule) -> Requirement:
    """`need`, raised to at least `level`. RFC 8996: TLS that is required is TLS 1.2 or newer."""
    if level is Level.ANY:
        return replace(need, rule=rule)
    return replace(
        need, level=max(need.level, level), rule=rule, minimum=max(need.minimum, TlsVersion.TLS_1_2), clear_text=False
    )


def _authenticated_for_requiretls(need: Requirement, evidence: Evidence) -> Requirement | Refuse:
    """RFC 8689 §4.2.1: the host's name must be beyond doubt, and the host authenticated under it."""
    raised = replace(_raised(need, Level.AUTHENTICATED, Rule.REQUIRETLS), requiretls=True)
    if need.rule is Rule.OVERRIDE and need.level is Level.AUTHENTICATED:
        return raised  # the operator vouches for the host
    if not _is_name_certain(evidence):
        what = (
            f"{_ASKED_BY[Rule.REQUIRETLS]}, and {evidence.domain} has neither signed DNS (DNSSEC) nor an MTA-STS "
            f"policy by which {need.host} is known to be its mail host"
        )
        if isinstance(evidence.sts, StsFetchFailed):  # it may list the host: not decided, so it waits
            what = f"{what}: {evidence.sts.reason}"
            return Refuse(REQUIRETLS_UNAUTHENTICATED_5_7_10.with_kind(Kind.TEMPORARY), what, Rule.REQUIRETLS)
        return Refuse(REQUIRETLS_UNAUTHENTICATED_5_7_10, what, Rule.REQUIRETLS)
    return raised if raised.tlsa is not None else replace(raised, webpki_name=need.host)


def _is_name_certain(evidence: Evidence) -> bool:
    """Whether nobody can have put another host in the place of the domain's own.

    Its name is the domain's (or the next hop that the operator named), came by DNSSEC, or is in an MTA-STS policy.
    """
    host = evidence.host
    policy = evidence.sts.policy if isinstance(evidence.sts, StsFound) else None
    listed = policy is not None and policy.mode is not StsMode.NONE and lists(policy, host.name)
    return host.mx_secure or host.name == evidence.domain or listed


def _refusal(need: Requirement, seen: ObservedSession, trust: Trust) -> Refuse | None:
    if need.level is Level.ANY:
        return None
    fault = _tls_fault(need, seen) or _certificate_fault(need, seen, trust)
    if fault is not None and need.requiretls and not _is_passing(seen):
        # RFC 8689 §4.2.1: when no host is left, the sender is told, and not days later.
        return replace(fault, status=REQUIRETLS_UNAUTHENTICATED_5_7_10)
    if fault is not None:
        return fault
    if need.requiretls and not seen.requiretls_offered:
        what = f"the sender requires TLS all the way (REQUIRETLS), and {need.host} does not offer REQUIRETLS"
        return Refuse(REQUIRETLS_NOT_OFFERED_5_7_30, what, Rule.REQUIRETLS)
    return None


def _is_passing(seen: ObservedSession) -> bool:
    """Whether the handshake failed in a way that may be over in a minute."""
    passing = (HandshakeProblem.TIMEOUT, HandshakeProblem.RESET)
    return seen.handshake is not None and seen.handshake.problem in passing


def _tls_fault(need: Requirement, seen: ObservedSession) -> Refuse | None:
    """What is wrong with TLS itself: not there, failed, too old."""
    asked = _ASKED_BY[need.rule]
    if seen.tls is None and seen.handshake is None:
        what = f"{asked}, but {need.host} does not offer STARTTLS"
        return Refuse(TLS_NOT_OFFERED_4_7_4, what, need.rule, ReportResult.STARTTLS_NOT_SUPPORTED)
    if seen.tls is None:
        return _handshake_fault(need, seen)
    if seen.tls.version < need.minimum:
        what = f"{asked} with {need.minimum} or newer, but {need.host} uses {seen.tls.version}"
        return Refuse(TLS_TOO_OLD_4_7_6, what, need.rule, ReportResult.VALIDATION_FAILURE)
    return None


def _handshake_fault(need: Requirement, seen: ObservedSession) -> Refuse:
    failure = seen.handshake
    assert failure is not None  # noqa: S101  (the caller has seen it)
    # Certificates are looked at in the handshake for the sake of the web PKI only, which DANE does not ask for.
    web_pki = failure.problem is HandshakeProblem.CERTIFICATE and need.rule is Rule.DANE
    rule = Rule.STS if web_pki else need.rule
    asked = _ASKED_BY[rule]
    detail = f": {failure.detail}" if failure.detail else ""
    what = f"{asked}, but with {need.host} {failure.problem.value}{detail}"
    match failure.problem:
        case HandshakeProblem.REFUSED:
            status, result = TLS_NOT_OFFERED_4_7_4, ReportResult.VALIDATION_FAILURE
        case HandshakeProblem.VERSION:
            status, result = TLS_TOO_OLD_4_7_6, ReportResult.VALIDATION_FAILURE
        case HandshakeProblem.CERTIFICATE:
            status, result = NOT_VERIFIED_4_7_5, _report_result(failure.verify_code)
        case _:
            status, result = NOT_VERIFIED_4_7_5, ReportResult.VALIDATION_FAILURE
    return Refuse(status, what, rule, result)


def _certificate_fault(need: Requirement, seen: ObservedSession, trust: Trust) -> Refuse | None:
    """Whether the chain proves each thing asked of it: a TLSA record, and a trusted authority with the right name."""
    chain = seen.tls.chain if seen.tls is not None else ()
    path_verified = seen.tls is not None and seen.tls.path_verified
    if need.tlsa is not None:
        mismatch = matches(need.tlsa, chain, trust.now)
        if mismatch is not None:
            what = f"the DANE (TLSA) records of {need.host} do not fit the server that answered: {mismatch}"
            return Refuse(NOT_VERIFIED_4_7_5, what, Rule.DANE, ReportResult.VALIDATION_FAILURE)
    if need.webpki_name is not None:
        fault = _webpki_fault(need.webpki_name, chain, path_verified, trust)
        if fault is not None:
            rule = Rule.STS if need.rule is Rule.DANE else need.rule
            what = f"{_ASKED_BY[rule]}, but the certificate of {need.host} was not accepted: {fault.text}"
            return Refuse(NOT_VERIFIED_4_7_5, what, rule, _report_result(fault.code))
    return None


def _webpki_fault(name: str, chain: tuple[bytes, ...], path_verified: bool, trust: Trust) -> ChainFault | None:
    fault = None if path_verified and chain else check_chain(chain, trust)
    if fault is None and not names_match(chain[0], name):
        fault = ChainFault(HOSTNAME_MISMATCH, f"it does not name {name}")
    return fault


def _testing_refusal(need: Requirement, seen: ObservedSession, trust: Trust) -> Refuse | None:
    """What an MTA-STS policy in testing mode would have refused, had it been in enforce mode."""
    if need.testing is None:
        return None
    if not need.testing.listed:
        what = f"the MTA-STS policy (testing) does not list the mail host {need.host}"
        return Refuse(NOT_LISTED_4_4_8, what, Rule.STS_NOT_LISTED, ReportResult.VALIDATION_FAILURE)
    enforced = replace(
        need,
        level=Level.AUTHENTICATED,
        rule=Rule.STS,
        tlsa=None,
        webpki_name=need.testing.name,
        minimum=TlsVersion.TLS_1_2,
        testing=None,
    )
    return _tls_fault(enforced, seen) or _certificate_fault(enforced, seen, trust)


def _report_result(verify_code: int | None) -> ReportResult:
    """RFC 8460 §4.3 from OpenSSL's verify code."""
    if verify_code == 10:
        return ReportResult.CERTIFICATE_EXPIRED
    if verify_code in (HOSTNAME_MISMATCH, 63, 64):
        return ReportResult.CERTIFICATE_HOST_MISMATCH
    return ReportResult.CERTIFICATE_NOT_TRUSTED
