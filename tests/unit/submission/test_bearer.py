"""Access tokens: what is taken, and each way in which one may be no good. RFC 7519, RFC 8725."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_issuer import Issuer, coded, jwk, jwks, private_key, signed

from relay.submission.bearer import Key, TokenFault, TokenRules, check_token, key_id, parse_keys

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
ISSUER = Issuer()
RULES = TokenRules(ISSUER.name, ISSUER.audience, "email")
KINDS = ("RSA", "P-256", "P-384", "P-521", "Ed25519")


def keys_of(*shown: dict[str, Any]) -> tuple[Key, ...]:
    keys = parse_keys(jwks(*shown))
    assert keys is not None
    return keys


KEYS = keys_of(*(jwk(kind, kind) for kind in KINDS))


def check(token: str, keys: tuple[Key, ...] = KEYS) -> str | TokenFault:
    return check_token(token, keys, RULES, NOW)


ALGORITHMS = [(name, "RSA") for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")]
ALGORITHMS += [("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521"), ("EdDSA", "Ed25519")]


@pytest.mark.parametrize(("algorithm", "kind"), ALGORITHMS)
def test_each_algorithm_with_its_key_and_with_no_other(algorithm: str, kind: str) -> None:
    token = signed(ISSUER.claims(), kind, algorithm, kid=kind)
    assert check(token) == "alice@example.test"
    for other in KINDS:
        if other != kind:
            assert check(signed(ISSUER.claims(), kind, algorithm, kid=other)) is TokenFault.UNKNOWN_KEY
    head, body, signature = token.split(".")
    forged = coded(json.dumps(ISSUER.claims("boss@example.test")).encode())
    assert check(f"{head}.{forged}.{signature}") is TokenFault.SIGNATURE
    assert check(f"{head}.{body}.") is TokenFault.SIGNATURE


def forged_with(algorithm: str, secret: bytes) -> str:
    content = (
        f"{coded(json.dumps({'alg': algorithm, 'kid': 'RSA'}).encode())}.{coded(json.dumps(ISSUER.claims()).encode())}"
    )
    return f"{content}.{coded(hmac.digest(secret, content.encode(), hashlib.sha256)) if secret else ''}"


def public_pem() -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    return private_key("RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", ["HS256", "none", "None", "nOnE", "RS1", "", "ES256K", "Ed448"])
def test_algorithms_that_are_never_taken(algorithm: str) -> None:
    """The first is the oldest trick: the public key, which all know, as the secret of a MAC."""
    assert check(forged_with(algorithm, public_pem())) is TokenFault.ALGORITHM
    assert check(forged_with(algorithm, b"")) is TokenFault.ALGORITHM


@pytest.mark.parametrize("algorithm", [None, 1, [], {}, ["RS256"]])
def test_algorithms_that_are_no_names(algorithm: Any) -> None:
    token = signed(ISSUER.claims(), alg=algorithm, kid="RSA")
    assert check(token) in (TokenFault.ALGORITHM, TokenFault.MALFORMED)


CLAIMS: list[tuple[dict[str, Any], str | TokenFault]] = [
    ({}, "alice@example.test"),
    ({"login": "Alice@Example.TEST"}, "alice@example.test"),
    ({"login": "Alice"}, "Alice"),
    ({"login": "älice"}, "älice"),
    ({"exp": SECONDS + 1}, "alice@example.test"),
    ({"exp": SECONDS - 59}, "alice@example.test"),
    ({"exp": SECONDS - 60}, TokenFault.EXPIRED),
    ({"exp": SECONDS - 59.5}, "alice@example.test"),
    ({"exp": None}, TokenFault.EXPIRED),
    ({"exp": "4102444800"}, TokenFault.EXPIRED),
    ({"exp": True}, TokenFault.EXPIRED),
    ({"exp": [4102444800]}, TokenFault.EXPIRED),
    ({"exp": float("nan")}, TokenFault.EXPIRED),
    ({"exp": float("inf")}, TokenFault.EXPIRED),
    ({"exp": 10**400}, TokenFault.EXPIRED),
    ({"nbf": SECONDS + 60}, "alice@example.test"),
    ({"nbf": SECONDS + 61}, TokenFault.NOT_YET),
    ({"nbf": "x"}, TokenFault.NOT_YET),
    ({"nbf": float("nan")}, TokenFault.NOT_YET),
    ({"iat": SECONDS - 1}, "alice@example.test"),
    ({"iat": SECONDS + 61}, TokenFault.NOT_YET),
    ({"iss": None}, TokenFault.ISSUER),
    ({"iss": "https://id.example.test"}, TokenFault.ISSUER),
    ({"iss": [ISSUER.name]}, TokenFault.ISSUER),
    ({"aud": None}, TokenFault.AUDIENCE),
    ({"aud": "relay2"}, TokenFault.AUDIENCE),
    ({"aud": "xrelayx"}, TokenFault.AUDIENCE),
    ({"aud": []}, TokenFault.AUDIENCE),
    ({"aud": {"relay": 1}}, TokenFault.AUDIENCE),
    ({"aud": ["other", "relay"]}, "alice@example.test"),
    ({"email_verified": True}, "alice@example.test"),
    ({"email_verified": "true"}, "alice@example.test"),
    ({"email_verified": False}, TokenFault.UNVERIFIED),
    ({"email_verified": "false"}, TokenFault.UNVERIFIED),
    ({"email_verified": []}, TokenFault.UNVERIFIED),
    ({"login": None}, TokenFault.NAME),
    ({"login": ""}, TokenFault.NAME),
    ({"login": 7}, TokenFault.NAME),
    ({"login": ["alice@example.test"]}, TokenFault.NAME),
    ({"login": "alice@example.test\r\nx"}, TokenFault.NAME),
    ({"login": " alice"}, TokenFault.NAME),
    ({"login": "x" * 256}, TokenFault.NAME),
    ({"login": "\ud800"}, TokenFault.NAME),
]


@pytest.mark.parametrize(("changed", "expected"), CLAIMS)
def test_claims(changed: dict[str, Any], expected: str | TokenFault) -> None:
    assert check(signed(ISSUER.claims(**changed), "Ed25519", "EdDSA", kid="Ed25519")) == expected


MALFORMED = ["", ".", "..", "...", "a.b.c", "x" * 9000, "é.é.é", f"{coded(b'[' * 5000)}.x.x", f"{coded(b'[]')}.x.x"]


@pytest.mark.parametrize("token", MALFORMED, ids=range(len(MALFORMED)))
def test_no_tokens(token: str) -> None:
    assert check(token) is key_id(token) is TokenFault.MALFORMED


@pytest.mark.parametrize("body", [b"", b"[]", b"x", b"[" * 3000, b'"x"'], ids=range(5))
def test_signed_nonsense(body: bytes) -> None:
    assert check(signed(body, "Ed25519", "EdDSA", kid="Ed25519")) is TokenFault.MALFORMED


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"kid": 7}, {"kid": ["RSA"]}])
def test_heads_that_ask_for_more_than_is_understood(header: dict[str, Any]) -> None:
    assert check(signed(ISSUER.claims(), **{"kid": "RSA", **header})) is TokenFault.MALFORMED


@given(st.text(max_size=60))
def test_any_text_is_no_token(text: str) -> None:
    assert isinstance(check(text), TokenFault)


def test_a_token_that_names_no_key_needs_an_issuer_with_one() -> None:
    token = signed(ISSUER.claims(), kid=None)
    assert key_id(token) is None
    assert check(token, keys_of(jwk("RSA"))) == "alice@example.test"
    assert check(token, keys_of(jwk("RSA", None))) == "alice@example.test"
    assert check(token, keys_of(jwk("RSA"), jwk("P-256", "other"))) is TokenFault.UNKNOWN_KEY
    assert check(token, keys_of(jwk("P-256"))) is TokenFault.UNKNOWN_KEY
    assert check(signed(ISSUER.claims()), keys_of(jwk("RSA", "other"))) is TokenFault.UNKNOWN_KEY


USABLE = [
    (jwk("RSA"), True),
    (jwk("RSA", alg="RS256", use="sig", key_ops=["verify"], x5c=["..."]), True),
    (jwk("RSA", use="enc"), False),
    (jwk("RSA", key_ops=["encrypt"]), False),
    (jwk("RSA", d="AQAB"), False),
    (jwk("RSA-1024"), False),
    (jwk("RSA", n="!"), False),
    (jwk("RSA", kid=7), False),
    (jwk("RSA", alg=["RS256"]), False),
    (jwk("P-256", crv="P-384"), False),
    (jwk("P-256", x="AAAA"), False),
    (jwk("Ed25519", crv="X25519"), False),
    ({"kty": "oct", "kid": "key-1", "k": "c2VjcmV0"}, False),
    ({"kty": ["RSA"]}, False),
    ({"kty": "EC"}, False),
    ({}, False),
]


@pytest.mark.parametrize(("shown", "usable"), USABLE)
def test_keys(shown: dict[str, Any], usable: bool) -> None:
    assert len(keys_of(shown, jwk("P-256", "other"))) == 1 + usable


def test_a_key_for_one_algorithm_is_for_no_other() -> None:
    keys = keys_of(jwk("RSA", alg="PS256"))
    assert check(signed(ISSUER.claims(), algorithm="PS256"), keys) == "alice@example.test"
    assert check(signed(ISSUER.claims(), algorithm="RS256"), keys) is TokenFault.UNKNOWN_KEY


@pytest.mark.parametrize("octets", [b"", b"[]", b"{}", b'{"keys": {}}', b"\xff", b"[" * 100_000, b'{"keys": null}'])
def test_sets_that_are_none(octets: bytes) -> None:
    assert parse_keys(octets) is None


def test_a_set_has_no_more_than_a_hundred_keys() -> None:
    assert len(keys_of(*(jwk("Ed25519", str(number)) for number in range(120)))) == 100
