"""New keys, in the form of their files."""

from __future__ import annotations

from enum import Enum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class KeyType(Enum):
    """As `k=` of the DNS record has it. RFC 6376 section 3.6.1, RFC 8463 section 4."""

    RSA = "rsa"
    ED25519 = "ed25519"


def new_key(kind: KeyType, bits: int) -> bytes:
    """A new private key in PEM (PKCS#8). `bits` are those of an RSA key."""
    key: RSAPrivateKey | Ed25519PrivateKey
    match kind:
        case KeyType.RSA:
            key = generate_private_key(public_exponent=65537, key_size=bits)
        case KeyType.ED25519:
            key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
