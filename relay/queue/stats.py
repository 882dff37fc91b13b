"""The queue in figures: how much waits for which destination, why and from whom, how old it is, and what rests.

One pass over what is open. Rows in, values out.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from relay.mail.outcome import State
from relay.queue import transactions
from relay.queue.rows import from_micros, to_micros
from relay.queue.selection import QueueFilter
from relay.queue.store import Rest

AGES: Final = tuple(timedelta(minutes=minutes) for minutes in (5, 15, 60, 4 * 60, 24 * 60))
NOT_TRIED: Final = "not tried"
NO_SENDER: Final = "<>"
EARLY: Final = "held by its sender"  # until the time that he has asked for
UNNAMED: Final = "not known"  # of mail that an older version has tried

_OPEN = (
    "SELECT r.message, r.destination, r.flow, r.cause, r.state, r.status, r.next_attempt, r.lease IS NOT NULL,"
    " m.arrived, m.release FROM message m JOIN recipient r ON r.message = m.id WHERE {} ORDER BY m.id, r.number LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class Group:
    """What is open for one destination, for one cause, or from one sender. Times are aware UTC.

    `ages`: recipients whose message is as old as each of AGES at most, and those that are older. `next_attempt`: the
    first; None when all are held or in an attempt. `rest`: of a destination that rests at this moment.
    """

    name: str
    recipients: int
    messages: int
    held: int
    under_way: int
    oldest: datetime
    next_attempt: datetime | None
    ages: tuple[int, ...]
    rest: Rest | None = None


@dataclass(frozen=True, slots=True)
class QueueStats:
    """All that is open. The groups with the most recipients come first. `states`: recipients in each.

    `senders`: by login, or by address without what changes from message to message.
    """

    recipients: int
    messages: int
    under_way: int
    due: int
    oldest: datetime | None
    states: dict[State, int]
    destinations: tuple[Group, ...]
    causes: tuple[Group, ...]
    senders: tuple[Group, ...]
    resting: dict[str, Rest]


@dataclass(slots=True)
class _Sum:
    recipients: int = 0
    messages: int = 0
    last_message: int = 0  # messages come one after the other
    held: int = 0
    under_way: int = 0
    oldest: int | None = None
    next_attempt: int | None = None
    ages: list[int] = field(default_factory=lambda: [0] * (len(AGES) + 1))

    def add(self, message: int, state: str, next_attempt: int | None, leased: int, arrived: int) -> None:
        self.recipients += 1
        if message != self.last_message:
            self.messages += 1
            self.last_message = message
        if self.oldest is None or arrived < self.oldest:
            self.oldest = arrived
        if leased:
            self.under_way += 1
        elif state == "held":
            self.held += 1
        elif next_attempt is not None and (self.next_attempt is None or next_attempt < self.next_attempt):
            self.next_attempt = next_attempt

    def group(self, name: str, rest: Rest | None = None) -> Group:
        return Group(
            name=name,
            recipients=self.recipients,
            messages=self.messages,
            held=self.held,
            under_way=self.under_way,
            oldest=from_micros(self.oldest or 0),
            next_attempt=None if self.next_attempt is None else from_micros(self.next_attempt),
            ages=tuple(self.ages),
            rest=rest,
        )


def load_stats(connection: sqlite3.Connection, selection: QueueFilter, now: datetime, top: int | None) -> QueueStats:
    """Count what is open and fits. `top`: the most groups of each kind; None: all. Raises sqlite3.Error."""
    rests = {name: rest for name, rest in transactions.rests(connection).items() if rest.until > now}
    sql, values = selection.condition()
    limit = -1 if selection.limit is None else selection.limit
    rows = connection.execute(_OPEN.format(sql), (*values, limit))
    bounds = [to_micros(now - age) for age in AGES]
    time = to_micros(now)
    whole, destinations, causes, senders = _Sum(), dict[str, _Sum](), dict[str, _Sum](), dict[str, _Sum]()
    states, due = Counter[str](), 0
    for message, destination, sender, cause, state, status, next_attempt, leased, arrived, release in rows:
        age = next((number for number, bound in enumerate(bounds) if arrived >= bound), len(bounds))
        is_early = release is not None and release > time and release == next_attempt
        why = cause or (UNNAMED if status else EARLY if is_early else NOT_TRIED)
        for one in (
            whole,
            destinations.get(destination) or destinations.setdefault(destination, _Sum()),
            causes.get(why) or causes.setdefault(why, _Sum()),
            senders.get(sender) or senders.setdefault(sender, _Sum()),
        ):
            one.add(message, state, next_attempt, leased, arrived)
            one.ages[age] += 1
        states[state] += 1
        due += not leased and next_attempt is not None and next_attempt <= time and destination not in rests
    return QueueStats(
        recipients=whole.recipients,
        messages=whole.messages,
        under_way=whole.under_way,
        due=due,
        oldest=None if whole.oldest is None else from_micros(whole.oldest),
        states={State(state): number for state, number in sorted(states.items())},
        destinations=_sorted((one.group(name, rests.get(name)) for name, one in destinations.items()), top),
        causes=_sorted((one.group(name) for name, one in causes.items()), top),
        senders=_sorted((one.group(name or NO_SENDER) for name, one in senders.items()), top),
        resting=rests,
    )


def _sorted(groups: Iterable[Group], top: int | None) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: (-group.recipients, group.name))[:top])
