"""What DNS says of a domain before mail to it, or from it, is taken: only a certain "no" refuses.

Whatever is in doubt (no answer, an answer that fails validation) is taken: the queue asks again, and for days. How DNS
is asked, and for how long an answer is kept, is the business of `look_up`.

RFC 5321 section 5.1, RFC 7505 sections 4.1 and 4.2 (null MX), RFC 3463 section 3.2 and RFC 7372 (codes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from relay.mail.address import Address
from relay.mail.status import Reply
from relay.policy.mx import Destination, NoSuchDomain, NullMx
from relay.policy.routing import PREFIX, Routes
from relay.submission import replies

LookUp = Callable[[str], Awaitable[Destination]]


@dataclass(frozen=True, slots=True)
class DomainChecks:
    """The checks that the settings ask for.

    `look_up` finds the mail hosts of a domain (as Address.domain), and is waited for as long as `limit`. Mail that
    `routes` take elsewhere is not checked: nobody asks DNS for its domain when it goes out either.
    """

    look_up: LookUp
    routes: Routes
    limit: timedelta
    of_senders: bool
    of_recipients: bool

    async def sender_fault(self, sender: Address | None) -> Reply | None:
        """What stands against this envelope sender: that no bounce could ever get there. None: nothing."""
        if sender is None or not self.of_senders:
            return None
        match await self._destination(None, None, sender):
            case NullMx():
                return replies.SENDER_TAKES_NO_MAIL
            case NoSuchDomain(_, reason):
                return replies.no_sender_domain(reason)
        return None

    async def recipient_fault(self, sender: Address | None, login: str | None, recipient: Address) -> Reply | None:
        """What stands against this recipient of mail from `sender` under `login`. None: nothing."""
        if not self.of_recipients:
            return None
        match await self._destination(sender, login, recipient):
            case NullMx():
                return replies.RECIPIENT_TAKES_NO_MAIL
            case NoSuchDomain(_, reason):
                return replies.no_recipient_domain(reason)
        return None

    async def _destination(self, sender: Address | None, login: str | None, to: Address) -> Destination | None:
        """None: not asked, or no answer in time."""
        domain = self.routes.destination(sender, login, to)
        if domain.startswith(PREFIX) or to.literal is not None:
            return None
        try:
            async with asyncio.timeout(self.limit.total_seconds()):
                return await self.look_up(domain)
        except TimeoutError:
            return None
