"""TLS for a lab server, over streams, by OpenSSL alone.

asyncio's own server side drops the connection when a handshake fails; real servers send the alert that says why, and
what a client makes of it is what the lab is for.
"""

from __future__ import annotations

import asyncio
import ssl

_CHUNK = 1 << 16


class TlsStream:
    """The server's end of a TLS session. Nothing may read from `reader` or write to `writer` beside it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader = reader
        self._writer = writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Shake hands. Raises ssl.SSLError when it fails, after the alert was sent."""
        while True:
            try:
                self.session.do_handshake()
                return
            except ssl.SSLWantReadError:
                await self._feed()
            finally:
                await self._flush()

    async def read(self) -> bytes:
        """Whatever has come; nothing at the end, proper or not."""
        while True:
            try:
                return self.session.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def write(self, octets: bytes) -> None:
        """Send."""
        self.session.write(octets)
        await self._flush()

    async def _feed(self) -> None:
        await self._flush()
        octets = await self._reader.read(_CHUNK)
        if octets:
            self._incoming.write(octets)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        octets = self._outgoing.read()
        if octets:
            self._writer.write(octets)
            await self._writer.drain()
