"""Asks the running service for its greeting, as a client would. It looks at nothing else and changes nothing."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from ssl import SSLContext

from relay.delivery.wire import wording
from relay.settings import HostPort, SubmissionSettings
from relay.tls import ClientContexts, load_roots


def where_to_ask(settings: SubmissionSettings) -> tuple[tuple[HostPort, bool], ...]:
    """The listeners, as seen from this machine, and whether TLS comes first there; without those of no fixed port."""
    listeners = [(address, False) for address in settings.listen] + [(address, True) for address in settings.listen_tls]
    return tuple((from_here(address), tls) for address, tls in listeners if address.port)


def from_here(address: HostPort) -> HostPort:
    """Where to connect to reach a listener on this machine."""
    host = ip_address(address.host)
    loopback = "::1" if host.version == 6 else "127.0.0.1"
    return HostPort(host=loopback if host.is_unspecified else address.host, port=address.port)


async def greeting_problem(address: HostPort, tls: bool, seconds: float) -> str | None:
    """Connect and read the greeting: None when it is a 220 within this time, else what happened instead."""
    context = _any_certificate() if tls else None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
            try:
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
