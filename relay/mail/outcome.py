"""What became of one recipient in one attempt.

Our words (`reason`) and the remote server's (`reply`) stay apart, so that a bounce can say who said what.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from relay.mail.status import Kind, Reply, Status


class TlsUsed(Enum):
    """How the session that carried (or refused) the message was protected."""

    NONE = "none"
    ENCRYPTED = "encrypted"
    VERIFIED = "verified"


class Cause(Enum):
    """Why mail waits; each cause has its own schedule and lifetime (`policy.cause` says which one a reply is)."""

    GREYLISTING = "greylisting"  # the host wants to see us come again
    THROTTLING = "throttling"  # too much, too fast, too many at once
    OUTAGE = "outage"  # no host can be reached, or none stays
    DNS = "dns"
    TLS_POLICY = "tls-policy"  # what is required of the session was not there
    REPUTATION = "reputation"  # of our address, our domain or the message
    MAILBOX_FULL = "mailbox-full"
    LOGIN = "login"  # the next hop does not take our name and password
    LOCAL = "local"  # this machine is short of something
    UNKNOWN = "unknown"  # the reply to the whole message was lost: it may have arrived
    OTHER = "other"  # the host's own reason


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next host took responsibility for this recipient. `dsn`: for its delivery reports too (RFC 3461).

    `traced`: the sender is to hear that it was handed on, as it gave it a time (RFC 2852 section 4.1.4).
    """

    status: Status
    reply: Reply
    host: str
    tls: TlsUsed
    dsn: bool = False
    traced: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; the message stays in the queue. `status` is of class 4. `cause`: None where only the reply tells it."""

    status: Status
    reason: str
    host: str | None = None
    reply: Reply | None = None
    tls: TlsUsed = TlsUsed.NONE
    cause: Cause | None = None

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


DROPPED_2_0_0: Final = Status(Kind.SUCCESS, 0, 0)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Nowhere, and nobody is told: a route discards it."""

    reason: str
    status: Status = DROPPED_2_0_0
    host: str | None = None
    reply: Reply | None = None
    tls: TlsUsed = TlsUsed.NONE


Outcome = Delivered | Deferred | Failed | Dropped


class State(Enum):
    """Where a recipient of a queued message stands."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    HELD = "held"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"  # by the operator or a route; nobody is told

    @property
    def closed(self) -> bool:
        """Whether nothing more will be tried."""
        return self in (State.DELIVERED, State.FAILED, State.DROPPED)
