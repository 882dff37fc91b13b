"""Asks the running service for its greeting, as a client would. It looks at nothing else and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from ssl import SSLContext

from relay.delivery.wire import wording
from relay.posting.place import from_here
from relay.settings import HostPort, ListenerSettings, ListenerTls, Settings
from relay.submission.proxy import LOCAL as PROXY_LOCAL
from relay.tls import ClientContexts, load_roots


@dataclass(frozen=True, slots=True)
class Asked:
    """A place to ask: where, whether TLS comes first, and whether a caller from this machine is taken for a proxy."""

    place: HostPort
    tls: bool = False
    as_proxy: bool = False


def where_to_ask(settings: Settings) -> tuple[Asked, ...]:
    """The listeners as seen from this machine, without those of no port that the settings know."""
    return tuple(
        _asked(from_here(address), listener)
        for listener in settings.listeners
        for address in listener.listen
        if isinstance(address, HostPort) and address.port
    )


def _asked(place: HostPort, listener: ListenerSettings) -> Asked:
    own = ip_address(place.host)  # who calls an address of this machine from this machine calls from there
    as_proxy = any(own in network for network in listener.proxy_from)
    return Asked(place, listener.tls is ListenerTls.IMPLICIT, as_proxy)


async def problems(listeners: Sequence[Asked], seconds: float) -> list[str]:
    """What is wrong with the listeners, one line for each with a fault."""
    found = await asyncio.gather(*(greeting_problem(asked, seconds) for asked in listeners))
    return [f"{one.place}: {problem}" for one, problem in zip(listeners, found, strict=True) if problem is not None]


async def greeting_problem(asked: Asked, seconds: float) -> str | None:
    """Connect and read the greeting: None when it is a 220 within this time, else what happened instead."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(asked.place.host, asked.place.port)
            try:
                if asked.as_proxy:
                    writer.write(PROXY_LOCAL)
                if asked.tls:
                    await writer.start_tls(_any_certificate())
                line = await reader.readline()
                writer.write(b"QUIT\r\n")
                await writer.drain()
            finally:
                writer.close()
    except TimeoutError:
        return f"no greeting within {seconds:g} s"
    except (OSError, ValueError) as error:  # ValueError: a line without end
        return wording(error)
    if line.startswith((b"220 ", b"220-")):
        return None
    return f"the greeting is {line[:200]!r}" if line else "the connection was closed without a greeting"


def _any_certificate() -> SSLContext:
    """The certificate is for the clients' name of the service, not for this address."""
    return ClientContexts(load_roots(None)).opportunistic
