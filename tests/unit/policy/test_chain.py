"""Chains and names against a table; `tests/wire/test_chain_differential.py` holds them against OpenSSL's handshake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from relay.lab.certs import LabCa, Leaf
from relay.policy.certificate import signature
from relay.policy.chain import (
    ChainFault,
    Roots,
    Trust,
    check_chain,
    check_path,
    described,
    name_fault,
    name_matches,
    names_match,
    shown_names,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CA = LabCa.make(NOW)
ROOTS = Roots(CA.pem)
TRUST = Trust(ROOTS, NOW)
HOST = "mx.good.test"
CHAINS = {kind: CA.issue([HOST], kind).chain_der for kind in Leaf}
GOOD = CHAINS[Leaf.GOOD]

# OpenSSL's X509_V_ERR number of each kind; names are not the matter of check_chain
CODES = {
    Leaf.GOOD: None,
    Leaf.EXPIRED: 10,
    Leaf.NOT_YET_VALID: 9,
    Leaf.SELF_SIGNED: 18,
    Leaf.CN_ONLY: None,
    Leaf.IP_ONLY: None,
    Leaf.NO_EKU: None,
    Leaf.CLIENT_EKU: 26,
    Leaf.ANY_EKU: 26,
    Leaf.SIGNING_ONLY: 26,
    Leaf.UNKNOWN_CA: 20,
    Leaf.FORGED: 7,
    Leaf.MISSING_INTERMEDIATE: 20,
    Leaf.EXPIRED_INTERMEDIATE: 10,
    Leaf.INTERMEDIATE_NOT_CA: 79,
    Leaf.INTERMEDIATE_CLIENT_EKU: 26,
    Leaf.PATH_TOO_LONG: 25,
    Leaf.NAME_CONSTRAINT: 47,
    Leaf.UNKNOWN_CRITICAL: 34,
    Leaf.RSA_2048: None,
    Leaf.RSA_1024: 66,
    Leaf.RSA_1024_INTERMEDIATE: 67,
    Leaf.SHA1: 68,
    Leaf.SHA1_INTERMEDIATE: 68,
    Leaf.NO_AKI: None,
    Leaf.EMPTY_SUBJECT: None,
    Leaf.BARE_INTERMEDIATE: None,
    Leaf.FROM_ROOT: None,
    Leaf.ROOT_INCLUDED: None,
}


def code(fault: ChainFault | None) -> int | None:
    return fault.code if fault is not None else None


@pytest.mark.parametrize("kind", Leaf)
def test_each_kind_has_openssls_code(kind: Leaf) -> None:
    assert code(check_chain(CHAINS[kind], TRUST)) == CODES[kind]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Leaf.EXPIRED, "the certificate expired on 2026-10-25"),
        (Leaf.NOT_YET_VALID, "the certificate is not valid before 2026-12-24"),
        (Leaf.EXPIRED_INTERMEDIATE, "a certificate of an authority in the chain expired on 2026-10-25"),
        (Leaf.SELF_SIGNED, "self-signed certificate"),
        (Leaf.FORGED, "the signature of the certificate is wrong"),
        (Leaf.PATH_TOO_LONG, "the chain is longer than one of its authorities allows"),
        (Leaf.INTERMEDIATE_CLIENT_EKU, "a certificate of an authority in the chain is not meant for TLS servers"),
        (
            Leaf.INTERMEDIATE_NOT_CA,
            "a certificate of an authority in the chain is used as an authority without being one",
        ),
        (Leaf.UNKNOWN_CRITICAL, "the certificate has a critical extension that is not known here"),
        (Leaf.NAME_CONSTRAINT, "the certificate has a name that its authority may not certify"),
        (Leaf.RSA_1024_INTERMEDIATE, "the key of a certificate of an authority in the chain is too short"),
        (Leaf.SHA1, "the certificate is signed with too weak an algorithm"),
        (Leaf.CLIENT_EKU, "the certificate is not meant for TLS servers"),
        (Leaf.RSA_1024, "the key of the certificate is too short"),
        (Leaf.SHA1_INTERMEDIATE, "a certificate of an authority in the chain is signed with too weak an algorithm"),
        (
            Leaf.MISSING_INTERMEDIATE,
            "the authority that issued the certificate is not trusted here, or its certificate was not sent",
        ),
    ],
)
def test_the_words(kind: Leaf, text: str) -> None:
    fault = check_chain(CHAINS[kind], TRUST)
    assert fault is not None
    assert fault.text == text


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW - timedelta(days=1, seconds=1), 9),
        (NOW - timedelta(days=1), None),
        (NOW + timedelta(days=3650), None),
        (NOW + timedelta(days=3650, seconds=1), 10),
        ((NOW + timedelta(days=3650)).astimezone(timezone(timedelta(hours=9))), None),  # the same instant
        ((NOW - timedelta(days=1)).astimezone(timezone(timedelta(hours=-9))), None),
    ],
)
def test_the_time_is_the_one_given(now: datetime, expected: int | None) -> None:
    assert code(check_chain(GOOD, Trust(ROOTS, now))) == expected


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ((), "no certificate could be had from the server"),
        ((b"",), "a certificate cannot be parsed"),
        ((b"\x30\x00",), "a certificate cannot be parsed"),
        ((*GOOD, b"garbage"), "a certificate cannot be parsed"),
        ((GOOD[0] + b"\0\0", *GOOD[1:]), "a certificate cannot be parsed"),  # OpenSSL reads no further than it needs
        ((GOOD[0], GOOD[1] + GOOD[1]), "a certificate cannot be parsed"),
        ((GOOD[0], GOOD[1].replace(b"\x17\x0d", b"\x16\x0d")), "a certificate cannot be parsed"),  # but has the shape
    ],
)
def test_what_cannot_be_read_is_not_verified(chain: tuple[bytes, ...], why: str) -> None:
    assert check_chain(chain, TRUST) == ChainFault(1, why)


def test_the_root_sent_by_a_stranger_is_not_trusted_for_being_sent() -> None:
    stranger = LabCa.make(NOW)
    chain = stranger.issue([HOST], Leaf.ROOT_INCLUDED).chain_der
    fault = ChainFault(19, "the chain ends at a root that is not trusted here")
    assert check_chain(chain, TRUST) == fault


def test_the_order_of_the_intermediates_does_not_matter() -> None:
    leaf, *others = CA.issue([HOST], Leaf.SHA1_INTERMEDIATE).chain_der
    assert code(check_chain((leaf, *reversed(others)), TRUST)) == 68


def test_a_root_must_be_one() -> None:
    """An intermediate among the trusted authorities is no anchor for the web PKI, as in the handshake."""
    leaf, intermediate = GOOD
    pem = x509.load_der_x509_certificate(intermediate).public_bytes(serialization.Encoding.PEM)
    fault = check_chain((leaf, intermediate), Trust(Roots(pem), NOW))
    assert fault == ChainFault(2, "a certificate of an authority in the chain: unable to get issuer certificate")


SHA256 = hashes.SHA256()


def leaf_with(key: object, *extensions: x509.UnrecognizedExtension) -> bytes:
    """Issued by the root itself for `key`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(CA.root.certificate.subject)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(CA.root.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (ec.generate_private_key(ec.SECP192R1()), 66),
        (ec.generate_private_key(ec.SECP224R1()), None),
        (ec.generate_private_key(ec.SECP384R1()), None),
        (ed25519.Ed25519PrivateKey.generate(), None),
        (rsa.generate_private_key(65537, 2047), 66),
        (dsa.generate_private_key(1024), 66),
    ],
)
def test_keys_other_than_rsa(key: object, expected: int | None) -> None:
    assert code(check_chain((leaf_with(key),), TRUST)) == expected


