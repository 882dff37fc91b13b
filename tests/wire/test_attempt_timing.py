"""What the next host is told of time and rank, and which hosts mail with a time does not go to. RFC 2852, RFC 6710."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from attempt_world import DOWN, NOW, connections, in_words, make_claim, world

from relay.lab.sink import SinkScript
from relay.mail.message import Claim, DeliverBy, Notify, RecipientDsn
from relay.mail.outcome import Deferred, Delivered, Failed
from relay.mail.status import Kind, Status

pytestmark = pytest.mark.asyncio

BASE = ("PIPELINING", "8BITMIME", "SIZE 52428800", "ENHANCEDSTATUSCODES")
PLAIN = SinkScript(extensions=BASE)
REPORTS = SinkScript(extensions=(*BASE, "DSN"))
KNOWS = SinkScript(extensions=(*BASE, "DSN", "DELIVERBY 30", "MT-PRIORITY MIXER"))
SECONDS = timedelta(seconds=1)


def claim(seconds: int | None, mode: str = "N", priority: int = 0, notify: Notify | None = None) -> Claim:
    made = make_claim("b@a.test")
    recipients = tuple(replace(one, dsn=RecipientDsn(notify)) for one in made.recipients)
    by = None if seconds is None else DeliverBy.of(NOW + seconds * SECONDS, mode)
    return replace(made, recipients=recipients, deliver_by=by, priority=priority)


@pytest.mark.parametrize(
    ("script", "mail", "told"),
    [
        (KNOWS, claim(None), {"MT-PRIORITY=0"}),
        (KNOWS, claim(98, "R"), {"BY=98;R", "MT-PRIORITY=0"}),
        (KNOWS, claim(-98, "NT", priority=-9), {"BY=-98;NT", "MT-PRIORITY=-9"}),
        (KNOWS, claim(98, "RT", priority=9), {"BY=98;RT", "MT-PRIORITY=9"}),
        (PLAIN, claim(98, "N", priority=9), set()),
        (REPORTS, claim(None, priority=9), set()),
    ],
)
async def test_what_is_passed_on(script: SinkScript, mail: Claim, told: set[str]) -> None:
    async with world() as internet:
        (mx,) = await internet.domain("a.test", script)
        (outcome,) = await internet.attempt(mail)
        assert isinstance(outcome, Delivered)
        (arrived,) = mx.received
        assert {word for word in arrived.mail_parameters if word.startswith(("BY", "MT-"))} == told


async def test_the_seconds_are_those_that_are_left_at_mail() -> None:
    async with world() as internet:
        (mx,) = await internet.domain("a.test", KNOWS)
        internet.later(22 * SECONDS)
        await internet.attempt(claim(120, "R"))
        assert "BY=98;R" in mx.received[0].mail_parameters


@pytest.mark.parametrize(
    ("notify", "passed"),
    [(None, "NOTIFY=FAILURE,DELAY"), (Notify.SUCCESS, "NOTIFY=SUCCESS,DELAY"), (Notify.NEVER, "NOTIFY=NEVER")],
)
async def test_a_host_that_does_not_know_the_time_is_to_report_delays(notify: Notify | None, passed: str) -> None:
    async with world() as internet:
        (mx,) = await internet.domain("a.test", REPORTS)
        (outcome,) = await internet.attempt(claim(60, notify=notify))
        assert isinstance(outcome, Delivered)
        assert outcome.traced
        assert passed in mx.received[0].rcpt_parameters[0]


async def test_after_the_time_it_is_asked_for_nothing_more() -> None:
    async with world() as internet:
        (mx,) = await internet.domain("a.test", REPORTS)
        (outcome,) = await internet.attempt(claim(-60))
        assert isinstance(outcome, Delivered)
        assert not outcome.traced
        assert mx.received[0].rcpt_parameters == ((),)


async def test_what_is_to_come_back_goes_to_no_host_that_would_not_do_that() -> None:
    async with world() as internet:
        (mx,) = await internet.domain("a.test", REPORTS)
        (outcome,) = await internet.attempt(claim(60, "R"))
        assert in_words(outcome) == "failed 5.3.3 mx1.a.test none"
        assert mx.received == []


async def test_nor_to_one_that_wants_more_time() -> None:
    async with world() as internet:
        (mx,) = await internet.domain("a.test", KNOWS)
        (outcome,) = await internet.attempt(claim(29, "R"))
        assert isinstance(outcome, Failed)
        assert outcome.reason == "mx1.a.test takes mail that has 30 seconds left or more (DELIVERBY), and this has 29"
        assert mx.received == []


async def test_another_host_may_know_it() -> None:
    """RFC 2852 section 6: other MX records are followed."""
    async with world() as internet:
        first, second = await internet.domain("a.test", PLAIN, KNOWS)
        (outcome,) = await internet.attempt(claim(60, "R"))
        assert in_words(outcome) == "delivered 2.0.0 mx2.a.test none"
        assert (first.received, len(second.received)) == ([], 1)


async def test_or_be_down_for_a_while() -> None:
    async with world() as internet:
        await internet.domain("a.test", PLAIN, DOWN)
        (outcome,) = await internet.attempt(claim(60, "R"))
        assert isinstance(outcome, Deferred)


async def test_when_its_time_is_over_nobody_is_called() -> None:
    async with world() as internet:
        sinks = await internet.domain("a.test", KNOWS)
        internet.later(60 * SECONDS)
        (outcome,) = await internet.attempt(claim(60, "R"))
        assert isinstance(outcome, Failed)
        assert outcome.status == Status(Kind.PERMANENT, 4, 7)
        assert connections(sinks) == [0]


async def test_nor_is_it_sent_when_that_happens_on_the_way() -> None:
    """The clock runs on while hosts are found and greeted."""
    async with world() as internet:
        (mx,) = await internet.domain("a.test", KNOWS)
        times = iter(range(1000))
        internet.tools = replace(internet.tools, clock=lambda: NOW + next(times) * SECONDS)
        (outcome,) = await internet.attempt(claim(1, "R"))
        assert isinstance(outcome, Failed)
        assert str(outcome.status) == "5.4.7"
        assert mx.received == []
