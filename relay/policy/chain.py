"""Is a certificate chain good for an authority, a name and a time? OpenSSL's rules, after the handshake. RFC 6125."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from OpenSSL.crypto import X509


class Roots:
    """The trusted authorities, parsed once and shared."""

    def __init__(self, pem: bytes) -> None:
        """`pem`: any number of CA certificates. Raises ValueError when one cannot be parsed."""
        self.certificates: tuple[X509, ...] = ()
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe, and when it is."""

    roots: Roots
    now: datetime


@dataclass(frozen=True, slots=True)
class ChainFault:
    """What is wrong with a chain: OpenSSL's X509_V_ERR number (62: host name mismatch) and words."""

    code: int
    text: str


def check_chain(chain: tuple[bytes, ...], trust: Trust) -> ChainFault | None:
    """None when `chain` (DER, leaf first) leads to a trusted root, is in date and is fit for a TLS server."""
    raise NotImplementedError


def names_match(leaf: bytes, name: str) -> bool:
    """Whether a DNS name in the subjectAltName of `leaf` (DER) equals `name` or is `*.` and the rest of it.

    The common name is never looked at (RFC 8461 section 4.2); a wildcard stands for exactly one whole label, the
    leftmost.
    """
    raise NotImplementedError
