"""The queue as verbs, and the promises that every backend keeps.

Promises, tested in tests/store:
* when `put` returns, the message is on disk and survives a power cut;
* a stored message is claimed again and again until each of its recipients is settled as closed;
* two claims never hold the same recipient at once; a claim whose lease was lost cannot settle;
* `settle` is atomic with its evidence and its notices: no lost bounce, no bounce without closing;
* nothing is claimed before its time; new mail goes ahead of retries, senders are served in turn, those with mail of
  higher priority first, and what one sender has for one destination goes by priority, then due time, then age;
* `now` always comes from the caller.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from relay.mail.address import Address
from relay.mail.message import (
    NOTHING_ASKED,
    Body,
    Claim,
    DeliverBy,
    FileBody,
    MessageId,
    NewMessage,
    RecipientDsn,
    first_due,
)
from relay.mail.outcome import Cause, State, TlsUsed
from relay.mail.record import AttemptRecord
from relay.policy.retry import Settlement
from relay.policy.routing import PREFIX


class StoreUnavailable(Exception):  # noqa: N818  (the name says it: submission answers 451, the worker waits)
    """The queue cannot be written or read now. `full` says that there is no room on the disk."""

    def __init__(self, reason: str, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full


class QueueError(Exception):
    """The queue folder cannot be used at all (in use, not writable, newer version, corrupt). Raised by `open` only.

    The text is one line that names the path and what is wrong.
    """


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One recipient of one message, as shown to a person. Times are aware UTC."""

    id: MessageId
    message_id: str | None
    sender: str  # empty: the null sender
    recipient: str
    domain: str  # as Claim.domain
    state: State
    attempts: int
    status: str | None  # of the last attempt: 4.7.5
    reply: str | None  # the remote server's words
    reason: str | None  # ours
    host: str | None
    tls: TlsUsed
    next_attempt: datetime | None  # None when closed, held, or in an attempt at this moment
    arrived: datetime
    changed: datetime  # when the state was written
    number: int = 0  # place in the envelope
    size: int = 0  # of the message, octets
    login: str | None = None  # under which the client sent it
    destination: str = ""  # as Claim.destination
    route: str | None = None  # chosen for it by hand or as a fallback
    cause: Cause | None = None  # of the last attempt
    rule: str | None = None  # what gave next_attempt, in words
    review: datetime | None = None  # expires or is late then
    hold: str | None = None  # why it is held
    dsn: RecipientDsn = NOTHING_ASKED
    delay_notices: int = 0
    priority: int = 0
    release: datetime | None = None  # not tried before, as its sender asked
    deliver_by: DeliverBy | None = None
    report: bool = False  # as NewMessage.report

    @property
    def due(self) -> datetime:
        """When it was, or is, to be tried first: its life is counted from then on."""
        return first_due(self.arrived, self.release)

    def waits_for_release(self, now: datetime) -> bool:
        """Whether its sender's time has not come, and nobody has had it tried before that."""
        return self.release is not None and self.release > now and self.next_attempt == self.release

    @property
    def under_way(self) -> bool:
        """Whether an attempt has it at this moment, or had when the service died."""
        return self.next_attempt is None and not self.state.closed and self.state is not State.HELD


@dataclass(frozen=True, slots=True)
class Depth:
    """How much mail there is, in recipients. Those that are held count in `held`, `causes` and `oldest` alone.

    In `oldest` mail whose sender wants it later counts from its release on.
    """

    open: int  # that wait or are in an attempt
    due: int  # those of them that could be tried now: due, and for no destination that rests
    oldest: datetime | None  # when the oldest message with an open recipient arrived, or was released
    held: int = 0
    causes: tuple[tuple[Cause, int], ...] = ()  # that were tried, by what came of the last attempt
    resting: int = 0  # destinations


@dataclass(frozen=True, slots=True)
class Rest:
    """A destination that is down: nothing is tried there before `until`. Times are aware UTC.

    `since`: when the first of `failures` rests in a row began. `status` and `reason` are of the last failure.
    """

    until: datetime
    since: datetime
    failures: int
    status: str
    reason: str
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Earlier:
    """A message that came with a key: the digest of what was asked, the id, and the recipients."""

    request: bytes
    id: MessageId
    recipients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """Recipients to be looked at without a try; the claim counts no attempt."""

    claim: Claim
    held: bool


class Grouping(Protocol):
    """Which destination a recipient's mail goes to. `chosen`: the route that was chosen for it by hand."""

    def __call__(self, sender: Address | None, login: str | None, recipient: Address, chosen: str | None = None) -> str:
        """Its domain, or the name of a route (as Claim.destination)."""


def by_domain(sender: Address | None, login: str | None, recipient: Address, chosen: str | None = None) -> str:
    """The grouping where no routes are set."""
    return recipient.domain if chosen is None else f"{PREFIX}{chosen}"


FileOf = Callable[[MessageId, int, int | None], FileBody]
"""The body of a message that is kept in a file, from its id, size and CRC-32."""


