"""Where a recipient's mail goes, as one attempt needs it: hosts in order, and the policies that hold for them.

Joins what `lookup` finds with the settings (`[[route]]`, `delivery.next_hop`, `delivery.port`) and turns what DNS says
for sure into an outcome. RFC 5321 section 5.1, RFC 7505.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass, replace
from typing import assert_never

from relay.lookup.destination import find_addresses, find_destination
from relay.lookup.resolver import LookupFailed, NotFound, Resolver
from relay.lookup.sts import StsFinder
from relay.lookup.tlsa import find_tlsa
from relay.mail.outcome import Cause, Deferred, Dropped, Failed
from relay.mail.status import Kind, Status
from relay.policy.mx import Destination, DestinationLookupFailed, MailHosts, MxHost, NoSuchDomain, NullMx, nearer, order
from relay.policy.routing import Direct, Discard, Hop, Place, Reject, Routes, Unknown
from relay.policy.sts import NoSts, StsFound, StsResult
from relay.policy.tlsa import NoTlsa, TlsaResult
from relay.policy.verdict import DNS_UNDECIDED_4_7_5
from relay.setting_types import is_address
from relay.settings import DeliverySettings, HostPort, ListenerTls, Settings

NO_SUCH_DOMAIN_5_1_2 = Status(Kind.PERMANENT, 1, 2)
NULL_MX_5_1_10 = Status(Kind.PERMANENT, 1, 10)
NO_ADDRESS_5_4_4 = Status(Kind.PERMANENT, 4, 4)
LOOP_5_4_6 = Status(Kind.PERMANENT, 4, 6)
REJECTED_5_7_1 = Status(Kind.PERMANENT, 7, 1)
NO_ROUTE_4_3_5 = Status(Kind.TEMPORARY, 3, 5)
DNS_FAILED_4_4_3 = Status(Kind.TEMPORARY, 4, 3)


@dataclass(frozen=True, slots=True)
class Route:
    """The hosts of one destination in the order to try them; `domain` is where its policies are published.

    `hop`: the route of the settings that leads there, when it is not the recipient's own domain.
    """

    domain: str
    hosts: tuple[MxHost, ...]
    port: int
    sts: StsResult
    hop: Hop | None = None


class Router:
    """Finds routes.

    `own_name`: the MX host that would be ourselves. `draw` gives random numbers from 0 to below 1, for hosts of equal
    preference.
    """

    def __init__(
        self,
        resolver: Resolver,
        policies: StsFinder,
        settings: DeliverySettings,
        own_name: str | None,
        draw: Callable[[], float],
        routes: Routes,
    ) -> None:
        self._resolver = resolver
        self._policies = policies
        self._settings = settings
        self._own_name = own_name
        self._draw = draw
        self.routes = routes

    async def find(self, destination: str) -> AsyncGenerator[Route | Deferred | Failed | Dropped, None]:
        """The ways to try for mail to `destination` (as Routes.destination), one after the other, or an outcome.

        More than one only for a route with several hosts. What a later one needs is looked up when it is asked for.
        """
        way = self.routes.way(destination)
        match way:
            case Direct():
                yield await self.direct(destination)
            case Hop():
                for place in way.places:
                    yield await self._by_hop(way, place)
            case Discard(name):
                yield Dropped(f"the route {name} discards it")
            case Reject(name, message):
                yield Failed(REJECTED_5_7_1, f"the route {name} rejects it: {message}")
            case Unknown(name):
                what = f"the route {name} is not in the settings any more: put it there, or send the mail another way"
                yield Deferred(NO_ROUTE_4_3_5, what, cause=Cause.LOCAL)

    async def direct(self, domain: str) -> Route | Deferred | Failed:
        """The way to the mail hosts of `domain` (as Address.domain), or the outcome when DNS says there is none."""
        if domain.startswith("["):
            return _by_address(Place(domain.strip("[]").removeprefix("IPv6:"), self._settings.port))
        return await self._by_mx(domain, self._settings.port)

    async def _by_hop(self, hop: Hop, place: Place) -> Route | Deferred:
        """The way to a host that the operator named, under the policies of its own name."""
        if hop.mx:
            found = await self._by_mx(place.host, place.port)
            if isinstance(found, Failed):
                # The operator's word or the operator's DNS is wrong, not the recipient: no mail is given up for it.
                what = f"the route {hop.name} leads nowhere: {found.reason}"
                return Deferred(found.status.with_kind(Kind.TEMPORARY), what, cause=Cause.DNS)
            return replace(found, hop=hop) if isinstance(found, Route) else found
        if is_address(place.host):
            return _by_address(place, hop)
        return Route(place.host, (MxHost(place.host),), place.port, await self._policies.find(place.host), hop)

    async def _by_mx(self, domain: str, port: int) -> Route | Deferred | Failed:
        async with asyncio.TaskGroup() as group:
            hosts = group.create_task(find_destination(self._resolver, domain))
            policy = group.create_task(self._policies.find(domain))
        return self._from_destination(hosts.result(), policy.result(), port)

    async def renewed(self, route: Route) -> Route | None:
        """The same route under the policy that its policy host has now; None when that is no other.

        RFC 8461 section 5.1. The usual mistake is a policy that was changed without its id.
        """
        found = await self._policies.refresh(route.domain)
        if not isinstance(found, StsFound) or not isinstance(route.sts, StsFound) or found.policy == route.sts.policy:
            return None
        return replace(route, sts=found)

    async def addresses(self, host: MxHost, hop: Hop | None = None) -> MxHost | Deferred | Failed:
        """`host`, to which `hop` leads, with its addresses, or what it means for the message that it has none."""
        if host.addresses:
            return host
        found = await find_addresses(self._resolver, host)
        match found:
            case MxHost():
                return found
            case NotFound() if hop is not None:
                what = f"the host {host.name} of the route {hop.name} has no address"  # see `_by_hop`
                return Deferred(NO_ADDRESS_5_4_4.with_kind(Kind.TEMPORARY), what, host.name, cause=Cause.DNS)
            case NotFound():
                return Failed(NO_ADDRESS_5_4_4, f"the mail host {host.name} has no address", host.name)
            case LookupFailed(reason, bogus):
                status = DNS_UNDECIDED_4_7_5 if bogus else DNS_FAILED_4_4_3
                what = f"the address of the mail host {host.name} is not known: {reason}"
                return Deferred(status, what, host.name, cause=Cause.DNS)
        assert_never(found)

    async def tlsa(self, host: MxHost, route: Route) -> TlsaResult:
        """The DANE records of a host whose addresses were found."""
        if is_address(host.name):
            return NoTlsa("an IP address has no TLSA records")
        named_by_mx = host.name != route.domain
        if named_by_mx and not host.mx_secure and not self._settings.dane_insecure_mx:
            return NoTlsa(f"the MX record that names {host.name} is not signed (delivery.dane_insecure_mx)")
        return await find_tlsa(self._resolver, host, route.port, route.domain)

    def _from_destination(self, destination: Destination, sts: StsResult, port: int) -> Route | Deferred | Failed:
        match destination:
            case MailHosts(domain, hosts):
                own_name = self._own_name if port == self._settings.port else None  # else it is another server
                better = nearer(hosts, own_name)
                if not better:
                    what = (
                        f"the best mail host of {domain} is this server itself, {self._own_name}, and has no mailboxes"
                    )
                    return Failed(LOOP_5_4_6, what)
                return Route(domain, order(better, [self._draw() for _ in better]), port, sts)
            case NullMx(domain):
                return Failed(NULL_MX_5_1_10, f"{domain} takes no mail at all (null MX)")
            case NoSuchDomain(_, reason):
                return Failed(NO_SUCH_DOMAIN_5_1_2, reason)
            case DestinationLookupFailed(domain, reason, bogus):
                status = DNS_UNDECIDED_4_7_5 if bogus else DNS_FAILED_4_4_3
                what = f"the mail hosts of {domain} could not be looked up: {reason}"
                return Deferred(status, what, cause=Cause.DNS)
        assert_never(destination)


def own_mx_name(settings: Settings, hostname: str, inherited: Collection[int] = ()) -> str | None:
    """Our name, if an MX record with it leads to our own listener; another server of this machine may be there.

    `inherited`: the ports of sockets that systemd has opened for us. A mail host is never called with TLS first.
    """
    places = [one.listen for one in settings.listeners if one.tls is not ListenerTls.IMPLICIT]
    ports = {address.port for listen in places for address in listen if isinstance(address, HostPort)}
    return hostname if settings.delivery.port in {*ports, *inherited} else None


def _by_address(place: Place, hop: Hop | None = None) -> Route:
    """An address named outright, by the operator or by an address literal: no DNS, so no published policy."""
    return Route(place.host, (MxHost(place.host, addresses=(place.host,)),), place.port, NoSts(), hop)
