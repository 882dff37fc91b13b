"""A throw-away certificate authority, and server certificates of every kind, sound and broken.

For the lab and the tests only: its private keys live in memory and protect nothing. Each kind has one fault and is
sound otherwise, so that a test knows what was refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Span = tuple[timedelta, timedelta]  # valid from and until, counted from the authority's birth

_CURRENT: Span = (timedelta(days=-1), timedelta(days=3650))
_PAST: Span = (timedelta(days=-60), timedelta(days=-30))
_FUTURE: Span = (timedelta(days=30), timedelta(days=3650))
_SHA256_WITH_RSA = bytes.fromhex("06092a864886f70d01010b")
_SHA1_WITH_RSA = bytes.fromhex("06092a864886f70d010105")
_MAX_COMMON_NAME = 64  # RFC 5280 appendix A: ub-common-name


class Leaf(Enum):
    """What is wrong with an issued chain. A wildcard, a wrong name or an address is a matter of the names alone."""

    GOOD = "good"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    SELF_SIGNED = "signed by its own key"
    CN_ONLY = "name in the subject only, no subjectAltName"
    IP_ONLY = "subjectAltName holds 127.0.0.1 only, the name is in the subject"
    NO_EKU = "no extendedKeyUsage (sound)"
    CLIENT_EKU = "extendedKeyUsage is for clients only"
    ANY_EKU = "extendedKeyUsage is anyExtendedKeyUsage only"
    SIGNING_ONLY = "keyUsage is keyCertSign only"
    UNKNOWN_CA = "issued by an authority that nobody trusts"
    FORGED = "names the intermediate as issuer, signed by another key"
    MISSING_INTERMEDIATE = "the intermediate is not sent"
    EXPIRED_INTERMEDIATE = "the intermediate has expired"
    INTERMEDIATE_NOT_CA = "the intermediate is not a CA"
    INTERMEDIATE_CLIENT_EKU = "the intermediate is for clients only"
    PATH_TOO_LONG = "one intermediate more than the path length allows"
    NAME_CONSTRAINT = "the intermediate may only issue for permitted.invalid"
    UNKNOWN_CRITICAL = "a critical extension that nobody knows"
    RSA_2048 = "RSA key of 2048 bits (sound)"
    RSA_1024 = "RSA key of 1024 bits"
    RSA_1024_INTERMEDIATE = "the intermediate's key is RSA of 1024 bits"
    SHA1 = "signed with SHA-1"
    SHA1_INTERMEDIATE = "the intermediate is signed with SHA-1"
    NO_AKI = "no authorityKeyIdentifier (sound)"
    EMPTY_SUBJECT = "no subject, critical subjectAltName (sound)"
    BARE_INTERMEDIATE = "the intermediate has basicConstraints and nothing else (sound)"
    FROM_ROOT = "issued by the root itself (sound)"
    ROOT_INCLUDED = "the root is sent along (sound)"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How one certificate differs from a sound one."""

    span: Span = _CURRENT
    is_ca: bool = False
    path_length: int | None = None
    usages: tuple[ObjectIdentifier, ...] = ()  # extendedKeyUsage; empty: no such extension
    signs_only: bool = False
    key_ids: bool = True  # the two key identifiers
    key_usage: bool = True
    rsa_bits: int = 0  # 0: an EC P-256 key
    sha1: bool = False  # needs an issuer with an RSA key
    permits: str | None = None  # nameConstraints
    unknown_critical: bool = False


_SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
_CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
_ROOT = _Recipe(is_ca=True)
_SOUND_CA = (_Recipe(is_ca=True),)
_RSA_CA = _Recipe(is_ca=True, rsa_bits=2048)

