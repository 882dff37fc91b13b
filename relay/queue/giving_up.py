"""What it takes to tell senders that an operator has given up their mail. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from relay import ndr
from relay.mail.message import Body, Claim, FileBody, InlineBody, MessageId, NewMessage, Notify
from relay.mail.outcome import Failed, State
from relay.mail.status import Kind, Status
from relay.policy.retry import SettledRecipient
from relay.queue.claiming import read_message, to_claim
from relay.queue.writer import Transaction

# RFC 3463 §3.8: X.7.1, delivery not authorized, by a decision of the host that gives it.
STATUS: Final = Status(Kind.PERMANENT, 7, 1)

Compose = Callable[[Claim, tuple[SettledRecipient, ...], bytes], NewMessage | None]
"""Makes the failure notice about some recipients of a message, with its original header; None: nobody is told."""

FileOf = Callable[[MessageId, int], FileBody]
"""The body of a message that is kept in a file, from its id and size."""

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
    transaction: Transaction,
    recipients: tuple[int, Sequence[int]],
    reason: str | None,
    compose: Compose,
    file_of: FileOf,
) -> NewMessage | None:
    """The failure notice about some recipients of one message, as (message, numbers); None when nobody is to be told.

    Raises OSError when the header is in a file that cannot be read.
    """
    message, numbers = recipients
    row, body = read_message(transaction, message, file_of)
    found = [transaction.connection.execute(_RECIPIENT, (message, number)).fetchone() for number in numbers]
    claim = to_claim(row, body, "", found, (0, 0))
    outcome = Failed(STATUS, words(State.FAILED, reason))
    settled = tuple(
        SettledRecipient(recipient, State.FAILED, outcome, None, recipient.delay_notices)
        for recipient in claim.recipients
        if recipient.dsn.wants(Notify.FAILURE)  # RFC 3461 §4.1
    )
    if claim.sender is None or not settled:
        return None  # RFC 5321 §4.5.5: never to the null sender
    return compose(claim, settled, _header(body))


def _header(body: Body) -> bytes:
    """The header of the message as it was accepted, up to what a notice gives back."""
    if isinstance(body, InlineBody):
        start = body.octets[: ndr.HEADER_LIMIT]
    else:
        with body.path.open("rb") as file:
            start = file.read(ndr.HEADER_LIMIT)
    end = start.find(b"\r\n\r\n")
    return start if end < 0 else start[: end + 2]
