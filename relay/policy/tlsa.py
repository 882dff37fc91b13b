"""DANE for SMTP: which TLSA records are usable, and whether a chain matches one. RFC 7672, RFC 7671, RFC 6698.

The handshake runs unverified, so `matches` alone decides: whatever cannot be understood does not match, and nothing
that a server or a zone may send makes it raise, or costs more than some milliseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from relay.policy.certificate import (
    ECDSA_SHA256,
    ECDSA_SHA384,
    ECDSA_SHA512,
    ED448,
    ED25519,
    RSA_SHA256,
    RSA_SHA384,
    RSA_SHA512,
    CertificateSyntaxError,
    common_name,
    dns_names,
    is_certificate,
    is_public_key,
    issuer,
    public_key,
    signature,
    subject,
)
from relay.policy.chain import NAME_MISMATCH, ChainFault, check_path, name_matches, shown_names

DANE_TA: Final = 2  # usage: an authority that the domain itself names
DANE_EE: Final = 3  # usage: the server's own certificate or key
CERTIFICATE: Final = 0  # selector
PUBLIC_KEY: Final = 1  # selector
FULL: Final = 0  # matching type
SHA2_256: Final = 1  # matching type
SHA2_512: Final = 2  # matching type
NO_MATCH: Final = 65  # OpenSSL's X509_V_ERR_DANE_NO_MATCH

_DIGEST_OCTETS = {SHA2_256: 32, SHA2_512: 64}
_RSA = {RSA_SHA256: hashes.SHA256(), RSA_SHA384: hashes.SHA384(), RSA_SHA512: hashes.SHA512()}
_ECDSA = {ECDSA_SHA256: hashes.SHA256(), ECDSA_SHA384: hashes.SHA384(), ECDSA_SHA512: hashes.SHA512()}
_MAX_FULL, _MAX_CHAIN = 32, 16  # far above what anybody has; they bound what an answer full of records may cost
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class TlsaRecord:
    """A TLSA record as published. RFC 6698 section 2.1."""

    usage: int
    selector: int
    matching_type: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.usage} {self.selector} {self.matching_type} {self.data.hex()}"


@dataclass(frozen=True, slots=True)
class NoTlsa:
    """There is none, so DANE does not apply. `reason`: securely absent, zone not signed, resolver not trusted."""

    reason: str


@dataclass(frozen=True, slots=True)
class UnusableTlsa:
    """Records there are, but none that SMTP can use: TLS is mandatory, unauthenticated. RFC 7672 section 2.2."""

    base: str  # the name the records were found at, without the port labels: the TLSA base domain
    records: tuple[TlsaRecord, ...]


@dataclass(frozen=True, slots=True)
class UsableTlsa:
    """At least one usable record: a session must match one. RFC 7672 section 2.2.

    `base` is the TLSA base domain, sent as SNI (section 8.1); `names` are the reference identifiers that a DANE-TA
    certificate may carry (section 3.2.2), in lower case, without final dots.
    """

    base: str
    names: tuple[str, ...]
    records: tuple[TlsaRecord, ...]  # the usable ones only
    others: tuple[TlsaRecord, ...] = field(default=(), compare=False)  # published beside them, and of no use


@dataclass(frozen=True, slots=True)
class TlsaLookupFailed:
    """The lookup failed at a signed step: whether DANE applies can't be known. RFC 7672 section 2.1.2."""

    reason: str
    bogus: bool = False


TlsaResult = NoTlsa | UnusableTlsa | UsableTlsa | TlsaLookupFailed


def usable(record: TlsaRecord) -> bool:
    """Whether SMTP can use it: usage 2 or 3, a known selector and matching type, data of the right length or shape.

    RFC 7672 section 3.1.3 for usages 0 and 1; RFC 6698 section 2.1 for the data.
    """
    return why_unusable(record) is None