def wrap(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    return (bytes((tag, 0x81, size)) if size < 0x100 else bytes((tag, 0x82)) + size.to_bytes(2)) + content


ECDSA_SHA256, ECDSA_SHA1 = bytes.fromhex("300a06082a8648ce3d040302"), bytes.fromhex("300906072a8648ce3d0401")


def signed_by_root(body: bytes, algorithm: bytes = ECDSA_SHA256, digest: hashes.HashAlgorithm = SHA256) -> bytes:
    """A certificate with what is to be signed, and a signature that is good."""
    value = CA.root.key.sign(body, ec.ECDSA(digest))  # type: ignore[call-arg, arg-type]
    return wrap(0x30, body, algorithm, wrap(3, b"\0", value))


def test_a_key_of_no_known_kind_proves_nothing() -> None:
    body = signature(leaf_with(ec.generate_private_key(ec.SECP256R1()))).signed
    changed = body.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d027f"))
    assert code(check_chain((signed_by_root(changed),), TRUST)) == 1


@pytest.mark.parametrize(("bits", "expected"), [(1024, 66), (2048, None)])
def test_keys_for_pss_only(bits: int, expected: int | None) -> None:
    body = signature(leaf_with(rsa.generate_private_key(65537, bits))).signed
    changed = body.replace(bytes.fromhex("2a864886f70d0101010500"), bytes.fromhex("2a864886f70d01010a3000"))
    assert changed != body
    assert code(check_chain((signed_by_root(changed),), TRUST)) == expected


def test_a_weak_signature_right_below_the_root() -> None:
    body = signature(leaf_with(ec.generate_private_key(ec.SECP256R1()))).signed
    head = 2 + (body[1] & 0x7F if body[1] & 0x80 else 0)
    changed = wrap(0x30, body[head:].replace(ECDSA_SHA256, ECDSA_SHA1))
    weak = signed_by_root(changed, ECDSA_SHA1, hashes.SHA1())
    assert check_chain((weak,), TRUST) == ChainFault(68, "the certificate is signed with too weak an algorithm")


def test_a_name_that_the_authority_excludes() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Excluding")])
    authority = (
        x509.CertificateBuilder(CA.root.certificate.subject, name, key.public_key(), 1, NOW, NOW)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(x509.NameConstraints(None, [x509.DNSName("good.test")]), critical=True)
        .sign(CA.root.key, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder(name, x509.Name([]), key.public_key(), 2, NOW, NOW)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = tuple(one.public_bytes(serialization.Encoding.DER) for one in (leaf, authority))
    fault = ChainFault(48, "the certificate has a name that its authority may not certify")
    assert check_chain(chain, TRUST) == fault


def test_what_openssl_takes_and_der_does_not_allow_is_refused() -> None:
    """A length in more octets than it needs: nobody makes such certificates, so nobody is harmed by refusing them."""
    usage = x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, bytes.fromhex("30810a06082b06010505070301"))
    names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("30810382017a"))
    key = ec.generate_private_key(ec.SECP256R1())
    assert check_chain((leaf_with(key, usage),), TRUST) == ChainFault(1, "a certificate is not in DER")
    assert check_chain((leaf_with(key, names),), TRUST) is None
    assert not names_match(leaf_with(key, names), "z")


def test_roots_leave_out_what_is_broken() -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    roots = Roots(b"# a comment\n" + broken + CA.pem)
    assert len(roots.certificates) == 1
    assert check_chain(GOOD, Trust(roots, NOW)) is None
    for nothing in (b"", broken, b"not PEM"):
        with pytest.raises(ValueError, match="no certificate"):
            Roots(nothing)


def test_a_path_to_an_anchor_that_is_not_a_root() -> None:
    leaf, intermediate = GOOD
    assert check_path((leaf,), intermediate, NOW) is None
    assert check_path((leaf, intermediate), CA.der, NOW) is None
    assert code(check_path((leaf,), CA.der, NOW)) == 20
    assert code(check_path((leaf,), b"garbage", NOW)) == 1
    assert code(check_path(CA.issue([HOST], Leaf.CLIENT_EKU).chain_der, CA.der, NOW)) == 26
    assert check_path(CA.issue([HOST], Leaf.RSA_1024).chain_der, CA.der, NOW) is None


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("mx.good.test", "mx.good.test", True),
        ("MX.Good.TEST", "mx.good.test", True),
        ("mx.good.test", "MX.good.test", True),
        ("xn--bcher-kva.test", "xn--bcher-kva.test", True),
        ("mx_1.good.test", "mx_1.good.test", True),
        ("good.test", "mx.good.test", False),
        ("mx.good.test", "good.test", False),
        ("mx.good.test.", "mx.good.test", False),
        ("*.good.test", "mx.good.test", True),
        ("*.GOOD.test", "mx.good.test", True),
        ("*.good.test", "xn--bcher-kva.good.test", True),
        ("*.good.test", "good.test", False),
        ("*.good.test", "a.mx.good.test", False),
        ("*.good.test", ".good.test", False),
        ("*.good.test", "*.good.test", False),
        ("*.good.test", "mx_1.good.test", False),  # OpenSSL: a wildcard stands for letters, digits and hyphens
        ("*.*.test", "mx.good.test", False),
        ("mx.*.test", "mx.good.test", False),
        ("m*.good.test", "mx.good.test", False),
        ("*x.good.test", "mx.good.test", False),
        ("*", "mx", False),
        ("*.test", "good.test", False),  # right above a top-level domain
        ("*", "mx.good.test", False),
        ("", "", False),
        ("", "mx.good.test", False),
        ("mx.good.test\0.evil.test", "mx.good.test", False),
        ("192.0.2.1", "192.0.2.1", False),
        ("*.0.2.1", "192.0.2.1", False),
        ("2001:db8::1", "2001:db8::1", False),
    ],
)
def test_name_matches(pattern: str, name: str, fits: bool) -> None:
    assert name_matches(pattern, name) is fits