class BodyWriter(Protocol):
    """Takes the octets of one message while they arrive: in memory while small, in a file of the queue when large."""

    async def write(self, octets: bytes) -> None:
        """Add octets. Raises StoreUnavailable (disk full, I/O error)."""

    async def finish(self) -> Body:
        """The whole message as a Body to put into a NewMessage; a file is flushed to disk here."""

    async def discard(self) -> None:
        """Throw away what was written. Safe after `finish` too, as long as the body was not put."""


class QueueStore(Protocol):
    """The queue. All methods may raise StoreUnavailable."""

    def new_body(self, id: MessageId) -> BodyWriter:
        """Begin the body of message `id`."""

    async def put(self, messages: Collection[NewMessage], wakes: bool = True) -> None:
        """Store messages with all their recipients, in one transaction. Durable on return.

        `wakes`: `wait` returns for it; false for a caller who will ask for more in any case.
        """

    async def put_claimed(
        self, message: NewMessage, lease_until: datetime, wanted: Collection[str]
    ) -> tuple[Claim, ...]:
        """Store a message as `put` does and claim it for the destinations `wanted`; in one transaction, not in two.

        Nothing is claimed of a message whose time has not come when it arrives.
        """

    def destinations(self, message: NewMessage) -> frozenset[str]:
        """Where the mail of this message goes."""

    async def claim(
        self, limit: int, lease: timedelta, now: datetime, room: Mapping[str, int], share: int
    ) -> tuple[Claim, ...]:
        """Take up to `limit` due claims; small bodies come with them.

        Not more of them than `room` says are for a destination that it names, and not more than `share` for any other,
        so that one with much mail leaves room for others; none for one that rests.

        The attempt is counted and the lease written before this returns. Due: state queued or deferred, next_attempt
        not after `now`, and no lease running at `now`.
        """

    async def renew(self, claim: Claim, until: datetime) -> bool:
        """Extend the lease. False: it was lost."""

    def read(self, body: Body) -> AsyncGenerator[bytes, None]:
        """The octets of a body in chunks of up to 256 KiB; may be called many times."""

    async def settle(
        self,
        claim: Claim,
        settlement: Settlement,
        notices: Collection[NewMessage],
        now: datetime,
        *,
        record: AttemptRecord,
        began: datetime,
    ) -> bool:
        """Write what an attempt came to, with its evidence and notices, in one transaction, and drop the lease.

        The attempt lasted from `began` to `now`. `notices`: of failure first, then of delay.

        The body goes when the last recipient is closed. False: the lease was lost, nothing was written.
        """

    async def settle_review(
        self,
        claim: Claim,
        settlement: Settlement,
        notices: Collection[NewMessage],
        now: datetime,
        *,
        record: AttemptRecord | None,
    ) -> bool:
        """Write what a review came to, as `settle` does; what goes on stays as it is. `record`: None, to keep none."""

    async def release(self, claim: Claim, next_attempt: datetime, *, counted: bool = False) -> bool:
        """Give a claim back unsettled. Its attempt is not `counted` where none was made."""

    async def find(self, id: MessageId | None, history: bool) -> tuple[QueueEntry, ...]:
        """Entries by arrival; of one message when `id` is given; closed ones only with `history`."""

    async def depth(self, now: datetime) -> Depth:
        """How much mail there is. It costs some milliseconds for each 100,000 recipients, beside the writing."""

    async def check_writable(self) -> None:
        """Write something that changes nothing, as mail is written. Raises StoreUnavailable as a `put` would."""

    async def wait(self, until: datetime | None, now: datetime) -> None:
        """Return when work may be there: something put or deferred, a change by another process, or at `until`."""

    async def next_due(self, closed: Collection[str], now: datetime) -> datetime | None:
        """When something may be claimed next, but for the destinations that are `closed`: perhaps too early, never too
        late. A lease may end, a rest may be over. None: never by itself.
        """

    async def rest(self, destination: str, rest: Rest | None) -> None:
        """Let a destination rest: nothing is claimed for it before `rest.until`. None: it was reached."""

    async def reviews(self, now: datetime, untried: timedelta, limit: int) -> tuple[Review, ...]:
        """Claim what is past the time at which it is to be looked at, tried or not, held or not.

        `untried`: the age at which what was never tried is to be looked at. `settle` it with `tried` false.
        """

    async def bring_forward(self, latest: datetime) -> int:
        """Let nothing wait, and no destination rest, until after `latest`, as when the clock was set back."""

    async def rests(self) -> dict[str, Rest]:
        """The destinations that rest, or rested last and were not reached since."""

    async def tidy(self, closed_before: datetime) -> None:
        """Forget closed messages whose last change is older."""

    async def open(self, now: datetime) -> None:
        """Take the folder for this process: lock, schema, orphaned files, and the leases of the last process undone."""

    async def close(self) -> None:
        """Finish what was begun and let the folder go."""
