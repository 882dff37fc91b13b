"""What is said of keys, whatever DNS has of them."""

from __future__ import annotations

from relay.dkim_findings import short
from relay.finding import warn
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
