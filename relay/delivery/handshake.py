"""What a failed or finished STARTTLS showed, in the words of `policy.observed`. Judges nothing.

RFC 3207 section 4.1, RFC 8446 section 6 (alerts).
"""

from __future__ import annotations

import re
import ssl

from relay.delivery.wire import wording
from relay.policy.observed import HandshakeFailure, HandshakeProblem, TlsSeen
from relay.tls import peer_chain, tls_version

# OpenSSL's names. The other side, or we ourselves, will not speak a version that is offered:
_VERSION = ("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "WRONG_SSL_VERSION",
            "VERSION_TOO_LOW", "VERSION_TOO_HIGH")  # fmt: skip
# There is no cipher, or no key exchange, that both find strong enough. RFC 8446 section 6.2: handshake_failure says
# that the other side could not agree to anything that was offered.
_CIPHER = ("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "NO_SHARED_CIPHER", "DH_KEY_TOO_SMALL",
           "MODULUS_TOO_SMALL", "WRONG_CIPHER_RETURNED", "UNKNOWN_CIPHER_RETURNED", "NO_CIPHERS_AVAILABLE",
           "BAD_ECPOINT", "WRONG_CURVE", "WRONG_SIGNATURE_TYPE")  # fmt: skip
# These are octets that are no TLS at all:
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG", "BAD_RECORD_TYPE",
            "UNEXPECTED_RECORD", "RECORD_TOO_SMALL")  # fmt: skip
_PROBLEMS = {
    **dict.fromkeys(_VERSION, HandshakeProblem.VERSION),
    **dict.fromkeys(_CIPHER, HandshakeProblem.CIPHER),
    **dict.fromkeys(_NOT_TLS, HandshakeProblem.NOT_TLS),
}

_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_ALERT_([A-Z_]+)\Z")


def failure(error: Exception) -> HandshakeFailure:
    """Sort what `Wire.shake_hands` raised. A TLS alert of the other side is named in `detail`."""
    words = wording(error)
    alert = _ALERT.match(words)
    detail = f"the host sent the alert {alert[1].lower()}" if alert else words
    return HandshakeFailure(_problem(error), detail, getattr(error, "verify_code", None))


def _problem(error: Exception) -> HandshakeProblem:
    match error:
        case ssl.SSLCertVerificationError():
            return HandshakeProblem.CERTIFICATE
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return HandshakeProblem.RESET
        case ssl.SSLError():
            return _PROBLEMS.get(getattr(error, "reason", None) or "", HandshakeProblem.OTHER)
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
        version=tls_version(tls),
        cipher=cipher[0] if cipher is not None else "",
        chain=peer_chain(tls),
        path_verified=path_verified,
    )
