"""Mail that has to be looked at without a try: it is past its life or late, while its destination rests or it is held.

What has fallen due is left to its attempt for a minute. A lease of a review leaves `next_attempt` alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from relay.queue.claiming import read_message, to_claim
from relay.queue.rows import RECIPIENT_COLUMNS
from relay.queue.store import FileOf, Review
from relay.queue.writer import Transaction

GRACE_MICROS = 60 * 1_000_000

_OVERDUE = (
    "SELECT DISTINCT m.id, r.destination, r.state = 'held' FROM message m JOIN recipient r ON r.message = m.id"
    " WHERE m.closed IS NULL AND r.state IN ('queued', 'deferred', 'held') AND r.lease IS NULL"
    " AND coalesce(r.review, min(max(m.arrived, coalesce(m.release, 0)) + ?1, coalesce(m.deliver_by, ?2 + 1))) <= ?2"
    " AND (r.state = 'held' OR r.next_attempt > ?2 OR r.next_attempt <= ?2 - ?3) LIMIT ?4"
)
_LEASE = (
    "UPDATE recipient SET lease = ?1"  # noqa: S608  (constants of ours)
    " WHERE message = ?2 AND +destination = ?3 AND lease IS NULL"
    " AND iif(?4, state = 'held', state IN ('queued', 'deferred'))"
    " AND coalesce(review, (SELECT min(max(arrived, coalesce(release, 0)) + ?5, coalesce(deliver_by, ?6 + 1))"
    " FROM message WHERE id = ?2)) <= ?6"
    f" RETURNING {RECIPIENT_COLUMNS}"
)
# What waits for the time that its sender asked for does so whatever our clock says.
_ASKED_FOR = "EXISTS (SELECT 1 FROM message WHERE id = recipient.message AND release = recipient.next_attempt)"
_FAR_AHEAD = (  # a lease ends when it ends
    "SELECT 1 FROM recipient INDEXED BY recipient_due"  # noqa: S608  (constants of ours)
    f" WHERE next_attempt > ?1 AND lease IS NULL AND NOT {_ASKED_FOR}"
    " UNION ALL SELECT 1 FROM rest WHERE until > ?1 LIMIT 1"
)
_BRING_FORWARD = (
    "UPDATE recipient INDEXED BY recipient_due SET next_attempt = ?1"  # noqa: S608  (constants of ours)
    f" WHERE next_attempt > ?1 AND lease IS NULL AND NOT {_ASKED_FOR}"
)

_SHORTEN_RESTS = "UPDATE rest SET until = ?1 WHERE until > ?1"

Place = tuple[int, str, bool]
"""Message, destination, and whether it is held there."""


def overdue(connection: sqlite3.Connection, untried: int, now: int, limit: int) -> list[Place]:
    """What has to be looked at. `untried`: the age (microseconds) at which what was never tried has to."""
    rows = connection.execute(_OVERDUE, (untried, now, GRACE_MICROS, limit))
    return [(message, destination, bool(held)) for message, destination, held in rows]


def lease(
    transaction: Transaction,
    places: Iterable[Place],
    times: tuple[int, int],
    numbers: Iterator[int],
    file_of: FileOf,
) -> tuple[Review, ...]:
    """Claim what `overdue` found, as far as it is still so. `times`: as `untried` and `now` there."""
    reviews = []
    for message, destination, held in places:
        number = next(numbers)
        leased = transaction.connection.execute(_LEASE, (number, message, destination, held, *times)).fetchall()
        if leased:
            row, body = read_message(transaction, message, file_of)
            reviews.append(Review(to_claim(row, body, destination, leased, (number, times[1])), held))
    return tuple(reviews)


def any_far_ahead(connection: sqlite3.Connection, latest: int) -> bool:
    """Whether anything waits or rests until after `latest`: the clock was wrong when that was written, or it is now."""
    return connection.execute(_FAR_AHEAD, (latest,)).fetchone() is not None


def bring_forward(connection: sqlite3.Connection, latest: int) -> int:
    """Let nothing wait or rest until after `latest`. Returns how many recipients waited so long.

    The turns are to be loaded anew.
    """
    connection.execute(_SHORTEN_RESTS, (latest,))
    return connection.execute(_BRING_FORWARD, (latest,)).rowcount
