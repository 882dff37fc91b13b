"""What one connection to one host showed. Facts only; `policy.verdict` judges them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum


class TlsVersion(IntEnum):
    """TLS protocol versions by their number on the wire. RFC 8446 section 4.1.2."""

    SSL_3 = 0x0300
    TLS_1_0 = 0x0301
    TLS_1_1 = 0x0302
    TLS_1_2 = 0x0303
    TLS_1_3 = 0x0304

    def __str__(self) -> str:
        return "SSLv3" if self is TlsVersion.SSL_3 else self.name.replace("_", " ", 1).replace("_", ".")


@dataclass(frozen=True, slots=True)
class TlsSeen:
    """A TLS session that was established.

    `chain` holds the certificates that the server sent, in DER, leaf first; empty when they could not be read, which
    must count as "not verified". `path_verified` says that OpenSSL verified the chain during the handshake against
    the trusted authorities (and would have broken it off otherwise); it says nothing about names.
    """

    version: TlsVersion
    cipher: str
    chain: tuple[bytes, ...]
    path_verified: bool = False


class HandshakeProblem(Enum):
    """Why STARTTLS was offered and there is no TLS session all the same."""

    DEFERRED = "the host put off STARTTLS"
    REFUSED = "the host refused STARTTLS"
    VERSION = "no TLS version in common"
    CIPHER = "no cipher in common that is strong enough"
    CERTIFICATE = "the certificate was not accepted"
    TIMEOUT = "the TLS handshake timed out"
    RESET = "the connection was closed during the TLS handshake"
    INJECTED = "the host sent clear text after its answer to STARTTLS"
    NOT_TLS = "the host sent something else than TLS"
    OTHER = "the TLS handshake failed"


@dataclass(frozen=True, slots=True)
class HandshakeFailure:
    """A failed STARTTLS. `detail` is OpenSSL's or the host's wording; `verify_code` is OpenSSL's X509_V_ERR number."""

    problem: HandshakeProblem
    detail: str
    verify_code: int | None = None


@dataclass(frozen=True, slots=True)
class ObservedSession:
    """One connection after its last EHLO (or after the failed handshake).

    `helo` is the name that the host gives itself, as it sent it; `source` our own address. Both are for reports.
    """

    host: str
    address: str
    starttls_offered: bool
    requiretls_offered: bool = False
    tls: TlsSeen | None = None
    handshake: HandshakeFailure | None = None
    helo: str = field(default="", compare=False)
    source: str = field(default="", compare=False)
