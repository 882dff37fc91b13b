"""Sockets that listen: bound before anything else is done, so that an address that can't be had is known at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, MutableMapping

from relay.settings import HostPort

BACKLOG = 1024
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START
_MOST_INHERITED = 1000

InheritedSockets = Mapping[str, tuple[socket.socket, ...]]  # by the name that systemd gave them
NOTHING_INHERITED: InheritedSockets = {}


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


def inherited_sockets(environ: MutableMapping[str, str], pid: int) -> InheritedSockets:
    """The sockets that systemd has opened for the process `pid`. sd_listen_fds(3); several may have one name.

    What tells of them is taken out of `environ`: it is not for our children. Raises ValueError, in one line, when one
    is no socket where clients of IPv4 or IPv6 can connect.
    """
    for_whom, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if for_whom != str(pid) or not count:
        return NOTHING_INHERITED
    if not (count.isascii() and count.isdigit() and int(count) <= _MOST_INHERITED):
        raise ValueError(f"LISTEN_FDS is {count!r}, not a number of sockets")
    named = names.split(":") if names else ["unknown"] * int(count)
    if len(named) != int(count):
        raise ValueError(f"LISTEN_FDNAMES has {len(named)} names for {count} sockets")
    found: dict[str, tuple[socket.socket, ...]] = {}
    for number, name in enumerate(named, _FIRST_INHERITED):
        found[name] = (*found.get(name, ()), _inherited(number, name))
    return found


def ports_of(inherited: InheritedSockets) -> frozenset[int]:
    """The ports of all these sockets."""
    return frozenset(sock.getsockname()[1] for sockets in inherited.values() for sock in sockets)


def _inherited(number: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise ValueError(f"the socket {name} of systemd cannot be used: {error.strerror}") from None
    listens = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or sock.family not in (socket.AF_INET, socket.AF_INET6):
        sock.detach()
        raise ValueError(f"the socket {name} of systemd is not one that listens for TCP (ListenStream=)")
    os.set_inheritable(number, False)
    sock.setblocking(False)
    return sock
