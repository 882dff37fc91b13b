"""Sockets that listen: bound before anything else is done, so that an address that can't be had is known at once."""

from __future__ import annotations

import socket

from relay.settings import HostPort

BACKLOG = 1024


def listening_socket(address: HostPort) -> socket.socket:
    """A socket where clients may wait to be taken. Raises OSError, which names the address, when it can't be had."""
    sock = bound_socket(address)
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _refused(address, error) from None
    return sock


def bound_socket(address: HostPort) -> socket.socket:
    """A socket that has the address, and where nobody can connect yet. Raises OSError, which names the address.

    The protocol is named because asyncio turns Nagle's algorithm off only where it says TCP.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind((address.host, address.port))
    except OSError as error:
        sock.close()
        raise _refused(address, error) from None
    return sock


def _refused(address: HostPort, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {address}: {error.strerror}")
