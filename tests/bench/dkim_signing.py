"""What a signature costs beside the raw operation of its key: CPU medians in microseconds.

    PYTHONPATH=. python tests/bench/dkim_signing.py

Raw: the private key over as many octets as the signature is over (for Ed25519 their SHA-256 too). Signature: the
message from its octets to the finished field, header, From and body hash included.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from relay.signing.keys import KeyTable, SigningKey, load_key
from relay.signing.signature import Signer
from relay.signing_settings import DkimKeySettings

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ROUNDS, CALLS = 41, 50
HEADER = b"""Received: from client.example.org (client.example.org [192.0.2.7])
\tby mail.example.org with ESMTPSA id 0abcdefghijkl (TLS1.3);
\tTue, 01 Jan 2030 00:00:00 +0000
Date: Tue, 01 Jan 2030 00:00:00 +0000
From: Example Shop <orders@example.org>
To: Somebody Else <somebody.else@example.net>
Subject: Your order 4711 is on its way, and this is a subject that is long
\tenough to be folded
Message-ID: <20300101000000.4711.0@shop.example.org>
Reply-To: service@example.org
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="=-=-=-1234567890"
Content-Transfer-Encoding: 7bit
List-Unsubscribe: <https://example.org/u/0123456789>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
X-Mailer: Shop 1.2.3
X-Campaign: 20300101
""".replace(b"\n", b"\r\n")
LINE = b"The quick brown fox jumps over the lazy dog, again and again and a.\r\n"


def message(size: int) -> bytes:
    """A usual message of about so many octets."""
    body = LINE * (1 + size // len(LINE))
    return (HEADER + b"\r\n" + body)[: size - 2] + b"\r\n"


def medians_us(*calls: Callable[[], object]) -> list[float]:
    """CPU of one of each of the calls, measured in turn: what slows the machine down slows all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, taken in zip(calls, times, strict=True):
            start = time.process_time_ns()
            for _ in range(CALLS):
                call()
            taken.append((time.process_time_ns() - start) / CALLS / 1000)
    return [statistics.median(taken) for taken in times]


def key_of(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, folder: str) -> SigningKey:
    """The key as the settings would load it."""
    path = Path(folder, "key.pem")
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(private.private_bytes(*pem))
    key = load_key(DkimKeySettings(domain="example.org", selector="relay1", key_file=path))
    if not isinstance(key, SigningKey):
        raise SystemExit(key.reason)
    return key


def octets_signed(key: SigningKey, octets: bytes) -> bytes:
    """What the private key gets to sign of this message."""
    seen = []

    def note(to_sign: bytes) -> bytes:
        seen.append(to_sign)
        return b"x" * 64

    sign(Signer(KeyTable([replace(key, sign=note)])), octets)
    return seen[0]


def sign(signer: Signer, octets: bytes) -> bytes:
    """The signature fields of a message in memory."""
    passing = signer.message()
    passing.feed(octets)
    return passing.end(NOW).fields


def compare(key: SigningKey) -> None:
    """Print one line for each size."""
    signer = Signer(KeyTable([key]))
    for size in (2_000, 5_000, 100_000):
        octets = message(size)
        raw, whole = medians_us(partial(key.sign, octets_signed(key, octets)), partial(sign, signer, octets))
        told = f"raw {raw:6.1f}  signature {whole:6.1f}  ratio {whole / raw:4.2f}"
        print(f"{key.algorithm.value:>14} {size // 1000:>4} KB  {told}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        compare(key_of(rsa.generate_private_key(public_exponent=65537, key_size=2048), folder))
        compare(key_of(ed25519.Ed25519PrivateKey.generate(), folder))
