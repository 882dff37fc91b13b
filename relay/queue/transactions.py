"""What the verbs do to the tables, but for those on claims. All of it runs in the writer's thread, in a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from relay.mail.address import Address
from relay.mail.message import Claim, MessageId, NewMessage, Once
from relay.mail.outcome import State
from relay.queue import hold_rules
from relay.queue.history import DROP_MIDDLE, INSERT_ATTEMPT, middle_of
from relay.queue.hold_rules import HoldRule
from relay.queue.rows import (
    INSERT_BODY,
    INSERT_MESSAGE,
    INSERT_RECIPIENT,
    Row,
    body_row,
    flow_of,
    from_micros,
    message_row,
    recipient_rows,
    storable,
    to_micros,
)
from relay.queue.store import Grouping, Rest, StoreUnavailable
from relay.queue.writer import Transaction

# What was under way at a crash waits this long for each attempt that it has had: a message that makes the service crash
# does so ever more rarely, and hammers no host.
CRASH_DELAY_MICROS = 5 * 1_000_000
CRASH_DELAYS = 60
SPREAD_EACH_MICROS = 20_000  # of retries that fell due while no service ran: one in so much time
SPREAD_MICROS = 300 * 1_000_000  # but not over more than this
TIDY_BATCH = 500  # messages forgotten in one item, so that nobody waits long behind it

_LINES = (
    "SELECT destination, flow, priority, min(next_attempt) FROM recipient INDEXED BY recipient_due"
    " WHERE state = ? AND next_attempt IS NOT NULL GROUP BY destination, flow, priority"
)
_UNDO_LEASES = (  # of what was never tried it was a review, which moves nothing
    "UPDATE recipient INDEXED BY recipient_due SET lease = NULL,"
    " next_attempt = iif(attempts = 0, next_attempt, ? + ? * min(attempts, ?))"
    " WHERE next_attempt IS NOT NULL AND lease IS NOT NULL"
)
_UNDO_REVIEWS = (
    "UPDATE recipient SET lease = NULL"
    " WHERE state = 'held' AND lease IS NOT NULL AND message IN (SELECT id FROM message WHERE closed IS NULL)"
)
_HOLD = "UPDATE recipient SET state = 'held', hold = ?, next_attempt = NULL WHERE message = ? AND number = ?"
_OVERDUE = "SELECT count(*) FROM recipient INDEXED BY recipient_due WHERE state = 'deferred' AND next_attempt < ?"
_SPREAD = (
    "UPDATE recipient SET next_attempt = ? + (random() & 1048575) * ? / 1048576"
    " WHERE state = 'deferred' AND next_attempt < ?"
)
_RESTS = "SELECT destination, until FROM rest"
_GROUPED = (
    "SELECT m.id, r.number, r.destination, m.sender_domain, m.login, r.domain, r.route"
    " FROM message m JOIN recipient r ON r.message = m.id"
    " WHERE m.closed IS NULL AND r.state IN ('queued', 'deferred', 'held')"
)
_FORGET_RESTS = (
    "DELETE FROM rest WHERE until < ?1 AND NOT EXISTS (SELECT 1 FROM recipient INDEXED BY recipient_due"
    " WHERE state IN ('queued', 'deferred') AND destination = rest.destination AND next_attempt IS NOT NULL)"
)
_FORGET_ONCE = "DELETE FROM once WHERE rowid IN (SELECT rowid FROM once WHERE made < ? ORDER BY made LIMIT ?)"
_OLD = "SELECT id FROM message WHERE closed < ? ORDER BY closed LIMIT ?"


def load_turns(transaction: Transaction) -> None:
    """Read from the tables what is due when and where, which destinations rest, and whether rules hold anything."""
    ask = transaction.connection.execute
    transaction.turns.load(ask(_LINES, (State.QUEUED.value,)), ask(_LINES, (State.DEFERRED.value,)))
    transaction.turns.rests = dict(ask(_RESTS))
    transaction.turns.holds = hold_rules.any_hold_rule(transaction.connection)


def held(transaction: Transaction, message: NewMessage) -> dict[int, str]:
    """Which recipients of a message that comes in a rule holds, by place in the envelope, and why."""
    return hold_rules.held(transaction.connection, message) if transaction.turns.holds else {}


def add_hold_rule(transaction: Transaction, rule: HoldRule) -> int:
    """Hold what the rule says from now on. Returns its id."""
    transaction.turns.holds = True
    return hold_rules.add_hold_rule(transaction.connection, rule)


def put(
    transaction: Transaction,
    message: NewMessage,
    destinations: Sequence[str],
    claims: Sequence[Claim] = (),
    about: MessageId | None = None,
) -> None:
    """Store a message, due when it is to be, leased by `claims`, or held by a rule.

    Raises StoreUnavailable: its id is taken, or another message has come with its key.

    `destinations`: of each recipient. `about`: the message is a notice that speaks of that one.
    """
    connection, turns = transaction.connection, transaction.turns
    try:
        connection.execute(INSERT_MESSAGE, message_row(message, about))
    except sqlite3.IntegrityError as error:
        raise StoreUnavailable(f"the queue id {message.id} is taken") from error
    if message.once is not None:
        _remember_once(connection, message, message.once)
    connection.execute(INSERT_BODY, body_row(message))
    if about is None and message.due == message.arrived:
        turns.came_in(to_micros(message.arrived))
    flow = flow_of(message.envelope.sender, message.login)
    connection.executemany(INSERT_RECIPIENT, recipient_rows(message, destinations, flow, claims))
    for number, reason in held(transaction, message).items():
        connection.execute(_HOLD, (reason, message.id.number, number))
    leased = {claim.destination: claim for claim in claims}
    for destination in set(destinations):
        if destination in leased:
            claim = leased[destination]
            turns.lease(claim.lease, to_micros(claim.lease_until), (destination, flow), message.priority)
        else:
            turns.note_fresh((destination, flow), to_micros(message.due), message.priority)


def _remember_once(connection: sqlite3.Connection, message: NewMessage, once: Once) -> None:
    row = once.owner, once.key, once.request, message.id.number, to_micros(message.arrived)
    try:
        connection.execute("INSERT INTO once VALUES (?, ?, ?, ?, ?)", row)
    except sqlite3.IntegrityError as error:
        raise StoreUnavailable("another message has just come with the same key") from error


def forget_once(transaction: Transaction, made_before: int) -> int:
    """Forget up to TIDY_BATCH keys. Returns how many."""
    return transaction.connection.execute(_FORGET_ONCE, (made_before, TIDY_BATCH)).rowcount


def remember(transaction: Transaction, attempt: Row) -> None:
    """Keep the evidence of an attempt that was settled; of many attempts the first and the newest stay.

    `attempt`: a row of `history.attempt_row`.
    """
    transaction.connection.execute(INSERT_ATTEMPT, attempt)
    middle = middle_of(attempt)
    if middle is not None:
        transaction.connection.execute(DROP_MIDDLE, middle)


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


def forget_rests(transaction: Transaction, over_before: int) -> None:
    """Forget the destinations that rested, if nothing waits for them any more."""
    ask = transaction.connection.execute
    if ask(_FORGET_RESTS, (over_before,)).rowcount:
        transaction.turns.rests = dict(ask(_RESTS))


def rewrite(transaction: Transaction) -> None:
    """Write to the disk without a change. SQLite does not write a row that is as it was, hence there and back."""
    transaction.connection.execute("UPDATE lease_block SET number = number + 1")
    transaction.connection.execute("UPDATE lease_block SET number = number - 1")


def rest(transaction: Transaction, destination: str, rest: Rest | None) -> None:
    """Let a destination rest, or let it be tried again."""
    if rest is None:
        transaction.connection.execute("DELETE FROM rest WHERE destination = ?", (destination,))
        transaction.turns.rest(destination, None)
        return
    until, since = to_micros(rest.until), to_micros(rest.since)
    row = destination, until, since, rest.failures, rest.status, storable(rest.reason), rest.cause
    transaction.connection.execute("INSERT OR REPLACE INTO rest VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    transaction.turns.rest(destination, until)


def rests(connection: sqlite3.Connection) -> dict[str, Rest]:
    """The destinations that rest, or rested last and were not reached since."""
    rows = connection.execute("SELECT destination, until, since, failures, status, reason, cause FROM rest")
    return {
        destination: Rest(from_micros(until), from_micros(since), failures, status, reason, cause)
        for destination, until, since, failures, status, reason, cause in rows
    }


def take_over(connection: sqlite3.Connection, now: int, grouping: Grouping) -> tuple[int, set[str]]:
    """Undo the leases of the last process. Returns our block of lease numbers, and the ids with a body in a file.

    A recipient that was in an attempt is due in seconds, later with each attempt; this one stays counted. What fell due
    while no service ran is spread over some time. The settings may have changed where mail goes.
    """
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_UNDO_LEASES, (now, CRASH_DELAY_MICROS, CRASH_DELAYS))
    connection.execute(_UNDO_REVIEWS)
    _spread(connection, now)
    _regroup(connection, grouping)
    connection.execute("UPDATE lease_block SET number = number + 1")
    block = int(connection.execute("SELECT number FROM lease_block").fetchone()[0])
    files = {str(MessageId(id)) for (id,) in connection.execute("SELECT message FROM body WHERE octets IS NULL")}
    connection.execute("COMMIT")
    return block, files


def _spread(connection: sqlite3.Connection, now: int) -> None:
    """A restart does not fire everything at once: retries that are overdue come over some time, new mail at once."""
    overdue = int(connection.execute(_OVERDUE, (now,)).fetchone()[0])
    span = min(overdue * SPREAD_EACH_MICROS, SPREAD_MICROS)
    if overdue > 1:
        connection.execute(_SPREAD, (now, span, now))


def _regroup(connection: sqlite3.Connection, grouping: Grouping) -> None:
    known: dict[Row, str] = {}
    moved = []
    for message, number, destination, *place in connection.execute(_GROUPED):
        key = tuple(place)
        if key not in known:
            sender, login, domain, route = key
            # Routes go by domains and logins, so that a local part of any kind will do.
            from_ = None if sender is None else Address("x", sender, f"x@{sender}")
            known[key] = grouping(from_, login, Address("x", domain, f"x@{domain}"), route)
        if known[key] != destination:
            moved.append((known[key], message, number))
    connection.executemany("UPDATE recipient SET destination = ? WHERE message = ? AND number = ?", moved)
