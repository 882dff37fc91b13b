"""What a session must prove, as far as it is known before connecting: `require`, and the values it speaks in. Pure.

Requirements add up: whatever the recipient's domain publishes, the sender asks for or the operator sets must all hold,
and none rescues another. Only an override that replaces stands in place of what is published, which is then checked
and reported.

RFC 8461 sections 2, 4 and 5 (MTA-STS), RFC 7672 section 2.2 (DANE), RFC 8689 sections 3 and 4 (REQUIRETLS).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from typing import Final, assert_never

from relay.mail.message import TlsDemand
from relay.mail.record import AttemptRecord
from relay.mail.status import Kind, Status
from relay.policy.memory import Remembered
from relay.policy.mx import MxHost
from relay.policy.observed import TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode
from relay.policy.routing import Hop
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsMode, StsPolicy, StsResult, StsUnknown, lists
from relay.policy.tls_failure import CONSEQUENCES, ReportResult, TlsFailure
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, TlsaResult, UnusableTlsa, UsableTlsa

# Class 4 while the message waits, class 5 once we give up.
DNS_UNDECIDED_4_7_5: Final = Status(Kind.TEMPORARY, 7, 5)
NOT_LISTED_4_4_8: Final = Status(Kind.TEMPORARY, 4, 8)
REQUIRETLS_UNAUTHENTICATED_5_7_10: Final = Status(Kind.PERMANENT, 7, 10)


class Level(IntEnum):
    """How much a session must prove."""

    ANY = auto()  # TLS when it works, clear text otherwise
    ENCRYPTED = auto()  # TLS, no matter whose
    AUTHENTICATED = auto()  # TLS with somebody whose name, key or certificate was proven


class Rule(Enum):
    """The row of the table that decided. docs/tls-policy.md lists them."""

    WAIVED = "tls-required-no"
    OVERRIDE = "override"
    ROUTE = "route"
    DNS_UNDECIDED = "dns-undecided"
    DANE = "dane"
    DANE_UNUSABLE = "dane-unusable"
    STS_NOT_LISTED = "sts-not-listed"
    STS = "sts"
    REQUIRETLS = "requiretls"
    TLS_MEMORY = "tls-memory"
    OPPORTUNISTIC = "opportunistic"


_NOTHING: Final = (Rule.OPPORTUNISTIC.value, Rule.WAIVED.value)
ASKED_BY: Final = {  # of those rules that raise a requirement
    Rule.OVERRIDE: "this server's own settings demand TLS",
    Rule.ROUTE: "the route in this server's own settings demands TLS",
    Rule.DANE: "DANE demands TLS",
    Rule.DANE_UNUSABLE: "the published DANE (TLSA) records demand TLS",
    Rule.STS: "the MTA-STS policy demands TLS",
    Rule.REQUIRETLS: "the sender demands TLS (REQUIRETLS)",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known before connecting to one host of one destination."""

    domain: str  # the recipient's domain (or the configured next hop): where policies are published
    host: MxHost
    tlsa: TlsaResult
    sts: StsResult
    demand: TlsDemand = TlsDemand.DEFAULT
    override: Override | None = None
    remembered: Remembered | None = None
    hop: Hop | None = None  # the route by which the operator sends mail to this host


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate of a trusted authority that carries one of `names`, and the rule that asks for it."""

    names: tuple[str, ...]
    rule: Rule


@dataclass(frozen=True, slots=True)
class Pinned:
    """A leaf certificate or key with one of these SHA-256 `digests`, and the rule that asks for it."""

    digests: tuple[bytes, ...]
    rule: Rule


class Unenforced(Enum):
    """Why something that is asked for is checked and told, and no reason to refuse."""

    TESTING = "testing"  # RFC 8461 §5: the MTA-STS policy says so itself
    REPLACED = "replaced"  # an override stands in its place


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a session with one host must prove before a message may use it.

    `reported` is what else would be asked, were it not for the reason `unenforced`: checked and told.
    """

    host: str
    sni: str
    level: Level
    rule: Rule  # the strictest thing asked, named when the answer is yes
    tlsa: UsableTlsa | None = None  # the chain must match one of its records
    identities: tuple[Identity, ...] = ()  # each of them must be proven
    fingerprints: tuple[Pinned, ...] = ()  # each of them must be there
    reported: Requirement | Refuse | None = None
    unenforced: Unenforced | None = None  # set with `reported`
    minimum: TlsVersion = TlsVersion.TLS_1_0
    requiretls: bool = False
    clear_text: bool = True  # may we go on without TLS when TLS fails?
    starttls: bool = True  # is TLS tried at all?
    remembered: Remembered | None = None  # where nothing is required: what the host's loss of TLS would mean


@dataclass(frozen=True, slots=True)
class Refuse:
    """This host may not have this message now. `status` is of class 4 unless it is REQUIRETLS that fails."""

    status: Status
    reason: str
    rule: Rule
    result: ReportResult | None = None


