"""What makes it easy to sign in our place."""

from __future__ import annotations

from pathlib import Path

from relay.dkim_findings import weaknesses
from relay.finding import warn
from relay.signing.keys import Algorithm, SigningKey


def test_short_keys_and_files_that_others_can_read() -> None:
    keys = [
        SigningKey("a.test", selector, False, algorithm, bits, b"", bytes)
        for selector, algorithm, bits in (
            ("s", Algorithm.RSA_SHA256, 1024),
            ("t", Algorithm.RSA_SHA256, 2048),
            ("u", Algorithm.ED25519_SHA256, 256),
        )
    ]
    assert weaknesses(keys, [Path("/k.pem")]) == [
        warn(
            "dkim",
            "s._domainkey.a.test: an RSA key of 1024 bits, and some receivers take none below 2048",
            "make a new one with `relay dkim keygen`",
        ),
        warn("dkim", "every user of this machine can read /k.pem", "chmod o= /k.pem"),
    ]
    assert weaknesses(keys[1:], []) == []
