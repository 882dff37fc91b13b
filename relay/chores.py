"""The work beside the mail of one running Relay: what is looked at, renewed or forgotten again and again, for ever.

`app` runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta

from relay.events import DnssecTrust, Emit, OverrideEnded, StoreFailed
from relay.freed_memory import give_back
from relay.lookup.resolver import Resolver
from relay.lookup.sts import StsFinder
from relay.policy.override import Override
from relay.queue.sqlite import SqliteStore
from relay.queue.store import StoreUnavailable
from relay.settings import DnsSettings

SELF_TEST_EVERY_SECONDS = 300.0
SELF_TEST_ANEW_SECONDS = 30.0  # while it is not passed: the resolver may have come up after us
TIDY_EVERY_SECONDS = 600.0
GIVE_BACK_EVERY_SECONDS = 60.0
REFRESH_POLICIES_EVERY_SECONDS = 600.0
WATCH_OVERRIDES_EVERY_SECONDS = 60.0

Clock = Callable[[], datetime]


async def assess(resolver: Resolver, dns: DnsSettings, emit: Emit, *, first: bool = False) -> None:
    """The resolver's self-test: DANE is on only with a resolver that validates. `first`: tell of it in any case."""
    before = resolver.trusted
    trusted, reason = await resolver.assess(dns)
    if first or trusted != before:
        emit(DnssecTrust(trusted, reason))


async def assess_again(resolver: Resolver, dns: DnsSettings, emit: Emit) -> None:
    """The self-test from time to time, more often while it is not passed."""
    while True:
        await asyncio.sleep(SELF_TEST_EVERY_SECONDS if resolver.trusted else SELF_TEST_ANEW_SECONDS)
        await assess(resolver, dns, emit)


async def tidy_queue(store: SqliteStore, history: timedelta, clock: Clock, emit: Emit) -> None:
    """Forget what became of mail longer ago than `history`."""
    while True:
        try:
            await store.tidy(clock() - history)
        except StoreUnavailable as error:
            emit(StoreFailed(str(error)))
        await asyncio.sleep(TIDY_EVERY_SECONDS)


async def again(tidy: Callable[[], Awaitable[None]]) -> None:
    """Any other clean-up."""
    while True:
        await tidy()
        await asyncio.sleep(TIDY_EVERY_SECONDS)


async def give_back_memory() -> None:
    """Freed memory goes back to the system."""
    while True:
        give_back()
        await asyncio.sleep(GIVE_BACK_EVERY_SECONDS)


async def watch_overrides(overrides: Iterable[Override], clock: Clock, emit: Emit) -> None:
    """Tell of each override that has ended, once. Returns when all have."""
    current = list(overrides)
    while current:
        for ended in [one for one in current if one.until <= clock()]:
            current.remove(ended)
            emit(OverrideEnded(", ".join(ended.keys), ended.level.value, ended.owner, ended.until))
        await asyncio.sleep(WATCH_OVERRIDES_EVERY_SECONDS)


async def refresh_policies(finder: StsFinder, draw: Callable[[], float]) -> None:
    """Keep MTA-STS policies from running out. `draw` gives chance, from 0 to 1."""
    while True:
        await finder.keep_fresh(draw)
        await asyncio.sleep(REFRESH_POLICIES_EVERY_SECONDS)
