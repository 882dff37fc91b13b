"""What it takes to tell senders that an operator has given up their mail. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from relay import ndr
from relay.mail.message import Body, Claim, FileBody, InlineBody, MessageId, NewMessage, Notify
from relay.mail.outcome import Failed, State
from relay.mail.status import Kind, Status
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.claiming import read_message, to_claim
from relay.queue.writer import Transaction

# RFC 3463 §3.8: X.7.1, delivery not authorized, by a decision of the host that gives it.
STATUS: Final = Status(Kind.PERMANENT, 7, 1)

Compose = Callable[[Claim, Settlement, Callable[[int], bytes]], Sequence[NewMessage]]
"""Makes the notices about recipients of a message that are given up; the function gives so many octets of it."""

FileOf = Callable[[MessageId, int], FileBody]
"""The body of a message that is kept in a file, from its id and size."""

_RECIPIENT = (
    "SELECT number, address, domain, attempts, delay_notices, notify, orcpt, status, reply, reason, host, tls, cause"
    " FROM recipient WHERE message = ? AND number = ?"
)
_VERBS = {State.FAILED: "given up", State.DROPPED: "dropped"}


def composer(hostname: str, new_id: Callable[[], MessageId], now: datetime) -> Compose:
    """Makes failure notices as all of them are. `hostname`: our name."""

    def compose(claim: Claim, settlement: Settlement, beginning: Callable[[int], bytes]) -> tuple[NewMessage, ...]:
        # RFC 3461 §4.1
        told = tuple(one for one in settlement.failed if one.recipient.dsn.wants(Notify.FAILURE))
        start = beginning(ndr.HEADER_LIMIT)
        end = start.find(b"\r\n\r\n")
        header = start if end < 0 else start[: end + 2]
        notice = ndr.compose(ndr.Kind.FAILURE, claim, told, header, ndr.Stamp(new_id(), now, hostname, now))
        return () if notice is None else (notice,)

    return compose


def words(state: State, reason: str | None) -> str:
    """What is written down, and told, as the reason."""
    because = f": {reason}" if reason else ""
    return f"{_VERBS[state]} by the administrator of this server{because}"


def notices(
    transaction: Transaction,
    recipients: tuple[int, Sequence[int]],
    reason: str | None,
    compose: Compose,
    file_of: FileOf,
) -> Sequence[NewMessage]:
    """The notices about some recipients of one message, as (message, numbers), that are given up.

    Raises OSError when the message is in a file that cannot be read.
    """
    message, numbers = recipients
    row, body = read_message(transaction, message, file_of)
    found = [transaction.connection.execute(_RECIPIENT, (message, number)).fetchone() for number in numbers]
    claim = to_claim(row, body, "", found, (0, 0))
    outcome = Failed(STATUS, words(State.FAILED, reason))
    settlement = Settlement(
        tuple(SettledRecipient(one, State.FAILED, outcome, None, one.delay_notices) for one in claim.recipients)
    )
    return compose(claim, settlement, partial(_beginning, body))


def _beginning(body: Body, octets: int) -> bytes:
    if isinstance(body, InlineBody):
        return body.octets[:octets]
    with body.path.open("rb") as file:
        return file.read(octets)
