"""What a session is in a TLS report: a table of sessions and what they count as, and laws that hold for all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import (
    CA,
    CLEAR,
    CN_ONLY,
    EXPIRED,
    GOOD,
    HOST,
    NOW,
    OTHER_NAME,
    SELF_SIGNED,
    TLSA_FAILED,
    TRUST,
    UNUSABLE,
    broken,
    evidence,
    evidences,
    evidences_of,
    many,
    override,
    session,
    sessions,
    sts,
    tlsa,
)

from relay.lab.certs import tlsa_data
from relay.mail.message import TlsDemand
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsVersion
from relay.policy.override import OverrideLevel, OverrideMode
from relay.policy.requirement import Evidence, Refuse, require
from relay.policy.sts import (
    NoSts,
    StsFetchFailed,
    StsFound,
    StsMode,
    StsProblem,
    StsResult,
    StsUnknown,
    parse_policy,
)
from relay.policy.tls_report import (
    Fault,
    PolicyType,
    ReportedPolicy,
    Tally,
    of_bogus_answer,
    of_host,
    of_policy,
    of_session,
)
from relay.policy.tlsa import TlsaLookupFailed, TlsaRecord, UnusableTlsa, UsableTlsa
from relay.policy.verdict import ReportResult, Rule, decide

TESTING = StsMode.TESTING
L, P = OverrideLevel, HandshakeProblem
ROOT = CA.issue((HOST,)).chain_der[-1]
AUTHORITY = TlsaRecord(2, 0, 1, tlsa_data(GOOD[1], 0, 1))


def by_authority(chain: tuple[bytes, ...], *more: TlsaRecord) -> UsableTlsa:
    """Records that name the authority of `chain`."""
    return UsableTlsa(HOST, (HOST, "good.test"), (TlsaRecord(2, 0, 1, tlsa_data(chain[1], 0, 1)), *more))


def told(tallies: tuple[Tally, ...]) -> list[str]:
    """Such as `sts good.test certificate-expired`: policy, policy-domain, and the result or ok."""
    return [
        f"{one.policy.type.value} {one.policy.domain} {'ok' if one.fault is None else one.fault.result.value}"
        for one in tallies
    ]


NONE = "no-policy-found good.test"
DANE = f"tlsa {HOST}"
STS = "sts good.test"


@dataclass(frozen=True)
class Case:
    name: str
    evidence: Evidence
    session: ObservedSession
    counts: list[str]


OLD = session(version=TlsVersion.TLS_1_1)
SESSIONS = [
    # nothing published
    Case("nothing, TLS", evidence(), session(), [f"{NONE} ok"]),
    Case("nothing, any certificate", evidence(), session(EXPIRED), [f"{NONE} ok"]),
    Case("nothing, old TLS", evidence(), OLD, [f"{NONE} ok"]),
    Case("nothing, no STARTTLS", evidence(), CLEAR, [f"{NONE} starttls-not-supported"]),
    Case("nothing, STARTTLS put off", evidence(), broken(P.DEFERRED), [f"{NONE} starttls-not-supported"]),
    Case("nothing, STARTTLS refused", evidence(), broken(P.REFUSED), [f"{NONE} starttls-not-supported"]),
    Case("nothing, handshake reset", evidence(), broken(P.RESET), [f"{NONE} validation-failure"]),
    Case("nothing, handshake too slow", evidence(), broken(P.TIMEOUT), [f"{NONE} validation-failure"]),
    Case("nothing, no cipher in common", evidence(), broken(P.CIPHER), [f"{NONE} validation-failure"]),
    Case("nothing, clear text injected", evidence(), broken(P.INJECTED), [f"{NONE} validation-failure"]),
    Case("our own demand broke it off", evidence(), broken(P.CERTIFICATE, 10), []),
    # MTA-STS
    Case("sts, good", evidence(sts=sts()), session(), [f"{STS} ok"]),
    Case("sts, verified in the handshake", evidence(sts=sts()), session(path_verified=True), [f"{STS} ok"]),
    Case("sts, no STARTTLS", evidence(sts=sts()), CLEAR, [f"{STS} starttls-not-supported"]),
    Case("sts, expired", evidence(sts=sts()), broken(P.CERTIFICATE, 10), [f"{STS} certificate-expired"]),
    Case("sts, name", evidence(sts=sts()), broken(P.CERTIFICATE, 62), [f"{STS} certificate-host-mismatch"]),
    Case("sts, issuer", evidence(sts=sts()), broken(P.CERTIFICATE, 20), [f"{STS} certificate-not-trusted"]),
    Case("sts, not yet valid", evidence(sts=sts()), broken(P.CERTIFICATE, 9), [f"{STS} certificate-not-trusted"]),
    Case("sts, old TLS", evidence(sts=sts()), broken(P.VERSION), [f"{STS} validation-failure"]),
    Case("sts, handshake reset", evidence(sts=sts()), broken(P.RESET), [f"{STS} validation-failure"]),
    Case("sts testing, good", evidence(sts=sts(TESTING)), session(), [f"{STS} ok"]),
    Case("sts testing, expired", evidence(sts=sts(TESTING)), session(EXPIRED), [f"{STS} certificate-expired"]),
    Case("sts testing, name", evidence(sts=sts(TESTING)), session(OTHER_NAME), [f"{STS} certificate-host-mismatch"]),
    Case("sts testing, name in the subject", evidence(sts=sts(TESTING)), session(CN_ONLY),
         [f"{STS} certificate-host-mismatch"]),
    Case("sts testing, self-signed", evidence(sts=sts(TESTING)), session(SELF_SIGNED),
         [f"{STS} certificate-not-trusted"]),
    Case("sts testing, no chain", evidence(sts=sts(TESTING)), session(()), [f"{STS} certificate-not-trusted"]),
    Case("sts testing, old TLS", evidence(sts=sts(TESTING)), OLD, [f"{STS} validation-failure"]),
    Case("sts testing, not listed", evidence(sts=sts(TESTING, "x.test")), session(), [f"{STS} validation-failure"]),
    Case("sts testing, no STARTTLS", evidence(sts=sts(TESTING)), CLEAR, [f"{STS} starttls-not-supported"]),
    Case("sts mode none", evidence(sts=sts(StsMode.NONE)), session(EXPIRED), [f"{NONE} ok"]),
    Case("sts not to be had", evidence(sts=StsFetchFailed("404", StsProblem.FETCH)), session(), [f"{NONE} ok"]),
    Case("sts not known, waived", evidence(sts=StsUnknown("x", True), demand=TlsDemand.WAIVED), session(),
         [f"{NONE} ok"]),
    # DANE
    Case("dane, good", evidence(tlsa()), session(), [f"{DANE} ok"]),
    Case("dane, self-signed and named", evidence(tlsa(SELF_SIGNED)), session(SELF_SIGNED), [f"{DANE} ok"]),
    Case("dane, no match", evidence(tlsa()), session(OTHER_NAME), [f"{DANE} validation-failure"]),
    Case("dane, no chain", evidence(tlsa()), session(()), [f"{DANE} validation-failure"]),
    Case("dane, no STARTTLS", evidence(tlsa()), CLEAR, [f"{DANE} starttls-not-supported"]),
    Case("dane, handshake reset", evidence(tlsa()), broken(P.RESET), [f"{DANE} validation-failure"]),
    Case("dane, old TLS", evidence(tlsa()), OLD, [f"{DANE} validation-failure"]),
    Case("dane by authority, good", evidence(by_authority(GOOD)), session(), [f"{DANE} ok"]),
    Case("dane by authority, expired", evidence(by_authority(EXPIRED)), session(EXPIRED),
         [f"{DANE} certificate-expired"]),
    Case("dane by authority, name", evidence(by_authority(OTHER_NAME)), session(OTHER_NAME),
         [f"{DANE} certificate-host-mismatch"]),
    Case("dane unusable, TLS", evidence(UNUSABLE), session(), [f"{DANE} tlsa-invalid"]),
    Case("dane unusable, no STARTTLS", evidence(UNUSABLE), CLEAR, [f"{DANE} starttls-not-supported"]),
    Case("dane lookup failed, waived", evidence(TLSA_FAILED, demand=TlsDemand.WAIVED), session(),
         [f"{DANE} dnssec-invalid"]),
    # both
    Case("both good", evidence(tlsa(), sts()), session(), [f"{DANE} ok", f"{STS} ok"]),
    Case("both, no STARTTLS", evidence(tlsa(), sts()), CLEAR,
         [f"{DANE} starttls-not-supported", f"{STS} starttls-not-supported"]),
    Case("dane good, sts not", evidence(tlsa(SELF_SIGNED), sts()), session(SELF_SIGNED),
         [f"{DANE} ok", f"{STS} certificate-not-trusted"]),
    Case("sts good, dane not", evidence(tlsa(EXPIRED), sts()), session(),
         [f"{DANE} validation-failure", f"{STS} ok"]),
    Case("dane good, sts in testing not", evidence(tlsa(EXPIRED), sts(TESTING)), session(EXPIRED),
         [f"{DANE} ok", f"{STS} certificate-expired"]),
    Case("dane, and sts mode none", evidence(tlsa(), sts(StsMode.NONE)), session(), [f"{DANE} ok"]),
    Case("dane unusable, sts good", evidence(UNUSABLE, sts()), session(), [f"{DANE} tlsa-invalid", f"{STS} ok"]),
    Case("dane unusable, sts broke it off", evidence(UNUSABLE, sts()), broken(P.CERTIFICATE, 18),
         [f"{DANE} tlsa-invalid", f"{STS} certificate-not-trusted"]),
    Case("dane, broken off for another's sake", evidence(tlsa(), override=override(L.VERIFY)),
         broken(P.CERTIFICATE, 10), []),
    # whatever is asked of the session
    Case("waived, sts violated", evidence(sts=sts(), demand=TlsDemand.WAIVED), session(EXPIRED),
         [f"{STS} certificate-expired"]),
    Case("waived, not listed", evidence(sts=sts(StsMode.ENFORCE, "x.test"), demand=TlsDemand.WAIVED), session(),
         [f"{STS} validation-failure"]),
    Case("waived, dane violated", evidence(tlsa(), demand=TlsDemand.WAIVED), session(EXPIRED),
         [f"{DANE} validation-failure"]),
    Case("waived, all is well", evidence(tlsa(), sts(), TlsDemand.WAIVED), session(), [f"{DANE} ok", f"{STS} ok"]),
    Case("requiretls not offered", evidence(sts=sts(), demand=TlsDemand.REQUIRED), session(), [f"{STS} ok"]),
    Case("override in place of sts", evidence(sts=sts(), override=override(L.OPPORTUNISTIC)), session(EXPIRED),
         [f"{STS} certificate-expired"]),
    Case("override met, sts met", evidence(sts=sts(), override=override(L.ENCRYPT)), session(), [f"{STS} ok"]),
    Case("override not met, sts met", evidence(sts=sts(), override=override(L.FINGERPRINT, chain=EXPIRED)), session(),
         [f"{STS} ok"]),
    Case("override not met, nothing published", evidence(override=override(L.FINGERPRINT, chain=EXPIRED)), session(),
         [f"{NONE} ok"]),
]  # fmt: skip


@pytest.mark.parametrize("case", SESSIONS, ids=lambda case: case.name)
def test_what_a_session_counts_as(case: Case) -> None:
    tallies = of_session(case.evidence, case.session, decide(case.evidence, case.session, TRUST), TRUST)
    assert told(tallies) == case.counts
    assert {one.domain for one in tallies} <= {"good.test"}


HOSTS = [
    ("not listed", evidence(sts=sts(StsMode.ENFORCE, "x.test")), [f"{STS} validation-failure"]),
    ("records forged", evidence(TLSA_FAILED), [f"{DANE} dnssec-invalid"]),
    ("records not to be had", evidence(TlsaLookupFailed("timed out")), [f"{DANE} dnssec-invalid"]),
    ("records forged, sts in force", evidence(TLSA_FAILED, sts()), [f"{DANE} dnssec-invalid"]),
    ("records forged, not listed", evidence(TLSA_FAILED, sts(TESTING, "x.test")),
     [f"{DANE} dnssec-invalid", f"{STS} validation-failure"]),
    ("dane-only and none", evidence(override=override(L.DANE_ONLY)), [f"{DANE} dane-required"]),
    ("dane-only and none that can be used", evidence(UNUSABLE, override=override(L.DANE_ONLY)),
     [f"{DANE} tlsa-invalid"]),
    ("dane-only beside sts", evidence(sts=sts(), override=override(L.DANE_ONLY, OverrideMode.RAISE)),
     [f"{DANE} dane-required"]),
    ("requiretls and no certain name", evidence(demand=TlsDemand.REQUIRED), []),
    ("sts not known", evidence(sts=StsUnknown("bogus", bogus=True)), []),  # that is told of the domain, not of a host
]  # fmt: skip


@pytest.mark.parametrize(("known", "counts"), [row[1:] for row in HOSTS], ids=[row[0] for row in HOSTS])
def test_what_a_host_that_is_not_called_counts_as(known: Evidence, counts: list[str]) -> None:
    refuse = require(known)
    assert isinstance(refuse, Refuse)
    tallies = of_host(known, refuse)
    assert told(tallies) == counts
    assert {one.fault.host for one in tallies if one.fault is not None} <= {HOST}


POLICIES: list[tuple[StsResult, list[str]]] = [
    (NoSts(), []),
    (sts(), []),
    (replace(sts(), stale_reason="there is no record"), []),
    (replace(sts(), stale_reason="404", stale_problem=StsProblem.FETCH), [f"{STS} sts-policy-fetch-error"]),
    (StsFetchFailed("timed out"), []),  # whether one is announced is not known
    (StsFetchFailed("404", StsProblem.FETCH), [f"{STS} sts-policy-fetch-error"]),
    (StsFetchFailed("expired", StsProblem.CERTIFICATE), [f"{STS} sts-webpki-invalid"]),
    (StsFetchFailed("no mode", StsProblem.INVALID), [f"{STS} sts-policy-invalid"]),
    (StsUnknown("bogus", bogus=True), [f"{STS} dnssec-invalid"]),
    (StsUnknown("lost"), []),
]


@pytest.mark.parametrize(("found", "counts"), POLICIES)
def test_what_keeps_a_policy_from_being_had(found: StsResult, counts: list[str]) -> None:
    assert told(of_policy("good.test", found)) == counts


def test_a_forged_answer_about_mail_hosts() -> None:
    policy = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "good.test")
    fault = Fault(ReportResult.DNSSEC_INVALID, "bogus", HOST)
    assert of_bogus_answer("good.test", "bogus", HOST) == Tally("good.test", policy, fault)


# What is told


def test_records_are_told_as_published_in_one_order() -> None:
    one, two, three = (TlsaRecord(3, 1, number, bytes((number,)) * 2) for number in (1, 2, 9))
    mixed = UsableTlsa("mx.base.test", (), (two, one), (three,))
    again = UsableTlsa("mx.base.test", (), (one, two), (three,))
    (tally,) = of_session(evidence(mixed), CLEAR, None, TRUST)
    strings = ("3 1 1 0101", "3 1 2 0202", "3 1 9 0909")
    assert tally.policy == ReportedPolicy(PolicyType.TLSA, "mx.base.test", strings)
    assert of_session(evidence(again), CLEAR, None, TRUST)[0].policy == tally.policy
    # those of no use do not make a record set another one, and are told all the same
    (other,) = of_session(evidence(replace(mixed, others=())), CLEAR, None, TRUST)
    assert other.policy.strings == strings[:2]


@pytest.mark.parametrize("end", ["\r\n", "\n", ""])
def test_a_policy_is_told_verbatim(end: str) -> None:
    lines = (
        "version: STSv1",
        "mode:  testing",
        "mx: MX.good.test",
        "mx: *.b.test",
        "note: J\u00f6rg",
        "max_age: 86400",
    )
    policy = parse_policy(("\r\n".join(lines) + end).encode())
    (tally,) = of_session(evidence(sts=StsFound(policy, "1", NOW)), CLEAR, None, TRUST)
    assert tally.policy == ReportedPolicy(PolicyType.STS, "good.test", lines, ("mx.good.test", "*.b.test"))


def test_where_it_was() -> None:
    seen = replace(CLEAR, helo="mx.real.test", source="192.0.2.99")
    (tally,) = of_session(evidence(), seen, None, TRUST)
    reason = "starttls-not-offered"
    assert tally.fault == Fault(
        ReportResult.STARTTLS_NOT_SUPPORTED, reason, HOST, "mx.real.test", "192.0.2.1", "192.0.2.99"
    )


@pytest.mark.parametrize(
    ("helo", "kept"),
    [("mx.a.test", True), ("[192.0.2.1]", True), ("MX_1", True), ("x" * 255, True), ("x" * 256, False), ("", True),
     ("<script>", False), ("m\u00fcx.test", False), ('a"b', False), ("a\x00", False)],
)  # fmt: skip
def test_a_host_gives_itself_a_name_or_none(helo: str, kept: bool) -> None:
    (tally,) = of_session(evidence(), replace(CLEAR, helo=helo), None, TRUST)
    assert tally.fault is not None and tally.fault.helo == (helo if kept else "")


REASONS = [
    (evidence(), broken(P.RESET), "handshake-reset: as seen"),
    (evidence(), replace(broken(P.OTHER), handshake=HandshakeFailure(P.OTHER, "")), "handshake-failed"),
    (evidence(sts=sts(TESTING)), OLD, "version-too-old: TLS 1.1"),
    (evidence(sts=sts(TESTING)), session(OTHER_NAME), f"it names other.good.test, not {HOST}"),
    (evidence(sts=sts(TESTING, "x.test", "*.y.test")), session(), "host-not-listed: mx is x.test, *.y.test"),
    (evidence(UNUSABLE), session(), "usage 1 is not for SMTP"),
    (evidence(UnusableTlsa(HOST, (TlsaRecord(3, 7, 1, b""), TlsaRecord(3, 1, 1, b"x")))), session(),
     "there is no selector 7; the digest has 1 octets, not 32"),
]  # fmt: skip


@pytest.mark.parametrize(("known", "seen", "reason"), REASONS)
def test_the_reason(known: Evidence, seen: ObservedSession, reason: str) -> None:
    (tally,) = of_session(known, seen, decide(known, seen, TRUST), TRUST)
    assert tally.fault is not None and tally.fault.reason == reason


def test_the_reason_is_short_and_printable_whatever_a_host_says() -> None:
    said = HandshakeFailure(P.REFUSED, "554 \u202eno\r\n\x1b[2J\x00" + "x" * 5000)
    (tally,) = of_session(evidence(), replace(CLEAR, starttls_offered=True, handshake=said), None, TRUST)
    assert tally.fault is not None
    assert tally.fault.reason.startswith("starttls-refused: 554 ?no?[2J?xxx")
    assert len(tally.fault.reason) == 160


# Laws


@settings(many, max_examples=80)  # each verifies its chain twice
@given(evidences, sessions)
def test_what_the_verdict_has_proven_needs_no_second_look(e: Evidence, s: ObservedSession) -> None:
    assert of_session(e, s, decide(e, s, TRUST), TRUST) == of_session(e, s, None, TRUST)


@many
@given(evidences_of(demands=st.just(TlsDemand.DEFAULT), overrides=st.none()), sessions)
def test_a_fault_is_told_exactly_when_the_verdict_has_one(e: Evidence, s: ObservedSession) -> None:
    """Where the operator and the sender ask for nothing of their own."""
    need = require(replace(e, remembered=None))
    if isinstance(need, Refuse):
        return
    verdict = decide(replace(e, remembered=None), s, TRUST)
    found = verdict if isinstance(verdict, Refuse) else verdict.would_refuse
    tallies = of_session(e, s, verdict, TRUST)
    faults = [
        one.fault for one in tallies if one.fault is not None and one.policy.type is not PolicyType.NO_POLICY_FOUND
    ]
    faults = [fault for fault in faults if fault.result is not ReportResult.TLSA_INVALID]
    broken_off = s.handshake is not None and s.handshake.problem is P.CERTIFICATE
    assert bool(faults) is (found is not None) or broken_off
    if found is not None and found.rule is not Rule.DANE and not broken_off:
        assert found.result in {fault.result for fault in faults}
