"""May we connect to this address at all? Asked for every address of an MX host and of an MTA-STS policy host.

Whoever can write an address into mail decides which DNS names we look up, and so where we connect; without a guard he
reaches what stands behind our own firewall. Python's `ipaddress.is_global` is no such guard: it differs by version and
lets multicast and addresses with a private IPv4 address inside pass, so the list is spelt out here.

This module only answers. It must not look anything up: what is checked must be the very address that is then used.
Sources: IANA's registries of special-purpose addresses (RFC 6890), RFC 4291 section 2.4, RFC 6052, RFC 3056, RFC 4380.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*rows: tuple[str, str]) -> tuple[tuple[_Network, str], ...]:
    return tuple((ipaddress.ip_network(network), what) for network, what in rows)


# Nobody can be reached over a connection there, wherever it is.
_NEVER = _networks(
    ("0.0.0.0/8", "the unspecified address"),  # Linux connects 0.0.0.0 to the machine itself
    ("224.0.0.0/4", "a multicast address"),
    ("255.255.255.255/32", "the broadcast address"),
    ("::/128", "the unspecified address"),
    ("ff00::/8", "a multicast address"),
)
# Not on the public Internet. The order matters only for the words.
_PRIVATE = _networks(
    ("10.0.0.0/8", "a private address"),
    ("100.64.0.0/10", "an address shared behind a carrier's NAT"),
    ("127.0.0.0/8", "a loopback address"),
    ("169.254.0.0/16", "a link-local address"),
    ("172.16.0.0/12", "a private address"),
    ("192.0.0.0/24", "an address reserved for protocols"),
    ("192.0.2.0/24", "an address for documentation"),
    ("192.88.99.0/24", "a reserved address"),
    ("192.168.0.0/16", "a private address"),
    ("198.18.0.0/15", "an address for benchmarks"),
    ("198.51.100.0/24", "an address for documentation"),
    ("203.0.113.0/24", "an address for documentation"),
    ("240.0.0.0/4", "a reserved address"),
    ("::1/128", "a loopback address"),
    ("64:ff9b:1::/48", "an address of a local NAT64"),
    ("100::/64", "an address that discards"),
    ("2001::/23", "an address reserved for protocols"),
    ("2001:db8::/32", "an address for documentation"),
    ("3fff::/20", "an address for documentation"),
    ("fc00::/7", "a private address"),
    ("fe80::/10", "a link-local address"),
    ("fec0::/10", "a site-local address"),
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # RFC 4291 §2.4: all that IANA gives out
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1: the well-known prefix


@dataclass(frozen=True, slots=True)
class AddressGuard:
    """Refuses addresses that are not on the public Internet.

    `allow_private`: let through all but unspecified, multicast and broadcast addresses (for a closed network or a lab).
    """

    allow_private: bool

    @lru_cache(maxsize=4096)  # noqa: B019  (guards live as long as the process; the same few hosts come again)
    def refusal(self, address: str) -> str | None:
        """Why we must not connect to `address` (text of an IPv4 or IPv6 address), or None when we may."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return f"{address!r} is not an IP address"
        if isinstance(parsed, ipaddress.IPv6Address):
            parsed = ipaddress.IPv6Address(int(parsed))  # a zone (fe80::1%eth0) changes nothing
        what = self._fault(parsed)
        return f"{address} is {what}" if what else None

    def _fault(self, address: _Address) -> str | None:
        inner = _embedded(address)
        if inner:
            # the packet ends up at the IPv4 address inside, so that one decides
            return next((f"an address for {one}, {what}" for one in inner if (what := self._fault(one))), None)
        tables = (_NEVER,) if self.allow_private else (_NEVER, _PRIVATE)
        for table in tables:
            for network, what in table:
                if address in network:
                    return what
        if self.allow_private or address.version == 4 or address in _GLOBAL_UNICAST:
            return None
        return "a reserved address"


def _embedded(address: _Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address of a transition mechanism leads to; empty for all others."""
    if address.version == 4:
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in _NAT64:
        return (ipaddress.IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour is not None:  # RFC 3056 §2: 2002::/16
        return (address.sixtofour,)
    return address.teredo or ()  # RFC 4380 §4: server and client
