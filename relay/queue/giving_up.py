"""What it takes to tell senders that an operator has given up their mail. Runs inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from relay import ndr
from relay.mail.message import Claim, InlineBody, MessageId, NewMessage, Notify, SmtpUtf8, TlsDemand
from relay.mail.outcome import Failed, State
from relay.mail.status import Kind, Status
from relay.policy.retry import SettledRecipient
from relay.queue.rows import from_micros, to_address, to_dsn, to_recipient

# RFC 3463 §3.8: X.7.1, delivery not authorized, by a decision of the host that gives it.
STATUS: Final = Status(Kind.PERMANENT, 7, 1)

Compose = Callable[[Claim, tuple[SettledRecipient, ...], bytes], NewMessage | None]
"""Makes the failure notice about some recipients of a message, with its original header; None: nobody is told."""

_MESSAGE = (
    "SELECT id, sender, sender_domain, message_id, eight_bit, smtputf8, demand, arrived, login, ret, envid,"
    " octets IS NOT NULL, substr(octets, 1, ?) FROM message LEFT JOIN body ON body.message = message.id WHERE id = ?"
)
_RECIPIENT = (
    "SELECT number, address, domain, attempts, delay_notices, notify, orcpt, status, reply, reason, host, tls, cause"
    " FROM recipient WHERE message = ? AND number = ?"
)
_VERBS = {State.FAILED: "given up", State.DROPPED: "dropped"}


def composer(hostname: str, new_id: Callable[[], MessageId], now: datetime) -> Compose:
    """Makes failure notices as all of them are. `hostname`: our name."""

    def compose(claim: Claim, settled: tuple[SettledRecipient, ...], header: bytes) -> NewMessage | None:
        return ndr.compose(ndr.Kind.FAILURE, claim, settled, header, ndr.Stamp(new_id(), now, hostname, now))

    return compose


def words(state: State, reason: str | None) -> str:
    """What is written down, and told, as the reason."""
    because = f": {reason}" if reason else ""
    return f"{_VERBS[state]} by the administrator of this server{because}"


def notice(
    connection: sqlite3.Connection,
    recipients: tuple[int, Sequence[int]],
    reason: str | None,
    compose: Compose,
    read_file: Callable[[MessageId], bytes],
) -> NewMessage | None:
    """The failure notice about some recipients of one message, as (message, numbers); None when nobody is to be told.

    `read_file`: the beginning of a body that is kept in a file.
    """
    message, numbers = recipients
    row = connection.execute(_MESSAGE, (ndr.HEADER_LIMIT, message)).fetchone()
    if row is None or row[1] is None:
        return None  # RFC 5321 §4.5.5: never to the null sender
    outcome = Failed(STATUS, words(State.FAILED, reason))
    settled = [
        SettledRecipient(recipient, State.FAILED, outcome, None, recipient.delay_notices)
        for recipient in (
            to_recipient(connection.execute(_RECIPIENT, (message, number)).fetchone()) for number in numbers
        )
        if recipient.dsn.wants(Notify.FAILURE)  # RFC 3461 §4.1
    ]
    if not settled:
        return None
    id, sender, sender_domain, message_id, eight_bit, smtputf8, demand, arrived, login, ret, envid, *body = row
    is_inline, octets = body
    start = octets if is_inline else read_file(MessageId(id))
    claim = Claim(
        id=MessageId(id),
        sender=to_address(sender, sender_domain),
        destination=settled[0].recipient.address.domain,
        recipients=tuple(one.recipient for one in settled),
        body=InlineBody(start),
        arrived=from_micros(arrived),
        lease=0,
        lease_until=from_micros(arrived),
        message_id=message_id,
        eight_bit=bool(eight_bit),
        smtputf8=SmtpUtf8(smtputf8),
        demand=TlsDemand(demand),
        dsn=to_dsn(ret, envid),
        login=login,
    )
    end = start.find(b"\r\n\r\n")
    return compose(claim, tuple(settled), start if end < 0 else start[: end + 2])
