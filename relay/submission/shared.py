"""What the sessions of one server have in common."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from relay.mail.address import Address
from relay.policy.clients import Clients
from relay.settings import SubmissionSettings
from relay.submission.auth import Authenticator
from relay.submission.front import Front
from relay.submission.receive import Receiver
from relay.submission.stream import LANDING_OCTETS, Stream

_TRUSTED_SHARE = 4


@dataclass(slots=True, eq=False)
class Shared:
    """As above. `tls` may be replaced while they run."""

    settings: SubmissionSettings
    clients: Clients
    hostname: str
    front: Front
    receiver: Receiver
    tls: ssl.SSLContext | None
    authenticator: Authenticator | None
    postmaster: Address | None = None  # the mailbox behind the bare <postmaster>
    stopping: bool = False
    sessions: set[Stream] = field(default_factory=set)
    handshakes: set[object] = field(default_factory=set)  # that come before a session, and count like one
    landing: memoryview = field(default_factory=lambda: memoryview(bytearray(LANDING_OCTETS)))

    def is_crowded(self, trusted: bool) -> bool:
        """Whether there are more clients than there may be; strangers leave a quarter to those we trust."""
        most = self.settings.max_connections
        room = most if trusted else most - most // _TRUSTED_SHARE
        return len(self.sessions) + len(self.handshakes) > room
