"""Builds what `relay explain` needs, from the same parts and settings as the service, and puts it away.

The policies that the service has fetched are looked at in a copy: nothing is written into the queue folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from relay.delivery.explain import Means, explain_host
from relay.delivery.route import Route, Router, own_mx_name
from relay.delivery.transaction import Timeouts
from relay.events import Event, PolicyFetched
from relay.guard import AddressGuard
from relay.lookup import sts_cache, tls_memory
from relay.lookup.resolver import Resolver
from relay.lookup.sts import StsFinder
from relay.lookup.sts_fetch import PolicyFetcher
from relay.mail.outcome import Dropped
from relay.policy import words
from relay.policy.chain import Roots
from relay.policy.explanation import Explanation, Question, StsExplained
from relay.policy.routing import PREFIX
from relay.policy.sts import NoSts, StsResult
from relay.settings import Settings
from relay.tls import ClientContexts, https_context, load_roots

_PATIENCE = Timeouts(greeting_seconds=30, ehlo_seconds=30, starttls_seconds=30, handshake_seconds=30)


async def explain(
    settings: Settings, folder: Path, hostname: str, asked: Question, clock: Callable[[], datetime], *, connect: bool
) -> Explanation:
    """What Relay knows of the way of such mail now, and what it would ask of a session there.

    Raises OSError or ValueError when the authorities of the settings cannot be read.
    """
    roots_pem = load_roots(settings.tls.ca_file)
    async with AsyncExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-explain-")))
        for name in (sts_cache.FILE_NAME, tls_memory.FILE_NAME):
            with suppress(OSError):  # there is no service yet, or it is not ours to read
                shutil.copyfile(folder / name, copy / name)
        resolver = Resolver(settings.dns.nameservers, settings.dns.timeout)
        stack.push_async_callback(resolver.close)
        dnssec, why = await resolver.assess(settings.dns)
        cache = sts_cache.StsCache(copy, _ignore_words)
        with suppress(sts_cache.StsCacheError):
            await cache.open()
        stack.push_async_callback(cache.close)
        memories = tls_memory.TlsMemories(copy, settings.tls_memory.rules, _ignore_words)
        await memories.open()
        stack.push_async_callback(memories.close)
        guard = AddressGuard(settings.delivery.allow_private_addresses)
        fetcher = PolicyFetcher(resolver, settings.mta_sts.port, guard, https_context(roots_pem))
        events: list[Event] = []
        finder = StsFinder(resolver, cache, fetcher, clock, events.append)
        stack.push_async_callback(finder.close)
        own_name = own_mx_name(settings, hostname)
        means = Means(
            router=Router(resolver, finder, settings.delivery, own_name, lambda: 0.0, settings.routes),
            guard=guard,
            contexts=ClientContexts(roots_pem),
            roots=Roots(roots_pem),
            source=settings.sources(hostname).choose(asked.sender.domain if asked.sender is not None else None),
            clock=clock,
            timeouts=_PATIENCE,
            overrides=settings.overrides,
            memories=memories,
        )
        domain = asked.recipient.domain
        destination = settings.routes.destination(asked.sender, asked.login, asked.recipient)
        found = []
        async for way in means.router.find(destination):
            told = Explanation(domain, clock(), dnssec, why, domain, StsExplained(NoSts()), connected=connect)
            if isinstance(way, Route):
                told = replace(
                    told,
                    policy_domain=way.domain,
                    sts=await _sts(way.domain, way.sts, cache, events),
                    hosts=tuple([await explain_host(domain, host, way, means, connect) for host in way.hosts]),
                    port=way.port,
                    route=None if way.hop is None else words.of_hop(way.hop),
                )
            else:
                problem = way.reason if isinstance(way, Dropped) else f"{way.status} {way.reason}"
                told = replace(told, problem=problem, connected=False)
                if destination == domain:
                    told = replace(told, sts=await _sts(domain, await finder.find(domain), cache, events))
                else:
                    told = replace(told, route=destination.removeprefix(PREFIX))
            found.append(told)
        first, *more = found
        return replace(first, more=tuple(more))


async def _sts(domain: str, found: StsResult, cache: sts_cache.StsCache, events: Sequence[Event]) -> StsExplained:
    """What holds, whether it was fetched just now, and how the last fetch failed if it did."""
    fetched_now = any(isinstance(event, PolicyFetched) and event.domain == domain for event in events)
    try:
        entry = await cache.get(domain)
    except sts_cache.StsCacheError:
        entry = None
    if entry is None or entry.failed_at is None:
        return StsExplained(found, fetched_now)
    return StsExplained(
        found, fetched_now, (entry.failed_at, entry.failure.reason if entry.failure else "no reason is known")
    )


def _ignore_words(_: str) -> None:
    pass
