"""How many logins have failed from where in the last while: beyond a number none is tried. Time is an argument.

Counted for the address and for its network (/24, IPv6 /64), which may have five times as many: whoever holds a network
has all its addresses. A success takes back what its address has had, for people mistype; never what its network has
had, or one good account would buy any number of guesses. There is no count for names: it would let anybody lock
anybody out.
"""

from __future__ import annotations

import ipaddress
from typing import Final, Generic, TypeVar

from relay.policy.clients import IPAddress

WINDOW_SECONDS: Final = 15 * 60.0
NETWORK_SHARE: Final = 5
_MOST_KEPT: Final = 20_000  # addresses, and as many networks: a few megabytes

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Key = TypeVar("Key")


class FailedLogins:
    """The counts. One begins with a failure, and ends 15 minutes later. `most`: failures of one address."""

    def __init__(self, most: int, most_kept: int = _MOST_KEPT) -> None:
        self._addresses = _Counts[IPAddress](most, most_kept)
        self._networks = _Counts[Network](most * NETWORK_SHARE, most_kept)
        self._most_kept = most_kept
        self._good: dict[Network, None] = {}  # where a login has succeeded, the latest last

    def are_too_many(self, address: IPAddress, now: float) -> bool:
        """Whether no login from here is to be tried."""
        return self._addresses.is_full(address, now) or self._networks.is_full(network_of(address), now)

    def failed(self, address: IPAddress, now: float) -> IPAddress | Network | None:
        """One more. What comes back has had its last: no more logins from there; None: there may be more."""
        full: list[IPAddress | Network] = []
        if self._addresses.add(address, now):
            full.append(address)
        if self._networks.add(network_of(address), now):
            full.append(network_of(address))
        return full[-1] if full else None

    def succeeded(self, address: IPAddress) -> None:
        """Take back the failures of this address."""
        self._addresses.forget(address)
        network = network_of(address)
        self._good.pop(network, None)
        self._good[network] = None
        if len(self._good) > self._most_kept:
            del self._good[next(iter(self._good))]

    def rank(self, address: IPAddress, now: float) -> int:
        """Who is to be heard first where many want to log in: the less the sooner.

        First come networks from which somebody has logged in, then those with the fewest failures.
        """
        network = network_of(address)
        return -1 if network in self._good else self._networks.count(network, now)


def network_of(address: IPAddress) -> Network:
    """The /24 or the /64 that it is in."""
    return ipaddress.ip_network((address, 24 if address.version == 4 else 64), strict=False)


class _Counts(Generic[Key]):
    """Counts by key, with the time when each ends. They all last equally long: the first one is the next to end."""

    def __init__(self, most: int, most_kept: int) -> None:
        self._most = most
        self._most_kept = most_kept
        self._counts: dict[Key, tuple[int, float]] = {}

    def count(self, key: Key, now: float) -> int:
        count, until = self._counts.get(key, (0, 0.0))
        return count if until > now else 0

    def is_full(self, key: Key, now: float) -> bool:
        return self.count(key, now) >= self._most

    def add(self, key: Key, now: float) -> bool:
        """Whether that was the last that it may have."""
        while self._counts and next(iter(self._counts.values()))[1] <= now:
            del self._counts[next(iter(self._counts))]
        count, until = self._counts.get(key, (0, now + WINDOW_SECONDS))
        if key not in self._counts and len(self._counts) >= self._most_kept:
            del self._counts[next(iter(self._counts))]
        self._counts[key] = count + 1, until  # in its old place, if it has one
        return count + 1 == self._most

    def forget(self, key: Key) -> None:
        self._counts.pop(key, None)
