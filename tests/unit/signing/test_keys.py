"""Keys: what a file may hold, what DNS is to have of it, and which keys sign for a domain."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from pydantic import ValidationError

from relay.contradictions import contradictions, unusable_files
from relay.settings import Settings
from relay.signing.keys import Algorithm, KeyTable, SigningKey, UnusableKey, load_key, with_remedy
from relay.signing_settings import DkimKeySettings

PKCS8, TRADITIONAL = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
CLEAR = serialization.NoEncryption()
RSA_1024 = rsa.generate_private_key(public_exponent=65537, key_size=1024)
ED25519 = ed25519.Ed25519PrivateKey.generate()


def pem(
    key: PrivateKeyTypes,
    form: serialization.PrivateFormat = PKCS8,
    secrecy: serialization.KeySerializationEncryption = CLEAR,
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, secrecy)


def given(path: Path) -> DkimKeySettings:
    return DkimKeySettings(domain="Example.ORG", selector="S1", key_file=path)


def loaded(folder: Path, octets: bytes) -> SigningKey | UnusableKey:
    path = folder / "key.pem"
    path.write_bytes(octets)
    return load_key(given(path))


@pytest.mark.parametrize("selector", ["20260101", "1", "rsa.2026", "s1._x"])
def test_a_selector_of_digits_is_no_address(selector: str) -> None:
    """RFC 6376 section 3.1: any labels."""
    assert DkimKeySettings(domain="example.org", selector=selector, key_file=Path("/key.pem")).selector == selector


@pytest.mark.parametrize("selector", ["", "a..b", "a b", "[127.0.0.1]", "-", "a" * 64])
def test_what_is_no_selector(selector: str) -> None:
    with pytest.raises(ValidationError, match="must be a selector"):
        DkimKeySettings(domain="example.org", selector=selector, key_file=Path("/key.pem"))


@pytest.mark.parametrize("form", [PKCS8, TRADITIONAL])
def test_rsa(tmp_path: Path, form: serialization.PrivateFormat) -> None:
    key = loaded(tmp_path, pem(RSA_1024, form))
    assert isinstance(key, SigningKey)
    assert (key.domain, key.selector, key.subdomains) == ("example.org", "s1", False)
    assert (key.algorithm, key.bits, key.is_short) == (Algorithm.RSA_SHA256, 1024, True)
    assert key.record_name == "s1._domainkey.example.org"
    public = serialization.load_der_public_key(key.public)
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(key.sign(b"some octets"), b"some octets", padding.PKCS1v15(), hashes.SHA256())


def test_ed25519_has_its_32_octets_in_dns_and_signs_the_hash(tmp_path: Path) -> None:
    key = loaded(tmp_path, pem(ED25519))
    assert isinstance(key, SigningKey)
    assert (key.algorithm, key.bits, key.is_short) == (Algorithm.ED25519_SHA256, 256, False)
    assert key.public == ED25519.public_key().public_bytes_raw()
    ED25519.public_key().verify(key.sign(b"some octets"), hashlib.sha256(b"some octets").digest())


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    key = loaded(tmp_path, pem(ED25519))
    assert "object at" not in repr(key)
    assert "public" not in repr(key)


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"", "does not hold a private key in PEM form (PKCS#8, or RSA's own)"),
        (b"hello\n", "does not hold a private key in PEM form (PKCS#8, or RSA's own)"),
        (pem(ED25519)[:80], "does not hold a private key in PEM form (PKCS#8, or RSA's own)"),
        (
            RSA_1024.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "does not hold a private key in PEM form (PKCS#8, or RSA's own)",
        ),
        (
            pem(RSA_1024, secrecy=serialization.BestAvailableEncryption(b"secret")),
            "is encrypted: Relay needs the key without a passphrase",
        ),
        (
            pem(RSA_1024, TRADITIONAL, serialization.BestAvailableEncryption(b"secret")),
            "is encrypted: Relay needs the key without a passphrase",
        ),
        (
            pem(ec.generate_private_key(ec.SECP256R1())),
            "holds a key that is neither RSA nor Ed25519: DKIM knows no other",
        ),
        (pem(ed448.Ed448PrivateKey.generate()), "holds a key that is neither RSA nor Ed25519: DKIM knows no other"),
        (b"\n" * 65_537, "is too large for a key"),
    ],
    ids=["empty", "text", "cut off", "public", "encrypted", "encrypted RSA", "EC", "Ed448", "large"],
)
def test_what_is_no_key_is_told_with_its_file(tmp_path: Path, octets: bytes, what: str) -> None:
    assert loaded(tmp_path, octets) == UnusableKey("example.org", "s1", f"{tmp_path}/key.pem {what}")


def test_a_key_that_verifiers_do_not_take(tmp_path: Path) -> None:
    weak = (Path(__file__).parents[2] / "data" / "dkim" / "rsa768.pem").read_bytes()
    found = loaded(tmp_path, weak)
    assert isinstance(found, UnusableKey)
    assert found.reason.endswith("holds an RSA key of 768 bits: below 1024 no signature counts")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    found = load_key(given(tmp_path / "none.pem"))
    assert isinstance(found, UnusableKey)
    assert found.reason.endswith(f"{tmp_path}/none.pem cannot be read: No such file or directory")


def test_settings_with_unusable_keys_do_not_pass(tmp_path: Path) -> None:
    good = tmp_path / "good.pem"
    good.write_bytes(pem(ED25519))
    bad = tmp_path / "bad.pem"
    bad.write_bytes(b"hello")
    files = {"good": good, "bad": bad, "gone": tmp_path / "gone", "folder": tmp_path}
    tables = [{"domain": "example.org", "selector": name, "key_file": str(path)} for name, path in files.items()]
    found = list(unusable_files(Settings.model_validate({"dkim_key": tables})))
    place = (("", "dkim_key"),)
    assert found == [
        (
            place,
            f"the key bad of example.org: key_file: {bad} "
            "does not hold a private key in PEM form (PKCS#8, or RSA's own)",
        ),
        (
            place,
            f"the key gone of example.org: key_file: {tmp_path}/gone cannot be read: No such file or directory; "
            f"`relay dkim keygen --domain example.org --selector gone --out {tmp_path}/gone` makes it",
        ),
        (place, f"the key folder of example.org: key_file: {tmp_path} is not a file"),
    ]


def test_two_keys_of_one_dns_record() -> None:
    names = [("example.org", "a"), ("example.org", "b"), ("example.net", "a"), ("Example.org", "A")]
    tables = [{"domain": domain, "selector": selector, "key_file": "/k"} for domain, selector in names]
    found = list(contradictions(Settings.model_validate({"dkim_key": tables})))
    assert found == [
        ((("", "dkim_key"),), "the selector a of example.org is there twice: one DNS record has one key"),
    ]


@pytest.mark.parametrize("changed", range(8))
def test_an_rsa_key_whose_numbers_do_not_belong_together(tmp_path: Path, changed: int) -> None:
    """n, e, d, p, q, d mod p-1, d mod q-1, 1/q mod p: one of them is another. OpenSSL does without some of them."""
    private = RSA_1024.private_numbers()
    public = private.public_numbers
    numbers = [public.n, public.e, private.d, private.p, private.q, private.dmp1, private.dmq1, private.iqmp]
    octets = RSA_1024.private_bytes(serialization.Encoding.DER, TRADITIONAL, CLEAR)
    number = numbers[changed].to_bytes((numbers[changed].bit_length() + 7) // 8, "big")
    other = number[:-1] + bytes([number[-1] ^ 4])
    body = base64.encodebytes(octets.replace(number, other, 1)).decode()
    found = loaded(tmp_path, f"-----BEGIN RSA PRIVATE KEY-----\n{body}-----END RSA PRIVATE KEY-----\n".encode())
    if isinstance(found, SigningKey):
        key = serialization.load_der_public_key(found.public)
        assert isinstance(key, rsa.RSAPublicKey)
        key.verify(found.sign(b"some octets"), b"some octets", padding.PKCS1v15(), hashes.SHA256())
    assert isinstance(found, UnusableKey) or changed > 1


def test_which_keys_sign() -> None:
    def key(domain: str, selector: str, subdomains: bool) -> SigningKey:
        return SigningKey(domain, selector, subdomains, Algorithm.ED25519_SHA256, 256, b"", bytes)

    table = KeyTable(
        [
            key("example.org", "a", False),
            key("example.org", "b", True),
            key("news.example.org", "c", False),
            key("sub.example.org", "d", True),
        ]
    )

    def selectors(domain: str) -> str:
        return "".join(found.selector for found in table.keys_for(domain))

    assert selectors("example.org") == "ab"
    assert selectors("www.example.org") == "b"  # one without subdomains is not for it
    assert selectors("news.example.org") == "c"  # its own, and only those
    assert selectors("x.news.example.org") == "b"  # the closest above that signs for what is below it
    assert selectors("x.y.sub.example.org") == "d"
    assert selectors("org") == selectors("example.net") == selectors("notexample.org") == selectors("") == ""
    assert table
    assert not KeyTable()


def test_what_mends_a_key_that_cannot_be_had(tmp_path: Path) -> None:
    given = DkimKeySettings(domain="a.test", selector="s1", key_file=tmp_path / "k.pem")
    made = f"`relay dkim keygen --domain a.test --selector s1 --out {tmp_path}/k.pem` makes it"
    assert with_remedy("k.pem cannot be read: No such file or directory", given).endswith(f"directory; {made}")
    said = "run this as the user of the service, and let the file and its folder be that user's (chown)"
    assert with_remedy("k.pem cannot be read: Permission denied", given).endswith(f"denied; {said}")
    assert with_remedy("k.pem is encrypted", given) == "k.pem is encrypted"