def require(evidence: Evidence) -> Requirement | Refuse:
    """What a session with `evidence.host` must prove, or why the host is not even tried."""
    override = evidence.override
    if evidence.demand is TlsDemand.WAIVED:
        # RFC 8689 §3: the sender asks that no policy of the recipient stops it. The operator's own word holds.
        published: Requirement | Refuse = _nothing_required(evidence, Rule.WAIVED)
    else:
        published = _published(evidence)
    if override is None:
        need = published
    elif _is_replaced(evidence, override):
        need = _under(_nothing_required(evidence, Rule.OVERRIDE), evidence, override)
        if isinstance(need, Requirement):
            need = replace(need, reported=published, unenforced=Unenforced.REPLACED)
    else:
        need = published if isinstance(published, Refuse) else _under(published, evidence, override)
    if isinstance(need, Requirement) and evidence.hop is not None:
        need = _by_route(need, evidence, evidence.hop)
    if isinstance(need, Refuse):
        return need
    return _authenticated_for_requiretls(need, evidence) if evidence.demand is TlsDemand.REQUIRED else need


def _is_replaced(evidence: Evidence, override: Override) -> bool:
    """Whether the override stands in place of what is published.

    REQUIRETLS is the sender's own demand: an override that asks for less than a proven host does not lower it.
    """
    lowers = evidence.demand is TlsDemand.REQUIRED and not override.authenticates
    return override.mode is OverrideMode.REPLACE and not lowers


def _nothing_required(evidence: Evidence, rule: Rule) -> Requirement:
    sni = evidence.tlsa.base if isinstance(evidence.tlsa, UsableTlsa) else evidence.host.name
    # RFC 3207 §6; of no account once something is required.
    remembered = evidence.remembered if rule is Rule.OPPORTUNISTIC else None
    return Requirement(evidence.host.name, sni, Level.ANY, rule, remembered=remembered)


def _published(evidence: Evidence) -> Requirement | Refuse:
    """What the recipient's domain asks for: DANE and MTA-STS, added up."""
    need = _with_tlsa(_nothing_required(evidence, Rule.OPPORTUNISTIC), evidence.tlsa)
    if isinstance(need, Refuse):
        return need
    match evidence.sts:
        case StsUnknown(reason):
            what = f"whether {evidence.domain} publishes an MTA-STS policy could not be found out: {reason}"
            return Refuse(DNS_UNDECIDED_4_7_5, what, Rule.DNS_UNDECIDED, ReportResult.DNSSEC_INVALID)
        case StsFound(policy):
            return _with_sts(need, evidence, policy)
        case NoSts() | StsFetchFailed():
            return need
    assert_never(evidence.sts)


def _with_tlsa(need: Requirement, tlsa: TlsaResult) -> Requirement | Refuse:
    match tlsa:
        case TlsaLookupFailed(reason):
            # RFC 7672 §2.1.2: a lookup that fails at a signed step must not turn DANE off.
            what = f"whether {need.host} publishes DANE (TLSA) records could not be found out: {reason}"
            return Refuse(DNS_UNDECIDED_4_7_5, what, Rule.DNS_UNDECIDED, ReportResult.DNSSEC_INVALID)
        case UsableTlsa():
            return replace(_raised(need, Level.AUTHENTICATED, Rule.DANE), tlsa=tlsa)
        case UnusableTlsa():
            # RFC 7672 §2.2: records none of which is usable still make TLS mandatory, unauthenticated.
            return _raised(need, Level.ENCRYPTED, Rule.DANE_UNUSABLE)
        case NoTlsa():
            return need
    assert_never(tlsa)


def _with_sts(need: Requirement, evidence: Evidence, policy: StsPolicy) -> Requirement | Refuse:
    if policy.mode is StsMode.NONE:
        return need
    enforced = _enforced(need, evidence, policy)
    if policy.mode is StsMode.ENFORCE:
        return enforced
    return replace(need, reported=enforced, unenforced=Unenforced.TESTING)


def _enforced(need: Requirement, evidence: Evidence, policy: StsPolicy) -> Requirement | Refuse:
    if not lists(policy, need.host):
        what = (
            f"the MTA-STS policy of {evidence.domain} ({policy.mode.value}) does not list the mail host {need.host}; "
            f"it allows {', '.join(policy.mx)}"
        )
        return Refuse(NOT_LISTED_4_4_8, what, Rule.STS_NOT_LISTED, ReportResult.VALIDATION_FAILURE)
    rule = Rule.DANE if need.tlsa is not None else Rule.STS
    return _identified(_raised(need, Level.AUTHENTICATED, rule), (need.host,), Rule.STS)


def _under(need: Requirement, evidence: Evidence, override: Override) -> Requirement | Refuse:
    """`need` with what the override asks for on top."""
    if override.level is OverrideLevel.NONE:
        return replace(need, starttls=False) if override.mode is OverrideMode.REPLACE else need
    local = _Local(override.level, Rule.OVERRIDE, override.names, tuple(override.fingerprints))
    asked = _asked(need, evidence, local)
    if override.minimum is None or isinstance(asked, Refuse) or asked.level is Level.ANY:
        return asked
    lowest = TlsVersion.TLS_1_0 if override.mode is OverrideMode.REPLACE else asked.minimum
    return replace(asked, minimum=max(lowest, override.minimum))