def why_unusable(record: TlsaRecord) -> str | None:
    """None when it is `usable`, else what is wrong with it."""
    if record.usage not in (DANE_TA, DANE_EE):
        return f"usage {record.usage} is not for SMTP"
    if record.selector not in (CERTIFICATE, PUBLIC_KEY):
        return f"there is no selector {record.selector}"
    if record.matching_type == FULL:
        fits = is_certificate if record.selector == CERTIFICATE else is_public_key
        return None if fits(record.data) else "the data are not what the selector names"
    if record.matching_type not in _DIGEST_OCTETS:
        return f"there is no matching type {record.matching_type}"
    octets = _DIGEST_OCTETS[record.matching_type]
    return None if len(record.data) == octets else f"the digest has {len(record.data)} octets, not {octets}"


def matches(tlsa: UsableTlsa, chain: tuple[bytes, ...], now: datetime) -> str | None:
    """Whether `chain` (DER, leaf first, as the server sent it) matches a record: None if so, else why not.

    Usage 3 compares the leaf and looks at neither names nor dates (RFC 7672 section 3.1.1); usage 2 finds the anchor
    in the chain or in the record, then checks path, dates and names (section 3.1.2).
    """
    found = matching_record(tlsa, chain, now)
    return found if isinstance(found, str) else None


def matching_record(tlsa: UsableTlsa, chain: tuple[bytes, ...], now: datetime) -> TlsaRecord | str:
    """The record that `chain` matches, or why none does. The same rules as `matches`, which see."""
    found = _found(tlsa, chain, now)
    return found if isinstance(found, TlsaRecord) else found.text


def mismatch(tlsa: UsableTlsa, chain: tuple[bytes, ...], now: datetime) -> ChainFault | None:
    """The same as `matches`, with the fault of a chain that leads to an authority of the records: out of date, or with
    another name. Where none of them is met its code is NO_MATCH.
    """
    found = _found(tlsa, chain, now)
    return found if isinstance(found, ChainFault) else None


def _found(tlsa: UsableTlsa, chain: tuple[bytes, ...], now: datetime) -> TlsaRecord | ChainFault:
    if not chain:
        return ChainFault(NO_MATCH, "no certificate could be had from the server")
    records = strongest(tlsa.records)
    leaf = chain[0]
    for record in records:
        if record.usage == DANE_EE and _selects(record, leaf):
            return record
    found = _matching_authority(records, chain[:_MAX_CHAIN], tlsa.names, now)
    if found is not None:
        return found
    count = len(tlsa.records)
    which = "the TLSA record does not match" if count == 1 else f"none of the {count} TLSA records matches"
    return ChainFault(NO_MATCH, f"{which} the certificate ({_described(leaf)})")


def strongest(records: tuple[TlsaRecord, ...]) -> tuple[TlsaRecord, ...]:
    """Without the records whose digest is weaker than another's of the same usage and selector.

    RFC 7671 section 9 (digest agility). Full data is not a digest and always stays.
    """
    best: dict[tuple[int, int], int] = {}
    for record in records:
        key = record.usage, record.selector
        best[key] = max(best.get(key, FULL), record.matching_type)
    return tuple(r for r in records if r.matching_type in (FULL, best[r.usage, r.selector]))


def _selects(record: TlsaRecord, certificate: bytes) -> bool:
    """Whether the record's data are those of this certificate. RFC 6698 section 2.1."""
    return _selected(certificate, record.selector, record.matching_type) == record.data


@lru_cache(maxsize=256)  # an answer may hold a thousand records
def _selected(certificate: bytes, selector: int, matching_type: int) -> bytes | None:
    """What the data of a record for this certificate would be; None: it cannot be told."""
    try:
        # The octets as sent: a certificate that no library can parse has a digest all the same.
        selected = certificate if selector == CERTIFICATE else public_key(certificate)
    except CertificateSyntaxError:
        return None
    if matching_type == SHA2_256:
        return hashlib.sha256(selected).digest()
    return hashlib.sha512(selected).digest() if matching_type == SHA2_512 else selected


