"""One message to one destination: facts, requirement, session, verdict, and only then the message. Host by host.

It gathers facts and carries out verdicts; `policy.verdict` decides. Every recipient of the claim gets an outcome.
RFC 5321 section 5.1 (hosts in turn), RFC 8461 section 5, RFC 7672 section 2.2.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from relay.delivery.pool import SessionKey, SessionPool
from relay.delivery.route import Route, Router
from relay.delivery.smtp import (
    ConnectFailed,
    FailedHandshake,
    Lost,
    MailOptions,
    OpenSession,
    Stage,
    Target,
    Timeouts,
    TlsPlan,
    open_session,
)
from relay.events import Emit, PolicyOverridden, PolicyTestFailed
from relay.guard import AddressGuard
from relay.mail.message import Body, Claim, Recipient, SmtpUtf8, TlsDemand
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, TlsUsed
from relay.mail.record import Attempted, AttemptRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.chain import Roots, Trust
from relay.policy.mx import MxHost, conclude
from relay.policy.observed import TlsVersion
from relay.policy.override import OverrideMode, Overrides
from relay.policy.sts import StsFound, StsMode, StsResult
from relay.policy.tls_failure import CONSEQUENCES, of_handshake
from relay.policy.tlsa import NoTlsa
from relay.policy.verdict import (
    NOT_LISTED_4_4_8,
    NOT_VERIFIED_4_7_5,
    TLS_NOT_OFFERED_4_7_4,
    TLS_TOO_OLD_4_7_6,
    Allow,
    Evidence,
    Refuse,
    Requirement,
    judge,
    require,
)
from relay.tls import ClientContexts

# In one attempt. Far above what honest domains have, since a host that is never reached might be the one that works.
MAX_SESSIONS = 20  # connections that came up
MAX_ADDRESSES = 60  # connections tried

_REFUSALS = (TLS_NOT_OFFERED_4_7_4, NOT_VERIFIED_4_7_5, TLS_TOO_OLD_4_7_6, NOT_LISTED_4_4_8)
SHORTAGE_4_3_0 = Status(Kind.TEMPORARY, 3, 0)
CONNECT_4_4_1 = Status(Kind.TEMPORARY, 4, 1)
BROKEN_4_4_2 = Status(Kind.TEMPORARY, 4, 2)
REFUSED_4_4_4 = Status(Kind.TEMPORARY, 4, 4)
TOO_LARGE_5_3_4 = Status(Kind.PERMANENT, 3, 4)
EIGHT_BIT_5_6_3 = Status(Kind.PERMANENT, 6, 3)
SMTPUTF8_5_6_7 = Status(Kind.PERMANENT, 6, 7)


@dataclass(frozen=True, slots=True)
class Tools:
    """What every attempt shares."""

    router: Router
    guard: AddressGuard
    contexts: ClientContexts
    roots: Roots
    pool: SessionPool
    hostname: str
    read: Callable[[Body], AsyncGenerator[bytes, None]]
    clock: Callable[[], datetime]
    emit: Emit
    timeouts: Timeouts = field(default_factory=Timeouts)
    overrides: Overrides = field(default_factory=Overrides)


class Attempt:
    """One attempt under way: which recipients are still open, and what each host said so far."""

    def __init__(self, claim: Claim, tools: Tools) -> None:
        self._claim = claim
        self._tools = tools
        self._open: dict[int, Recipient] = {recipient.index: recipient for recipient in claim.recipients}
        self._notes: list[tuple[frozenset[int], Deferred | Failed]] = []
        self._outcomes: dict[int, Outcome] = {}
        self._sessions = 0
        self._addresses = 0
        # RFC 8689 §5: a bounce is not to be lost for want of REQUIRETLS, only to be sent with it where that is offered.
        bounce = claim.sender is None and claim.demand is TlsDemand.REQUIRED
        self._demand = TlsDemand.DEFAULT if bounce else claim.demand

    async def run(self) -> Attempted:
        """Try the hosts in turn until every recipient has its answer. Returns an outcome for each, by index."""
        route = await self._tools.router.route(self._claim.domain)
        if not isinstance(route, Route):
            return Attempted(dict.fromkeys(self._open, route), AttemptRecord())
        await self._walk(route)
        if self._open and self._is_refused_by_policy(route):
            renewed = await self._tools.router.renewed(route)
            if renewed is not None:
                first, self._notes = self._notes, []
                await self._walk(renewed)
                self._notes = self._notes or first  # there may have been no room for a second round
        for index in self._open:
            self._outcomes[index] = conclude([note for indexes, note in self._notes if index in indexes])
        return Attempted(self._outcomes, AttemptRecord())

    async def _walk(self, route: Route) -> None:
        for host in route.hosts:
            if not self._open or self._sessions >= MAX_SESSIONS or self._addresses >= MAX_ADDRESSES:
                break
            await self._try_host(host, route)

    def _is_refused_by_policy(self, route: Route) -> bool:
        """Whether a host was refused that another MTA-STS policy might allow."""
        if not isinstance(route.sts, StsFound) or route.sts.policy.mode is not StsMode.ENFORCE:
            return False
        return any(note.reply is None and note.status.with_kind(Kind.TEMPORARY) in _REFUSALS for _, note in self._notes)

    async def _try_host(self, named: MxHost, route: Route) -> None:
        override = self._tools.overrides.find(self._claim.domain, named.name, self._tools.clock())
        if isinstance(route.sts, StsFound) and (override is None or override.mode is OverrideMode.RAISE):
            # Before its addresses are known: a host that the policy does not list must not become a bounce without one.
            unseen = require(Evidence(route.domain, named, NoTlsa("not asked"), route.sts, self._demand))
            if isinstance(unseen, Refuse):
                return self._note(_refused(unseen, named.name))
        host = await self._tools.router.addresses(named)
        if isinstance(host, Deferred | Failed):
            return self._note(host)
        addresses = []
        for address in host.addresses:
            refusal = self._tools.guard.refusal(address)
            if refusal is None:
                addresses.append(address)
            else:
                self._note(Deferred(REFUSED_4_4_4, f"{host.name} is at {address}: {refusal}", host.name))
        if not addresses:
            return None
        tlsa = await self._tools.router.tlsa(host, route)
        evidence = Evidence(route.domain, host, tlsa, route.sts, self._demand, override)
        need = require(evidence)
        if isinstance(need, Refuse):
            return self._note(_refused(need, host.name))
        for address in addresses:
            if not self._open or self._sessions >= MAX_SESSIONS or self._addresses >= MAX_ADDRESSES:
                break
            await self._try_address(Target(host.name, address, route.port), need, route.sts)
        return None

    async def _try_address(self, target: Target, need: Requirement, sts: StsResult) -> None:
        key = _session_key(target, need)
        idle = self._tools.pool.take(key)
        if idle is not None and await self._judge_and_send(idle, key, need, fresh=False):
            return
        session = await self._open_session(target, need)
        if isinstance(session, Deferred | Failed):
            self._note(session)
        elif self._open:
            await self._judge_and_send(session, key, need, fresh=True)

    async def _open_session(self, target: Target, need: Requirement) -> OpenSession | Deferred | Failed:
        """A new session, in clear text after a failed handshake only where nothing is required."""
        tools = self._tools
        self._addresses += 1
        opened = await open_session(target, tls_plan(need, tools.contexts), tools.hostname, tools.timeouts)
        if isinstance(opened, FailedHandshake):
            failure = opened.observed.handshake
            if failure is None or not (need.clear_text and CONSEQUENCES[of_handshake(failure)].clear_text):
                return self._handshake_verdict(opened, need)
            opened = await open_session(target, None, tools.hostname, tools.timeouts)
            if isinstance(opened, OpenSession):  # for reports: this is why there is no TLS
                opened.observed = replace(opened.observed, handshake=failure)
        match opened:
            case ConnectFailed():
                return connect_failed(opened, target)
            case FailedHandshake():
                return self._handshake_verdict(opened, need)
            case OpenSession():
                self._sessions += 1
                return opened
        assert_never(opened)

    def _handshake_verdict(self, failed: FailedHandshake, need: Requirement) -> Deferred | Failed:
        self._sessions += 1
        verdict = judge(need, failed.observed, self._trust())
        if isinstance(verdict, Refuse):
            return _refused(verdict, need.host)
        return Deferred(BROKEN_4_4_2, f"{need.host} broke off the TLS handshake", need.host)

    async def _judge_and_send(self, session: OpenSession, key: SessionKey, need: Requirement, fresh: bool) -> bool:
        """Send over `session` if the verdict allows it. False: it was an idle one that is gone, or out of date."""
        verdict = judge(need, session.observed, self._trust())
        if isinstance(verdict, Refuse):
            await session.quit()
            if fresh:
                self._note(_refused(verdict, need.host))
            return fresh
        if verdict.would_refuse is not None:
            self._report(need, verdict.would_refuse)
        unfit = _unfit(self._claim, session, need.host)
        if unfit is not None:
            self._note(unfit)
            await self._put_back(key, session)
            return True
        return await self._send(session, key, verdict, fresh)

    def _report(self, need: Requirement, refuse: Refuse) -> None:
        override = self._tools.overrides.find(self._claim.domain, need.host, self._tools.clock())
        if override is None or override.mode is OverrideMode.RAISE:
            self._tools.emit(PolicyTestFailed(self._claim.domain, need.host, refuse.reason))
        else:
            self._tools.emit(
                PolicyOverridden(self._claim.domain, need.host, override.level.value, override.owner, refuse.reason)
            )

    async def _send(self, session: OpenSession, key: SessionKey, allow: Allow, fresh: bool) -> bool:
        claim = self._claim
        recipients = list(self._open.values())
        sender = claim.sender.wire if claim.sender is not None else b""
        options = MailOptions(
            size=claim.body.size,
            eight_bit=claim.eight_bit,
            smtputf8=claim.smtputf8 is not SmtpUtf8.UNASKED and session.capabilities.smtputf8,
            requiretls=claim.demand is TlsDemand.REQUIRED and session.observed.requiretls_offered,
        )
        wires = [recipient.address.wire for recipient in recipients]
        async with aclosing(self._tools.read(claim.body)) as body:
            results = await session.send(sender, wires, body, options, allow)
        if not fresh and all(map(_idled_out, results)):
            return False
        for recipient, result in zip(recipients, _without_552(results), strict=True):
            self._settle(recipient, result, session.observed.host, allow.tls)
        await self._put_back(key, session)
        return True

    async def _put_back(self, key: SessionKey, session: OpenSession) -> None:
        if session.reusable():
            self._tools.pool.give(key, session)
        else:
            session.close()

    def _settle(self, recipient: Recipient, result: Reply | Lost, host: str, tls: TlsUsed) -> None:
        """Record what the host said of one recipient; a temporary answer leaves it open for the next host."""
        index = recipient.index
        match result:
            case Reply(status=status) if status.kind is Kind.SUCCESS:
                self._close(index, Delivered(status, result, host, tls))
            case Reply(status=status) if status.kind is Kind.PERMANENT:
                self._close(index, Failed(status, f"{host} refused the message for good", host, result, tls))
            case Reply(status=status):
                self._note(Deferred(status, f"{host} asks us to come again later", host, result, tls), index)
            case Lost():
                lost = Deferred(BROKEN_4_4_2, f"{host} {result.reason}", host, tls=tls)
                # RFC 5321 §4.2.5: after the final dot the outcome is unknown; another host now could mean a double.
                if result.after_final_dot:
                    self._close(index, lost)
                else:
                    self._note(lost, index)

    def _close(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        del self._open[index]

    def _note(self, note: Deferred | Failed, index: int | None = None) -> None:
        self._notes.append((frozenset(self._open) if index is None else frozenset({index}), note))

    def _trust(self) -> Trust:
        return Trust(self._tools.roots, self._tools.clock())


def _idled_out(result: Reply | Lost) -> bool:
    """Whether a session that was kept says in this way that it had ended before the message."""
    return result.code == 421 if isinstance(result, Reply) else not result.after_final_dot


def _without_552(results: Sequence[Reply | Lost]) -> list[Reply | Lost]:
    """RFC 5321 section 4.5.3.1.10: 552 to some of the recipients means that so many were too many: 452.

    Not so a full mailbox (5.2.2), a message too large (5.3.4), or a 552 to all, which is about the message.
    """
    too_many = [
        isinstance(one, Reply) and one.code == 552 and (one.status.subject, one.status.detail) in ((0, 0), (5, 3))
        for one in results
    ]
    if not any(too_many) or all(too_many):
        return list(results)
    return [
        Reply.of(452, one.lines) if refused and isinstance(one, Reply) else one
        for one, refused in zip(results, too_many, strict=True)
    ]


def _session_key(target: Target, need: Requirement) -> SessionKey:
    """Sessions are shared only between messages that ask the handshake for the same thing; each is judged anew."""
    proofs = [",".join(identity.names) for identity in need.identities]
    asked = f"{need.level.name} {need.sni} {' '.join(proofs)} {need.minimum.name} {need.starttls}"
    return SessionKey(target.host, target.address, target.port, asked)


def tls_plan(need: Requirement, contexts: ClientContexts) -> TlsPlan | None:
    """Where the web PKI is required OpenSSL verifies in the handshake; otherwise the chain is judged afterwards.

    None: STARTTLS is to be left alone.
    """
    if not need.starttls:
        return None
    if not need.identities:
        context = contexts.opportunistic if need.minimum < TlsVersion.TLS_1_2 else contexts.required
        return TlsPlan(context, need.sni, path_verified=False)
    is_sni = any(identity.names == (need.sni,) for identity in need.identities)
    context = contexts.webpki if is_sni else contexts.webpki_other_name
    return TlsPlan(context, need.sni, path_verified=True)


def _refused(refuse: Refuse, host: str) -> Deferred | Failed:
    if refuse.status.kind is Kind.PERMANENT:
        return Failed(refuse.status, refuse.reason, host)
    return Deferred(refuse.status, refuse.reason, host)


def connect_failed(failed: ConnectFailed, target: Target) -> Deferred:
    """A host that can't be reached, or says no before it has heard of a recipient: no verdict on the recipient."""
    where = target.host if target.host == target.address else f"{target.host} [{target.address}]"
    if failed.reply is not None:
        status = failed.reply.status.with_kind(Kind.TEMPORARY)
        return Deferred(status, f"{where}: {failed.reason}", target.host, failed.reply)
    if failed.ours:
        return Deferred(SHORTAGE_4_3_0, f"this machine could not connect to {where}: {failed.reason}")
    status = CONNECT_4_4_1 if failed.stage is Stage.CONNECT else BROKEN_4_4_2
    return Deferred(status, f"{where}: {failed.reason}", target.host)


def _unfit(claim: Claim, session: OpenSession, host: str) -> Failed | None:
    """What this message needs and this host lacks; another host may have it."""
    can = session.capabilities
    if can.size and claim.body.size > can.size:
        return Failed(TOO_LARGE_5_3_4, f"the message has {claim.body.size} octets and {host} takes {can.size}", host)
    if claim.smtputf8 is SmtpUtf8.NEEDED and not can.smtputf8:
        return Failed(SMTPUTF8_5_6_7, f"the message needs SMTPUTF8, which {host} does not offer", host)
    if claim.eight_bit and not can.eight_bit_mime:
        return Failed(EIGHT_BIT_5_6_3, f"the message has 8-bit octets and {host} does not offer 8BITMIME", host)
    return None
