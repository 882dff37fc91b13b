"""Web hosts that strangers name and that never stop talking are left as soon as all that is wanted of them is known."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from relay.guard import AddressGuard
from relay.lab.certs import LabCa
from relay.lab.zones import Zone, Zones
from relay.lookup.resolver import Resolver
from relay.lookup.sts_fetch import PolicyFetcher
from relay.policy.tlsrpt_record import HttpsTo
from relay.tls import https_context, https_context_unverified
from relay.tlsrpt.post import Poster

CA = LabCa.make(datetime.now(UTC))
CONTEXT = https_context(CA.pem)
PATIENCE_SECONDS = 2  # TLS would wait for the other side's goodbye for half a minute

POLICY = b"version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
ANSWERS = {
    "an answer without end": HEAD + b"Content-Length: 1000000000\r\n\r\n",
    "more than the answer": HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(POLICY), POLICY),
    "no HTTP": b"",
}


@contextmanager
def talker(answer: bytes) -> Iterator[tuple[int, threading.Event]]:
    """A web host that says `answer` and then no end of other things, deaf to TLS's goodbye as asyncio's is not.

    Gives its port, and what is set when it is left.
    """
    left, context = threading.Event(), CA.issue(("mta-sts.r.test", "r.test")).server_context()

    def talk() -> None:
        with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.recv(65536)
            connection.sendall(answer)
            end = time.monotonic() + 2 * PATIENCE_SECONDS
            try:
                while time.monotonic() < end:
                    connection.sendall(b"x" * 65536)
            except OSError:
                left.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=talk)
        thread.start()
        yield listening.getsockname()[1], left
        thread.join()


@asynccontextmanager
async def dns() -> AsyncIterator[Resolver]:
    zones = Zones({"r.test": Zone("@ A 127.0.0.1\nmta-sts A 127.0.0.1\n", ttl=0)})
    resolver = Resolver([await zones.start()], timedelta(seconds=5))
    try:
        yield resolver
    finally:
        await resolver.close()
        await zones.stop()


async def fetch(resolver: Resolver, port: int) -> None:
    await PolicyFetcher(resolver, port, AddressGuard(True), CONTEXT).fetch("r.test")


async def post(resolver: Resolver, port: int) -> None:
    poster = Poster(resolver, AddressGuard(True), CONTEXT, https_context_unverified())
    await poster.post(HttpsTo(f"https://r.test:{port}/", "r.test"), b"report")


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("exchange", [fetch, post])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_host_that_goes_on_talking_is_left(
    loop: str, exchange: Callable[[Resolver, int], Awaitable[None]], answer: bytes
) -> None:
    async def go() -> None:
        with talker(answer) as (port, left):
            async with dns() as resolver:
                await exchange(resolver, port)
                assert await asyncio.to_thread(left.wait, PATIENCE_SECONDS)

    with asyncio.Runner(loop_factory=pytest.importorskip(loop).new_event_loop) as runner:
        runner.run(go())
