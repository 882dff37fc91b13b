"""A raw SMTP server for one dialogue at a time: it says and reads exactly what a test writes down, octet for octet.

TLS runs in memory, so that a failed handshake sends its alert, which asyncio's own servers do not.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

PATIENCE_SECONDS = 10


class Peer:
    """The server's side of one connection. `heard` is all that came, decrypted where it came in TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = bytearray()
        self.sni: str | None = None
        self._reader = reader
        self._writer = writer
        self._unread = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._tls_ended = False  # the client has said goodbye, and waits for us to hang up
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    async def say(self, octets: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the client has hung up")
        if self._tls is None:
            self._writer.write(octets)
        else:
            self._tls.write(octets)
            self._writer.write(self._outgoing.read())
        await self._writer.drain()

    async def line(self) -> bytes:
        return await self._until(b"\r\n")

    async def body(self) -> bytes:
        """A message with its final dot."""
        while len(self._unread) < len(b".\r\n"):
            assert await self._fill(), "the client has hung up"
        if self._unread.startswith(b".\r\n"):
            return await self.line()
        return await self._until(b"\r\n.\r\n")

    async def chunk(self) -> bytes:
        """A BDAT command, and the octets that belong to it."""
        line = await self.line()
        assert line.startswith(b"BDAT "), line
        return await self.exactly(int(line.split()[1]))

    async def exactly(self, octets: int) -> bytes:
        while len(self._unread) < octets:
            assert await self._fill(), "the client has hung up"
        found = bytes(self._unread[:octets])
        del self._unread[:octets]
        return found

    async def some(self, octets: int) -> None:
        """At least so many octets."""
        while len(self._unread) < octets:
            assert await self._fill(), "the client has hung up"
        self._unread.clear()

    async def until_eof(self) -> None:
        """Everything that still comes."""
        with suppress(ConnectionError):
            while await self._fill():
                pass

    async def close(self) -> None:
        self._writer.close()

    async def reset(self) -> None:
        """Hang up with RST, and lose what is on the way."""
        found: socket.socket = self._writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The server's handshake. When it fails, the alert is sent and ssl.SSLError raised."""

        def remember(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            self.sni = name

        context.sni_callback = remember
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._writer.write(self._outgoing.read())
                octets = await self._reader.read(65536)
                if not octets:
                    raise ConnectionResetError("closed in the handshake") from None
                self._incoming.write(octets)
            except ssl.SSLError:
                self._writer.write(self._outgoing.read())
                await self._writer.drain()
                raise
            else:
                break
        self._writer.write(self._outgoing.read())
        await self._writer.drain()
        self._tls = tls
        ahead = self._decrypted(tls)  # what came in one piece with the end of the handshake
        self._unread += ahead
        self.heard += ahead

    def _decrypted(self, tls: ssl.SSLObject) -> bytes:
        octets = b""
        try:
            while piece := tls.read(65536):
                octets += piece
        except ssl.SSLWantReadError:
            return octets
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            pass
        self._tls_ended = True
        return octets

    async def _until(self, mark: bytes) -> bytes:
        searched = 0
        while (end := self._unread.find(mark, searched)) < 0:
            searched = max(0, len(self._unread) - len(mark))
            assert await self._fill(), f"the client has hung up after {bytes(self._unread)!r}"
        found = bytes(self._unread[: end + len(mark)])
        del self._unread[: end + len(mark)]
        return found

    async def _fill(self) -> bool:
        if self._tls_ended:
            return False
        octets = await self._reader.read(65536)
        if self._tls is not None:
            self._incoming.write(octets) if octets else self._incoming.write_eof()
            octets = self._decrypted(self._tls)
        elif not octets:
            return False
        self._unread += octets
        self.heard += octets
        return not (self._reader.at_eof() or self._tls_ended) or bool(octets)


Step = bytes | int | Callable[[Peer], Awaitable[object]]
"""What the server does next: say octets, read so many lines, or something else."""

BODY: Step = Peer.body
CHUNK: Step = Peer.chunk
CLOSE: Step = Peer.close
RESET: Step = Peer.reset
STALL: Step = Peer.until_eof


def octet_by_octet(octets: bytes) -> Step:
    """Say them one at a time, each in a segment of its own."""

    async def say(peer: Peer) -> None:
        for octet in octets:
            await peer.say(bytes([octet]))
            await asyncio.sleep(0)  # the other side reads in its turn

    return say


@dataclass
class Host:
    """A listening server. `peers`: one for each connection so far."""

    port: int
    peers: list[Peer] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def heard(self) -> bytes:
        return bytes(self.peers[-1].heard)

    async def over(self) -> None:
        """Wait until the connections are over. Raises what went wrong on the server's side."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*self.tasks)


@asynccontextmanager
async def host(*steps: Step) -> AsyncIterator[Host]:
    """A server that goes through `steps` on each connection, then reads until the client hangs up."""

    async def play(peer: Peer, writer: asyncio.StreamWriter) -> None:
        try:
            for step in steps:
                if isinstance(step, bytes):
                    await peer.say(step)
                elif isinstance(step, int):
                    for _ in range(step):
                        await peer.line()
                else:
                    await step(peer)
            if not writer.is_closing():
                await peer.until_eof()
        except ConnectionError:
            pass  # the client may hang up when it likes
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        found.peers.append(peer)
        found.tasks.append(asyncio.get_running_loop().create_task(play(peer, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found = Host(server.sockets[0].getsockname()[1])
    try:
        yield found
        await found.over()
    finally:
        server.close()
        for task in found.tasks:
            task.cancel()
        await asyncio.gather(*found.tasks, return_exceptions=True)
