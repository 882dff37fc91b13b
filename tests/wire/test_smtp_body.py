"""The message itself on its way out: in pieces, against slow readers, and hosts that have had enough."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.delivery.opening import Target, open_session
from relay.delivery.smtp import MailOptions, OpenSession
from relay.delivery.transaction import Lost, Timeouts
from relay.mail.outcome import TlsUsed
from relay.mail.status import Reply
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule

sys.path.insert(0, str(Path(__file__).parent))
from smtp_peer import BODY, CLOSE, RESET, STALL, Peer, Step, host

ALLOW = Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC)
HELLO: tuple[Step, ...] = (b"220 mx.test\r\n", 1, b"250-mx.test\r\n250 PIPELINING\r\n")
ENVELOPE: tuple[Step, ...] = (3, b"250 ok\r\n250 ok\r\n354 go\r\n")
PIECE = (b"x" * 76 + b"\r\n") * 3360  # 256 KiB
TAKEN = b"250 2.0.0 queued as 1\r\n"


async def pieces(*octets: bytes) -> AsyncIterator[bytes]:
    for one in octets:
        yield one


async def opened(port: int, timeouts: Timeouts | None = None) -> OpenSession:
    target = Target("mx.test", "127.0.0.1", port)
    session = await open_session(target, None, Source(hostname="relay.test"), timeouts or Timeouts(final_seconds=10))
    assert isinstance(session, OpenSession), session
    return session


async def send(session: OpenSession, body: AsyncIterator[bytes]) -> Reply | Lost:
    (result,) = await session.send(b"a@a.test", [b"b@b.test"], body, MailOptions(), ALLOW)
    return result


def until(octets: int) -> Step:
    """Read so much of the message."""

    async def read(peer: Peer) -> None:
        await peer.some(octets)

    return read


def received(octets: bytes) -> bytes:
    """RFC 5321 section 4.5.2, line by line, from what came after DATA."""
    lines = octets.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])


@pytest.mark.asyncio
async def test_octets_arrive_as_they_are() -> None:
    """8-bit, NUL, bare CR and LF, long lines, dots at every seam: what the host un-stuffs is the message."""
    body = bytes(range(256)) + b"\r\n.\r\n..\r\n" + b"." * 3000 + b"\r\n.x\n.y\r.z\r\n"
    for step in (1, 2, 3, 7, 1000, len(body)):
        cut = [body[start : start + step] for start in range(0, len(body), step)]
        async with host(*HELLO, *ENVELOPE, BODY, TAKEN) as mx:
            session = await opened(mx.port)
            assert isinstance(await send(session, pieces(*cut)), Reply)
            sent = mx.heard.partition(b"DATA\r\n")[2]
            session.close()
        assert received(sent) == body


@given(st.lists(st.text("\r\n.a", max_size=5).map(str.encode), max_size=6))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pieces(cut: list[bytes]) -> None:
    async def run() -> None:
        async with host(*HELLO, *ENVELOPE, BODY, TAKEN) as mx:
            session = await opened(mx.port)
            assert isinstance(await send(session, pieces(*cut)), Reply)
            sent = mx.heard.partition(b"DATA\r\n")[2]
            session.close()
        body = b"".join(cut)
        assert received(sent) == (body if body.endswith(b"\r\n") or not body else body + b"\r\n")

    asyncio.run(run())


@pytest.mark.asyncio
@pytest.mark.parametrize("end", [CLOSE, RESET, STALL], ids=["close", "reset", "stall"])
async def test_early_refusal_is_kept(end: Step) -> None:
    """A host that answers 552 in the middle of the message and hangs up: ten times out of ten the answer is kept.

    With octets unread, the kernel sends RST behind the 552 even for a polite close.
    """
    for _ in range(10):
        async with host(*HELLO, *ENVELOPE, until(300_000), b"552 5.3.4 too big\r\n", end) as mx:
            session = await opened(mx.port)
            result = await send(session, pieces(*[PIECE] * 40))
            if end is RESET and isinstance(result, Lost):
                # RST right behind it: what the kernel has not handed to us by then is lost with it.
                assert (result.stage.name, result.after_final_dot) == ("BODY", False)
            else:
                assert isinstance(result, Reply), result
                assert result.text == "552 5.3.4 too big"
            assert not session.reusable()


@pytest.mark.asyncio
async def test_early_refusal_between_slow_pieces() -> None:
    """The answer comes while the next piece is read from disk: it is heard, and the rest is not even read."""
    refused = asyncio.Event()
    asked: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        for number in range(40):
            if number == 2:
                await refused.wait()
            asked.append(number)
            yield PIECE

    async def tell(_: Peer) -> None:
        refused.set()

    async with host(*HELLO, *ENVELOPE, until(len(PIECE)), b"552 5.3.4 too big\r\n", tell) as mx:
        session = await opened(mx.port)
        result = await send(session, slowly())
        assert isinstance(result, Reply)
        assert result.code == 552
        assert len(asked) < 6
        await mx.over()
        assert not mx.heard.endswith(b"\r\n.\r\n")


@pytest.mark.asyncio
async def test_host_that_takes_nothing() -> None:
    held = asyncio.Event()

    async def wait(_: Peer) -> None:
        await held.wait()

    async with host(*HELLO, *ENVELOPE, wait) as mx:
        session = await opened(mx.port, Timeouts(block_seconds=0.2))
        result = await send(session, pieces(*[PIECE] * 100))
        held.set()
        assert isinstance(result, Lost)
        assert result.reason == "took nothing for 0.2 seconds in the middle of the message"
        assert not result.after_final_dot
        assert not session.reusable()


@pytest.mark.asyncio
async def test_host_that_takes_nothing_but_answers() -> None:
    """It is heard at once, though we are waiting to send."""
    held = asyncio.Event()

    async def wait(_: Peer) -> None:
        await held.wait()

    async with host(*HELLO, *ENVELOPE, b"552 full\r\n", wait) as mx:
        session = await opened(mx.port)
        async with asyncio.timeout(10):
            result = await send(session, pieces(*[PIECE] * 100))
        held.set()
        assert isinstance(result, Reply)
        assert result.code == 552


@pytest.mark.asyncio
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["close", "reset"])
async def test_gone_while_the_end_is_still_here(end: Step) -> None:
    """The final dot was written but never left this machine: the outcome is known."""
    async with host(*HELLO, *ENVELOPE, until(100), end) as mx:
        session = await opened(mx.port)
        result = await send(session, pieces(PIECE * 60))
        assert isinstance(result, Lost), result
        assert (result.stage.name, result.after_final_dot) == ("BODY", False)


@pytest.mark.asyncio
async def test_final_clock_starts_when_the_octets_are_gone() -> None:
    """A host that reads slowly has the whole final timeout left when it has read all."""

    async def late(peer: Peer) -> None:
        await asyncio.sleep(0.5)
        await peer.body()

    async with host(*HELLO, *ENVELOPE, late, TAKEN) as mx:
        session = await opened(mx.port, Timeouts(final_seconds=0.4))
        result = await send(session, pieces(PIECE * 60))
        assert isinstance(result, Reply), result
        session.close()


class StoreGoneError(Exception):
    """What the store might raise."""


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_store_fails_in_the_middle(before: int) -> None:
    """The connection is closed without a final dot, so that nothing is delivered, and the exception comes through."""

    async def failing() -> AsyncIterator[bytes]:
        for _ in range(before):
            yield PIECE
        raise StoreGoneError

    async with host(*HELLO, *ENVELOPE) as mx:
        session = await opened(mx.port)
        with pytest.raises(StoreGoneError):
            await send(session, failing())
        assert not session.reusable()
        await mx.over()
        assert b"\r\n.\r\n" not in mx.heard


@pytest.mark.asyncio
async def test_cancelled_in_the_middle() -> None:
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield PIECE
        yield PIECE
        begun.set()
        await asyncio.Event().wait()

    async with host(*HELLO, *ENVELOPE) as mx:
        session = await opened(mx.port)
        task = asyncio.create_task(send(session, endless()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not session.reusable()
        await mx.over()
        assert b"\r\n.\r\n" not in mx.heard


@pytest.mark.asyncio
async def test_two_at_once_is_a_defect() -> None:
    async with host(*HELLO, *ENVELOPE, STALL) as mx:
        session = await opened(mx.port)
        first = asyncio.create_task(send(session, pieces(b"x\r\n")))
        await asyncio.sleep(0)
        assert not session.reusable()
        with pytest.raises(RuntimeError, match="another message"):
            await send(session, pieces(b"y\r\n"))
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


class CountingHost(asyncio.Protocol):
    """Says yes to everything and keeps nothing."""

    chunking = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self.transport = transport
        self.count = 0
        self.in_body = False
        self.due = 0  # octets of a BDAT
        self.last = False
        self.transport.write(b"220 mx.test\r\n")

    def data_received(self, data: bytes) -> None:
        if self.due:
            taken, data = data[: self.due], data[self.due :]
            self.due -= len(taken)
            self.count += len(taken)
            if not self.due:
                self.transport.write(b"250 %d octets\r\n" % self.count)
            if not data:
                return
        if self.in_body:
            self.count += len(data)
            if data.endswith(b"\r\n.\r\n"):
                self.in_body = False
                self.transport.write(b"250 %d octets\r\n" % self.count)
        elif data.startswith(b"EHLO"):
            self.transport.write(b"250-mx.test\r\n" + self.chunking + b"250 PIPELINING\r\n")
        elif data.startswith(b"MAIL"):
            self.in_body = not self.chunking
            self.transport.write(b"250 ok\r\n250 ok\r\n" + (b"" if self.chunking else b"354 go\r\n"))
        elif data.startswith(b"BDAT"):
            line, _, rest = data.partition(b"\r\n")
            self.due = int(line.split()[1])
            self.data_received(rest)


class ChunkCountingHost(CountingHost):
    chunking = b"250-CHUNKING\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(("kind", "octets"), [(CountingHost, 50_000_005), (ChunkCountingHost, 50_000_000)])
async def test_memory(kind: type[CountingHost], octets: int) -> None:
    """50 MB go through 5 MB of memory, this test's host included."""
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
    session = await opened(server.sockets[0].getsockname()[1])

    async def large() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield bytes(PIECE[:1000]) * 250

    tracemalloc.start()
    try:
        options = MailOptions(chunks=session.capabilities.chunking)
        (result,) = await session.send(b"a@a.test", [b"b@b.test"], large(), options, ALLOW)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        session.close()
        server.close()
    assert isinstance(result, Reply), result
    assert result.text == f"250 {octets} octets"
    assert peak < 5_000_000, peak
