"""One message to one destination: facts, requirement, session, verdict, and only then the message. Host by host.

It gathers facts and carries out verdicts; `policy.verdict` decides. Every recipient of the claim gets an outcome. How
one host is called is `relay.delivery.calling`.
RFC 5321 section 5.1 (hosts in turn), RFC 8461 section 5, RFC 7672 section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from relay.delivery.calling import Call, Caller
from relay.delivery.counting import Counting
from relay.delivery.opening import Target
from relay.delivery.plan import unlisted
from relay.delivery.results import REFUSED_4_4_4
from relay.delivery.route import Route
from relay.delivery.standing import Note, Standing
from relay.delivery.tools import Tools
from relay.mail.message import Claim, Recipient, TlsDemand
from relay.mail.outcome import Cause, Deferred, Dropped, Failed
from relay.mail.record import Attempted
from relay.mail.status import Kind
from relay.policy.mx import MxHost
from relay.policy.override import Override
from relay.policy.retry import all_missed
from relay.policy.routing import Hop
from relay.policy.sts import NoSts, StsFound, StsMode
from relay.policy.tlsa import NoTlsa
from relay.policy.verdict import (
    NOT_LISTED_4_4_8,
    NOT_VERIFIED_4_7_5,
    TLS_NOT_OFFERED_4_7_4,
    TLS_TOO_OLD_4_7_6,
    Evidence,
    Refuse,
    Requirement,
    require,
)

_REFUSALS = (TLS_NOT_OFFERED_4_7_4, NOT_VERIFIED_4_7_5, TLS_TOO_OLD_4_7_6, NOT_LISTED_4_4_8)


class Attempt:
    """One attempt under way."""

    def __init__(self, claim: Claim, tools: Tools) -> None:
        self._claim = claim
        self._tools = tools
        self._standing = Standing(
            claim,
            source=tools.sources.choose(None if claim.sender is None else claim.sender.domain),
            domain=claim.recipients[0].address.domain,
            counting=Counting(None if claim.report else tools.count, tools.emit, tools.public_addresses),
        )
        self._caller = Caller(self._standing, tools)
        # RFC 8689 §5: a bounce is not to be lost for want of REQUIRETLS, only to be sent with it where that is offered.
        bounce = claim.sender is None and claim.demand is TlsDemand.REQUIRED
        self._demand = TlsDemand.DEFAULT if bounce else claim.demand

    async def run(self) -> Attempted:
        """Try the hosts in turn until every recipient has its answer."""
        standing = self._standing
        late = all_missed(self._claim, self._tools.clock())
        if late:
            return Attempted(late, standing.trail.record())
        for party in self._parties():
            standing.begin(party)
            await self._find_way()
            standing.conclude()
        return Attempted(standing.outcomes, standing.trail.record())

    def _parties(self) -> list[list[Recipient]]:
        """The recipients, apart where overrides for their domains differ: a route may take those of many domains."""
        overrides = self._tools.overrides
        if not overrides.entries:
            return [list(self._claim.recipients)]
        now = self._tools.clock()
        parties: dict[Override | None, list[Recipient]] = {}
        for recipient in self._claim.recipients:
            override = overrides.find(recipient.address.domain, "", now)
            parties.setdefault(override, []).append(recipient)
        return list(parties.values())

    async def _find_way(self) -> None:
        standing = self._standing
        tried = 0
        async with aclosing(self._tools.router.find(self._claim.destination)) as ways:
            async for way in ways:
                if isinstance(way, Route):
                    await self._try_route(way)
                elif isinstance(way, Dropped):
                    standing.close_all(way)
                else:
                    standing.counting.not_found(self._domain_of_way(tried), way)
                    standing.note(way)
                tried += 1
                if not standing.open:
                    break

    def _domain_of_way(self, number: int) -> str:
        """Whose mail hosts are asked for: the recipients' domain, or that of a host of the route."""
        way = self._tools.router.routes.way(self._claim.destination)
        return way.places[number].host if isinstance(way, Hop) else self._claim.destination

    async def _try_route(self, route: Route) -> None:
        notes = self._standing.notes
        self._standing.hop = route.hop
        before = len(notes)
        await self._walk(route)
        if self._standing.open and self._is_refused_by_policy(route, notes[before:]):
            renewed = await self._tools.router.renewed(route)
            if renewed is not None:
                first = notes[before:]
                del notes[before:]
                await self._walk(renewed)
                if len(notes) == before:  # there may have been no room for a second round
                    notes += first

    async def _walk(self, route: Route) -> None:
        standing = self._standing
        if not isinstance(route.sts, NoSts):
            standing.trail.policy(route.sts, self._tools.clock())
            standing.counting.policy(route.domain, route.sts)
        for host in route.hosts:
            if not standing.goes_on:
                break
            await self._try_host(host, route)

    @staticmethod
    def _is_refused_by_policy(route: Route, notes: Sequence[Note]) -> bool:
        """Whether a host was refused that another MTA-STS policy might allow."""
        if not isinstance(route.sts, StsFound) or route.sts.policy.mode is not StsMode.ENFORCE:
            return False
        return any(note.reply is None and note.status.with_kind(Kind.TEMPORARY) in _REFUSALS for _, note in notes)

    async def _try_host(self, named: MxHost, route: Route) -> None:
        standing = self._standing
        override = self._override(named.name)
        unseen = unlisted(named, route, override)
        if unseen is not None and self._demand is not TlsDemand.WAIVED:
            unasked = NoTlsa("not asked")
            return self._refuse(Evidence(route.domain, named, unasked, route.sts, self._demand, override), unseen)
        host = await self._tools.router.addresses(named, route.hop)
        if isinstance(host, Deferred | Failed):
            standing.counting.not_found(route.domain, host, named.name)
            return standing.pass_over(named.name, host)
        addresses = self._allowed_addresses(host)
        if not addresses:
            return None
        tlsa = await self._tools.router.tlsa(host, route)
        standing.trail.tlsa(host.name, tlsa)
        remembered = await self._tools.memories.remembered(host.name)
        evidence = Evidence(route.domain, host, tlsa, route.sts, self._demand, override, remembered, route.hop)
        return await self._caller.call(self._calls(evidence, addresses, route.port))

    def _calls(self, evidence: Evidence, addresses: Sequence[str], port: int) -> list[Call]:
        """What is asked at each address: the same, but where an override is for one of them."""
        need = require(evidence)
        calls: list[Call] = []
        for address in addresses:
            special = self._override(evidence.host.name, address) if evidence.override is None else None
            known = evidence if special is None else replace(evidence, override=special)
            asked = need if special is None else require(known)
            if isinstance(asked, Requirement):
                calls.append(Call(Target(evidence.host.name, address, port), asked, known))
            else:
                self._refuse(known, asked)
                if special is None:
                    break  # it holds for the other addresses too
        return calls

    def _override(self, host: str, address: str | None = None) -> Override | None:
        overrides = self._tools.overrides
        if not overrides.entries:
            return None
        override = overrides.find(self._standing.domain, address or host, self._tools.clock())
        if override is not None:
            self._standing.trail.override(host, override)
        return override

    def _allowed_addresses(self, host: MxHost) -> list[str]:
        addresses = []
        for address in host.addresses:
            refusal = self._tools.guard.refusal(address)
            if refusal is None:
                addresses.append(address)
            else:
                what = f"{host.name} is at {address}: {refusal}"
                self._standing.pass_over(host.name, Deferred(REFUSED_4_4_4, what, host.name, cause=Cause.DNS))
        return addresses

    def _refuse(self, evidence: Evidence, why: Refuse) -> None:
        self._standing.counting.refused(evidence, why)
        self._standing.pass_over(evidence.host.name, why)
