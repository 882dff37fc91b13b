"""The notices that the worker writes: as the sender asked, to the sender or to the postmaster, and what goes back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from dsn_parser import Dsn, parse_dsn
from worker_desk import LATER, NEVER, NOON, Desk, desk, make_message

from relay.delivery.reviews import Reviewer
from relay.events import BounceUndeliverable, DefectFound, NoticeQueued
from relay.mail.message import Claim, InlineBody, MessageDsn, MessageId, NewMessage, Notify, RecipientDsn, Ret
from relay.queue.store import Rest
from relay.queue.visitor import open_reader

pytestmark = pytest.mark.asyncio

POSTMASTER = "postmaster@home.test"


def asking(message: NewMessage, *notify: Notify, dsn: MessageDsn | None = None) -> NewMessage:
    asked = tuple(RecipientDsn(one) for one in notify)
    return replace(message, envelope=replace(message.envelope, dsn=asked), dsn=dsn or message.dsn)


def notices(at: Desk) -> list[Claim]:
    return [claim for claim in at.courier.begun if claim.sender is None]


def read(claim: Claim) -> Dsn:
    assert isinstance(claim.body, InlineBody)
    return parse_dsn(claim.body.octets)


def told(at: Desk) -> list[tuple[str, str]]:
    return [(event.kind, event.recipient) for event in at.seen(NoticeQueued)]


async def test_what_the_sender_asked_is_what_it_hears(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"later": LATER, **{f"{name}@a.test": NEVER for name in ("n", "s", "f")}}
        at.start()
        message = make_message(1, "n@a.test", "s@a.test", "f@a.test", "done@a.test")
        await at.worker.admit(asking(message, Notify.NEVER, Notify.SUCCESS, Notify.FAILURE, Notify.SUCCESS))
        await at.settled(6)
        assert told(at) == [("failure", "from@sender.test"), ("relayed", "from@sender.test")]
        failure, relayed = map(read, notices(at))
        assert [one["Final-Recipient"] for one in failure.recipients] == ["rfc822; f@a.test"]
        assert [one["Final-Recipient"] for one in relayed.recipients] == ["rfc822; done@a.test"]
        assert relayed.recipients[0]["Action"] == "relayed"
        with closing(open_reader(tmp_path)) as reader:
            (found,) = reader.trace(str(MessageId(1)))
        assert [one.kind for one in found.attempts[0].notices] == ["failure", "relayed"]


async def test_nothing_is_said_where_nothing_is_wanted(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        await at.worker.admit(asking(make_message(1, "n@a.test"), Notify.NEVER))
        await at.settled(1)
        for seen in range(2, 4):
            at.pass_time(timedelta(days=3))
            await at.settled(seen)
        await at.calm()
        assert await at.states() == {"n@a.test": "failed 3"}
        assert told(at) == []


async def test_a_notice_asks_for_none_itself(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": NEVER}
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(2)
        (notice,) = notices(at)
        assert notice.recipients[0].dsn == RecipientDsn(Notify.NEVER)


@pytest.mark.parametrize("ret", [Ret.FULL, Ret.HDRS, None])
async def test_the_whole_message_goes_back_when_it_was_asked_for(ret: Ret | None, tmp_path: Path) -> None:
    octets = b"Subject: whole\r\n\r\n" + b"line of the body\r\n" * 50000  # in a file, and read in several chunks
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": NEVER}
        at.start()
        writer = at.store.new_body(MessageId(1))
        await writer.write(octets)
        message = make_message(1, "b@a.test", body=await writer.finish())
        await at.worker.admit(asking(message, dsn=MessageDsn(ret, "QQ+2B1")))
        await at.settled(2)
        notice = read(notices(at)[0])
        assert notice.message["Original-Envelope-Id"] == "QQ+1"
        if ret is Ret.FULL:
            assert (notice.returned_type, notice.returned) == ("message/rfc822", octets)
        else:
            assert (notice.returned_type, notice.returned) == ("text/rfc822-headers", b"Subject: whole\r\n")


async def test_a_bounce_that_fails_goes_to_the_postmaster(tmp_path: Path) -> None:
    """A notice of ours that its sender's host refuses; and the one to the postmaster fails too, which is the end."""
    async with desk(tmp_path, postmaster=POSTMASTER) as at:
        at.courier.results = {"a.test": NEVER, "sender.test": NEVER, "home.test": NEVER}
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(3)
        await at.calm()
        assert told(at) == [("failure", "from@sender.test"), ("undeliverable", POSTMASTER)]
        dsn = read(notices(at)[1])
        assert dsn.header["subject"] == "Undeliverable bounce to from@sender.test"
        assert dsn.recipients[0]["Final-Recipient"] == "rfc822; from@sender.test"
        assert b"Subject: Undeliverable: your message to b@a.test" in dsn.returned
        lost = at.seen(BounceUndeliverable)
        assert [(event.recipient, event.status, event.reason) for event in lost] == [
            ("from@sender.test", "5.1.1", "no such user"),
            (POSTMASTER, "5.1.1", "no such user"),
        ]
        assert lost[0].level == "warning"


