"""The keys that sign mail: read from their files, and which of them sign for a domain.

A key is a value that knows its place in DNS and can sign; the private half never leaves it. RFC 6376 sections 3.1 and
3.6, RFC 8301 section 3.2 (sizes of RSA keys), RFC 8463 (Ed25519).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relay.signing_settings import DkimKeySettings

MIN_RSA_BITS = 1024  # RFC 8301 §3.2: a signature with a shorter one counts as none
GOOD_RSA_BITS = 2048  # the same section: what a signer should have at least
MAX_RSA_BITS = 4096  # the same section: verifiers need not take longer ones
_LARGEST_FILE = 64 * 1024


class Algorithm(Enum):
    """As `a=` of a signature has it. RFC 6376 section 3.3, RFC 8463 section 3."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"

    @property
    def key_type(self) -> str:
        """As `k=` of the DNS record has it: rsa or ed25519."""
        return self.value.partition("-")[0]


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key of a domain; `domain` and `selector` in lower-case A-labels.

    `public`: the octets that stand in `p=` of the DNS record, not yet in base64: SubjectPublicKeyInfo in DER for RSA
    (RFC 6376 section 3.6.1), the 32 octets of the key for Ed25519 (RFC 8463 section 4). `bits`: the length of the key.
    `sign`: from octets to their signature, hashed as the algorithm says; pure, but for the time it takes. It raises
    what OpenSSL has against the key.
    """

    domain: str
    selector: str
    subdomains: bool  # whether it signs for domains below it too
    algorithm: Algorithm
    bits: int
    public: bytes = field(repr=False)
    sign: Callable[[bytes], bytes] = field(repr=False, compare=False)

    @property
    def record_name(self) -> str:
        """Where its DNS record is. RFC 6376 section 3.6.2.1."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def is_short(self) -> bool:
        """Whether it is an RSA key that verifiers take and that is shorter than it should be."""
        return self.algorithm is Algorithm.RSA_SHA256 and self.bits < GOOD_RSA_BITS

    def try_sign(self, octets: bytes) -> bytes | None:
        """The signature, or None where this key cannot sign."""
        try:
            return self.sign(octets)
        except Exception:  # noqa: BLE001  (the faults of OpenSSL have no class in common)
            return None


@dataclass(frozen=True, slots=True)
class UnusableKey:
    """There is no key. `reason` names the file and what is wrong with it; nothing of what is in it."""

    domain: str
    selector: str
    reason: str

    def __str__(self) -> str:
        return f"the key {self.selector} of {self.domain}: {self.reason}"


def load_key(given: DkimKeySettings) -> SigningKey | UnusableKey:
    """The key of one table [[dkim_key]], as its file has it now. It reads a small file, and waits for the disk."""
    unusable = partial(UnusableKey, given.domain, given.selector)
    try:
        private = _private_key(given.key_file)
    except OSError as error:
        return unusable(f"{given.key_file} cannot be read: {error.strerror}")
    except ValueError as error:
        return unusable(f"{given.key_file} {error}")
    names = (given.domain, given.selector, given.subdomains)
    if isinstance(private, RSAPrivateKey):
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        key = SigningKey(*names, Algorithm.RSA_SHA256, private.key_size, public, _rsa_signer(private))
    else:
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        key = SigningKey(*names, Algorithm.ED25519_SHA256, 256, public, _ed25519_signer(private))
    return key if _is_sound(private) else unusable(f"{given.key_file} holds a key that cannot sign")


def _is_sound(private: RSAPrivateKey | Ed25519PrivateKey) -> bool:
    """Whether what it signs fits its public half: numbers that do not belong together give no such signature."""
    try:
        if isinstance(private, RSAPrivateKey):
            private.public_key().verify(private.sign(b"", PKCS1v15(), SHA256()), b"", PKCS1v15(), SHA256())
        else:
            private.public_key().verify(private.sign(b""), b"")
    except Exception:  # noqa: BLE001  (the faults of OpenSSL have no class in common)
        return False
    return True


def with_remedy(reason: str, given: DkimKeySettings) -> str:
    """Why there is no key, and what mends it where that is one command."""
    if reason.endswith(os.strerror(errno.ENOENT)):
        names = f"--domain {given.domain} --selector {given.selector}"
        return f"{reason}; `relay dkim keygen {names} --out {given.key_file}` makes it"
    if reason.endswith(os.strerror(errno.EACCES)):
        return f"{reason}; run this as the user of the service, and let the file and its folder be that user's (chown)"
    return reason


def _private_key(path: Path) -> RSAPrivateKey | Ed25519PrivateKey:
    """Raises OSError, and ValueError with the end of a sentence that begins with the file's name."""
    with path.open("rb") as file:
        pem = file.read(_LARGEST_FILE + 1)
    if len(pem) > _LARGEST_FILE:
        raise ValueError("is too large for a key")
    try:
        # Whether its primes are primes takes 40 ms, a minute for those of many domains: `load_key` tries it in place.
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise ValueError("is encrypted: Relay needs the key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("does not hold a private key in PEM form (PKCS#8, or RSA's own)") from None
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("holds a key that is neither RSA nor Ed25519: DKIM knows no other")
    if key.key_size < MIN_RSA_BITS:
        raise ValueError(f"holds an RSA key of {key.key_size} bits: below {MIN_RSA_BITS} no signature counts")
    if key.key_size > MAX_RSA_BITS:
        raise ValueError(f"holds an RSA key of {key.key_size} bits: above {MAX_RSA_BITS} many cannot verify")
    return key


def _rsa_signer(key: RSAPrivateKey) -> Callable[[bytes], bytes]:
    padding, digest = PKCS1v15(), SHA256()
    return lambda octets: key.sign(octets, padding, digest)


def _ed25519_signer(key: Ed25519PrivateKey) -> Callable[[bytes], bytes]:
    # RFC 8463 §3: it is the SHA-256 hash that is signed.
    return lambda octets: key.sign(hashlib.sha256(octets).digest())


class KeyTable:
    """All keys, by domain. Frozen in effect: a changed file makes a new one."""

    def __init__(self, keys: Iterable[SigningKey] = ()) -> None:
        self.all = tuple(keys)
        self._by_domain: dict[str, tuple[SigningKey, ...]] = {}
        for key in self.all:
            self._by_domain[key.domain] = (*self._by_domain.get(key.domain, ()), key)

    def __bool__(self) -> bool:
        return bool(self.all)

    def keys_for(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys that sign mail from `domain` (lower-case A-labels): all of its own, in the order of the settings.

        A domain that has none is signed for by the closest domain above it that has keys with `subdomains`.
        """
        found = self._by_domain.get(domain, ())
        while not found and "." in domain:
            domain = domain.partition(".")[2]
            found = tuple(key for key in self._by_domain.get(domain, ()) if key.subdomains)
        return found


def load_keys(given: Iterable[DkimKeySettings]) -> tuple[KeyTable, tuple[UnusableKey, ...]]:
    """The keys of all tables [[dkim_key]] that can be used, and what is wrong with the others. As `load_key`."""
    loaded = [load_key(one) for one in given]
    table = KeyTable(one for one in loaded if isinstance(one, SigningKey))
    return table, tuple([one for one in loaded if isinstance(one, UnusableKey)])
