"""What a failed or finished STARTTLS showed, in the words of `policy.observed`. Judges nothing.

RFC 3207 section 4.1, RFC 8446 section 6 (alerts).
"""

from __future__ import annotations

import ssl

from relay.delivery.wire import wording
from relay.policy.observed import HandshakeFailure, HandshakeProblem, TlsSeen, TlsVersion
from relay.tls import peer_chain

# OpenSSL's names for: the other side, or we ourselves, will not speak a version that is offered. WRONG_VERSION_NUMBER
# is not among them: it means octets that are no TLS at all.
_VERSION_REASONS = frozenset({
    "UNSUPPORTED_PROTOCOL",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "NO_PROTOCOLS_AVAILABLE",
    "WRONG_SSL_VERSION",
    "VERSION_TOO_LOW",
    "VERSION_TOO_HIGH",
})  # fmt: skip

_VERSIONS = {
    "SSLv3": TlsVersion.SSL_3,
    "TLSv1": TlsVersion.TLS_1_0,
    "TLSv1.1": TlsVersion.TLS_1_1,
    "TLSv1.2": TlsVersion.TLS_1_2,
    "TLSv1.3": TlsVersion.TLS_1_3,
}


def failure(error: Exception) -> HandshakeFailure:
    """Sort what `Wire.shake_hands` raised."""
    return HandshakeFailure(_problem(error), wording(error), getattr(error, "verify_code", None))


def _problem(error: Exception) -> HandshakeProblem:
    match error:
        case ssl.SSLCertVerificationError():
            return HandshakeProblem.CERTIFICATE
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return HandshakeProblem.RESET
        case ssl.SSLError():
            return (
                HandshakeProblem.VERSION
                if getattr(error, "reason", None) in _VERSION_REASONS
                else HandshakeProblem.OTHER
            )
        case ConnectionAbortedError(errno=None) | TimeoutError():  # the former is how asyncio says that time is up
            return HandshakeProblem.TIMEOUT
        case ConnectionError():
            return HandshakeProblem.RESET
        case _:
            return HandshakeProblem.OTHER


def seen(tls: ssl.SSLObject, path_verified: bool) -> TlsSeen:
    """What the finished handshake showed. `path_verified`: the context verified the path in the handshake."""
    cipher = tls.cipher()
    return TlsSeen(
        version=_VERSIONS[tls.version() or ""],
        cipher=cipher[0] if cipher is not None else "",
        chain=peer_chain(tls),
        path_verified=path_verified,
    )
