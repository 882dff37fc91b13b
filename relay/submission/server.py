"""Listens for clients and gives each a session; stops without losing what is under way.

Certificates may be replaced while it runs (`tls`). Clear-text and implicit-TLS listeners differ in one thing only: when
the handshake comes. Both count a client from the moment it connects, so that half-made handshakes count too.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import ExitStack
from datetime import timedelta

from relay.events import ListenerStarted
from relay.settings import HostPort, SubmissionSettings
from relay.submission.auth import Authenticator
from relay.submission.front import Front
from relay.submission.receive import Receiver
from relay.submission.session import Session, Shared

__all__ = ["Front", "SubmissionServer"]

_BACKLOG = 1024


class SubmissionServer:
    """All listeners of one relay."""

    def __init__(self, settings: SubmissionSettings, hostname: str, front: Front) -> None:
        authenticator = Authenticator(front.users, front.emit) if front.users is not None else None
        receiver = Receiver(hostname, settings.max_message_size, front)
        self._shared = Shared(settings, hostname, front, receiver, front.tls, authenticator)
        self._listeners: list[asyncio.Server] = []

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context of the next handshake. Set it to bring in a new certificate."""
        return self._shared.tls

    @tls.setter
    def tls(self, context: ssl.SSLContext | None) -> None:
        self._shared.tls = context

    async def start(self) -> tuple[HostPort, ...]:
        """Listen. Returns the addresses really bound, `listen` before `listen_tls`.

        Raises OSError, which names the address, when one cannot be had, and ValueError when TLS is asked for without
        a certificate; then nothing listens.
        """
        settings = self._shared.settings
        if settings.listen_tls and self._shared.tls is None:
            raise ValueError("submission.listen_tls needs a certificate: set tls_certificate and tls_key")
        wanted = [(address, False) for address in settings.listen] + [
            (address, True) for address in settings.listen_tls
        ]
        bound: list[tuple[socket.socket, bool]] = []
        with ExitStack() as undo:
            for address, implicit in wanted:
                bound.append((undo.enter_context(_listening_socket(address)), implicit))
            undo.pop_all()
        return tuple([await self._serve(sock, implicit) for sock, implicit in bound])

    async def stop(self, grace: timedelta) -> None:
        """Take no new clients, let messages under way end, for `grace` at most, then cut; wait for commits begun."""
        for listener in self._listeners:
            listener.close()
        self._shared.stopping = True
        sessions = tuple(self._shared.sessions)
        for session in sessions:
            session.leave_when_idle()
        if sessions:
            await asyncio.wait([session.lost for session in sessions], timeout=grace.total_seconds())
        for session in sessions:
            session.abort()
        if sessions:
            await asyncio.wait([session.lost for session in sessions])
        await self._shared.receiver.drain()

    async def _serve(self, sock: socket.socket, implicit: bool) -> HostPort:
        def session() -> Session:
            return Session(self._shared, implicit)

        loop = asyncio.get_running_loop()
        self._listeners.append(await loop.create_server(session, sock=sock, backlog=_BACKLOG))
        host, port = sock.getsockname()[:2]
        address = HostPort(host=host, port=port)
        kind = "implicit" if implicit else "starttls" if self._shared.tls is not None else "none"
        self._shared.front.emit(ListenerStarted(str(address), kind))
        return address


def _listening_socket(address: HostPort) -> socket.socket:
    """A bound socket. The protocol is named because asyncio turns Nagle's algorithm off only where it says TCP."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((address.host, address.port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    return sock
