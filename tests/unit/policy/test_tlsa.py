"""DANE: every usage, selector and matching type, good and bad; the traps each have a row."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from relay.lab.certs import LabCa, Leaf, tlsa_data
from relay.policy.certificate import public_key, signature
from relay.policy.tlsa import (
    TlsaLookupFailed,
    TlsaRecord,
    UsableTlsa,
    matches,
    matching_record,
    strongest,
    usable,
    why_unusable,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CA = LabCa.make(NOW)
HOST = "mx.good.test"
NAMES = (HOST, "good.test")
LEAF, INTERMEDIATE = CA.issue([HOST]).chain_der
ROOT = CA.der
FULL_CHAIN = (LEAF, INTERMEDIATE, ROOT)
STRANGER = CA.stranger.certificate.public_bytes(serialization.Encoding.DER)
OTHER = CA.issue([HOST]).chain_der[0]

Chain = tuple[bytes, ...]


def record(usage: int, selector: int, matching_type: int, certificate: bytes) -> TlsaRecord:
    return TlsaRecord(usage, selector, matching_type, tlsa_data(certificate, selector, matching_type))


def tlsa(*records: TlsaRecord, names: tuple[str, ...] = NAMES) -> UsableTlsa:
    assert all(usable(one) for one in records)
    return UsableTlsa(HOST, names, records)


ALL_FORMS = [(selector, matching_type) for selector in (0, 1) for matching_type in (0, 1, 2)]


@pytest.mark.parametrize(("selector", "matching_type"), ALL_FORMS)
@pytest.mark.parametrize(
    ("usage", "certificate", "chain", "good"),
    [
        (3, LEAF, FULL_CHAIN, True),
        (3, LEAF, (LEAF,), True),
        (3, OTHER, FULL_CHAIN, False),
        (3, INTERMEDIATE, FULL_CHAIN, False),  # usage 3 is the leaf's alone
        (2, ROOT, FULL_CHAIN, True),
        (2, INTERMEDIATE, FULL_CHAIN, True),
        (2, INTERMEDIATE, (LEAF, INTERMEDIATE), True),
        (2, LEAF, FULL_CHAIN, False),  # the leaf is not its own authority
        (2, LEAF, (LEAF, LEAF), False),  # not even when it is sent twice
        (2, OTHER, (LEAF, OTHER), False),  # in the chain, but not above the leaf
        (2, STRANGER, FULL_CHAIN, False),
    ],
)
def test_all_forms(usage: int, certificate: bytes, chain: Chain, good: bool, selector: int, matching_type: int) -> None:
    why_not = matches(tlsa(record(usage, selector, matching_type, certificate)), chain, NOW)
    assert (why_not is None) is good


@pytest.mark.parametrize(("selector", "matching_type"), ALL_FORMS)
@pytest.mark.parametrize(
    ("anchor", "chain"),
    [
        (ROOT, (LEAF, INTERMEDIATE)),
        (INTERMEDIATE, (LEAF,)),
        (ROOT, (LEAF, INTERMEDIATE, OTHER)),
        (ROOT, (LEAF, INTERMEDIATE, STRANGER)),
        (ROOT, (LEAF, STRANGER, INTERMEDIATE)),
    ],
)
def test_an_authority_that_is_not_sent(selector: int, matching_type: int, anchor: bytes, chain: Chain) -> None:
    """Only when DNS holds all of it: a digest cannot be turned back into a key."""
    why_not = matches(tlsa(record(2, selector, matching_type, anchor)), chain, NOW)
    assert (why_not is None) is (matching_type == 0)


@pytest.mark.parametrize("names", [(HOST,), ("a.test",), ()])
@pytest.mark.parametrize("kind", Leaf)
def test_usage_3_looks_at_nothing_but_the_record(kind: Leaf, names: tuple[str, ...]) -> None:
    """RFC 7672 section 3.1.1: neither names nor dates nor authorities nor purposes."""
    chain = CA.issue(names, kind).chain_der
    for selector, matching_type in ALL_FORMS:
        assert matches(tlsa(record(3, selector, matching_type, chain[0])), chain, NOW) is None
        assert matches(tlsa(record(3, selector, matching_type, OTHER)), chain, NOW) is not None


# Against the root sent along: what usage 2 checks (path, dates, purpose, names) and what it does not (strength)
AUTHORITY_FAULTS = {
    Leaf.EXPIRED: "the certificate expired on 2026-10-25",
    Leaf.NOT_YET_VALID: "the certificate is not valid before 2026-12-24",
    Leaf.SELF_SIGNED: "self-signed certificate",
    Leaf.CN_ONLY: None,  # RFC 7672 section 3.2.3: the subject, when there is no DNS name
    Leaf.IP_ONLY: None,
    Leaf.CLIENT_EKU: "the certificate is not meant for TLS servers",
    Leaf.ANY_EKU: "the certificate is not meant for TLS servers",
    Leaf.SIGNING_ONLY: "the certificate is not meant for TLS servers",
    Leaf.UNKNOWN_CA: "not trusted here",
    Leaf.FORGED: "the signature of the certificate is wrong",
    Leaf.MISSING_INTERMEDIATE: "not trusted here",
    Leaf.EXPIRED_INTERMEDIATE: "expired on 2026-10-25",
    Leaf.INTERMEDIATE_NOT_CA: "used as an authority without being one",
    Leaf.INTERMEDIATE_CLIENT_EKU: "not meant for TLS servers",
    Leaf.PATH_TOO_LONG: "longer than one of its authorities allows",
    Leaf.NAME_CONSTRAINT: "a name that its authority may not certify",
    Leaf.UNKNOWN_CRITICAL: "a critical extension",
}


@pytest.mark.parametrize("kind", Leaf)
@pytest.mark.parametrize(("selector", "matching_type"), [(0, 0), (0, 1), (1, 1), (1, 2)])
def test_usage_2_checks_the_path(kind: Leaf, selector: int, matching_type: int) -> None:
    chain = CA.issue([HOST], kind).chain_der
    chain = chain if chain[-1] == ROOT else (*chain, ROOT)
    why_not = matches(tlsa(record(2, selector, matching_type, ROOT)), chain, NOW)
    expected = AUTHORITY_FAULTS.get(kind)
    if expected is None:
        assert why_not is None
    else:
        assert why_not is not None
        assert why_not.startswith(f"the TLSA record 2 {selector} {matching_type} ")
        assert expected in why_not


@pytest.mark.parametrize(
    ("names", "kind", "wanted", "good"),
    [
        ((HOST,), Leaf.GOOD, (HOST,), True),
        (("good.test",), Leaf.GOOD, (HOST, "good.test"), True),  # the next hop is a name too
        (("other.test",), Leaf.GOOD, (HOST, "good.test"), False),
        (("*.good.test",), Leaf.GOOD, (HOST,), True),
        (("*.good.test",), Leaf.GOOD, ("a.mx.good.test",), False),
        ((HOST,), Leaf.CN_ONLY, (HOST,), True),
        (("*.good.test",), Leaf.CN_ONLY, (HOST,), True),
        (("other.test",), Leaf.CN_ONLY, (HOST,), False),
        ((HOST,), Leaf.IP_ONLY, (HOST,), True),  # addresses are no DNS names, so the subject counts
        ((HOST, "other.test"), Leaf.EMPTY_SUBJECT, ("other.test",), True),
        ((), Leaf.EMPTY_SUBJECT, (HOST,), False),  # no names at all
        ((HOST,), Leaf.GOOD, (), False),
    ],
)
def test_usage_2_checks_names(names: tuple[str, ...], kind: Leaf, wanted: tuple[str, ...], good: bool) -> None:
    chain = CA.issue(names, kind).chain_der
    why_not = matches(tlsa(record(2, 1, 1, INTERMEDIATE), names=wanted), chain, NOW)
    assert (why_not is None) is good


def test_the_subject_does_not_count_beside_a_dns_name() -> None:
    """RFC 7672 section 3.2.3; a certificate with the right common name and another DNS name is not enough."""
    leaf = custom_leaf(ec.generate_private_key(ec.SECP256R1()), CA.root.key, names=["other.test"])
    why_not = matches(tlsa(record(2, 0, 1, ROOT)), (leaf, ROOT), NOW)
    assert why_not is not None
    assert why_not.endswith(
        "names an authority of the chain, but the certificate names other.test, not mx.good.test or good.test"
    )
    assert matches(tlsa(record(2, 0, 1, ROOT), names=("other.test",)), (leaf, ROOT), NOW) is None


@pytest.mark.parametrize(
    ("after", "good"),
    [(timedelta(days=-2), False), (timedelta(days=3649), True), (timedelta(days=3651), False)],
)
def test_usage_2_goes_by_the_time_given(after: timedelta, good: bool) -> None:
    for one in (record(2, 0, 1, INTERMEDIATE), record(2, 0, 0, ROOT), record(2, 1, 0, ROOT)):
        assert (matches(tlsa(one), (LEAF, INTERMEDIATE), NOW + after) is None) is good
    assert matches(tlsa(record(3, 1, 1, LEAF)), FULL_CHAIN, NOW + after) is None


SHA256 = hashes.SHA256()


def custom_leaf(
    key: object,
    signer: object,
    names: list[str] | None = None,
    pss: bool = False,
    digest: hashes.HashAlgorithm = SHA256,
) -> bytes:
    """Issued in the name of the root by whatever key is given."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(CA.root.certificate.subject)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names or [HOST]]), critical=False)
    )
    eddsa = isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    scheme = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH) if pss else None
    signed = builder.sign(signer, None if eddsa else digest, rsa_padding=scheme)  # type: ignore[arg-type]
    return signed.public_bytes(serialization.Encoding.DER)


