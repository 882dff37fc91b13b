"""Who may do what: which table of the settings a client comes under, and what that allows it. Pure.

Nothing else opens the relay: not the sender, not the form of a recipient address, not the message.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from relay.mail.address import Address, AddressError, parse_domain

ANY = "*"
NULL_SENDER = "<>"
TOKEN = "token:"  # noqa: S105  (the login of a token of the API begins so; no user may be called so)
TRUSTED_NETWORKS, EVERY_USER = "trusted-networks", "users"  # the rows that [submission] makes
USER = "{user}"  # in a sender pattern: the name under which the client logged in

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
Source = IPAddress | ipaddress.IPv6Network


def source_of(address: IPAddress) -> Source:
    """What counts as one client: an address of IPv4, a /64 of IPv6, which is what one customer has."""
    if address.version == 4:
        return address
    return ipaddress.IPv6Network((int(address) >> 64 << 64, 64))


class Headers(Enum):
    """What becomes of a message whose header lacks what RFC 5322 wants. RFC 6409 section 8."""

    FIX = "fix"
    REFUSE = "refuse"
    LEAVE = "leave"


class LineEnds(Enum):
    """What becomes of a bare CR, a bare LF or a NUL in a message."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


@dataclass(frozen=True, slots=True)
class Peer:
    """A client as far as it is known: its address, the listener it came to, and what it has proved to be.

    `certificates`: the names in its certificate, once OpenSSL has verified it; `login`: as whom it has logged in.
    `known` False: a proxy has not told where the client is, `address` is its own and proves nothing.
    """

    address: IPAddress
    listener: str
    certificates: tuple[str, ...] = ()
    login: str | None = None
    known: bool = True

    @property
    def on_this_machine(self) -> bool:
        """Whether the client itself is where we are, so that nobody in between can listen."""
        return self.known and self.address.is_loopback

    def is_in(self, networks: Iterable[IPNetwork]) -> bool:
        """Whether the client itself is in one of these networks."""
        return self.known and any(self.address in network for network in networks)


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a client may send; None: any amount. Each user, or else each address, has its own."""

    messages_per_minute: int | None = None
    recipients_per_day: int | None = None
    new_recipients_per_day: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether nothing has to be counted."""
        return self.messages_per_minute is self.recipients_per_day is self.new_recipients_per_day is None


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class Grant:
    """One [[client]] of the settings. Whom it is for: everything that is given must be so.

    `users` are logins, `*` every one; `certificates` names in a verified client certificate, `*` every one. Patterns of
    `senders`, `header_from` and `recipients`: an address (its local part without quotes), a domain, `.example.org` for
    all below it, `*`; empty: any. For senders and authors also `{user}` and `{user}@example.org`.
    `headers` and `line_ends` None: as the listener says. `max_message_size` None: as for all.
    """

    name: str
    networks: tuple[IPNetwork, ...] = ()
    users: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    header_from: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    max_message_size: int | None = None
    quota: Quota = NO_QUOTA
    headers: Headers | None = None
    line_ends: LineEnds | None = None

    @property
    def is_for_nobody(self) -> bool:
        """Whether no client fits it: trusted networks that are empty."""
        return not (self.networks or self.users or self.certificates)

    def fits(self, peer: Peer) -> bool:
        """Whether it is for this client."""
        return (
            not self.is_for_nobody
            and (not self.networks or peer.is_in(self.networks))
            and (not self.users or (peer.login is not None and not {ANY, peer.login}.isdisjoint(self.users)))
            and (not self.certificates or _has_one(peer.certificates, self.certificates))
            and (not self.listeners or peer.listener in self.listeners)
        )

    def covers(self, other: Grant) -> bool:
        """Whether it is for every client that `other` is for, so that `other` says nothing after it."""
        return (
            not self.is_for_nobody
            and _covers_networks(self.networks, other.networks)
            and _covers(self.users, other.users)
            and _covers(self.certificates, other.certificates)
            and _covers(self.listeners, other.listeners)
        )

    def size_limit(self, for_all: int) -> int:
        """The largest message, in octets; `for_all` is what holds where the table says nothing."""
        return for_all if self.max_message_size is None else self.max_message_size

    def allows_sender(self, sender: Address | None, login: str | None) -> bool:
        """Whether mail may come from this envelope sender; None is the null sender."""
        return not self.senders or _matches(sender, self.senders, login)

    def allows_author(self, author: Address, login: str | None) -> bool:
        """Whether a From, Sender or Resent-From field of the header may name this address."""
        return not self.header_from or _matches(author, self.header_from, login)

    def allows_recipient(self, recipient: Address) -> bool:
        """Whether mail may go to this address."""
        return not self.recipients or _matches(recipient, self.recipients, None)


def _covers(wide: Collection[str], narrow: Collection[str]) -> bool:
    return not wide or (bool(narrow) and (ANY in wide or set(narrow) <= set(wide)))


def _covers_networks(wide: Collection[IPNetwork], narrow: Collection[IPNetwork]) -> bool:
    return not wide or (bool(narrow) and all(any(_lies_in(one, other) for other in wide) for one in narrow))


def _lies_in(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def _has_one(names: Collection[str], wanted: Collection[str]) -> bool:
    return bool(names) and (ANY in wanted or not set(wanted).isdisjoint(name.lower() for name in names))


def _matches(address: Address | None, patterns: Iterable[str], login: str | None) -> bool:
    if address is None:
        return NULL_SENDER in patterns
    return any(_is_meant(address, pattern, login) for pattern in patterns)


def _is_meant(address: Address, pattern: str, login: str | None) -> bool:
    """Domains compare as A-labels, local parts without their quotes and with regard to case: what differs there may be
    somebody else's. For the same reason a login stands for itself, letter by letter, and for no subaddress.
    """
    if pattern == ANY:
        return True
    if pattern == USER:
        local, _, domain = (login or "").rpartition("@")  # a login that is no address is nobody's
        return bool(local) and local == address.plain_local and _domain_of(domain) == address.domain
    local, at, domain = pattern.rpartition("@")
    if not at:
        return domain == address.domain or (domain.startswith(".") and address.domain.endswith(domain))
    return domain == address.domain and address.plain_local == (login if local == USER else local)


def _domain_of(text: str) -> str | None:
    """As Address.domain has it; None for what is no domain."""
    try:
        return parse_domain(text)
    except AddressError:
        return None


class Clients:
    """All tables, in their order: the first that fits a client holds. What comes last is for all the others."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self.grants = tuple(grants)

    def grant(self, peer: Peer) -> Grant | None:
        """What this client may do; None: it may not send anything."""
        return next((grant for grant in self.grants if grant.fits(peer)), None)

    def certificate_logins(self, peer: Peer) -> tuple[str, ...]:
        """As whom a client may log in by its certificate (EXTERNAL): the names in it that a table asks for.

        That an authority has signed it opens nothing: it may be one of the web's, and sign for everybody.
        """
        return tuple(
            name
            for name in peer.certificates
            if any(_has_one((name,), one.certificates) and one.fits(replace(peer, login=name)) for one in self.grants)
        )

    def size_limit(self, for_all: int) -> int:
        """The largest message that any of them may send, in octets; `for_all` holds where a table says nothing."""
        return max((grant.size_limit(for_all) for grant in self.grants), default=for_all)

    @property
    def have_quotas(self) -> bool:
        """Whether anything has to be counted."""
        return not all(grant.quota.unlimited for grant in self.grants)
