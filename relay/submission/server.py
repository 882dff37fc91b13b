"""Listens for clients and gives each a session; stops without losing what is under way.

Certificates may be replaced while it runs (`tls`). Clear-text and implicit-TLS listeners differ in one thing only: when
the handshake comes. Half-made handshakes count as clients too, so that nobody can hold more of them than of sessions.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import ExitStack
from datetime import timedelta

from relay.events import ListenerStarted, SubmissionRefused
from relay.listen import BACKLOG, listening_socket
from relay.policy.clients import Peer
from relay.setting_types import Inherited
from relay.settings import HostPort, ListenerSettings, ListenerTls, Settings
from relay.submission import replies
from relay.submission.access import client_address
from relay.submission.auth import Authenticator
from relay.submission.conversation import Arrival
from relay.submission.front import Front
from relay.submission.receive import Receiver
from relay.submission.session import Session
from relay.submission.shared import Shared
from relay.submission.stream import HANDSHAKE_SECONDS, LINGER_SECONDS, handshake_fault

__all__ = ["Front", "SubmissionServer"]

_ACCEPT_AGAIN_SECONDS = 1.0
_NEED_CERTIFICATE = (ListenerTls.REQUIRED, ListenerTls.IMPLICIT)


class SubmissionServer:
    """All listeners of one relay."""

    def __init__(self, settings: Settings, hostname: str, front: Front) -> None:
        given = settings.submission
        authenticator = Authenticator(front.users, front.emit) if front.users is not None else None
        receiver = Receiver(hostname, given, front)
        self._listening = settings.listeners
        self._shared = Shared(given, settings.clients, hostname, front, receiver, front.tls, authenticator)
        self._bound: list[tuple[socket.socket, ListenerSettings]] = []
        self._servers: list[asyncio.Server] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def tls(self) -> ssl.SSLContext | None:
        """The context of the next handshake. Set it to bring in a new certificate."""
        return self._shared.tls

    @tls.setter
    def tls(self, context: ssl.SSLContext | None) -> None:
        self._shared.tls = context

    def bind(self) -> None:
        """Have all addresses; who connects waits for `start`.

        Raises OSError, which names the address, when one cannot be had, and ValueError when TLS is asked for without
        a certificate; then nothing listens.
        """
        if self._shared.tls is None and any(one.tls in _NEED_CERTIFICATE for one in self._listening):
            raise ValueError("a listener with TLS needs a certificate: set tls_certificate and tls_key")
        with ExitStack() as undo:
            for listener in self._listening:
                for address in listener.listen:
                    if isinstance(address, Inherited):
                        raise ValueError(f"{address}: systemd gave no socket of this name")
                    self._bound.append((undo.enter_context(listening_socket(address)), listener))
            undo.pop_all()

    async def start(self) -> tuple[HostPort, ...]:
        """Take clients. Returns the addresses really bound, in the order of the settings. After `bind`."""
        return tuple([await self._serve(sock, listener) for sock, listener in self._bound])

    async def stop(self, grace: timedelta) -> None:
        """Take no new clients, let messages under way end, for `grace` at most, then cut; wait for commits begun."""
        self._shared.stopping = True
        for server in self._servers:
            server.close()
        for sock, listener in self._bound:
            if listener.tls is ListenerTls.IMPLICIT and sock.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(sock)
            sock.close()
        unfinished = tuple(self._handshakes)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)
        sessions = tuple(self._shared.sessions)
        for session in sessions:
            session.leave_when_idle()
        if sessions:
            await asyncio.wait([session.lost for session in sessions], timeout=grace.total_seconds())
        for session in sessions:
            session.abort()
        if sessions:
            await asyncio.wait([session.lost for session in sessions], timeout=LINGER_SECONDS)
        await self._shared.receiver.drain()

    async def _serve(self, sock: socket.socket, listener: ListenerSettings) -> HostPort:
        loop = asyncio.get_running_loop()
        if listener.tls is ListenerTls.IMPLICIT:
            loop.add_reader(sock, self._accept, sock, listener)
        else:
            arrival = Arrival(listener)
            server = await loop.create_server(lambda: Session(self._shared, arrival), sock=sock, backlog=BACKLOG)
            self._servers.append(server)
        host, port = sock.getsockname()[:2]
        address = HostPort(host=host, port=port)
        kind = listener.tls if self._shared.tls is not None else ListenerTls.NONE
        self._shared.front.emit(ListenerStarted(str(address), kind.value))
        return address

    def _accept(self, sock: socket.socket, listener: ListenerSettings) -> None:
        """Take the clients that wait where TLS comes first, and shake hands with each in a task of its own.

        Not left to `create_server`, which would neither count half-made handshakes nor take a new certificate.
        """
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                client, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no more files to be had: clients wait in the backlog
                loop.remove_reader(sock)
                loop.call_later(_ACCEPT_AGAIN_SECONDS, self._accept_again, sock, listener)
                return
            client.setblocking(False)
            self._begin_handshake(client, Peer(client_address(address[0]), listener.name), listener)

    def _accept_again(self, sock: socket.socket, listener: ListenerSettings) -> None:
        if not self._shared.stopping:
            asyncio.get_running_loop().add_reader(sock, self._accept, sock, listener)

    def _begin_handshake(self, client: socket.socket, peer: Peer, listener: ListenerSettings) -> None:
        shared, ticket = self._shared, object()
        shared.handshakes.add(ticket)
        if shared.tls is None or shared.is_crowded(shared.clients.grant(peer) is not None):
            shared.handshakes.discard(ticket)
            client.close()  # never in clear text
            shared.front.emit(SubmissionRefused(str(peer.address), replies.TOO_MANY_CONNECTIONS.text, "connection"))
            return
        task = asyncio.create_task(self._shake_hands(client, Arrival(listener, peer.address, ticket), shared.tls))
        self._handshakes.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._handshakes.discard(task)
            shared.handshakes.discard(ticket)
            if task.cancelled():  # perhaps before it had begun
                client.close()

        task.add_done_callback(ended)

    async def _shake_hands(self, client: socket.socket, arrival: Arrival, context: ssl.SSLContext) -> None:
        shared = self._shared
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Session(shared, arrival),
                client,
                ssl=context,
                ssl_handshake_timeout=min(HANDSHAKE_SECONDS, shared.settings.timeout.total_seconds()),
                ssl_shutdown_timeout=LINGER_SECONDS,
            )
        except OSError as error:
            client.close()
            about = f"TLS handshake failed: {handshake_fault(error)}"
            shared.front.emit(SubmissionRefused(str(arrival.address), "connection closed", about))
