"""Keys that sign at the whole service: what DNS has decides, and is told of, while mail goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from app_here import Here, running

from relay.dkim_page import record
from relay.events import DkimKeyMatches, DkimKeyMismatch, DkimKeyRenewed, DkimKeyUnknown
from relay.lab.sink import Sink
from relay.lab.zones import Fault, Zone, Zones
from relay.signing.keygen import KeyType, new_key
from relay.signing.keys import SigningKey, load_key
from relay.signing_settings import DkimKeySettings

pytestmark = pytest.mark.asyncio
NAME = "s1._domainkey.from.test"
MAIL = b"From: s@from.test\r\nSubject: x\r\n\r\ntext\r\n"


@dataclass
class Service:
    """A service with one key, its DNS, and the host that gets its mail."""

    here: Here
    zones: Zones
    sink: Sink
    table: DkimKeySettings

    def publish(self, *texts: str) -> None:
        self.zones.replace(NAME, "TXT", *(f'"{text}"' for text in texts))

    def record(self) -> str:
        key = load_key(self.table)
        assert isinstance(key, SigningKey)
        return record(key)

    async def is_signed(self) -> bool:
        """Whether a message that goes out now has a signature."""
        count = len(self.sink.received)
        assert (await self.here.send(MAIL)).startswith(b"250")
        mail = (await self.sink.wait_for(count + 1))[-1]
        return b"DKIM-Signature:" in mail.octets


@asynccontextmanager
async def service(folder: Path) -> AsyncIterator[Service]:
    table = DkimKeySettings(domain="from.test", selector="s1", key_file=folder / "key.pem")
    table.key_file.write_bytes(new_key(KeyType.ED25519, 0))
    zones, sink = Zones({"from.test": Zone()}), Sink()
    sections = {
        "dns": {"nameservers": [await zones.start()], "timeout": "1s"},
        "dkim": {"on_mismatch": "skip"},
        "dkim_key": [table],
    }
    try:
        async with running(folder / "state", await sink.start(), **sections) as here:
            yield Service(here, zones, sink, table)
    finally:
        await sink.stop()
        await zones.stop()


async def test_a_key_that_dns_does_not_have_signs_no_more_until_it_has(tmp_path: Path) -> None:
    async with service(tmp_path) as there:
        here = there.here
        await here.until(lambda: here.seen(DkimKeyMismatch))
        assert here.seen(DkimKeyMismatch)[0].action == "skip"
        assert not await there.is_signed()
        there.publish(there.record())
        here.app.hang_up()
        await here.until(lambda: here.seen(DkimKeyMatches))
        assert await there.is_signed()
        there.zones.set_fault(NAME, "TXT", Fault.SERVFAIL)
        here.app.hang_up()
        await here.until(lambda: here.seen(DkimKeyUnknown))
        assert await there.is_signed()


async def test_a_new_key_in_the_file_is_compared_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.key_watch.SEE_KEYS_EVERY_SECONDS", 0.01)
    async with service(tmp_path) as there:
        here = there.here
        there.publish(there.record())
        here.app.hang_up()
        await here.until(lambda: here.seen(DkimKeyMatches))
        there.table.key_file.write_bytes(new_key(KeyType.ED25519, 0))
        here.app.hang_up()
        await here.until(lambda: here.seen(DkimKeyRenewed))
        await here.until(
            lambda: here.seen(DkimKeyMismatch)[-1:] and "another key" in here.seen(DkimKeyMismatch)[-1].reason
        )
        assert not await there.is_signed()
