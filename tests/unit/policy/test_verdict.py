"""The decision: a table with a row for each thing that can be asked and seen, and laws that hold for every input."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from judged import (
    CLEAR,
    CN_ONLY,
    EXPIRED,
    FOUND,
    GOOD,
    HOST,
    NO_TLSA,
    OTHER_NAME,
    RAISE,
    SELF_SIGNED,
    TLSA_FAILED,
    TRUST,
    UNUSABLE,
    USABLE,
    WILDCARD,
    broken,
    evidence,
    evidences,
    evidences_of,
    had_tls,
    many,
    override,
    policies,
    raises,
    replaces,
    session,
    sessions,
    sts,
    tlsa,
    tlsas,
    unwaived,
)

from relay.lab.certs import tlsa_data
from relay.mail.message import TlsDemand
from relay.mail.outcome import TlsUsed
from relay.mail.status import Kind
from relay.policy.memory import OnTlsLoss, Remembered
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsVersion
from relay.policy.override import Override, OverrideLevel, fits
from relay.policy.requirement import Unenforced
from relay.policy.routing import Hop
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsMode, StsResult, StsUnknown
from relay.policy.tlsa import NoTlsa, TlsaResult, UsableTlsa
from relay.policy.verdict import Allow, Evidence, Refuse, ReportResult, Rule, decide, judge, require


@dataclass(frozen=True)
class Case:
    name: str
    evidence: Evidence
    session: ObservedSession
    answer: str  # the status of a refusal, or how an allowed session is protected
    rule: Rule
    result: ReportResult | None = None


R = ReportResult
L = OverrideLevel
VERDICTS = [
    # nothing published
    Case("nothing asked, good TLS", evidence(), session(), "encrypted", Rule.OPPORTUNISTIC),
    Case("nothing asked, no TLS", evidence(), CLEAR, "none", Rule.OPPORTUNISTIC),
    Case("nothing asked, self-signed", evidence(), session(SELF_SIGNED), "encrypted", Rule.OPPORTUNISTIC),
    Case("nothing asked, TLS 1.0", evidence(), session(version=TlsVersion.TLS_1_0), "encrypted", Rule.OPPORTUNISTIC),
    Case("nothing asked, no chain", evidence(), session(()), "encrypted", Rule.OPPORTUNISTIC),
    # MTA-STS
    Case("sts good", evidence(sts=sts()), session(), "verified", Rule.STS),
    Case("sts good, verified in handshake", evidence(sts=sts()), session(path_verified=True), "verified", Rule.STS),
    Case(  # it was verified with the same roots, for less work
        "sts, the path is not verified twice",
        evidence(sts=sts()),
        session(SELF_SIGNED, path_verified=True),
        "verified",
        Rule.STS,
    ),
    Case("sts wildcard pattern", evidence(sts=sts(StsMode.ENFORCE, "*.good.test")), session(), "verified", Rule.STS),
    Case("sts wildcard certificate", evidence(sts=sts()), session(WILDCARD), "verified", Rule.STS),
    Case("sts no TLS", evidence(sts=sts()), CLEAR, "4.7.4", Rule.STS, R.STARTTLS_NOT_SUPPORTED),
    Case(
        "sts TLS 1.1", evidence(sts=sts()), session(version=TlsVersion.TLS_1_1), "4.7.6", Rule.STS, R.VALIDATION_FAILURE
    ),
    Case("sts TLS 1.2", evidence(sts=sts()), session(version=TlsVersion.TLS_1_2), "verified", Rule.STS),
    Case("sts expired", evidence(sts=sts()), session(EXPIRED), "4.7.5", Rule.STS, R.CERTIFICATE_EXPIRED),
    Case("sts self-signed", evidence(sts=sts()), session(SELF_SIGNED), "4.7.5", Rule.STS, R.CERTIFICATE_NOT_TRUSTED),
    Case("sts wrong name", evidence(sts=sts()), session(OTHER_NAME), "4.7.5", Rule.STS, R.CERTIFICATE_HOST_MISMATCH),
    Case(
        "sts wrong name although the path was verified",
        evidence(sts=sts()),
        session(OTHER_NAME, path_verified=True),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_HOST_MISMATCH,
    ),
    Case("sts common name only", evidence(sts=sts()), session(CN_ONLY), "4.7.5", Rule.STS, R.CERTIFICATE_HOST_MISMATCH),
    Case(
        "sts no chain to see",
        evidence(sts=sts()),
        session((), path_verified=True),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_NOT_TRUSTED,
    ),
    Case(
        "sts not listed",
        evidence(sts=sts(StsMode.ENFORCE, "mail.good.test")),
        session(),
        "4.4.8",
        Rule.STS_NOT_LISTED,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "sts refused",
        evidence(sts=sts()),
        broken(HandshakeProblem.REFUSED),
        "4.7.4",
        Rule.STS,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case("sts old TLS", evidence(sts=sts()), broken(HandshakeProblem.VERSION), "4.7.6", Rule.STS, R.VALIDATION_FAILURE),
    Case("sts reset", evidence(sts=sts()), broken(HandshakeProblem.RESET), "4.7.5", Rule.STS, R.VALIDATION_FAILURE),
    Case(
        "sts injected", evidence(sts=sts()), broken(HandshakeProblem.INJECTED), "4.7.5", Rule.STS, R.VALIDATION_FAILURE
    ),
    Case(
        "sts code 10",
        evidence(sts=sts()),
        broken(HandshakeProblem.CERTIFICATE, 10),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "sts code 62",
        evidence(sts=sts()),
        broken(HandshakeProblem.CERTIFICATE, 62),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_HOST_MISMATCH,
    ),
    Case(
        "sts code 20",
        evidence(sts=sts()),
        broken(HandshakeProblem.CERTIFICATE, 20),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_NOT_TRUSTED,
    ),
    Case("sts testing, good", evidence(sts=sts(StsMode.TESTING)), session(), "verified", Rule.OPPORTUNISTIC),
    Case("sts testing, expired", evidence(sts=sts(StsMode.TESTING)), session(EXPIRED), "encrypted", Rule.OPPORTUNISTIC),
    Case("sts testing, no TLS", evidence(sts=sts(StsMode.TESTING)), CLEAR, "none", Rule.OPPORTUNISTIC),
    Case(
        "sts testing, not listed",
        evidence(sts=sts(StsMode.TESTING, "x.test")),
        session(),
        "encrypted",
        Rule.OPPORTUNISTIC,
    ),
    Case("sts none", evidence(sts=sts(StsMode.NONE, "x.test")), CLEAR, "none", Rule.OPPORTUNISTIC),
    Case("sts none, good TLS", evidence(sts=sts(StsMode.NONE)), session(), "encrypted", Rule.OPPORTUNISTIC),
    Case("sts not fetched", evidence(sts=StsFetchFailed("404")), CLEAR, "none", Rule.OPPORTUNISTIC),
    Case("sts bogus", evidence(sts=StsUnknown("bogus")), session(), "4.7.5", Rule.DNS_UNDECIDED, R.DNSSEC_INVALID),
    # DANE
    Case("dane good", evidence(tlsa()), session(), "verified", Rule.DANE),
    Case("dane good, self-signed", evidence(tlsa(SELF_SIGNED)), session(SELF_SIGNED), "verified", Rule.DANE),
    Case("dane good, expired", evidence(tlsa(EXPIRED)), session(EXPIRED), "verified", Rule.DANE),
    Case("dane mismatch", evidence(tlsa()), session(SELF_SIGNED), "4.7.5", Rule.DANE, R.VALIDATION_FAILURE),
    Case("dane no TLS", evidence(tlsa()), CLEAR, "4.7.4", Rule.DANE, R.STARTTLS_NOT_SUPPORTED),
    Case("dane no chain", evidence(tlsa()), session(()), "4.7.5", Rule.DANE, R.VALIDATION_FAILURE),
    Case("dane lookup failed", evidence(TLSA_FAILED), session(), "4.7.5", Rule.DNS_UNDECIDED, R.DNSSEC_INVALID),
    Case("dane unusable", evidence(UNUSABLE), session(SELF_SIGNED), "encrypted", Rule.DANE_UNUSABLE),
    Case("dane unusable, no TLS", evidence(UNUSABLE), CLEAR, "4.7.4", Rule.DANE_UNUSABLE, R.STARTTLS_NOT_SUPPORTED),
    Case(
        "dane unusable, broken",
        evidence(UNUSABLE),
        broken(HandshakeProblem.OTHER),
        "4.7.5",
        Rule.DANE_UNUSABLE,
        R.VALIDATION_FAILURE,
    ),
    # both: each must hold
    Case("dane and sts good", evidence(tlsa(), sts()), session(), "verified", Rule.DANE),
    Case("dane bad, sts good", evidence(tlsa(SELF_SIGNED), sts()), session(), "4.7.5", Rule.DANE, R.VALIDATION_FAILURE),
    Case(
        "dane good, sts bad",
        evidence(tlsa(SELF_SIGNED), sts()),
        session(SELF_SIGNED),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_NOT_TRUSTED,
    ),
    Case(
        "dane good, sts not listed",
        evidence(tlsa(), sts(StsMode.ENFORCE, "x.test")),
        session(),
        "4.4.8",
        Rule.STS_NOT_LISTED,
        R.VALIDATION_FAILURE,
    ),
    Case(  # the handshake looks at certificates for the sake of MTA-STS
        "dane and sts, the certificate failed the handshake",
        evidence(tlsa(), sts()),
        broken(HandshakeProblem.CERTIFICATE, 10),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "dane and sts, old TLS",
        evidence(tlsa(), sts()),
        broken(HandshakeProblem.VERSION),
        "4.7.6",
        Rule.DANE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "dane only, the certificate failed the handshake",
        evidence(tlsa()),
        broken(HandshakeProblem.CERTIFICATE, 10),
        "4.7.5",
        Rule.DANE,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "dane failed, sts good", evidence(TLSA_FAILED, sts()), session(), "4.7.5", Rule.DNS_UNDECIDED, R.DNSSEC_INVALID
    ),
    Case("dane unusable, sts good", evidence(UNUSABLE, sts()), session(), "verified", Rule.STS),
    Case(
        "dane unusable, sts bad", evidence(UNUSABLE, sts()), session(EXPIRED), "4.7.5", Rule.STS, R.CERTIFICATE_EXPIRED
    ),
    Case(
        "dane good, sts testing bad",
        evidence(tlsa(SELF_SIGNED), sts(StsMode.TESTING)),
        session(SELF_SIGNED),
        "verified",
        Rule.DANE,
    ),
    # REQUIRETLS
    Case(
        "required, nothing published",
        evidence(demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, the policy cannot be had now",
        evidence(sts=StsFetchFailed("SERVFAIL"), demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "4.7.10",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, dane",
        evidence(tlsa(), demand=TlsDemand.REQUIRED, mx_secure=True),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, dane, not offered",
        evidence(tlsa(), demand=TlsDemand.REQUIRED, mx_secure=True),
        session(),
        "5.7.30",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, dane at a host that an unsigned answer names",
        evidence(tlsa(), demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, a signed MX and a good certificate",
        evidence(demand=TlsDemand.REQUIRED, mx_secure=True),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, a signed MX and a self-signed certificate",
        evidence(demand=TlsDemand.REQUIRED, mx_secure=True),
        session(SELF_SIGNED, requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
        R.CERTIFICATE_NOT_TRUSTED,
    ),
    Case(
        "required, the domain is its own mail host",
        replace(evidence(demand=TlsDemand.REQUIRED), domain=HOST),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, no TLS",
        evidence(sts=sts(), demand=TlsDemand.REQUIRED),
        CLEAR,
        "5.7.10",
        Rule.REQUIRETLS,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "required, a handshake that was reset",
        evidence(sts=sts(), demand=TlsDemand.REQUIRED),
        replace(CLEAR, starttls_offered=True, handshake=HandshakeFailure(HandshakeProblem.RESET, "")),
        "4.7.10",
        Rule.REQUIRETLS,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "required, a handshake that will fail again",
        evidence(sts=sts(), demand=TlsDemand.REQUIRED),
        broken(HandshakeProblem.VERSION),
        "5.7.10",
        Rule.REQUIRETLS,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "required, sts, expired",
        evidence(sts=sts(), demand=TlsDemand.REQUIRED),
        session(EXPIRED, requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "required, sts",
        evidence(sts=sts(), demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, sts testing",
        evidence(sts=sts(StsMode.TESTING), demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, sts testing, expired",
        evidence(sts=sts(StsMode.TESTING), demand=TlsDemand.REQUIRED),
        session(EXPIRED, requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "required, sts none",
        evidence(sts=sts(StsMode.NONE), demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, dane lookup failed",
        evidence(TLSA_FAILED, demand=TlsDemand.REQUIRED, mx_secure=True),
        session(requiretls=True),
        "4.7.5",
        Rule.DNS_UNDECIDED,
        R.DNSSEC_INVALID,
    ),
    Case(
        "required, dane, self-signed",
        evidence(tlsa(SELF_SIGNED), demand=TlsDemand.REQUIRED, mx_secure=True),
        session(SELF_SIGNED, requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, sts testing, not listed",
        evidence(sts=sts(StsMode.TESTING, "x.test"), demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, unusable tlsa",
        evidence(UNUSABLE, demand=TlsDemand.REQUIRED),
        session(requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
    ),
    # TLS-Required: no
    Case("waived, sts and no TLS", evidence(sts=sts(), demand=TlsDemand.WAIVED), CLEAR, "none", Rule.WAIVED),
    Case(
        "waived, dane mismatch", evidence(tlsa(), demand=TlsDemand.WAIVED), session(EXPIRED), "encrypted", Rule.WAIVED
    ),
    Case("waived, tlsa failed", evidence(TLSA_FAILED, demand=TlsDemand.WAIVED), CLEAR, "none", Rule.WAIVED),
    # the operator, in place of what is published
    Case("none", evidence(tlsa(), sts(), override=override(L.NONE)), CLEAR, "none", Rule.OVERRIDE),
    Case("opportunistic", evidence(tlsa(), sts(), override=override(L.OPPORTUNISTIC)), CLEAR, "none", Rule.OVERRIDE),
    Case(
        "opportunistic, the policies fit",
        evidence(tlsa(), sts(), override=override(L.OPPORTUNISTIC)),
        session(),
        "verified",
        Rule.OVERRIDE,
    ),
    Case(
        "opportunistic, DNS is undecided",
        evidence(TLSA_FAILED, override=override(L.OPPORTUNISTIC)),
        session(),
        "encrypted",
        Rule.OVERRIDE,
    ),
    Case(
        "opportunistic, not listed",
        evidence(sts=sts(StsMode.ENFORCE, "x.test"), override=override(L.OPPORTUNISTIC)),
        session(),
        "encrypted",
        Rule.OVERRIDE,
    ),
    Case("encrypt", evidence(sts=sts(), override=override(L.ENCRYPT)), session(EXPIRED), "encrypted", Rule.OVERRIDE),
    Case(
        "encrypt, no TLS",
        evidence(override=override(L.ENCRYPT)),
        CLEAR,
        "4.7.4",
        Rule.OVERRIDE,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "encrypt, TLS 1.1",
        evidence(override=override(L.ENCRYPT)),
        session(version=TlsVersion.TLS_1_1),
        "4.7.6",
        Rule.OVERRIDE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "encrypt, TLS 1.1 is good enough",
        evidence(override=override(L.ENCRYPT, minimum=TlsVersion.TLS_1_1)),
        session(version=TlsVersion.TLS_1_1),
        "encrypted",
        Rule.OVERRIDE,
    ),
    Case(
        "encrypt, TLS 1.3 asked for",
        evidence(override=override(L.ENCRYPT, minimum=TlsVersion.TLS_1_3)),
        session(version=TlsVersion.TLS_1_2),
        "4.7.6",
        Rule.OVERRIDE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "opportunistic asks for no version",
        evidence(override=override(L.OPPORTUNISTIC, minimum=TlsVersion.TLS_1_3)),
        session(version=TlsVersion.TLS_1_0),
        "encrypted",
        Rule.OVERRIDE,
    ),
    Case("verify", evidence(override=override(L.VERIFY)), session(), "verified", Rule.OVERRIDE),
    Case(
        "verify, expired",
        evidence(override=override(L.VERIFY)),
        session(EXPIRED),
        "4.7.5",
        Rule.OVERRIDE,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "verify, another name",
        evidence(override=override(L.VERIFY)),
        session(OTHER_NAME),
        "4.7.5",
        Rule.OVERRIDE,
        R.CERTIFICATE_HOST_MISMATCH,
    ),
    Case(
        "verify, a name that is given",
        evidence(override=override(L.VERIFY, names=("third.test", "other.good.test"))),
        session(OTHER_NAME),
        "verified",
        Rule.OVERRIDE,
    ),
    Case(
        "verify, the host's own name is not given",
        evidence(override=override(L.VERIFY, names=("other.good.test",))),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.CERTIFICATE_HOST_MISMATCH,
    ),
    Case(
        "fingerprint",
        evidence(override=override(L.FINGERPRINT, chain=EXPIRED)),
        session(EXPIRED),
        "verified",
        Rule.OVERRIDE,
    ),
    Case(
        "fingerprint of the key",
        evidence(override=replace(override(L.FINGERPRINT), fingerprints=(tlsa_data(EXPIRED[0], 1, 1),))),
        session(EXPIRED),
        "verified",
        Rule.OVERRIDE,
    ),
    Case(
        "fingerprint of another",
        evidence(override=override(L.FINGERPRINT, chain=EXPIRED)),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "fingerprint, no chain to see",
        evidence(override=override(L.FINGERPRINT, chain=EXPIRED)),
        session(()),
        "4.7.5",
        Rule.OVERRIDE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "fingerprint, no TLS",
        evidence(override=override(L.FINGERPRINT, chain=EXPIRED)),
        CLEAR,
        "4.7.4",
        Rule.OVERRIDE,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case("dane, no records", evidence(sts=sts(), override=override(L.DANE)), CLEAR, "none", Rule.OVERRIDE),
    Case(
        "dane, a mismatch",
        evidence(tlsa(), override=override(L.DANE)),
        session(EXPIRED),
        "4.7.5",
        Rule.DANE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "dane, and not MTA-STS",
        evidence(tlsa(SELF_SIGNED), sts(), override=override(L.DANE)),
        session(SELF_SIGNED),
        "verified",
        Rule.DANE,
    ),
    Case(
        "dane, DNS is undecided",
        evidence(TLSA_FAILED, override=override(L.DANE)),
        session(),
        "4.7.5",
        Rule.DNS_UNDECIDED,
        R.DNSSEC_INVALID,
    ),
    Case("dane, unusable", evidence(UNUSABLE, override=override(L.DANE)), session(), "encrypted", Rule.DANE_UNUSABLE),
    Case("dane-only", evidence(tlsa(), override=override(L.DANE_ONLY)), session(), "verified", Rule.DANE),
    Case(
        "dane-only, a mismatch",
        evidence(tlsa(), override=override(L.DANE_ONLY)),
        session(EXPIRED),
        "4.7.5",
        Rule.DANE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "dane-only, no records",
        evidence(override=override(L.DANE_ONLY)),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.DANE_REQUIRED,
    ),
    Case(
        "dane-only, no records, and TLS 1.3 asked for",
        evidence(override=override(L.DANE_ONLY, minimum=TlsVersion.TLS_1_3)),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.DANE_REQUIRED,
    ),
    Case(
        "dane-only, unusable",
        evidence(UNUSABLE, override=override(L.DANE_ONLY)),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.DANE_REQUIRED,
    ),
    Case(
        "dane-only, DNS is undecided",
        evidence(TLSA_FAILED, override=override(L.DANE_ONLY)),
        session(),
        "4.7.5",
        Rule.DNS_UNDECIDED,
        R.DNSSEC_INVALID,
    ),
    # the operator, beside what is published
    Case(
        "raised to encrypt, dane stays",
        evidence(tlsa(), override=override(L.ENCRYPT, RAISE)),
        session(EXPIRED),
        "4.7.5",
        Rule.DANE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "raised to encrypt, which the records ask for",
        evidence(UNUSABLE, override=override(L.ENCRYPT, RAISE)),
        CLEAR,
        "4.7.4",
        Rule.DANE_UNUSABLE,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "raised to dane, unusable, MTA-STS stays",
        evidence(UNUSABLE, sts(), override=override(L.DANE, RAISE)),
        session(EXPIRED),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "raised to encrypt, no TLS",
        evidence(override=override(L.ENCRYPT, RAISE)),
        CLEAR,
        "4.7.4",
        Rule.OVERRIDE,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "raised to opportunistic lowers nothing",
        evidence(sts=sts(), override=override(L.OPPORTUNISTIC, RAISE)),
        CLEAR,
        "4.7.4",
        Rule.STS,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "raised to none lowers nothing",
        evidence(sts=sts(), override=override(L.NONE, RAISE)),
        CLEAR,
        "4.7.4",
        Rule.STS,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "raised to verify, dane stays",
        evidence(tlsa(SELF_SIGNED), override=override(L.VERIFY, RAISE)),
        session(),
        "4.7.5",
        Rule.DANE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "raised to verify, dane fits",
        evidence(tlsa(SELF_SIGNED), override=override(L.VERIFY, RAISE)),
        session(SELF_SIGNED),
        "4.7.5",
        Rule.OVERRIDE,
        R.CERTIFICATE_NOT_TRUSTED,
    ),
    Case(
        "raised by another name, MTA-STS stays",
        evidence(sts=sts(), override=override(L.VERIFY, RAISE, names=("other.good.test",))),
        session(OTHER_NAME),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_HOST_MISMATCH,
    ),
    Case(
        "raised by another name, the certificate failed the handshake",
        evidence(sts=sts(), override=override(L.VERIFY, RAISE, names=("other.good.test",))),
        broken(HandshakeProblem.CERTIFICATE, 10),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "raised by another name, and only MTA-STS fits",
        evidence(sts=sts(), override=override(L.VERIFY, RAISE, names=("other.good.test",))),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.CERTIFICATE_HOST_MISMATCH,
    ),
    Case(
        "raised by a fingerprint, MTA-STS stays",
        evidence(sts=sts(), override=override(L.FINGERPRINT, RAISE, chain=EXPIRED)),
        session(EXPIRED),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_EXPIRED,
    ),
    Case(
        "raised to dane-only, and MTA-STS is not enough",
        evidence(sts=sts(), override=override(L.DANE_ONLY, RAISE)),
        session(),
        "4.7.5",
        Rule.OVERRIDE,
        R.DANE_REQUIRED,
    ),
    Case(
        "raised to dane-only, MTA-STS stays",
        evidence(tlsa(SELF_SIGNED), sts(), override=override(L.DANE_ONLY, RAISE)),
        session(SELF_SIGNED),
        "4.7.5",
        Rule.STS,
        R.CERTIFICATE_NOT_TRUSTED,
    ),
    Case(
        "raised to TLS 1.3 under MTA-STS",
        evidence(sts=sts(), override=override(L.OPPORTUNISTIC, RAISE, minimum=TlsVersion.TLS_1_3)),
        session(version=TlsVersion.TLS_1_2),
        "4.7.6",
        Rule.STS,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "raised to TLS 1.0 lowers nothing",
        evidence(sts=sts(), override=override(L.OPPORTUNISTIC, RAISE, minimum=TlsVersion.TLS_1_0)),
        session(version=TlsVersion.TLS_1_1),
        "4.7.6",
        Rule.STS,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "raised, not listed",
        evidence(sts=sts(StsMode.ENFORCE, "x.test"), override=override(L.VERIFY, RAISE)),
        session(),
        "4.4.8",
        Rule.STS_NOT_LISTED,
        R.VALIDATION_FAILURE,
    ),
    # the operator and the sender
    Case(
        "waived, but the operator asks for TLS",
        evidence(sts=sts(), demand=TlsDemand.WAIVED, override=override(L.ENCRYPT, RAISE)),
        CLEAR,
        "4.7.4",
        Rule.OVERRIDE,
        R.STARTTLS_NOT_SUPPORTED,
    ),
    Case(
        "waived, and the operator asks for TLS only",
        evidence(tlsa(), sts(), demand=TlsDemand.WAIVED, override=override(L.ENCRYPT)),
        session(EXPIRED),
        "encrypted",
        Rule.OVERRIDE,
    ),
    Case(
        "required, under an override that asks for less",
        evidence(tlsa(), demand=TlsDemand.REQUIRED, override=override(L.NONE), mx_secure=True),
        session(EXPIRED, requiretls=True),
        "5.7.10",
        Rule.DANE,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "required, under an override that asks for no TLS, and all is well",
        evidence(tlsa(), demand=TlsDemand.REQUIRED, override=override(L.NONE), mx_secure=True),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, the operator vouches by fingerprint",
        evidence(demand=TlsDemand.REQUIRED, override=override(L.FINGERPRINT, chain=EXPIRED)),
        session(EXPIRED, requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, the operator vouches by name",
        evidence(demand=TlsDemand.REQUIRED, override=override(L.VERIFY, names=(HOST,))),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, and verify believes what DNS says",
        evidence(demand=TlsDemand.REQUIRED, override=override(L.VERIFY)),
        session(requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, verify at a host that is certain",
        evidence(demand=TlsDemand.REQUIRED, override=override(L.VERIFY), mx_secure=True),
        session(requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, a fingerprint in place of MTA-STS",
        evidence(sts=sts(), demand=TlsDemand.REQUIRED, override=override(L.FINGERPRINT, chain=EXPIRED)),
        session(EXPIRED, requiretls=True),
        "verified",
        Rule.REQUIRETLS,
    ),
    Case(
        "required, and TLS 1.3 asked for",
        evidence(
            tlsa(),
            demand=TlsDemand.REQUIRED,
            override=override(L.ENCRYPT, RAISE, minimum=TlsVersion.TLS_1_3),
            mx_secure=True,
        ),
        session(version=TlsVersion.TLS_1_2, requiretls=True),
        "5.7.10",
        Rule.REQUIRETLS,
        R.VALIDATION_FAILURE,
    ),
    Case(
        "required, a fingerprint of another",
        evidence(demand=TlsDemand.REQUIRED, override=override(L.FINGERPRINT, chain=EXPIRED)),
        session(requiretls=True),
        "5.7.10",
        Rule.OVERRIDE,
        R.VALIDATION_FAILURE,
    ),
]


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case.name)
def test_verdict(case: Case) -> None:
    verdict = decide(case.evidence, case.session, TRUST)
    if isinstance(verdict, Refuse):
        assert (str(verdict.status), verdict.rule, verdict.result) == (case.answer, case.rule, case.result)
        assert HOST in verdict.reason or "good.test" in verdict.reason
    else:
        assert (verdict.tls.value, verdict.rule) == (case.answer, case.rule)


NO_CERTAIN_NAME = (
    "the sender demands TLS (REQUIRETLS), and good.test has neither signed DNS (DNSSEC) nor an MTA-STS policy by which "
    "mx.good.test is known to be its mail host"
)
REASONS = [
    (
        evidence(sts=sts(StsMode.ENFORCE, "x.test", "y.test")),
        CLEAR,
        "the MTA-STS policy of good.test (enforce) does not list the mail host mx.good.test; it allows x.test, y.test",
    ),
    (
        evidence(TLSA_FAILED),
        CLEAR,
        "whether mx.good.test publishes DANE (TLSA) records could not be found out: SERVFAIL",
    ),
    (
        evidence(sts=StsUnknown("bogus")),
        CLEAR,
        "whether good.test publishes an MTA-STS policy could not be found out: bogus",
    ),
    (
        evidence(override=override(L.DANE_ONLY)),
        CLEAR,
        "this server's own settings demand DANE, and mx.good.test has no usable TLSA record: securely absent",
    ),
    (
        evidence(UNUSABLE, override=override(L.DANE_ONLY)),
        CLEAR,
        "this server's own settings demand DANE, and mx.good.test has no usable TLSA record: "
        "none of its TLSA records can be used",
    ),
    (evidence(demand=TlsDemand.REQUIRED), CLEAR, NO_CERTAIN_NAME),
    (evidence(sts=StsFetchFailed("404"), demand=TlsDemand.REQUIRED), CLEAR, f"{NO_CERTAIN_NAME}: 404"),
    (evidence(sts=sts()), CLEAR, "the MTA-STS policy demands TLS, but mx.good.test does not offer STARTTLS"),
    (
        evidence(UNUSABLE),
        replace(CLEAR, starttls_offered=True),
        "the published DANE (TLSA) records demand TLS, but mx.good.test was spoken to without STARTTLS",
    ),
    (
        evidence(sts=sts()),
        session(version=TlsVersion.TLS_1_1),
        "the MTA-STS policy demands TLS with TLS 1.2 or newer, but mx.good.test uses TLS 1.1",
    ),
    (
        evidence(tlsa()),
        broken(HandshakeProblem.RESET),
        "DANE demands TLS, but with mx.good.test the connection was closed during the TLS handshake: as seen",
    ),
    (
        evidence(tlsa()),
        replace(CLEAR, handshake=HandshakeFailure(HandshakeProblem.TIMEOUT, "")),
        "DANE demands TLS, but with mx.good.test the TLS handshake timed out",
    ),
]


@pytest.mark.parametrize(("known", "seen", "reason"), REASONS)
def test_reasons(known: Evidence, seen: ObservedSession, reason: str) -> None:
    verdict = decide(known, seen, TRUST)
    assert isinstance(verdict, Refuse)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("session", "status"),
    [(session(EXPIRED), "4.7.5"), (CLEAR, "4.7.4"), (session(version=TlsVersion.TLS_1_1), "4.7.6")],
)
def test_testing_mode_says_what_it_would_have_refused(session: ObservedSession, status: str) -> None:
    verdict = decide(evidence(sts=sts(StsMode.TESTING)), session, TRUST)
    assert isinstance(verdict, Allow)
    assert verdict.would_refuse is not None
    assert str(verdict.would_refuse.status) == status


U = Unenforced
NOT_ENFORCED = [
    (evidence(sts=sts(StsMode.TESTING)), session(EXPIRED), "4.7.5", U.TESTING),
    (evidence(sts=sts(StsMode.TESTING, "x.test")), session(), "4.4.8", U.TESTING),
    (evidence(sts=sts(), override=override(L.OPPORTUNISTIC)), session(EXPIRED), "4.7.5", U.REPLACED),
    (evidence(sts=sts(), override=override(L.NONE)), CLEAR, "4.7.4", U.REPLACED),
    (evidence(sts=sts(StsMode.ENFORCE, "x.test"), override=override(L.ENCRYPT)), session(), "4.4.8", U.REPLACED),
    (evidence(TLSA_FAILED, override=override(L.ENCRYPT)), session(), "4.7.5", U.REPLACED),
    (evidence(sts=sts(StsMode.TESTING), override=override(L.ENCRYPT)), session(EXPIRED), "4.7.5", U.TESTING),
    (evidence(sts=sts(StsMode.TESTING), override=override(L.NONE)), CLEAR, "4.7.4", U.TESTING),
    (evidence(tlsa(), sts(StsMode.TESTING), override=override(L.NONE)), CLEAR, "4.7.4", U.REPLACED),
    (evidence(sts=sts(), override=override(L.ENCRYPT)), session(), None, None),
    (evidence(sts=sts()), session(), None, None),
]


@pytest.mark.parametrize(("known", "seen", "status", "why"), NOT_ENFORCED)
def test_what_is_not_enforced_and_why(
    known: Evidence, seen: ObservedSession, status: str | None, why: Unenforced | None
) -> None:
    verdict = decide(known, seen, TRUST)
    assert isinstance(verdict, Allow)
    assert verdict.unenforced is why
    assert (str(verdict.would_refuse.status) if verdict.would_refuse else None) == status


@pytest.mark.parametrize(
    ("tlsa", "sts", "clear_text", "sni"),
    [
        (NO_TLSA, NoSts(), True, HOST),
        (NO_TLSA, sts(StsMode.TESTING), True, HOST),
        (NO_TLSA, sts(), False, HOST),
        (UNUSABLE, NoSts(), False, HOST),
        (UsableTlsa("real.good.test", (HOST,), tlsa().records), NoSts(), False, "real.good.test"),  # RFC 7672 §8.1
    ],
)
def test_what_is_published_is_asked_of_the_handshake(
    tlsa: TlsaResult, sts: StsResult, clear_text: bool, sni: str
) -> None:
    need = require(evidence(tlsa, sts))
    assert not isinstance(need, Refuse)
    assert (need.clear_text, need.sni) == (clear_text, sni)
    assert need.minimum is (TlsVersion.TLS_1_0 if clear_text else TlsVersion.TLS_1_2)
    assert need.starttls


def test_a_name_is_asked_for_once() -> None:
    need = require(evidence(sts=sts(), demand=TlsDemand.REQUIRED))
    assert not isinstance(need, Refuse)
    assert [(one.names, one.rule) for one in need.identities] == [((HOST,), Rule.STS)]


@pytest.mark.parametrize(
    ("known", "starttls", "clear_text", "minimum"),
    [
        (evidence(), True, True, "TLS 1.0"),
        (evidence(override=override(L.NONE)), False, True, "TLS 1.0"),
        (evidence(tlsa(), sts(), override=override(L.NONE)), False, True, "TLS 1.0"),
        (evidence(override=override(L.NONE, RAISE)), True, True, "TLS 1.0"),
        (evidence(tlsa(), override=override(L.NONE, RAISE)), True, False, "TLS 1.2"),
        (evidence(demand=TlsDemand.REQUIRED, override=override(L.NONE), mx_secure=True), True, False, "TLS 1.2"),
        (
            evidence(tlsa(), demand=TlsDemand.REQUIRED, override=override(L.NONE), mx_secure=True),
            True,
            False,
            "TLS 1.2",
        ),
        (evidence(override=override(L.OPPORTUNISTIC)), True, True, "TLS 1.0"),
        (evidence(override=override(L.OPPORTUNISTIC, minimum=TlsVersion.TLS_1_3)), True, True, "TLS 1.0"),
        (evidence(override=override(L.ENCRYPT)), True, False, "TLS 1.2"),
        (evidence(override=override(L.ENCRYPT, minimum=TlsVersion.TLS_1_1)), True, False, "TLS 1.1"),
        (evidence(override=override(L.ENCRYPT, minimum=TlsVersion.SSL_3)), True, False, "TLS 1.0"),
        (evidence(override=override(L.ENCRYPT, RAISE, minimum=TlsVersion.TLS_1_1)), True, False, "TLS 1.2"),
        (evidence(override=override(L.ENCRYPT, RAISE, minimum=TlsVersion.TLS_1_3)), True, False, "TLS 1.3"),
        (  # REQUIRETLS asks for TLS 1.2 itself
            evidence(
                demand=TlsDemand.REQUIRED, override=override(L.VERIFY, minimum=TlsVersion.TLS_1_1), mx_secure=True
            ),
            *(True, False, "TLS 1.2"),
        ),
    ],
)
def test_what_an_override_asks_of_the_handshake(
    known: Evidence, starttls: bool, clear_text: bool, minimum: str
) -> None:
    need = require(known)
    assert not isinstance(need, Refuse)
    assert (need.starttls, need.clear_text, str(need.minimum)) == (starttls, clear_text, minimum)


# ---- a host that had TLS before ----------------------------------------------------------------------------------

DAY = timedelta(days=1)


LOSSES = [
    ("off", had_tls(OnTlsLoss.OFF), CLEAR, "none", False),
    ("warn", had_tls(OnTlsLoss.WARN), CLEAR, "none", True),
    ("warn, had it for too short", had_tls(OnTlsLoss.WARN, days=6), CLEAR, "none", False),
    ("defer", had_tls(OnTlsLoss.DEFER), CLEAR, "4.7.4", False),
    ("defer, the handshake fails", had_tls(OnTlsLoss.DEFER), broken(HandshakeProblem.RESET), "4.7.4", False),
    ("defer, lost for an hour", had_tls(OnTlsLoss.DEFER, lost=timedelta(hours=1)), CLEAR, "4.7.4", False),
    ("defer, lost for a day", had_tls(OnTlsLoss.DEFER, lost=DAY), CLEAR, "none", True),
    ("defer, had it for too short", had_tls(OnTlsLoss.DEFER, days=6), CLEAR, "none", False),
    ("defer, it is there", had_tls(OnTlsLoss.DEFER, lost=timedelta(hours=1)), session(EXPIRED), "encrypted", False),
]


@pytest.mark.parametrize(("name", "remembered", "seen", "answer", "lost"), LOSSES, ids=lambda case: str(case)[:30])
def test_loss_of_tls(name: str, remembered: Remembered, seen: ObservedSession, answer: str, lost: bool) -> None:
    verdict = decide(replace(evidence(), remembered=remembered), seen, TRUST)
    if isinstance(verdict, Refuse):
        assert (str(verdict.status), verdict.rule) == (answer, Rule.TLS_MEMORY)
        assert "2026-11-24 23:00" in verdict.reason or "2026-11-25 00:00" in verdict.reason
        assert verdict.result is R.STARTTLS_NOT_SUPPORTED
    else:
        assert (verdict.tls.value, verdict.lost) == (answer, remembered.memory if lost else None)


@pytest.mark.parametrize(
    "known",
    [
        evidence(demand=TlsDemand.WAIVED),
        evidence(override=override(L.NONE)),
        evidence(override=override(L.OPPORTUNISTIC)),
    ],
)
def test_loss_of_tls_where_clear_text_is_meant(known: Evidence) -> None:
    verdict = decide(replace(known, remembered=had_tls(OnTlsLoss.DEFER)), CLEAR, TRUST)
    assert isinstance(verdict, Allow)
    assert verdict.lost is None


@pytest.mark.parametrize("known", [evidence(sts=sts()), evidence(tlsa()), evidence(UNUSABLE)])
def test_loss_of_tls_where_a_policy_demands_it(known: Evidence) -> None:
    verdict = decide(replace(known, remembered=had_tls(OnTlsLoss.DEFER, lost=2 * DAY)), CLEAR, TRUST)
    assert isinstance(verdict, Refuse)
    assert verdict.rule is not Rule.TLS_MEMORY


PROOFS = [
    (evidence(), session(), None),
    (evidence(sts=sts()), session(), Rule.STS),
    (evidence(sts=sts(StsMode.TESTING)), session(), Rule.STS),
    (evidence(sts=sts(StsMode.TESTING)), session(EXPIRED), None),
    (evidence(tlsa(), sts()), session(), Rule.DANE),
    (evidence(override=override(L.VERIFY)), session(), Rule.OVERRIDE),
    (evidence(sts=sts(), override=override(L.VERIFY, RAISE)), session(), Rule.STS),  # whose word was there first
    (evidence(override=override(L.FINGERPRINT, chain=GOOD)), session(), Rule.OVERRIDE),
    (evidence(sts=sts(), override=override(L.OPPORTUNISTIC)), session(), Rule.STS),
    (evidence(tlsa(), sts(StsMode.TESTING), override=override(L.ENCRYPT)), session(), Rule.DANE),
    (evidence(sts=sts(StsMode.TESTING), override=override(L.ENCRYPT)), session(), Rule.STS),
    (evidence(sts=sts(StsMode.TESTING), override=override(L.ENCRYPT)), session(EXPIRED), None),
    (evidence(demand=TlsDemand.REQUIRED, mx_secure=True), session(requiretls=True), Rule.REQUIRETLS),
]


@pytest.mark.parametrize(("known", "seen", "rule"), PROOFS)
def test_which_rule_proved_the_host(known: Evidence, seen: ObservedSession, rule: Rule | None) -> None:
    verdict = decide(known, seen, TRUST)
    assert isinstance(verdict, Allow)
    assert (verdict.proven_by, verdict.tls is TlsUsed.VERIFIED) == (rule, rule is not None)


# ---- laws --------------------------------------------------------------------------------------------------------


@many
@given(evidences, sessions)
def test_decide_is_judge_after_require_and_always_answers(e: Evidence, s: ObservedSession) -> None:
    need = require(e)
    expected = need if isinstance(need, Refuse) else judge(need, s, TRUST)
    assert decide(e, s, TRUST) == expected


@many
@given(evidences, sessions)
def test_required_and_allowed_means_authenticated_and_requiretls(e: Evidence, s: ObservedSession) -> None:
    verdict = decide(replace(e, demand=TlsDemand.REQUIRED), s, TRUST)
    if isinstance(verdict, Allow):
        assert verdict.tls is TlsUsed.VERIFIED
        assert s.tls is not None
        assert s.requiretls_offered


@many
@given(evidences, sessions)
def test_published_policy_delays_mail_and_never_bounces_it(e: Evidence, s: ObservedSession) -> None:
    assume(e.demand is not TlsDemand.REQUIRED)
    verdict = decide(e, s, TRUST)
    assert isinstance(verdict, Allow) or verdict.status.kind is Kind.TEMPORARY


@many
@given(evidences, sessions, tlsas, policies, raises)
def test_one_more_requirement_never_turns_no_into_yes(
    e: Evidence, s: ObservedSession, more_tlsa: TlsaResult, more_sts: StsResult, more_local: Override
) -> None:
    assume(isinstance(decide(e, s, TRUST), Refuse))
    more = [replace(e, override=more_local)] if e.override is None else []
    more += [replace(e, demand=TlsDemand.REQUIRED)]
    if isinstance(e.tlsa, NoTlsa):
        more.append(replace(e, tlsa=more_tlsa))
    if isinstance(e.sts, NoSts):
        more.append(replace(e, sts=more_sts))
    for stricter in more:
        if e.demand is TlsDemand.REQUIRED and stricter.override is not None:
            continue  # REQUIRETLS is refused for want of a way to authenticate; an override may give one
        if e.demand is TlsDemand.REQUIRED and (stricter.tlsa != e.tlsa or stricter.sts != e.sts):
            continue  # so may a policy
        if e.override is not None and e.override.level is OverrideLevel.DANE_ONLY and stricter.tlsa != e.tlsa:
            continue  # that is refused for want of TLSA records
        assert isinstance(decide(stricter, s, TRUST), Refuse)


@many
@given(evidences_of(tlsas=st.sampled_from(USABLE), demands=unwaived, overrides=st.none() | raises), sessions)
def test_usable_tlsa_and_allowed_means_a_record_matched(e: Evidence, s: ObservedSession) -> None:
    if isinstance(decide(e, s, TRUST), Allow):
        assert s.tls is not None
        assert isinstance(e.tlsa, UsableTlsa)
        assert e.tlsa.records[0].data == tlsa_data(s.tls.chain[0], 1, 1)


@many
@given(
    evidences_of(policies=st.sampled_from(FOUND[StsMode.ENFORCE]), demands=unwaived, overrides=st.none() | raises),
    sessions,
)
def test_sts_enforce_and_allowed_means_listed_and_a_good_certificate(e: Evidence, s: ObservedSession) -> None:
    if isinstance(decide(e, s, TRUST), Allow):
        assert s.tls is not None
        assert s.tls.version >= TlsVersion.TLS_1_2
        assert s.tls.chain in (GOOD, WILDCARD)
        assert isinstance(e.sts, StsFound)
        assert e.sts.policy.mx != ("x.test",)


@many
@given(evidences, sessions)
def test_taking_tls_away_never_helps(e: Evidence, s: ObservedSession) -> None:
    assume(isinstance(decide(e, s, TRUST), Refuse))
    stripped = replace(s, tls=None, handshake=None, starttls_offered=False, requiretls_offered=False)
    assert isinstance(decide(e, stripped, TRUST), Refuse)


@many
@given(evidences, sessions)
def test_waived_is_always_allowed_by_all_but_the_operator(e: Evidence, s: ObservedSession) -> None:
    verdict = decide(replace(e, demand=TlsDemand.WAIVED, override=None), s, TRUST)
    assert isinstance(verdict, Allow)
    assert verdict.would_refuse is None


@many
@given(evidences_of(demands=st.just(TlsDemand.DEFAULT), overrides=replaces), sessions)
def test_what_is_published_is_reported_under_an_override(e: Evidence, s: ObservedSession) -> None:
    verdict = decide(e, s, TRUST)
    if isinstance(verdict, Allow):
        without = decide(replace(e, override=None, remembered=None), s, TRUST)
        told = without if isinstance(without, Refuse) else without.would_refuse
        assert verdict.would_refuse == told


@many
@given(evidences, sessions, raises)
def test_an_override_that_raises_never_allows_what_is_refused_without(
    e: Evidence, s: ObservedSession, local: Override
) -> None:
    assume(e.demand is not TlsDemand.REQUIRED)  # there it may vouch for the host
    if isinstance(decide(replace(e, override=local), s, TRUST), Allow):
        assert isinstance(decide(replace(e, override=None), s, TRUST), Allow)


hops = st.builds(
    lambda level, digests: Hop("smart", (), tls=level, fingerprints=digests),
    st.none() | st.sampled_from(L),
    st.sampled_from([(bytes(32),), (hashlib.sha256(GOOD[0]).digest(),)]),
)


@many
@given(evidences, sessions, hops)
def test_a_route_never_allows_what_is_refused_without(e: Evidence, s: ObservedSession, hop: Hop) -> None:
    if isinstance(decide(replace(e, hop=hop), s, TRUST), Allow):
        without = decide(e, s, TRUST)
        # REQUIRETLS is refused for want of a way to authenticate, which a fingerprint in the settings is.
        assert isinstance(without, Allow) or (e.demand is TlsDemand.REQUIRED and hop.tls is L.FINGERPRINT)


@many
@given(evidences, sessions, hops)
def test_what_a_route_demands_holds(e: Evidence, s: ObservedSession, hop: Hop) -> None:
    """Whatever is published, and whatever the sender waives or an override lowers."""
    if not isinstance(decide(replace(e, hop=hop), s, TRUST), Allow):
        return
    if hop.tls in (L.ENCRYPT, L.VERIFY, L.DANE_ONLY, L.FINGERPRINT):
        assert s.tls is not None
        assert hop.tls is not L.VERIFY or s.tls.chain in (GOOD, WILDCARD)
        assert hop.tls is not L.FINGERPRINT or fits(hop.fingerprints, s.tls.chain[0])
        assert hop.tls is not L.DANE_ONLY or isinstance(e.tlsa, UsableTlsa)


@many
@given(evidences_of(overrides=raises | replaces), sessions)
def test_dane_only_allows_nothing_without_a_record_that_matches(e: Evidence, s: ObservedSession) -> None:
    assert e.override is not None
    verdict = decide(replace(e, override=replace(e.override, level=L.DANE_ONLY)), s, TRUST)
    if isinstance(verdict, Allow):
        assert isinstance(e.tlsa, UsableTlsa)
        assert s.tls is not None
        assert e.tlsa.records[0].data == tlsa_data(s.tls.chain[0], 1, 1)


@many
@given(evidences, sessions)
def test_verified_is_never_said_without_proof(e: Evidence, s: ObservedSession) -> None:
    verdict = decide(e, s, TRUST)
    if isinstance(verdict, Allow) and verdict.tls is TlsUsed.VERIFIED:
        assert s.tls is not None
        dane = isinstance(e.tlsa, UsableTlsa) and e.tlsa.records[0].data == tlsa_data(s.tls.chain[0], 1, 1)
        given = e.override is not None and fits(e.override.fingerprints, s.tls.chain[0])
        named = e.override is not None and "other.good.test" in e.override.names and s.tls.chain == OTHER_NAME
        assert dane or given or named or s.tls.chain in (GOOD, WILDCARD)


@many
@given(evidences, sessions)
def test_a_session_without_tls_is_never_called_protected(e: Evidence, s: ObservedSession) -> None:
    verdict = decide(e, s, TRUST)
    if isinstance(verdict, Allow):
        assert (verdict.tls is TlsUsed.NONE) == (s.tls is None)
