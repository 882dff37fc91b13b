"""Listens for clients and gives each a session; stops without losing what is under way.

Certificates may be replaced while it runs (`tls`). Listeners differ in one thing only: what comes before the session
(`entrance`).
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from datetime import timedelta

from relay.events import ListenerStarted
from relay.listen import BACKLOG, NOTHING_INHERITED, InheritedSockets, listening_socket
from relay.settings import HostPort, ListenerSettings, ListenerTls, Settings
from relay.submission.admission import Admission
from relay.submission.auth import Authenticator
from relay.submission.conversation import Arrival
from relay.submission.crowd import Crowd
from relay.submission.entrance import Entrance, is_needed
from relay.submission.failed_logins import FailedLogins
from relay.submission.front import Front
from relay.submission.intake import Intake
from relay.submission.receive import Receiver
from relay.submission.session import Session
from relay.submission.shared import Shared
from relay.submission.stream import LINGER_SECONDS
from relay.submission.wire import Wire
from relay.tls import ServerContexts

__all__ = ["Front", "SubmissionServer"]

_NEED_CERTIFICATE = (ListenerTls.REQUIRED, ListenerTls.IMPLICIT)


class SubmissionServer:
    """All listeners of one relay, and `intake` for what comes by other ways."""

    def __init__(self, settings: Settings, hostname: str, front: Front) -> None:
        given = settings.submission
        receiver = Receiver(hostname, given, front)
        admission = Admission(front, given.max_recipients)
        self.intake = Intake(settings.clients, admission, receiver, given.max_hold)
        self._listening = settings.listeners
        authenticator = _authenticator(settings, front)
        crowd = Crowd(given.max_connections, given.max_connections_per_address, given.connections_per_minute)
        self._shared = Shared(
            settings=given,
            clients=settings.clients,
            hostname=hostname,
            front=front,
            admission=admission,
            receiver=receiver,
            tls=front.tls,
            authenticator=authenticator,
            crowd=crowd,
            postmaster=settings.notices.postmaster,
        )
        self._bound: list[tuple[socket.socket, ListenerSettings]] = []
        self._servers: list[asyncio.Server] = []
        self._entrances: list[Entrance] = []

    @property
    def tls(self) -> ServerContexts | None:
        """The contexts of the next handshake. Set it to bring in a new certificate."""
        return self._shared.tls

    @tls.setter
    def tls(self, contexts: ServerContexts | None) -> None:
        self._shared.tls = contexts

    def bind(self, inherited: InheritedSockets = NOTHING_INHERITED) -> None:
        """Have all addresses; who connects waits for `start`. `inherited`: sockets by name, ours from now on.

        Raises OSError, which names the address, when one cannot be had, and ValueError when TLS is asked for without
        a certificate, or when systemd has not given what the settings name, or more; then nothing listens.
        """
        if self._shared.tls is None and any(one.tls in _NEED_CERTIFICATE for one in self._listening):
            raise ValueError("a listener with TLS needs a certificate: set tls_certificate and tls_key")
        left = dict(inherited)
        with ExitStack() as undo:
            for sock in (sock for sockets in inherited.values() for sock in sockets):
                undo.enter_context(sock)
            for listener in self._listening:
                for address in listener.listen:
                    if isinstance(address, HostPort):
                        self._bound.append((undo.enter_context(listening_socket(address)), listener))
                    elif address.name in left:
                        self._bound += [(sock, listener) for sock in left.pop(address.name)]
                    else:
                        raise ValueError(f"listener {listener.name}: systemd has given no socket {address.name}")
            if left:
                raise ValueError(f"systemd has given the socket {min(left)}, which no listener names")
            undo.pop_all()

    async def start(self) -> tuple[HostPort, ...]:
        """Take clients. Returns the addresses really bound, in the order of the settings. After `bind`."""
        addresses = tuple([await self._serve(sock, listener) for sock, listener in self._bound])
        self.intake.serving = True
        return addresses

    async def stop(self, grace: timedelta) -> None:
        """Take no new clients, let messages under way end, for `grace` at most, then cut; wait for commits begun."""
        self._shared.stopping = True
        self.intake.serving = False
        for server in self._servers:
            server.close()
        for entrance in self._entrances:
            await entrance.close()
        for sock, _ in self._bound:
            sock.close()
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
        if is_needed(listener):
            entrance = Entrance(self._shared, sock, listener)
            self._entrances.append(entrance)
            entrance.open()
        else:
            arrival = Arrival(listener)
            server = await loop.create_server(lambda: Wire(Session(self._shared, arrival)), sock=sock, backlog=BACKLOG)
            self._servers.append(server)
        host, port = sock.getsockname()[:2]
        address = HostPort(host=host, port=port)
        kind = listener.tls if self._shared.tls is not None else ListenerTls.NONE
        self._shared.front.emit(ListenerStarted(listener.name, str(address), kind.value))
        return address


def _authenticator(settings: Settings, front: Front) -> Authenticator | None:
    """None: nobody can log in."""
    by_certificate = front.tls is not None and front.tls.asking is not None
    if not (front.users or front.service or front.tokens or by_certificate):
        return None
    failed = FailedLogins(settings.submission.max_failed_logins)
    by_name = settings.clients.certificate_logins
    return Authenticator(front.users, front.service, front.tokens, by_name, failed, front.emit)
