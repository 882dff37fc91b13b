"""Every way in which TLS can fail is one of these facts, and the table says what each of them means. Pure.

RFC 8460 section 4.3 (what a report calls it), RFC 3463 (enhanced codes); those of subject 7 are Exchange Online's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from relay.mail.status import Kind, Status
from relay.policy.observed import HandshakeFailure, HandshakeProblem

# Class 4 while the message waits, class 5 once we give up.
TLS_NOT_OFFERED_4_7_4: Final = Status(Kind.TEMPORARY, 7, 4)
NOT_VERIFIED_4_7_5: Final = Status(Kind.TEMPORARY, 7, 5)
TLS_TOO_OLD_4_7_6: Final = Status(Kind.TEMPORARY, 7, 6)


class ReportResult(Enum):
    """RFC 8460 section 4.3: what a failure is called in a TLS report."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


class TlsFailure(Enum):
    """The facts. docs/tls-policy.md lists them with what follows from each."""

    NOT_OFFERED = "starttls-not-offered"
    DEFERRED = "starttls-deferred"  # 4xx to STARTTLS
    REFUSED = "starttls-refused"  # 5xx to STARTTLS
    INJECTED = "clear-text-injected"  # RFC 3207 §6, CVE-2011-0411: octets behind the 220
    NOT_TLS = "not-tls"  # garbage in place of a handshake
    TIMEOUT = "handshake-timeout"
    RESET = "handshake-reset"
    VERSION = "version-too-old"
    CIPHER = "cipher-too-old"
    HANDSHAKE = "handshake-failed"  # in any other way
    EXPIRED = "certificate-expired"
    NOT_YET_VALID = "certificate-not-yet-valid"
    NAME = "certificate-name"
    UNTRUSTED = "certificate-untrusted"
    WEAK = "certificate-too-weak"
    UNFIT = "certificate-unfit"  # not for servers, an authority that is none, constraints
    BROKEN = "certificate-broken"  # wrong signature, not to be parsed, any other fault
    TLSA_MISMATCH = "tlsa-mismatch"
    TLSA_MISSING = "tlsa-missing"
    FINGERPRINT = "fingerprint-mismatch"


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a failure means. The next host is tried after each of them; none is the end of a message by itself.

    `clear_text`: where nothing is required of the session, mail goes out in clear text (False: there is a TLS session,
    which is used all the same). `passing`: it may be over in a minute.
    """

    status: Status
    result: ReportResult
    clear_text: bool = False
    passing: bool = False


_R = ReportResult
CONSEQUENCES: Final[Mapping[TlsFailure, Consequence]] = {
    TlsFailure.NOT_OFFERED: Consequence(TLS_NOT_OFFERED_4_7_4, _R.STARTTLS_NOT_SUPPORTED, clear_text=True),
    TlsFailure.DEFERRED: Consequence(TLS_NOT_OFFERED_4_7_4, _R.STARTTLS_NOT_SUPPORTED, clear_text=True, passing=True),
    TlsFailure.REFUSED: Consequence(TLS_NOT_OFFERED_4_7_4, _R.STARTTLS_NOT_SUPPORTED, clear_text=True),
    TlsFailure.INJECTED: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE, clear_text=True),
    TlsFailure.NOT_TLS: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE, clear_text=True),
    TlsFailure.TIMEOUT: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE, clear_text=True, passing=True),
    TlsFailure.RESET: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE, clear_text=True, passing=True),
    TlsFailure.VERSION: Consequence(TLS_TOO_OLD_4_7_6, _R.VALIDATION_FAILURE, clear_text=True),
    TlsFailure.CIPHER: Consequence(TLS_TOO_OLD_4_7_6, _R.VALIDATION_FAILURE, clear_text=True),
    TlsFailure.HANDSHAKE: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE, clear_text=True),
    TlsFailure.EXPIRED: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_EXPIRED),
    TlsFailure.NOT_YET_VALID: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_NOT_TRUSTED),
    TlsFailure.NAME: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_HOST_MISMATCH),
    TlsFailure.UNTRUSTED: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_NOT_TRUSTED),
    TlsFailure.WEAK: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_NOT_TRUSTED),
    TlsFailure.UNFIT: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_NOT_TRUSTED),
    TlsFailure.BROKEN: Consequence(NOT_VERIFIED_4_7_5, _R.CERTIFICATE_NOT_TRUSTED),
    TlsFailure.TLSA_MISMATCH: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE),
    TlsFailure.TLSA_MISSING: Consequence(NOT_VERIFIED_4_7_5, _R.DANE_REQUIRED),
    TlsFailure.FINGERPRINT: Consequence(NOT_VERIFIED_4_7_5, _R.VALIDATION_FAILURE),
}

_OF_HANDSHAKE: Final = {
    HandshakeProblem.DEFERRED: TlsFailure.DEFERRED,
    HandshakeProblem.REFUSED: TlsFailure.REFUSED,
    HandshakeProblem.INJECTED: TlsFailure.INJECTED,
    HandshakeProblem.NOT_TLS: TlsFailure.NOT_TLS,
    HandshakeProblem.TIMEOUT: TlsFailure.TIMEOUT,
    HandshakeProblem.RESET: TlsFailure.RESET,
    HandshakeProblem.VERSION: TlsFailure.VERSION,
    HandshakeProblem.CIPHER: TlsFailure.CIPHER,
    HandshakeProblem.OTHER: TlsFailure.HANDSHAKE,
}

# OpenSSL's X509_V_ERR numbers.
_OF_VERIFY_CODE: Final[Mapping[int | None, TlsFailure]] = {
    9: TlsFailure.NOT_YET_VALID,
    10: TlsFailure.EXPIRED,
    18: TlsFailure.UNTRUSTED,  # self-signed
    19: TlsFailure.UNTRUSTED,  # a root that is not trusted here
    20: TlsFailure.UNTRUSTED,  # its issuer is not here
    21: TlsFailure.UNTRUSTED,
    24: TlsFailure.UNFIT,  # the issuer is no authority
    25: TlsFailure.UNFIT,  # path length
    26: TlsFailure.UNFIT,  # purpose
    27: TlsFailure.UNTRUSTED,
    28: TlsFailure.UNTRUSTED,  # rejected
    32: TlsFailure.UNFIT,  # key usage of the issuer
    34: TlsFailure.UNFIT,  # unknown critical extension
    47: TlsFailure.UNFIT,  # name constraints
    48: TlsFailure.UNFIT,
    62: TlsFailure.NAME,
    63: TlsFailure.NAME,
    64: TlsFailure.NAME,
    65: TlsFailure.TLSA_MISMATCH,
    66: TlsFailure.WEAK,
    67: TlsFailure.WEAK,
    68: TlsFailure.WEAK,
    79: TlsFailure.UNFIT,  # used as an authority without being one
}


def of_handshake(failure: HandshakeFailure) -> TlsFailure:
    """Which fact a failed STARTTLS or handshake is."""
    if failure.problem is HandshakeProblem.CERTIFICATE:
        return of_verify_code(failure.verify_code)
    return _OF_HANDSHAKE[failure.problem]


def of_verify_code(code: int | None) -> TlsFailure:
    """Which fact a certificate's fault is, by OpenSSL's X509_V_ERR number."""
    return _OF_VERIFY_CODE.get(code, TlsFailure.BROKEN)
