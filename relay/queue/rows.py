"""Rows of the queue's tables to values, and values to rows. No SQL is run here."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.mail.address import Address
from relay.mail.message import (
    Claim,
    DeliverBy,
    InlineBody,
    MessageDsn,
    MessageId,
    NewMessage,
    Notify,
    Origin,
    Recipient,
    RecipientDsn,
    Ret,
)
from relay.mail.outcome import Cause, Deferred, Delivered, Outcome, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import SettledRecipient
from relay.queue.store import QueueEntry

Row = tuple[Any, ...]

_NEVER = (1 << 63) - 1
_CHANGING = re.compile(r"[+=-]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

INSERT_MESSAGE = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INSERT_BODY = "INSERT INTO body VALUES (?, ?, ?)"
INSERT_RECIPIENT = (
    "INSERT INTO recipient (message, number, address, domain, destination, flow, notify, orcpt, state, attempts,"
    " next_attempt, lease, tls, changed, delay_notices, priority)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, 'none', ?, 0, ?)"
)
SETTLE_RECIPIENT = (
    "UPDATE recipient SET state = ?, next_attempt = ?, lease = NULL, status = ?, reply = ?, reason = ?, host = ?,"
    " tls = ?, changed = ?, delay_notices = ?, cause = ?, rule = ?, review = ?, hold = ?"
    " WHERE message = ? AND number = ? AND lease = ?"
)
SEE_RECIPIENT = (
    "UPDATE recipient SET lease = NULL, delay_notices = ?, review = ? WHERE message = ? AND number = ? AND lease = ?"
)
# What `to_recipient` reads.
RECIPIENT_COLUMNS = (
    "number, address, domain, attempts, delay_notices, notify, orcpt, status, reply, reason, host, tls, cause"
)
IS_OPEN = "state <> 'delivered' AND state <> 'failed' AND state <> 'dropped'"  # NOT IN would make a table each time
CLOSE_MESSAGE = (
    "UPDATE message SET closed = ?1"  # noqa: S608  (constants of ours)
    f" WHERE id = ?2 AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?2 AND {IS_OPEN})"
)
SELECT_ENTRY = (
    "SELECT m.id, m.message_id, m.sender, r.address, r.domain, r.state, r.attempts, r.status, r.reply, r.reason,"
    " r.host, r.tls, iif(r.lease IS NULL, r.next_attempt, NULL), m.arrived, r.changed, r.number, m.size, m.login,"
    " r.destination, r.route, r.cause, r.rule, r.review, r.hold, r.notify, r.orcpt, r.delay_notices,"
    " m.priority, m.release, m.deliver_by, m.deliver_mode, m.report"
    " FROM message m JOIN recipient r ON r.message = m.id"
)


def to_micros(time: datetime) -> int:
    """Microseconds since 1970 of an aware time. Raises TypeError for a naive one."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC time that `to_micros` took."""
    return _EPOCH + timedelta(microseconds=micros)


def to_address(text: str, domain: str) -> Address:
    """The address whose parts were stored; it was parsed when it came in."""
    return Address(text.rpartition("@")[0] or text, domain, text)


def message_row(message: NewMessage, about: MessageId | None = None) -> Row:
    """For INSERT_MESSAGE. `about`: of a notice, the message that it speaks of."""
    sender = message.envelope.sender
    return (
        message.id.number,
        None if sender is None else sender.text,
        None if sender is None else sender.domain,
        storable(message.message_id),
        message.eight_bit,
        message.smtputf8,
        message.demand.value,
        message.body.size,
        to_micros(message.arrived),
        None if about is None else about.number,
        message.login,
        None if message.dsn.ret is None else message.dsn.ret.value,
        message.dsn.envid,
        None if message.release is None else to_micros(message.release),
        message.release_asked,
        message.priority,
        None if message.deliver_by is None else to_micros(message.deliver_by.time),
        None if message.deliver_by is None else message.deliver_by.mode,
        *_origin_row(message.origin),
        message.report,
    )


def _origin_row(origin: Origin | None) -> Row:
    return (None, None, None) if origin is None else (origin.client, origin.listener, origin.allowed_by)


def body_row(message: NewMessage) -> Row:
    """For INSERT_BODY."""
    body = message.body
    if isinstance(body, InlineBody):
        return message.id.number, body.octets, zlib.crc32(body.octets)
    return message.id.number, None, body.crc


def recipient_rows(message: NewMessage, destinations: Sequence[str], flow: str, claims: Sequence[Claim]) -> list[Row]:
    """For INSERT_RECIPIENT: each is leased by the one of `claims` for its destination, or else due on arrival, or at
    the time that its sender asked for.
    """
    id, arrived = message.id.number, to_micros(message.arrived)
    leased = {claim.destination: (1, to_micros(claim.lease_until), claim.lease) for claim in claims}
    waiting = 0, to_micros(message.due), None
    envelope = message.envelope
    return [
        (
            id,
            number,
            address.text,
            address.domain,
            destination,
            flow,
            None if dsn.notify is None else dsn.notify.value,
            dsn.orcpt,
            *leased.get(destination, waiting),
            arrived,
            message.priority,
        )
        for number, (address, dsn, destination) in enumerate(
            zip(envelope.recipients, envelope.asked, destinations, strict=True)
        )
    ]


