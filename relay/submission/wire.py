"""What the event loop talks to in place of a `Stream`."""

from __future__ import annotations

import asyncio

from relay.submission.stream import Stream


class Wire(asyncio.BufferedProtocol):
    """What the event loop talks to: passes on what happens to the stream.

    The stream cannot do that itself: being aiosmtpd's it is an `asyncio.Protocol` too, and uvloop would then not ask
    where octets should land, but bring 128 KB of them, and of TLS 256 KB, also from a stranger.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio has it, like all that follow."""
        self._stream.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next octets land."""
        return self._stream.landing

    def buffer_updated(self, nbytes: int) -> None:
        """Octets have landed; nobody else gets the buffer before this is called."""
        self._stream.take(self._stream.landing[:nbytes])

    def eof_received(self) -> bool:
        """The client will send nothing more."""
        return self._stream.eof_received()

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._stream.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        self._stream.connection_lost(error)
