"""What becomes of mail on its way out: attempts, destinations, their policies, notices."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.events.event import Event


@dataclass(frozen=True, slots=True)
class AttemptFinished(Event):
    """What one attempt came to for one recipient. `cause`: why it waits, see [retries](retries.md)."""

    name = "attempt-finished"
    id: str
    recipient: str
    state: str
    attempts: int
    status: str
    cause: str | None
    host: str | None
    tls: str
    reason: str | None
    reply: str | None
    next_attempt: datetime | None


@dataclass(frozen=True, slots=True)
class MessageUnsigned(Event):
    """A message went out without a DKIM signature, or without one of several, though there are keys. See `reason`."""

    name = "message-unsigned"
    level = "warning"
    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationRests(Event):
    """A destination is down: nothing is tried there before `until`. `rests`: how many in a row, since `since`."""

    name = "destination-rests"
    level = "warning"
    destination: str
    until: datetime
    since: datetime
    rests: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationReached(Event):
    """A destination that was down, since `since`, takes mail again."""

    name = "destination-reached"
    destination: str
    since: datetime


@dataclass(frozen=True, slots=True)
class PolicyTestFailed(Event):
    """A host would have been refused if the domain's MTA-STS policy were not in testing mode."""

    name = "policy-test-failed"
    level = "warning"
    domain: str
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyOverridden(Event):
    """A session was used that the domain's own policies would have refused: an override replaces them."""

    name = "policy-overridden"
    level = "warning"
    domain: str
    host: str
    override: str
    owner: str
    reason: str


@dataclass(frozen=True, slots=True)
class OverrideEnded(Event):
    """An override of the settings is past its end date: it is no longer in force, and can be taken out."""

    name = "override-ended"
    level = "warning"
    destinations: str
    override: str
    owner: str
    ended: datetime


@dataclass(frozen=True, slots=True)
class PolicyFetched(Event):
    """An MTA-STS policy was fetched and is in force."""

    name = "policy-fetched"
    domain: str
    id: str
    mode: str


@dataclass(frozen=True, slots=True)
class PolicyChanged(Event):
    """The policy just fetched is another than before though its id is the same: the domain forgot to change that."""

    name = "policy-changed"
    level = "warning"
    domain: str
    id: str


@dataclass(frozen=True, slots=True)
class PolicyFetchFailed(Event):
    """An MTA-STS policy could not be fetched. `in_force`: the id of the older policy that stays in force, if any."""

    name = "policy-fetch-failed"
    level = "warning"
    domain: str
    reason: str
    in_force: str | None


@dataclass(frozen=True, slots=True)
class PolicyCacheFailed(Event):
    """The file of MTA-STS policies is damaged or cannot be written; policies are kept in memory alone."""

    name = "policy-cache-failed"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class TlsLost(Event):
    """A host that had TLS, from `since` to `last`, has none now: a possible downgrade.

    `action`: delivered (in clear text), or deferred, `until` when.
    """

    name = "tls-lost"
    level = "warning"
    domain: str
    host: str
    address: str
    since: datetime
    last: datetime
    authenticated_by: str | None
    action: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class TlsMemoryFailed(Event):
    """The file of hosts that have TLS is damaged, or cannot be read or written; they are kept in memory alone."""

    name = "tls-memory-failed"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class LoginRefused(Event):
    """A host of a route does not take the login, or there is none to be had: its mail waits. Told once."""

    name = "login-failed"
    level = "error"
    route: str
    host: str
    user: str
    reason: str
    reply: str | None


@dataclass(frozen=True, slots=True)
class LoginWorks(Event):
    """The host takes the login again."""

    name = "login-works"
    route: str
    host: str
    user: str


@dataclass(frozen=True, slots=True)
class NoticeQueued(Event):
    """A notice to the sender, or to the postmaster, was put into the queue. `about`: the message it speaks of."""

    name = "notice-queued"
    id: str
    about: str
    kind: str
    recipient: str


@dataclass(frozen=True, slots=True)
class BounceUndeliverable(Event):
    """A message without a sender to be told, such as a bounce, has failed for a recipient."""

    name = "bounce-undeliverable"
    level = "warning"
    id: str
    recipient: str
    status: str
    reason: str