def flow_of(sender: Address | None, login: str | None) -> str:
    """Whose mail it is, for fairness: the login, or the sender without what changes from message to message (VERP)."""
    if login is not None:
        return login
    return "" if sender is None else f"{_CHANGING.split(sender.local, 1)[0]}@{sender.domain}"


def to_recipient(row: Row) -> Recipient:
    """From RECIPIENT_COLUMNS."""
    index, address, domain, attempts, notices, notify, orcpt, status, reply, reason, host, tls, cause = row
    last = None
    if status is not None and reason is not None:
        last = Deferred(
            Status.parse(status).with_kind(Kind.TEMPORARY),
            reason,
            host,
            _to_reply(reply),
            TlsUsed(tls),
            None if cause is None else Cause(cause),
        )
    dsn = RecipientDsn(None if notify is None else Notify(notify), orcpt)
    return Recipient(index, to_address(address, domain), attempts, notices, dsn, last)


def _to_reply(text: str | None) -> Reply | None:
    """What Reply.text gave: the code, and all lines on one."""
    if text is None:
        return None
    return Reply.of(int(text[:3]), (text[4:],))


def to_dsn(ret: str | None, envid: str | None) -> MessageDsn:
    """From the columns of the message."""
    return MessageDsn(None if ret is None else Ret(ret), envid)


def to_release(release: int | None) -> datetime | None:
    """From the column of the message."""
    return None if release is None else from_micros(release)


def to_deliver_by(time: int | None, mode: str | None) -> DeliverBy | None:
    """From the columns of the message."""
    return None if time is None or mode is None else DeliverBy.of(from_micros(time), mode)


def settled_row(message: int, lease: int, settled: SettledRecipient, now: int) -> Row:
    """For SETTLE_RECIPIENT."""
    outcome = settled.outcome
    return (
        settled.state.value,
        due(settled),
        str(outcome.status),
        None if outcome.reply is None else storable(outcome.reply.text),
        storable(_reason(outcome)),
        storable(outcome.host),
        outcome.tls.value,
        now,
        settled.delay_notices,
        None if settled.cause is None else settled.cause.value,
        settled.rule,
        _NEVER if settled.review is None else to_micros(settled.review),
        storable(settled.hold),
        message,
        settled.recipient.index,
        lease,
    )


def seen_row(message: int, lease: int, settled: SettledRecipient) -> Row:
    """For SEE_RECIPIENT. What is not to be looked at again stands far ahead: NULL is for what was never tried."""
    review = _NEVER if settled.review is None else to_micros(settled.review)
    return settled.delay_notices, review, message, settled.recipient.index, lease


def due(settled: SettledRecipient) -> int | None:
    """When the recipient can be claimed again; None: it is closed or held."""
    if settled.state is State.HELD or settled.next_attempt is None:
        return None
    return to_micros(settled.next_attempt)


def to_entry(row: Row) -> QueueEntry:
    """From SELECT_ENTRY."""
    id, message_id, sender, recipient, domain, state, attempts, *last, next_attempt, arrived, changed = row[:15]
    status, reply, reason, host, tls = last
    number, size, login, destination, route, cause, rule, review, hold, notify, orcpt, delay_notices = row[15:27]
    priority, release, deliver_by, deliver_mode, report = row[27:]
    return QueueEntry(
        id=MessageId(id),
        message_id=message_id,
        sender=sender or "",
        recipient=recipient,
        domain=domain,
        state=State(state),
        attempts=attempts,
        status=status,
        reply=reply,
        reason=reason,
        host=host,
        tls=TlsUsed(tls),
        next_attempt=None if next_attempt is None else from_micros(next_attempt),
        arrived=from_micros(arrived),
        changed=from_micros(changed),
        number=number,
        size=size,
        login=login,
        destination=destination,
        route=route,
        cause=None if cause is None else Cause(cause),
        rule=rule,
        review=None if review is None or review == _NEVER else from_micros(review),
        hold=hold,
        dsn=RecipientDsn(None if notify is None else Notify(notify), orcpt),
        delay_notices=delay_notices,
        priority=priority,
        release=to_release(release),
        deliver_by=to_deliver_by(deliver_by, deliver_mode),
        report=bool(report),
    )


def _reason(outcome: Outcome) -> str | None:
    return None if isinstance(outcome, Delivered) else outcome.reason


def storable(text: str | None) -> str | None:
    """Other people's words may hold lone surrogates (octets that were no UTF-8), which no database takes."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
