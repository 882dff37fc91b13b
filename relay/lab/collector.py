"""HTTPS endpoints on loopback that take TLS reports, keep them, and answer as each is told to. RFC 8460 section 5.4.

Like all of the lab it must not be used outside.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from relay.lab.http import Request, phrase, read_request
from relay.lab.listener import Listener
from relay.lab.tls_stream import TlsStream
from relay.settings import HostPort


@dataclass(slots=True)
class Endpoint:
    """How one host answers: `statuses` to the first request, the second and so on, the last one from then on.

    `accepted` are the requests that were answered with 2xx, `refused` counts the others.
    """

    context: ssl.SSLContext
    statuses: tuple[int, ...] = (201,)
    accepted: list[Request] = field(default_factory=list)
    refused: int = 0


class Collector:
    """The server. The name that the client asks for in the handshake (SNI) chooses the endpoint and its certificate."""

    def __init__(self) -> None:
        self.endpoints: dict[str, Endpoint] = {}  # by host name; may be changed while it runs
        self._listener = Listener(self._serve)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.sni_callback = self._choose

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> HostPort:
        """Serve at `host` and `port` (0: the kernel chooses one). Returns the address. Raises OSError."""
        return await self._listener.start(host, port)

    async def stop(self) -> None:
        """Stop, and end all connections. Can be repeated."""
        await self._listener.stop()

    def _choose(self, tls: ssl.SSLObject, name: str | None, _base: ssl.SSLContext) -> int | None:
        """What OpenSSL calls during the handshake: an alert number, or None when all is well."""
        endpoint = self.endpoints.get((name or "").lower())
        if endpoint is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = endpoint.context
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = TlsStream(reader, writer, self._context)
        await tls.handshake()
        request = await read_request(tls)
        endpoint = self.endpoints.get(request.host)
        status = 421 if endpoint is None else _take(endpoint, request)
        head = f"HTTP/1.1 {status} {phrase(status)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        await tls.write(head.encode())


def _take(endpoint: Endpoint, request: Request) -> int:
    """Keep the request, or count it. Returns the status of the answer."""
    number = len(endpoint.accepted) + endpoint.refused
    status = endpoint.statuses[min(number, len(endpoint.statuses) - 1)]
    if 200 <= status <= 299:
        endpoint.accepted.append(request)
    else:
        endpoint.refused += 1
    return status
