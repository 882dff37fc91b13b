"""What a client says in each mechanism, taken apart, and the talk that gets it out of the client.

RFC 4954 section 4 (AUTH), RFC 4616 (PLAIN), draft-murchison-sasl-login-00 (LOGIN), RFC 7628 (OAUTHBEARER). XOAUTH2 is
Google's and Microsoft's own: `user=NAME ^A auth=Bearer TOKEN ^A ^A`. SCRAM is in `scram`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay import scram
from relay.mail.status import Reply
from relay.submission import replies

PLAIN, LOGIN, EXTERNAL = "PLAIN", "LOGIN", "EXTERNAL"
OAUTHBEARER, XOAUTH2 = "OAUTHBEARER", "XOAUTH2"
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)  # RFC 6750 §2.1
_PAIR = re.compile(r"([A-Za-z]+)=([\x20-\x7e\t\r\n]*)")  # RFC 7628 §3.1

Ask = Callable[[str], Awaitable[bytes | Reply]]  # sends a challenge (base64), returns the client's line or a refusal


class Talk:
    """One AUTH command. `initial` is what came with it, None when nothing did."""

    def __init__(self, initial: bytes | None, ask: Ask) -> None:
        self._initial = initial
        self._ask = ask

    async def first(self, challenge: bytes = b"") -> bytes | Reply:
        """The first response: the initial one, or the answer to `challenge`."""
        given, self._initial = self._initial, None
        if given is None:
            return await self.ask(challenge)
        return b"" if given == b"=" else _decoded(given)  # RFC 4954 §4: `=` is an empty initial response

    async def ask(self, challenge: bytes) -> bytes | Reply:
        """The answer to a challenge. RFC 4954 section 4: `*` gives up."""
        line = await self._ask(base64.b64encode(challenge).decode())
        return line if isinstance(line, Reply) else _decoded(line)


def _decoded(line: bytes) -> bytes | Reply:
    if line == b"*":
        return replies.LOGIN_CANCELLED
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        return replies.BAD_LOGIN_DATA


@dataclass(frozen=True, slots=True)
class Password:
    """What the client says it is, its password, and whom it wants to act for; empty: itself."""

    name: str
    password: str = field(repr=False)
    acting_for: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and who the client says it is; empty: whoever the token says."""

    name: str
    token: str = field(repr=False)


async def hear_plain(talk: Talk) -> Password | Reply:
    """RFC 4616: authorization identity, name and password in one response, with NULs between."""
    response = _text(await talk.first())
    if isinstance(response, Reply):
        return response
    parts = response.split("\0")
    if len(parts) != 3 or not parts[1]:
        return replies.BAD_LOGIN_DATA
    acting_for, name, password = parts
    return Password(name, password, acting_for)


async def hear_login(talk: Talk) -> Password | Reply:
    """Name, then password; some clients, Outlook among them, send the name at once."""
    name = _text(await talk.first(b"Username:"))
    if isinstance(name, Reply):
        return name
    password = _text(await talk.ask(b"Password:"))
    if isinstance(password, Reply):
        return password
    return Password(name, password)


async def hear_external(talk: Talk) -> str | Reply:
    """RFC 4422 appendix A: as whom the client wants to act; empty: as who it is."""
    return _text(await talk.first())


async def hear_oauthbearer(talk: Talk) -> Token | Reply:
    """RFC 7628 section 3.1: `n,a=name,`, then `key=value` pairs, each ended by ^A, then one ^A more."""
    response = _text(await talk.first())
    if isinstance(response, Reply):
        return response
    header, found, pairs = response.partition("\x01")
    binding, _, authorization = header.partition(",")
    if binding.startswith("p="):
        return replies.NO_CHANNEL_BINDING
    if not found or binding not in ("n", "y") or not authorization.endswith(","):
        return replies.BAD_LOGIN_DATA
    name = authorization[:-1]
    try:
        name = scram.unescaped(name.removeprefix("a=")) if name.startswith("a=") else name
    except ValueError:
        return replies.BAD_LOGIN_DATA
    if (name and not authorization.startswith("a=")) or "," in authorization[:-1]:
        return replies.BAD_LOGIN_DATA
    return _bearer(name, pairs)


async def hear_xoauth2(talk: Talk) -> Token | Reply:
    """`user=NAME ^A auth=Bearer TOKEN ^A ^A`, without the blanks."""
    response = _text(await talk.first())
    if isinstance(response, Reply):
        return response
    user, _, pairs = response.partition("\x01")
    if not user.startswith("user=") or not user.removeprefix("user="):
        return replies.BAD_LOGIN_DATA
    return _bearer(user.removeprefix("user="), pairs)


def token_refusal(mechanism: str) -> bytes:
    """The challenge that says no to a token; what the client answers is of no interest. RFC 7628 section 3.2.2."""
    if mechanism == OAUTHBEARER:
        return json.dumps({"status": "invalid_token"}, separators=(",", ":")).encode()
    return json.dumps({"status": "401", "schemes": "bearer"}, separators=(",", ":")).encode()


def _bearer(name: str, pairs: str) -> Token | Reply:
    if not pairs.endswith("\x01\x01"):
        return replies.BAD_LOGIN_DATA
    given: dict[str, str] = {}
    for pair in pairs[:-2].split("\x01"):
        found = _PAIR.fullmatch(pair)
        if found is None or found[1] in given:
            return replies.BAD_LOGIN_DATA
        given[found[1]] = found[2]
    token = _BEARER.fullmatch(given.get("auth", ""))
    return replies.BAD_LOGIN_DATA if token is None else Token(name, token[1])


def _text(response: bytes | Reply) -> str | Reply:
    if isinstance(response, Reply):
        return response
    try:
        return response.decode("utf-8")
    except UnicodeDecodeError:
        return replies.BAD_LOGIN_DATA
