"""The queue in figures, for people: the page of `relay queue stats`. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from relay.policy.words import in_words, utc
from relay.queue.objects import AGE_NAMES
from relay.queue.stats import Group, QueueStats
from relay.show import clean, count

_COLUMNS = ("RECIPIENTS", "MESSAGES", "OLDEST", "NEXT ATTEMPT", "HELD", *(f"<={name}" for name in AGE_NAMES), "OLDER")


def page(stats: QueueStats, now: datetime) -> str:
    """Totals, then by destination and by cause, those with the most recipients first."""
    if not stats.recipients:
        return "No mail waits."
    return "\n".join(map(clean, _lines(stats, now)))


def _lines(stats: QueueStats, now: datetime) -> Iterator[str]:
    oldest = "" if stats.oldest is None else f", the oldest for {in_words(now - stats.oldest)}"
    yield f"{count(stats.recipients, 'recipient')} in {count(stats.messages, 'message')} wait{oldest}"
    states = [f"{number} {state.value}" for state, number in stats.states.items()]
    yield ", ".join([*states, f"{stats.due} due now", f"{stats.under_way} being tried at this moment"])
    yield ""
    yield from _table("DESTINATION", stats.destinations, now)
    yield ""
    yield from _table("CAUSE", stats.causes, now)
    if stats.resting:
        yield ""
        yield "RESTING DESTINATIONS"
    for name, rest in stats.resting.items():
        yield f"{name}: nothing is tried before {utc(rest.until)}, in {in_words(rest.until - now)}"
        failures = count(rest.failures, "failure")
        yield f"    down since {utc(rest.since)}, {failures} in a row: {rest.status} {rest.reason}"


def _table(title: str, groups: Sequence[Group], now: datetime) -> Iterator[str]:
    rows = [(title, *_COLUMNS), *(_row(group, now) for group in groups)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for name, *cells in rows:
        figures = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([f"{name:{widths[0]}}", *figures])


def _row(group: Group, now: datetime) -> tuple[str, ...]:
    if group.rest is not None:
        due = f"rests, {in_words(group.rest.until - now)}"
    elif group.next_attempt is None:
        due = "under way" if group.under_way else "-"
    else:
        due = f"in {in_words(group.next_attempt - now)}" if group.next_attempt > now else "now"
    figures = (group.held, *group.ages)
    return (
        clean(group.name),
        str(group.recipients),
        str(group.messages),
        in_words(now - group.oldest),
        due,
        *map(str, figures),
    )
