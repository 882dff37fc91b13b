"""Every failure of TLS is one fact with one consequence."""

from __future__ import annotations

import pytest

from relay.mail.status import Kind
from relay.policy.observed import HandshakeFailure, HandshakeProblem
from relay.policy.tls_failure import CONSEQUENCES, ReportResult, TlsFailure, of_handshake, of_verify_code

P, F = HandshakeProblem, TlsFailure


@pytest.mark.parametrize(
    ("problem", "fact"),
    [
        (P.DEFERRED, F.DEFERRED),
        (P.REFUSED, F.REFUSED),
        (P.INJECTED, F.INJECTED),
        (P.NOT_TLS, F.NOT_TLS),
        (P.TIMEOUT, F.TIMEOUT),
        (P.RESET, F.RESET),
        (P.VERSION, F.VERSION),
        (P.CIPHER, F.CIPHER),
        (P.OTHER, F.HANDSHAKE),
        (P.CERTIFICATE, F.EXPIRED),
    ],
)
def test_of_handshake(problem: HandshakeProblem, fact: TlsFailure) -> None:
    assert of_handshake(HandshakeFailure(problem, "", 10)) is fact


@pytest.mark.parametrize("problem", HandshakeProblem)
def test_every_problem_is_a_fact(problem: HandshakeProblem) -> None:
    assert of_handshake(HandshakeFailure(problem, "", None)) in TlsFailure


CODES = {
    F.NOT_YET_VALID: (9,),
    F.EXPIRED: (10,),
    F.UNTRUSTED: (18, 19, 20, 21, 27, 28),
    F.UNFIT: (24, 25, 26, 32, 34, 47, 48, 79),
    F.NAME: (62, 63, 64),
    F.WEAK: (66, 67, 68),
    F.BROKEN: (None, 0, 1, 7, 11, 23, 99),
    F.TLSA_MISMATCH: (65,),
}


@pytest.mark.parametrize(("code", "fact"), [(code, fact) for fact, codes in CODES.items() for code in codes])
def test_of_verify_code(code: int | None, fact: TlsFailure) -> None:
    assert of_verify_code(code) is fact


# What Exchange Online's codes and RFC 8460 section 4.3 make of them: code, report, clear text, over in a minute.
_S, _V, _N = (
    ReportResult.STARTTLS_NOT_SUPPORTED,
    ReportResult.VALIDATION_FAILURE,
    ReportResult.CERTIFICATE_NOT_TRUSTED,
)
MEANING = {
    F.NOT_OFFERED: ("4.7.4", _S, True, False),
    F.DEFERRED: ("4.7.4", _S, True, True),
    F.REFUSED: ("4.7.4", _S, True, False),
    F.INJECTED: ("4.7.5", _V, True, False),
    F.NOT_TLS: ("4.7.5", _V, True, False),
    F.TIMEOUT: ("4.7.5", _V, True, True),
    F.RESET: ("4.7.5", _V, True, True),
    F.VERSION: ("4.7.6", _V, True, False),
    F.CIPHER: ("4.7.6", _V, True, False),
    F.HANDSHAKE: ("4.7.5", _V, True, False),
    F.EXPIRED: ("4.7.5", ReportResult.CERTIFICATE_EXPIRED, False, False),
    F.NOT_YET_VALID: ("4.7.5", _N, False, False),
    F.NAME: ("4.7.5", ReportResult.CERTIFICATE_HOST_MISMATCH, False, False),
    F.UNTRUSTED: ("4.7.5", _N, False, False),
    F.WEAK: ("4.7.5", _N, False, False),
    F.UNFIT: ("4.7.5", _N, False, False),
    F.BROKEN: ("4.7.5", _N, False, False),
    F.TLSA_MISMATCH: ("4.7.5", _V, False, False),
    F.TLSA_MISSING: ("4.7.5", ReportResult.DANE_REQUIRED, False, False),
    F.FINGERPRINT: ("4.7.5", _V, False, False),
}


@pytest.mark.parametrize("failure", TlsFailure)
def test_consequences(failure: TlsFailure) -> None:
    found = CONSEQUENCES[failure]
    assert (str(found.status), found.result, found.clear_text, found.passing) == MEANING[failure]
    assert found.status.kind is Kind.TEMPORARY
