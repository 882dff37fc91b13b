"""Keys compared with the lab's DNS as time goes by: what is told, and which keys may sign."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay.dkim_page import record
from relay.events import DkimKeyMatches, DkimKeyMismatch, DkimKeyUnknown, Event
from relay.key_watch import KeyWatch
from relay.lab.zones import Fault, Zone, Zones
from relay.settings import HostPort, Settings
from relay.signing.keys import Algorithm, KeyTable, SigningKey

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = SigningKey("d.test", "s1", False, Algorithm.ED25519_SHA256, 256, bytes(32), lambda octets: octets)
NEW_KEY = replace(KEY, public=bytes(range(32)))
HAS = DkimKeyMatches("d.test", "s1", None)


class World:
    """A watch over one key, its DNS and its clock."""

    def __init__(self, zones: Zones, dns: HostPort, on_mismatch: str) -> None:
        self.zones = zones
        self.now = NOW
        self.key = KEY
        self.events: list[Event] = []
        self.told = asyncio.Event()
        given: dict[str, Any] = {"dns": {"nameservers": [dns], "timeout": "1s"}, "dkim": {"on_mismatch": on_mismatch}}
        settings = Settings.model_validate(given)
        self.watch = KeyWatch(settings, lambda: self.now, self._emit)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()

    def publish(self, *texts: str) -> None:
        self.zones.replace("s1._domainkey.d.test", "TXT", *(f'"{text}"' for text in texts))

    def fail(self, fault: Fault | None = Fault.SERVFAIL) -> None:
        self.zones.set_fault("s1._domainkey.d.test", "TXT", fault)

    async def look(self, after: timedelta = HOUR) -> list[Event]:
        """What is told in one look, so much later."""
        self.events.clear()
        self.now += after
        await self.watch.look(KeyTable([self.key]))
        return list(self.events)


@asynccontextmanager
async def world(on_mismatch: str = "skip") -> AsyncIterator[World]:
    zones = Zones({"d.test": Zone()})
    try:
        yield World(zones, await zones.start(), on_mismatch)
    finally:
        await zones.stop()


def mismatch(reason: str, since: timedelta, action: str = "skip") -> DkimKeyMismatch:
    return DkimKeyMismatch("d.test", "s1", reason, NOW + since, action)


@pytest.mark.asyncio
async def test_what_stays_as_it_is_is_told_once_and_then_daily() -> None:
    async with world() as there:
        there.publish(record(KEY))
        assert await there.look() == [HAS]
        assert await there.look() == []
        assert await there.look(timedelta(days=30)) == []
        assert there.watch.usable(KEY)
        there.publish()
        since = timedelta(days=30) + 3 * HOUR
        missing = mismatch("DNS has no TXT record there", since)
        assert await there.look() == [missing]
        assert not there.watch.usable(KEY)
        assert [await there.look() for _ in range(23)] == [[]] * 23
        assert await there.look() == [missing]  # a day is over
        assert await there.look() == []
        there.publish("v=DKIM1; p=")
        revoked = mismatch("the record in DNS revokes the key (p= is empty)", since)
        assert await there.look() == [revoked]  # another fault, since the same time
        there.publish(record(KEY))
        assert await there.look() == [HAS]
        assert there.watch.usable(KEY)
        there.publish(f"{record(KEY)}; t=y")
        (trial,) = await there.look()
        assert isinstance(trial, DkimKeyMatches)
        assert "as a trial" in (trial.note or "")
        assert there.watch.usable(KEY)


FAULTS: list[tuple[tuple[str, ...], bool]] = [
    ((), False),
    (("v=DKIM1; p=",), False),
    ((record(NEW_KEY),), False),
    (("v=spf1 -all",), False),
    ((f"{record(KEY)}; s=tlsrpt",), False),
    ((record(KEY), "v=spf1 -all"), True),  # some receivers take the right one
    ((f"{record(KEY)}; t=y",), True),
]


@pytest.mark.asyncio
async def test_which_keys_may_sign() -> None:
    async with world("skip") as skips, world("sign") as signs:
        for texts, usable in FAULTS:
            skips.publish(*texts)
            signs.publish(*texts)
            told = [*await skips.look(), *await signs.look()]
            assert skips.watch.usable(KEY) is usable
            assert signs.watch.usable(KEY)
            actions = [event.action for event in told if isinstance(event, DkimKeyMismatch)]
            assert actions in ([], ["sign" if usable else "skip", "sign"])


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.BOGUS])
async def test_what_is_not_known_changes_nothing(fault: Fault) -> None:
    async with world() as there:
        there.fail(fault)
        assert there.watch.usable(KEY)  # before anything was asked
        (unknown,) = await there.look()
        assert isinstance(unknown, DkimKeyUnknown)
        assert there.watch.usable(KEY)
        assert await there.look() == []
        there.fail(None)
        assert await there.look() == [mismatch("DNS has no TXT record there", 3 * HOUR)]
        there.fail(fault)
        assert await there.look() == [unknown]
        assert not there.watch.usable(KEY)
        there.fail(None)
        assert await there.look() == [mismatch("DNS has no TXT record there", 3 * HOUR)]
        there.publish(record(KEY))
        assert await there.look() == [HAS]
        there.fail(fault)
        assert await there.look() == [unknown]
        assert there.watch.usable(KEY)
        there.fail(None)
        assert await there.look() == [HAS]


@pytest.mark.asyncio
async def test_a_key_in_place_of_another_is_not_judged_by_its_record() -> None:
    async with world() as there:
        await there.look()
        assert not there.watch.usable(KEY)
        there.key = NEW_KEY
        assert there.watch.usable(NEW_KEY)
        there.publish(record(KEY))
        assert await there.look() == [mismatch("the record in DNS has another key", 2 * HOUR)]
        assert not there.watch.usable(NEW_KEY)


@pytest.mark.asyncio
async def test_it_looks_at_once_and_when_it_is_told_to() -> None:
    async with world() as there:
        hung_up = asyncio.Event()
        running = asyncio.create_task(there.watch.run(lambda: KeyTable([KEY]), hung_up))
        try:
            await asyncio.wait_for(there.told.wait(), 10)
            there.told.clear()
            there.publish(record(KEY))
            hung_up.set()  # nothing of the answer from before is remembered
            await asyncio.wait_for(there.told.wait(), 10)
            assert there.events == [mismatch("DNS has no TXT record there", timedelta(0)), HAS]
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.asyncio
async def test_it_looks_at_new_keys_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.key_watch.SEE_KEYS_EVERY_SECONDS", 0.001)
    async with world() as there:
        tables = [KeyTable([KEY])]
        running = asyncio.create_task(there.watch.run(lambda: tables[0], asyncio.Event()))
        try:
            await asyncio.wait_for(there.told.wait(), 10)
            there.told.clear()
            tables[0] = KeyTable([NEW_KEY])
            await asyncio.wait_for(there.told.wait(), 10)
            assert len(there.zones.asked) == 2
            assert not there.watch.usable(NEW_KEY)
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.asyncio
async def test_it_looks_again_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.key_watch.SEE_KEYS_EVERY_SECONDS", 0.001)
    monkeypatch.setattr("relay.key_watch.LOOK_ANEW_SECONDS", 0.01)
    async with world() as there:
        table = KeyTable([KEY])
        running = asyncio.create_task(there.watch.run(lambda: table, asyncio.Event()))
        try:
            await asyncio.wait_for(there.told.wait(), 10)
            there.told.clear()
            there.publish(record(KEY))
            await asyncio.wait_for(there.told.wait(), 10)
            assert there.events[1:] == [HAS]
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.asyncio
async def test_without_keys_there_is_nothing_to_watch() -> None:
    watch = KeyWatch(Settings(), lambda: NOW, lambda _: None)
    await asyncio.wait_for(watch.run(KeyTable, asyncio.Event()), 10)
