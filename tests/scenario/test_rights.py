"""The whole service obeys [[client]] and the checks of domains: the parts are joined, and a restart forgets nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from app_here import Here, running
from submission_peer import Client

from relay.events import DefectFound, QuotaFailed, QuotaReached
from relay.lab.zones import Zone, Zones
from relay.submission.quota import FILE_NAMES

pytestmark = pytest.mark.asyncio

NOWHERE = {"nameservers": ["127.0.0.1:9"]}
QUOTA = {"name": "x", "networks": ["127.0.0.0/8"], "recipients_per_day": 2, "new_recipients_per_day": 1}


async def send(here: Here, recipient: str, sender: str = "s@from.test") -> str:
    """A whole message. Returns the refusal, or the answer to the final dot."""
    async with await Client.connect("127.0.0.1", here.port) as client:
        await client.hello()
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
            answer = await client.ask(line)
            if not answer.startswith("250 "):
                return answer
        await client.ask("DATA")
        return await client.ask("x\r\n.")


async def test_a_quota_survives_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, client=[QUOTA], dns=NOWHERE) as here:
        assert (await send(here, "a@t.test")).startswith("250 2.0.0 ")
        assert (await send(here, "b@t.test")).startswith("450 4.7.1 Too many new recipients: your limit is 1 in 24")
    async with running(tmp_path, client=[QUOTA], dns=NOWHERE) as here:
        assert (await send(here, "a@t.test")).startswith("250 2.0.0 ")
        assert (await send(here, "a@t.test")).startswith("450 4.7.1 Too many recipients: your limit is 2 in 24")
        assert [event.limit for event in here.seen(QuotaReached)] == ["recipients_per_day"]
        here.ahead = timedelta(days=1, minutes=10)
        assert (await send(here, "b@t.test")).startswith("250 2.0.0 ")
        assert not here.seen(QuotaFailed) and not here.seen(DefectFound)


async def test_without_a_quota_nothing_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path, dns=NOWHERE) as here:
        assert (await send(here, "a@t.test")).startswith("250 2.0.0 ")
    assert not any((tmp_path / name).exists() for name in FILE_NAMES)


async def test_domains_are_checked(tmp_path: Path) -> None:
    zones = Zones({"null.test": Zone("@ MX 0 ."), "good.test": Zone("@ A 127.0.0.1")})
    dns = {"nameservers": [str(await zones.start())]}
    checks = {"check_sender_domain": True, "check_recipient_domain": True}
    route = {"name": "away", "action": "discard", "recipient_domains": ["away.test"]}
    try:
        async with running(tmp_path, submission=checks, dns=dns, route=[route]) as here:
            assert (await send(here, "a@good.test", "a@good.test")).startswith("250 2.0.0 ")
            assert (await send(here, "a@null.test", "a@good.test")).startswith("550 5.1.10 ")
            assert (await send(here, "a@none.test", "a@good.test")).startswith("550 5.1.2 ")
            assert (await send(here, "a@away.test", "a@good.test")).startswith("250 2.0.0 ")
            assert (await send(here, "a@good.test", "a@null.test")).startswith("550 5.7.27 ")
            assert (await send(here, "a@good.test", "a@none.test")).startswith("550 5.1.8 ")
    finally:
        await zones.stop()
