"""Connections in an attempt: families raced, sessions used again before that, and source addresses by sender."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
from attempt_world import IPV6, NOW, World, connections, in_words, make_claim, world

from relay.delivery.attempt import Attempt
from relay.delivery.transaction import Timeouts
from relay.lab.sink import Sink, SinkScript
from relay.mail.outcome import Cause, Deferred
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides
from relay.policy.source import Source, Sources

OK = SinkScript()
BUSY = SinkScript(greeting=("421 4.3.2 busy",))
DEFAULT = Source(hostname="relay.test")


async def two_families(there: World, six: SinkScript | None, four: SinkScript | None) -> list[Sink]:
    """The domain a.test, whose one host has an address of each family."""
    sixth, _ = await there.host(six, IPV6)
    fourth, address = await there.host(four)
    there.publish("a.test", f"@ MX 1 mx\nmx AAAA {IPV6}\nmx A {address}")
    return [sixth, fourth]


@contextmanager
def silence(port: int) -> Iterator[None]:
    """Nobody answers at IPv6, not even with a refusal."""
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket(socket.AF_INET6))
        full.bind((IPV6, port))
        full.listen(0)
        for _ in range(8):
            one = stack.enter_context(socket.socket(socket.AF_INET6))
            one.setblocking(False)
            one.connect_ex((IPV6, port))
        yield


async def tried(there: World) -> list[tuple[str | None, str]]:
    """Address and end of each connection that one more message comes to."""
    record = (await Attempt(make_claim("b@a.test"), there.tools).run()).record
    return [(host.address, host.seen) for host in record.tried]


@pytest.mark.asyncio
async def test_a_dead_family_costs_a_moment() -> None:
    async with world(timeouts=Timeouts(connect_seconds=20)) as there:
        with silence(there.port):
            sinks = await two_families(there, None, OK)
            async with asyncio.timeout(10):
                assert await there.send("b@a.test") == ["delivered 2.0.0 mx.a.test none"]
            assert connections(sinks) == [0, 1]


@pytest.mark.asyncio
async def test_what_comes_after_the_connection_is_tried_address_by_address() -> None:
    async with world() as there:
        sinks = await two_families(there, BUSY, BUSY)
        assert await there.send("b@a.test") == ["deferred 4.3.2 mx.a.test none"]
        assert connections(sinks) == [1, 1]


@pytest.mark.asyncio
async def test_each_address_that_failed_is_in_the_evidence() -> None:
    async with world() as there:
        await two_families(there, None, None)
        assert await tried(there) == [
            (IPV6, f"mx.a.test [{IPV6}]: connection refused"),
            ("127.2.0.2", "mx.a.test [127.2.0.2]: connection refused"),
        ]


@pytest.mark.asyncio
async def test_an_open_session_with_any_address_comes_first() -> None:
    async with world() as there:
        sinks = await two_families(there, None, OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx.a.test none"]
        await sinks[0].start(IPV6, there.port)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx.a.test none"]
        assert connections(sinks) == [0, 1]


@pytest.mark.asyncio
async def test_addresses_that_must_show_different_things_are_not_raced() -> None:
    """An override names one of them: each is called in its turn, and IPv6 has all its time."""
    special = Override(
        domains=(),
        hosts=("127.2.0.2",),
        level=OverrideLevel.ENCRYPT,
        mode=OverrideMode.RAISE,
        reason="test",
        owner="test",
        until=NOW + timedelta(days=1),
    )
    async with world(timeouts=Timeouts(connect_seconds=0.5), overrides=Overrides([special])) as there:
        with silence(there.port):
            await two_families(there, None, OK)
            assert [told for _, told in await tried(there)] == [
                f"mx.a.test [{IPV6}]: no connection within 0.5 seconds",
                "no TLS: STARTTLS is not offered",
            ]


@pytest.mark.asyncio
async def test_each_sender_goes_out_under_its_own_name_and_shares_no_session() -> None:
    news = Source("127.0.0.9", "", "news.test", ("news.example",))
    async with world(sources=Sources(DEFAULT, (news,))) as there:
        (sink,) = await there.domain("a.test", OK)
        for sender in ("x@news.example", "x@other.example", None, "y@news.example"):
            (outcome,) = await there.attempt(make_claim("b@a.test", sender=sender))
            assert in_words(outcome) == "delivered 2.0.0 mx1.a.test none"
        assert [mail.helo for mail in sink.received] == ["news.test", "relay.test", "relay.test", "news.test"]
        assert sink.sessions.connections == 2


@pytest.mark.asyncio
async def test_an_address_that_is_not_ours_is_our_own_fault() -> None:
    lost = Source("203.0.113.77", "", "news.test", ("news.example",))
    async with world(sources=Sources(DEFAULT, (lost,))) as there:
        sinks = await there.domain("a.test", OK)
        (outcome,) = await there.attempt(make_claim("b@a.test", sender="x@news.example"))
        assert isinstance(outcome, Deferred)
        assert (str(outcome.status), outcome.cause, outcome.host) == ("4.3.0", Cause.LOCAL, None)
        assert outcome.reason == (
            "this machine could not connect to mx1.a.test [127.2.0.1]: cannot send from 203.0.113.77 "
            "(ipv4 of [[source]] for news.example): cannot assign requested address"
        )
        assert connections(sinks) == [0]