def _matching_authority(
    records: tuple[TlsaRecord, ...], chain: tuple[bytes, ...], names: tuple[str, ...], now: datetime
) -> TlsaRecord | ChainFault | None:
    """The record of usage 2 that the chain leads to; why a chain that should does not; None when no anchor is found."""
    why_not = None
    for anchor, record in _anchors(records, chain).items():
        fault = check_path(chain, anchor, now) or _names_fault(chain[0], names)
        if fault is None:
            return record
        what = f"the TLSA record {_short(record)} names an authority of the chain, but {fault.text}"
        why_not = why_not or ChainFault(fault.code, what)
    return why_not


def _anchors(records: tuple[TlsaRecord, ...], chain: tuple[bytes, ...]) -> dict[bytes, TlsaRecord]:
    """The certificates that may serve as trust anchor, and the record that says so of each.

    A leaf is never its own authority.
    """
    leaf = chain[0]
    found: dict[bytes, TlsaRecord] = {}
    authorities = [record for record in records if record.usage == DANE_TA]
    for record in authorities:
        for anchor in [one for one in chain if one != leaf and _selects(record, one)]:
            found.setdefault(anchor, record)
    for record in [record for record in authorities if record.matching_type == FULL][:_MAX_FULL]:
        for anchor in _unsent_anchors(record, chain):
            found.setdefault(anchor, record)
    return found


def _unsent_anchors(record: TlsaRecord, chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """RFC 7671 section 5.2: an authority need not be sent when DNS holds all of its certificate or of its key."""
    leaf = chain[0]
    if record.selector == CERTIFICATE:
        return (record.data,) if record.data != leaf else ()
    last = _last_of_path(chain)
    if _selects(record, leaf) or not _is_signed_by(last, record.data):
        return ()
    return (last,)  # its signature has just been checked; all below it is checked as usual


def _last_of_path(chain: tuple[bytes, ...]) -> bytes:
    """From the leaf from issuer to issuer, as far as the certificates that were sent go."""
    last, rest = chain[0], list(chain)
    try:
        while issuer(last) != subject(last):
            above = next((one for one in rest if subject(one) == issuer(last)), None)
            if above is None:
                break
            rest.remove(above)
            last = above
    except CertificateSyntaxError:
        pass  # the path check that follows refuses such a chain
    return last


def _is_signed_by(certificate: bytes, key: bytes) -> bool:
    """Whether the signature of `certificate` was made with the public key `key` (SubjectPublicKeyInfo in DER).

    RSA with PKCS#1 padding, ECDSA and EdDSA, over SHA-2; any other algorithm counts as no.
    """
    try:
        by = signature(certificate)
        match load_der_public_key(key):
            case rsa.RSAPublicKey() as public if by.algorithm in _RSA:
                public.verify(by.value, by.signed, padding.PKCS1v15(), _RSA[by.algorithm])
            case ec.EllipticCurvePublicKey() as public if by.algorithm in _ECDSA:
                public.verify(by.value, by.signed, ec.ECDSA(_ECDSA[by.algorithm]))
            case ed25519.Ed25519PublicKey() as public if by.algorithm == ED25519:
                public.verify(by.value, by.signed)
            case ed448.Ed448PublicKey() as public if by.algorithm == ED448:
                public.verify(by.value, by.signed)
            case _:
                return False
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True


def _names_fault(leaf: bytes, names: tuple[str, ...]) -> ChainFault | None:
    """RFC 7672 section 3.2.3: a DNS name of the subjectAltName; the common name only when there is no DNS name."""
    try:
        present = dns_names(leaf)
        if not present:
            common = common_name(leaf)
            present = () if common is None else (common,)
    except CertificateSyntaxError:
        return ChainFault(NAME_MISMATCH, "the names in the certificate cannot be read")
    if any(name_matches(pattern, name) for pattern in present for name in names):
        return None
    return ChainFault(NAME_MISMATCH, f"the certificate names {shown_names(present)}, not {' or '.join(names)}")


def _described(leaf: bytes) -> str:
    """The record that would match, for those who have to publish it."""
    try:
        return f"3 1 1 {hashlib.sha256(public_key(leaf)).hexdigest()}"
    except CertificateSyntaxError:
        return f"3 0 1 {hashlib.sha256(leaf).hexdigest()}"


def _short(record: TlsaRecord) -> str:
    """Full data may have kilobytes."""
    text = str(record)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
