"""The memory of TLS in attempts: a host that had TLS and has none now. RFC 3207 section 6."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from attempt_world import NOW, World, in_words, make_claim, world

from relay.events import TlsLost
from relay.lab.certs import Leaf
from relay.lab.sink import Break, SinkScript, Stage
from relay.mail.message import TlsDemand
from relay.policy.memory import MemoryRules, OnTlsLoss, TlsMemory
from relay.policy.sts import StsMode

pytestmark = pytest.mark.asyncio

OK = SinkScript()
WEEK, DAY = timedelta(days=7), timedelta(days=1)


def rules(on_loss: OnTlsLoss) -> MemoryRules:
    return MemoryRules(on_loss, after=WEEK, defer_for=DAY)


async def remembered(there: World) -> TlsMemory | None:
    return await there.memories.get("mx1.a.test")


def told(there: World) -> list[tuple[str, datetime | None]]:
    return [(event.action, event.until) for event in there.events if isinstance(event, TlsLost)]


async def had_tls(there: World, days: int = 8) -> None:
    for day in range(days, 0, -1):
        await there.memories.note("mx1.a.test", tls=True, authenticated_by="sts", now=NOW - day * DAY)


@pytest.mark.parametrize(
    ("leaf", "sts", "dane", "by"),
    [
        (Leaf.SELF_SIGNED, None, False, None),
        (Leaf.GOOD, StsMode.ENFORCE, False, "sts"),
        (Leaf.GOOD, StsMode.TESTING, False, "sts"),
        (Leaf.SELF_SIGNED, None, True, "dane"),
    ],
)
async def test_what_is_remembered(leaf: Leaf, sts: StsMode | None, dane: bool, by: str | None) -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=leaf, sts=sts, dane=dane)
        await there.send("b@a.test")
        assert await remembered(there) == TlsMemory(NOW, NOW, by)


async def test_a_host_without_tls_is_not_remembered() -> None:
    async with world() as there:
        await there.domain("a.test", OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert (await remembered(there), told(there)) == (None, [])


@pytest.mark.parametrize("script", [OK, SinkScript(breaks=(Break(Stage.HANDSHAKE),))], ids=["none", "handshake"])
@pytest.mark.parametrize(
    ("on_loss", "outcome", "action"),
    [
        (OnTlsLoss.OFF, "delivered 2.0.0 mx1.a.test none", []),
        (OnTlsLoss.WARN, "delivered 2.0.0 mx1.a.test none", [("delivered", None)]),
        (OnTlsLoss.DEFER, "deferred 4.7.4 mx1.a.test none", [("deferred", NOW + DAY)]),
    ],
)
async def test_its_loss(
    script: SinkScript, on_loss: OnTlsLoss, outcome: str, action: list[tuple[str, datetime | None]]
) -> None:
    async with world(memory=rules(on_loss)) as there:
        (sink,) = await there.domain("a.test", script, leaf=None if script is OK else Leaf.GOOD)
        await had_tls(there)
        assert await there.send("b@a.test") == [outcome]
        assert told(there) == action
        assert len(sink.received) == outcome.startswith("delivered")


async def test_mail_waits_for_a_time_and_then_goes_with_a_warning() -> None:
    async with world(memory=rules(OnTlsLoss.DEFER)) as there:
        await there.domain("a.test", OK)
        await had_tls(there)
        assert await there.send("b@a.test") == ["deferred 4.7.4 mx1.a.test none"]
        there.later(DAY - timedelta(seconds=1))
        assert await there.send("b@a.test") == ["deferred 4.7.4 mx1.a.test none"]
        there.later(DAY)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert [action for action, _ in told(there)] == ["deferred", "deferred", "delivered"]


async def test_tls_that_comes_back_ends_the_matter() -> None:
    async with world(memory=rules(OnTlsLoss.DEFER)) as there:
        (sink,) = await there.domain("a.test", SinkScript(breaks=(Break(Stage.STARTTLS, times=1),)), leaf=Leaf.GOOD)
        await had_tls(there)
        assert await there.send("b@a.test") == ["deferred 4.7.4 mx1.a.test none"]
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test encrypted"]
        found = await remembered(there)
        assert found == TlsMemory(NOW - 8 * DAY, NOW, None)
        assert len(sink.received) == 1


async def test_another_host_may_have_it() -> None:
    async with world(memory=rules(OnTlsLoss.DEFER)) as there:
        await there.domain("a.test", OK, OK)
        await had_tls(there)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test none"]


async def test_the_sender_may_waive_it() -> None:
    async with world(memory=rules(OnTlsLoss.DEFER)) as there:
        await there.domain("a.test", OK)
        await had_tls(there)
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.WAIVED))
        assert in_words(found[0]) == "delivered 2.0.0 mx1.a.test none"
        assert told(there) == []
