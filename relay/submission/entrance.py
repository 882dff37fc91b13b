"""Takes the clients of a listener where something comes before the session: a proxy's header, TLS, or both.

Not left to `create_server`, which knows no header, would not count clients that have not come so far, and would not
take a new certificate. Who is half-way in counts as a client, so that nobody can hold more of these than of sessions.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

from relay.events import DefectFound
from relay.listen import BACKLOG
from relay.mail.status import Reply
from relay.policy.clients import Peer
from relay.settings import ListenerSettings, ListenerTls
from relay.submission.access import client_address
from relay.submission.conversation import Arrival
from relay.submission.crowd import Seat
from relay.submission.front import refused
from relay.submission.handshake import handshake_fault
from relay.submission.proxy import MAX_OCTETS, Header, Malformed, read_header
from relay.submission.session import Session
from relay.submission.shared import Shared
from relay.submission.stream import HANDSHAKE_SECONDS, LINGER_SECONDS
from relay.submission.wire import Wire

_ACCEPT_AGAIN_SECONDS = 1.0
_HEADER_SECONDS = 5.0  # a proxy sends it with its first segment; a lost one comes again within 3 s


def is_needed(listener: ListenerSettings) -> bool:
    """Whether the clients of this listener come through an entrance."""
    return listener.tls is ListenerTls.IMPLICIT or bool(listener.proxy_from)


class Entrance:
    """One socket of such a listener."""

    def __init__(self, shared: Shared, sock: socket.socket, listener: ListenerSettings) -> None:
        self._shared = shared
        self._sock = sock
        self._listener = listener
        self._half_way: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Let clients in from now on."""
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    async def close(self) -> None:
        """Let nobody in any more, and send away who is half-way in. The socket is the caller's to close."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
        unfinished = tuple(self._half_way)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                client, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # no more files to be had: clients wait in the backlog
                loop.remove_reader(self._sock)
                loop.call_later(_ACCEPT_AGAIN_SECONDS, self._accept_again)
                return
            client.setblocking(False)
            self._begin(client, Peer(client_address(address[0]), self._listener.name))

    def _accept_again(self) -> None:
        if not self._shared.stopping:
            self.open()

    def _begin(self, client: socket.socket, caller: Peer) -> None:
        """Give each client a task of its own, unless there are too many."""
        crowd = self._shared.crowd
        if caller.is_in(self._listener.proxy_from):
            # As one of those we trust: it is ours, and whom it brings is looked at when we know that.
            seat = crowd.enter(caller.address, True, asyncio.get_running_loop().time())
            if isinstance(seat, Reply):
                self._shared.turned_away(caller, seat.text)
                client.close()
                return
            work = self._behind_proxy(client, caller, seat)
        else:
            work = self._admit(client, caller)
        task = asyncio.create_task(work)
        self._half_way.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._half_way.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                self._shared.front.emit(DefectFound("entrance", repr(error)))
            if task.cancelled() or error is not None:  # perhaps before it had begun
                client.close()

        task.add_done_callback(ended)

    async def _behind_proxy(self, client: socket.socket, proxy: Peer, seat: Seat) -> None:
        """Read the header, then let in whom it names."""
        try:
            found = await self._header(client)
        except OSError as error:
            found = Malformed(f"no PROXY header: {error.strerror or 'connection lost'}")
        finally:
            self._shared.crowd.leave(seat)
        if isinstance(found, Header):
            await self._admit(client, client_of(found, proxy, self._listener))
            return
        client.close()
        if found is not None:
            self._shared.turned_away(proxy, found.problem)

    async def _header(self, client: socket.socket) -> Header | Malformed | None:
        """The header, off the wire, and not one octet of what follows. None: closed without a word, to see us live."""
        octets = b""
        seconds = min(_HEADER_SECONDS, self._shared.settings.timeout.total_seconds())
        try:
            async with asyncio.timeout(seconds):
                while True:
                    seen = await _peek(client)
                    if not seen:
                        return Malformed("PROXY header that ends in the middle") if octets else None
                    found = read_header(octets + seen)
                    if isinstance(found, Malformed):
                        return found
                    octets += client.recv(len(seen) if found is None else found.length - len(octets))
                    if found is not None:
                        return found
        except TimeoutError:
            return Malformed(f"no PROXY header within {seconds:g} s")

    async def _admit(self, client: socket.socket, peer: Peer) -> None:
        """Begin the session, after the handshake where TLS comes first."""
        if self._listener.tls is ListenerTls.IMPLICIT:
            await self._shake_hands(client, peer)
            return
        arrival = Arrival(self._listener, peer)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Wire(Session(self._shared, arrival)), client
            )
        except OSError:  # it has left
            client.close()

    async def _shake_hands(self, client: socket.socket, peer: Peer) -> None:
        shared, contexts = self._shared, self._shared.tls
        assert contexts is not None  # noqa: S101  (`bind` wants a certificate)
        seat = shared.enter(peer, shared.clients.grant(peer) is not None)
        if isinstance(seat, Reply):
            client.close()  # never a word in clear text
            return
        arrival = Arrival(self._listener, peer, seat)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Wire(Session(shared, arrival)),
                client,
                ssl=contexts.of(self._listener.ask_certificate),
                ssl_handshake_timeout=min(HANDSHAKE_SECONDS, shared.settings.timeout.total_seconds()),
                ssl_shutdown_timeout=LINGER_SECONDS,
            )
        except (OSError, ValueError) as error:
            shared.crowd.leave(seat)
            client.close()
            about = f"TLS handshake failed: {handshake_fault(error)}"
            shared.front.emit(refused(peer, "connection closed", about))
        except asyncio.CancelledError:
            shared.crowd.leave(seat)
            raise


def client_of(header: Header, proxy: Peer, listener: ListenerSettings) -> Peer:
    """The client of a header. An address of a proxy, told or not, proves nothing: anybody may stand behind it.

    So does loopback: that is the proxy's own machine, unless the proxy is on ours.
    """
    if header.client is None:
        return Peer(proxy.address, listener.name, known=False)
    client = Peer(header.client, listener.name)
    of_proxy = client.is_in(listener.proxy_from) or (client.on_this_machine and not proxy.on_this_machine)
    return replace(client, known=False) if of_proxy else client


async def _peek(client: socket.socket) -> bytes:
    """What has come, left where it is; empty when the other side has closed."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return client.recv(MAX_OCTETS, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            pass
        ready = loop.create_future()
        loop.add_reader(client, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(client)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