@pytest.mark.parametrize(
    ("names", "kind", "fits"),
    [
        ((HOST,), Leaf.GOOD, True),
        (("a.test", "b.test", "MX.GOOD.TEST"), Leaf.GOOD, True),
        (("*.good.test",), Leaf.GOOD, True),
        (("a.test",), Leaf.GOOD, False),
        ((HOST,), Leaf.EMPTY_SUBJECT, True),
        ((HOST,), Leaf.CN_ONLY, False),
        ((HOST,), Leaf.IP_ONLY, False),
        ((HOST,), Leaf.EXPIRED, True),  # dates are not the matter here
        ((), Leaf.GOOD, False),
    ],
)
def test_names_match(names: tuple[str, ...], kind: Leaf, fits: bool) -> None:
    assert names_match(CA.issue(names, kind).chain_der[0], HOST) is fits


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("a.test",), "it names a.test, not mx.good.test"),
        ((), "it names no host, not mx.good.test"),
        (tuple("abcd"), "it names a, b, c, d, not mx.good.test"),
        (tuple("abcde"), "it names a, b, c, d, 1 more, not mx.good.test"),
        (tuple("abcdef"), "it names a, b, c, d, 2 more, not mx.good.test"),
    ],
)
def test_what_is_said_of_other_names(names: tuple[str, ...], text: str) -> None:
    assert name_fault(CA.issue(names).chain_der[0], HOST) == ChainFault(62, text)


