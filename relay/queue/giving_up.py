"""What it takes to tell senders that an operator has given up their mail. Runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from relay.mail.message import Body, Claim, InlineBody, MessageId, NewMessage
from relay.mail.outcome import Failed, State
from relay.mail.status import Kind, Status
from relay.ndr.due import Stamp, due, returns_whole
from relay.ndr.notice import compose
from relay.ndr.returned import HEADER_LIMIT
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.claiming import read_message, to_claim
from relay.queue.rows import RECIPIENT_COLUMNS
from relay.queue.store import FileOf
from relay.queue.writer import Transaction

# RFC 3463 §3.8: X.7.1, delivery not authorized, by a decision of the host that gives it.
STATUS: Final = Status(Kind.PERMANENT, 7, 1)

Compose = Callable[[Claim, Settlement, Callable[[bool], bytes]], NewMessage | None]
"""Makes the failure notice about what is given up of a message; None: nobody is told.

The last argument reads the message as it was accepted: whole, or at least its header.
"""

_RECIPIENT = f"SELECT {RECIPIENT_COLUMNS} FROM recipient WHERE message = ? AND number = ?"  # noqa: S608  (constants of ours)
_VERBS = {State.FAILED: "given up", State.DROPPED: "dropped"}


def composer(hostname: str, new_id: Callable[[], MessageId], now: datetime) -> Compose:
    """Makes failure notices as all of them are. `hostname`: our name."""

    def make(claim: Claim, settlement: Settlement, read: Callable[[bool], bytes]) -> NewMessage | None:
        for one in due(claim, settlement, postmaster=None):  # of failure, if anybody is to be told
            return compose(one, claim, read(returns_whole(one.kind, claim)), Stamp(new_id(), now, hostname, False))
        return None

    return make


def words(state: State, reason: str | None) -> str:
    """What is written down, and told, as the reason."""
    because = f": {reason}" if reason else ""
    return f"{_VERBS[state]} by the administrator of this server{because}"


def notice(
    transaction: Transaction,
    recipients: tuple[int, Sequence[int]],
    reason: str | None,
    make: Compose,
    file_of: FileOf,
) -> NewMessage | None:
    """The failure notice about some recipients of one message, as (message, numbers); None: nobody is to be told."""
    message, numbers = recipients
    row, body = read_message(transaction, message, file_of)
    found = [transaction.connection.execute(_RECIPIENT, (message, number)).fetchone() for number in numbers]
    claim = to_claim(row, body, "", found, (0, 0))
    outcome = Failed(STATUS, words(State.FAILED, reason))
    settlement = Settlement(
        tuple(
            SettledRecipient(recipient, State.FAILED, outcome, None, recipient.delay_notices)
            for recipient in claim.recipients
        )
    )
    return make(claim, settlement, lambda whole: _octets(body, body.size if whole else HEADER_LIMIT))


def _octets(body: Body, most: int) -> bytes:
    """The beginning of a message as it was accepted; nothing, when it cannot be read: it must leave all the same."""
    if isinstance(body, InlineBody):
        return body.octets[:most]
    try:
        with body.path.open("rb") as file:
            return file.read(most)
    except OSError:
        return b""
