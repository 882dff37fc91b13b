"""What every attempt shares: how the way is found, how a session is made and judged, and who hears of what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from relay.delivery.body import ReadBody, Sign
from relay.delivery.logins import Logins
from relay.delivery.pool import SessionPool
from relay.delivery.route import Router
from relay.delivery.transaction import Timeouts
from relay.events import Emit
from relay.guard import AddressGuard
from relay.lookup.tls_memory import TlsMemories
from relay.policy.chain import Roots, Trust
from relay.policy.limits import DestinationLimits
from relay.policy.override import Overrides
from relay.policy.source import Sources
from relay.policy.tls_report import Tally
from relay.tls import ClientContexts

Count = Callable[[Sequence[Tally]], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """See the module.

    `count` is told what each session is in a TLS report; None: nobody reports. `public_addresses`: those that others
    see us with, where they are not our own.
    """

    router: Router
    guard: AddressGuard
    contexts: ClientContexts
    roots: Roots
    pool: SessionPool
    sources: Sources
    read: ReadBody
    clock: Callable[[], datetime]
    emit: Emit
    memories: TlsMemories
    logins: Logins
    timeouts: Timeouts = field(default_factory=Timeouts)
    overrides: Overrides = field(default_factory=Overrides)
    limits: DestinationLimits = field(default_factory=DestinationLimits)
    sign: Sign | None = None  # None: no mail is signed
    count: Count | None = None
    public_addresses: tuple[str, ...] = ()

    def trust(self) -> Trust:
        """Whom to believe, and when it is."""
        return Trust(self.roots, self.clock())
