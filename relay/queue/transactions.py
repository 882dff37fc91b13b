"""What each verb does to the tables. Every function runs in the writer's thread, inside a transaction.

A recipient is *due* when its `next_attempt` has come. While an attempt runs, `lease` has its number and
`next_attempt` is the end of the lease, so one index serves both, and a lease that runs out needs no care.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from relay.mail.message import (
    Body,
    Claim,
    FileBody,
    InlineBody,
    MessageId,
    NewMessage,
    Recipient,
    RecipientDsn,
    SmtpUtf8,
    TlsDemand,
)
from relay.policy.retry import Settlement
from relay.queue.destinations import Place
from relay.queue.history import DROP_MIDDLE, INSERT_ATTEMPT, middle_of
from relay.queue.rows import (
    INSERT_BODY,
    INSERT_MESSAGE,
    INSERT_RECIPIENT,
    SETTLE_RECIPIENT,
    Row,
    body_row,
    due,
    from_micros,
    message_row,
    recipient_rows,
    settled_row,
    to_address,
    to_dsn,
    to_recipient,
)
from relay.queue.store import StoreUnavailable
from relay.queue.writer import Transaction

# What was under way at a crash waits this long for each attempt that it has had: a message that makes the service crash
# does so ever more rarely, and hammers no host.
CRASH_DELAY_MICROS = 5 * 1_000_000
CRASH_DELAYS = 60
TIDY_BATCH = 500  # messages forgotten in one item, so that nobody waits long behind it
_FIRST_RUN, _LONGEST_RUN = 4, 128  # rows read at once from one domain

_DESTINATIONS = (
    "SELECT destination, min(next_attempt) FROM recipient WHERE next_attempt IS NOT NULL GROUP BY destination"
)
_FIRST = (
    "SELECT next_attempt, message FROM recipient INDEXED BY recipient_due"
    " WHERE destination = ? AND next_attempt IS NOT NULL ORDER BY next_attempt, message LIMIT 1"
)
_DUE_RUN = (
    "SELECT DISTINCT next_attempt, message FROM recipient INDEXED BY recipient_due"
    " WHERE destination = ? AND next_attempt <= ? AND (next_attempt, message) > (?, ?)"
    " ORDER BY next_attempt, message LIMIT ?"
)
_MESSAGE = (
    "SELECT id, sender, sender_domain, message_id, eight_bit, smtputf8, demand, arrived, login, ret, envid,"
    " size, octets FROM message LEFT JOIN body ON body.message = message.id WHERE id = ?"
)
# The plus signs keep the planner to the primary key: the other index would walk all that is due for the domain.
_LEASE = (
    "UPDATE recipient SET attempts = attempts + 1, lease = ?, next_attempt = ?"
    " WHERE message = ? AND +destination = ? AND +next_attempt <= ?"
    " RETURNING number, address, domain, attempts, delay_notices, notify, orcpt, status, reply, reason, host, tls, cause"
)
_RENEW = "UPDATE recipient SET next_attempt = ? WHERE message = ? AND lease = ?"
_RELEASE = (
    "UPDATE recipient SET next_attempt = ?, attempts = attempts - 1, lease = NULL WHERE message = ? AND lease = ?"
)
_ANY_OPEN = "SELECT 1 FROM recipient WHERE message = ? AND state NOT IN ('delivered', 'failed', 'dropped') LIMIT 1"
_WAITING_OF_ALL = (
    "SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE next_attempt IS NOT NULL AND lease IS NULL"
)
_WAITING_OF_ONE = "SELECT count(*) FROM recipient WHERE message = ? AND next_attempt IS NOT NULL AND lease IS NULL"
_RETRY_ALL = "UPDATE recipient INDEXED BY recipient_due SET next_attempt = ?1 WHERE next_attempt > ?1 AND lease IS NULL"
_RETRY_ONE = "UPDATE recipient SET next_attempt = ?1 WHERE message = ?2 AND next_attempt > ?1 AND lease IS NULL"
_UNDO_LEASES = (
    "UPDATE recipient INDEXED BY recipient_due SET next_attempt = ? + ? * min(attempts, ?), lease = NULL"
    " WHERE next_attempt IS NOT NULL AND lease IS NOT NULL"
)
_OLD = "SELECT id FROM message WHERE closed < ? ORDER BY closed LIMIT ?"


class LeaseLostError(Exception):
    """Another claim has these recipients, or the queue was opened anew. What the item has written is undone."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a claim asks for. Times in microseconds; each claim takes the next of `numbers` for its lease.

    `share`: the most claims for one domain; None: no such limit.
    """

    limit: int
    lease_until: int
    now: int
    skip: frozenset[str]
    numbers: Iterator[int]
    share: int | None


def load_destinations(transaction: Transaction) -> None:
    """Read from the tables when each domain is due."""
    rows = transaction.connection.execute(_DESTINATIONS)
    transaction.destinations.load((domain, (earliest, 0)) for domain, earliest in rows)


def put(
    transaction: Transaction, message: NewMessage, claims: Sequence[Claim] = (), about: MessageId | None = None
) -> None:
    """Store a message, due on arrival, or leased by `claims`. Raises StoreUnavailable when its id is taken.

    `about`: the message is a notice that speaks of that one.
    """
    connection = transaction.connection
    try:
        connection.execute(INSERT_MESSAGE, message_row(message, about))
    except sqlite3.IntegrityError as error:
        raise StoreUnavailable(f"the queue id {message.id} is taken") from error
    connection.execute(INSERT_BODY, body_row(message))
    rows = recipient_rows(message, claims)
    connection.executemany(INSERT_RECIPIENT, rows)
    for row in rows:
        transaction.destinations.note(row[4], (row[9], message.id.number))


def first_claims(message: NewMessage, lease_until: datetime, numbers: Iterator[int]) -> tuple[Claim, ...]:
    """The claims on a message that is about to be put: one for each domain, as `claim` would make them."""
    domains: dict[str, list[Recipient]] = {}
    asked = message.envelope.dsn or (RecipientDsn(),) * len(message.envelope.recipients)
    for index, (address, dsn) in enumerate(zip(message.envelope.recipients, asked, strict=True)):
        domains.setdefault(address.domain, []).append(Recipient(index, address, attempts=1, dsn=dsn))
    return tuple(
        Claim(
            id=message.id,
            sender=message.envelope.sender,
            destination=domain,
            recipients=tuple(recipients),
            body=message.body,
            arrived=message.arrived,
            lease=next(numbers),
            lease_until=lease_until,
            message_id=message.message_id,
            eight_bit=message.eight_bit,
            smtputf8=message.smtputf8,
            demand=message.demand,
            dsn=message.dsn,
            login=message.login,
        )
        for domain, recipients in domains.items()
    )


def claim(transaction: Transaction, order: Order, file_of: Callable[[MessageId, int], FileBody]) -> tuple[Claim, ...]:
    """Lease what is due. `file_of` gives the body of a message, from its id and size, that is kept in a file."""
    connection = transaction.connection
    picked = _pick(transaction, order)
    messages: dict[int, tuple[Row, Body]] = {}  # one copy, however many domains the message goes to
    claims = []
    for message, domain in picked:
        if message not in messages:
            row = connection.execute(_MESSAGE, (message,)).fetchone()
            size, octets = row[-2:]
            messages[message] = row, file_of(MessageId(message), size) if octets is None else InlineBody(octets)
        lease = next(order.numbers)
        leased = connection.execute(_LEASE, (lease, order.lease_until, message, domain, order.now)).fetchall()
        claims.append(_claim(*messages[message], domain, leased, (lease, order.lease_until)))
    # Last of all: an item that fails is undone in the tables only, and must not leave a correction behind.
    _correct(transaction, {domain for _, domain in picked})
    return tuple(claims)


def renew(transaction: Transaction, claim: Claim, until: int) -> bool:
    """Move the end of a lease. False: it was lost."""
    cursor = transaction.connection.execute(_RENEW, (until, claim.id.number, claim.lease))
    transaction.destinations.note(claim.destination, (until, claim.id.number))
    return cursor.rowcount > 0


def settle(transaction: Transaction, claim: Claim, settlement: Settlement, now: int) -> bool:
    """Write down what an attempt came to. True: the body is gone from the tables, and its file may go.

    Raises LeaseLostError.
    """
    connection, id = transaction.connection, claim.id.number
    rows = [settled_row(id, claim.lease, settled, now) for settled in settlement.recipients]
    if connection.executemany(SETTLE_RECIPIENT, rows).rowcount != len(rows):
        raise LeaseLostError
    for settled in settlement.recipients:
        time = due(settled)
        if time is not None:
            transaction.destinations.note(claim.destination, (time, id))
    if not any(settled.state.closed for settled in settlement.recipients):
        return False
    if connection.execute(_ANY_OPEN, (id,)).fetchone():
        return False
    connection.execute("UPDATE message SET closed = ? WHERE id = ?", (now, id))
    connection.execute("DELETE FROM body WHERE message = ?", (id,))
    return True


def remember(transaction: Transaction, attempt: Row) -> None:
    """Keep the evidence of an attempt that was settled; of many attempts the first and the newest stay.

    `attempt`: a row of `history.attempt_row`.
    """
    transaction.connection.execute(INSERT_ATTEMPT, attempt)
    middle = middle_of(attempt)
    if middle is not None:
        transaction.connection.execute(DROP_MIDDLE, middle)


def release(transaction: Transaction, claim: Claim, next_attempt: int) -> bool:
    """Give up a lease and its attempt. False: it was lost."""
    cursor = transaction.connection.execute(_RELEASE, (next_attempt, claim.id.number, claim.lease))
    transaction.destinations.note(claim.destination, (next_attempt, claim.id.number))
    return cursor.rowcount > 0


def retry_now(connection: sqlite3.Connection, id: MessageId | None, now: int) -> int:
    """Make what waits due. Returns how many recipients are due now; those in an attempt are left alone.

    The caller sees to it that the destinations are loaded anew.
    """
    if id is None:
        found = connection.execute(_WAITING_OF_ALL).fetchone()[0]
        connection.execute(_RETRY_ALL, (now,))
    else:
        found = connection.execute(_WAITING_OF_ONE, (id.number,)).fetchone()[0]
        connection.execute(_RETRY_ONE, (now, id.number))
    return int(found)


def next_due(transaction: Transaction, skip: frozenset[str]) -> int | None:
    """When the next recipient outside `skip` can be claimed."""
    best: Place | None = None
    looked_at: list[str] = []
    with closing(transaction.destinations.in_order(None, skip)) as domains:
        for place, domain in domains:
            if best is not None and place >= best:
                break
            looked_at.append(domain)
            found = _first(transaction.connection, domain)
            if found is not None and (best is None or found < best):
                best = found
    _correct(transaction, looked_at)
    return None if best is None else best[0]


def has_file(transaction: Transaction, id: MessageId) -> bool:
    """Whether a stored message has its body in a file."""
    found = transaction.connection.execute("SELECT 1 FROM body WHERE message = ? AND octets IS NULL", (id.number,))
    return found.fetchone() is not None


def tidy(transaction: Transaction, closed_before: int) -> int:
    """Forget up to TIDY_BATCH closed messages. Returns how many."""
    connection = transaction.connection
    old = connection.execute(_OLD, (closed_before, TIDY_BATCH)).fetchall()
    connection.executemany("DELETE FROM recipient WHERE message = ?", old)
    connection.executemany("DELETE FROM attempt WHERE message = ?", old)
    connection.executemany("DELETE FROM operator_act WHERE message = ?", old)
    connection.executemany("DELETE FROM message WHERE id = ?", old)
    return len(old)


def rewrite(transaction: Transaction) -> None:
    """Write to the disk without a change. SQLite does not write a row that is as it was, hence there and back."""
    transaction.connection.execute("UPDATE lease_block SET number = number + 1")
    transaction.connection.execute("UPDATE lease_block SET number = number - 1")


def take_over(connection: sqlite3.Connection, now: int) -> tuple[int, set[str]]:
    """Undo the leases of the last process. Returns our block of lease numbers, and the ids with a body in a file.

    A recipient that was in an attempt is due in seconds, later with each attempt; this one stays counted.
    """
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_UNDO_LEASES, (now, CRASH_DELAY_MICROS, CRASH_DELAYS))
    connection.execute("UPDATE lease_block SET number = number + 1")
    block = int(connection.execute("SELECT number FROM lease_block").fetchone()[0])
    files = {str(MessageId(id)) for (id,) in connection.execute("SELECT message FROM body WHERE octets IS NULL")}
    connection.execute("COMMIT")
    return block, files


def _pick(transaction: Transaction, order: Order) -> list[tuple[int, str]]:
    """The messages and domains to claim, by due time and then age: a merge of what is due for each domain."""
    picked: dict[tuple[int, str], None] = {}
    runs: list[tuple[Place, str, Iterator[Place]]] = []  # a heap, by place: the next row of each domain begun
    idle: list[str] = []
    taken: Counter[str] = Counter()
    with closing(transaction.destinations.in_order(order.now, order.skip)) as domains:
        following = next(domains, None)
        while len(picked) < order.limit:
            while following is not None and (not runs or following[0] <= runs[0][0]):
                domain = following[1]
                if not _push(runs, domain, _due_places(transaction.connection, domain, order.now)):
                    idle.append(domain)
                following = next(domains, None)
            if not runs:
                break
            (_, message), domain, places = heapq.heappop(runs)
            picked[message, domain] = None
            taken[domain] += 1
            if taken[domain] != order.share:
                _push(runs, domain, places)
    _correct(transaction, idle)
    return list(picked)


def _push(runs: list[tuple[Place, str, Iterator[Place]]], domain: str, places: Iterator[Place]) -> bool:
    """Put a domain's next place on the heap. False: there is none."""
    first = next(places, None)
    if first is not None:
        heapq.heappush(runs, (first, domain, places))
    return first is not None


