"""What the queue remembers of a message's attempts: the values, and the rows that they are kept in. No SQL is run here.

Every attempt that is settled leaves a row, bounded in size. Of many attempts for one domain the first and the newest
are kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from relay.mail.message import Claim, MessageDsn, MessageId, NewMessage, Origin, TlsDemand
from relay.mail.outcome import Delivered, State, TlsUsed
from relay.mail.record import AttemptRecord, decode, encode
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.rows import Row, due, from_micros, to_dsn, to_micros
from relay.queue.store import QueueEntry

KEPT_FIRST: Final = 10  # attempts for one domain
KEPT_NEWEST: Final = 30
MAX_WORDS: Final = 500  # characters of a reason or a reply; the recipient's row has all of the last one
MAX_WAITING: Final = 16 << 10  # octets; when it is more, reasons and replies go

INSERT_ATTEMPT: Final = "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
DROP_MIDDLE: Final = "DELETE FROM attempt WHERE message = ? AND destination = ? AND number > ? AND number <= ?"
SELECT_MESSAGE: Final = (
    "SELECT id, message_id, sender, size, demand, arrived, about, login, ret, envid, client, listener, allowed_by"
    " FROM message"
)
SELECT_ATTEMPTS: Final = (
    "SELECT destination, number, began, ended, closed, waiting, notices, record"
    " FROM attempt WHERE message = ? ORDER BY began, lease"
)

SELECT_ACTS: Final = (
    "SELECT number, act, made, who, detail FROM operator_act WHERE message = ? ORDER BY made, number, act"
)

_NOTHING_ASKED: Final = MessageDsn()
_NAMES: Final = ("state", "status", "reason", "reply", "host", "tls", "next_attempt")
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt came to, for those recipients for whom it came to the same. Times are aware UTC."""

    recipients: tuple[int, ...]  # places in the envelope
    state: State
    status: str
    reason: str | None  # our words
    reply: str | None  # the host's
    host: str | None
    tls: TlsUsed
    next_attempt: datetime | None


@dataclass(frozen=True, slots=True)
class NoticeSent:
    """A notice that was put with an attempt. `state`: what became of it; None: it is not in the queue any more.

    `kind`: which it was, such as failure; None: written by a version that did not keep it.
    """

    id: MessageId
    state: State | None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptEntry:
    """One attempt for one domain. `number`: which one it was, from 1."""

    domain: str
    number: int
    began: datetime
    ended: datetime
    results: tuple[Result, ...]
    notices: tuple[NoticeSent, ...]
    record: AttemptRecord


@dataclass(frozen=True, slots=True)
class ActEntry:
    """What an operator did with one recipient. `act`: control.Act. `detail`: the reason, or where to."""

    number: int  # place in the envelope
    act: str
    made: datetime
    who: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """All that the queue knows of one message's life. `recipients` are in the order of the envelope."""

    id: MessageId
    message_id: str | None
    sender: str  # empty: the null sender
    size: int
    demand: TlsDemand
    arrived: datetime
    about: MessageId | None  # of a notice: the message that it speaks of
    recipients: tuple[QueueEntry, ...]
    attempts: tuple[AttemptEntry, ...]
    acts: tuple[ActEntry, ...] = ()  # of each kind the newest, by time
    login: str | None = None  # under which the client sent it
    dsn: MessageDsn = _NOTHING_ASKED
    origin: Origin | None = None  # None: a notice of ours, or mail of a version that did not keep it


def attempt_row(
    claim: Claim,
    settlement: Settlement,
    notices: Collection[NewMessage],
    span: tuple[datetime, datetime],
    record: AttemptRecord,
) -> Row:
    """For INSERT_ATTEMPT. `span`: when the attempt began and ended."""
    began, ended = span
    closed = [settled.recipient.index for settled in settlement.recipients if settled.state.closed]
    return (
        claim.id.number,
        claim.lease,
        claim.destination,
        max([recipient.attempts for recipient in claim.recipients]),
        to_micros(began),
        to_micros(ended),
        ",".join(map(str, closed)),
        _waiting(settlement) if len(closed) < len(settlement.recipients) else None,
        _ENCODER.encode({str(notice.id): notice.notice for notice in notices}) if notices else None,
        encode(record) if record.policies or record.tried else None,
    )


def middle_of(row: Row) -> Row | None:
    """For DROP_MIDDLE: the attempts that are no longer kept when this one is; None: all are."""
    message, _, domain, number, *_ = row
    newest_dropped = number - KEPT_NEWEST
    return (message, domain, KEPT_FIRST, newest_dropped) if newest_dropped > KEPT_FIRST else None


