"""What the octets of a certificate say: its key, its names, its extensions. A short walk through the DER.

Used where a whole parser would be stricter than the rule at hand: DANE compares a key without understanding it, and
one odd extension must not hide the names. Verifies nothing. Whatever is not strict DER is a CertificateSyntaxError, so
that nothing is ever read out of octets that OpenSSL might read in another way.

RFC 5280 section 4.1, ITU-T X.690 section 10.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

_BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE, _SET = 0x03, 0x04, 0x06, 0x30, 0x31
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_STRINGS = (0x0C, 0x13, 0x16)  # UTF8String, PrintableString, IA5String
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # [0] and [3] of TBSCertificate
_TIME = re.compile(r"[0-9]{14}Z")
_DNS_NAME = 0x82  # [2] of GeneralName
_PSS_DIGEST = 0xA0  # [0] of RSASSA-PSS-params

_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")  # 2.5.29.17
_KEY_USAGE = bytes.fromhex("551d0f")  # 2.5.29.15
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")  # 2.5.29.37

_SERVER_PURPOSES = frozenset({
    bytes.fromhex("2b06010505070301"),  # 1.3.6.1.5.5.7.3.1: serverAuth
    bytes.fromhex("2b0601040182370a0303"),  # 1.3.6.1.4.1.311.10.3.3: Microsoft's step-up, which OpenSSL allows too
    bytes.fromhex("6086480186f8420401"),  # 2.16.840.1.113730.4.1: Netscape's
})  # fmt: skip
# Signature algorithms, and digests, that stand for 112 bits of security or more
RSA_SHA256, RSA_SHA384, RSA_SHA512 = (bytes.fromhex("2a864886f70d0101" + last) for last in ("0b", "0c", "0d"))
ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512 = (bytes.fromhex("2a8648ce3d0403" + last) for last in ("02", "03", "04"))
ED25519, ED448 = bytes.fromhex("2b6570"), bytes.fromhex("2b6571")
_RSA_PSS = bytes.fromhex("2a864886f70d01010a")  # whose digest is among its parameters: SHA-1 when it is not
_STRONG_SIGNATURES = frozenset({
    RSA_SHA256, RSA_SHA384, RSA_SHA512, ECDSA_SHA256, ECDSA_SHA384, ECDSA_SHA512, ED25519, ED448
})  # fmt: skip
_STRONG_DIGESTS = frozenset(bytes.fromhex("608648016503040" + last) for last in ("201", "202", "203"))  # SHA-2
_TLS_KEY_USAGES = 0b10101000  # digitalSignature, keyEncipherment, keyAgreement: what OpenSSL wants one of


class CertificateSyntaxError(ValueError):
    """Octets that are not a certificate in DER."""


@dataclass(frozen=True, slots=True)
class _Element:
    """A tag, what is in it, and both with the length between them."""

    tag: int
    content: bytes
    whole: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """What was signed, and how: `algorithm` is an object identifier, its octets; `parameters` are in DER."""

    signed: bytes
    algorithm: bytes
    parameters: bytes
    value: bytes


def signature(certificate: bytes) -> Signature:
    """Its signature, unverified. Raises CertificateSyntaxError."""
    signed_part, algorithm, value = _exactly(_only(certificate, _SEQUENCE), 3)
    octets = _content(value, _BIT_STRING)
    if octets[:1] != b"\0":  # unused bits in the last octet
        raise CertificateSyntaxError("a signature is not made of whole octets")
    identifier, parameters = _algorithm(_content(algorithm, _SEQUENCE))
    return Signature(signed_part.whole, identifier, parameters, octets[1:])


def is_strongly_signed(certificate: bytes) -> bool:
    """Whether the digest of its signature is of the SHA-2 family, or part of the algorithm.

    Raises CertificateSyntaxError.
    """
    how = signature(certificate)
    if how.algorithm != _RSA_PSS:
        return how.algorithm in _STRONG_SIGNATURES
    for parameter in _elements(_only(how.parameters, _SEQUENCE)):
        if parameter.tag == _PSS_DIGEST:
            digest, _ = _algorithm(_only(parameter.content, _SEQUENCE))
            return digest in _STRONG_DIGESTS
    return False


def _algorithm(octets: bytes) -> tuple[bytes, bytes]:
    """What an AlgorithmIdentifier holds: the object identifier, and the parameters in DER."""
    parts = list(_elements(octets))
    if not parts:
        raise CertificateSyntaxError("an algorithm without a name")
    return _content(parts[0], _OID), b"".join(part.whole for part in parts[1:])


def public_key(certificate: bytes) -> bytes:
    """Its SubjectPublicKeyInfo in DER, which nobody has looked into. Raises CertificateSyntaxError."""
    return _field(certificate, 5).whole


def issuer(certificate: bytes) -> bytes:
    """The issuer's distinguished name in DER. Raises CertificateSyntaxError."""
    return _field(certificate, 2).whole


def subject(certificate: bytes) -> bytes:
    """The subject's distinguished name in DER. Raises CertificateSyntaxError."""
    return _field(certificate, 4).whole


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """From when and until when it is valid, in aware UTC. RFC 5280 section 4.1.2.5. Raises CertificateSyntaxError."""
    first, last = _exactly(_field(certificate, 3).content, 2)
    return _time(first), _time(last)


