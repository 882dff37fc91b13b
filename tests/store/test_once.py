"""A message that comes with a key is stored once, key and all, or not at all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.mail.message import MessageId, NewMessage, Once
from relay.queue.sqlite import SqliteStore
from relay.queue.store import Earlier, StoreUnavailable

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
ONCE = Once("token:web", "k1", b"digest")

MakeMessage = Callable[..., NewMessage]
Reopen = Callable[[SqliteStore, datetime], Awaitable[SqliteStore]]


async def test_the_key_leads_to_the_message(store: SqliteStore, message: MakeMessage) -> None:
    assert await store.controls.stored_once("token:web", "k1") is None
    await store.put((replace(message(1, "b@x.example", "a@y.example"), once=ONCE),))
    found = Earlier(b"digest", MessageId(1), ("b@x.example", "a@y.example"))
    assert await store.controls.stored_once("token:web", "k1") == found
    assert await store.controls.stored_once("token:other", "k1") is None


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_second_message_with_the_key_is_not_stored(
    store: SqliteStore, message: MakeMessage, claimed: bool
) -> None:
    async def put(one: NewMessage) -> None:
        if claimed:
            await store.put_claimed(one, NOW + timedelta(minutes=1), {"example.org"})
        else:
            await store.put((one,))

    await put(replace(message(1), once=ONCE))
    with pytest.raises(StoreUnavailable, match="the same key"):
        await put(replace(message(2), once=ONCE))
    assert [entry.id.number for entry in await store.find(None, history=True)] == [1]
    await put(replace(message(3), once=replace(ONCE, owner="token:other")))
    assert [entry.id.number for entry in await store.find(None, history=True)] == [1, 3]


async def test_without_the_message_there_is_no_key(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((message(1),))
    with pytest.raises(StoreUnavailable, match="is taken"):
        await store.put((replace(message(1), once=ONCE),))
    assert await store.controls.stored_once("token:web", "k1") is None


async def test_it_is_there_after_a_crash(store: SqliteStore, message: MakeMessage, reopen: Reopen) -> None:
    await store.put((replace(message(1), once=ONCE),))
    again = await reopen(store, NOW)
    assert await again.controls.stored_once("token:web", "k1") is not None


async def test_it_is_forgotten_in_time(store: SqliteStore, message: MakeMessage) -> None:
    await store.put((replace(message(1), once=ONCE), replace(message(2), once=replace(ONCE, key="k2"))))
    later = replace(message(3, arrived=NOW + timedelta(minutes=1)), once=replace(ONCE, key="k3"))
    await store.put((later,))
    await store.tidy(NOW + timedelta(seconds=1))
    found = [await store.controls.stored_once("token:web", key) for key in ("k1", "k2", "k3")]
    assert [one is not None for one in found] == [False, False, True]
    await store.put((replace(message(4), once=ONCE),))
