"""Asking the running service to tell domains now, and waiting until it has: for `relay tlsrpt send`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from relay.tlsrpt.asking import Told
from relay.tlsrpt.outbox import Delivery, State
from relay.tlsrpt.store import ReportStore

_LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one domain: its report and the deliveries of that, or why there is none."""

    domain: str
    told: Told
    deliveries: tuple[Delivery, ...] = ()

    @property
    def arrived(self) -> bool:
        """Whether it is told wherever it wants to be."""
        return self.told.report is not None and all(one.state is State.SENT for one in self.deliveries)


async def request(
    store: ReportStore, day: date, domains: tuple[str, ...], patience_seconds: float
) -> tuple[Result, ...] | None:
    """Have these domains (none: all of which something is counted) told of that day.

    Returns when each place has been tried once, or when patience ends; None: the service has done nothing. Raises
    ReportStoreError.
    """
    number = await store.ask(day, domains)
    told: Mapping[str, Told] | None = None
    found: tuple[Result, ...] = ()
    try:
        async with asyncio.timeout(patience_seconds):
            while told is None or not all(map(_is_tried, found)):
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
                if told is None:
                    told = await store.answer_to(number)
                found = await _results(store, day, told or {})
    except TimeoutError:
        pass
    finally:
        await store.unask(number)
    return None if told is None else found


async def _results(store: ReportStore, day: date, told: Mapping[str, Told]) -> tuple[Result, ...]:
    deliveries = {one.id: one.deliveries for one in await store.ended(day)} if told else {}
    return tuple(Result(domain, told[domain], deliveries.get(told[domain].report, ())) for domain in sorted(told))


def _is_tried(result: Result) -> bool:
    """Whether something was written down of each delivery."""
    return all(one.state is not State.WAITS or one.words for one in result.deliveries)
