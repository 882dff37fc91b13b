"""From when on each domain may have mail to claim: found in a few steps, however much is queued for the others.

Kept in memory beside the database. A place kept here is never later than the truth, but may be earlier; whoever finds
nothing at a domain corrects it. So only claims need to be exact here, and settling costs nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Generator, Iterable

Place = tuple[int, int]
"""A recipient's place in the order of work: when it is due (microseconds UTC), then its message's id."""

_SLACK = 64


class Destinations:
    """Domains by the place of their first recipient."""

    def __init__(self) -> None:
        self._first: dict[str, Place] = {}
        self._heap: list[tuple[Place, str]] = []  # has every entry of _first, and outdated ones

    def load(self, firsts: Iterable[tuple[str, Place]]) -> None:
        """Forget everything and begin with these."""
        self._first = dict(firsts)
        self._rebuild()

    def note(self, domain: str, place: Place) -> None:
        """Something for `domain` has this place."""
        known = self._first.get(domain)
        if known is None or place < known:
            self._set(domain, place)

    def correct(self, domain: str, place: Place | None) -> None:
        """The first recipient for `domain` has exactly this place; None: there is none."""
        if place is None:
            self._first.pop(domain, None)
        elif self._first.get(domain) != place:
            self._set(domain, place)

    def in_order(self, until: int | None, skip: Collection[str]) -> Generator[tuple[Place, str], None, None]:
        """Domains outside `skip`, first place first, as far as they are due at `until`.

        Close the generator before the next call of another method.
        """
        visited: list[tuple[Place, str]] = []
        try:
            while self._heap and (until is None or self._heap[0][0][0] <= until):
                entry = heapq.heappop(self._heap)
                place, domain = entry
                if self._first.get(domain) != place or (visited and visited[-1] == entry):
                    continue  # outdated, or there twice
                visited.append(entry)
                if domain not in skip:
                    yield entry
        finally:
            for entry in visited:
                heapq.heappush(self._heap, entry)

    def _set(self, domain: str, place: Place) -> None:
        self._first[domain] = place
        heapq.heappush(self._heap, (place, domain))
        if len(self._heap) > 2 * len(self._first) + _SLACK:
            self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(place, domain) for domain, place in self._first.items()]
        heapq.heapify(self._heap)
