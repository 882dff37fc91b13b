"""An issuer of access tokens: its keys, their JWK set, and tokens signed without the library that checks them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}


@cache
def private_key(kind: str) -> Private:
    """`RSA` (2048 bits), `RSA-1024`, a curve of CURVES or `Ed25519`; the same one each time, for they take long."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, 1024 if kind == "RSA-1024" else 2048)
    return ed25519.Ed25519PrivateKey.generate() if kind == "Ed25519" else ec.generate_private_key(CURVES[kind])


def coded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def jwk(kind: str, id: str | None = "key-1", **more: Any) -> dict[str, Any]:
    """The public key as the issuer shows it. RFC 7517, RFC 7518 section 6, RFC 8037."""
    found: dict[str, Any] = {} if id is None else {"kid": id}
    match private_key(kind):
        case rsa.RSAPrivateKey() as key:
            numbers = key.public_key().public_numbers()
            found |= {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        case ec.EllipticCurvePrivateKey() as key:
            point, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
            found |= {"kty": "EC", "crv": kind, "x": _number(point.x, size), "y": _number(point.y, size)}
        case ed25519.Ed25519PrivateKey() as key:
            found |= {"kty": "OKP", "crv": "Ed25519", "x": coded(key.public_key().public_bytes_raw())}
    return found | more


def jwks(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(claims: Mapping[str, Any] | bytes, kind: str = "RSA", algorithm: str = "RS256", **header: Any) -> str:
    """A token. `header` has what its head says besides, `kid` by default; None takes a member out."""
    members = {"alg": algorithm, "typ": "JWT", "kid": "key-1", **header}
    head = json.dumps({name: value for name, value in members.items() if value is not None}).encode()
    body = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    content = f"{coded(head)}.{coded(body)}"
    return f"{content}.{coded(_signature(private_key(kind), algorithm, content.encode()))}"


@dataclass(frozen=True)
class Issuer:
    """Who issues, for whom: the claims of a good token."""

    name: str = "https://id.example.test/"
    audience: str = "relay"

    def claims(self, login: Any = "alice@example.test", **more: Any) -> dict[str, Any]:
        """Good until 2100, unless said otherwise; a claim that is None is left out."""
        claims = {"iss": self.name, "aud": self.audience, "exp": 4102444800, "email": login, **more}
        return {name: value for name, value in claims.items() if value is not None}


def _number(value: int, size: int | None = None) -> str:
    return coded(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _signature(key: Private, algorithm: str, content: bytes) -> bytes:
    """RFC 7518 section 3."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(content)
    hash = HASHES[algorithm[2:]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = (key.key_size + 7) // 8
        return b"".join(one.to_bytes(size, "big") for one in decode_dss_signature(key.sign(content, ec.ECDSA(hash))))
    if algorithm.startswith("PS"):
        return key.sign(content, padding.PSS(padding.MGF1(hash), hash.digest_size), hash)
    return key.sign(content, padding.PKCS1v15(), hash)
