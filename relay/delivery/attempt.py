"""One message to one destination: facts, requirement, session, verdict, and only then the message. Host by host.

It gathers facts and carries out verdicts; `policy.verdict` decides. Every recipient of the claim gets an outcome.
RFC 5321 section 5.1 (hosts in turn), RFC 8461 section 5, RFC 7672 section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from relay.delivery.body import ReadBody
from relay.delivery.evidence import Trail
from relay.delivery.logins import Logins, without_530
from relay.delivery.opening import ConnectFailed, FailedHandshake, Target, open_session
from relay.delivery.plan import session_key, tls_plan, unlisted
from relay.delivery.pool import SessionKey, SessionPool
from relay.delivery.racing import Connected, race
from relay.delivery.results import BROKEN_4_4_2, REFUSED_4_4_4, connect_failed, refused
from relay.delivery.route import Route, Router
from relay.delivery.sending import Means, Sent, send_message
from relay.delivery.smtp import OpenSession
from relay.delivery.transaction import Timeouts
from relay.events import Emit, PolicyOverridden, PolicyTestFailed, TlsLost
from relay.guard import AddressGuard
from relay.lookup.tls_memory import TlsMemories
from relay.mail.message import Claim, Recipient, TlsDemand
from relay.mail.outcome import Cause, Deferred, Dropped, Failed, Outcome
from relay.mail.record import Attempted
from relay.mail.status import Kind
from relay.policy.chain import Roots, Trust
from relay.policy.limits import DestinationLimits
from relay.policy.memory import waits_until
from relay.policy.mx import MxHost, conclude
from relay.policy.observed import ObservedSession
from relay.policy.override import Override, Overrides
from relay.policy.requirement import Rule, Unenforced
from relay.policy.retry import all_missed
from relay.policy.routing import Hop
from relay.policy.source import Sources
from relay.policy.sts import NoSts, StsFound, StsMode
from relay.policy.tls_failure import CONSEQUENCES, of_handshake
from relay.policy.tls_report import Tally
from relay.policy.verdict import (
    NOT_LISTED_4_4_8,
    NOT_VERIFIED_4_7_5,
    TLS_NOT_OFFERED_4_7_4,
    TLS_TOO_OLD_4_7_6,
    Allow,
    Evidence,
    Refuse,
    Requirement,
    Verdict,
    judge,
    require,
)
from relay.tls import ClientContexts

# In one attempt. Far above what honest domains have, since a host that is never reached might be the one that works.
MAX_SESSIONS = 20  # connections that came up
MAX_ADDRESSES = 60  # connections tried

_REFUSALS = (TLS_NOT_OFFERED_4_7_4, NOT_VERIFIED_4_7_5, TLS_TOO_OLD_4_7_6, NOT_LISTED_4_4_8)

Note = tuple[frozenset[int], Deferred | Failed]  # the recipients that it is about, by index
_Call = tuple[Target, Requirement]
Count = Callable[[Sequence[Tally]], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """What every attempt shares."""

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
    count: Count | None = None  # is told what each session is in a TLS report; None: no reports


class Attempt:
    """One attempt under way: which recipients are still open, and what each host said so far."""

    def __init__(self, claim: Claim, tools: Tools) -> None:
        self._claim = claim
        self._tools = tools
        self._open: dict[int, Recipient] = {}
        self._notes: list[Note] = []
        self._outcomes: dict[int, Outcome] = {}
        self._domain = claim.recipients[0].address.domain  # whose overrides hold
        self._source = tools.sources.choose(None if claim.sender is None else claim.sender.domain)
        self._hop: Hop | None = None  # the route that is tried
        self._trail = Trail()
        self._sessions = 0
        self._addresses = 0
        self._full = False  # the last session takes no more of the recipients, and another one with this host may
        # RFC 8689 §5: a bounce is not to be lost for want of REQUIRETLS, only to be sent with it where that is offered.
        bounce = claim.sender is None and claim.demand is TlsDemand.REQUIRED
        self._demand = TlsDemand.DEFAULT if bounce else claim.demand

    async def run(self) -> Attempted:
        """Try the hosts in turn until every recipient has its answer."""
        late = all_missed(self._claim, self._tools.clock())
        if late:
            return Attempted(late, self._trail.record())
        for party in self._parties():
            self._domain = party[0].address.domain
            self._open = {recipient.index: recipient for recipient in party}
            self._sessions = self._addresses = 0
            await self._find_way()
            for index in self._open:
                self._outcomes[index] = conclude([note for indexes, note in self._notes if index in indexes])
        return Attempted(self._outcomes, self._trail.record())

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
        async with aclosing(self._tools.router.find(self._claim.destination)) as ways:
            async for way in ways:
                if isinstance(way, Route):
                    await self._try_route(way)
                elif isinstance(way, Dropped):
                    self._outcomes.update(dict.fromkeys(self._open, way))
                    self._open.clear()
                else:
                    self._note(way)
                if not self._open:
                    break

    async def _try_route(self, route: Route) -> None:
        self._hop = route.hop
        before = len(self._notes)
        await self._walk(route)
        if self._open and self._is_refused_by_policy(route, self._notes[before:]):
            renewed = await self._tools.router.renewed(route)
            if renewed is not None:
                first = self._notes[before:]
                del self._notes[before:]
                await self._walk(renewed)
                if len(self._notes) == before:  # there may have been no room for a second round
                    self._notes += first

    async def _walk(self, route: Route) -> None:
        if not isinstance(route.sts, NoSts):
            self._trail.policy(route.sts, self._tools.clock())
        for host in route.hosts:
            if not self._open or self._sessions >= MAX_SESSIONS or self._addresses >= MAX_ADDRESSES:
                break
            await self._try_host(host, route)

    @staticmethod
    def _is_refused_by_policy(route: Route, notes: Sequence[Note]) -> bool:
        """Whether a host was refused that another MTA-STS policy might allow."""
        if not isinstance(route.sts, StsFound) or route.sts.policy.mode is not StsMode.ENFORCE:
            return False
        return any(note.reply is None and note.status.with_kind(Kind.TEMPORARY) in _REFUSALS for _, note in notes)

    async def _try_host(self, named: MxHost, route: Route) -> None:
        override = self._override(named.name)
        unseen = unlisted(named, route, override)
        if unseen is not None and self._demand is not TlsDemand.WAIVED:
            return self._pass_over(named.name, unseen)
        host = await self._tools.router.addresses(named, route.hop)
        if isinstance(host, Deferred | Failed):
            return self._pass_over(named.name, host)
        addresses = self._allowed_addresses(host)
        if not addresses:
            return None
        tlsa = await self._tools.router.tlsa(host, route)
        self._trail.tlsa(host.name, tlsa)
        remembered = await self._tools.memories.remembered(host.name)
        evidence = Evidence(route.domain, host, tlsa, route.sts, self._demand, override, remembered, route.hop)
        need = require(evidence)
        calls: list[_Call] = []
        for address in addresses:
            special = self._override(host.name, address) if override is None else None
            asked = need if special is None else require(replace(evidence, override=special))
            if isinstance(asked, Requirement):
                calls.append((Target(host.name, address, route.port), asked))
            else:
                self._pass_over(host.name, asked)
                if special is None:
                    break  # it holds for the other addresses too
        return await self._try_addresses(calls)

    async def _try_addresses(self, calls: list[_Call]) -> None:
        """An open session with any of them first, then new ones: raced where they ask for the same, else in turn."""
        for call in tuple(calls):
            if await self._reuse(*call):
                calls.remove(call)
        while calls and self._open and self._sessions < MAX_SESSIONS and self._addresses < MAX_ADDRESSES:
            need = calls[0][1]
            alike = [target for target, asked in calls if asked == need][: MAX_ADDRESSES - self._addresses]
            ended = await race(alike, self._source, self._tools.timeouts.connect_seconds)
            for target, failed in ended.failed:
                self._unreached(target, need, failed)
            self._full = False
            if ended.winner is not None:
                await self._try_address(ended.winner, need)
            # A host may take so many recipients over one session and no more: then it is called again.
            over = ended.tried[:-1] if self._full else ended.tried
            calls = [call for call in calls if call[0] not in over]
            self._addresses += len(ended.tried)

    def _override(self, host: str, address: str | None = None) -> Override | None:
        overrides = self._tools.overrides
        if not overrides.entries:
            return None
        override = overrides.find(self._domain, address or host, self._tools.clock())
        if override is not None:
            self._trail.override(host, override)
        return override

    def _allowed_addresses(self, host: MxHost) -> list[str]:
        addresses = []
        for address in host.addresses:
            refusal = self._tools.guard.refusal(address)
            if refusal is None:
                addresses.append(address)
            else:
                what = f"{host.name} is at {address}: {refusal}"
                self._pass_over(host.name, Deferred(REFUSED_4_4_4, what, host.name, cause=Cause.DNS))
        return addresses

    def _pass_over(self, host: str, why: Refuse | Deferred | Failed) -> None:
        self._trail.not_called(host, why)
        self._note(refused(why, host) if isinstance(why, Refuse) else why)

    async def _reuse(self, target: Target, need: Requirement) -> bool:
        """Whether a session that was open already has had its say, for all recipients."""
        key = session_key(target, need, self._source, self._hop)
        self._full = False
        idle = self._tools.pool.take(key) if self._open else None
        if idle is None or not await self._send_if_allowed(idle, key, need, self._judged(idle, need), fresh=False):
            return False
        return not (self._full and self._open)

    async def _try_address(self, connected: Connected, need: Requirement) -> None:
        key = session_key(connected.target, need, self._source, self._hop)
        session = await self._open_session(connected, need)
        if session is None:
            return
        verdict = self._judged(session, need)
        try:
            # It may write to disk, so before the message: nothing must take time between its 250 and our commit.
            await self._remember(session.observed, need, verdict)
            if isinstance(verdict, Refuse) or await self._logged_in(session, need, verdict):
                await self._send_if_allowed(session, key, need, verdict, fresh=True)
        except BaseException:
            session.close()  # nobody else knows of it
            raise

    async def _logged_in(self, session: OpenSession, need: Requirement, allow: Allow) -> bool:
        """Whether the host knows us, where the route asks for that. After a final no, no other host is asked."""
        refused = None if self._hop is None else await self._tools.logins.log_in(session, self._hop, allow)
        if refused is None:
            return True
        session.close()
        self._trail.session(need, session.observed, allow, session.dialogue())
        self._note(refused)
        later = refused.reply is not None and refused.reply.status.kind is Kind.TEMPORARY  # RFC 4954 §6: 454
        if refused.cause is Cause.LOGIN and not later:
            self._outcomes.update(dict.fromkeys(self._open, refused))
            self._open.clear()
        return False

    def _judged(self, session: OpenSession, need: Requirement) -> Verdict:
        return judge(need, session.observed, self._trust())

    async def _open_session(self, connected: Connected, need: Requirement) -> OpenSession | None:
        """A new session, in clear text after a failed handshake only where nothing is required."""
        tools, target = self._tools, connected.target
        plan = tls_plan(need, tools.contexts)
        opened = await open_session(target, plan, self._source, tools.timeouts, connected.socket)
        if isinstance(opened, FailedHandshake):
            failure = opened.observed.handshake
            if failure is None or not (need.clear_text and CONSEQUENCES[of_handshake(failure)].clear_text):
                self._refuse_handshake(opened, need)
                return None
            opened = await open_session(target, None, self._source, tools.timeouts)
            if isinstance(opened, OpenSession):  # for reports: this is why there is no TLS
                opened.observed = replace(opened.observed, handshake=failure)
        match opened:
            case ConnectFailed():
                self._unreached(target, need, opened)
                return None
            case FailedHandshake():
                self._refuse_handshake(opened, need)
                return None
            case OpenSession():
                self._sessions += 1
                return opened
        assert_never(opened)

    def _unreached(self, target: Target, need: Requirement, failed: ConnectFailed) -> None:
        told = connect_failed(failed, target)
        self._trail.no_session(target.host, target.address, need, told, failed.dialogue)
        self._note(told)

    def _refuse_handshake(self, failed: FailedHandshake, need: Requirement) -> None:
        self._sessions += 1
        verdict = judge(need, failed.observed, self._trust())
        if isinstance(verdict, Refuse):
            self._trail.session(need, failed.observed, verdict, failed.dialogue)
            self._note(refused(verdict, need.host))
        else:
            what = f"{need.host} broke off the TLS handshake"
            broken = Deferred(BROKEN_4_4_2, what, need.host, cause=Cause.OUTAGE)
            self._trail.no_session(need.host, failed.observed.address, need, broken, failed.dialogue)
            self._note(broken)

    async def _send_if_allowed(
        self, session: OpenSession, key: SessionKey, need: Requirement, verdict: Verdict, *, fresh: bool
    ) -> bool:
        """Send over `session` if the verdict allows it. False: it was an idle one that is gone, or out of date."""
        if isinstance(verdict, Refuse):
            dialogue = session.dialogue()
            await session.quit()
            if fresh:
                self._trail.session(need, session.observed, verdict, dialogue)
                self._note(refused(verdict, need.host))
            return fresh
        if verdict.would_refuse is not None:
            self._report(session.observed, verdict, verdict.would_refuse)
        most = self._tools.limits.of(self._claim.destination).recipients
        means = Means(self._tools.read, self._tools.clock, most)
        sent = await send_message(self._claim, list(self._open.values()), session, verdict, means)
        if sent.idled_out and not fresh:
            session.close()
            return False
        self._full = sent.full
        self._settle(sent, session, need, verdict)
        self._tools.pool.give(key, session)
        return True

    async def _remember(self, seen: ObservedSession, need: Requirement, verdict: Verdict) -> None:
        """Note whether the host has TLS, and tell of one that had it and has it no more. RFC 3207 section 6."""
        tools = self._tools
        if not need.starttls:
            return
        by = verdict.proven_by if isinstance(verdict, Allow) else None
        now = tools.clock()
        await tools.memories.note(
            need.host, tls=seen.tls is not None, authenticated_by=by.value if by is not None else None, now=now
        )
        kept_back = isinstance(verdict, Refuse) and verdict.rule is Rule.TLS_MEMORY
        if need.remembered is not None and (kept_back or (isinstance(verdict, Allow) and verdict.lost is not None)):
            memory = need.remembered.memory
            until = waits_until(memory, need.remembered.rules, now) if kept_back else None
            known = (memory.since, memory.last, memory.authenticated_by)
            action = "deferred" if kept_back else "delivered"
            tools.emit(TlsLost(self._domain, need.host, seen.address, *known, action, until))

    def _report(self, seen: ObservedSession, allow: Allow, refuse: Refuse) -> None:
        """Tell what is published and not enforced: by a policy in testing mode, or under an override."""
        find, domain, now = self._tools.overrides.find, self._domain, self._tools.clock()
        override = find(domain, seen.host, now) or find(domain, seen.address, now)
        if override is not None and allow.unenforced is Unenforced.REPLACED:
            asked = override.level.value
            self._tools.emit(PolicyOverridden(domain, seen.host, asked, override.owner, refuse.reason))
        else:
            self._tools.emit(PolicyTestFailed(domain, seen.host, refuse.reason))

    def _settle(self, sent: Sent, session: OpenSession, need: Requirement, allow: Allow) -> None:
        """Record what the host said of each; a temporary answer leaves a recipient open for the next host."""
        for index, told in sent.told.items():
            outcome = without_530(told.outcome, session.observed, self._hop)
            if (told.may_go_on or outcome is not told.outcome) and isinstance(outcome, Deferred | Failed):
                self._note(outcome, index)
            else:
                self._outcomes[index] = outcome
                del self._open[index]
        self._trail.session(need, session.observed, allow, () if sent.delivered else session.dialogue())

    def _note(self, note: Deferred | Failed, index: int | None = None) -> None:
        self._notes.append((frozenset(self._open) if index is None else frozenset({index}), note))

    def _trust(self) -> Trust:
        return Trust(self._tools.roots, self._tools.clock())
