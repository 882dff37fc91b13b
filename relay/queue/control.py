"""What an operator does to mail that waits: hold, release, retry, fail, drop, reroute.

As in relay.queue.transactions, every function works inside the caller's transaction: in the writer's thread of the
service, or in another process (relay.queue.visitor). Much mail is done in pieces, each in a transaction of its own, so
that clients who bring mail do not wait long behind it; what belongs to one message is never in two of them. What an
attempt has at this moment is left alone and counted: the remote server may have it already.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from relay.mail.message import MessageId
from relay.mail.outcome import State
from relay.queue import giving_up, transactions
from relay.queue.giving_up import Compose
from relay.queue.rows import CLOSE_MESSAGE, Row, storable, to_address, to_micros
from relay.queue.selection import OPEN, Cursor, QueueFilter
from relay.queue.store import FileOf, Grouping
from relay.queue.writer import Transaction

PIECE = 5000  # recipients in one transaction: some tenths of a second
PIECE_WITH_NOTICES = 500

AS_SET = "as the settings say"  # what is written down of a reroute to the default
_SELECT = (
    "SELECT r.message, r.number, r.state, r.lease IS NOT NULL, r.destination, r.address, r.domain, m.sender,"
    " m.sender_domain, m.login, iif(r.lease IS NULL AND r.next_attempt = m.release, m.release, 0)"
    " FROM message m JOIN recipient r ON r.message = m.id WHERE {} ORDER BY m.id, r.number LIMIT ?"
)
_HOLD = (
    "UPDATE recipient SET state = 'held', next_attempt = NULL, lease = NULL, hold = ?, changed = ?"
    " WHERE message = ? AND number = ?"
)
# Now (?1), but what was never tried not before the time that its sender asked for: only a retry overrules that.
_FIRST_TIME = "max(?1, iif(attempts = 0, coalesce((SELECT release FROM message WHERE id = ?2), 0), 0))"
_RELEASE = (
    "UPDATE recipient SET state = iif(attempts = 0, 'queued', 'deferred'), hold = NULL, changed = ?1,"  # noqa: S608
    f" next_attempt = {_FIRST_TIME} WHERE message = ?2 AND number = ?3"
)
_RETRY = (
    "UPDATE recipient SET next_attempt = iif(lease IS NULL, min(next_attempt, ?1), ?1), lease = NULL"
    " WHERE message = ?2 AND number = ?3"
)
_REROUTE = (
    "UPDATE recipient SET route = ?4, destination = ?5, lease = NULL,"  # noqa: S608  (constants of ours)
    f" next_attempt = iif(state = 'held', NULL, {_FIRST_TIME}) WHERE message = ?2 AND number = ?3"
)
# Of the last attempt nothing stays here: that is told by its evidence, and this was decided by somebody else.
_CLOSE = (
    "UPDATE recipient SET state = ?, next_attempt = NULL, lease = NULL, hold = NULL, status = ?, reply = NULL,"
    " reason = ?, host = NULL, cause = NULL, rule = NULL, review = NULL, changed = ? WHERE message = ? AND number = ?"
)
_WAKE = "DELETE FROM rest WHERE destination = ?"
_REMEMBER = "INSERT OR REPLACE INTO operator_act VALUES (?, ?, ?, ?, ?, ?)"


class Act(Enum):
    """What can be done."""

    HOLD = "hold"
    RELEASE = "release"
    RETRY = "retry"
    FAIL = "fail"
    DROP = "drop"
    REROUTE = "reroute"

    @property
    def closes(self) -> bool:
        """Whether nothing more is tried afterwards."""
        return self in (Act.FAIL, Act.DROP)


# In which states a recipient must be for each act; in another one there is nothing to do.
FITTING = {
    Act.HOLD: (State.QUEUED, State.DEFERRED),
    Act.RELEASE: (State.HELD,),
    Act.RETRY: (State.QUEUED, State.DEFERRED),
    Act.FAIL: OPEN,
    Act.DROP: OPEN,
    Act.REROUTE: OPEN,
}


@dataclass(frozen=True, slots=True)
class Action:
    """An act on the recipients of a filter; those that are closed are never meant.

    `who`: the user of the command line or the name of the token. `reason`: the operator's words. `route`: of a reroute,
    a route, `direct` or `host:port`; None: what the settings say.
    """

    act: Act
    selection: QueueFilter
    who: str
    reason: str | None = None
    route: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Desk:
    """What the acts need besides the queue. `alone`: no service runs, so what is leased is in no attempt."""

    now: datetime
    compose: Compose
    grouping: Grouping
    file_of: FileOf
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of an act. `recipients` in `messages` were found by the filter, and `done` in `done_messages` of them
    were changed; `under_way` are in an attempt and `unfit` are such already (held, not held), or are to wait (`_fits`).
    All of it counts what would be, when nothing was to be changed.

    `notices`: that senders get. `finished`: messages whose body is gone from the tables, and whose file may go.
    """

    recipients: int = 0
    messages: int = 0
    done: int = 0
    done_messages: int = 0
    under_way: int = 0
    unfit: int = 0
    notices: tuple[MessageId, ...] = ()
    finished: tuple[MessageId, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        """Of two pieces of one act."""
        return Tally(
            self.recipients + other.recipients,
            self.messages + other.messages,
            self.done + other.done,
            self.done_messages + other.done_messages,
            self.under_way + other.under_way,
            self.unfit + other.unfit,
            self.notices + other.notices,
            self.finished + other.finished,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an act is: all up to `after`. `over`: nothing is left."""

    tally: Tally = field(default_factory=Tally)
    after: Cursor | None = None
    over: bool = False


def perform(transaction: Transaction, action: Action, desk: Desk, progress: Progress) -> Progress:
    """Do the next piece, or only count it. The caller has the turns loaded anew when something was done."""
    rows, after, over = _piece(transaction.connection, action, progress)
    fit = [row for row in rows if _fits(row, action, to_micros(desk.now))]
    chosen = [row for row in fit if desk.alone or not row[3]]
    notices = _tell(transaction, action, desk, chosen) if action.act is Act.FAIL else []
    messages = {row[0] for row in chosen}
    finished: Iterable[int] = ()
    if not action.dry_run:
        _write(transaction.connection, action, desk, chosen)
        finished = _close(transaction.connection, messages, desk) if action.act.closes else ()
    tally = Tally(
        recipients=len(rows),
        messages=len({row[0] for row in rows}),
        done=len(chosen),
        done_messages=len(messages),
        under_way=len(fit) - len(chosen),
        unfit=len(rows) - len(fit),
        notices=tuple(notices),
        finished=tuple(map(MessageId, finished)),
    )
    return Progress(progress.tally + tally, after, over)


def _fits(row: Row, action: Action, now: int) -> bool:
    """Whether there is something to do.

    What its sender wants later is tried before only when it is named by its id: who has all mail for a destination
    tried, because that is up again, does not think of next month's newsletter.
    """
    waits_for_release = row[10] > now
    if action.act is Act.RETRY and waits_for_release and not action.selection.ids:
        return False
    return State(row[2]) in FITTING[action.act]


def _piece(connection: sqlite3.Connection, action: Action, progress: Progress) -> tuple[list[Row], Cursor | None, bool]:
    """Rows of _SELECT: the next, with all that fit of the last message. Also how far that is, and whether it is all."""
    wanted = action.selection
    states = tuple(state for state in wanted.states or OPEN if not state.closed)
    left = None if wanted.limit is None else wanted.limit - progress.tally.recipients
    if not states or left == 0:
        return [], progress.after, True
    piece = PIECE_WITH_NOTICES if action.act is Act.FAIL else PIECE
    size = piece if left is None else min(piece, left)
    wanted = replace(wanted, states=states, after=progress.after or wanted.after)
    rows = _select(connection, wanted, size)
    if len(rows) < size:
        return _without(rows, progress.tally.notices), None, True
    message = rows[-1][0]
    wanted = replace(wanted, ids=(MessageId(message),), after=Cursor(*rows[-1][:2]))
    rows += _select(connection, wanted, -1 if left is None else left - size)
    return _without(rows, progress.tally.notices), Cursor(*rows[-1][:2]), False


def _select(connection: sqlite3.Connection, selection: QueueFilter, limit: int) -> list[Row]:
    sql, values = selection.condition()
    return connection.execute(_SELECT.format(sql), (*values, limit)).fetchall()


def _without(rows: list[Row], notices: Sequence[MessageId]) -> list[Row]:
    """What the act has put itself is not meant."""
    ours = {id.number for id in notices}
    return [row for row in rows if row[0] not in ours]


def _write(connection: sqlite3.Connection, action: Action, desk: Desk, rows: Sequence[Row]) -> None:
    now = to_micros(desk.now)
    places = [row[:2] for row in rows]
    match action.act:
        case Act.HOLD:
            words = storable(action.reason) or "by the administrator"
            connection.executemany(_HOLD, [(words, now, *place) for place in places])
        case Act.RELEASE:
            connection.executemany(_RELEASE, [(now, *place) for place in places])
        case Act.RETRY:
            connection.executemany(_RETRY, [(now, *place) for place in places])
            # What rests is tried again too.
            connection.executemany(_WAKE, {(row[4],) for row in rows})
        case Act.FAIL | Act.DROP:
            state, status = (State.FAILED, str(giving_up.STATUS)) if action.act is Act.FAIL else (State.DROPPED, None)
            reason = storable(giving_up.words(state, action.reason))
            connection.executemany(_CLOSE, [(state.value, status, reason, now, *place) for place in places])
        case Act.REROUTE:
            connection.executemany(_REROUTE, [_rerouted(row, action.route, desk.grouping, now) for row in rows])
    detail = storable(action.route or AS_SET if action.act is Act.REROUTE else action.reason)
    who = storable(action.who)
    connection.executemany(_REMEMBER, [(*place, action.act.value, now, who, detail) for place in places])


def _rerouted(row: Row, route: str | None, grouping: Grouping, now: int) -> Row:
    """For _REROUTE."""
    message, number, _, _, _, address, domain, sender, sender_domain, login, _ = row
    origin = None if sender is None else to_address(sender, sender_domain)
    return now, message, number, route, grouping(origin, login, to_address(address, domain), route)


def _tell(transaction: Transaction, action: Action, desk: Desk, rows: Sequence[Row]) -> list[MessageId]:
    """The notices to the senders; they are put before their recipients are closed, in the same transaction."""
    told = []
    numbers: dict[int, list[int]] = {}
    for message, number, *_ in rows:
        numbers.setdefault(message, []).append(number)
    for message, failing in numbers.items():
        notice = giving_up.notice(transaction, (message, failing), action.reason, desk.compose, desk.file_of)
        if notice is None:
            continue
        if not action.dry_run:
            (recipient,) = notice.envelope.recipients
            destination = desk.grouping(None, None, recipient)
            transactions.put(transaction, notice, (destination,), about=MessageId(message))
        told.append(notice.id)
    return told


def _close(connection: sqlite3.Connection, messages: Iterable[int], desk: Desk) -> list[int]:
    """Close the messages that have no open recipient any more. Returns them; their bodies are gone from the tables."""
    now = to_micros(desk.now)
    closed = [one for one in sorted(messages) if connection.execute(CLOSE_MESSAGE, (now, one)).rowcount]
    connection.executemany("DELETE FROM body WHERE message = ?", [(message,) for message in closed])
    return closed
