"""The queue in figures, for people: the page of `relay queue stats`. Values in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from relay.mail.duration import utc
from relay.policy.words import in_words
from relay.queue.objects import AGE_NAMES
from relay.queue.stats import Group, QueueStats
from relay.show import clean, count

_COLUMNS = ("RECIPIENTS", "MESSAGES", "OLDEST", "NEXT ATTEMPT", "HELD", *(f"<={name}" for name in AGE_NAMES), "OLDER")

_AGES = len(AGE_NAMES) + 1  # columns


def page(stats: QueueStats, now: datetime, width: int | None = None) -> str:
    """Totals, then by destination, by cause and by sender, those with the most recipients first.

    `width`: of the terminal, None for no limit; where the ages do not fit, they are left out.
    """
    if not stats.recipients:
        return "No mail waits."
    return "\n".join(map(clean, _lines(stats, now, width)))


def _lines(stats: QueueStats, now: datetime, width: int | None) -> Iterator[str]:
    oldest = "" if stats.oldest is None else f", the oldest for {in_words(now - stats.oldest)}"
    yield f"{count(stats.recipients, 'recipient')} in {count(stats.messages, 'message')} wait{oldest}"
    states = [f"{number} {state.value}" for state, number in stats.states.items()]
    yield ", ".join([*states, f"{stats.due} due now", f"{stats.under_way} being tried at this moment"])
    for title, groups in (("DESTINATION", stats.destinations), ("CAUSE", stats.causes), ("SENDER", stats.senders)):
        yield ""
        yield from _table(title, groups, now, width)
        left_out = stats.recipients - sum(group.recipients for group in groups)
        if left_out:
            yield f"and {count(left_out, 'recipient')} more: --limit NUMBER shows more lines"
    if stats.resting:
        yield ""
        yield "RESTING DESTINATIONS"
    for name, rest in stats.resting.items():
        yield f"{name}: nothing is tried before {utc(rest.until)}, in {in_words(rest.until - now)}"
        failures = count(rest.failures, "failure")
        yield f"    down since {utc(rest.since)}, {failures} in a row: {rest.status} {rest.reason}"


def _table(title: str, groups: Sequence[Group], now: datetime, width: int | None) -> Iterator[str]:
    rows = [(title, *_COLUMNS), *(_row(group, now) for group in groups)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        rows, widths = [row[:-_AGES] for row in rows], widths[:-_AGES]
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
