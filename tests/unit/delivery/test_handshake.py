"""Sorting what a failed handshake raised."""

from __future__ import annotations

import errno
import ssl

import pytest

from relay.delivery.handshake import failure
from relay.policy.observed import HandshakeFailure, HandshakeProblem


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def verify_error(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, message
    return error


ERRORS = [
    (verify_error(10, "certificate has expired"), HandshakeProblem.CERTIFICATE, "certificate has expired", 10),
    (verify_error(62, "hostname mismatch"), HandshakeProblem.CERTIFICATE, "hostname mismatch", 62),
    (tls_error("UNSUPPORTED_PROTOCOL"), HandshakeProblem.VERSION, "UNSUPPORTED_PROTOCOL", None),
    (
        tls_error("TLSV1_ALERT_PROTOCOL_VERSION"),
        HandshakeProblem.VERSION,
        "the host sent the alert protocol_version",
        None,
    ),
    (tls_error("NO_PROTOCOLS_AVAILABLE"), HandshakeProblem.VERSION, "NO_PROTOCOLS_AVAILABLE", None),
    (tls_error("WRONG_SSL_VERSION"), HandshakeProblem.VERSION, "WRONG_SSL_VERSION", None),
    (tls_error("WRONG_VERSION_NUMBER"), HandshakeProblem.NOT_TLS, "WRONG_VERSION_NUMBER", None),
    (
        tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"),
        HandshakeProblem.CIPHER,
        "the host sent the alert handshake_failure",
        None,
    ),
    (tls_error("DH_KEY_TOO_SMALL"), HandshakeProblem.CIPHER, "DH_KEY_TOO_SMALL", None),
    (
        tls_error("TLSV1_ALERT_INTERNAL_ERROR"),
        HandshakeProblem.OTHER,
        "the host sent the alert internal_error",
        None,
    ),
    (ssl.SSLEOFError(8, "EOF occurred"), HandshakeProblem.RESET, "EOF occurred", None),
    (ConnectionResetError(), HandshakeProblem.RESET, "connection closed", None),
    (ConnectionResetError(errno.ECONNRESET, "x"), HandshakeProblem.RESET, "connection reset by peer", None),
    (BrokenPipeError(errno.EPIPE, "x"), HandshakeProblem.RESET, "broken pipe", None),
    (ConnectionAbortedError("taking too long"), HandshakeProblem.TIMEOUT, "taking too long", None),
    (TimeoutError(errno.ETIMEDOUT, "x"), HandshakeProblem.TIMEOUT, "connection timed out", None),
    (UnicodeError("label empty or too long"), HandshakeProblem.OTHER, "label empty or too long", None),
    (ValueError("server_hostname cannot be empty"), HandshakeProblem.OTHER, "server_hostname cannot be empty", None),
]


@pytest.mark.parametrize(("error", "problem", "detail", "code"), ERRORS)
def test_failures(error: Exception, problem: HandshakeProblem, detail: str, code: int | None) -> None:
    assert failure(error) == HandshakeFailure(problem, detail, code)