def dns_names(certificate: bytes) -> tuple[str, ...]:
    """The DNS names of its subjectAltName, in lower case; none when there is no such extension.

    Raises CertificateSyntaxError.
    """
    value = _extension(certificate, _SUBJECT_ALTERNATIVE_NAME)
    if value is None:
        return ()
    names = (element.content for element in _elements(_only(value, _SEQUENCE)) if element.tag == _DNS_NAME)
    return tuple(name.decode("latin-1").lower() for name in names)


def common_name(certificate: bytes) -> str | None:
    """The last common name of its subject, in lower case. Raises CertificateSyntaxError."""
    found = None
    for relative in _elements(_field(certificate, 4).content):
        for pair in _elements(_content(relative, _SET)):
            kind, value = _exactly(_content(pair, _SEQUENCE), 2)
            if kind.whole == bytes((_OID, len(_COMMON_NAME))) + _COMMON_NAME and value.tag in _STRINGS:
                found = value.content.decode("ascii", "replace").lower()
    return found


def is_for_servers(certificate: bytes) -> bool:
    """Whether extendedKeyUsage, where there is one, allows TLS servers. anyExtendedKeyUsage does not count.

    Raises CertificateSyntaxError.
    """
    value = _extension(certificate, _EXTENDED_KEY_USAGE)
    if value is None:
        return True
    return any(purpose.content in _SERVER_PURPOSES for purpose in _elements(_only(value, _SEQUENCE)))


def key_may_do_tls(certificate: bytes) -> bool:
    """Whether keyUsage, where there is one, lets the key take part in a handshake. Raises CertificateSyntaxError."""
    value = _extension(certificate, _KEY_USAGE)
    if value is None:
        return True
    bits = _only(value, _BIT_STRING)
    return len(bits) > 1 and bool(bits[1] & _TLS_KEY_USAGES)


def is_public_key(octets: bytes) -> bool:
    """Whether `octets` have the shape of a SubjectPublicKeyInfo."""
    try:
        algorithm, key = _exactly(_only(octets, _SEQUENCE), 2)
    except CertificateSyntaxError:
        return False
    return algorithm.tag == _SEQUENCE and key.tag == _BIT_STRING


def is_certificate(octets: bytes) -> bool:
    """Whether `octets` have the shape of one certificate and nothing after it."""
    try:
        return is_public_key(public_key(octets))
    except CertificateSyntaxError:
        return False


def _field(certificate: bytes, number: int) -> _Element:
    """Serial number (0), signature algorithm (1), issuer (2), validity (3), subject (4), key (5)."""
    field = _fields(certificate)[number]
    _content(field, _SEQUENCE)
    return field


def _fields(certificate: bytes) -> list[_Element]:
    signed_part, _, _ = _exactly(_only(certificate, _SEQUENCE), 3)
    fields = list(_elements(_content(signed_part, _SEQUENCE)))
    if fields and fields[0].tag == _VERSION:
        fields = fields[1:]
    if len(fields) < 6:
        raise CertificateSyntaxError("a field is missing")
    return fields


def _time(element: _Element) -> datetime:
    text = element.content.decode("ascii", "replace")
    if element.tag == _UTC_TIME:
        text = ("19" if text[:1] in "56789" else "20") + text  # RFC 5280 §4.1.2.5.1: from 1950 to 2049
    elif element.tag != _GENERALIZED_TIME:
        raise CertificateSyntaxError(f"tag {element.tag:#x} instead of a time")
    try:
        if _TIME.fullmatch(text) is None:
            raise ValueError
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise CertificateSyntaxError("a time that is none") from None


def _extension(certificate: bytes, wanted: bytes) -> bytes | None:
    """The value of an extension; None when it is not there. RFC 5280 section 4.2: at most one of a kind."""
    found = None
    for field in _fields(certificate)[6:]:
        if field.tag != _EXTENSIONS:
            continue
        for extension in _elements(_only(field.content, _SEQUENCE)):
            parts = list(_elements(_content(extension, _SEQUENCE)))
            if len(parts) not in (2, 3) or parts[0].tag != _OID:
                raise CertificateSyntaxError("an extension is not one")
            if parts[0].content == wanted:
                if found is not None:
                    raise CertificateSyntaxError("an extension is there twice")
                found = _content(parts[-1], _OCTET_STRING)
    return found


def _content(element: _Element, tag: int) -> bytes:
    if element.tag != tag:
        raise CertificateSyntaxError(f"tag {element.tag:#x} instead of {tag:#x}")
    return element.content


def _only(octets: bytes, tag: int) -> bytes:
    """The content of the one element that `octets` consist of."""
    [element] = _exactly(octets, 1)
    return _content(element, tag)


def _exactly(octets: bytes, count: int) -> list[_Element]:
    found = list(_elements(octets))
    if len(found) != count:
        raise CertificateSyntaxError(f"{len(found)} elements instead of {count}")
    return found


def _elements(octets: bytes) -> Iterator[_Element]:
    """One element after the other, to the last octet."""
    at = 0
    while at < len(octets):
        start, end = _bounds(octets, at)
        yield _Element(octets[at], octets[start:end], octets[at:end])
        at = end


def _bounds(octets: bytes, at: int) -> tuple[int, int]:
    """Where the content of the element at `at` starts and ends."""
    if octets[at] & 0x1F == 0x1F or at + 1 >= len(octets):
        raise CertificateSyntaxError("a tag that certificates do not have")
    length, start = octets[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(octets[start : start + size])
        # X.690 §10.1: definite (0x80, with no octets that follow, is not), and in as few octets as will do
        if length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise CertificateSyntaxError("a length that is not DER")
        start += size
    if start + length > len(octets):
        raise CertificateSyntaxError("cut short")
    return start, start + length