def spki(key: object) -> bytes:
    return bytes(
        key.public_key().public_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


DSA_KEY = spki(dsa.generate_private_key(1024))
RSA_KEY, OTHER_RSA_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
SIGNERS = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "RSA": RSA_KEY,
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
}


@pytest.mark.parametrize("signer", SIGNERS.values(), ids=SIGNERS.keys())
def test_a_bare_key_that_signed_the_leaf(signer: object) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = custom_leaf(key, signer)
    bare = TlsaRecord(2, 1, 0, spki(signer))
    assert matches(tlsa(bare), (leaf,), NOW) is None
    assert matches(tlsa(bare), (leaf,), NOW + timedelta(days=2)) is not None  # dates
    assert matches(tlsa(bare, names=("other.test",)), (leaf,), NOW) is not None  # names
    assert matches(tlsa(TlsaRecord(2, 1, 0, spki(key))), (leaf,), NOW) is not None  # another key
    for forger in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate(), OTHER_RSA_KEY):
        assert matches(tlsa(bare), (custom_leaf(key, forger),), NOW) is not None


@pytest.mark.parametrize("signer", [SIGNERS["P-384"], SIGNERS["RSA"]], ids=["ECDSA", "RSA"])
@pytest.mark.parametrize(
    ("digest", "good"),
    [(hashes.SHA224(), False), (hashes.SHA256(), True), (hashes.SHA384(), True), (hashes.SHA512(), True)],
)
def test_a_bare_key_and_digests(signer: object, digest: hashes.HashAlgorithm, good: bool) -> None:
    leaf = custom_leaf(ec.generate_private_key(ec.SECP256R1()), signer, digest=digest)
    assert (matches(tlsa(TlsaRecord(2, 1, 0, spki(signer))), (leaf,), NOW) is None) is good


