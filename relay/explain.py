"""Builds what `relay explain` needs, from the same parts and settings as the service, and puts it away.

The policies that the service has fetched are looked at in a copy: nothing is written into the queue folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from pathlib import Path

from relay.delivery.explain import Means, explain_host
from relay.delivery.route import Route, Router, own_mx_name
from relay.delivery.smtp import Timeouts
from relay.events import Event
from relay.guard import AddressGuard
from relay.lookup.resolver import Resolver
from relay.lookup.sts import StsFinder
from relay.lookup.sts_cache import FILE_NAME, StsCache
from relay.lookup.sts_fetch import PolicyFetcher
from relay.policy.chain import Roots
from relay.policy.explanation import Explanation
from relay.settings import Settings
from relay.tls import ClientContexts, https_context, load_roots

_PATIENCE = Timeouts(greeting_seconds=30, ehlo_seconds=30, starttls_seconds=30, handshake_seconds=30)


async def explain(
    settings: Settings, folder: Path, hostname: str, domain: str, clock: Callable[[], datetime], *, connect: bool
) -> Explanation:
    """What Relay knows of the way to `domain` (as Address.domain) now, and what it would ask of a session there.

    Raises OSError or ValueError when the authorities of the settings cannot be read.
    """
    roots_pem = load_roots(settings.tls.ca_file)
    async with AsyncExitStack() as stack:
        copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-explain-")))
        with suppress(OSError):  # there is no service yet, or it is not ours to read
            shutil.copyfile(folder / FILE_NAME, copy / FILE_NAME)
        resolver = Resolver(settings.dns.nameservers, settings.dns.timeout)
        stack.push_async_callback(resolver.close)
        _, why = await resolver.assess(settings.dns)
        cache = StsCache(copy, lambda _: None)
        await cache.open()
        stack.push_async_callback(cache.close)
        guard = AddressGuard(settings.delivery.allow_private_addresses)
        fetcher = PolicyFetcher(resolver, settings.mta_sts.port, guard, https_context(roots_pem))
        finder = StsFinder(resolver, cache, fetcher, clock, _ignore)
        stack.push_async_callback(finder.close)
        means = Means(
            router=Router(resolver, finder, settings.delivery, own_mx_name(settings, hostname), lambda: 0.0),
            guard=guard,
            contexts=ClientContexts(roots_pem),
            roots=Roots(roots_pem),
            hostname=hostname,
            clock=clock,
            timeouts=_PATIENCE,
        )
        resolver_words = f"DNSSEC is {'believed' if resolver.trusted else 'not believed, so DANE is off'}: {why}"
        route = await means.router.route(domain)
        if not isinstance(route, Route):
            sts = await finder.find(domain)
            return Explanation(domain, clock(), resolver_words, sts, f"{route.status} {route.reason}")
        hosts = [await explain_host(host, route, means, connect) for host in route.hosts]
        return Explanation(domain, clock(), resolver_words, route.sts, hosts=tuple(hosts), connected=connect)


def _ignore(_: Event) -> None:
    pass
