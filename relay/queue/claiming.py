"""What claims and the verbs on a claim do to the tables. Every function runs in the writer's thread, in a transaction.

A recipient is *due* when its `next_attempt` has come. While an attempt runs, `lease` has its number and
`next_attempt` is the end of the lease, so one index serves both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from relay.mail.message import (
    Body,
    Claim,
    InlineBody,
    MessageId,
    NewMessage,
    Recipient,
    SmtpUtf8,
    TlsDemand,
)
from relay.mail.outcome import State
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.lines import Line
from relay.queue.rows import (
    CLOSE_MESSAGE,
    RECIPIENT_COLUMNS,
    SEE_RECIPIENT,
    SETTLE_RECIPIENT,
    Row,
    due,
    flow_of,
    from_micros,
    seen_row,
    settled_row,
    to_address,
    to_deliver_by,
    to_dsn,
    to_recipient,
    to_release,
)
from relay.queue.store import FileOf, Grouping
from relay.queue.writer import Transaction

_FIRST_TWO = (
    "SELECT DISTINCT next_attempt, message FROM recipient INDEXED BY recipient_due"
    " WHERE state = ? AND destination = ? AND flow = ? AND priority = ? AND next_attempt IS NOT NULL"
    " ORDER BY next_attempt, message LIMIT 2"
)
_MESSAGE = (
    "SELECT id, sender, sender_domain, message_id, eight_bit, smtputf8, demand, arrived, login, ret, envid,"
    " release, release_asked, priority, deliver_by, deliver_mode, report, size, octets, crc"
    " FROM message LEFT JOIN body ON body.message = message.id WHERE id = ?"
)
# The plus signs keep the planner to the primary key: the other index would walk all that is due.
_LEASE = (
    "UPDATE recipient SET attempts = attempts + 1, lease = ?, next_attempt = ?"  # noqa: S608  (constants of ours)
    f" WHERE message = ? AND +destination = ? AND +next_attempt <= ? RETURNING {RECIPIENT_COLUMNS}"
)
_RENEW = "UPDATE recipient SET next_attempt = ? WHERE message = ? AND lease = ?"
_RELEASE = (
    "UPDATE recipient SET next_attempt = ?, attempts = attempts - ?, lease = NULL WHERE message = ? AND lease = ?"
)
_MOVE = "UPDATE recipient SET route = ?, destination = ? WHERE message = ? AND number = ?"
_KINDS = {False: State.QUEUED.value, True: State.DEFERRED.value}  # by whether the line is one of retries


class LeaseLostError(Exception):
    """Another claim has these recipients, or the queue was opened anew. What the item has written is undone."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a claim asks for. Times in microseconds; each claim takes the next of `numbers` for its lease.

    `room`: the most claims for a destination, where that is not `share`.
    """

    limit: int
    lease_until: int
    now: int
    room: Mapping[str, int]
    share: int
    numbers: Iterator[int]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a claim ends at `now`. `tried`: false for a review, which leaves what goes on as it is."""

    claim: Claim
    settlement: Settlement
    notices: tuple[NewMessage, ...]
    now: int
    tried: bool


def first_claims(
    message: NewMessage,
    destinations: Sequence[str],
    wanted: Collection[str],
    lease_until: datetime,
    numbers: Iterator[int],
) -> tuple[Claim, ...]:
    """The claims on a message that is about to be put, as `claim` would make them.

    `destinations`: of each recipient; one for each of those `wanted`.
    """
    groups: dict[str, list[Recipient]] = {}
    envelope = message.envelope
    places = zip(envelope.recipients, envelope.asked, destinations, strict=True)
    for index, (address, dsn, destination) in enumerate(places):
        if destination in wanted:
            groups.setdefault(destination, []).append(Recipient(index, address, attempts=1, dsn=dsn))
    return tuple(
        Claim(
            id=message.id,
            sender=envelope.sender,
            destination=destination,
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
            release=message.release,
            release_asked=message.release_asked,
            priority=message.priority,
            deliver_by=message.deliver_by,
            report=message.report,
        )
        for destination, recipients in groups.items()
    )


def claim(transaction: Transaction, order: Order, file_of: FileOf) -> tuple[Claim, ...]:
    """Lease what is due."""
    turns = transaction.turns
    turns.damaged = True  # until we are through: an item that fails is undone in the tables only
    taken: Counter[str] = Counter()

    def closed(destination: str) -> bool:
        room = order.room.get(destination, order.share)
        return taken[destination] >= room or bool(turns.rest_of(destination, order.now))

    turns.advance(order.now, closed)
    messages: dict[int, tuple[Row, Body]] = {}  # one copy, however many destinations the message goes to
    claims: list[Claim] = []
    while len(claims) < order.limit and (turn := turns.next(closed)) is not None:
        is_retry, (priority, (destination, flow)) = turn
        line = _KINDS[is_retry], destination, flow, priority
        places = transaction.connection.execute(_FIRST_TWO, line).fetchall()
        if not places or places[0][0] > order.now:
            turns.served(turn, places[0][0] if places else None, order.now, taken=False)
            continue
        id = places[0][1]
        if id not in messages:
            messages[id] = read_message(transaction, id, file_of)
        claims.append(_lease(transaction, messages[id], destination, order))
        following = min([place[0] for place in places[1:]], default=None)
        turns.served(turn, following, order.now, taken=True)
        taken[destination] += 1
    turns.damaged = False
    return tuple(claims)