async def test_without_a_postmaster_there_is_the_event_alone(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"never@a.test": NEVER, "later@a.test": LATER}
        at.start()
        await at.worker.admit(
            make_message(
                1, "never@a.test", "later@a.test", "done@a.test", sender=None, arrived=NOON - timedelta(hours=9)
            )
        )
        await at.settled(3)
        await at.calm()
        assert told(at) == []
        assert [event.recipient for event in at.seen(BounceUndeliverable)] == ["never@a.test"]


async def test_nobody_hears_of_a_tls_report_that_failed(tmp_path: Path) -> None:
    async with desk(tmp_path, postmaster=POSTMASTER) as at:
        at.courier.results = {"never@a.test": NEVER}
        at.start()
        for number, sender in ((1, None), (2, "from@sender.test")):
            await at.worker.admit(replace(make_message(number, "never@a.test", sender=sender), report=True))
        await at.settled(2)
        await at.calm()
        assert told(at) == [] and at.seen(BounceUndeliverable) == []


async def test_what_expires_without_an_attempt_names_none(tmp_path: Path) -> None:
    async with desk(tmp_path, postmaster=POSTMASTER) as at:
        await at.store.put((make_message(1, "b@a.test"), make_message(2, "c@a.test", sender=None)))
        end = NOON + timedelta(days=5)
        await at.store.rest("a.test", Rest(end + timedelta(days=5), NOON, 9, "4.4.1", "refused"))
        at.now = end
        await Reviewer(at.store, at.office).look()
        assert told(at) == [("failure", "from@sender.test"), ("undeliverable", POSTMASTER)]
        assert [event.recipient for event in at.seen(BounceUndeliverable)] == ["c@a.test"]
        found = {claim.destination: read(claim) for claim in await at.store.claim(9, timedelta(hours=1), end, {}, 9)}
        assert sorted(found) == ["home.test", "sender.test"]
        for notice in found.values():
            assert "Last-Attempt-Date" not in notice.recipients[0]
            assert f"It was never tried, until its time ran out at {format_datetime(end)}." in notice.words


async def test_a_defect_in_a_notice_neither_repeats_nor_loses_the_mail(tmp_path: Path) -> None:
    """What has arrived is closed, what has failed is kept for the operator, and the sender hears of the delay later."""
    async with desk(tmp_path, defects=True) as at:
        at.courier.results = {"never@a.test": NEVER, "later@a.test": LATER}
        message = make_message(1, "now@a.test", "never@a.test", "later@a.test", arrived=NOON - timedelta(hours=4))
        everything = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY
        at.fail_ids = 1
        at.start()
        await at.store.put((asking(message, everything, everything, everything),))
        await at.settled(3)
        assert await at.states() == {
            "now@a.test": "delivered 1",
            "never@a.test": "held 1",
            "later@a.test": "deferred 1",
        }
        assert [event.where for event in at.seen(DefectFound)] == [f"notices about {MessageId(1)}"]
        held = next(entry for entry in await at.entries() if entry.recipient == "never@a.test")
        assert held.hold == "it failed for good, and the notice to its sender could not be made"
        assert (held.status, held.reply) == ("5.1.1", "550 5.1.1 who?")
        at.pass_time(timedelta(minutes=5))
        await at.settled(4)
        assert [event.kind for event in at.seen(NoticeQueued)] == ["delay"]
        assert at.courier.order()[:2] == [1, 1]
