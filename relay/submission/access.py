"""Who may send through us. Pure: no I/O, no state."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(host: str) -> IPAddress:
    """The address of a peer as the socket names it; an IPv4 address mapped into IPv6 comes out as IPv4.

    Raises ValueError when `host` is not an IP address.
    """
    address = ipaddress.ip_address(host.partition("%")[0])  # without the zone of a link-local address
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def may_relay(peer: IPAddress, login: str | None, networks: Iterable[IPNetwork]) -> bool:
    """Whether a client may send to anyone: it has logged in, or its address is in a trusted network.

    Nothing else opens the relay: not the sender, not the form of a recipient address, not the message.
    """
    return login is not None or any(peer in network for network in networks)
