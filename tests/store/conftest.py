"""A queue in a temporary folder, and the values that go into it. It is always noon of 2030-01-01 there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from relay.mail.address import parse_address
from relay.mail.message import Body, Claim, Envelope, InlineBody, MessageId, NewMessage
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.sqlite import SqliteStore

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
LATER = Deferred(Status(Kind.TEMPORARY, 4, 2), "the connection was closed", "mx.example")
OUTCOMES: dict[State, Outcome] = {
    State.DELIVERED: Delivered(
        Status(Kind.SUCCESS, 2, 0), Reply.of(250, ("2.0.0 thanks",)), "mx.example", TlsUsed.VERIFIED
    ),
    State.DEFERRED: LATER,
    State.HELD: LATER,
    State.FAILED: Failed(
        Status(Kind.PERMANENT, 1, 1), "refused", "mx.example", Reply.of(550, ("5.1.1 who?",)), TlsUsed.ENCRYPTED
    ),
}


def make_message(
    number: int,
    *recipients: str,
    body: Body | bytes = b"Subject: x\r\n\r\nx\r\n",
    arrived: datetime = NOW,
    sender: str | None = "from@sender.example",
) -> NewMessage:
    return NewMessage(
        id=MessageId(number),
        envelope=Envelope(
            None if sender is None else parse_address(sender.encode()),
            tuple(parse_address(text.encode()) for text in recipients or ("to@example.org",)),
        ),
        body=InlineBody(body) if isinstance(body, bytes) else body,
        arrived=arrived,
        message_id=f"{number}@sender.example",
    )


def make_settlement(claim: Claim, *states: State, next_attempt: datetime | None = None) -> Settlement:
    """`states`: one for all recipients, or one for each. `next_attempt`: in an hour when not given."""
    each = states * len(claim.recipients) if len(states) == 1 else states
    return Settlement(
        tuple(
            SettledRecipient(
                recipient=recipient,
                state=state,
                outcome=OUTCOMES[state],
                next_attempt=None if state.closed else next_attempt or NOW + timedelta(hours=1),
                delay_notices=recipient.delay_notices,
            )
            for recipient, state in zip(claim.recipients, each, strict=True)
        )
    )


@pytest.fixture
def message() -> Callable[..., NewMessage]:
    return make_message


@pytest.fixture
def settlement() -> Callable[..., Settlement]:
    return make_settlement


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "queue"


@pytest_asyncio.fixture
async def store(folder: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(folder)
    await store.open(NOW)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def reopen(folder: Path) -> AsyncIterator[Callable[[SqliteStore, datetime], Awaitable[SqliteStore]]]:
    """Close a store without giving back its claims, as a crash does, and open its folder again."""
    opened: list[SqliteStore] = []

    async def again(store: SqliteStore, now: datetime) -> SqliteStore:
        await store.close()
        opened.append(SqliteStore(folder))
        await opened[-1].open(now)
        return opened[-1]

    yield again
    for store in opened:
        await store.close()
