"""A TCP listener for the lab's servers that owns its connections: stopping it ends them all, and tells of our mistakes.

It knows nothing of what is spoken on the connections. A connection that the peer breaks off is no error here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable

from relay.settings import HostPort

_CLOSE_SECONDS = 5  # for the peer to take what is still to be sent, and to end TLS

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Accepts connections and runs `serve(reader, writer)` for each, in a task of its own.

    When `serve` returns, the connection is closed. What it raises on the peer's account (OSError, which TLS errors are,
    TimeoutError, or EOFError) ends the connection at once; any other exception does so too, and is raised by `stop`.
    """

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._mistakes: list[Exception] = []

    async def start(self, host: str, port: int) -> HostPort:
        """Listen on `host` and `port` (0: the kernel chooses one). Returns the address.

        Raises OSError when it cannot be had, RuntimeError when already started.
        """
        if self._server is not None:
            raise RuntimeError("already started")
        self._server = await asyncio.start_server(self._accept, host, port)
        bound = self._server.sockets[0].getsockname()
        return HostPort(host=bound[0], port=bound[1])

    async def stop(self) -> None:
        """Stop listening and end every connection. Raises ExceptionGroup if `serve` went wrong. Can be repeated."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        while self._connections:
            for connection in self._connections:
                connection.cancel()
            await asyncio.wait(self._connections)
        await server.wait_closed()
        mistakes, self._mistakes = self._mistakes, []
        if mistakes:
            raise ExceptionGroup("a lab server went wrong", mistakes)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._run(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
            writer.close()
            async with asyncio.timeout(_CLOSE_SECONDS):
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass  # the peer left, or was not in the mood for a proper end: that is what labs are for
        except Exception as mistake:  # noqa: BLE001  # kept, and raised by stop()
            self._mistakes.append(mistake)
        finally:
            writer.transport.abort()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST in place of FIN: SO_LINGER of no seconds makes the kernel do so."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
