"""What is said of keys, whatever DNS has of them."""

from __future__ import annotations

from relay.dkim_findings import any_author, short
from relay.finding import warn
from relay.settings import Settings
from relay.signing.keys import Algorithm, SigningKey


def test_short_keys() -> None:
    keys = [
        SigningKey("a.test", selector, False, algorithm, bits, b"", bytes)
        for selector, algorithm, bits in (
            ("s", Algorithm.RSA_SHA256, 1024),
            ("t", Algorithm.RSA_SHA256, 2048),
            ("u", Algorithm.ED25519_SHA256, 256),
        )
    ]
    assert short(keys) == [
        warn(
            "dkim",
            "s._domainkey.a.test: an RSA key of 1024 bits, and some receivers take none below 2048",
            "make a new one with `relay dkim keygen`",
        ),
    ]


def test_clients_whose_from_nobody_looks_at() -> None:
    keys = [
        SigningKey(domain, "s", False, Algorithm.ED25519_SHA256, 256, b"", bytes) for domain in ("a.test", "b.test")
    ]
    senders: dict[str, dict[str, list[str]]] = {
        "one": {"senders": ["a.test"]},
        "two": {"senders": ["{user}@a.test", "b.test"]},
        "all": {"senders": ["a.test", "b.test"]},
        "any": {"senders": ["*"]},
        "unsaid": {},
        "held": {"senders": ["a.test"], "header_from": ["a.test"]},
    }
    tables = [{"name": name, "users": [name], **given} for name, given in senders.items()]
    remedy = "give it header_from, as it has senders"
    assert any_author(Settings.model_validate({"client": tables}).client, keys) == [
        warn("dkim", "the client one may name anyone in From, and is signed for as b.test", remedy),
        warn("dkim", "the client two may name anyone in From, and is signed for as a.test", remedy),
    ]
    assert any_author(Settings.model_validate({"client": tables}).client, []) == []
