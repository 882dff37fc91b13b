"""One connection to an SMTP server: octets out with flow control, replies in, in order, each wait with its limit.

It knows replies but no commands, and decides nothing. After the first thing that goes wrong (see `Cause`) the
connection is dead; replies that came before are still given out.

RFC 5321 section 4.5.3.2 (a limit for each wait), RFC 3207 section 4 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from enum import Enum, auto
from typing import cast

from aiosmtplib.protocol import SMTPProtocol

from relay.delivery.replies import ReplyError, ReplyReader
from relay.delivery.transcript import Transcript
from relay.mail.status import Reply

_INPUT_OCTETS = 4096  # of one read; a large answer takes several
_MAX_UNREAD_OCTETS = 1024 * 1024  # answers to hundreds of pipelined commands fit many times over


class Cause(Enum):
    """Why a connection is of no use any more."""

    SILENT = auto()
    CLOSED = auto()
    NOT_SMTP = auto()
    OUT_OF_TURN = auto()


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection is of no use any more. `fault` goes on from the host's name: `closed the connection`."""

    cause: Cause
    fault: str
    words: str = ""  # what it sent, or the system's error: for the reader of a log
    reply: Reply | None = None  # the reply that came out of turn

    def told(self, when: str = "") -> str:
        """The fault with its moment (`after EHLO`), if it is given, and details."""
        fault = f"{self.fault} {when}".rstrip()
        return f"{fault}: {self.words}" if self.words else fault


