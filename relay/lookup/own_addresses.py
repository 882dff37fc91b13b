"""The addresses that other hosts see us with. Nothing is sent to find out.

Behind NAT a machine does not know them: then only `delivery.public_addresses` can tell.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from relay.guard import AddressGuard
from relay.policy.source import Source

# Any place that the route to the Internet leads to: addresses of a root server do not change. Port 9 throws away.
FAR = {socket.AF_INET: ("198.41.0.4", 9), socket.AF_INET6: ("2001:503:ba3e::2:30", 9)}


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """`known`: with which others see us. `hidden`: addresses that we send from and others cannot see, and why."""

    known: tuple[str, ...]
    hidden: tuple[str, ...] = ()


def own_addresses(source: Source, public: Sequence[str], guard: AddressGuard) -> OwnAddresses:
    """With which addresses others see the mail that goes out from `source`. `public`: delivery.public_addresses.

    An address that the settings choose and that is public is what others see. Else what `public` has of its family
    counts, or where that names none at all, what the system would send from. `guard` knows what is public.
    """
    known: list[str] = []
    hidden: list[str] = []
    for family, given in ((socket.AF_INET, source.ipv4), (socket.AF_INET6, source.ipv6)):
        if given and guard.refusal(given) is None:
            known.append(given)
        elif public:
            known += [one for one in public if (":" in one) == (family == socket.AF_INET6)]
        else:
            address = given or _chosen_by_the_system(family)
            refusal = guard.refusal(address) if address else None
            if refusal is not None:
                hidden.append(refusal)
            elif address:
                known.append(address)
    return OwnAddresses(tuple(known), tuple(hidden))


def _chosen_by_the_system(family: socket.AddressFamily) -> str:
    """The address that packets to the Internet leave with; empty: none. To connect a datagram socket sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(FAR[family])
            return str(probe.getsockname()[0])
    except OSError:
        return ""
