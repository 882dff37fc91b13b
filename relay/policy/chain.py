"""Is a certificate chain good for an authority, a name and a time? OpenSSL's rules, after the handshake.

`check_chain` and `name_fault` say what OpenSSL says when it verifies in the handshake with the context `webpki` of
`relay.tls`; a test holds the two against each other. pyOpenSSL checks neither what a certificate is for nor how strong
it is, so those checks are here. Revocation is not looked at, and the system's clock neither.

RFC 5280 section 6, RFC 9525 section 6 (names), RFC 8461 section 4.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import (
    FILETYPE_ASN1,
    FILETYPE_PEM,
    TYPE_DSA,
    TYPE_RSA,
    X509,
    Error,
    X509Store,
    X509StoreContext,
    X509StoreContextError,
    X509StoreFlags,
    dump_certificate,
    load_certificate,
)

from relay.policy.certificate import (
    CertificateSyntaxError,
    dns_names,
    is_certificate,
    is_for_servers,
    is_strongly_signed,
    key_may_do_tls,
)

# OpenSSL's X509_V_ERR numbers
UNSPECIFIED: Final = 1
NOT_YET_VALID: Final = 9
EXPIRED: Final = 10
WRONG_PURPOSE: Final = 26
NAME_MISMATCH: Final = 62
LEAF_KEY_TOO_SMALL: Final = 66
CA_KEY_TOO_SMALL: Final = 67
SIGNATURE_TOO_WEAK: Final = 68

_WORDS = {
    7: "the signature of {which} is wrong",
    18: "self-signed certificate",
    19: "the chain ends at a root that is not trusted here",
    20: "the authority that issued {which} is not trusted here, or its certificate was not sent",
    25: "the chain is longer than one of its authorities allows",
    26: "{which} is not meant for TLS servers",
    34: "{which} has a critical extension that is not known here",
    47: "{which} has a name that its authority may not certify",
    48: "{which} has a name that its authority may not certify",
    66: "the key of {which} is too short",
    67: "the key of {which} is too short",
    68: "{which} is signed with too weak an algorithm",
    79: "{which} is used as an authority without being one",
}
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ONE_LABEL = re.compile(r"[a-z0-9-]+")
_MIN_RSA_BITS, _MIN_EC_BITS = 2048, 224  # OpenSSL's security level 2: 112 bits
_EVP_PKEY_RSA_PSS = 912
_SHOWN_NAMES, _SHOWN_CHARACTERS = 4, 64


class Roots:
    """The trusted authorities, parsed once and shared."""

    def __init__(self, pem: bytes) -> None:
        """`pem`: any number of CA certificates; one that cannot be parsed is left out. ValueError when none is left."""
        self.certificates: tuple[X509, ...] = tuple(_parsed(_PEM.findall(pem), FILETYPE_PEM))
        if not self.certificates:
            raise ValueError("no certificate of an authority in PEM form")


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
    path = _verified(chain, trust.roots.certificates, trust.now, partial=False)
    return path if isinstance(path, ChainFault) else _fitness_fault(path, strength=True)


def check_path(chain: tuple[bytes, ...], anchor: bytes, now: datetime) -> ChainFault | None:
    """None when `chain` leads to the certificate `anchor` (all in DER, leaf first), is in date and fit for servers.

    For DANE: the anchor need not be a root (RFC 7671 section 5.2), and how strong the keys are is the business of the
    domain that published it.
    """
    anchors = _parsed((anchor,), FILETYPE_ASN1)
    if not anchors:
        return ChainFault(UNSPECIFIED, "the certificate of the authority is broken")
    path = _verified(chain, anchors, now, partial=True)
    return path if isinstance(path, ChainFault) else _fitness_fault(path, strength=False)


def names_match(leaf: bytes, name: str) -> bool:
    """Whether a DNS name in the subjectAltName of `leaf` (DER) equals `name` or is `*.` and the rest of it.

    The common name is never looked at (RFC 8461 section 4.2); a wildcard stands for exactly one whole label, the
    leftmost.
    """
    return name_fault(leaf, name) is None


def name_fault(leaf: bytes, *names: str) -> ChainFault | None:
    """None when one of `names` is in `leaf` (see `names_match`), else what names there are instead."""
    try:
        present = dns_names(leaf)
    except CertificateSyntaxError:
        return ChainFault(NAME_MISMATCH, "the names in the certificate cannot be read")
    if any(name_matches(pattern, name) for pattern in present for name in names):
        return None
    return ChainFault(NAME_MISMATCH, f"it names {shown_names(present)}, not {shown_names(names)}")


def name_matches(pattern: str, name: str) -> bool:
    """Whether a name from a certificate, which may start with `*.`, fits a host name (A-labels, no final dot)."""
    pattern, name = pattern.lower(), name.lower()
    if not name or ":" in name or name.rpartition(".")[2].isdigit():
        return False  # an address is not a DNS name, not even if a certificate says so
    if pattern == name:
        return "*" not in name
    label, _, rest = name.partition(".")
    # RFC 9525 §6.3: one whole label, the leftmost. OpenSSL too does not let a wildcard stand right above a TLD.
    return pattern == f"*.{rest}" and "." in rest and _ONE_LABEL.fullmatch(label) is not None


def shown_names(names: Iterable[str]) -> str:
    """Names from a certificate for a sentence: a few, short, and without anything that could harm a log or a mail."""
    cleaned = ["".join(c if c.isascii() and c.isprintable() else "?" for c in name) for name in names]
    listed = [name[:_SHOWN_CHARACTERS] for name in cleaned[:_SHOWN_NAMES]]
    if len(cleaned) > _SHOWN_NAMES:
        listed.append(f"{len(cleaned) - _SHOWN_NAMES} more")
    return ", ".join(listed) or "no host"


def described(certificate: bytes) -> str:
    """A certificate (DER) for people: whose it is, who issued it, until when, with which key."""
    try:
        one = x509.load_der_x509_certificate(certificate)
        whose, issuer = _who(one.subject), _who(one.issuer)
        first, last = one.not_valid_before_utc, one.not_valid_after_utc
        key = one.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "a certificate that cannot be parsed"
    size = f" {key.key_size}" if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) else ""
    kind = type(key).__name__.removesuffix("PublicKey").removeprefix("_").replace("EllipticCurve", "EC")
    return f"{whose}, issued by {issuer}, valid {first:%Y-%m-%d} to {last:%Y-%m-%d}, {kind}{size}"


def _who(name: x509.Name) -> str:
    """The common name, or failing that all of the name."""
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return shown_names([str(common[0].value)]) if common else shown_names([name.rfc4514_string() or "nobody"])


def _parsed(certificates: Iterable[bytes], form: int) -> list[X509]:
    parsed = []
    for octets in certificates:
        try:
            parsed.append(load_certificate(form, octets))
        except Error:
            continue
    return parsed


def _verified(
    chain: tuple[bytes, ...], anchors: Iterable[X509], now: datetime, *, partial: bool
) -> list[X509] | ChainFault:
    """The path from the leaf to one of `anchors`, both included. `partial`: anchors need not be roots."""
    if not chain:
        return ChainFault(UNSPECIFIED, "no certificate could be had from the server")
    sent = _parsed(chain, FILETYPE_ASN1)
    if len(sent) != len(chain) or not all(map(is_certificate, chain)):  # OpenSSL leaves what follows the first unread
        return ChainFault(UNSPECIFIED, "a certificate cannot be parsed")
    store = X509Store()
    for anchor in anchors:
        store.add_cert(anchor)
    store.set_time(now.astimezone(UTC))
    if partial:
        store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    try:
        return X509StoreContext(store, sent[0], sent).get_verified_chain()
    except X509StoreContextError as error:
        code, depth, message = error.errors
        return ChainFault(code, _text(code, depth, message, error.certificate))


def _text(code: int, depth: int, message: str, culprit: X509) -> str:
    which = "the certificate" if depth == 0 else "a certificate of an authority in the chain"
    if code == EXPIRED:
        return f"{which} expired on {_day(culprit.get_notAfter())}"
    if code == NOT_YET_VALID:
        return f"{which} is not valid before {_day(culprit.get_notBefore())}"
    return _WORDS[code].format(which=which) if code in _WORDS else f"{which}: {message}"


def _day(asn1_time: bytes | None) -> str:
    """2026-11-24, of 20261124120000Z."""
    digits = (asn1_time or b"").decode("ascii", "replace")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"


def _fitness_fault(path: list[X509], *, strength: bool) -> ChainFault | None:
    """What pyOpenSSL does not look at: what the certificates are for and, if asked, how strong they are."""
    try:
        fault = _purpose_fault(path)
        return _strength_fault(path) if fault is None and strength else fault
    except (CertificateSyntaxError, Error):
        return ChainFault(UNSPECIFIED, "a certificate is not in DER")


def _purpose_fault(path: list[X509]) -> ChainFault | None:
    """RFC 5280 §4.2.1.12, as OpenSSL applies it: extendedKeyUsage of authorities limits what they issue."""
    for depth, one in enumerate(path):
        octets = dump_certificate(FILETYPE_ASN1, one)
        if not is_for_servers(octets) or (depth == 0 and not key_may_do_tls(octets)):
            return ChainFault(WRONG_PURPOSE, _text(WRONG_PURPOSE, depth, "", one))
    return None


def _strength_fault(path: list[X509]) -> ChainFault | None:
    """Security level 2: keys of the whole path; signatures below the anchor, whose own proves nothing."""
    for depth, one in enumerate(path):
        code = CA_KEY_TOO_SMALL if depth else LEAF_KEY_TOO_SMALL
        if not _has_strong_key(one):
            return ChainFault(code, _text(code, depth, "", one))
    for depth, one in enumerate(path[:-1]):
        if not is_strongly_signed(dump_certificate(FILETYPE_ASN1, one)):
            return ChainFault(SIGNATURE_TOO_WEAK, _text(SIGNATURE_TOO_WEAK, depth, "", one))
    return None


def _has_strong_key(one: X509) -> bool:
    key = one.get_pubkey()
    by_factors = key.type() in (TYPE_RSA, TYPE_DSA, _EVP_PKEY_RSA_PSS)
    return key.bits() >= (_MIN_RSA_BITS if by_factors else _MIN_EC_BITS)