def _due_places(connection: sqlite3.Connection, domain: str, now: int) -> Iterator[Place]:
    """The places of what is due for a domain, in order, read a few at a time and then more."""
    last = (-(1 << 63), 0)
    size = _FIRST_RUN
    while True:
        rows: list[Place] = connection.execute(_DUE_RUN, (domain, now, *last, size)).fetchall()
        yield from rows
        if len(rows) < size:
            return
        last = rows[-1]
        size = min(2 * size, _LONGEST_RUN)


def _claim(message: Row, body: Body, domain: str, leased: Sequence[Row], lease: tuple[int, int]) -> Claim:
    id, sender, sender_domain, message_id, eight_bit, smtputf8, demand, arrived, login, ret, envid, *_ = message
    number, until = lease
    return Claim(
        id=MessageId(id),
        sender=None if sender is None else to_address(sender, sender_domain),
        destination=domain,
        recipients=tuple(map(to_recipient, sorted(leased))),
        body=body,
        arrived=from_micros(arrived),
        lease=number,
        lease_until=from_micros(until),
        message_id=message_id,
        eight_bit=bool(eight_bit),
        smtputf8=SmtpUtf8(smtputf8),
        demand=TlsDemand(demand),
        dsn=to_dsn(ret, envid),
        login=login,
    )


def _correct(transaction: Transaction, domains: Iterable[str]) -> None:
    """Write into the destinations what the tables say."""
    found = [(domain, _first(transaction.connection, domain)) for domain in domains]  # all, before any is written
    for domain, place in found:
        transaction.destinations.correct(domain, place)


def _first(connection: sqlite3.Connection, domain: str) -> Place | None:
    place: Place | None = connection.execute(_FIRST, (domain,)).fetchone()
    return place