def test_a_bare_key_that_signed_with_pss_or_sha1_does_not_count() -> None:
    """Nobody does; the authority's certificate can always be sent."""
    key = ec.generate_private_key(ec.SECP256R1())
    bare = tlsa(TlsaRecord(2, 1, 0, spki(RSA_KEY)))
    assert matches(bare, (custom_leaf(key, RSA_KEY, pss=True),), NOW) is not None
    leaf, issuer = CA.issue([HOST], Leaf.SHA1).chain_der
    assert matches(tlsa(record(2, 1, 0, issuer)), (leaf,), NOW) is not None
    assert matches(tlsa(record(2, 1, 0, issuer)), (leaf, issuer), NOW) is None


@pytest.mark.parametrize(
    ("name", "called", "octets"),
    [("Ed25519", "06032b6571", 64), ("Ed448", "06032b6570", 114)],  # each under the name of the other
)
def test_a_signature_under_the_name_of_another_algorithm(name: str, called: str, octets: int) -> None:
    signer = SIGNERS[name]
    right = bytes.fromhex({"06032b6571": "06032b6570", "06032b6570": "06032b6571"}[called])
    leaf = custom_leaf(ec.generate_private_key(ec.SECP256R1()), signer)
    renamed = leaf.replace(right, bytes.fromhex(called))
    signed_again = renamed[:-octets] + signer.sign(signature(renamed).signed)  # type: ignore[attr-defined]
    bare = tlsa(TlsaRecord(2, 1, 0, spki(signer)))
    assert matches(bare, (leaf,), NOW) is None
    assert matches(bare, (signed_again,), NOW) is not None


