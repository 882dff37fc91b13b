"""The message in parts with BDAT: against slow readers, hosts that have had enough, and a store that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from smtp_peer import CHUNK, CLOSE, RESET, STALL, Peer, Step, host

from relay.delivery.content import PART_OCTETS
from relay.delivery.opening import Target, open_session
from relay.delivery.smtp import MailOptions, OpenSession
from relay.delivery.transaction import Lost, Timeouts
from relay.mail.outcome import TlsUsed
from relay.mail.status import Reply
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule

ALLOW = Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC)
HELLO: tuple[Step, ...] = (b"220 mx.test\r\n", 1, b"250-mx.test\r\n250-CHUNKING\r\n250 PIPELINING\r\n")
ENVELOPE: tuple[Step, ...] = (2, b"250 ok\r\n250 ok\r\n")
PIECE = (b"x" * 62 + b"\r\n") * 4096  # 256 KiB
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
    (result,) = await session.send(b"a@a.test", [b"b@b.test"], body, MailOptions(chunks=True), ALLOW)
    return result


class Parts:
    """What came with BDAT, read until the last part; each is answered."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.octets = b""

    async def __call__(self, peer: Peer) -> None:
        last = False
        while not last:
            line = await peer.line()
            last = line.endswith(b" LAST\r\n")
            size = int(line.split()[1])
            self.octets += await peer.exactly(size)
            self.sizes.append(size)
            await peer.say(TAKEN if last else b"250 ok\r\n")