def _by_route(need: Requirement, evidence: Evidence, hop: Hop) -> Requirement | Refuse:
    """`need` with what the route asks for on top."""
    if hop.tls is None:
        return need
    if hop.tls is OverrideLevel.NONE:  # of no account once something is required
        clear = replace(need, rule=Rule.ROUTE, starttls=False, remembered=None)
        return clear if need.level is Level.ANY else need
    asked = _asked(need, evidence, _Local(hop.tls, Rule.ROUTE, fingerprints=hop.fingerprints))
    if isinstance(asked, Refuse) or asked.level is Level.ANY:
        return asked
    return replace(asked, starttls=True)  # which an override may have left alone


@dataclass(frozen=True, slots=True)
class _Local:
    """What the operator asks of a session, and in which place of the settings."""

    level: OverrideLevel
    rule: Rule
    names: tuple[str, ...] = ()
    fingerprints: tuple[bytes, ...] = ()


def _asked(need: Requirement, evidence: Evidence, local: _Local) -> Requirement | Refuse:
    match local.level:
        case OverrideLevel.NONE | OverrideLevel.OPPORTUNISTIC:
            return need
        case OverrideLevel.ENCRYPT:
            return need if need.level >= Level.ENCRYPTED else _raised(need, Level.ENCRYPTED, local.rule)
        case OverrideLevel.VERIFY:
            names = local.names or (need.host,)
            return _identified(_raised(need, Level.AUTHENTICATED, local.rule), names, local.rule)
        case OverrideLevel.FINGERPRINT:
            pinned = Pinned(local.fingerprints, local.rule)
            raised = _raised(need, Level.AUTHENTICATED, local.rule)
            return replace(raised, fingerprints=(*need.fingerprints, pinned))
        case OverrideLevel.DANE:
            return _with_tlsa(need, evidence.tlsa)
        case OverrideLevel.DANE_ONLY:
            return _with_tlsa_only(need, evidence.tlsa, local.rule)
    assert_never(local.level)


def _with_tlsa_only(need: Requirement, tlsa: TlsaResult, rule: Rule) -> Requirement | Refuse:
    found = _with_tlsa(need, tlsa)
    if isinstance(found, Refuse) or found.tlsa is not None:
        return found
    why = tlsa.reason if isinstance(tlsa, NoTlsa) else "none of its TLSA records can be used"
    what = f"this server's own settings demand DANE, and {need.host} has no usable TLSA record: {why}"
    consequence = CONSEQUENCES[TlsFailure.TLSA_MISSING]
    return Refuse(consequence.status, what, rule, consequence.result)


def _identified(need: Requirement, names: tuple[str, ...], rule: Rule) -> Requirement:
    return replace(need, identities=(*need.identities, Identity(names, rule)))


def _raised(need: Requirement, level: Level, rule: Rule) -> Requirement:
    """`need`, raised to at least `level`. RFC 8996: TLS that is required is TLS 1.2 or newer."""
    return replace(
        need, level=max(need.level, level), rule=rule, minimum=max(need.minimum, TlsVersion.TLS_1_2), clear_text=False
    )


def _authenticated_for_requiretls(need: Requirement, evidence: Evidence) -> Requirement | Refuse:
    """RFC 8689 §4.2.1: the host's name must be beyond doubt, and the host authenticated under it."""
    raised = _raised(need, Level.AUTHENTICATED, Rule.REQUIRETLS)
    raised = replace(raised, requiretls=True, starttls=True)  # which an override may have left alone
    if evidence.override is not None and evidence.override.vouches:
        return raised
    if not _is_name_certain(evidence):
        what = (
            f"{ASKED_BY[Rule.REQUIRETLS]}, and {evidence.domain} has neither signed DNS (DNSSEC) nor an MTA-STS "
            f"policy by which {need.host} is known to be its mail host"
        )
        if isinstance(evidence.sts, StsFetchFailed):  # it may list the host: not decided, so it waits
            what = f"{what}: {evidence.sts.reason}"
            return Refuse(REQUIRETLS_UNAUTHENTICATED_5_7_10.with_kind(Kind.TEMPORARY), what, Rule.REQUIRETLS)
        return Refuse(REQUIRETLS_UNAUTHENTICATED_5_7_10, what, Rule.REQUIRETLS)
    if raised.tlsa is not None or raised.identities or raised.fingerprints:
        return raised
    return _identified(raised, (need.host,), Rule.REQUIRETLS)


def _is_name_certain(evidence: Evidence) -> bool:
    """Whether nobody can have put another host in the place of the domain's own.

    Its name is the domain's (or the next hop that the operator named), came by DNSSEC, or is in an MTA-STS policy.
    """
    host = evidence.host
    policy = evidence.sts.policy if isinstance(evidence.sts, StsFound) else None
    listed = policy is not None and policy.mode is not StsMode.NONE and lists(policy, host.name)
    return host.mx_secure or host.name == evidence.domain or listed


def nothing_required(record: AttemptRecord) -> bool:
    """Whether an attempt knew the hosts, and nothing was required of a session with any of them."""
    return bool(record.tried) and all(host.rule in _NOTHING for host in record.tried)
