"""What the octets of a certificate say: its key, its names, its extensions. A short walk through the DER.

Used where a whole parser would be stricter than the rule at hand: DANE compares a key without understanding it, and
one odd extension must not hide the names. Verifies nothing. Whatever is not strict DER is a MalformedCertificate, so
that nothing is ever read out of octets that OpenSSL might read in another way.

RFC 5280 section 4.1, ITU-T X.690 section 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_BIT_STRING, _OCTET_STRING, _OID, _SEQUENCE, _SET = 0x03, 0x04, 0x06, 0x30, 0x31
_STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}  # UTF8String, PrintableString, IA5String
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # [0] and [3] of TBSCertificate
_DNS_NAME = 0x82  # [2] of GeneralName

_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")  # 2.5.29.17
_KEY_USAGE = bytes.fromhex("551d0f")  # 2.5.29.15
_EXTENDED_KEY_USAGE = bytes.fromhex("551d25")  # 2.5.29.37

_SERVER_PURPOSES = frozenset({
    bytes.fromhex("2b06010505070301"),  # 1.3.6.1.5.5.7.3.1: serverAuth
    bytes.fromhex("2b0601040182370a0303"),  # 1.3.6.1.4.1.311.10.3.3: Microsoft's step-up, which OpenSSL allows too
    bytes.fromhex("6086480186f8420401"),  # 2.16.840.1.113730.4.1: Netscape's
})  # fmt: skip
_TLS_KEY_USAGES = 0b10101000  # digitalSignature, keyEncipherment, keyAgreement: what OpenSSL wants one of


class MalformedCertificate(ValueError):
    """Octets that are not a certificate in DER."""


@dataclass(frozen=True, slots=True)
class _Element:
    """A tag, what is in it, and both with the length between them."""

    tag: int
    content: bytes
    whole: bytes


def public_key(certificate: bytes) -> bytes:
    """Its SubjectPublicKeyInfo in DER, which nobody has looked into. Raises MalformedCertificate."""
    return _field(certificate, 5).whole


def issuer(certificate: bytes) -> bytes:
    """The issuer's distinguished name in DER. Raises MalformedCertificate."""
    return _field(certificate, 2).whole


def subject(certificate: bytes) -> bytes:
    """The subject's distinguished name in DER. Raises MalformedCertificate."""
    return _field(certificate, 4).whole


def dns_names(certificate: bytes) -> tuple[str, ...]:
    """The DNS names of its subjectAltName, in lower case; none when there is no such extension.

    Raises MalformedCertificate.
    """
    value = _extension(certificate, _SUBJECT_ALTERNATIVE_NAME)
    if value is None:
        return ()
    names = (element.content for element in _elements(_only(value, _SEQUENCE)) if element.tag == _DNS_NAME)
    return tuple(name.decode("latin-1").lower() for name in names)


def common_name(certificate: bytes) -> str | None:
    """The last common name of its subject, in lower case. Raises MalformedCertificate."""
    found = None
    for relative in _elements(_field(certificate, 4).content):
        for pair in _elements(_content(relative, _SET)):
            kind, value = _exactly(_content(pair, _SEQUENCE), 2)
            if kind.whole == bytes((_OID, len(_COMMON_NAME))) + _COMMON_NAME and value.tag in _STRINGS:
                found = value.content.decode(_STRINGS[value.tag], "replace").lower()
    return found


def is_for_servers(certificate: bytes) -> bool:
    """Whether extendedKeyUsage, where there is one, allows TLS servers. anyExtendedKeyUsage does not count.

    Raises MalformedCertificate.
    """
    value = _extension(certificate, _EXTENDED_KEY_USAGE)
    if value is None:
        return True
    return any(purpose.content in _SERVER_PURPOSES for purpose in _elements(_only(value, _SEQUENCE)))


def key_may_do_tls(certificate: bytes) -> bool:
    """Whether keyUsage, where there is one, lets the key take part in a handshake. Raises MalformedCertificate."""
    value = _extension(certificate, _KEY_USAGE)
    if value is None:
        return True
    bits = _only(value, _BIT_STRING)
    return len(bits) > 1 and bool(bits[1] & _TLS_KEY_USAGES)


def is_public_key(octets: bytes) -> bool:
    """Whether `octets` have the shape of a SubjectPublicKeyInfo."""
    try:
        algorithm, key = _exactly(_only(octets, _SEQUENCE), 2)
    except MalformedCertificate:
        return False
    return algorithm.tag == _SEQUENCE and key.tag == _BIT_STRING


def is_certificate(octets: bytes) -> bool:
    """Whether `octets` have the shape of one certificate and nothing after it."""
    try:
        return is_public_key(public_key(octets))
    except MalformedCertificate:
        return False


def _field(certificate: bytes, number: int) -> _Element:
    """Serial number (0), signature algorithm (1), issuer (2), validity (3), subject (4), key (5)."""
    fields = _fields(certificate)
    if len(fields) < 6 or fields[number].tag != _SEQUENCE:
        raise MalformedCertificate("a field is missing")
    return fields[number]


def _fields(certificate: bytes) -> list[_Element]:
    signed_part, _, _ = _exactly(_only(certificate, _SEQUENCE), 3)
    fields = list(_elements(_content(signed_part, _SEQUENCE)))
    return fields[1:] if fields and fields[0].tag == _VERSION else fields


def _extension(certificate: bytes, wanted: bytes) -> bytes | None:
    """The value of an extension; None when it is not there. RFC 5280 section 4.2: at most one of a kind."""
    found = None
    for field in _fields(certificate)[6:]:
        if field.tag != _EXTENSIONS:
            continue
        for extension in _elements(_only(field.content, _SEQUENCE)):
            parts = list(_elements(_content(extension, _SEQUENCE)))
            if len(parts) not in (2, 3) or parts[0].tag != _OID:
                raise MalformedCertificate("an extension is not one")
            if parts[0].content == wanted:
                if found is not None:
                    raise MalformedCertificate("an extension is there twice")
                found = _content(parts[-1], _OCTET_STRING)
    return found


def _content(element: _Element, tag: int) -> bytes:
    if element.tag != tag:
        raise MalformedCertificate(f"tag {element.tag:#x} instead of {tag:#x}")
    return element.content


def _only(octets: bytes, tag: int) -> bytes:
    """The content of the one element that `octets` consist of."""
    return _content(_exactly(octets, 1)[0], tag)


def _exactly(octets: bytes, count: int) -> list[_Element]:
    found = list(_elements(octets))
    if len(found) != count:
        raise MalformedCertificate(f"{len(found)} elements instead of {count}")
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
        raise MalformedCertificate("a tag that certificates do not have")
    length, start = octets[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(octets[start : start + size])
        # X.690 §10.1: definite, and in as few octets as will do
        if size == 0 or length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise MalformedCertificate("a length that is not DER")
        start += size
    if start + length > len(octets):
        raise MalformedCertificate("cut short")
    return start, start + length
