"""How a session with an SMTP server comes up: connect, greeting, EHLO, and TLS when the host offers it.

It reports what it saw (`OpenSession.observed`, `FailedHandshake`) and never decides whether that is good enough. What
a host or the network does wrong is a value here.

RFC 5321 sections 3.1, 3.2 and 4.1.1.1, RFC 3207 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass, replace

from relay.delivery import handshake
from relay.delivery.capabilities import Capabilities
from relay.delivery.smtp import OpenSession
from relay.delivery.transaction import Stage, Timeouts
from relay.delivery.wire import Broken, Cause, Wire, wording
from relay.mail.status import Kind, Reply
from relay.policy.observed import HandshakeFailure, HandshakeProblem, ObservedSession, TlsSeen
from relay.policy.source import Source

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)
_PROBLEMS = {
    Cause.SILENT: HandshakeProblem.TIMEOUT,
    Cause.CLOSED: HandshakeProblem.RESET,
    Cause.NOT_SMTP: HandshakeProblem.OTHER,
    Cause.OUT_OF_TURN: HandshakeProblem.OTHER,
}


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call: `host` is the MX name, for logs; `address` is the IP address that is dialled."""

    host: str
    address: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        """Of which family the address is."""
        return ":" in self.address


@dataclass(frozen=True, slots=True)
class TlsPlan:
    """How to ask for TLS. `path_verified`: the context has CERT_REQUIRED, so OpenSSL verifies in the handshake."""

    context: ssl.SSLContext
    sni: str
    path_verified: bool


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """There is no session. `reason` goes on from the host's name; `reply` is what it said, if it said no itself."""

    stage: Stage
    reason: str
    reply: Reply | None = None
    ours: bool = False  # this machine is short of something; the host is not to blame
    dialogue: tuple[str, ...] = ()  # see Transcript.lines


@dataclass(frozen=True, slots=True)
class FailedHandshake:
    """STARTTLS was offered and failed; the connection is closed. `observed.handshake` says how."""

    observed: ObservedSession
    dialogue: tuple[str, ...] = ()  # see Transcript.lines


async def open_session(
    target: Target, plan: TlsPlan | None, source: Source, timeouts: Timeouts, dialled: socket.socket | None = None
) -> OpenSession | FailedHandshake | ConnectFailed:
    """Connect, greet, and go over to TLS when the host offers it; without a `plan`, STARTTLS is left alone.

    `dialled` is the connection to `target`, where it stands already; it is ours from here on. The name of `source` is
    what we say in EHLO: a host name or an address literal. Raises ValueError, before anything is sent, when it has
    control characters or is not ASCII.
    """
    if not source.hostname.isprintable() or not source.hostname.isascii():
        raise ValueError(f"not a name for EHLO: {source.hostname!r}")
    connected = dialled if dialled is not None else await dial(target, source, timeouts.connect_seconds)
    if isinstance(connected, ConnectFailed):
        return connected
    try:
        own_address = str(connected.getsockname()[0])
        _, wire = await asyncio.get_running_loop().create_connection(Wire, sock=connected)
    except BaseException:
        connected.close()
        raise
    opening = _Opening(wire, target, source.hostname.encode(), own_address, timeouts)
    try:
        opened = await opening.run(plan)
    except BaseException:
        wire.abort()
        raise
    if not isinstance(opened, OpenSession):
        wire.leave()
        return replace(opened, dialogue=wire.transcript.lines())
    return opened


