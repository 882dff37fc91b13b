"""What both sides of SCRAM-SHA-256 have in common: text made ready, keys, and messages taken apart. Pure.

RFC 5802 and RFC 7677 (SCRAM), RFC 4013 (SASLprep). The client is in `delivery.sasl`, the server in `submission.scram`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import stringprep
import unicodedata
from dataclasses import dataclass, field

# RFC 7677 §4 asks servers for 4096 at least: with fewer, whoever listened finds the password sooner.
FEWEST_ROUNDS = 4096
MOST_ROUNDS = 10_000_000  # some seconds of a processor; who asks for more is broken, or means harm
_SPACES = stringprep.in_table_c12
_PROHIBITED = (  # RFC 4013 §2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # RFC 4013 §2.5: unassigned in Unicode 3.2
)


@dataclass(frozen=True, slots=True)
class Keys:
    """What a password comes to with a salt. RFC 5802 section 3: ClientKey and ServerKey."""

    client: bytes = field(repr=False)
    server: bytes = field(repr=False)

    @property
    def stored(self) -> bytes:
        """StoredKey: what a server keeps to know the client's proof by, which it is no proof itself."""
        return hashlib.sha256(self.client).digest()


def derive(password: str, salt: bytes, rounds: int) -> Keys:
    """The keys of a password that is `prepared`. It costs time: 20 ms for 65,536 rounds."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    return Keys(sign(salted, b"Client Key"), sign(salted, b"Server Key"))


def sign(key: bytes, message: bytes) -> bytes:
    """HMAC with SHA-256."""
    return hmac.digest(key, message, "sha256")


def mixed(one: bytes, other: bytes) -> bytes:
    """Exclusive or of two keys: makes a proof of ClientKey and ClientSignature, and ClientKey of a proof."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def attributes(message: bytes) -> list[tuple[str, str]]:
    """`r=...,s=...` taken apart. Raises ValueError, in words that go on from `a message of SCRAM that`."""
    try:
        parts = message.decode("utf-8").split(",")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    if any(part[1:2] != "=" for part in parts):
        raise ValueError("makes no sense")
    return [(part[0], part[2:]) for part in parts]


def octets(text: str) -> bytes:
    """base64, strictly. Raises ValueError."""
    return base64.b64decode(text.encode("ascii"), validate=True)  # UnicodeError and binascii.Error are ValueErrors


def escaped(name: str) -> str:
    """A name as an attribute carries it. RFC 5802 section 5.1."""
    return name.replace("=", "=3D").replace(",", "=2C")


def unescaped(text: str) -> str:
    """The name that an attribute carries. Raises ValueError for `=` before anything else."""
    name = text.replace("=2C", ",").replace("=3D", "\0")
    if "=" in name or "\0" in text:
        raise ValueError("a name with = in it that stands for nothing")
    return name.replace("\0", "=")


def prepared(text: str) -> str:
    """SASLprep. RFC 4013 section 2; stored strings, so nothing unassigned.

    Raises ValueError for what it forbids, in words that go on from the name of the thing.
    """
    mapped = "".join(" " if _SPACES(one) else one for one in text if not stringprep.in_table_b1(one))
    normal = unicodedata.normalize("NFKC", mapped)
    if not normal or any(prohibited(one) for one in normal for prohibited in _PROHIBITED):
        raise ValueError("has a character that SASLprep (RFC 4013) forbids")
    if any(map(stringprep.in_table_d1, normal)):  # RFC 3454 §6: from right to left all through, or not at all
        ends = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if not ends or any(map(stringprep.in_table_d2, normal)):
            raise ValueError("mixes directions (RFC 4013)")
    return normal
