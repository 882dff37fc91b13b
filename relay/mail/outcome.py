"""What became of one recipient in one attempt.

Our words (`reason`) and the remote server's (`reply`) stay apart, so that a bounce can say who said what.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from relay.mail.status import Kind, Reply, Status


class TlsUsed(Enum):
    """How the session that carried (or refused) the message was protected."""

    NONE = "none"
    ENCRYPTED = "encrypted"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next host took responsibility for this recipient."""

    status: Status
    reply: Reply
    host: str
    tls: TlsUsed


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; the message stays in the queue. `status` is of class 4."""

    status: Status
    reason: str
    host: str | None = None
    reply: Reply | None = None
    tls: TlsUsed = TlsUsed.NONE

    def __post_init__(self) -> None:
        if self.status.kind is not Kind.TEMPORARY:
            raise ValueError(f"a deferral needs a 4.x.x status, not {self.status}")


@dataclass(frozen=True, slots=True)
class Failed:
    """Never; the sender is told. `status` is of class 5. `expired`: it was to be tried again, and its time ran out."""

    status: Status
    reason: str
    host: str | None = None
    reply: Reply | None = None
    tls: TlsUsed = TlsUsed.NONE
    expired: bool = False

    def __post_init__(self) -> None:
        if self.status.kind is not Kind.PERMANENT:
            raise ValueError(f"a failure needs a 5.x.x status, not {self.status}")


Outcome = Delivered | Deferred | Failed


class State(Enum):
    """Where a recipient of a queued message stands."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"

    @property
    def closed(self) -> bool:
        """Whether nothing more will be tried."""
        return self in (State.DELIVERED, State.FAILED)
