"""One client's connection: lines and chunks in, replies out, STARTTLS, timeouts, its end.

aiosmtpd gives the life cycle (a handler task per connection, cancelled when the connection is lost) and the table of
verbs. What it does wrong for a relay is replaced here: it takes command lines that end in a bare LF, shows the text of
exceptions to clients, cuts uploads that are under way, forgets the 421 and writes each reply on its own.
The private attributes of aiosmtpd live in this module and nowhere else; a canary test watches each of them.

This module knows nothing of mail: verbs are in `session`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from abc import abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

from aiosmtpd.smtp import SMTP

from relay.mail.status import Reply
from relay.submission import replies
from relay.submission.handshake import handshake_fault, tls_of
from relay.submission.patience import after_octets, after_waiting

LANDING_OCTETS = 128 * 1024  # read from the network at once
_HIGH_WATER = 256 * 1024  # octets not yet looked at, above which we stop reading
_MAX_LINE = 64 * 1024  # a longer line ends the session
# The same for a client that may not send: nobody keeps us from having thousands of these.
_STRANGERS_LANDING, _STRANGERS_HIGH_WATER, _STRANGERS_MAX_LINE = 2048, 4096, 16 * 1024
_STRANGERS_MOST = 1 << 20  # octets of a whole session, of which a login needs some thousand: more can but keep us busy
_MOST_ENCRYPTED = 16 * 1024  # octets under TLS that have come and cannot be looked at yet
_MAX_REPLIES = 8 * 1024  # octets of replies kept back before they are sent in any case
_MOST_UNSENT = 8 * 1024  # octets given to the network and not taken by the client, above which we wait for it
HANDSHAKE_SECONDS = 60.0
_SOON_SECONDS = 0.1
LINGER_SECONDS = 5.0  # how long a closed connection may take to send what is left
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Gone(Exception):  # noqa: N818  (not an error: clients come and go)
    """The client is no longer there: nothing more can be read or written."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not to be obeyed, and the answer to it."""

    octets: bytes
    answer: Reply


