"""What clients do: mail that comes in, logins, and what is refused them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.events.event import Event


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
class AlignmentWarning(Event):
    """Mail that was sent will not pass DMARC, or not everywhere. Told once an hour for each pair of domains.

    `verdict`: fails, partly, or unproven (the domain has no DMARC record, and neither SPF nor DKIM would pass);
    `policy`: what the domain of From asks receivers to do with it; `remedy`: what to do. docs/alignment.md.
    """

    name = "alignment-warning"
    level = "warning"
    from_domain: str
    sender_domain: str
    verdict: str
    policy: str | None
    reason: str
    remedy: str
    login: str | None = None


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
