"""The clock jumps, and DNS goes away: nothing is lost, nothing stuck, and nothing is tried without end."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from app_here import Here, running
from service import number_of, numbered

from relay.events import DefectFound, NoticeQueued, StoreFailed
from relay.lab.sink import Sink
from relay.lab.zones import Security, Zone, Zones
from relay.lookup import resolver
from relay.mail.outcome import Cause, State

pytestmark = pytest.mark.asyncio

YEAR = timedelta(days=365)
MESSAGES = range(1, 6)
# Of a sink that is away for a while: the kernel may give its port at 127.0.0.1 to Relay's own listener.
ELSEWHERE = "127.2.0.1"


async def send_all(here: Here, first: int = 0) -> None:
    for number in MESSAGES:
        answer = await here.send(numbered(first + number), recipient=b"r@%d.test" % number)
        assert answer.startswith(b"250")


def arrivals(sink: Sink) -> Counter[int]:
    return Counter(number_of(mail.octets) for mail in sink.received if mail.sender)  # no notices


def delivered(here: Here) -> int:
    """How many of them went out, without notices."""
    return len([one for one in here.finished("delivered") if one.recipient.startswith("r@")])


async def assert_calm(here: Here, at_most: int) -> None:
    """No storm: the queue and the worker have had time for many rounds, and there were no more attempts than that."""
    for _ in range(20):
        here.app._store.wake()
        await here.waiting()
    assert len(here.finished("deferred")) <= at_most
    assert here.seen(DefectFound) == []
    assert here.seen(StoreFailed) == []


@pytest.mark.parametrize("jump", [YEAR, -YEAR], ids=["forward", "back"])
async def test_a_jump_while_mail_comes_and_goes(jump: timedelta, tmp_path: Path) -> None:
    """What comes afterwards goes out at once, whatever the clock says."""
    sink = Sink()
    async with running(tmp_path, await sink.start()) as here:
        await send_all(here)
        await here.until(lambda: delivered(here) == len(MESSAGES))
        here.pass_time(jump)
        await send_all(here, 10)
        await here.until(lambda: delivered(here) == 2 * len(MESSAGES))
        here.pass_time(-jump)
        await send_all(here, 20)
        await here.until(lambda: delivered(here) == 3 * len(MESSAGES))
        assert arrivals(sink) == Counter(first + number for first in (0, 10, 20) for number in MESSAGES)
        assert await here.waiting() == []
        await assert_calm(here, 0)
    await sink.stop()


async def test_a_jump_back_while_mail_waits(tmp_path: Path) -> None:
    """Its next attempt and the rest of its destination lie a year ahead then: they are brought forward."""
    sink = Sink()
    address = await sink.start(ELSEWHERE)
    await sink.stop()
    async with running(tmp_path, address) as here:
        await send_all(here)
        await here.until(lambda: len(here.finished("deferred")) >= 2)
        tried = len(here.finished("deferred"))
        here.pass_time(-YEAR)
        await assert_calm(here, len(MESSAGES) + tried)
        await sink.start(ELSEWHERE, address.port)
        await here.app._reviewer.look()  # as it does twice in a minute
        here.pass_time(timedelta(hours=6))  # the longest wait that there is
        await here.until(lambda: delivered(here) == len(MESSAGES))
        assert arrivals(sink) == Counter(MESSAGES)
        assert await here.waiting() == []
    await sink.stop()


async def test_a_jump_forward_while_mail_waits(tmp_path: Path) -> None:
    """Everything is tried once more before it is given up; what cannot go out comes back to its sender, once."""
    sink = Sink()
    address = await sink.start(ELSEWHERE)
    await sink.stop()
    async with running(tmp_path, address) as here:
        await send_all(here)
        await here.until(lambda: len(here.finished("deferred")) >= 2)
        await sink.start(ELSEWHERE, address.port)
        here.pass_time(YEAR)
        await here.until(lambda: delivered(here) == len(MESSAGES))
        assert arrivals(sink) == Counter(MESSAGES)
        assert here.seen(NoticeQueued) == []
        await assert_calm(here, len(MESSAGES))
    await sink.stop()


async def test_a_jump_forward_while_attempts_run(tmp_path: Path) -> None:
    """Their leases seem to be over; nothing goes out twice."""
    waits = asyncio.Event()

    class Slow(Sink):
        async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await waits.wait()
            await super()._serve(reader, writer)

    sink = Slow()
    async with running(tmp_path, await sink.start()) as here:
        await send_all(here)
        here.pass_time(timedelta(hours=6))
        await assert_calm(here, 0)
        waits.set()
        await here.until(lambda: delivered(here) == len(MESSAGES))
        assert arrivals(sink) == Counter(MESSAGES)
        assert await here.waiting() == []
        await assert_calm(here, 0)
    await sink.stop()


async def test_a_start_after_the_clock_was_a_year_ahead(tmp_path: Path) -> None:
    sink = Sink()
    address = await sink.start(ELSEWHERE)
    await sink.stop()
    async with running(tmp_path, address) as here:
        here.pass_time(YEAR)
        await send_all(here)
        await here.until(lambda: here.finished("deferred"))
    await sink.start(ELSEWHERE, address.port)
    async with running(tmp_path, address) as here:
        await here.app._reviewer.look()
        here.pass_time(timedelta(hours=6))
        await here.until(lambda: delivered(here) == len(MESSAGES))
        assert arrivals(sink) == Counter(MESSAGES)
        assert await here.waiting() == []
    await sink.stop()


async def test_dns_is_away_for_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "_FAILURE_SECONDS", 0.0)  # it goes by the real time
    sink = Sink()
    address = await sink.start(ELSEWHERE)
    zones = Zones({f"{number}.test": Zone(f"@ MX 10 mx\nmx A {ELSEWHERE}", Security.UNSIGNED) for number in MESSAGES})
    dns = await zones.start()
    settings = {"nameservers": [f"{dns.host}:{dns.port}"], "timeout": "1s"}
    async with running(tmp_path, dns=settings, delivery={"port": address.port}) as here:
        await zones.stop()
        await send_all(here)
        await here.until(lambda: len(here.finished("deferred")) == len(MESSAGES))
        assert {entry.state for entry in await here.waiting()} == {State.DEFERRED}
        assert {one.status for one in here.finished("deferred")} == {"4.4.3"}
        assert {entry.cause for entry in await here.waiting()} == {Cause.DNS}
        await zones.start(port=dns.port)
        here.pass_time(timedelta(hours=1))
        await here.until(lambda: delivered(here) == len(MESSAGES))
        assert arrivals(sink) == Counter(MESSAGES)
        assert await here.waiting() == []
    await zones.stop()
    await sink.stop()
