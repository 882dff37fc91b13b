"""Logs in at a next hop (AUTH), with the strongest mechanism that both sides have; never without proof of who it is.

What is secret is in no transcript, reason or log: neither what is sent, nor what a host echoes of it.
RFC 4954 (AUTH). The mechanisms are in `delivery.sasl`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from relay.delivery.credentials import Credentials
from relay.delivery.sasl import Login, Mechanism, Plain, SaslError, ScramSha256, XOAuth2
from relay.delivery.transaction import Lost, Stage
from relay.delivery.wire import Broken, Cause, Wire
from relay.mail.outcome import TlsUsed
from relay.mail.status import Reply
from relay.policy.verdict import Allow

_WORD = re.compile(r"[A-Za-z0-9+/=_-]{8,}")  # an echo that was cut short
_LONGEST_COMMAND = 512  # RFC 5321 §4.5.3.1.4, with CRLF


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """The host does not take the login. `reason` goes on from its name, `reply` is its answer, if it gave one."""

    reason: str
    reply: Reply | None = None


async def log_in(
    wire: Wire, keywords: Sequence[str], credentials: Credentials, allow: Allow, seconds: float
) -> LoginFailed | Lost | None:
    """Log in over `wire`; None when the host said yes. After anything else the session is to be closed.

    `keywords` are those of the host's EHLO inside TLS, `allow` is the verdict on this session, `seconds` the limit for
    each answer. Raises ValueError, before anything is sent, when `allow` does not say that the session proved who the
    host is: a password is shown to nobody else.
    """
    if allow.tls is not TlsUsed.VERIFIED or allow.proven_by is None or wire.ssl_object is None:
        raise ValueError("a login over a session that has not proven who the host is")
    try:
        mechanism = choose(offered(keywords), credentials)
        if mechanism is None:
            return LoginFailed(_nothing_in_common(offered(keywords), credentials))
        return await _Talk(wire, mechanism, credentials, seconds).run()
    except SaslError as error:
        return LoginFailed(str(error))


def offered(keywords: Sequence[str]) -> tuple[str, ...]:
    """The mechanisms in the answer to EHLO, in capitals. `AUTH=PLAIN` is how servers before RFC 2554 wrote it."""
    found: list[str] = []
    for keyword in keywords:
        words = keyword.upper().replace("AUTH=", "AUTH ", 1).split()
        if words[:1] == ["AUTH"]:
            found += words[1:]
    return tuple(dict.fromkeys(found))


def choose(mechanisms: Sequence[str], credentials: Credentials) -> Mechanism | None:
    """The strongest one that both have; None: there is none. Raises SaslError when it cannot take the password."""
    user, password, token = credentials.user, credentials.password, credentials.token
    if password is not None and ScramSha256.name in mechanisms:
        return ScramSha256(user, password, secrets.token_urlsafe(24))
    if token is not None and XOAuth2.name in mechanisms:
        return XOAuth2(user, token)
    if password is not None and Plain.name in mechanisms:
        return Plain(user, password)
    if password is not None and Login.name in mechanisms:
        return Login(user, password)
    return None


def _nothing_in_common(mechanisms: Sequence[str], credentials: Credentials) -> str:
    if not mechanisms:
        return "does not offer AUTH"
    usable = [XOAuth2.name] if credentials.token is not None else []
    usable += [ScramSha256.name, Plain.name, Login.name] if credentials.password is not None else []
    return f"offers AUTH with {', '.join(mechanisms)}, and this server has what {', '.join(usable)} needs"


class _Talk:
    """One AUTH dialogue."""

    def __init__(self, wire: Wire, mechanism: Mechanism, credentials: Credentials, seconds: float) -> None:
        self._wire = wire
        self._mechanism = mechanism
        self._user = credentials.user
        self._seconds = seconds
        self._hidden = [secret for secret in (credentials.password, credentials.token) if secret]

    async def run(self) -> LoginFailed | Lost | None:
        mechanism = self._mechanism
        reply = await self._begin()
        try:
            while isinstance(reply, Reply) and reply.code == 334:
                # In a thread, since SCRAM computes for a while.
                response = await asyncio.to_thread(mechanism.answer, _challenge(reply))
                reply = await self._ask("", _base64(response))
        except SaslError as error:
            await self._ask("", "*")  # RFC 4954 §4: the client gives up
            return LoginFailed(str(error))
        return self._result(reply)

    async def _begin(self) -> Reply | Broken:
        verb = f"AUTH {self._mechanism.name}"
        first = self._mechanism.first
        if first is None:
            return await self._ask(verb)
        response = _base64(first) or "="
        if len(verb) + 1 + len(response) + 2 <= _LONGEST_COMMAND:
            return await self._ask(verb + " ", response)
        # RFC 4954 §4: a response that makes the command too long is sent by itself.
        reply = await self._ask(verb)
        if isinstance(reply, Broken) or reply.code != 334:
            return reply
        return await self._ask("", response)

    async def _ask(self, verb: str, response: str = "") -> Reply | Broken:
        """Send a line whose `response` nobody is to see."""
        if len(response) > 1:
            self._hidden.append(response)
        self._wire.say(f"{verb}{response}\r\n".encode(), shown=f"{verb}{'...' if response else ''}\r\n".encode())
        reply = await self._wire.secret_reply(self._seconds)
        self._wire.note(self._shown(reply))
        return reply

    def _shown(self, reply: Reply | Broken) -> Reply | Broken:
        """What may be seen of it. Challenges are not: who has those of SCRAM can try passwords at leisure."""
        if isinstance(reply, Broken):  # what is no reply at all is quoted, and cut, in `words`: nothing to search in
            return reply if reply.cause in (Cause.SILENT, Cause.CLOSED) else replace(reply, words="")
        return replace(reply, lines=("...",) if reply.code == 334 else tuple(map(self._clean, reply.lines)))

    def _clean(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "...")
        return _WORD.sub(lambda found: "..." if any(found[0] in one for one in self._hidden) else found[0], text)

    def _result(self, reply: Reply | Broken) -> LoginFailed | Lost | None:
        shown = self._shown(reply)
        if isinstance(shown, Broken):
            return Lost(Stage.AUTH, shown.told(Stage.AUTH.value))
        if shown.code == 235:
            if self._mechanism.complete:
                return None
            return LoginFailed(f"said yes to {self._mechanism.name} before the login was over", shown)
        if shown.code < 400 or shown.code == 421:
            self._wire.abort()
            return Lost(Stage.AUTH, f'answered "{shown.text}" {Stage.AUTH.value}')
        words = f": {self._clean(self._mechanism.words)}" if self._mechanism.words else ""
        return LoginFailed(f"refused the login of {self._user} ({self._mechanism.name}){words}", shown)


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _challenge(reply: Reply) -> bytes:
    try:
        return base64.b64decode("".join(reply.lines).strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SaslError("sent a challenge that is not base64") from None