@given(st.lists(st.sampled_from([0, 1, 1000, PART_OCTETS - 1, PART_OCTETS, PART_OCTETS + 1]), max_size=5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pieces(cut: list[int]) -> None:
    """Octet for octet, without a CRLF that was not there, in parts of a reasonable size."""

    async def run() -> None:
        parts = Parts()
        async with host(*HELLO, *ENVELOPE, parts) as mx:
            session = await opened(mx.port)
            assert isinstance(await send(session, pieces(*[b"." * size for size in cut])), Reply)
            assert session.reusable()
            session.close()
        assert parts.octets == b"." * sum(cut)
        assert all(PART_OCTETS <= size < 2 * PART_OCTETS + 1 for size in parts.sizes[:-1])

    asyncio.run(run())


@pytest.mark.asyncio
async def test_a_part_and_its_length_are_one_write() -> None:
    """And nothing of it comes before a recipient was taken."""
    reads: list[bytes] = []

    async def read(peer: Peer) -> None:
        await peer.line()
        await peer.line()
        before = len(peer.heard)
        assert peer.heard.endswith(b"RCPT TO:<b@b.test>\r\n")
        await peer.say(b"250 ok\r\n250 ok\r\n")
        await peer.line()
        reads.append(bytes(peer.heard[before:]))
        await peer.say(TAKEN)

    async with host(*HELLO, read) as mx:
        session = await opened(mx.port)
        await send(session, pieces(b"Subject: x\r\n\r\n.dot\r\n"))
        session.close()
    assert reads == [b"BDAT 20 LAST\r\nSubject: x\r\n\r\n.dot\r\n"]


@pytest.mark.asyncio
async def test_only_so_many_parts_wait_for_an_answer() -> None:
    """Four with PIPELINING; the fifth goes out when the first is answered."""
    ahead: list[int] = []

    async def count(peer: Peer) -> None:
        for _ in range(4):
            await peer.chunk()
        await asyncio.sleep(0.05)
        ahead.append(len(peer.heard))
        await peer.say(b"250 ok\r\n")
        await peer.chunk()
        await peer.say(b"250 ok\r\n" * 3)
        await peer.chunk()
        await peer.say(b"250 ok\r\n" + TAKEN)

    async with host(*HELLO, *ENVELOPE, count) as mx:
        session = await opened(mx.port)
        assert isinstance(await send(session, pieces(*[PIECE] * 6)), Reply)
        assert session.reusable()
        session.close()
    assert ahead[0] < 4 * PART_OCTETS + 1000


@pytest.mark.asyncio
async def test_a_refusal_between_slow_pieces() -> None:
    """It is heard before the next piece is sent; the rest is not even read, and the session stays good."""
    refused = asyncio.Event()
    asked: list[int] = []

    async def slowly() -> AsyncIterator[bytes]:
        for number in range(40):
            if number == 2:
                await refused.wait()
                await asyncio.sleep(0.05)
            asked.append(number)
            yield PIECE

    async def tell(_: Peer) -> None:
        refused.set()

    async with host(*HELLO, *ENVELOPE, CHUNK, b"552 5.3.4 too big\r\n", tell, 1, b"250 reset\r\n") as mx:
        session = await opened(mx.port)
        result = await send(session, slowly())
        assert isinstance(result, Reply)
        assert result.code == 552
        assert len(asked) < 5
        assert session.reusable()
        session.close()
        await mx.over()
        assert mx.heard.endswith(b"RSET\r\nQUIT\r\n")


@pytest.mark.asyncio
@pytest.mark.parametrize("end", [CLOSE, STALL], ids=["close", "stall"])
async def test_an_early_refusal_is_kept(end: Step) -> None:
    """A host that answers 552 in the middle of a part and hangs up: ten times out of ten the answer is kept."""

    async def read(peer: Peer) -> None:
        await peer.some(300_000)

    for _ in range(10):
        async with host(*HELLO, *ENVELOPE, read, b"552 5.3.4 too big\r\n", end) as mx:
            session = await opened(mx.port, Timeouts(quit_seconds=0.1))
            result = await send(session, pieces(*[PIECE] * 40))
            assert isinstance(result, Reply), result
            assert result.text == "552 5.3.4 too big"
            assert not session.reusable()


@pytest.mark.asyncio
@pytest.mark.parametrize("answer", [b"", b"552 full\r\n"])
async def test_host_that_takes_nothing(answer: bytes) -> None:
    held = asyncio.Event()

    async def wait(_: Peer) -> None:
        await held.wait()

    async with host(*HELLO, *ENVELOPE, answer, wait) as mx:
        session = await opened(mx.port, Timeouts(block_seconds=0.2, quit_seconds=0.1))
        async with asyncio.timeout(10):
            result = await send(session, pieces(*[PIECE * 40] * 3))
        held.set()
        if answer:
            assert isinstance(result, Reply), result
            assert result.code == 552
        else:
            assert isinstance(result, Lost)
            assert result.reason == "took nothing for 0.2 seconds after BDAT"
            assert not result.after_final_dot
        assert not session.reusable()


@pytest.mark.asyncio
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["close", "reset"])
async def test_gone_while_the_end_is_still_here(end: Step) -> None:
    """The last part was written but never left this machine: the outcome is known."""

    async def read(peer: Peer) -> None:
        await peer.some(100)

    async with host(*HELLO, *ENVELOPE, read, end) as mx:
        session = await opened(mx.port)
        result = await send(session, pieces(PIECE * 60))
        assert isinstance(result, Lost), result
        assert not result.after_final_dot


@pytest.mark.asyncio
async def test_something_that_nobody_asked_for_before_the_end() -> None:
    """421 while the next piece is read from disk, all parts having their answers: the end is not sent."""
    told = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield PIECE
        yield PIECE
        await told.wait()
        await asyncio.sleep(0.05)

    async def tell(_: Peer) -> None:
        told.set()

    async with host(*HELLO, *ENVELOPE, CHUNK, b"250 ok\r\n421 4.3.2 bye\r\n", tell) as mx:
        session = await opened(mx.port)
        result = await send(session, slowly())
        assert isinstance(result, Reply)
        assert result.code == 421
        await mx.over()
        assert b"LAST" not in mx.heard


class StoreGoneError(Exception):
    """What the store might raise."""


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [0, 1, 3])
async def test_store_fails_in_the_middle(before: int) -> None:
    """The connection is closed without a last part, so that nothing is delivered, and the exception comes through."""

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
        assert b"LAST" not in mx.heard
