"""What submission is given by its surroundings: time, ids, a place to report to, a certificate, users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from relay.events import Emit, SubmissionRefused
from relay.mail.address import Address
from relay.mail.message import MessageId, NewMessage
from relay.policy.clients import Peer
from relay.queue.store import BodyWriter
from relay.submission import replies
from relay.submission.alignment import AlignmentWatch
from relay.submission.callback import LoginService
from relay.submission.domains import DomainChecks
from relay.submission.jwks import TokenLogins
from relay.submission.quota import Quotas
from relay.submission.users import Users
from relay.tls import ServerContexts


@dataclass(frozen=True, slots=True)
class Front:
    """`clock` gives aware UTC times; `new_id` never the same id twice. Without `tls` there is neither TLS nor AUTH.

    `new_body` begins a message's octets and `accept` puts the message into the queue: both as `QueueStore` has them.
    Who may log in: `users`, those that `service` knows, those with an access token that `tokens` takes.
    `refusal` says why mail of this sender, under this login, to this recipient is not taken, or None when it is.
    `quotas` must be there when some client has a quota, `domains` when DNS is to be asked for those of addresses,
    `alignment` when it is to be looked at whether mail will pass DMARC.
    """

    clock: Callable[[], datetime]
    new_id: Callable[[], MessageId]
    emit: Emit
    new_body: Callable[[MessageId], BodyWriter]
    accept: Callable[[NewMessage], Awaitable[None]]
    tls: ServerContexts | None
    users: Users | None
    refusal: Callable[[Address | None, str | None, Address], str | None] = lambda _sender, _login, _recipient: None
    service: LoginService | None = None
    tokens: TokenLogins | None = None
    quotas: Quotas | None = None
    domains: DomainChecks | None = None
    alignment: AlignmentWatch | None = None


def refused(peer: Peer, reply: str, about: str) -> SubmissionRefused:
    """For the log: this client was told no. `about`: what it had said, which may hold anything."""
    return SubmissionRefused(str(peer.address), reply, replies.printable(about), peer.listener, peer.login)
