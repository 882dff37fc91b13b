"""The walk through the DER, held against the cryptography library."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID
from hypothesis import given
from hypothesis import strategies as st

from relay.lab.certs import LabCa, Leaf
from relay.policy.certificate import (
    RSA_SHA256,
    CertificateSyntaxError,
    common_name,
    dns_names,
    is_certificate,
    is_for_servers,
    is_public_key,
    is_strongly_signed,
    issuer,
    key_may_do_tls,
    public_key,
    signature,
    subject,
    validity,
)

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CA = LabCa.make(NOW)
NAMES = ("MX.good.test", "*.good.test", "192.0.2.1")
CHAINS = {kind: CA.issue(NAMES, kind).chain_der for kind in Leaf}
LEAF = CHAINS[Leaf.GOOD][0]
READERS: tuple[Callable[[bytes], object], ...] = (
    public_key,
    issuer,
    subject,
    dns_names,
    common_name,
    is_for_servers,
    key_may_do_tls,
    validity,
)


@pytest.mark.parametrize("kind", Leaf)
def test_the_same_as_the_library(kind: Leaf) -> None:
    for der in CHAINS[kind]:
        certificate = x509.load_der_x509_certificate(der)
        assert public_key(der) == certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert issuer(der) == certificate.issuer.public_bytes()
        assert subject(der) == certificate.subject.public_bytes()
        common = [str(name.value).lower() for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        assert common_name(der) == (common[-1] if common else None)
        assert validity(der) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        assert is_certificate(der)
        assert is_public_key(public_key(der))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Leaf.GOOD, ("mx.good.test", "*.good.test")),
        (Leaf.EMPTY_SUBJECT, ("mx.good.test", "*.good.test")),
        (Leaf.CN_ONLY, ()),
        (Leaf.IP_ONLY, ()),
    ],
)
def test_dns_names(kind: Leaf, names: tuple[str, ...]) -> None:
    assert dns_names(CHAINS[kind][0]) == names


@pytest.mark.parametrize(
    ("kind", "for_servers", "may_do_tls"),
    [
        (Leaf.GOOD, True, True),
        (Leaf.NO_EKU, True, True),
        (Leaf.CLIENT_EKU, False, True),
        (Leaf.ANY_EKU, False, True),
        (Leaf.SIGNING_ONLY, True, False),
    ],
)
def test_purposes(kind: Leaf, for_servers: bool, may_do_tls: bool) -> None:
    assert is_for_servers(CHAINS[kind][0]) is for_servers
    assert key_may_do_tls(CHAINS[kind][0]) is may_do_tls


def test_a_certificate_without_extensions() -> None:
    bare = CHAINS[Leaf.BARE_INTERMEDIATE][1]
    assert dns_names(bare) == ()
    assert is_for_servers(bare)
    assert key_may_do_tls(bare)


def wrap(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return (bytes((tag, 0x81, size)) if size < 0x100 else bytes((tag, 0x82)) + size.to_bytes(2)) + content


ALGORITHM = wrap(0x30, bytes.fromhex("06032b6570"))
SPKI = wrap(0x30, ALGORITHM, wrap(0x03, b"\0" * 33))
SAN = wrap(0x30, bytes.fromhex("0603551d11"), wrap(0x04, wrap(0x30, wrap(0x82, b"MX.test"))))


def certificate(
    *extensions: bytes,
    subject_name: bytes = wrap(0x30),
    version: bytes = wrap(0xA0, b"\2\1\2"),
    period: bytes = wrap(0x30),
) -> bytes:
    fields = [wrap(2, b"\1"), ALGORITHM, wrap(0x30), period, subject_name, SPKI]
    if extensions:
        fields.append(wrap(0xA3, wrap(0x30, *extensions)))
    return wrap(0x30, wrap(0x30, version, *fields), ALGORITHM, wrap(0x03, b"\0"))


def test_extensions_stand_behind_the_key() -> None:
    fields = (wrap(2, b"\1"), ALGORITHM, wrap(0x30), wrap(0x30), wrap(0x30), wrap(0xA3, wrap(0x30, SAN)))
    assert dns_names(wrap(0x30, wrap(0x30, *fields), ALGORITHM, wrap(0x03, b"\0"))) == ()
    assert dns_names(wrap(0x30, wrap(0x30, *fields, fields[-1]), ALGORITHM, wrap(0x03, b"\0"))) == ("mx.test",)


@pytest.mark.parametrize("tag", [0x1F, 0x3F, 0xBF])
def test_tags_of_several_octets_are_refused(tag: int) -> None:
    fields = (wrap(2, b"\1"), ALGORITHM, *[wrap(0x30)] * 3, SPKI, wrap(tag, b"\1"))
    with pytest.raises(CertificateSyntaxError):
        public_key(wrap(0x30, wrap(0x30, *fields), ALGORITHM, wrap(0x03, b"\0")))


@pytest.mark.parametrize(
    ("form", "octets", "good"),
    [
        ("7f", 127, True),
        ("817f", 127, False),
        ("8180", 128, True),
        ("820080", 128, False),
        ("81ff", 255, True),
        ("8200ff", 255, False),
        ("820100", 256, True),
        ("83000100", 256, False),
        ("80", 0, False),
    ],
)
def test_lengths_take_as_few_octets_as_will_do(form: str, octets: int, good: bool) -> None:
    """ITU-T X.690 section 10.1."""
    algorithm = wrap(0x30, bytes.fromhex("06032b6570"), b"\x04" + bytes.fromhex(form) + b"\1" * octets)
    whole = wrap(0x30, wrap(0x30), algorithm, wrap(0x03, b"\0"))
    if good:
        assert len(signature(whole).parameters) == 1 + len(form) // 2 + octets
    else:
        with pytest.raises(CertificateSyntaxError):
            signature(whole)


def test_unique_identifiers_do_not_hide_extensions() -> None:
    """RFC 5280 section 4.1.2.8: [1] and [2], of former times."""
    fields = (wrap(2, b"\1"), ALGORITHM, *[wrap(0x30)] * 3, SPKI, wrap(0x81, b"\0\1"), wrap(0x82, b"\0\2"))
    whole = wrap(0x30, wrap(0x30, *fields, wrap(0xA3, wrap(0x30, SAN))), ALGORITHM, wrap(0x03, b"\0"))
    assert dns_names(whole) == ("mx.test",)


def attribute(oid: str, tag: int, value: bytes) -> bytes:
    return wrap(0x31, wrap(0x30, bytes.fromhex(oid), wrap(tag, value)))


CN_OF_A, CN_OF_B = (wrap(0x30, bytes.fromhex("0603550403"), wrap(0x16, name)) for name in (b"a.test", b"b.test"))


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ((attribute("0603550403", 0x0C, b"A.test"),), "a.test"),
        ((attribute("0603550403", 0x13, b"A.test"),), "a.test"),
        ((attribute("0603550403", 0x16, b"A.test"),), "a.test"),
        ((attribute("0603550403", 0x13, b"a.test"), attribute("0603550403", 0x16, b"b.test")), "b.test"),  # the last
        ((attribute("060355040a", 0x0C, b"a.test"),), None),  # an organisation
        ((attribute("0603550403", 0x0C, b"a.test"), attribute("0603550403", 0x1E, b"\0b")), "a.test"),
        ((wrap(0x31, CN_OF_A, CN_OF_B),), "b.test"),  # of one set the last, too
        ((attribute("0603550403", 0x1E, b"\0a\0.\0b"),), None),  # BMPString
        ((attribute("0603550403", 0x0C, "\u212a.test".encode()),), "\ufffd\ufffd\ufffd.test"),  # KELVIN SIGN is no k
        ((), None),
    ],
)
def test_common_names(attributes: tuple[bytes, ...], name: str | None) -> None:
    assert common_name(certificate(subject_name=wrap(0x30, *attributes))) == name


def test_one_written_by_hand() -> None:
    assert dns_names(certificate(SAN)) == ("mx.test",)
    assert public_key(certificate()) == SPKI
    assert public_key(certificate(version=b"")) == SPKI  # version 1


@pytest.mark.parametrize(
    ("time", "year"),
    [
        (wrap(0x17, b"500101000000Z"), 1950),  # RFC 5280 section 4.1.2.5.1
        (wrap(0x17, b"491231235959Z"), 2049),
        (wrap(0x17, b"000101000000Z"), 2000),
        (wrap(0x18, b"20500101000000Z"), 2050),
    ],
)
def test_years_of_two_digits(time: bytes, year: int) -> None:
    assert [end.year for end in validity(certificate(period=wrap(0x30, time, time)))] == [year, year]


def purposes(*oids: str) -> bytes:
    values = (wrap(0x06, bytes.fromhex(oid)) for oid in oids)
    return wrap(0x30, bytes.fromhex("0603551d25"), wrap(0x04, wrap(0x30, *values)))


@pytest.mark.parametrize(
    ("oids", "for_servers"),
    [
        (("2b06010505070301",), True),  # serverAuth
        (("2b0601040182370a0303",), True),  # Microsoft's
        (("6086480186f8420401",), True),  # Netscape's
        (("2b06010505070302",), False),  # clientAuth
        (("551d2500",), False),  # anyExtendedKeyUsage
        (("2b06010505070302", "2b06010505070301"), True),  # both
        ((), False),
    ],
)
def test_purposes_by_hand(oids: tuple[str, ...], for_servers: bool) -> None:
    assert is_for_servers(certificate(purposes(*oids))) is for_servers


@pytest.mark.parametrize(
    ("bits", "may_do_tls"),
    [
        (b"\x07\x80", True),  # digitalSignature
        (b"\x05\x20", True),  # keyEncipherment
        (b"\x03\x08", True),  # keyAgreement
        (b"\x06\x40", False),  # nonRepudiation
        (b"\x04\x10", False),  # dataEncipherment
        (b"\x01\x06", False),  # keyCertSign, cRLSign
        (b"\x00\x01", False),  # encipherOnly
        (b"\x07\x00\x80", False),  # decipherOnly
        (b"\x00", False),  # no bits
        (b"", False),
    ],
)
def test_key_usage_by_hand(bits: bytes, may_do_tls: bool) -> None:
    usage = wrap(0x30, bytes.fromhex("0603551d0f"), wrap(0x04, wrap(0x03, bits)))
    assert key_may_do_tls(certificate(usage)) is may_do_tls


@pytest.mark.parametrize("year", [1951, 1999, 2039, 2041, 2060])  # ten years on, the form of the time is another
def test_validity_in_both_forms_of_a_time(year: int) -> None:
    der = LabCa.make(datetime(year, 2, 28, 23, 59, 59, tzinfo=UTC)).der
    library = x509.load_der_x509_certificate(der)
    assert validity(der) == (library.not_valid_before_utc, library.not_valid_after_utc)


@pytest.mark.parametrize(
    "time",
    [
        wrap(0x17, b"261124120000"),  # not UTC
        wrap(0x17, b"2611241200Z"),
        wrap(0x17, b"261324120000Z"),  # month 13
        wrap(0x17, "２61124120000Z".encode()),
        wrap(0x18, b"20260230120000Z"),  # 30 February
        wrap(0x18, b"20261124120000.5Z"),
        wrap(0x0C, b"20261124120000Z"),  # no time at all
        b"",
    ],
)
def test_times_that_are_none(time: bytes) -> None:
    good = wrap(0x17, b"261124120000Z")
    assert validity(certificate(period=wrap(0x30, good, good))) == (datetime(2026, 11, 24, 12, tzinfo=UTC),) * 2
    with pytest.raises(CertificateSyntaxError):
        validity(certificate(period=wrap(0x30, good, time)))


@pytest.mark.parametrize(
    "extensions",
    [
        (SAN, SAN),  # RFC 5280 §4.2: once
        (wrap(0x30, bytes.fromhex("0603551d11")),),
        (wrap(0x30, wrap(0x04), wrap(0x04)),),
        (wrap(0x31),),
        (wrap(0x30),),
        (wrap(0x30, bytes.fromhex("0603551d11"), wrap(0x01, b"\xff"), wrap(0x04), wrap(0x04, SAN)),),
        (wrap(0x30, bytes.fromhex("0603551d11"), wrap(0x04, SAN + b"\0\0")),),
        (wrap(0x30, bytes.fromhex("0603551d11"), wrap(0x03, SAN)),),
    ],
)
def test_odd_extensions_are_refused(extensions: tuple[bytes, ...]) -> None:
    odd = certificate(*extensions)
    with pytest.raises(CertificateSyntaxError):
        dns_names(odd)
    assert public_key(odd) == SPKI  # and do not hide the key


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        LEAF + b"\0\0",
        LEAF[:-1],
        b"\x30\x80" + LEAF[4:] + b"\0\0",  # indefinite length
        b"\x30\x83\x00" + LEAF[2:],  # a length with a zero in front
        b"\x30\x81\x05" + b"\x02\x03\0\0\0",  # a length in two octets that fits in one
        b"\x3f\x81\x05" + b"\x02\x03\0\0\0",  # a tag of several octets
        b"\x30\x84\xff\xff\xff\xff" + b"\0" * 8,
        b"\x30\xff" + b"\xff" * 127,
        wrap(0x30, wrap(0x30), ALGORITHM, wrap(0x03, b"\0")),
        wrap(0x30, wrap(0x30, wrap(2, b"\1"), ALGORITHM, *[wrap(0x30)] * 3), ALGORITHM, wrap(0x03, b"\0")),  # no key
        wrap(0x31, LEAF[4:]),
    ],
)
def test_what_is_not_der_is_refused(octets: bytes) -> None:
    for read in READERS:
        with pytest.raises(CertificateSyntaxError):
            read(octets)
    assert not is_certificate(octets)


def test_shapes_of_keys() -> None:
    assert is_public_key(SPKI)
    octets = wrap(0x03, b"\0" * 33)
    assert is_public_key(wrap(0x30, ALGORITHM, octets))
    assert not is_public_key(wrap(0x30, wrap(0x31), octets))
    assert not is_public_key(wrap(0x30, ALGORITHM, wrap(0x04, b"\0" * 33)))
    for wrong in (b"", SPKI + b"\0", wrap(0x30, ALGORITHM), wrap(0x30, wrap(0x03, b"\0"), ALGORITHM), LEAF):
        assert not is_public_key(wrong)


@pytest.mark.parametrize("kind", Leaf)
def test_signatures(kind: Leaf) -> None:
    for der in CHAINS[kind]:
        known, read = x509.load_der_x509_certificate(der), signature(der)
        assert (read.signed, read.value) == (known.tbs_certificate_bytes, known.signature)
        assert (read.algorithm == RSA_SHA256) is (
            known.signature_algorithm_oid == SignatureAlgorithmOID.RSA_WITH_SHA256
        )
        assert is_strongly_signed(der) is (known.signature_algorithm_oid != SignatureAlgorithmOID.RSA_WITH_SHA1)


RSA_KEY = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("digest", "strong"),
    [(hashes.SHA256(), True), (hashes.SHA384(), True), (hashes.SHA512(), True), (hashes.SHA3_256(), False)],
)
def test_pss_is_as_strong_as_its_digest(digest: hashes.SHA256, strong: bool) -> None:
    scheme = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH)
    made = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), RSA_KEY.public_key(), 1, NOW, NOW)
        .sign(RSA_KEY, digest, rsa_padding=scheme)
        .public_bytes(serialization.Encoding.DER)
    )
    assert is_strongly_signed(made) is strong


@pytest.mark.parametrize(
    ("algorithm", "strong"),
    [
        (wrap(0x30, bytes.fromhex("06092a864886f70d01010a"), wrap(0x30)), False),  # PSS without a digest: SHA-1
        (wrap(0x30, bytes.fromhex("06092a864886f70d01010a"), wrap(0x30, wrap(0xA2, b""))), False),
        (wrap(0x30, bytes.fromhex("06092a864886f70d010104")), False),  # MD5
        (wrap(0x30, bytes.fromhex("06092a864886f70d010105")), False),  # SHA-1
        (wrap(0x30, bytes.fromhex("06092a864886f70d01010b")), True),  # RSA with SHA-256, -384 and -512
        (wrap(0x30, bytes.fromhex("06092a864886f70d01010c")), True),
        (wrap(0x30, bytes.fromhex("06092a864886f70d01010d")), True),
        (wrap(0x30, bytes.fromhex("06072a8648ce3d0401")), False),  # ECDSA with SHA-1
        (wrap(0x30, bytes.fromhex("06082a8648ce3d040302")), True),  # ECDSA with SHA-256, -384 and -512
        (wrap(0x30, bytes.fromhex("06082a8648ce3d040303")), True),
        (wrap(0x30, bytes.fromhex("06082a8648ce3d040304")), True),
        (wrap(0x30, bytes.fromhex("06032b6570")), True),  # EdDSA
        (wrap(0x30, bytes.fromhex("06032b6571")), True),
        (wrap(0x30, bytes.fromhex("06022a03")), False),
    ],
)
def test_algorithms_by_hand(algorithm: bytes, strong: bool) -> None:
    assert is_strongly_signed(wrap(0x30, wrap(0x30), algorithm, wrap(0x03, b"\0"))) is strong


@pytest.mark.parametrize("digest", [b"", wrap(0x04, bytes.fromhex("608648016503040201"))])
def test_a_digest_without_a_name_is_refused(digest: bytes) -> None:
    parameters = wrap(0x30, wrap(0xA0, wrap(0x30, digest)))
    algorithm = wrap(0x30, bytes.fromhex("06092a864886f70d01010a"), parameters)
    with pytest.raises(CertificateSyntaxError):
        is_strongly_signed(wrap(0x30, wrap(0x30), algorithm, wrap(0x03, b"\0")))


@pytest.mark.parametrize(
    "rest", [(wrap(0x30), wrap(0x03, b"\0")), (ALGORITHM, wrap(0x03)), (ALGORITHM, wrap(0x03, b"\7"))]
)
def test_signatures_that_are_none(rest: tuple[bytes, ...]) -> None:
    with pytest.raises(CertificateSyntaxError):
        signature(wrap(0x30, wrap(0x30), *rest))


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda tail: LEAF[:-60] + tail)))
def test_random_octets_are_read_or_refused(octets: bytes) -> None:
    read_or_refuse(octets)


@given(st.integers(0, len(LEAF) - 1), st.integers(1, 255))
def test_flipped_octets_are_read_or_refused(at: int, change: int) -> None:
    flipped = bytearray(LEAF)
    flipped[at] ^= change
    read_or_refuse(bytes(flipped))


def read_or_refuse(octets: bytes) -> None:
    for read in (*READERS, signature, is_strongly_signed):
        try:
            read(octets)
        except CertificateSyntaxError:
            continue
