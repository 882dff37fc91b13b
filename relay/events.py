"""Everything that Relay reports: frozen values. docs/events.md lists them.

Facts are logged by emitting one of these and in no other way; relay.log makes lines of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `name` and `level` belong to the class; the fields are what the line carries."""

    name: ClassVar[str]
    level: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True)
class ServiceStarted(Event):
    """The service takes and delivers mail from now on."""

    name = "service-started"
    version: str
    hostname: str
    queue: str


@dataclass(frozen=True, slots=True)
class ServiceStopped(Event):
    """The service has put everything away and ends."""

    name = "service-stopped"


@dataclass(frozen=True, slots=True)
class OpenRelay(Event):
    """Whoever is in `network` can send to anyone, says `setting`: this is an open relay, and will be listed as one."""

    name = "open-relay"
    level = "error"
    setting: str
    network: str


@dataclass(frozen=True, slots=True)
class FewFiles(Event):
    """The system allows fewer open files than the settings ask for; above that, clients and deliveries must wait."""

    name = "few-files"
    level = "warning"
    allowed: int
    wanted: int


@dataclass(frozen=True, slots=True)
class CertificateRenewed(Event):
    """The files of the certificate have changed; clients are shown the new one from now on."""

    name = "certificate-renewed"


@dataclass(frozen=True, slots=True)
class CertificateRefused(Event):
    """The files of the certificate have changed and cannot be used; the old one stays in force."""

    name = "certificate-refused"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class FileRefused(Event):
    """The users file or the tokens file has changed and cannot be used; what it said before stays in force."""

    name = "file-refused"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class ListenerStarted(Event):
    """Mail is taken at this address. `tls`: starttls, required, implicit or none."""

    name = "listener-started"
    listener: str
    address: str
    tls: str


@dataclass(frozen=True, slots=True)
class AdminStarted(Event):
    """Health and metrics are answered at this address."""

    name = "admin-started"
    address: str


@dataclass(frozen=True, slots=True)
class DnssecTrust(Event):
    """Whether the resolver's word on DNSSEC is believed, and why; without it DANE is off."""

    name = "dnssec-trust"
    trusted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class MessageAccepted(Event):
    """A message is on disk and the client has its 250.

    `allowed_by`: the `[[client]]` that let it in; `release`: its sender wants it to wait until then.
    """

    name = "message-accepted"
    id: str
    message_id: str | None
    sender: str
    recipients: int
    size: int
    client: str
    login: str | None
    listener: str | None = None
    allowed_by: str | None = None
    release: datetime | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SubmissionRefused(Event):
    """A client was told no. `reply`: what it was told; `about`: to what; `login`: as whom it had logged in."""

    name = "submission-refused"
    level = "warning"
    client: str
    reply: str
    about: str
    listener: str | None = None
    login: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionRefused(Event):
    """A client was not let in: a limit, or a proxy without a header. 20 a minute at most; `more`: others, untold."""

    name = "connection-refused"
    level = "warning"
    client: str
    listener: str
    reason: str
    more: int


@dataclass(frozen=True, slots=True)
class AuthenticationFailed(Event):
    """A client could not log in. `login`: who it wanted to be; `reason`: what was wrong with what it said."""

    name = "authentication-failed"
    level = "warning"
    client: str
    login: str
    mechanism: str
    reason: str
    listener: str | None = None


@dataclass(frozen=True, slots=True)
class LoginsBarred(Event):
    """From this address or network too many logins have failed: none is tried for up to 15 minutes."""

    name = "logins-barred"
    level = "warning"
    client: str


@dataclass(frozen=True, slots=True)
class LoginSourceFailed(Event):
    """The service of `login.url` or the keys of `login.jwks` cannot be had. Told once, until they can be had again."""

    name = "login-source-failed"
    level = "error"
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class LoginSourceWorks(Event):
    """The service or the keys can be had again."""

    name = "login-source-works"
    source: str


@dataclass(frozen=True, slots=True)
class QuotaReached(Event):
    """A client has sent all that its `[[client]]` lets it, and was told to wait: its password may be stolen.

    `account`: who counts together; `limit`: the setting, which allows `most`. Told once an hour for each.
    """

    name = "quota-reached"
    level = "warning"
    account: str
    client: str
    login: str | None
    limit: str
    most: int


@dataclass(frozen=True, slots=True)
class QuotaFailed(Event):
    """A file of what clients have sent is damaged, or cannot be read or written; it is counted in memory alone."""

    name = "quota-failed"
    level = "error"
    reason: str


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


@dataclass(frozen=True, slots=True)
class QueueAction(Event):
    """An operator has acted on the queue through the API. `who`: the token's name. `recipients`: that were changed."""

    name = "queue-action"
    who: str
    action: str
    filter: str
    recipients: int
    under_way: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class AdminRefused(Event):
    """Somebody asked the API without a token that is known, or for more than the token is good for."""

    name = "admin-refused"
    level = "warning"
    client: str
    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The queue could not be written or read; nothing was lost, and it is tried again."""

    name = "store-failed"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class DefectFound(Event):
    """A programming error was met; the message concerned stays in the queue. Please report it."""

    name = "defect-found"
    level = "error"
    where: str
    error: str


Emit = Callable[[Event], None]


def fields(event: Event) -> dict[str, object]:
    """The event's fields by name, without those that are None."""
    found: dict[str, object] = {}
    names: tuple[str, ...] = type(event).__slots__
    for field in names:
        value = getattr(event, field)
        if value is not None:
            found[field] = _time(value) if isinstance(value, datetime) else value
    return found


def _time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