class Stream(SMTP):
    """A connection, behind a `Wire`. All of one event loop may share `landing`, a buffer of LANDING_OCTETS.

    Replies given to `say` are sent when we have to wait for the client, so that pipelined commands get one segment
    (RFC 2920 section 3.2). `timeout` is for the client's silence only; our own work never counts (`patience`).
    `trusted` clients may send; the others get little memory, and one `timeout` for all they say.
    """

    def __init__(self, timeout: timedelta, landing: memoryview) -> None:
        loop = asyncio.get_running_loop()
        # Not SMTP.__init__: to find verbs and mechanisms it walks over all attributes three times for each connection,
        # which is a third of what a short session costs. This sets what the methods that we inherit need; they need
        # neither the StreamReader nor the StreamWriter that asyncio would make.
        asyncio.StreamReaderProtocol.__init__(self, None, None, loop)  # type: ignore[arg-type]
        self.loop = loop
        self.session = self.envelope = self.transport = None
        self._original_transport = self._timeout_handle = self._handler_coroutine = None
        self._patience = self._timeout_duration = timeout.total_seconds()
        self._whole_landing = landing
        self.landing = landing[:_STRANGERS_LANDING]
        self._trusted = False
        self._from_stranger = 0  # octets that came while it was none we trust
        self._input = bytearray()
        self._output = bytearray()
        self._ended = False  # the client will send nothing more
        self._held_back = False  # we have told the transport to stop reading
        self._arrival: asyncio.Future[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._jam: asyncio.Future[None] | None = None  # until the client takes what is sent
        self._waiting = False  # for the client, who must not be silent too long
        self._deadline = 0.0
        self.lost: asyncio.Future[None] = loop.create_future()  # done when the connection is
        self.tls: tuple[str, str] | None = None  # version and cipher
        self.shaking = False  # a TLS handshake is under way

    @property
    def trusted(self) -> bool:
        """Whether the client may send: then it gets memory and time."""
        return self._trusted

    @trusted.setter
    def trusted(self, trusted: bool) -> None:
        if trusted and not self._trusted:
            self._patience = self._timeout_duration
        self._trusted = trusted
        self.landing = self._whole_landing if trusted else self._whole_landing[:_STRANGERS_LANDING]

    # Life cycle, called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there; aiosmtpd starts the handler, `_handle_client`."""
        self._take(cast("asyncio.Transport", transport))
        super().connection_made(transport)

    def _take(self, link: asyncio.Transport) -> None:
        self._link = self.transport = link
        link.set_write_buffer_limits(_MOST_UNSENT)
        self.tls = tls_of(link)
        if self.tls is not None:
            # Not in the documentation, but asyncio and uvloop both have it. By default they take 256 KiB ahead of us.
            link.set_read_buffer_limits(_MOST_ENCRYPTED)  # type: ignore[attr-defined]

    async def _handle_client(self) -> None:
        try:
            await self.converse()
            await self.flush()
        except Gone:
            pass
        finally:
            self.hang_up()

    @abstractmethod
    async def converse(self) -> None:
        """What the handler does with the client until one of them leaves."""

    @abstractmethod
    def leave_when_idle(self) -> None:
        """Say goodbye as soon as nothing is under way."""

    def take(self, data: memoryview) -> None:
        """Keep the octets for the handler, and stop reading when it falls behind."""
        self._input += data
        if not self._trusted:
            self._from_stranger += len(data)
            if self._from_stranger > _STRANGERS_MOST:
                self.dismiss(replies.TOO_MUCH)
                return
        if not self._held_back and len(self._input) > (_HIGH_WATER if self._trusted else _STRANGERS_HIGH_WATER):
            self._held_back = True
            self._link.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Let the handler finish what it has been sent. Under TLS there is no half-closed connection.

        `tls` says so only when the handler has been told of the end of the handshake, which this may come before.
        """
        self._ended = True
        self._wake()
        self._end_nap()
        return self.tls is None and not self.shaking

    def connection_lost(self, error: Exception | None) -> None:
        """The end; aiosmtpd cancels the handler.

        Only uvloop calls this when the connection is lost in a TLS handshake. `start_tls` hears of it in any case.
        """
        if self.lost.done() or self.shaking:
            return
        super().connection_lost(error)
        self._ended = True
        self._wake()
        self.resume_writing()
        self.lost.set_result(None)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        self._jam = self.loop.create_future()

    def resume_writing(self) -> None:
        """It does again, or has gone."""
        if self._jam is not None and not self._jam.done():
            self._jam.set_result(None)
        self._jam = None

    # Reading

    async def read_line(self, limit: int) -> bytes | BadLine:
        """The next line without its CRLF; a BadLine when it is no SMTP line, or longer than `limit` octets.

        Raises Gone when the client leaves, or sends a line without end.
        """
        looked = 0
        while (end := self._input.find(b"\n", looked)) < 0:
            looked = len(self._input)
            if looked > (_MAX_LINE if self._trusted else _STRANGERS_MAX_LINE):
                self.hang_up(replies.LINE_TOO_LONG)
                raise Gone
            await self._more()
        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        if self._trusted:
            self._patience = self._timeout_duration
        if len(line) > limit:
            return BadLine(line, replies.LINE_TOO_LONG)
        if not line.endswith(b"\r\n"):  # RFC 5321 §2.3.8: what one side takes for a line end, the other must too
            return BadLine(line, replies.BARE_LF)
        if _CONTROL.search(line, 0, len(line) - 2):
            return BadLine(line, replies.CONTROL_CHARACTER)
        return line[:-2]

    async def read_chunk(self, limit: int | None = None) -> bytearray:
        """Whatever has come, from one octet to `limit`, for the caller to keep. Raises Gone when the client leaves."""
        if not self._input:
            await self._more()
        if limit is not None and len(self._input) > limit:
            octets = self._input[:limit]
            del self._input[:limit]  # cheap, unlike `put_back`: a client may send many small chunks at once
        else:
            octets, self._input = self._input, bytearray()
        if self._trusted:
            self._patience = after_octets(self._patience, len(octets), self._timeout_duration)
        return octets

    def put_back(self, octets: bytes) -> None:
        """Give back the end of a chunk that belongs to the commands after it."""
        self._input[:0] = octets

    async def _more(self) -> None:
        """Send the replies kept back, and wait until octets arrive."""
        await self.flush()
        if self._ended:
            raise Gone
        if self._held_back:
            self._held_back = False
            self._link.resume_reading()
        self._arrival = self.loop.create_future()
        try:
            await self._wait_for(self._arrival)
        finally:
            self._arrival = None

    async def _wait_for(self, client: Awaitable[None]) -> None:
        """Wait for the client to do something, while it has not used up our patience."""
        begun = self.loop.time()
        self._deadline = begun + self._patience
        self._waiting = True
        try:
            await client
        finally:
            self._waiting = False
            self._patience = after_waiting(self._patience, self.loop.time() - begun)

    async def pause(self, seconds: float) -> bool:
        """Let the client wait, as long as it stays; it is not silent meanwhile. The replies in line wait too.

        Returns whether it has stayed.
        """
        if self._ended:
            return False
        self._nap = self.loop.create_future()
        alarm = self.loop.call_later(seconds, self._end_nap)
        try:
            await self._nap
        finally:
            alarm.cancel()
            self._nap = None
        return not self._ended

    def _end_nap(self) -> None:
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # Writing

    def say(self, reply: Reply) -> None:
        """Put a reply in line."""
        self._output += replies.wire(reply)

    async def flush(self) -> None:
        """Send the replies in line. Raises Gone when the client has left."""
        if self.closing:
            raise Gone
        self._send()
        if self._jam is not None:
            await self._wait_for(self._jam)

    def _send(self) -> None:
        if self._output:
            self._link.write(bytes(self._output))
            self._output.clear()

    async def flush_if_many(self) -> None:
        """Send the replies when a client makes us keep too many of them, and let the other clients have a turn.

        A client that never waits would otherwise be served until all it has sent is done: some 50,000 commands.
        """
        if len(self._output) > _MAX_REPLIES:
            await self.flush()
            await asyncio.sleep(0)

    # TLS

    async def start_tls(self, context: ssl.SSLContext) -> str | None:
        """Shake hands as the server; what came in clear text before is thrown away. RFC 3207 sections 4 and 4.2.

        Returns None, or why it failed; then the connection is closed. Raises Gone when the client has left.
        """
        await self.flush()
        self._input.clear()  # no await from here to start_tls: nothing in clear text can slip in between
        seconds = min(HANDSHAKE_SECONDS, self._timeout_duration)
        self.shaking = True
        try:
            async with asyncio.timeout(seconds + LINGER_SECONDS):
                link = await self.loop.start_tls(
                    self._link,
                    self._link.get_protocol(),
                    context,
                    server_side=True,
                    ssl_handshake_timeout=seconds,
                    ssl_shutdown_timeout=LINGER_SECONDS,
                )
        except (OSError, ValueError) as error:  # ValueError: asyncio cannot read the certificate of the client
            self.shaking = False
            self._lost_in_handshake(error)
            return handshake_fault(error)
        self.shaking = False
        if link is None:
            self._lost_in_handshake(None)
            raise Gone
        self._take(link)
        if self.tls is None:
            self._lost_in_handshake(None)
            raise Gone
        self._held_back = False
        return None

    def _lost_in_handshake(self, error: Exception | None) -> None:
        """Event loops do not tell a protocol that its connection is lost while another, TLS, stands before it."""
        self._link.abort()
        self.connection_lost(error)

    # The end

    @property
    def closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self.transport is None or self._link.is_closing()

    def hang_up(self, reply: Reply | None = None) -> None:
        """Close after a last reply. What is in line is sent; a client that does not take it is cut off."""
        if self.closing:
            return
        if reply is not None:
            self.say(reply)
        self._send()
        self._link.close()
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_later(LINGER_SECONDS, self.abort)

    def dismiss(self, reply: Reply) -> None:
        """Hang up from outside the handler, whatever it waits for."""
        self.hang_up(reply)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def abort(self) -> None:
        """Cut the connection, now."""
        if self.transport is not None:
            self._link.abort()

    # Timeouts: one timer for a connection, moved when it rings; a timer for each command would cost more

    def _reset_timeout(self, duration: float | None = None) -> None:
        """aiosmtpd calls this once, when the client has come."""
        self._timeout_handle = self.loop.call_later(self._patience, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        if self._waiting and now >= self._deadline:
            self.dismiss(replies.TIMED_OUT)  # RFC 5321 §4.5.3.2.7
            return
        later = self._deadline if self._waiting else now + max(self._patience, _SOON_SECONDS)
        self._timeout_handle = self.loop.call_at(later, self._timeout_cb)
