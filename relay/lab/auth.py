"""How a lab host checks a login: PLAIN, LOGIN, SCRAM-SHA-256 and XOAUTH2, from the server's side.

It is written against RFC 4616, RFC 5802 and RFC 7677 alone, and shares nothing with the client in `delivery.sasl`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable, Mapping

_ROUNDS = 4096

Ask = Callable[[bytes], Awaitable[bytes]]  # sends a challenge, returns the response; raises ValueError for `*`


async def logged_in(mechanism: str, initial: str, users: Mapping[str, str], ask: Ask) -> str | None:
    """The name of the user, or None when the login is wrong. `initial`: what follows the mechanism's name."""
    try:
        first = decoded(initial) if initial else None
        match mechanism.upper():
            case "PLAIN":
                return _plain(await ask(b"") if first is None else first, users)
            case "LOGIN":
                name = await ask(b"Username:") if first is None else first
                return _known(name.decode(), await ask(b"Password:"), users)
            case "SCRAM-SHA-256":
                return await _scram(await ask(b"") if first is None else first, users, ask)
            case "XOAUTH2":
                return await _xoauth2(await ask(b"") if first is None else first, users, ask)
    except (ValueError, KeyError):
        pass
    return None


def decoded(line: str) -> bytes:
    """A response. RFC 4954 section 4: `=` is an empty one. Raises ValueError for `*` and what is not base64."""
    if line == "=":
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise ValueError(line) from None


def _known(name: str, secret: bytes, users: Mapping[str, str]) -> str | None:
    return name if name in users and hmac.compare_digest(users[name].encode(), secret) else None


def _plain(response: bytes, users: Mapping[str, str]) -> str | None:
    _acting_for, name, password = response.split(b"\0")
    return _known(name.decode(), password, users)


async def _xoauth2(response: bytes, users: Mapping[str, str], ask: Ask) -> str | None:
    user, bearer, *rest = response.split(b"\x01")
    name = user.removeprefix(b"user=").decode()
    if rest == [b"", b""] and _known(name, bearer.removeprefix(b"auth=Bearer "), users):
        return name
    await ask(b'{"status":"400","schemes":"Bearer","scope":"https://mail.example/"}')
    return None


async def _scram(client_first: bytes, users: Mapping[str, str], ask: Ask) -> str | None:
    """RFC 5802 section 5: what the server keeps is the stored key and the server key, not the password."""
    header, bare = client_first[:3], client_first[3:]
    user, nonce = bare.split(b",", 1)
    name = user.removeprefix(b"n=").decode().replace("=2C", ",").replace("=3D", "=")
    if header != b"n,,":
        return None
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", users[name].encode(), salt, _ROUNDS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    server_first = nonce + base64.b64encode(os.urandom(12)) + b",s=" + base64.b64encode(salt) + b",i=%d" % _ROUNDS
    client_final, _, proof = (await ask(server_first)).rpartition(b",p=")
    if client_final != b"c=biws," + server_first.split(b",")[0]:
        return None
    message = bare + b"," + server_first + b"," + client_final
    signature = hmac.digest(stored_key, message, "sha256")
    client_key = bytes(one ^ other for one, other in zip(decoded(proof.decode()), signature, strict=True))
    if hashlib.sha256(client_key).digest() != stored_key:
        return None
    await ask(b"v=" + base64.b64encode(hmac.digest(server_key, message, "sha256")))
    return name