def test_names_are_made_harmless_before_they_are_shown() -> None:
    assert shown_names(("a\r\nBcc: x", "\x1b[2J", "b\xfccher.test")) == "a??Bcc: x, ?[2J, b?cher.test"
    assert shown_names(("x" * 1000,)) == "x" * 64


def test_names_that_cannot_be_read_match_nothing() -> None:
    assert name_fault(b"garbage", HOST) == ChainFault(62, "the names in the certificate cannot be read")


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_octets_never_raise_and_never_pass(chain: list[bytes]) -> None:
    assert check_chain(tuple(chain), TRUST) is not None
    assert all(not names_match(one, HOST) for one in chain)


@given(st.sampled_from(list(Leaf)), st.data())
def test_a_flipped_octet_never_raises_and_never_helps(kind: Leaf, data: st.DataObject) -> None:
    """What is signed cannot be changed: a chain that was refused stays refused; a name check answers yes or no."""
    chain = list(CHAINS[kind])
    which = data.draw(st.integers(0, len(chain) - 1))
    at = data.draw(st.integers(0, len(chain[which]) - 1))
    flipped = bytearray(chain[which])
    flipped[at] ^= data.draw(st.integers(1, 255))
    chain[which] = bytes(flipped)
    fault = check_chain(tuple(chain), TRUST)
    if CODES[kind] is not None:
        assert fault is not None
    if which == 0:
        names_match(chain[0], HOST)
        name_fault(chain[0], HOST)


def test_the_tables_are_whole() -> None:
    assert set(CODES) == set(Leaf)


def signed_by_itself(subject: x509.Name, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root\n1")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=90))
    )
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return made.sign(key, digest).public_bytes(serialization.Encoding.DER)


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(which, value) for which, value in parts])


DESCRIBED = [
    (name((NameOID.COMMON_NAME, "mx.a.test"), (NameOID.ORGANIZATION_NAME, "A")), "mx.a.test"),
    (name((NameOID.COMMON_NAME, "first"), (NameOID.COMMON_NAME, "second")), "first"),
    (name((NameOID.ORGANIZATION_NAME, "A"), (NameOID.COUNTRY_NAME, "DE")), "C=DE,O=A"),
    (name(), "nobody"),
]


@pytest.mark.parametrize(("subject", "whose"), DESCRIBED)
def test_a_certificate_for_people(subject: x509.Name, whose: str) -> None:
    found = described(signed_by_itself(subject, ec.generate_private_key(ec.SECP256R1())))
    assert found == f"{whose}, issued by Root?1, valid 2026-11-24 to 2027-02-22, EC 256"


def test_keys_for_people() -> None:
    assert described(CA.issue((HOST,), Leaf.RSA_1024).chain_der[0]).endswith(", RSA 1024")
    of_edwards = signed_by_itself(name((NameOID.COMMON_NAME, "x")), ed25519.Ed25519PrivateKey.generate())
    assert described(of_edwards).endswith(", Ed25519")


def test_what_is_no_certificate_for_people() -> None:
    unknown = signed_by_itself(name(), ec.generate_private_key(ec.SECP256R1())).replace(
        bytes.fromhex("06072a8648ce3d0201"),
        bytes.fromhex("06072a8648ce3d0209"),  # the kind of key
    )
    assert described(b"no certificate") == "a certificate that cannot be parsed"
    assert described(unknown) == "a certificate that cannot be parsed"