def test_a_bare_key_that_no_library_knows() -> None:
    unknown = public_key(LEAF).replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d027f"))
    broken = public_key(LEAF).replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f"))
    for key in (unknown, broken, public_key(LEAF)[:27] + b"\5" * 64, DSA_KEY):
        why_not = matches(UsableTlsa(HOST, NAMES, (TlsaRecord(2, 1, 0, key),)), FULL_CHAIN, NOW)
        assert why_not is not None and why_not.startswith("the TLSA record does not match")


def authority(key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """One that has the name of the root."""
    name = CA.root.certificate.subject
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=1), NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def test_a_bare_key_of_an_authority_that_has_a_new_one() -> None:
    """The path ends at the first certificate that names itself as issuer: here the new key, signed with the old."""
    old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    leaf = custom_leaf(ec.generate_private_key(ec.SECP256R1()), new)
    bare = tlsa(TlsaRecord(2, 1, 0, spki(old)))
    assert matches(bare, (leaf, authority(new, old), authority(new, new)), NOW) is None
    assert matches(bare, (leaf, authority(new, new)), NOW) is not None


def test_a_bare_key_and_certificates_that_have_no_issuer() -> None:
    assert matches(tlsa(record(2, 1, 0, ROOT)), (LEAF, b"\x30\x00"), NOW) is not None


def test_the_first_fault_is_told() -> None:
    expired = CA.issue([HOST], Leaf.EXPIRED_INTERMEDIATE).chain_der
    of_root, of_intermediate = record(2, 0, 1, ROOT), record(2, 0, 1, expired[1])
    for first, second in ((of_root, of_intermediate), (of_intermediate, of_root)):
        why_not = matches(tlsa(first, second), (*expired, ROOT), NOW)
        assert why_not == (
            f"the TLSA record {first} names an authority of the chain, but "
            "a certificate of an authority in the chain expired on 2026-10-25"
        )


def test_a_record_counts_wherever_it_stands_among_many() -> None:
    """DNS gives them in any order, and there may be as many as an answer holds."""
    wrong = [TlsaRecord(usage, 1, 1, number.to_bytes(32)) for usage in (2, 3) for number in range(800)]
    assert matches(tlsa(*wrong, record(3, 1, 1, LEAF)), FULL_CHAIN, NOW) is None
    assert matches(tlsa(*wrong, record(2, 0, 1, INTERMEDIATE)), FULL_CHAIN, NOW) is None
    assert matches(tlsa(*wrong), FULL_CHAIN, NOW) is not None


def test_so_much_full_data_and_so_many_certificates_are_looked_at() -> None:
    """The limits bound what an answer full of records may cost: each is a path to be verified."""
    wrong = [record(2, 0, 0, CA.issue([f"{number}.test"]).chain_der[0]) for number in range(32)]
    right = record(2, 0, 0, ROOT)
    assert matches(tlsa(*wrong[:31], right), (LEAF, INTERMEDIATE), NOW) is None
    assert matches(tlsa(*wrong, right), (LEAF, INTERMEDIATE), NOW) is not None
    assert matches(tlsa(*wrong, right), FULL_CHAIN, NOW) is None  # it was sent
    named = tlsa(record(2, 0, 1, INTERMEDIATE))
    assert matches(named, (LEAF, *[OTHER] * 14, INTERMEDIATE), NOW) is None
    assert matches(named, (LEAF, *[OTHER] * 15, INTERMEDIATE), NOW) is not None


@pytest.mark.parametrize(
    ("octets", "shown"), [(37, f"2 0 0 {'aa' * 37}"), (38, f"2 0 0 {'aa' * 37}..."), (999, f"2 0 0 {'aa' * 37}...")]
)
def test_a_record_is_shown_up_to_a_length(octets: int, shown: str) -> None:
    """In full data of 37 octets the text has 80 characters."""
    data = b"\xaa" * octets
    why_not = matches(UsableTlsa(HOST, NAMES, (TlsaRecord(2, 0, 0, data),)), (LEAF, data), NOW)
    assert why_not == (
        f"the TLSA record {shown} names an authority of the chain, but the certificate of the authority is broken"
    )


def test_a_lookup_that_failed_was_not_forged_unless_it_is_said() -> None:
    assert not TlsaLookupFailed("SERVFAIL").bogus


