"""Access tokens (JWT): is one good, and whose is it? Pure: keys and time are arguments. The home of PyJWT.

RFC 7519 (JWT), RFC 7515 (signatures), RFC 7517 (keys), RFC 8725 (what goes wrong with them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final

import jwt
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from relay.submission.claims import is_login, json_object

LEEWAY_SECONDS: Final = 60.0  # clocks differ
MOST_KEYS: Final = 100
_FEWEST_RSA_BITS: Final = 2048  # RFC 7518 §3.3
# What a token may be signed with, and the key that it takes. Only public keys check these: never HS256 or none.
_ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
_LOADERS: Final[Mapping[str, Any]] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
_SIGNATURES = jwt.PyJWS(algorithms=list(_ALGORITHMS))


class TokenFault(Enum):
    """Why a token is no good, in words for the log."""

    MALFORMED = "not a signed JWT"
    ALGORITHM = "signed in a way that is not taken"
    UNKNOWN_KEY = "signed with a key that the issuer does not show"
    SIGNATURE = "wrong signature"
    EXPIRED = "expired, or without an end"
    NOT_YET = "not yet valid"
    ISSUER = "of another issuer"
    AUDIENCE = "for another audience"
    NAME = "without a name that can be a login"
    UNVERIFIED = "for an address that the issuer has not verified"


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say: who issued it, whom for; and the claim that is the login."""

    issuer: str
    audience: str
    name_claim: str


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of the issuer. `id` and `algorithm` None: the issuer does not say."""

    id: str | None
    kind: tuple[str, str]
    algorithm: str | None
    public: Any

    def fits(self, id: str | None, algorithm: str) -> bool:
        """Whether a token of this key id and algorithm may have been signed with it."""
        return self.id == id and self.kind == _ALGORITHMS[algorithm] and self.algorithm in (None, algorithm)


def parse_keys(octets: bytes) -> tuple[Key, ...] | None:
    """The keys of a JWK set that can be used here; None when it is no such set. RFC 7517 section 5: skip the others."""
    found = json_object(octets)
    keys = None if found is None else found.get("keys")
    if not isinstance(keys, list):
        return None
    return tuple(key for one in keys[:MOST_KEYS] if isinstance(one, dict) and (key := _parse_key(one)) is not None)


def _parse_key(given: dict[str, Any]) -> Key | None:
    kind, id, algorithm = given.get("kty"), given.get("kid"), given.get("alg")
    if (
        not isinstance(kind, str) or kind not in _LOADERS or "d" in given or given.get("use", "sig") != "sig"
    ):  # d: somebody shows a private key
        return None
    if not isinstance(id, str | None) or not isinstance(algorithm, str | None):
        return None
    if isinstance(given.get("key_ops"), list) and "verify" not in given["key_ops"]:
        return None
    try:
        public = _LOADERS[kind].from_jwk(given)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if kind == "RSA" and public.key_size < _FEWEST_RSA_BITS:
        return None
    return Key(id, (kind, "" if kind == "RSA" else given["crv"]), algorithm, public)


def key_id(token: str) -> str | TokenFault | None:
    """The key that the token says it is signed with; None: it does not say."""
    header = _header(token)
    return header if isinstance(header, TokenFault) else header[0]


def check_token(token: str, keys: tuple[Key, ...], rules: TokenRules, now: datetime) -> str | TokenFault:
    """Whose token it is, if it is good. An address comes back in lower case: issuers write them as they like."""
    header = _header(token)
    if isinstance(header, TokenFault):
        return header
    id, algorithm = header
    fitting = [key for key in keys if key.fits(id, algorithm)]
    if id is None and not fitting:  # an issuer with one key need not name it
        fitting = [key for key in keys if key.fits(key.id, algorithm)] if len(keys) == 1 else []
    if not fitting:
        return TokenFault.UNKNOWN_KEY
    try:
        payload = _SIGNATURES.decode(token, fitting[0].public, algorithms=[algorithm])
    except (jwt.PyJWTError, ValueError, TypeError):
        return TokenFault.SIGNATURE
    claims = json_object(payload)
    return TokenFault.MALFORMED if claims is None else _check_claims(claims, rules, now.timestamp())


def _header(token: str) -> tuple[str | None, str] | TokenFault:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        return TokenFault.MALFORMED
    id, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in _ALGORITHMS:
        return TokenFault.ALGORITHM
    if not isinstance(id, str | None) or "crit" in header:  # RFC 7515 §4.1.11: what we must understand and do not
        return TokenFault.MALFORMED
    return id, algorithm


def _check_claims(claims: Mapping[str, Any], rules: TokenRules, now: float) -> str | TokenFault:
    """RFC 7519 section 4.1; RFC 8725 sections 3.8 and 3.9 for issuer and audience."""
    ends = _seconds(claims.get("exp"))
    if ends is None or now >= ends + LEEWAY_SECONDS:
        return TokenFault.EXPIRED
    for claim in ("nbf", "iat"):
        if claim in claims:
            begins = _seconds(claims[claim])
            if begins is None or begins > now + LEEWAY_SECONDS:
                return TokenFault.NOT_YET
    if claims.get("iss") != rules.issuer:
        return TokenFault.ISSUER
    audience = claims.get("aud")
    if audience != rules.audience and not (isinstance(audience, list) and rules.audience in audience):
        return TokenFault.AUDIENCE
    name = claims.get(rules.name_claim)
    if not isinstance(name, str) or not is_login(name):
        return TokenFault.NAME
    if rules.name_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
        return TokenFault.UNVERIFIED  # OpenID Connect Core section 5.1: people may have written what they like
    return name.lower() if "@" in name else name


def _seconds(value: object) -> float | None:
    """A NumericDate. JSON has numbers that are none, and some that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1 << 53:
        return None
    return float(value)