def octets_of(row: Row) -> int:
    """About how much room a row of `attempt_row` takes."""
    *_, waiting, _, record = row
    return len(waiting or "") + len(record or "")


def to_attempt(row: Row, recipients: Sequence[QueueEntry], states: Mapping[MessageId, State]) -> AttemptEntry:
    """From SELECT_ATTEMPTS. `recipients`: of the message. `states`: of the notices that are still in the queue."""
    domain, number, began, ended, closed, waiting, _, record = row
    return AttemptEntry(
        domain=domain,
        number=number,
        began=from_micros(began),
        ended=from_micros(ended),
        results=(*_read_closed(closed, recipients), *_read_waiting(waiting)),
        notices=tuple(NoticeSent(id, states.get(id), kind) for id, kind in _notices(row).items()),
        record=AttemptRecord() if record is None else decode(record),
    )


def notices_of(row: Row) -> tuple[MessageId, ...]:
    """The ids of the notices in a row of SELECT_ATTEMPTS."""
    return tuple(_notices(row))


def _notices(row: Row) -> dict[MessageId, str | None]:
    """Ids and kinds of the notices in a row of SELECT_ATTEMPTS; an older version kept a list of ids."""
    notices = row[-2]
    if notices is None:
        return {}
    read = json.loads(notices)
    kinds: dict[str, str | None] = read if isinstance(read, dict) else dict.fromkeys(read)
    return {MessageId.parse(id): kind for id, kind in kinds.items()}


def to_act(row: Row) -> ActEntry:
    """From SELECT_ACTS."""
    number, act, made, who, detail = row
    return ActEntry(number, act, from_micros(made), who, detail)


def to_trace(
    row: Row, recipients: tuple[QueueEntry, ...], attempts: Iterable[AttemptEntry], acts: Iterable[ActEntry] = ()
) -> MessageTrace:
    """From SELECT_MESSAGE."""
    id, message_id, sender, size, demand, arrived, about, login, ret, envid, *origin = row
    return MessageTrace(
        id=MessageId(id),
        message_id=message_id,
        sender=sender or "",
        size=size,
        demand=TlsDemand(demand),
        arrived=from_micros(arrived),
        about=None if about is None else MessageId(about),
        recipients=recipients,
        attempts=tuple(attempts),
        acts=tuple(acts),
        login=login,
        dsn=to_dsn(ret, envid),
        origin=None if origin[0] is None else Origin(*origin),
    )


def _waiting(settlement: Settlement) -> str:
    """What was written down for the recipients that are open, in JSON. Those for whom it is the same stand together."""
    text = _ENCODER.encode(_grouped(settlement, MAX_WORDS))
    return text if len(text) <= MAX_WAITING else _ENCODER.encode(_grouped(settlement, 0))


def _grouped(settlement: Settlement, words: int) -> list[dict[str, Any]]:
    groups: dict[Row, list[int]] = {}
    for settled in settlement.recipients:
        if not settled.state.closed:
            groups.setdefault(_values(settled, words), []).append(settled.recipient.index)
    return [
        {"to": to, **{name: value for name, value in zip(_NAMES, values, strict=True) if value}}
        for values, to in groups.items()
    ]


def _values(settled: SettledRecipient, words: int) -> Row:
    """In the order of _NAMES."""
    outcome = settled.outcome
    return (
        settled.state.value,
        str(outcome.status),
        None if isinstance(outcome, Delivered) else outcome.reason[:words],
        None if outcome.reply is None else outcome.reply.text[:words],
        outcome.host,
        outcome.tls.value,
        due(settled),
    )


def _read_closed(numbers: str, recipients: Sequence[QueueEntry]) -> list[Result]:
    """A row that is closed is never written again, so it still says what this attempt came to."""
    groups: dict[Result, list[int]] = {}
    for number in map(int, filter(None, numbers.split(","))):
        entry = recipients[number]
        result = Result(
            (), entry.state, entry.status or "", entry.reason, entry.reply, entry.host, entry.tls, next_attempt=None
        )
        groups.setdefault(result, []).append(number)
    return [replace(result, recipients=tuple(numbers)) for result, numbers in groups.items()]


def _read_waiting(text: str | None) -> Iterator[Result]:
    """Those that this version understands."""
    for fields in json.loads(text or "[]"):
        with suppress(KeyError, TypeError, ValueError):
            next_attempt = fields.get("next_attempt")
            yield Result(
                recipients=tuple(map(int, fields["to"])),
                state=State(fields["state"]),
                status=fields["status"],
                reason=fields.get("reason"),
                reply=fields.get("reply"),
                host=fields.get("host"),
                tls=TlsUsed(fields["tls"]),
                next_attempt=None if next_attempt is None else from_micros(next_attempt),
            )
