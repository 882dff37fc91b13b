"""The worker keeps to what senders ask of time, and its notices say so: a real queue, and a clock that is moved."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from dsn_parser import Dsn, parse_dsn
from submission_peer import Client
from worker_desk import DELIVERED, LATER, NEVER, NOON, Desk, desk, make_message

from relay.delivery.reviews import Reviewer
from relay.events import NoticeQueued
from relay.mail.message import DeliverBy, InlineBody, MessageId, NewMessage, Notify, RecipientDsn
from relay.mail.outcome import State
from relay.queue.store import Rest
from relay.settings import HostPort, Settings, SubmissionSettings
from relay.submission.front import Front
from relay.submission.server import SubmissionServer

pytestmark = pytest.mark.asyncio

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def notices(at: Desk) -> list[Dsn]:
    bodies = [claim.body for claim in at.courier.begun if claim.sender is None]
    return [parse_dsn(body.octets) for body in bodies if isinstance(body, InlineBody)]


def tried(at: Desk) -> list[int]:
    return [claim.id.number for claim in at.courier.begun if claim.sender is not None]


def asking(message: NewMessage, notify: Notify) -> NewMessage:
    return replace(message, envelope=replace(message.envelope, dsn=(RecipientDsn(notify),)))


@asynccontextmanager
async def submission(at: Desk) -> AsyncIterator[Client]:
    """A client at a real server that gives its mail to the worker."""
    numbers = itertools.count(1)
    front = Front(
        clock=lambda: at.now,
        new_id=lambda: MessageId(next(numbers)),
        emit=at.emit,
        new_body=at.store.new_body,
        accept=at.worker.admit,
        tls=None,
        users=None,
    )
    settings = Settings(submission=SubmissionSettings(listen=(HostPort(host="127.0.0.1", port=0),)))
    server = SubmissionServer(settings, "relay.test", front)
    try:
        server.bind({})
        (address,) = await server.start()
        async with await Client.connect(address.host, address.port) as client:
            await client.hello()
            yield client
    finally:
        await server.stop(timedelta(0))


async def test_from_the_client_to_the_last_notice(tmp_path: Path) -> None:
    """Held for an hour, then tried for ten minutes, then back: all by what the client said."""
    async with desk(tmp_path) as at, submission(at) as client:
        at.courier.results = {"a.test": LATER}
        at.start()
        for line in ("MAIL FROM:<s@b.test> HOLDUNTIL=2030-01-01T13:00:00Z BY=4200;R", "RCPT TO:<b@a.test>"):
            assert (await client.ask(line)).startswith("250 "), line
        assert (await client.ask("DATA")).startswith("354 ")
        assert (await client.ask("Subject: x\r\n\r\nx\r\n.")).startswith("250 2.0.0 queued as ")
        at.pass_time(HOUR - SECOND)
        await at.calm()
        assert at.courier.begun == []
        at.pass_time(SECOND)
        await at.settled(1)
        at.pass_time(5 * MINUTE)
        await at.settled(2)
        at.pass_time(5 * MINUTE)
        await at.settled(4)
        (notice,) = notices(at)
        assert notice.message["Future-Release-Request"] == "until;2030-01-01T13:00:00Z"
        assert notice.message["Deliver-By-Date"] == format_datetime(NOON + 70 * MINUTE)
        assert (notice.recipients[0]["Action"], notice.recipients[0]["Status"]) == ("failed", "5.4.7")


async def test_mail_is_delivered_when_its_time_has_come(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.start()
        await at.worker.admit(replace(make_message(1, "b@a.test"), release=NOON + HOUR, release_asked="for;3600"))
        await at.worker.admit(make_message(2, "b@a.test"))
        await at.settled(1)
        await at.calm()
        at.pass_time(HOUR - SECOND)
        await at.calm()
        assert tried(at) == [2]
        at.pass_time(SECOND)
        await at.settled(2)
        assert tried(at) == [2, 1]


async def test_it_does_not_stand_in_the_way_of_others(tmp_path: Path) -> None:
    """New mail for the same destination goes the short way as before."""
    async with desk(tmp_path, total=2) as at:
        at.start()
        for number in range(1, 20):
            await at.worker.admit(replace(make_message(number, "b@a.test"), release=NOON + HOUR))
        await at.worker.admit(make_message(20, "b@a.test"))
        await at.settled(1)
        assert tried(at) == [20]
        assert {one.state for one in await at.entries() if one.id.number < 20} == {State.QUEUED}


async def test_a_clock_that_is_set_back_lets_nothing_out(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.start()
        await at.worker.admit(replace(make_message(1, "b@a.test"), release=NOON + 20 * DAY))
        at.pass_time(-30 * DAY)
        await Reviewer(at.store, at.office).look()
        await at.calm()
        at.pass_time(49 * DAY)
        await Reviewer(at.store, at.office).look()
        await at.calm()
        assert tried(at) == []
        at.pass_time(DAY)
        await at.settled(1)


async def test_while_it_waits_it_is_neither_late_nor_too_old(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        await at.worker.admit(replace(make_message(1, "b@a.test"), release=NOON + 20 * DAY))
        at.pass_time(20 * DAY - SECOND)
        await Reviewer(at.store, at.office).look()
        assert at.seen(NoticeQueued) == []
        at.pass_time(SECOND)
        await at.settled(1)
        (entry,) = await at.entries()
        assert (entry.state, entry.delay_notices) == (State.DEFERRED, 0)


async def test_its_report_says_what_was_asked_and_when_it_came(tmp_path: Path) -> None:
    """RFC 4865 section 5.1.2."""
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": NEVER}
        at.start()
        message = make_message(1, "b@a.test")
        await at.worker.admit(replace(message, release=NOON + HOUR, release_asked="for;3600", priority=4))
        await at.worker.admit(replace(make_message(2, "b@a.test"), release=NOON + HOUR))
        at.pass_time(HOUR)
        await at.settled(4)
        first, second = sorted(notices(at), key=lambda notice: notice.message["X-Relay-Queue-ID"])
        assert first.message["Arrival-Date"] == format_datetime(NOON)
        assert first.message["Future-Release-Request"] == "for;3600"
        assert second.message["Future-Release-Request"] == "until;2030-01-01T13:00:00Z"
        assert [claim.priority for claim in at.courier.begun if claim.sender is None] in ([4, 0], [0, 4])


async def test_what_is_to_come_back_does_so_at_its_time(tmp_path: Path) -> None:
    """Deferred, and due again at the end: nothing is tried any more."""
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        by = DeliverBy(NOON + 7 * MINUTE, returns=True)
        await at.worker.admit(replace(make_message(1, "b@a.test"), deliver_by=by))
        await at.settled(1)
        at.pass_time(5 * MINUTE)
        await at.settled(2)
        (entry,) = await at.entries()
        assert entry.next_attempt == by.time
        at.pass_time(2 * MINUTE)
        await at.settled(4)
        assert (await at.states())["b@a.test"].startswith("failed")
        (notice,) = notices(at)
        assert notice.message["Deliver-By-Date"] == format_datetime(by.time)
        (b,) = notice.recipients
        assert (b["Action"], b["Status"]) == ("failed", "5.4.7")
        assert "it was to be delivered by 2030-01-01 12:07:00 UTC, as its sender asked: nobody is at home" in " ".join(
            notice.words.split()
        ).replace("What went wrong: It", "What went wrong: it")


async def test_it_comes_back_from_a_destination_that_rests(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.store.rest("a.test", Rest(NOON + DAY, NOON, 9, "4.4.1", "mx.a.test: connection refused", "outage"))
        by = DeliverBy(NOON + HOUR, returns=True)
        await at.store.put((replace(make_message(1, "b@a.test"), deliver_by=by),))
        at.now = NOON + HOUR + MINUTE
        await Reviewer(at.store, at.office).look()
        at.start()
        await at.settled(2)
        (notice,) = notices(at)
        assert (notice.recipients[0]["Status"], tried(at)) == ("5.4.7", [])


@pytest.mark.parametrize(
    ("notify", "told"), [(None, True), (Notify.DELAY, True), (Notify.FAILURE, False), (Notify.NEVER, False)]
)
async def test_its_sender_hears_when_it_is_not_there_in_time(notify: Notify | None, told: bool, tmp_path: Path) -> None:
    """Once, with 4.4.7, and it goes on."""
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        by = DeliverBy(NOON + 4 * MINUTE)
        message = replace(make_message(1, "b@a.test"), deliver_by=by)
        await at.worker.admit(message if notify is None else asking(message, notify))
        await at.settled(1)
        at.pass_time(5 * MINUTE)
        await at.settled(2 + told)
        at.pass_time(20 * MINUTE)
        await at.settled(3 + told)
        assert (await at.states())["b@a.test"] == "deferred 3"
        assert len(notices(at)) == told
        for notice in notices(at):
            (b,) = notice.recipients
            assert (b["Action"], b["Status"]) == ("delayed", "4.4.7")
            assert "which was to be by Tue, 01 Jan 2030 12:04:00 +0000" in notice.words
            assert notice.message["Deliver-By-Date"] == format_datetime(by.time)


async def test_its_sender_hears_of_a_hand_over_that_nobody_else_reports(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": replace(DELIVERED, traced=True)}
        at.start()
        for number, trace in ((1, False), (2, True)):
            by = DeliverBy(NOON + HOUR, trace=trace)
            await at.worker.admit(replace(make_message(number, "b@a.test"), deliver_by=by))
        await at.worker.admit(asking(make_message(3, "b@a.test"), Notify.NEVER))
        await at.settled(5)
        silent, traced = sorted(notices(at), key=lambda notice: notice.message["X-Relay-Queue-ID"])
        for notice in (silent, traced):
            assert (notice.recipients[0]["Action"], notice.recipients[0]["Status"]) == ("relayed", "2.0.0")
        assert "a mail server that does not know of times by which mail is to be delivered" in silent.words
        assert "You asked to be told of each mail server that takes it." in traced.words
