"""Connecting: which of a host's addresses is called when, which one wins, and from which address of our own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest

from relay.delivery.opening import ConnectFailed, Target, dial
from relay.delivery.racing import Race, race
from relay.delivery.transaction import Stage
from relay.policy.source import Source

ANY = Source()
LONG = 20.0  # seconds: a test that waited for it would be seen
NOT_OURS_4, NOT_OURS_6 = "203.0.113.77", "2001:db8::77"
REFUSED = ConnectFailed(Stage.CONNECT, "connection refused")


@dataclass
class Listening:
    """A host that counts who calls, and keeps what they say until they hang up."""

    target: Target
    callers: list[str] = field(default_factory=list)
    heard: bytes = b""
    over: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))


@asynccontextmanager
async def listening(address: str) -> AsyncIterator[Listening]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        calls.append(task)
        found.callers.append(writer.get_extra_info("peername")[0])
        found.heard += await reader.read()
        writer.close()
        await writer.wait_closed()
        found.over.release()

    calls: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(accept, address, 0)
    found = Listening(Target("mx.test", address, server.sockets[0].getsockname()[1]))
    try:
        yield found
    finally:
        server.close()
        await asyncio.gather(*calls)


@contextmanager
def closed(address: str) -> Iterator[Target]:
    """A port that nobody listens at, and nobody else is given."""
    with socket.socket(_family(address)) as held:
        held.bind((address, 0))
        yield Target("mx.test", address, held.getsockname()[1])


@contextmanager
def silent(address: str) -> Iterator[Target]:
    """A full backlog: the kernel lets the handshake of TCP hang."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket(_family(address)))
        full.bind((address, 0))
        full.listen(0)
        target = Target("mx.test", address, full.getsockname()[1])
        for _ in range(8):
            one = stack.enter_context(socket.socket(_family(address)))
            one.setblocking(False)
            one.connect_ex((address, target.port))
        yield target


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def won(ended: Race) -> Target | None:
    if ended.winner is None:
        return None
    ended.winner.socket.close()
    return ended.winner.target


@pytest.mark.asyncio
async def test_ipv6_answers_at_once_and_ipv4_is_not_called() -> None:
    async with listening("127.0.0.1") as four, listening("::1") as six:
        ended = await race([four.target, six.target], ANY, LONG, LONG)
        assert (won(ended), ended.failed) == (six.target, ())
        await six.over.acquire()
        assert (six.callers, six.heard, four.callers) == (["::1"], b"", [])


@pytest.mark.asyncio
async def test_a_failure_brings_on_the_next_at_once() -> None:
    """A machine without a route to IPv6 hears of it as quickly."""
    with closed("::1") as six, closed("127.0.0.1") as four:
        async with listening("127.0.0.2") as other, asyncio.timeout(LONG / 2):
            ended = await race([six, four, other.target], ANY, LONG, LONG)
            assert (won(ended), ended.failed) == (other.target, ((six, REFUSED), (four, REFUSED)))


@pytest.mark.asyncio
async def test_silence_brings_on_the_other_family_after_a_moment() -> None:
    with silent("::1") as six:
        async with listening("127.0.0.1") as four, asyncio.timeout(LONG / 2):
            begun = asyncio.get_running_loop().time()
            ended = await race([six, four.target], ANY, LONG, 0.1)
            assert (won(ended), ended.failed) == (four.target, ())
            assert asyncio.get_running_loop().time() - begun > 0.09  # uvloop counts in milliseconds


@pytest.mark.asyncio
async def test_while_one_family_is_silent_the_other_goes_through_its_addresses() -> None:
    with silent("::1") as six, closed("127.0.0.1") as four:
        async with listening("127.0.0.2") as other, asyncio.timeout(LONG / 2):
            ended = await race([six, four, other.target], ANY, LONG, 0.01)
            assert (won(ended), ended.failed) == (other.target, ((four, REFUSED),))


@pytest.mark.asyncio
async def test_addresses_of_one_family_are_called_one_after_another() -> None:
    with silent("127.0.0.1") as first:
        async with listening("127.0.0.2") as other:
            ended = await race([first, other.target], ANY, 0.2, 0.01)
            assert won(ended) == other.target
            assert ended.failed == ((first, ConnectFailed(Stage.CONNECT, "no connection within 0.2 seconds")),)


@pytest.mark.asyncio
async def test_nobody_answers() -> None:
    with closed("127.0.0.1") as four, closed("127.0.0.2") as other, closed("::1") as six:
        ended = await race([four, other, six], ANY, LONG, LONG)
        assert (ended.winner, ended.failed) == (None, ((six, REFUSED), (four, REFUSED), (other, REFUSED)))
    assert await race([], ANY, LONG) == Race(None)


@pytest.mark.asyncio
async def test_who_loses_sees_a_connection_and_nothing_more() -> None:
    """Both are called at once; whichever is seen first wins."""
    async with listening("127.0.0.1") as four, listening("::1") as six:
        ended = await race([four.target, six.target], ANY, LONG, 0.0)
        loser = four if won(ended) == six.target else six
        if loser.callers:
            await loser.over.acquire()
        assert (four.heard, six.heard) == (b"", b"")


@pytest.mark.asyncio
async def test_cancelled() -> None:
    """Nothing is left open, which would be a warning, and so an error."""
    with silent("::1") as six, silent("127.0.0.1") as four:
        task = asyncio.create_task(race([six, four], ANY, LONG, 0.0))
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.asyncio
async def test_each_family_is_called_from_its_own_address() -> None:
    source = Source("127.0.0.9", "::1")
    async with listening("127.0.0.1") as four, listening("::1") as six:
        for there in (four, six):
            assert won(await race([there.target], source, LONG)) == there.target
            await there.over.acquire()
        assert (four.callers, six.callers) == (["127.0.0.9"], ["::1"])


@pytest.mark.asyncio
async def test_a_family_without_a_source_is_left_to_the_system() -> None:
    async with listening("127.0.0.1") as four:
        assert won(await race([four.target], Source("", "::1"), LONG)) == four.target
        await four.over.acquire()
        assert four.callers == ["127.0.0.1"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("address", "source", "reason"),
    [
        ("127.0.0.1", Source(NOT_OURS_4), f"cannot send from {NOT_OURS_4} (delivery.source_ipv4): "),
        ("::1", Source("", NOT_OURS_6), f"cannot send from {NOT_OURS_6} (delivery.source_ipv6): "),
        (
            "127.0.0.1",
            Source(NOT_OURS_4, rule=("a.example", ".b.example")),
            f"cannot send from {NOT_OURS_4} (ipv4 of [[source]] for a.example, .b.example): ",
        ),
    ],
)
async def test_an_address_that_is_not_ours(address: str, source: Source, reason: str) -> None:
    """It is our fault, and nothing is sent from another address."""
    async with listening(address) as there:
        failed = await dial(there.target, source, LONG)
        words = reason + "cannot assign requested address"
        assert failed == ConnectFailed(Stage.CONNECT, words, ours=True)
        assert there.callers == []


@pytest.mark.asyncio
async def test_the_other_family_goes_from_its_own_address() -> None:
    async with listening("::1") as six, listening("127.0.0.1") as four:
        ended = await race([six.target, four.target], Source("127.0.0.9", NOT_OURS_6), LONG, LONG)
        assert won(ended) == four.target
        assert [failed.ours for _, failed in ended.failed] == [True]
        await four.over.acquire()
        assert (four.callers, six.callers) == (["127.0.0.9"], [])
