"""What the worker makes of an attempt: results that are kept, notices, later tries, and the end of patience."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from worker_desk import DELIVERED, FIRST_NOTICE, LATER, NEVER, NOON, RECORD, desk, make_message

from relay.delivery import worker
from relay.events import AttemptFinished, DefectFound, NoticeQueued, StoreFailed
from relay.mail.message import FileBody, InlineBody, MessageId
from relay.mail.outcome import Cause
from relay.policy.retry import Schedule, Schedules
from relay.queue.control import Act, Action
from relay.queue.database import FILE_NAME
from relay.queue.selection import QueueFilter
from relay.queue.store import StoreUnavailable
from relay.queue.visitor import open_reader, perform

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
LEASE = timedelta(minutes=30)


@pytest.mark.asyncio
async def test_results_are_written_down_and_told(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"later@a.test": LATER}
        await at.worker.admit(make_message(1, "now@a.test", "later@a.test"))
        await at.settled(2)
        assert await at.states() == {"now@a.test": "delivered 1", "later@a.test": "deferred 1"}
        told = at.seen(AttemptFinished)
        assert [(event.recipient, event.state, event.status, event.reason, event.reply) for event in told] == [
            ("now@a.test", "delivered", "2.0.0", None, "250 2.0.0 kept"),
            ("later@a.test", "deferred", "4.7.5", "nobody is at home", None),
        ]
        assert [event.next_attempt for event in told] == [None, NOON + 5 * MINUTE]
        assert (told[0].id, told[0].host, told[0].tls) == (str(MessageId(1)), "mx.test", "encrypted")


@pytest.mark.asyncio
async def test_the_evidence_of_an_attempt_is_kept(tmp_path: Path) -> None:
    """With the time that it took, and its notices: of failure first, then of delay."""
    async with desk(tmp_path) as at:
        at.courier.results = {"later@a.test": LATER, "never@a.test": NEVER}
        at.courier.shut()
        await at.worker.admit(
            make_message(1, "now@a.test", "later@a.test", "never@a.test", arrived=NOON - timedelta(hours=4))
        )
        await at.begun(1)
        at.pass_time(3 * SECOND)
        at.courier.let_go()
        await at.settled(3)
        failure, delay = at.seen(NoticeQueued)
        with closing(open_reader(tmp_path)) as reader:
            (found,) = reader.trace(str(MessageId(1)))
            (notice,) = reader.trace(failure.id)
        (attempt,) = found.attempts
        assert (attempt.began, attempt.ended, attempt.record) == (NOON, NOON + 3 * SECOND, RECORD)
        assert {one.recipients: one.state.value for one in attempt.results} == {
            (0,): "delivered", (1,): "deferred", (2,): "failed",
        }  # fmt: skip
        assert (failure.kind, delay.kind) == ("failure", "delay")
        assert [str(one.id) for one in attempt.notices] == [failure.id, delay.id]
        assert notice.about == MessageId(1)


@pytest.mark.asyncio
async def test_deferred_mail_is_tried_again_when_its_time_comes(tmp_path: Path) -> None:
    """After five minutes, and then after twenty; only those recipients that are still open."""
    async with desk(tmp_path) as at:
        at.courier.results = {"later@a.test": LATER}
        await at.worker.admit(make_message(1, "now@a.test", "later@a.test"))
        at.start()
        await at.settled(2)
        for number, wait in enumerate((5 * MINUTE, 20 * MINUTE, 20 * MINUTE), 2):
            at.pass_time(wait - SECOND)
            await at.calm()
            assert len(at.courier.begun) == number - 1
            at.pass_time(SECOND)
            await at.settled(number + 1)
            assert [recipient.address.text for recipient in at.courier.begun[-1].recipients] == ["later@a.test"]
        assert await at.states() == {"now@a.test": "delivered 1", "later@a.test": "deferred 4"}


@pytest.mark.asyncio
async def test_the_worker_wakes_by_itself(tmp_path: Path) -> None:
    """With a clock that goes, nobody has to tell it that the time has come."""
    schedules = Schedules(Schedule((timedelta(seconds=0.05),), timedelta(days=5)))
    async with desk(tmp_path, schedules=schedules, clock=lambda: datetime.now(UTC)) as at:
        at.courier.results = {"a.test": replace(LATER, cause=Cause.OTHER)}  # nothing to rest for
        at.start()
        await at.worker.admit(make_message(1, "b@a.test", arrived=datetime.now(UTC)))
        await at.begun(3)
        at.courier.results.clear()
        await at.until(lambda: at.seen(AttemptFinished)[-1].state == "delivered")


@pytest.mark.asyncio
async def test_retry_now_from_another_process(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(1)
        at.courier.results.clear()
        retry = Action(Act.RETRY, QueueFilter(), "root")
        assert (await asyncio.to_thread(perform, tmp_path, retry, NOON, lambda *_: None, lambda *_: "")).done == 1
        await at.settled(2)
        assert await at.states() == {"b@a.test": "delivered 2"}


@pytest.mark.asyncio
async def test_the_sender_is_told_of_a_failure_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"never@a.test": NEVER, "later@a.test": LATER}
        at.start()
        await at.worker.admit(make_message(1, "never@a.test", "later@a.test", "now@a.test"))
        await at.settled(4)  # the notice too
        at.pass_time(5 * MINUTE)
        await at.settled(5)
        await at.calm()
        notice = next(claim for claim in at.courier.begun if claim.destination == "sender.test")
        assert notice.sender is None
        assert isinstance(notice.body, InlineBody)
        for words in (b"never@a.test", b"550 5.1.1 who?", b"Subject: the original\r\n"):
            assert words in notice.body.octets
        for words in (b"now@a.test", b"later@a.test"):
            assert words not in notice.body.octets
        told = [(event.kind, event.id, event.about, event.recipient) for event in at.seen(NoticeQueued)]
        assert told == [("failure", str(MessageId(FIRST_NOTICE + 1)), str(MessageId(1)), "from@sender.test")]


@pytest.mark.asyncio
async def test_a_delay_is_told_once(tmp_path: Path) -> None:
    """At the first attempt that fails four hours or more after the message came."""
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(1)
        for wait, attempts, notices in ((239, 2, 0), (20, 4, 1), (60, 5, 1)):
            at.pass_time(wait * MINUTE)
            await at.settled(attempts)  # the notice is delivered, which counts as one
            await at.calm()
            assert [event.kind for event in at.seen(NoticeQueued)] == ["delay"] * notices


@pytest.mark.asyncio
async def test_a_failure_and_a_delay_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"late@a.test": LATER, "never@a.test": NEVER}
        at.pass_time(timedelta(hours=4))
        await at.worker.admit(make_message(1, "late@a.test", "never@a.test"))
        await at.settled(2)
        assert sorted(event.kind for event in at.seen(NoticeQueued)) == ["delay", "failure"]


@pytest.mark.asyncio
async def test_the_null_sender_is_told_nothing(tmp_path: Path) -> None:
    """Nor anybody else: neither of a failure nor of a delay, nor of a notice that fails."""
    async with desk(tmp_path) as at:
        at.courier.results = {"never.test": NEVER, "later.test": LATER, "sender.test": NEVER}
        at.pass_time(timedelta(hours=5))
        at.start()
        await at.worker.admit(make_message(1, "b@never.test", "b@later.test", sender=None))
        await at.settled(2)
        await at.calm()
        assert at.seen(NoticeQueued) == []
        await at.worker.admit(make_message(2, "b@never.test"))
        await at.settled(4)
        await at.calm()
        assert [event.about for event in at.seen(NoticeQueued)] == [str(MessageId(2))]
        assert (await at.states())["from@sender.test"] == "failed 1"


@pytest.mark.asyncio
async def test_patience_ends_after_five_days(tmp_path: Path) -> None:
    """The last try is at the very end; the failure keeps the cause of the last attempt."""
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": LATER}
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.settled(1)
        at.pass_time(timedelta(days=5) - 10 * MINUTE)
        await at.settled(3)  # and a delay notice
        assert at.seen(AttemptFinished)[1].next_attempt == NOON + timedelta(days=5)
        at.pass_time(10 * MINUTE)
        await at.settled(5)
        last = [event for event in at.seen(AttemptFinished) if event.recipient == "b@a.test"][-1]
        assert (last.state, last.status, last.reason, last.attempts) == ("failed", "5.7.5", "nobody is at home", 3)
        assert [event.kind for event in at.seen(NoticeQueued)] == ["delay", "failure"]
        assert await at.store.find(None, history=False) == ()


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [RuntimeError("a mistake"), StoreUnavailable("the body cannot be read")])
async def test_what_goes_wrong_in_an_attempt_becomes_no_bounce(error: Exception, tmp_path: Path) -> None:
    """The message comes back at the end of its lease; others of its lane are not held up."""
    async with desk(tmp_path, per_lane=1, defects=True) as at:
        at.courier.results = {"bad@a.test": error}
        at.start()
        await at.store.put([make_message(1, "bad@a.test", "too@a.test"), make_message(2, "good@a.test")])
        await at.settled(1)
        assert await at.states() == {"bad@a.test": "queued 1", "too@a.test": "queued 1", "good@a.test": "delivered 1"}
        defects, failures = at.seen(DefectFound), at.seen(StoreFailed)
        if isinstance(error, StoreUnavailable):
            assert (defects, [event.reason for event in failures]) == ([], ["the body cannot be read"])
        else:
            assert ([event.error for event in defects], failures) == (["RuntimeError('a mistake')"], [])
        at.pass_time(LEASE - SECOND)
        await at.calm()
        assert at.courier.order() == [1, 2]
        at.courier.results.clear()
        at.pass_time(SECOND)
        await at.settled(3)
        assert (await at.states())["bad@a.test"] == "delivered 2"
        assert at.seen(NoticeQueued) == []


@pytest.mark.asyncio
@pytest.mark.usefixtures("impatient")
async def test_a_result_is_kept_until_the_disk_takes_it(tmp_path: Path) -> None:
    """A notice that cannot be stored: nothing of the settlement is written, and it is tried again, without a delivery.

    The id of the notice is that of an old message, until that is forgotten.
    """
    async with desk(tmp_path) as at:
        await at.worker.admit(make_message(FIRST_NOTICE + 1, "old@old.test"))
        await at.settled(1)
        at.courier.results = {"never@a.test": NEVER}
        await at.worker.admit(make_message(1, "never@a.test", "now@a.test"))
        await at.until(lambda: bool(at.seen(StoreFailed)))
        assert "taken" in at.seen(StoreFailed)[0].reason
        assert (await at.states())["never@a.test"] == (await at.states())["now@a.test"] == "queued 1"
        assert at.seen(NoticeQueued) == []
        await at.store.tidy(NOON + SECOND)
        await at.settled(3)
        states = await at.states()
        assert (states["never@a.test"], states["now@a.test"]) == ("failed 1", "delivered 1")
        assert states["from@sender.test"] == "queued 0"
        assert len(at.seen(NoticeQueued)) == 1
        assert at.courier.order() == [FIRST_NOTICE + 1, 1]


@pytest.mark.asyncio
@pytest.mark.usefixtures("impatient")
async def test_a_queue_that_cannot_be_used_for_a_while(tmp_path: Path) -> None:
    """The worker says so and goes on when it can: here somebody has taken a table away and puts it back."""
    async with desk(tmp_path) as at:
        at.start()
        await at.calm()
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as somebody:
            somebody.execute("ALTER TABLE recipient RENAME TO elsewhere")
            await at.until(lambda: bool(at.seen(StoreFailed)))
            somebody.execute("ALTER TABLE elsewhere RENAME TO recipient")
        await at.store.put([make_message(1, "b@a.test")])
        await at.settled(1)


@pytest.mark.asyncio
async def test_a_notice_about_a_large_message_has_its_header(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.courier.results = {"a.test": NEVER}
        body = at.store.new_body(MessageId(1))
        await body.write(b"Subject: large\r\nX-Last: one\r\n\r\n" + b"secret\r\n" * 20_000)
        await at.worker.admit(make_message(1, "b@a.test", body=await body.finish()))
        at.start()
        await at.settled(2)
        notice = at.courier.begun[-1].body
        assert isinstance(notice, InlineBody)
        assert b"Subject: large\r\nX-Last: one\r\n" in notice.octets
        assert b"secret" not in notice.octets


@pytest.mark.asyncio
async def test_a_result_is_kept_though_the_header_cannot_be_read(tmp_path: Path) -> None:
    """One recipient has the message: it must not get it again because of a notice about the other."""
    async with desk(tmp_path) as at:
        at.courier.results = {"never@a.test": NEVER}
        writer = at.store.new_body(MessageId(1))
        await writer.write(b"Subject: large\r\n\r\n" + b"x\r\n" * 50_000)
        body = await writer.finish()
        assert isinstance(body, FileBody)
        at.courier.shut()
        await at.worker.admit(make_message(1, "never@a.test", "now@a.test", body=body))
        await at.begun(1)
        away = body.path.rename(tmp_path / "away")
        at.courier.let_go()
        await at.until(lambda: bool(at.seen(StoreFailed) or at.seen(AttemptFinished)))
        away.rename(body.path)
        await at.until(lambda: len(at.seen(AttemptFinished)) == 2, seconds=2)


@pytest.mark.asyncio
async def test_a_lease_that_was_lost_settles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message was claimed anew, since its lease had ended: the first attempt's result comes too late."""
    monkeypatch.setattr(worker, "JUMP_SECONDS", math.inf)  # else the lease is renewed
    async with desk(tmp_path, defects=True) as at:
        at.courier.shut()
        at.start()
        await at.worker.admit(make_message(1, "b@a.test"))
        await at.begun(1)
        at.pass_time(LEASE)
        await at.begun(2)
        at.courier.results = {"a.test": DELIVERED}
        at.courier.let_go()
        await at.settled(1)
        assert [event.error for event in at.seen(DefectFound)] == ["the lease was lost before the attempt was over"]
        assert await at.states() == {"b@a.test": "delivered 2"}
