"""What a client says to prove who it is: PLAIN, LOGIN, SCRAM-SHA-256 and XOAUTH2 as octets, before any base64. Pure.

`Mechanism.first` is the initial response, `answer` takes the challenges that follow one by one.

RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 5802 and RFC 7677 (SCRAM, with `relay.scram`). XOAUTH2 is
Google's and Microsoft's own: `user=NAME ^A auth=Bearer TOKEN ^A ^A`.
"""

from __future__ import annotations

import base64
import hmac
from typing import Protocol

from relay import scram


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
        self._password = _prepared(password, "password")
        self._nonce = nonce
        self._bare = f"n={scram.escaped(_prepared(user, 'name'))},r={nonce}".encode()
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
        keys = scram.derive(self._password, salt, rounds)
        final = b"c=" + base64.b64encode(self._HEADER) + b",r=" + nonce.encode()
        message = b",".join((self._bare, server_first, final))
        self._signature = scram.sign(keys.server, message)
        return final + b",p=" + base64.b64encode(scram.mixed(keys.client, scram.sign(keys.stored, message)))

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
    if not scram.FEWEST_ROUNDS <= int(rounds) <= scram.MOST_ROUNDS:
        accepted = f"{scram.FEWEST_ROUNDS} to {scram.MOST_ROUNDS} are accepted"
        raise SaslError(f"asks for {int(rounds)} rounds of SCRAM; {accepted}")
    octets = _octets(salt, "salt")
    if not octets:
        raise SaslError("sent no salt (SCRAM)")
    return nonce, octets, int(rounds)


def _attributes(text: bytes) -> list[tuple[str, str]]:
    try:
        return scram.attributes(text)
    except ValueError as error:
        raise SaslError(f"sent a message of SCRAM that {error}") from None


def _octets(text: str, what: str) -> bytes:
    try:
        return scram.octets(text)
    except ValueError:
        raise SaslError(f"sent a {what} (SCRAM) that is not base64") from None


def _prepared(text: str, what: str) -> str:
    try:
        return scram.prepared(text)
    except ValueError as error:
        raise SaslError(f"cannot be told the {what} by SCRAM: it {error}") from None
