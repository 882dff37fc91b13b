"""Fills a queue with mail that was tried and waits, through the queue's own verbs: put, claim, settle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relay.mail.address import parse_address
from relay.mail.message import Claim, Envelope, InlineBody, MessageId, NewMessage
from relay.mail.outcome import Cause, Deferred
from relay.mail.record import AttemptRecord, HostRecord
from relay.mail.status import Kind, Status
from relay.policy.retry import settle
from relay.queue.sqlite import SqliteStore
from relay.settings import RetrySettings

AGE = timedelta(hours=1)
LEASE = timedelta(minutes=30)
BATCH = 500
BODY = InlineBody(b"Subject: it waits\r\n\r\n" + b"A line of text as they are in mail.\r\n" * 50)
REFUSED = Deferred(
    Status(Kind.TEMPORARY, 4, 1), "mx.dead.test refused the connection", "mx.dead.test", cause=Cause.OUTAGE
)
SCHEDULES = RetrySettings().schedules
RECORD = AttemptRecord(
    ("MTA-STS: no policy",),
    (HostRecord("mx.dead.test", "127.3.0.1", "nothing", "opportunistic", "", "connection refused"),),
)


@dataclass(frozen=True)
class Waiting:
    """`messages`: how many wait, from so many `senders`, for `domains` below dead.test.

    `overdue`: all are due by now; otherwise their times are spread over the next hours.
    """

    messages: int
    senders: int = 50
    domains: int = 1
    overdue: bool = False

    def message(self, number: int, arrived: datetime) -> NewMessage:
        recipient = f"r{number}@d{number % self.domains}.dead.test"
        return NewMessage(
            id=MessageId.make(arrived, number % 65536),
            envelope=Envelope(
                parse_address(f"s{number % self.senders}@sender.test".encode()), (parse_address(recipient.encode()),)
            ),
            body=BODY,
            arrived=arrived,
            message_id=f"{number}@sender.test",
        )

    def next_attempt(self, now: datetime, chance: random.Random) -> datetime:
        if self.overdue:
            return now - timedelta(seconds=chance.uniform(1, 2400))
        return now + timedelta(seconds=chance.uniform(600, 6 * 3600))


async def fill(folder: Path, waiting: Waiting) -> None:
    """Make a queue in `folder` in which so much mail waits for its second attempt."""
    now = datetime.now(UTC)
    then = now - AGE
    chance = random.Random(1)
    store = SqliteStore(folder)
    await store.open(then)

    async def defer(claim: Claim) -> None:
        settlement = settle(claim, {one.index: REFUSED for one in claim.recipients}, SCHEDULES, then, 0.5)
        due = waiting.next_attempt(now, chance)
        late = replace(settlement, recipients=tuple(replace(one, next_attempt=due) for one in settlement.recipients))
        assert await store.settle(claim, late, (), then, record=RECORD, began=then)

    for batch in _batches(waiting.messages):
        await store.put([waiting.message(number, then + timedelta(microseconds=100 * number)) for number in batch])
        at = then + timedelta(minutes=1)
        claims = await store.claim(len(batch), LEASE, at, {}, len(batch))
        assert len(claims) == len(batch)
        await asyncio.gather(*map(defer, claims))
    await store.close()


def _batches(count: int) -> Iterator[range]:
    for start in range(0, count, BATCH):
        yield range(start, min(start + BATCH, count))
