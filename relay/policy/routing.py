"""Which way mail goes: over which route, to which hosts, or nowhere. Pure.

The queue groups mail by destination: a domain (as Address.domain) for mail that goes straight to its mail hosts, or
`route:NAME`, which no domain and no address literal can be.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from relay.mail.address import Address, AddressError, parse_domain
from relay.mail.message import Claim, Recipient, TlsDemand
from relay.mail.outcome import Cause, Deferred, Outcome
from relay.policy.cause import cause_of
from relay.policy.override import OverrideLevel, patterns_of
from relay.policy.retry import SettledRecipient, Settlement

PREFIX = "route:"
DIRECT = "direct"  # the mail hosts of the recipient's domain
NEXT_HOP = "next-hop"  # delivery.next_hop
FALLBACK = "fallback"  # delivery.fallback
RESERVED_NAMES = (DIRECT, NEXT_HOP, FALLBACK)
ANY = "*"
NULL_SENDER = "<>"

_PLACE = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})\Z")
# The recipient's policy, this machine, the mailbox itself, a message that may have arrived: another way mends none.
_STAYS = (Cause.TLS_POLICY, Cause.LOCAL, Cause.MAILBOX_FULL, Cause.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Place:
    """A host (name, or address without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Direct:
    """To the mail hosts of the recipient's domain, as DNS names them."""


@dataclass(frozen=True, slots=True)
class Hop:
    """To hosts that the operator named, in this order. `mx`: to the mail hosts of the one name in `places`.

    `tls`: what a session must prove beside what the host's own name publishes; None: no more than that. `fingerprints`
    as of an override. `user`: who logs in there, if anybody does.
    """

    name: str
    places: tuple[Place, ...]
    mx: bool = False
    tls: OverrideLevel | None = None
    fingerprints: tuple[bytes, ...] = ()
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Discard:
    """Nowhere, and nobody is told."""

    name: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Nowhere, and whoever sends it is told `message`."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A route that is not in the settings, any more."""

    name: str


Way = Direct | Hop | Discard | Reject


@dataclass(frozen=True, slots=True)
class Entry:
    """A route of the settings: where mail goes that fits everything it names. One that names nothing fits none.

    Domains are in lower case: whole names, `.example.org` for all below example.org, `*` for all. Among
    `sender_domains`, `<>` is the null sender, which `*` stands for too. `logins` are as clients give them; `*` is every
    client that logged in.
    """

    name: str
    way: Way
    recipient_domains: Collection[str] = ()
    sender_domains: Collection[str] = ()
    logins: Collection[str] = ()

    def fits(self, mail: Mail) -> bool:
        """Whether it takes such mail."""
        if not (self.recipient_domains or self.sender_domains or self.logins):
            return False
        return (
            _holds(self.recipient_domains, mail.recipient)
            and _holds(self.sender_domains, mail.sender)
            and _holds(self.logins, mail.login)
        )


@dataclass(frozen=True, slots=True)
class Mail:
    """What may stand in the lists of a route that takes it."""

    recipient: tuple[str, ...]
    sender: tuple[str, ...]
    login: tuple[str, ...]


class Routes:
    """All routes, in the order of the settings: the first that fits takes the mail. Without one it goes direct.

    `next_hop` takes what no entry does. `fallback` is the route, or the place, that takes mail which could not be
    delivered directly in `fallback_after` attempts.
    """

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        next_hop: Place | None = None,
        fallback: str | Place | None = None,
        fallback_after: int = 3,
    ) -> None:
        self.entries = tuple(entries)
        self._fallback = FALLBACK if isinstance(fallback, Place) else fallback
        self.fallback_after = fallback_after
        self._ways: dict[str, Way] = {entry.name: entry.way for entry in self.entries}
        self._rejects = any(isinstance(entry.way, Reject) for entry in self.entries)
        if next_hop is not None:
            self._ways[NEXT_HOP] = Hop(NEXT_HOP, (next_hop,))
        if isinstance(fallback, Place):
            self._ways[FALLBACK] = Hop(FALLBACK, (fallback,))

    @property
    def hops(self) -> tuple[Hop, ...]:
        """All those that lead to hosts of the operator's naming."""
        return tuple(way for way in self._ways.values() if isinstance(way, Hop))

    def destination(
        self, sender: Address | None, login: str | None, recipient: Address, chosen: str | None = None
    ) -> str:
        """Where the mail goes, for the queue to group by: a domain, or `route:NAME`.

        `chosen` was laid down for this recipient by the operator or by `moved`: the name of a route, `direct`, or
        `host:port`. It counts whatever the settings say.
        """
        if chosen is not None:
            return recipient.domain if chosen == DIRECT else PREFIX + chosen
        name = self._first(sender, login, recipient) if self.entries else NEXT_HOP
        way = self._ways.get(name)
        return recipient.domain if way is None or isinstance(way, Direct) else PREFIX + name

    def _first(self, sender: Address | None, login: str | None, recipient: Address) -> str:
        """The name of the route that takes it; that there is a next hop is another question."""
        mail = Mail(_keys(recipient), _keys(sender), () if login is None else (login, ANY))
        return next((one.name for one in self.entries if one.fits(mail)), NEXT_HOP)

    def way(self, destination: str) -> Way | Unknown:
        """What a destination stands for now."""
        if not destination.startswith(PREFIX):
            return Direct()
        name = destination.removeprefix(PREFIX)
        known = self._ways.get(name)
        if known is not None:
            return known
        place = parse_place(name)
        return Unknown(name) if place is None else Hop(name, (place,))

    def refusal(self, sender: Address | None, login: str | None, recipient: Address) -> str | None:
        """What a client that brings this mail is told, when a route rejects it."""
        if not self._rejects:
            return None
        way = self.way(self.destination(sender, login, recipient))
        return way.message if isinstance(way, Reject) else None

    def moved(self, claim: Claim, recipient: Recipient, outcome: Outcome) -> str | None:
        """The route that takes this recipient from now on, as `destination` has it for `chosen`; None: none other.

        Only mail that failed directly moves, for the time being, and not what waits for the sake of a policy.
        """
        direct = isinstance(self.way(claim.destination), Direct)
        if not direct or not isinstance(outcome, Deferred) or recipient.attempts < self.fallback_after:
            return None
        ours = outcome.reply is None and outcome.status.subject == 7  # a verdict of ours: X.7.X, whatever the cause
        if claim.demand is TlsDemand.REQUIRED or ours or cause_of(outcome) in _STAYS:
            return None
        return self._fallback

    def with_fallback(self, claim: Claim, settlement: Settlement, now: datetime, *, free: bool) -> Settlement:
        """What an attempt came to, but that what moves to the fallback is tried there at once.

        The fallback is no way round what the recipient's domain asks for: nothing moves unless the hosts are known and
        nothing is required of them (`free`: requirement.nothing_required). Else whoever blocks the way to them would
        have the mail go without its policy.
        """
        if not free or self._fallback is None:
            return settlement
        return Settlement(tuple([self._settled(claim, one, now) for one in settlement.recipients]))

    def _settled(self, claim: Claim, one: SettledRecipient, now: datetime) -> SettledRecipient:
        route = self.moved(claim, one.recipient, one.outcome)
        if route is None:
            return one
        rule = f"delivery.fallback_after = {self.fallback_after}: to the route {route}"
        return replace(one, route=route, next_attempt=now, rule=rule)


def parse_place(text: str) -> Place | None:
    """A place from `host:port`, an IPv6 address in brackets; None when it is none."""
    found = _PLACE.match(text.lower())
    if found is None or not 1 <= int(found[3]) <= 65535:
        return None
    host = found[1] if found[1] is not None else found[2].removesuffix(".")
    try:
        return Place(str(ipaddress.ip_address(host)), int(found[3]))
    except ValueError:
        if found[1] is not None or host.rpartition(".")[2].isdigit():  # half an address
            return None
    try:
        return Place(parse_domain(host), int(found[3]))
    except AddressError:
        return None


def _holds(wanted: Collection[str], keys: tuple[str, ...]) -> bool:
    """Whether a list that was given has one of these."""
    if not wanted:
        return True
    for key in keys:  # noqa: SIM110  any() takes twice as long, and this is asked for each recipient and route
        if key in wanted:
            return True
    return False


def keys_of(domain: str) -> tuple[str, ...]:
    """What may stand in a list of domains for this one, or of destinations."""
    return (*patterns_of(domain), ANY)


def _keys(address: Address | None) -> tuple[str, ...]:
    """What may stand in a list for this address."""
    return (NULL_SENDER, ANY) if address is None else keys_of(address.domain)
