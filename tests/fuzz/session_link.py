"""A client and its connection without a network: an asyncio transport in memory, and the client's end of TLS."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, cast

from session_model import Heard

_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])([\x20-\x7e]*)\r\n\Z")
_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3} [^ ]")
_TURNS = 300  # of the event loop, for an answer that needs no thread
_PATIENCE_SECONDS = 5.0


class Tls:
    """What a transport says of itself when TLS comes first; only these are ever asked for."""

    def version(self) -> str:
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        return "TLS_AES_256_GCM_SHA384", "TLSv1.3", 256

    def getpeercert(self) -> None:
        """The client has sent no certificate."""


class Link(asyncio.Transport):
    """The server's transport: what it writes is kept for the client. `peer`: the client's address."""

    _start_tls_compatible = True  # so says asyncio's own transport to loop.start_tls

    def __init__(self, peer: str, tls: bool) -> None:
        super().__init__(
            {"peername": (peer, 25000), "sockname": ("127.0.0.1", 25), "ssl_object": Tls() if tls else None}
        )
        self.written = bytearray()
        self.closed = False
        self._protocol: Any = None
        self._paused = False
        self._loop = asyncio.get_running_loop()

    def set_read_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """TLS holds nothing back here."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return cast("asyncio.BaseProtocol", self._protocol)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def _force_close(self, error: Exception | None) -> None:  # so asyncio's TLS ends a handshake that failed
        self.close()

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False

    async def deliver(self, octets: bytes) -> None:
        """The octets come in at the server, as fast as it takes them."""
        while octets:
            await until(lambda: not self._paused or self.closed, "the server to go on reading")
            if self.is_closing():
                return
            buffer = self._protocol.get_buffer(-1)
            count = min(len(buffer), len(octets))
            buffer[:count] = octets[:count]
            self._protocol.buffer_updated(count)
            octets = octets[count:]

    def half_close(self) -> None:
        """The client will say nothing more."""
        if not self.closed and not self._protocol.eof_received():
            self.close()


class Client:
    """What the client's program sees: octets out, replies in."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._heard = bytearray()
        self._secure: ssl.SSLObject | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    async def say(self, octets: bytes) -> None:
        """Say this, in one piece."""
        if self._secure is not None and octets:
            self._secure.write(octets)
            octets = self._outgoing.read()
        await self._link.deliver(octets)

    async def shake_hands(self, context: ssl.SSLContext) -> None:
        """STARTTLS, after its 220."""
        secure = context.wrap_bio(self._incoming, self._outgoing)
        while True:
            self._incoming.write(self._taken())
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                await self._link.deliver(self._outgoing.read())
                await until(lambda: bool(self._link.written) or self._link.closed, "the server's part of the handshake")
                assert not self._link.closed, "the server gives up the handshake"
            else:
                break
        self._secure = secure
        await self._link.deliver(self._outgoing.read())

    async def reply(self) -> Heard:
        """The next reply. Raises AssertionError when none comes, and when it is none."""
        lines: list[str] = []
        codes: set[bytes] = set()
        while True:
            await until(lambda: self._has_line() or self._link.closed, "a reply")
            assert self._has_line(), f"closed without a reply: {bytes(self._heard)!r}"
            end = self._heard.find(b"\n") + 1
            line = bytes(self._heard[:end])
            del self._heard[:end]
            found = _LINE.match(line)
            assert found is not None and len(line) <= 512, f"no line of a reply: {line!r}"
            codes.add(found[1])
            lines.append(found[3].decode())
            if found[2] == b" ":
                break
        assert len(codes) == 1, f"a reply with several codes: {codes}"
        return Heard(int(codes.pop()), tuple(lines))

    def rest(self) -> bytes:
        """What was said by the server and is no reply to anything yet."""
        self._has_line()
        return bytes(self._heard)

    def _has_line(self) -> bool:
        octets = self._taken()
        if self._secure is None:
            self._heard += octets
        else:
            self._incoming.write(octets)
            try:
                while piece := self._secure.read(1 << 16):
                    self._heard += piece
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass
        return b"\n" in self._heard

    def _taken(self) -> bytes:
        octets = bytes(self._link.written)
        self._link.written.clear()
        return octets


def check_enhanced(reply: Heard) -> None:
    """RFC 2034 section 4: a code of the same class, except in the greeting, after EHLO, 334 and 354."""
    for line in reply.lines:
        found = _ENHANCED.match(line)
        assert found is not None and found[1] == str(reply.code)[0], f"{reply}: no enhanced code, or another class"


async def until(true: Any, what: str) -> None:
    """Let the others work until it is so; not for long."""
    for _ in range(_TURNS):
        if true():
            return
        await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE_SECONDS
    while not true():
        assert loop.time() < end, f"waited too long for {what}"
        await asyncio.sleep(0.0005)
