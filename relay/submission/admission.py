"""Whether a client may send this: from this sender, to these recipients, now. The same for every way mail comes in.

What is asked: the client's table in the settings, routes that reject, how many recipients, DNS where the settings want
it, and the quota. What a message must be like is in `receive`. It only looks up and counts; nothing is stored.
"""

from __future__ import annotations

from relay.mail.address import Address
from relay.mail.status import Reply
from relay.policy.clients import Grant, Peer
from relay.policy.quota import Over
from relay.submission import replies
from relay.submission.front import Front
from relay.submission.receive import Transaction
from relay.submission.timing import Timing
from relay.submission.verbs import Mail, Rcpt


class Admission:
    """For one relay. `max_recipients`: of one message."""

    def __init__(self, front: Front, max_recipients: int) -> None:
        self._front = front
        self.max_recipients = max_recipients

    async def begin(self, grant: Grant, peer: Peer, mail: Mail, asked: Timing) -> Transaction | Reply:
        """A message of this sender, if it may come from there. It is counted until it is given up or stored."""
        domains, quotas = self._front.domains, self._front.quotas
        if not grant.allows_sender(mail.sender, peer.login):
            return replies.SENDER_NOT_ALLOWED
        fault = await domains.sender_fault(mail.sender) if domains is not None else None
        if fault is not None:
            return fault
        if grant.quota.unlimited:
            return Transaction(mail, asked)
        assert quotas is not None  # noqa: S101  (see Front: without them nobody with a quota gets in)
        spending = quotas.message(grant, peer)
        return replies.over_quota(spending) if isinstance(spending, Over) else Transaction(mail, asked, spending)

    async def add(self, grant: Grant, peer: Peer, transaction: Transaction, rcpt: Rcpt) -> Reply | None:
        """One more recipient; None: it is among the recipients, else what stands against it."""
        why_not = await self._why_not(grant, peer, transaction, rcpt.recipient)
        if why_not is None:
            transaction.add(rcpt)
        return why_not

    async def _why_not(self, grant: Grant, peer: Peer, transaction: Transaction, recipient: Address) -> Reply | None:
        """None: nothing does, and it is held against the client's quota."""
        sender, login = transaction.mail.sender, peer.login
        if not grant.allows_recipient(recipient):
            return replies.RECIPIENT_NOT_ALLOWED
        rejected = self._front.refusal(sender, login, recipient)
        if rejected is not None:
            return replies.rejected(rejected)
        if recipient.key in transaction.recipients:
            return None
        if len(transaction.recipients) >= self.max_recipients:
            return replies.TOO_MANY_RECIPIENTS  # RFC 5321 §4.5.3.1.10
        if self._front.domains is not None:
            fault = await self._front.domains.recipient_fault(sender, login, recipient)
            if fault is not None:
                return fault
        over = await transaction.spending.add(recipient) if transaction.spending is not None else None
        return None if over is None else replies.over_quota(over)
