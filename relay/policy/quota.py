"""What a client with a quota has sent, and whether more goes within it. Pure: time comes in, counts go out.

Who counts together is an account: a user, else a certificate, else an address (IPv6: a /64), under one [[client]].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from relay.mail.address import Address
from relay.policy.clients import ANY, Grant, Peer, Quota, source_of

DAY = timedelta(days=1)
SLOT = timedelta(minutes=10)  # how finely the day slides
_LONGEST_NAME = 200


class Limit(Enum):
    """The limits of a quota, by their settings."""

    MESSAGES = "messages_per_minute"
    RECIPIENTS = "recipients_per_day"
    NEW_RECIPIENTS = "new_recipients_per_day"


@dataclass(frozen=True, slots=True)
class Over:
    """No more now: `limit` allows `most`."""

    limit: Limit
    most: int


@dataclass(frozen=True, slots=True)
class Count:
    """Recipients of messages, and those among them that the account had never sent to."""

    recipients: int = 0
    new: int = 0

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(self.recipients + other.recipients, self.new + other.new)

    def minus(self, other: Count) -> Count:
        """This without the other."""
        return Count(self.recipients - other.recipients, self.new - other.new)


NOTHING = Count()


@dataclass(frozen=True, slots=True)
class Spent:
    """What was sent in the last 24 hours, by the number of the slot in which it was."""

    slots: Mapping[int, Count] = field(default_factory=dict)

    def in_day(self, now: datetime) -> Count:
        """The sum of the last 24 hours, and at most one slot more."""
        total = NOTHING
        for count in self._recent(now).values():
            total = total.plus(count)
        return total

    def plus(self, count: Count, now: datetime) -> Spent:
        """The same after more was sent, without what is too old to count."""
        slots, slot = self._recent(now), _slot(now)
        slots[slot] = slots.get(slot, NOTHING).plus(count)
        return Spent(slots)

    def _recent(self, now: datetime) -> dict[int, Count]:
        # What lies a day ahead was written by a clock that was wrong, and would count for ever.
        slot, day = _slot(now), DAY // SLOT
        return {number: count for number, count in self.slots.items() if abs(slot - number) <= day}


def _slot(now: datetime) -> int:
    return int(now.timestamp() // SLOT.total_seconds())


@dataclass(frozen=True, slots=True)
class Bucket:
    """Messages that may go at once (`tokens`), as it was at `at`: fills up in a minute, and empties by one each."""

    tokens: float
    at: datetime

    def filled(self, per_minute: int, now: datetime) -> Bucket:
        """As it is now. A clock that goes back adds nothing."""
        passed = max((now - self.at).total_seconds(), 0.0)
        return Bucket(min(self.tokens + passed * per_minute / 60, float(per_minute)), now)

    def changed(self, by: int) -> Bucket:
        """With tokens taken or given back."""
        return Bucket(self.tokens + by, self.at)


def over(quota: Quota, sent: Count, more: Count) -> Over | None:
    """Which limit of a day `more` would break, after `sent`; None: it may go."""
    total = sent.plus(more)
    if quota.recipients_per_day is not None and total.recipients > quota.recipients_per_day:
        return Over(Limit.RECIPIENTS, quota.recipients_per_day)
    if more.new and quota.new_recipients_per_day is not None and total.new > quota.new_recipients_per_day:
        return Over(Limit.NEW_RECIPIENTS, quota.new_recipients_per_day)
    return None


def account_of(grant: Grant, peer: Peer) -> str:
    """Under what name a client's mail is counted.

    Logins and names of certificates count without regard to case: whoever checks them may not care, and then each
    spelling would have a quota of its own.
    """
    if peer.login is not None:
        return _named(grant, "user", peer.login)
    for name in peer.certificates:
        if ANY in grant.certificates or name.lower() in grant.certificates:
            return _named(grant, "certificate", name)
    return _named(grant, "address" if peer.address.version == 4 else "network", str(source_of(peer.address)))


def _named(grant: Grant, kind: str, name: str) -> str:
    plain = "".join(letter if letter.isprintable() else "\ufffd" for letter in name.casefold())
    if len(plain) > _LONGEST_NAME or plain != name.casefold():
        digest = hashlib.sha256(name.casefold().encode("utf-8", "surrogatepass")).hexdigest()
        plain = f"{plain[:_LONGEST_NAME]}#{digest}"
    return f"{grant.name}, {kind} {plain}"


def recipient_key(account: str, recipient: Address) -> str:
    """Under what an account's having sent to somebody is remembered: a hash, so that a file of them names nobody."""
    mailbox = f"{recipient.plain_local.lower()}@{recipient.domain}"
    key = hashlib.sha256(account.encode()).digest()
    return hashlib.blake2b(mailbox.encode("utf-8", "surrogatepass"), key=key, digest_size=16).hexdigest()
