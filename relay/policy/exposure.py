"""Settings that open the relay to the world, so that anybody can send anything through it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network

from relay.policy.clients import ANY, Grant, IPNetwork

_NARROWEST = {4: 8, 6: 16}  # nobody has as many public addresses as that, and the private 10.0.0.0/8 is no wider
_PRIVATE = IPv6Network("fc00::/7")


def is_the_world(network: IPNetwork) -> bool:
    """Whether so many strangers are in it that it is nobody's own network."""
    return network.prefixlen < _NARROWEST[network.version] and not _is_private(network)


def _is_private(network: IPNetwork) -> bool:
    return network.version == 6 and network.subnet_of(_PRIVATE)


def open_to_the_world(grants: Iterable[Grant]) -> Iterator[tuple[Grant, IPNetwork]]:
    """Those that let whoever is in such a network send to anyone, without a login, each with the network."""
    for grant in grants:
        asks_who = grant.users or grant.certificates
        if not asks_who and (not grant.recipients or ANY in grant.recipients):
            yield from ((grant, network) for network in grant.networks if is_the_world(network))