_LEAVES = {
    Leaf.EXPIRED: _Recipe(span=_PAST, usages=_SERVER),
    Leaf.NOT_YET_VALID: _Recipe(span=_FUTURE, usages=_SERVER),
    Leaf.NO_EKU: _Recipe(),
    Leaf.CLIENT_EKU: _Recipe(usages=_CLIENT),
    Leaf.ANY_EKU: _Recipe(usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
    Leaf.SIGNING_ONLY: _Recipe(usages=_SERVER, signs_only=True),
    Leaf.UNKNOWN_CRITICAL: _Recipe(usages=_SERVER, unknown_critical=True),
    Leaf.RSA_2048: _Recipe(usages=_SERVER, rsa_bits=2048),
    Leaf.RSA_1024: _Recipe(usages=_SERVER, rsa_bits=1024),
    Leaf.SHA1: _Recipe(usages=_SERVER, sha1=True),
    Leaf.FORGED: _Recipe(usages=_SERVER, key_ids=False),
    Leaf.NO_AKI: _Recipe(usages=_SERVER, key_ids=False),
}
_SOUND_LEAF = _Recipe(usages=_SERVER)

_INTERMEDIATES: dict[Leaf, tuple[_Recipe, ...]] = {
    Leaf.SELF_SIGNED: (),
    Leaf.FROM_ROOT: (),
    Leaf.EXPIRED_INTERMEDIATE: (_Recipe(is_ca=True, span=_PAST),),
    Leaf.INTERMEDIATE_NOT_CA: (_Recipe(),),
    Leaf.INTERMEDIATE_CLIENT_EKU: (_Recipe(is_ca=True, usages=_CLIENT),),
    Leaf.PATH_TOO_LONG: (_Recipe(is_ca=True, path_length=0), _Recipe(is_ca=True)),
    Leaf.NAME_CONSTRAINT: (_Recipe(is_ca=True, permits="permitted.invalid"),),
    Leaf.RSA_1024_INTERMEDIATE: (_Recipe(is_ca=True, rsa_bits=1024),),
    Leaf.SHA1: (_RSA_CA,),
    Leaf.SHA1_INTERMEDIATE: (_RSA_CA, _Recipe(is_ca=True, sha1=True)),
    Leaf.BARE_INTERMEDIATE: (_Recipe(is_ca=True, key_ids=False, key_usage=False),),
}


@dataclass(frozen=True, slots=True)
class _Signer:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """What a server presents: its key and its chain, leaf first. `chain_der` are the same certificates in DER."""

    chain_pem: bytes
    key_pem: bytes
    chain_der: tuple[bytes, ...]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write `chain.pem` and `key.pem` into `folder`, which is made if need be; the two paths come back."""
        folder.mkdir(parents=True, exist_ok=True)
        chain, key = folder / "chain.pem", folder / "key.pem"
        chain.write_bytes(self.chain_pem)
        key.write_bytes(self.key_pem)
        return chain, key

    def server_context(self, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """A server that speaks TLS 1.0 up to `maximum` and presents this chain, however bad it is."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL would refuse to load weak keys, and TLS 1.1, otherwise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # for naming TLS 1.0 and 1.1
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = maximum
        with tempfile.NamedTemporaryFile() as file:  # Python reads certificates from files only
            file.write(self.chain_pem + self.key_pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context


@dataclass(slots=True)
class LabCa:
    """A root that a relay in the lab is told to trust, and all it issues. Make one with `LabCa.make`."""

    now: datetime
    root: _Signer
    stranger: _Signer  # a root of the same make that nobody trusts
    _authorities: dict[Leaf, tuple[_Signer, ...]] = field(default_factory=dict)
    _rsa_keys: dict[int, rsa.RSAPrivateKey] = field(default_factory=dict)

    @classmethod
    def make(cls, now: datetime) -> LabCa:
        """A new authority, born at `now` (aware); what it issues is valid for ten years from there unless asked."""
        return cls(now, _self_signed("Lab Root", now), _self_signed("Lab Stranger", now))

    @property
    def pem(self) -> bytes:
        """The root, for a trust store."""
        return self.root.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The root, for a TLSA record or a look at it."""
        return self.root.certificate.public_bytes(serialization.Encoding.DER)

    def issue(self, names: Sequence[str], kind: Leaf = Leaf.GOOD) -> Issued:
        """A chain for a server called `names` (the first is in the subject too; IP and mail addresses become such).

        No names: a certificate without subjectAltName. The chain holds the intermediates but not the root.
        """
        recipe = _LEAVES.get(kind, _SOUND_LEAF)
        authorities = self._intermediates(kind)
        key = self._key(recipe)
        subject = _subject("" if kind is Leaf.EMPTY_SUBJECT else names[0] if names else "nameless")
        issuer = {Leaf.SELF_SIGNED: None, Leaf.UNKNOWN_CA: self.stranger}.get(kind, (self.root, *authorities)[-1])
        builder = _Builder(recipe, subject, key, issuer, self.now)
        if kind is Leaf.FORGED and issuer is not None:
            builder = _Builder(recipe, subject, key, _Signer(issuer.certificate, self._key(recipe)), self.now)
        leaf = builder.build(_alternative_names(names, kind))
        sent = [leaf, *(authority.certificate for authority in reversed(authorities))]
        if kind is Leaf.MISSING_INTERMEDIATE:
            sent = [leaf]
        if kind is Leaf.ROOT_INCLUDED:
            sent.append(self.root.certificate)
        return _issued(sent, key)

    def _intermediates(self, kind: Leaf) -> tuple[_Signer, ...]:
        """The authorities between root and leaf, topmost first; the same ones each time for a kind."""
        if kind is Leaf.UNKNOWN_CA:
            return ()
        shared = kind if kind in _INTERMEDIATES else Leaf.GOOD
        if shared not in self._authorities:
            chain: list[_Signer] = [self.root]
            for recipe in _INTERMEDIATES.get(shared, _SOUND_CA):
                key = self._key(recipe)
                subject = _subject(f"Lab Intermediate {len(self._authorities)}.{len(chain)}")
                chain.append(_Signer(_Builder(recipe, subject, key, chain[-1], self.now).build(None), key))
            self._authorities[shared] = tuple(chain[1:])
        return self._authorities[shared]

    def _key(self, recipe: _Recipe) -> PrivateKey:
        """A new EC key; RSA keys take long to make, so there is one of each size."""
        if not recipe.rsa_bits:
            return ec.generate_private_key(ec.SECP256R1())
        if recipe.rsa_bits not in self._rsa_keys:
            self._rsa_keys[recipe.rsa_bits] = rsa.generate_private_key(65537, recipe.rsa_bits)
        return self._rsa_keys[recipe.rsa_bits]


def tlsa_data(certificate: bytes, selector: int, matching_type: int) -> bytes:
    """The data field of a TLSA record for `certificate` (DER). RFC 6698 section 2.1; ValueError for unknown numbers."""
    if selector not in (0, 1) or matching_type not in (0, 1, 2):
        raise ValueError(f"no such selector and matching type: {selector} {matching_type}")
    selected = certificate
    if selector == 1:
        selected = (
            x509.load_der_x509_certificate(certificate)
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
    return (selected, hashlib.sha256(selected).digest(), hashlib.sha512(selected).digest())[matching_type]


@dataclass(frozen=True, slots=True)
class _Builder:
    """Turns a recipe into a certificate. `issuer` None: signed by its own key."""

    recipe: _Recipe
    subject: x509.Name
    key: PrivateKey
    issuer: _Signer | None
    now: datetime

    def build(self, names: x509.SubjectAlternativeName | None) -> x509.Certificate:
        signer = self.issuer.key if self.issuer else self.key
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(self.issuer.certificate.subject if self.issuer else self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + self.recipe.span[0])
            .not_valid_after(self.now + self.recipe.span[1])
        )
        for extension, critical in self._extensions(signer):
            builder = builder.add_extension(extension, critical)
        if names is not None:
            # RFC 5280 §4.2.1.6: critical when the subject is empty
            builder = builder.add_extension(names, critical=not list(self.subject))
        certificate = builder.sign(signer, hashes.SHA256())
        return _resigned_with_sha1(certificate, signer) if self.recipe.sha1 else certificate

    def _extensions(self, signer: PrivateKey) -> Iterable[tuple[x509.ExtensionType, bool]]:
        recipe = self.recipe
        yield x509.BasicConstraints(recipe.is_ca, recipe.path_length), True
        if recipe.key_usage:
            yield _key_usage(signs=recipe.is_ca or recipe.signs_only), True
        if recipe.key_ids:
            yield x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False
            yield x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        if recipe.usages:
            yield x509.ExtendedKeyUsage(recipe.usages), False
        if recipe.permits is not None:
            yield x509.NameConstraints([x509.DNSName(recipe.permits)], None), True
        if recipe.unknown_critical:
            yield x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True


def _self_signed(name: str, now: datetime) -> _Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return _Signer(_Builder(_ROOT, _subject(name), key, None, now).build(None), key)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MAX_COMMON_NAME])] if name else [])


def _alternative_names(names: Sequence[str], kind: Leaf) -> x509.SubjectAlternativeName | None:
    if kind is Leaf.IP_ONLY:
        names = ["127.0.0.1"]
    if kind is Leaf.CN_ONLY or not names:
        return None
    return x509.SubjectAlternativeName([_general_name(name) for name in names])


def _general_name(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_encipherment=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _resigned_with_sha1(certificate: x509.Certificate, signer: PrivateKey) -> x509.Certificate:
    """The library does not issue with SHA-1 any more: change the algorithm in the bytes, then sign them again."""
    if not isinstance(signer, rsa.RSAPrivateKey):
        raise TypeError("only an RSA issuer can sign with SHA-1 here")
    changed = certificate.public_bytes(serialization.Encoding.DER).replace(_SHA256_WITH_RSA, _SHA1_WITH_RSA)
    signed_part = x509.load_der_x509_certificate(changed).tbs_certificate_bytes
    signature = signer.sign(signed_part, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - a weak one on purpose
    return x509.load_der_x509_certificate(changed[: -len(signature)] + signature)


def _issued(certificates: Sequence[x509.Certificate], key: PrivateKey) -> Issued:
    return Issued(
        chain_pem=b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates),
        key_pem=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        chain_der=tuple(one.public_bytes(serialization.Encoding.DER) for one in certificates),
    )