def test_a_bare_key_must_not_be_the_leafs_own() -> None:
    chain = CA.issue([HOST], Leaf.SELF_SIGNED).chain_der
    assert matches(tlsa(TlsaRecord(2, 1, 0, public_key(chain[0]))), chain, NOW) is not None


def test_a_bare_key_that_signed_something_else_in_the_chain() -> None:
    """The key must have signed what the leaf leads to, not whatever was sent along."""
    stranger = CA.issue([HOST], Leaf.UNKNOWN_CA).chain_der[0]
    assert matches(tlsa(record(2, 1, 0, ROOT)), (stranger, INTERMEDIATE), NOW) is not None


def test_a_renewed_authority_beside_the_expired_one() -> None:
    """Two certificates with one key: it is enough that one of them is good."""
    key = ec.generate_private_key(ec.SECP256R1())

    def authority(days: int) -> bytes:
        return (
            x509.CertificateBuilder()
            .subject_name(CA.root.certificate.subject)
            .issuer_name(CA.root.certificate.subject)
            .public_key(key.public_key())
            .serial_number(days + 1000)
            .not_valid_before(NOW - timedelta(days=20))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .sign(key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )

    leaf = custom_leaf(ec.generate_private_key(ec.SECP256R1()), key)
    old, new = authority(-10), authority(10)
    for chain in ((leaf, old, new), (leaf, new, old)):
        assert matches(tlsa(record(2, 1, 1, new)), chain, NOW) is None
        assert matches(tlsa(record(2, 0, 1, new)), chain, NOW) is None
        assert matches(tlsa(record(2, 0, 1, old)), chain, NOW) is not None


@pytest.mark.parametrize(
    ("one", "good"),
    [
        (record(3, 1, 1, LEAF), True),
        (record(2, 0, 2, ROOT), True),
        (TlsaRecord(0, 1, 1, b"x" * 32), False),  # RFC 7672 section 3.1.3
        (TlsaRecord(1, 1, 1, b"x" * 32), False),
        (TlsaRecord(4, 1, 1, b"x" * 32), False),
        (TlsaRecord(255, 1, 1, b"x" * 32), False),
        (TlsaRecord(3, 2, 1, b"x" * 32), False),
        (TlsaRecord(3, 255, 1, b"x" * 32), False),
        (TlsaRecord(3, 1, 3, b"x" * 32), False),
        (TlsaRecord(3, 1, 255, b"x" * 32), False),
        (TlsaRecord(3, 1, 1, b"x" * 31), False),
        (TlsaRecord(3, 1, 1, b"x" * 33), False),
        (TlsaRecord(3, 1, 1, b"x" * 64), False),
        (TlsaRecord(3, 1, 1, b""), False),
        (TlsaRecord(3, 1, 2, b"x" * 64), True),
        (TlsaRecord(3, 1, 2, b"x" * 32), False),
        (TlsaRecord(3, 0, 0, b""), False),
        (TlsaRecord(3, 0, 0, LEAF), True),
        (TlsaRecord(3, 0, 0, LEAF[:-1]), False),
        (TlsaRecord(3, 0, 0, LEAF + b"\0"), False),
        (TlsaRecord(3, 0, 0, public_key(LEAF)), False),
        (TlsaRecord(2, 0, 0, b"garbage"), False),
        (TlsaRecord(3, 1, 0, public_key(LEAF)), True),
        (TlsaRecord(2, 1, 0, LEAF), False),
        (TlsaRecord(2, 1, 0, b""), False),
    ],
)
def test_usable(one: TlsaRecord, good: bool) -> None:
    assert usable(one) is good


def digest(usage: int, selector: int, matching_type: int, fill: bytes = b"x") -> TlsaRecord:
    return TlsaRecord(usage, selector, matching_type, fill * (32 * matching_type))


@pytest.mark.parametrize(
    ("records", "left"),
    [
        ((digest(3, 1, 1), digest(3, 1, 2)), (digest(3, 1, 2),)),
        ((digest(3, 1, 1), digest(3, 1, 1, b"y")), (digest(3, 1, 1), digest(3, 1, 1, b"y"))),
        ((digest(3, 1, 1), digest(3, 0, 2)), (digest(3, 1, 1), digest(3, 0, 2))),  # another selector
        ((digest(3, 1, 1), digest(2, 1, 2)), (digest(3, 1, 1), digest(2, 1, 2))),  # another usage
        ((digest(3, 1, 1), record(3, 1, 0, LEAF)), (digest(3, 1, 1), record(3, 1, 0, LEAF))),  # full is no digest
        ((record(3, 1, 0, LEAF),), (record(3, 1, 0, LEAF),)),
        ((), ()),
    ],
)
def test_digest_agility(records: tuple[TlsaRecord, ...], left: tuple[TlsaRecord, ...]) -> None:
    assert strongest(records) == left


def test_a_weaker_digest_does_not_count_beside_a_stronger_one() -> None:
    """RFC 7671 section 9."""
    wrong = digest(3, 1, 2)
    assert matches(tlsa(record(3, 1, 1, LEAF), wrong), FULL_CHAIN, NOW) is not None
    assert matches(tlsa(record(3, 1, 2, LEAF), digest(3, 1, 1)), FULL_CHAIN, NOW) is None
    assert matches(tlsa(record(3, 0, 1, LEAF), wrong), FULL_CHAIN, NOW) is None
    assert matches(tlsa(record(3, 1, 0, LEAF), wrong), FULL_CHAIN, NOW) is None
    assert matches(tlsa(record(2, 1, 1, ROOT), wrong), FULL_CHAIN, NOW) is None


def test_one_matching_record_is_enough_and_is_named() -> None:
    wrong, right, authority = digest(3, 1, 1), record(3, 1, 1, LEAF), record(2, 0, 1, ROOT)
    assert matching_record(tlsa(wrong, right), FULL_CHAIN, NOW) == right
    assert matching_record(tlsa(wrong, authority), FULL_CHAIN, NOW) == authority
    assert matching_record(tlsa(authority, right), FULL_CHAIN, NOW) == right  # the server's own key comes first


@pytest.mark.parametrize(
    ("records", "chain", "why"),
    [
        (
            (digest(3, 1, 1),),
            FULL_CHAIN,
            f"the TLSA record does not match the certificate (3 1 1 {tlsa_data(LEAF, 1, 1).hex()})",
        ),
        (
            (digest(3, 1, 1), digest(2, 1, 1)),
            FULL_CHAIN,
            f"none of the 2 TLSA records matches the certificate (3 1 1 {tlsa_data(LEAF, 1, 1).hex()})",
        ),
        (
            (digest(3, 1, 1),),
            (b"odd",),
            f"the TLSA record does not match the certificate (3 0 1 {hashlib.sha256(b'odd').hexdigest()})",
        ),
        (
            (digest(2, 0, 1),),
            FULL_CHAIN,
            f"the TLSA record does not match the certificate (3 1 1 {tlsa_data(LEAF, 1, 1).hex()})",
        ),
        ((digest(3, 1, 1),), (), "no certificate could be had from the server"),
    ],
)
def test_why_not(records: tuple[TlsaRecord, ...], chain: Chain, why: str) -> None:
    assert matches(tlsa(*records), chain, NOW) == why


def test_long_records_are_cut_for_the_reader() -> None:
    why_not = matches(tlsa(record(2, 0, 0, ROOT)), CA.issue([HOST], Leaf.EXPIRED).chain_der, NOW)
    assert why_not is not None
    assert len(why_not) < 200


def test_a_leaf_that_no_library_can_parse_matches_by_its_octets() -> None:
    odd = b"not a certificate"
    assert matches(UsableTlsa(HOST, NAMES, (TlsaRecord(3, 0, 1, hashlib.sha256(odd).digest()),)), (odd,), NOW) is None
    assert matches(UsableTlsa(HOST, NAMES, (TlsaRecord(3, 0, 0, odd),)), (odd,), NOW) is None
    assert matches(UsableTlsa(HOST, NAMES, (TlsaRecord(3, 1, 1, hashlib.sha256(b"").digest()),)), (odd,), NOW)


def test_a_key_that_no_library_knows_matches_by_its_octets() -> None:
    """ML-DSA and whatever comes: the key is compared, not understood."""
    unknown = LEAF.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d027f"))
    with pytest.raises(UnsupportedAlgorithm):
        x509.load_der_x509_certificate(unknown).public_key()
    record_of_it = TlsaRecord(3, 1, 1, hashlib.sha256(public_key(unknown)).digest())
    assert matches(tlsa(record_of_it), (unknown, INTERMEDIATE), NOW) is None
    assert matches(tlsa(record(2, 1, 1, INTERMEDIATE)), (unknown, INTERMEDIATE), NOW) is not None


def test_names_that_cannot_be_read_match_nothing() -> None:
    san = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x81\x03\x82\x01z")  # not DER
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]))
        .issuer_name(CA.root.certificate.subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .add_extension(san, critical=False)
        .sign(CA.root.key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    why_not = matches(tlsa(record(2, 0, 1, ROOT), names=("z",)), (leaf, ROOT), NOW)
    assert why_not is not None
    assert why_not.endswith("but the names in the certificate cannot be read")
    assert matches(tlsa(record(3, 0, 1, leaf)), (leaf, ROOT), NOW) is None


records_of_any_kind = st.builds(
    TlsaRecord, st.integers(0, 255), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=100)
)
octets_of_any_kind = st.one_of(st.binary(max_size=200), st.sampled_from([LEAF, INTERMEDIATE, ROOT]))


@given(records_of_any_kind)
def test_usable_always_answers(one: TlsaRecord) -> None:
    assert usable(one) in (True, False)


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.binary(min_size=1, max_size=100)), max_size=5),
    st.lists(octets_of_any_kind, max_size=4),
)
def test_random_octets_never_raise_and_never_match(records: list[tuple[int, int, bytes]], chain: list[bytes]) -> None:
    published = UsableTlsa(HOST, NAMES, tuple(TlsaRecord(2, *one) for one in records))
    assert matches(published, tuple(chain), NOW) is not None


