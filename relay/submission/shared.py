"""What the sessions of one server have in common."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from relay.events import ConnectionRefused
from relay.mail.address import Address
from relay.mail.status import Reply
from relay.policy.clients import Clients, Peer
from relay.settings import SubmissionSettings
from relay.submission.admission import Admission
from relay.submission.auth import Authenticator
from relay.submission.crowd import Crowd, News, Seat
from relay.submission.front import Front
from relay.submission.receive import Receiver
from relay.submission.stream import LANDING_OCTETS, Stream
from relay.tls import ServerContexts


@dataclass(slots=True, eq=False)
class Shared:
    """As above. `tls` may be replaced while they run."""

    settings: SubmissionSettings
    clients: Clients
    hostname: str
    front: Front
    admission: Admission
    receiver: Receiver
    tls: ServerContexts | None
    authenticator: Authenticator | None
    crowd: Crowd
    postmaster: Address | None = None  # the mailbox behind the bare <postmaster>
    stopping: bool = False
    sessions: set[Stream] = field(default_factory=set)
    landing: memoryview = field(default_factory=lambda: memoryview(bytearray(LANDING_OCTETS)))
    _news: News = field(default_factory=News)

    def enter(self, peer: Peer, trusted: bool) -> Seat | Reply:
        """A seat for a client, for `crowd.leave`, or why there is none, which the log has heard then."""
        found = self.crowd.enter(peer.address, trusted, self._now())
        if isinstance(found, Reply):
            self.turned_away(peer, found.text)
        return found

    def turned_away(self, peer: Peer, reason: str) -> None:
        """Report a client that is not let in, unless that has been said often enough."""
        more = self._news.tell(self._now())
        if more is not None:
            self.front.emit(ConnectionRefused(str(peer.address), peer.listener, reason, more))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