def renew(transaction: Transaction, claim: Claim, until: int) -> bool:
    """Move the end of a lease. False: it was lost."""
    cursor = transaction.connection.execute(_RENEW, (until, claim.id.number, claim.lease))
    if cursor.rowcount > 0:
        transaction.turns.lease(claim.lease, until, _line(claim), claim.priority)
    return cursor.rowcount > 0


def settle(transaction: Transaction, ending: Ending, grouping: Grouping) -> bool:
    """Write down what an attempt came to. True: the body is gone from the tables, and its file may go.

    Raises LeaseLostError.
    """
    claim, settlement, now = ending.claim, ending.settlement, ending.now
    connection, id = transaction.connection, claim.id.number
    written = [settled for settled in settlement.recipients if ending.tried or settled.state.closed]
    seen = [settled for settled in settlement.recipients if not (ending.tried or settled.state.closed)]
    done = 0
    if written:
        rows = [settled_row(id, claim.lease, settled, now) for settled in written]
        done += connection.executemany(SETTLE_RECIPIENT, rows).rowcount
    if seen:
        rows = [seen_row(id, claim.lease, settled) for settled in seen]
        done += connection.executemany(SEE_RECIPIENT, rows).rowcount
    if done != len(settlement.recipients):
        raise LeaseLostError
    turns = transaction.turns
    turns.end_lease(claim.lease)
    for settled in written:
        destination = _move(transaction, claim, settled, grouping) if settled.route else claim.destination
        time = due(settled)
        if time is not None:
            line = destination, flow_of(claim.sender, claim.login)
            note = turns.note_retry if settled.state is State.DEFERRED else turns.note_fresh
            note(line, time, claim.priority)
    if not any(settled.state.closed for settled in settlement.recipients):
        return False
    if not connection.execute(CLOSE_MESSAGE, (now, id)).rowcount:
        return False
    connection.execute("DELETE FROM body WHERE message = ?", (id,))
    return True


def release(transaction: Transaction, claim: Claim, next_attempt: int, counted: bool) -> bool:
    """Give up a lease, and its attempt unless that is `counted`. False: it was lost."""
    uncounted = 0 if counted else 1
    cursor = transaction.connection.execute(_RELEASE, (next_attempt, uncounted, claim.id.number, claim.lease))
    if cursor.rowcount > 0:
        transaction.turns.end_lease(claim.lease)
        transaction.turns.note(_line(claim), next_attempt, claim.priority)
    return cursor.rowcount > 0


def read_message(transaction: Transaction, message: int, file_of: FileOf) -> tuple[Row, Body]:
    """A message's row and its body."""
    row = transaction.connection.execute(_MESSAGE, (message,)).fetchone()
    size, octets, crc = row[-3:]
    return row, file_of(MessageId(message), size, crc) if octets is None else InlineBody(octets, crc)


def _lease(transaction: Transaction, message: tuple[Row, Body], destination: str, order: Order) -> Claim:
    row, body = message
    number = next(order.numbers)
    leased = transaction.connection.execute(
        _LEASE, (number, order.lease_until, row[0], destination, order.now)
    ).fetchall()
    claim = to_claim(row, body, destination, leased, (number, order.lease_until))
    transaction.turns.lease(number, order.lease_until, _line(claim), claim.priority)
    return claim


def to_claim(message: Row, body: Body, destination: str, leased: Sequence[Row], lease: tuple[int, int]) -> Claim:
    """`lease`: its number and its end."""
    id, sender, sender_domain, message_id, eight_bit, smtputf8, demand, arrived, login, ret, envid = message[:11]
    release, release_asked, priority, deliver_by, deliver_mode, report = message[11:17]
    number, until = lease
    return Claim(
        id=MessageId(id),
        sender=None if sender is None else to_address(sender, sender_domain),
        destination=destination,
        recipients=tuple(map(to_recipient, sorted(leased, key=lambda row: int(row[0])))),
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
        release=to_release(release),
        release_asked=release_asked,
        priority=priority,
        deliver_by=to_deliver_by(deliver_by, deliver_mode),
        report=bool(report),
    )


def _line(claim: Claim) -> Line:
    return claim.destination, flow_of(claim.sender, claim.login)


def _move(transaction: Transaction, claim: Claim, settled: SettledRecipient, grouping: Grouping) -> str:
    """Give a recipient to another route. Returns its destination."""
    recipient = settled.recipient
    destination = grouping(claim.sender, claim.login, recipient.address, settled.route)
    transaction.connection.execute(_MOVE, (settled.route, destination, claim.id.number, recipient.index))
    return destination
