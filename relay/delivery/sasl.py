"""What a client says to prove who it is: PLAIN, LOGIN, SCRAM-SHA-256 and XOAUTH2 as octets, before any base64. Pure.

`Mechanism.first` is the initial response, `answer` takes the challenges that follow one by one.

RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 5802 and RFC 7677 (SCRAM), RFC 4013 (SASLprep). XOAUTH2 is
Google's and Microsoft's own: `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Protocol

# RFC 7677 §4 asks servers for 4096 at least: with fewer, whoever listened finds the password sooner.
FEWEST_ROUNDS = 4096
MOST_ROUNDS = 10_000_000  # some seconds of a processor; a server that asks for more is broken, or means harm
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


class SaslError(ValueError):
    """The login cannot go on. The text goes on from the host's name: `asked for something unexpected`."""


class Mechanism(Protocol):
    """One login under way.

    `first` is None where the server speaks first. `complete`: a success that the server tells now may be believed.
    `words`: what the server said beside its replies, for the reader of a log.
    """

    name: str
    first: bytes | None
    words: str

    @property
    def complete(self) -> bool:
        """See the class."""

    def answer(self, challenge: bytes) -> bytes:
        """The response to a challenge. Raises SaslError, after which the login is to be given up."""


class Plain:
    """RFC 4616: no authorization identity, the name and the password, with NULs between."""

    name = "PLAIN"
    complete = True
    words = ""

    def __init__(self, user: str, password: str) -> None:
        self.first: bytes | None = b"\0".join((b"", user.encode(), password.encode()))

    def answer(self, challenge: bytes) -> bytes:
        """There is nothing more to say."""
        raise SaslError("asked for more than AUTH PLAIN has")


class Login:
    """The name, then the password, whatever the prompts say: servers word them as they like."""

    name = "LOGIN"
    first: bytes | None = None
    words = ""

    def __init__(self, user: str, password: str) -> None:
        self._left = [user.encode(), password.encode()]

    @property
    def complete(self) -> bool:
        """Whether the password has been said."""
        return not self._left

    def answer(self, challenge: bytes) -> bytes:
        """The name, then the password."""
        if not self._left:
            raise SaslError("asked for more than AUTH LOGIN has")
        return self._left.pop(0)


class XOAuth2:
    """A bearer token. A refusal comes as a challenge with JSON in it, to be answered with nothing."""

    name = "XOAUTH2"
    complete = True

    def __init__(self, user: str, token: str) -> None:
        self.first: bytes | None = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
        self.words = ""

    def answer(self, challenge: bytes) -> bytes:
        """Nothing: the reply that says no comes after it."""
        if not self.complete:
            raise SaslError("asked for more than AUTH XOAUTH2 has")
        self.complete = False
        text = challenge.decode("utf-8", "replace")
        self.words = "".join(character for character in text if character.isprintable())[:500]
        return b""


class ScramSha256:
    """RFC 5802 with SHA-256 (RFC 7677), without channel binding. The server proves that it knows the password, too.

    `nonce`: printable ASCII without a comma, which nobody can guess.
    """

    name = "SCRAM-SHA-256"
    words = ""
    _HEADER = b"n,,"  # RFC 5802 §6: this client has no channel binding, so `n`, not `y`

    def __init__(self, user: str, password: str, nonce: str) -> None:
        self._password = _prepared(password, "password").encode()
        self._nonce = nonce
        escaped = _prepared(user, "name").replace("=", "=3D").replace(",", "=2C")  # RFC 5802 §5.1
        self._bare = f"n={escaped},r={nonce}".encode()
        self._signature: bytes | None = None
        self.first: bytes | None = self._HEADER + self._bare
        self.complete = False

    def answer(self, challenge: bytes) -> bytes:
        """The client's proof, then, when the server has shown its own, nothing."""
        if self._signature is None:
            return self._proof(challenge)
        if self.complete:
            raise SaslError("asked for more than AUTH SCRAM-SHA-256 has")
        self._verify(self._signature, challenge)
        self.complete = True
        return b""

    def _proof(self, server_first: bytes) -> bytes:
        """RFC 5802 §3. It costs time: a few milliseconds for 4096 rounds."""
        nonce, salt, rounds = _parse_server_first(server_first, self._nonce)
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        client_key = _hmac(salted, b"Client Key")
        final = b"c=" + base64.b64encode(self._HEADER) + b",r=" + nonce.encode()
        message = b",".join((self._bare, server_first, final))
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), message)
        return final + b",p=" + base64.b64encode(proof)

    @staticmethod
    def _verify(signature: bytes, server_final: bytes) -> None:
        given = dict(_attributes(server_final))
        if "e" in given:
            raise SaslError(f"refused the login: {given['e']}")
        if not hmac.compare_digest(_octets(given.get("v", ""), "signature"), signature):
            raise SaslError("does not know the password itself: its signature (SCRAM) is wrong")


def _parse_server_first(text: bytes, own_nonce: str) -> tuple[str, bytes, int]:
    """Nonce, salt and number of rounds. RFC 5802 section 5.1: in this order, with extensions only after them."""
    attributes = _attributes(text)
    if [name for name, _ in attributes[:3]] != ["r", "s", "i"]:  # `m=`, an extension that we must know, comes first
        raise SaslError("sent a first message of SCRAM that makes no sense")
    nonce, salt, rounds = (value for _, value in attributes[:3])
    if not nonce.startswith(own_nonce) or nonce == own_nonce:
        raise SaslError("answered with a nonce (SCRAM) that is not made from ours")
    if not (rounds.isascii() and rounds.isdigit() and len(rounds) <= 10):
        raise SaslError("sent a first message of SCRAM that makes no sense")
    if not FEWEST_ROUNDS <= int(rounds) <= MOST_ROUNDS:
        raise SaslError(f"asks for {int(rounds)} rounds of SCRAM; {FEWEST_ROUNDS} to {MOST_ROUNDS} are accepted")
    octets = _octets(salt, "salt")
    if not octets:
        raise SaslError("sent no salt (SCRAM)")
    return nonce, octets, int(rounds)


def _attributes(text: bytes) -> list[tuple[str, str]]:
    try:
        parts = text.decode("utf-8").split(",")
    except UnicodeDecodeError:
        raise SaslError("sent a message of SCRAM that is not UTF-8") from None
    if any(part[1:2] != "=" for part in parts):
        raise SaslError("sent a message of SCRAM that makes no sense")
    return [(part[0], part[2:]) for part in parts]


def _octets(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise SaslError(f"sent a {what} (SCRAM) that is not base64") from None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _prepared(text: str, what: str) -> str:
    """SASLprep. RFC 4013 section 2; stored strings, so nothing unassigned."""
    mapped = "".join(" " if _SPACES(one) else one for one in text if not stringprep.in_table_b1(one))
    normal = unicodedata.normalize("NFKC", mapped)
    if not normal or any(prohibited(one) for one in normal for prohibited in _PROHIBITED):
        raise SaslError(f"cannot be told the {what} by SCRAM: it has a character that SASLprep (RFC 4013) forbids")
    if any(map(stringprep.in_table_d1, normal)):  # RFC 3454 §6: from right to left all through, or not at all
        ends = stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])
        if not ends or any(map(stringprep.in_table_d2, normal)):
            raise SaslError(f"cannot be told the {what} by SCRAM: it mixes directions (RFC 4013)")
    return normal
