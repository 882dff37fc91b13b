"""The server's side of SCRAM-SHA-256, without channel binding: messages in, messages out. Pure.

RFC 5802 sections 3, 5 and 7, RFC 7677. What it keeps of a password is written as PostgreSQL writes it:
`SCRAM-SHA-256$rounds:salt$StoredKey:ServerKey`, in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass, field

from relay import scram
from relay.mail.status import Reply
from relay.submission import replies

NAME = "SCRAM-SHA-256"
# Who gets hold of the file goes for the weaker of the two hashes in it, so: as many as clients take. Cyrus SASL, which
# Postfix logs in with, calls more than 0x10000 too big and tries nothing else.
ROUNDS = 0x10000
SALT_OCTETS = 16
_MAX_NONCE = 128  # a client's: with ours and the salt it must fit into a reply
_NONCE = re.compile(r"[!-+\--~]+")  # RFC 5802 §7: printable ASCII without a comma
_VERIFIER = re.compile(r"SCRAM-SHA-256\$([1-9][0-9]{3,7}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_MAX_SALT = 64


@dataclass(frozen=True, slots=True)
class Verifier:
    """What is kept of a password: enough to know whoever has it, too little to pass for them."""

    rounds: int
    salt: bytes
    stored: bytes = field(repr=False)
    server: bytes = field(repr=False)

    def __str__(self) -> str:
        salt, stored, server = (base64.b64encode(one).decode() for one in (self.salt, self.stored, self.server))
        return f"{NAME}${self.rounds}:{salt}${stored}:{server}"


def make_verifier(password: str, salt: bytes, rounds: int = ROUNDS) -> Verifier:
    """That of a new password. Raises ValueError for one that SASLprep forbids: clients could not use it."""
    keys = scram.derive(scram.prepared(password), salt, rounds)
    return Verifier(rounds, salt, keys.stored, keys.server)


def parse_verifier(text: str) -> Verifier:
    """What `str` of one has written. Raises ValueError, which repeats nothing of it."""
    found = _VERIFIER.fullmatch(text)
    if found is None:
        raise ValueError("is not of the form SCRAM-SHA-256$rounds:salt$key:key")
    try:
        salt, stored, server = map(scram.octets, found.groups()[1:])
    except ValueError:
        raise ValueError("has a key that is not base64") from None
    rounds = int(found[1])
    if not scram.FEWEST_ROUNDS <= rounds <= scram.MOST_ROUNDS:
        raise ValueError(f"has {rounds} rounds; {scram.FEWEST_ROUNDS} to {scram.MOST_ROUNDS} can be used")
    if len(salt) > _MAX_SALT or len(stored) != 32 or len(server) != 32:
        raise ValueError("has a key that is not of SHA-256, or too long a salt")
    return Verifier(rounds, salt, stored, server)


def nobodys_verifier(name: str, secret: bytes, usual: tuple[int, int] | None) -> Verifier:
    """For a name that nobody has: always the same, and no proof fits it. `usual`: rounds, and octets of the salt.

    `secret` must outlive restarts, or the salt would tell. RFC 5802 section 9 has no word on this; whoever asks for a
    name's salt must not learn whether there is a user of that name.
    """
    rounds, octets = (ROUNDS, SALT_OCTETS) if usual is None else usual
    made = [scram.sign(secret, f"{what}\0{name}".encode()) for what in ("salt", "more salt", "stored", "server")]
    return Verifier(rounds, (made[0] + made[1])[:octets], made[2], made[3])


@dataclass(frozen=True, slots=True)
class First:
    """The client's first message: whom it wants to be (and act for), and what of it the proof is about."""

    name: str
    acting_for: str
    nonce: str
    header: bytes
    bare: bytes


def parse_first(message: bytes) -> First | Reply:
    """`n,,n=user,r=nonce`. RFC 5802 section 7; unknown extensions at the end are passed over."""
    parts = message.split(b",", 2)
    if len(parts) != 3:
        return replies.BAD_LOGIN_DATA
    binding, authorization, bare = parts
    if binding.startswith(b"p="):
        return replies.NO_CHANNEL_BINDING
    if binding not in (b"n", b"y"):  # y: the client has it and thinks that we have not, and so it is
        return replies.BAD_LOGIN_DATA
    try:
        acting_for = _name(authorization, "a") if authorization else ""
        given = scram.attributes(bare)
        if [key for key, _ in given[:2]] != ["n", "r"]:  # `m=`, an extension that we must know, comes first
            return replies.BAD_LOGIN_DATA
        name, nonce = scram.unescaped(given[0][1]), given[1][1]
    except ValueError:
        return replies.BAD_LOGIN_DATA
    if not name or _NONCE.fullmatch(nonce) is None or len(nonce) > _MAX_NONCE:
        return replies.BAD_LOGIN_DATA
    return First(_normal(name), _normal(acting_for), nonce, binding + b"," + authorization + b",", bare)


def server_first(first: First, verifier: Verifier, nonce: str) -> bytes:
    """Our challenge. `nonce` is ours: printable ASCII without a comma, which nobody can guess."""
    salt = base64.b64encode(verifier.salt).decode()
    return f"r={first.nonce}{nonce},s={salt},i={verifier.rounds}".encode()


def judge(first: First, challenge: bytes, verifier: Verifier, final: bytes) -> bytes | Reply:
    """The client's proof against what we keep. Our own proof comes back, or why it is not taken."""
    message, found, coded = final.rpartition(b",p=")
    try:
        given = dict(scram.attributes(message))
        proof = scram.octets(coded.decode("ascii"))
        binding = scram.octets(given.get("c", ""))
    except ValueError:
        return replies.BAD_LOGIN_DATA
    nonce = challenge[2:].partition(b",")[0].decode()
    in_order = message.startswith(b"c=") and list(given)[1:2] == ["r"]
    if not found or not in_order or given["r"] != nonce or binding != first.header or len(proof) != 32:
        return replies.BAD_LOGIN_DATA
    about = b",".join((first.bare, challenge, message))
    client_key = scram.mixed(proof, scram.sign(verifier.stored, about))
    if not hmac.compare_digest(hashlib.sha256(client_key).digest(), verifier.stored):
        return replies.LOGIN_REFUSED
    return b"v=" + base64.b64encode(scram.sign(verifier.server, about))


def _name(attribute: bytes, key: str) -> str:
    given = scram.attributes(attribute)
    if len(given) != 1 or given[0][0] != key:
        raise ValueError("another attribute")
    return scram.unescaped(given[0][1])


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)
