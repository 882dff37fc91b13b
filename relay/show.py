"""The queue for people: a table that fits the terminal. Values in, text out.

Replies and addresses come from strangers: what is shown on a terminal is cleaned of control characters.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TextIO

from relay.mail.duration import utc
from relay.policy.words import in_words
from relay.queue.store import QueueEntry, Rest

_HEADINGS = ("ID", "AGE", "SENDER -> RECIPIENT", "STATE", "TRIES", "NEXT ATTEMPT", "CAUSE")
_PEOPLE = 2  # the column that gets a line of its own where one line is too short for all
_INDENT = "    "


def table(
    entries: Sequence[QueueEntry],
    now: datetime,
    width: int | None,
    headings: bool = True,
    rests: Mapping[str, Rest] = MappingProxyType({}),
) -> str:
    """A line for each recipient, and under it what was said last. `width`: of the terminal, None for no limit."""
    rows = [_HEADINGS, *(_row(entry, now, rests) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    under = width is not None and sum(widths) + 2 * (len(widths) - 1) > width
    if under:
        rows, widths = [_without_people(row) for row in rows], [*widths[:_PEOPLE], *widths[_PEOPLE + 1 :]]
    lines = [_line(rows[0], widths)] if headings else []
    for row, entry in zip(rows[1:], entries, strict=True):
        lines.append(_line(row, widths))
        remarks = _remarks(entry, now)
        if under:
            remarks.insert(0, _people(entry))
        lines += [fold(_INDENT + text, 2 * len(_INDENT), width) for text in remarks]
    return "\n".join(lines)


def fold(line: str, indent: int, width: int | None) -> str:
    """The line in as many as it takes in a terminal of this width, those after the first indented; words stay whole."""
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def _without_people(row: tuple[str, ...]) -> tuple[str, ...]:
    return (*row[:_PEOPLE], *row[_PEOPLE + 1 :])


def _people(entry: QueueEntry) -> str:
    return clean(f"{entry.sender or '<>'} -> {entry.recipient}")


def _next_attempt(entry: QueueEntry, now: datetime, rest: Rest | None) -> str:
    if entry.next_attempt is None:
        return "under way" if entry.under_way else "-"
    if rest is not None and rest.until > max(now, entry.next_attempt):
        return f"rests, {in_words(rest.until - now)}"
    return f"in {in_words(entry.next_attempt - now)}" if entry.next_attempt > now else "now"


def _row(entry: QueueEntry, now: datetime, rests: Mapping[str, Rest]) -> tuple[str, ...]:
    next_attempt = _next_attempt(entry, now, rests.get(entry.destination))
    age = in_words(now - entry.arrived)
    cause = "-" if entry.cause is None else entry.cause.value
    return (str(entry.id), age, _people(entry), entry.state.value, str(entry.attempts), next_attempt, cause)


def _remarks(entry: QueueEntry, now: datetime) -> list[str]:
    """Why it is held or not yet sent, and what came of the last attempt: our words, then the other side's."""
    ours = " ".join(part for part in (entry.status, entry.reason) if part)
    host = f" (host {entry.host}, TLS {entry.tls.value})" if entry.host else ""
    remarks = [f"held: {entry.hold}"] if entry.hold else []
    if entry.release is not None and entry.waits_for_release(now):
        remarks.append(until_released(entry.release))
    remarks += [f"{ours}{host}"] if ours or host else []
    if entry.reply:
        remarks.append(f"the host said: {entry.reply}")
    return [clean(remark.strip()) for remark in remarks]


def until_released(release: datetime) -> str:
    """Why it waits that was sent with HOLDFOR or HOLDUNTIL."""
    return f"held by its sender until {utc(release)}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def clean(text: str) -> str:
    """Without anything that could move the cursor or change colours."""
    return "".join(character if character.isprintable() else "?" for character in text)


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def terminal_width(stream: TextIO) -> int | None:
    """How many columns a line may have there; None when it is no terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None