class Wire(SMTPProtocol, asyncio.BufferedProtocol):
    """See the module. Made by `asyncio`'s `create_connection`; has a transport from then on.

    aiosmtplib's protocol gives the connection: its life cycle, its state and writing. How replies are read and waited
    for is our own: aiosmtplib drops what it did not ask for one at a time, which pipelining does, and forgets the
    replies that came before a connection was lost. `execute_command`, `read_response`, `start_tls` and
    `execute_data_command` of the base class are not for use.

    asyncio reads into the buffer of a BufferedProtocol, which halves the cost of a small message: without, each read
    allocates and frees 256 KiB. uvloop reads in its own way and calls `data_received`.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop)
        self.transcript = Transcript(loop.time)
        self._input = memoryview(bytearray(_INPUT_OCTETS))
        self._replies = ReplyReader()
        self._waiter: asyncio.Future[bool] | None = None
        self._broken: Broken | None = None
        self.blocked = False  # the transport has more to send than it likes
        self.error: Exception | None = None  # what the system or OpenSSL said when the connection was lost

    # What the event loop calls.

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put what is received."""
        return self._input

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was put there."""
        self.data_received(self._input[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        """Take what was received."""
        self._replies.feed(data)
        if self._replies.unread > _MAX_UNREAD_OCTETS:
            self._break(Broken(Cause.NOT_SMTP, f"sent more than {_MAX_UNREAD_OCTETS} octets unasked"))
        self._wake()

    def eof_received(self) -> bool:
        """The host will send no more; the event loop closes the connection."""
        self._lose()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self.error = exc
        self._lose()

    def pause_writing(self) -> None:
        """The transport has enough to send for now."""
        super().pause_writing()
        self.blocked = True

    def resume_writing(self) -> None:
        """The transport has room again."""
        super().resume_writing()
        self.blocked = False
        self._wake()

    # What a session calls.

    @property
    def usable(self) -> bool:
        """Whether the connection stands and nothing lies unread."""
        return self._broken is None and self.is_connected and not self._replies.unread

    @property
    def unread(self) -> bool:
        """Whether the host sent something that was not asked for yet."""
        return self._replies.unread > 0

    @property
    def unread_words(self) -> str:
        """The beginning of it, for a log."""
        return self._replies.beginning()

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, or None in clear text."""
        if self.transport is None:
            return None
        found: ssl.SSLObject | None = self.transport.get_extra_info("ssl_object")
        return found

    def say(self, command: bytes, *, body: bytes = b"", shown: bytes | None = None) -> None:
        """Send, in one write. When the host spoke before it was asked, nothing is sent and the connection is dead.

        A reply that is already here would be taken for the answer to what is sent now. `body`: what belongs to the
        message, and not into the transcript. `shown` is what the transcript has in place of what is secret.
        """
        if self._replies.unread and (self._broken is None or self._broken.cause is Cause.CLOSED):
            words = self._replies.beginning()
            self._broken = Broken(Cause.OUT_OF_TURN, "spoke before it was asked", words, self._stray_reply())
            self.abort()
        if self._broken is None and self.is_connected:
            if command:
                self.transcript.sent(command if shown is None else shown)
            if body:
                self.transcript.sent_body(len(body))
            self.write(command + body)

    async def reply(self, seconds: float) -> Reply | Broken:
        """The next reply, waited for up to `seconds`. What came before the host closed the connection is given out."""
        found = await self.secret_reply(seconds)
        self.note(found)
        return found

    def note(self, shown: Reply | Broken) -> None:
        """Put it into the transcript."""
        if isinstance(shown, Reply):
            self.transcript.received(shown)
        else:
            self.transcript.happened(f"the host {shown.told()}")

    async def secret_reply(self, seconds: float) -> Reply | Broken:
        """As `reply`, for what may not be in the transcript as it is: the caller is to `note` what may."""
        until = asyncio.get_running_loop().time() + seconds
        while self._broken is None or self._broken.cause is Cause.CLOSED:
            try:
                reply = self._replies.next()
            except ReplyError as error:
                return self._break(Broken(Cause.NOT_SMTP, "did not speak SMTP", str(error)))
            if reply is not None:
                return reply
            if self._broken is not None:
                return self._broken
            if not await self._woken(until):
                return self._break(Broken(Cause.SILENT, f"said nothing for {seconds:g} seconds"))
        return self._broken

    async def drain(self, seconds: float) -> Broken | None:
        """Wait, up to `seconds`, until there is room to send more, or the host has said something."""
        until = asyncio.get_running_loop().time() + seconds
        while self.blocked and self._broken is None and not self._replies.unread:
            if not await self._woken(until):
                return self._break(Broken(Cause.SILENT, f"took nothing for {seconds:g} seconds"))
        return self._broken

    async def shake_hands(self, context: ssl.SSLContext, sni: str, seconds: float) -> None:
        """Go over to TLS. Raises what asyncio and OpenSSL raise: OSError (ssl.SSLError among it) and ValueError."""
        if self.transport is None:
            raise ConnectionResetError("connection closed")
        plain = cast(asyncio.WriteTransport, self.transport)
        self.transport = await asyncio.get_running_loop().start_tls(
            plain, self, context, server_hostname=sni, ssl_handshake_timeout=seconds
        )

    def leave(self) -> None:
        """Say QUIT where that can be said, and hang up without waiting for the answer."""
        if self.usable:
            self.write(b"QUIT\r\n")
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Hang up after what was written has been sent."""
        self._lose()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Hang up at once; what was not sent yet is not sent."""
        self._lose()
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

    def _stray_reply(self) -> Reply | None:
        try:
            return self._replies.next()
        except ReplyError:
            return None

    def _lose(self) -> None:
        if self._broken is None:
            words = "" if self.error is None else wording(self.error)
            self._broken = Broken(Cause.CLOSED, "closed the connection", words)
        self._wake()

    def _break(self, broken: Broken) -> Broken:
        if self._broken is None:
            self._broken = broken
        self.abort()
        return self._broken

    async def _woken(self, until: float) -> bool:
        """Wait until something has happened. False: it is later than `until`, by the loop's clock."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiter = waiter
        # Cheaper than asyncio.timeout, which matters here: two waits a message.
        timer = loop.call_at(until, _settle, waiter, False)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None:
            _settle(self._waiter, True)


def wording(error: BaseException) -> str:
    """What the system or OpenSSL says of an error, without the names and numbers of Python."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return getattr(error, "reason", None) or error.strerror or str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return str(error) or "connection closed"


def _settle(waiter: asyncio.Future[bool], happened: bool) -> None:
    if not waiter.done():
        waiter.set_result(happened)