async def dial(target: Target, source: Source, seconds: float) -> socket.socket | ConnectFailed:
    """A TCP connection to `target` from the address of `source`, on which nothing has been said.

    From an address that this machine does not have nothing is sent, and from no other in its place.
    """
    try:
        connection = socket.socket(socket.AF_INET6 if target.is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        return ConnectFailed(Stage.CONNECT, wording(error), ours=error.errno in _SHORTAGES)
    try:
        failed = await _connect(connection, target, source, seconds)
    except BaseException:
        connection.close()
        raise
    if failed is None:
        return connection
    connection.close()
    return failed


async def _connect(connection: socket.socket, target: Target, source: Source, seconds: float) -> ConnectFailed | None:
    connection.setblocking(False)
    own = source.address(target.address)
    try:
        if own:
            connection.bind((own, 0))
    except OSError as error:
        reason = f"cannot send from {own} ({source.setting(target.address)}): {wording(error)}"
        return ConnectFailed(Stage.CONNECT, reason, ours=True)
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(connection, (target.address, target.port))
    except TimeoutError as error:
        reason = wording(error) if error.errno is not None else f"no connection within {seconds:g} seconds"
        return ConnectFailed(Stage.CONNECT, reason)
    except OSError as error:
        return ConnectFailed(Stage.CONNECT, wording(error), ours=error.errno in _SHORTAGES)
    return None


class _Opening:
    """A session on its way to MAIL."""

    def __init__(self, wire: Wire, target: Target, ehlo_name: bytes, own_address: str, timeouts: Timeouts) -> None:
        self._wire = wire
        self._target = target
        self._ehlo_name = ehlo_name
        self._own_address = own_address
        self._timeouts = timeouts

    async def run(self, plan: TlsPlan | None) -> OpenSession | FailedHandshake | ConnectFailed:
        refusal = await self._greeting()
        if refusal is not None:
            return refusal
        capabilities = await self._hello()
        if isinstance(capabilities, ConnectFailed):
            return capabilities
        if plan is None or not capabilities.starttls:
            return self._opened(capabilities, capabilities.starttls, None)
        tls = await self._start_tls(plan)
        if isinstance(tls, HandshakeFailure):
            return self._failed(tls, capabilities)
        # RFC 3207 §4.2: what was learned in clear text is forgotten; EHLO is asked again.
        protected = await self._hello()
        if isinstance(protected, ConnectFailed):
            # With TLS 1.3 the host's refusal of the handshake comes after we have finished ours.
            if isinstance(self._wire.error, ssl.SSLError):
                return self._failed(handshake.failure(self._wire.error), capabilities)
            return protected
        return self._opened(protected, True, tls)

    async def _greeting(self) -> ConnectFailed | None:
        reply = await self._wire.reply(self._timeouts.greeting_seconds)
        if isinstance(reply, Broken):
            return ConnectFailed(Stage.GREETING, reply.told(Stage.GREETING.value))
        if reply.code != 220:  # RFC 5321 §3.1
            return _refused(Stage.GREETING, "refused the session in its greeting", reply)
        return None

    async def _hello(self) -> Capabilities | ConnectFailed:
        reply = await self._ask(b"EHLO")
        if isinstance(reply, Reply) and reply.status.kind is Kind.PERMANENT:
            # RFC 5321 §3.2: a server that does not know EHLO is asked with HELO, and has no extensions.
            helo = await self._ask(b"HELO")
            if isinstance(helo, Broken):
                return _refused(Stage.EHLO, "refused EHLO", reply)
            return (
                Capabilities.of_helo(helo) if helo.code < 300 else _refused(Stage.EHLO, "refused EHLO and HELO", helo)
            )
        if isinstance(reply, Broken):
            return ConnectFailed(Stage.EHLO, reply.told(Stage.EHLO.value))
        if reply.code >= 300:
            return _refused(Stage.EHLO, "refused EHLO", reply)
        return Capabilities.of(reply)

    async def _ask(self, verb: bytes) -> Reply | Broken:
        self._wire.say(verb + b" " + self._ehlo_name + b"\r\n")
        return await self._wire.reply(self._timeouts.ehlo_seconds)

    async def _start_tls(self, plan: TlsPlan) -> TlsSeen | HandshakeFailure:
        """STARTTLS and the handshake. Whatever goes wrong here is a failed handshake: TLS is not to be had."""
        self._wire.say(b"STARTTLS\r\n")
        reply = await self._wire.reply(self._timeouts.starttls_seconds)
        if isinstance(reply, Broken):
            return HandshakeFailure(_PROBLEMS[reply.cause], reply.told(Stage.STARTTLS.value))
        if reply.code != 220:
            later = reply.status.kind is Kind.TEMPORARY
            return HandshakeFailure(HandshakeProblem.DEFERRED if later else HandshakeProblem.REFUSED, reply.text)
        if self._wire.unread:  # nothing may be awaited between here and start_tls
            # RFC 3207 §4.2 and CVE-2011-0411: these octets would be taken for the beginning of the protected session.
            return HandshakeFailure(HandshakeProblem.INJECTED, self._wire.unread_words)
        return await self._handshake(plan)

    async def _handshake(self, plan: TlsPlan) -> TlsSeen | HandshakeFailure:
        sni = plan.sni.rstrip(".")  # RFC 6066 §3: without the final dot
        try:
            await self._wire.shake_hands(plan.context, sni, self._timeouts.handshake_seconds)
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one (UnicodeError among them)
            return handshake.failure(error)
        tls = self._wire.ssl_object
        if tls is None:
            return HandshakeFailure(HandshakeProblem.OTHER, "there is no TLS session")
        found = handshake.seen(tls, plan.path_verified)
        self._wire.transcript.happened(f"{found.version}, {found.cipher}, SNI {sni}")
        return found

    def _opened(self, capabilities: Capabilities, starttls: bool, tls: TlsSeen | None) -> OpenSession:
        observed = ObservedSession(
            host=self._target.host,
            address=self._target.address,
            starttls_offered=starttls,
            requiretls_offered=capabilities.requiretls,
            tls=tls,
            helo=capabilities.name,
            source=self._own_address,
        )
        return OpenSession(self._wire, observed, capabilities, self._timeouts)

    def _failed(self, failure: HandshakeFailure, capabilities: Capabilities) -> FailedHandshake:
        self._wire.transcript.happened(f"no TLS: {failure.problem.value}: {failure.detail}")
        observed = ObservedSession(
            host=self._target.host,
            address=self._target.address,
            starttls_offered=True,
            handshake=failure,
            helo=capabilities.name,
            source=self._own_address,
        )
        return FailedHandshake(observed)


def _refused(stage: Stage, reason: str, reply: Reply) -> ConnectFailed:
    if reply.code < 400:
        return ConnectFailed(stage, f'answered "{reply.text}" {stage.value}')
    return ConnectFailed(stage, reason, reply)
