"""Calls one host: at its addresses, over a session that is open or a new one, judges it, and sends if it may.

What a host is asked to prove was settled before (`relay.delivery.attempt`); `policy.verdict` decides whether it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from relay.delivery.logins import without_530
from relay.delivery.opening import ConnectFailed, FailedHandshake, Target, open_session
from relay.delivery.plan import session_key, tls_plan
from relay.delivery.pool import SessionKey
from relay.delivery.racing import Connected, race
from relay.delivery.results import BROKEN_4_4_2, connect_failed, refused
from relay.delivery.sending import Means, Sent, send_message
from relay.delivery.smtp import OpenSession
from relay.delivery.standing import MAX_ADDRESSES, Standing
from relay.delivery.tools import Tools
from relay.events import PolicyOverridden, PolicyTestFailed, TlsLost
from relay.mail.outcome import Cause, Deferred, Failed
from relay.mail.status import Kind
from relay.policy.memory import waits_until
from relay.policy.observed import ObservedSession
from relay.policy.requirement import Rule, Unenforced
from relay.policy.tls_failure import CONSEQUENCES, of_handshake
from relay.policy.verdict import Allow, Evidence, Refuse, Requirement, Verdict, judge


@dataclass(frozen=True, slots=True)
class Call:
    """An address of a host, what a session with it must prove, and what is known of the host."""

    target: Target
    need: Requirement
    evidence: Evidence


class Caller:
    """Calls the hosts of one attempt."""

    def __init__(self, standing: Standing, tools: Tools) -> None:
        self._standing = standing
        self._tools = tools
        self._full = False  # the last session takes no more of the recipients, and another one with this host may

    async def call(self, calls: Sequence[Call]) -> None:
        """An open session with any of them first, then new ones: raced where they ask for the same, else in turn."""
        standing = self._standing
        waiting = [call for call in calls if not await self._reuse(call)]
        while waiting and standing.goes_on:
            need = waiting[0].need
            alike = [call for call in waiting if call.need == need][: MAX_ADDRESSES - standing.addresses]
            ended = await race([call.target for call in alike], standing.source, self._tools.timeouts.connect_seconds)
            for target, failed in ended.failed:
                self._unreached(target, need, failed)
            self._full = False
            if ended.winner is not None:
                winner = ended.winner
                await self._try_address(winner, next(call for call in alike if call.target == winner.target))
            # A host may take so many recipients over one session and no more: then it is called again.
            over = ended.tried[:-1] if self._full else ended.tried
            waiting = [call for call in waiting if call.target not in over]
            standing.addresses += len(ended.tried)

    async def _reuse(self, call: Call) -> bool:
        """Whether a session that was open already has had its say, for all recipients."""
        key = self._key(call.target, call.need)
        self._full = False
        idle = self._tools.pool.take(key) if self._standing.open else None
        if idle is None:
            return False
        verdict = self._judged(idle.observed, call.need)
        if not await self._send_if_allowed(idle, key, call.need, verdict, fresh=False):
            return False
        self._count_once(call, idle, verdict)  # another domain's mail may have gone over it so far
        return not (self._full and self._standing.open)

    async def _try_address(self, connected: Connected, call: Call) -> None:
        need = call.need
        session = await self._open_session(connected, call)
        if session is None:
            return
        verdict = self._judged(session.observed, need)
        try:
            self._count_once(call, session, verdict)
            # It may write to disk, so before the message: nothing must take time between its 250 and our commit.
            await self._remember(session.observed, need, verdict)
            if isinstance(verdict, Refuse) or await self._logged_in(session, need, verdict):
                key = self._key(connected.target, need)
                await self._send_if_allowed(session, key, need, verdict, fresh=True)
        except BaseException:
            session.close()  # nobody else knows of it
            raise

    async def _logged_in(self, session: OpenSession, need: Requirement, allow: Allow) -> bool:
        """Whether the host knows us, where the route asks for that. After a final no, no other host is asked."""
        standing = self._standing
        refused = None if standing.hop is None else await self._tools.logins.log_in(session, standing.hop, allow)
        if refused is None:
            return True
        session.close()
        standing.trail.session(need, session.observed, allow, session.dialogue())
        standing.note(refused)
        later = refused.reply is not None and refused.reply.status.kind is Kind.TEMPORARY  # RFC 4954 §6: 454
        if refused.cause is Cause.LOGIN and not later:
            standing.close_all(refused)
        return False

    def _judged(self, seen: ObservedSession, need: Requirement) -> Verdict:
        return judge(need, seen, self._tools.trust())

    def _key(self, target: Target, need: Requirement) -> SessionKey:
        return session_key(target, need, self._standing.source, self._standing.hop)

    def _count_once(self, call: Call, session: OpenSession, verdict: Verdict) -> None:
        """A session counts for each domain whose mail it carries: each has a policy of its own, or none."""
        domain = call.evidence.domain
        if domain not in session.counted_for and not self._standing.claim.report:
            session.counted_for.add(domain)
            self._count(call, session.observed, verdict)

    def _count(self, call: Call, seen: ObservedSession, verdict: Verdict | None = None) -> None:
        """A session on which STARTTLS is left alone says nothing of the host."""
        if call.need.starttls:
            self._standing.counting.session(call.evidence, seen, verdict, self._tools.trust())

    async def _open_session(self, connected: Connected, call: Call) -> OpenSession | None:
        """A new session, in clear text after a failed handshake only where nothing is required."""
        tools, target, need, source = self._tools, connected.target, call.need, self._standing.source
        plan = tls_plan(need, tools.contexts)
        opened = await open_session(target, plan, source, tools.timeouts, connected.socket)
        if isinstance(opened, FailedHandshake):
            failed, failure = opened, opened.observed.handshake
            if failure is None or not (need.clear_text and CONSEQUENCES[of_handshake(failure)].clear_text):
                self._count(call, failed.observed)
                self._refuse_handshake(failed, need)
                return None
            opened = await open_session(target, None, source, tools.timeouts)
            if isinstance(opened, OpenSession):  # this is why there is no TLS; the two count as one
                opened.observed = replace(opened.observed, handshake=failure)
            else:
                self._count(call, failed.observed)
        match opened:
            case ConnectFailed():
                self._unreached(target, need, opened)
                return None
            case FailedHandshake():
                self._refuse_handshake(opened, need)
                return None
            case OpenSession():
                self._standing.sessions += 1
                return opened
        assert_never(opened)

    def _unreached(self, target: Target, need: Requirement, failed: ConnectFailed) -> None:
        told = connect_failed(failed, target)
        self._standing.trail.no_session(target.host, target.address, need, told, failed.dialogue)
        self._standing.note(told)

    def _refuse_handshake(self, failed: FailedHandshake, need: Requirement) -> None:
        standing = self._standing
        standing.sessions += 1
        verdict = self._judged(failed.observed, need)
        if isinstance(verdict, Refuse):
            standing.trail.session(need, failed.observed, verdict, failed.dialogue)
            standing.note(refused(verdict, need.host))
        else:
            what = f"{need.host} broke off the TLS handshake"
            broken = Deferred(BROKEN_4_4_2, what, need.host, cause=Cause.OUTAGE)
            standing.trail.no_session(need.host, failed.observed.address, need, broken, failed.dialogue)
            standing.note(broken)

    async def _send_if_allowed(
        self, session: OpenSession, key: SessionKey, need: Requirement, verdict: Verdict, *, fresh: bool
    ) -> bool:
        """Send over `session` if the verdict allows it. False: it was an idle one that is gone, or out of date."""
        standing = self._standing
        if isinstance(verdict, Refuse):
            dialogue = session.dialogue()
            await session.quit()
            if fresh:
                standing.trail.session(need, session.observed, verdict, dialogue)
                standing.note(refused(verdict, need.host))
            return fresh
        if verdict.would_refuse is not None:
            self._report(session.observed, verdict, verdict.would_refuse)
        most = self._tools.limits.of(standing.claim.destination).recipients
        means = Means(self._tools.read, self._tools.clock, most, self._tools.sign)
        sent = await send_message(standing.claim, list(standing.open.values()), session, verdict, means)
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
            tools.emit(TlsLost(self._standing.domain, need.host, seen.address, *known, action, until))

    def _report(self, seen: ObservedSession, allow: Allow, refuse: Refuse) -> None:
        """Tell what is published and not enforced: by a policy in testing mode, or under an override."""
        find, domain, now = self._tools.overrides.find, self._standing.domain, self._tools.clock()
        override = find(domain, seen.host, now) or find(domain, seen.address, now)
        if override is not None and allow.unenforced is Unenforced.REPLACED:
            asked = override.level.value
            self._tools.emit(PolicyOverridden(domain, seen.host, asked, override.owner, refuse.reason))
        else:
            self._tools.emit(PolicyTestFailed(domain, seen.host, refuse.reason))

    def _settle(self, sent: Sent, session: OpenSession, need: Requirement, allow: Allow) -> None:
        """Record what the host said of each; a temporary answer leaves a recipient open for the next host."""
        standing = self._standing
        for index, told in sent.told.items():
            outcome = without_530(told.outcome, session.observed, standing.hop)
            if (told.may_go_on or outcome is not told.outcome) and isinstance(outcome, Deferred | Failed):
                standing.note(outcome, index)
            else:
                standing.close(index, outcome)
        standing.trail.session(need, session.observed, allow, () if sent.delivered else session.dialogue())
