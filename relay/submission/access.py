"""The address of a client. Pure: no I/O, no state."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from relay.policy.clients import IPAddress


@lru_cache(maxsize=1024)
def client_address(host: str) -> IPAddress:
    """The address of a peer as the socket names it; an IPv4 address mapped into IPv6 comes out as IPv4.

    Raises ValueError when `host` is not an IP address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])  # without the zone of a link-local address
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
