"""Mail that comes in as a whole, by another way than SMTP: who it is from and for, and what became of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.mail.address import Address
from relay.mail.message import MessageDsn, MessageId, RecipientDsn
from relay.mail.status import Reply


@dataclass(frozen=True, slots=True)
class HandedIn:
    """The envelope. `sender` None: the null sender. `dsn` is asked for the message, `wanted` for each recipient."""

    sender: Address | None
    recipients: tuple[Address, ...]
    dsn: MessageDsn
    wanted: RecipientDsn
    hold_until: datetime | None = None  # not tried before
    priority: int = 0  # from -9 to 9


@dataclass(frozen=True, slots=True)
class Accepted:
    """It is in the queue, on disk."""

    id: MessageId
    recipients: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Declined:
    """Nothing of it was taken. `recipients`: who stood in the way, if somebody did, each with the reason."""

    reply: Reply
    recipients: tuple[tuple[Address, Reply], ...] = ()
