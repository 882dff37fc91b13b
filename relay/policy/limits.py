"""What the operator allows a destination: attempts at once, messages in a minute, recipients in one message. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.policy.routing import keys_of


@dataclass(frozen=True, slots=True)
class Limit:
    """For one destination. `per_minute` and `recipients`: None where there is no limit of ours."""

    at_once: int
    per_minute: int | None = None
    recipients: int | None = None


@dataclass(frozen=True, slots=True)
class LimitEntry:
    """One entry of the settings. `destinations`: domains, `.example.org` for all below it, `route:NAME`, or `*`."""

    destinations: tuple[str, ...]
    at_once: int | None = None
    per_minute: int | None = None
    recipients: int | None = None

    def fits(self, destination: str) -> bool:
        """Whether it is for this destination (as Claim.destination)."""
        return not set(self.destinations).isdisjoint(keys_of(destination))


class DestinationLimits:
    """All of them. For each limit the first entry that fits and sets it counts."""

    def __init__(self, at_once: int = 20, entries: Iterable[LimitEntry] = ()) -> None:
        self.plain = Limit(at_once)
        self._entries = tuple(entries)

    def of(self, destination: str) -> Limit:
        """The limits for a destination (as Claim.destination)."""
        if not self._entries:
            return self.plain
        fitting = [entry for entry in self._entries if entry.fits(destination)]
        if not fitting:
            return self.plain
        return Limit(
            next((entry.at_once for entry in fitting if entry.at_once is not None), self.plain.at_once),
            next((entry.per_minute for entry in fitting if entry.per_minute is not None), None),
            next((entry.recipients for entry in fitting if entry.recipients is not None), None),
        )