@given(st.integers(0, 2), st.integers(0, len(LEAF) - 1), st.integers(1, 255))
def test_a_flipped_octet_never_raises_and_matches_only_what_it_should(which: int, at: int, change: int) -> None:
    """An anchor in DNS vouches for all below it: a leaf with a changed octet matches nothing but its own hash."""
    chain = list(FULL_CHAIN)
    flipped = bytearray(chain[which])
    flipped[at % len(flipped)] ^= change
    chain[which] = bytes(flipped)
    below_the_root = which == 0
    for one in (record(2, 0, 0, ROOT), record(2, 1, 0, ROOT), record(2, 1, 1, ROOT), record(3, 0, 2, LEAF)):
        why_not = matches(tlsa(one), tuple(chain), NOW)
        if below_the_root:
            assert why_not is not None
    assert matches(tlsa(record(3, 0, 1, bytes(flipped))), (bytes(flipped),), NOW) is None


@given(st.integers(0, len(ROOT) - 1), st.integers(1, 255))
def test_a_flipped_octet_in_a_record_never_raises(at: int, change: int) -> None:
    for selector in (0, 1):
        data = bytearray(tlsa_data(ROOT, selector, 0))
        data[at % len(data)] ^= change
        for chain in ((LEAF, INTERMEDIATE), (LEAF,), FULL_CHAIN):
            matches(UsableTlsa(HOST, NAMES, (TlsaRecord(2, selector, 0, bytes(data)),)), chain, NOW)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (TlsaRecord(0, 0, 1, bytes(32)), "usage 0 is not for SMTP"),
        (TlsaRecord(1, 1, 1, bytes(32)), "usage 1 is not for SMTP"),
        (TlsaRecord(4, 1, 1, bytes(32)), "usage 4 is not for SMTP"),
        (TlsaRecord(3, 2, 1, bytes(32)), "there is no selector 2"),
        (TlsaRecord(3, 1, 3, bytes(32)), "there is no matching type 3"),
        (TlsaRecord(3, 1, 1, bytes(31)), "the digest has 31 octets, not 32"),
        (TlsaRecord(3, 1, 2, bytes(32)), "the digest has 32 octets, not 64"),
        (TlsaRecord(3, 1, 0, b"no key"), "the data are not what the selector names"),
        (TlsaRecord(3, 0, 0, b"no certificate"), "the data are not what the selector names"),
        (TlsaRecord(3, 1, 1, bytes(32)), None),
        (TlsaRecord(2, 0, 2, bytes(64)), None),
    ],
)
def test_why_a_record_is_of_no_use(record: TlsaRecord, why: str | None) -> None:
    assert why_unusable(record) == why
    assert usable(record) is (why is None)


def test_records_of_no_use_make_no_difference() -> None:
    record = TlsaRecord(3, 1, 1, bytes(32))
    plain = UsableTlsa(HOST, NAMES, (record,))
    assert plain.others == ()
    assert UsableTlsa(HOST, NAMES, (record,), (TlsaRecord(1, 1, 1, bytes(32)),)) == plain
