"""The walk of an attempt without a message: the same lookups, requirements, sessions and verdicts, and nothing is sent.

What an attempt would do with what is found is `relay.delivery.attempt`; this only tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from relay.delivery.opening import ConnectFailed, FailedHandshake, Target, TlsPlan, open_session
from relay.delivery.plan import tls_plan, unlisted
from relay.delivery.results import connect_failed
from relay.delivery.route import Route, Router
from relay.delivery.smtp import OpenSession
from relay.delivery.transaction import Timeouts
from relay.guard import AddressGuard
from relay.lookup.tls_memory import TlsMemories
from relay.mail.outcome import Deferred, Failed
from relay.policy import words
from relay.policy.chain import Roots, Trust
from relay.policy.explanation import HostExplained, SessionExplained
from relay.policy.mx import MxHost
from relay.policy.observed import HandshakeProblem, TlsSeen
from relay.policy.override import Overrides
from relay.policy.source import Source
from relay.policy.verdict import Evidence, Requirement, judge, require
from relay.tls import ClientContexts


@dataclass(frozen=True, slots=True)
class Means:
    """What the walk needs: those of an attempt that have nothing to do with a message."""

    router: Router
    guard: AddressGuard
    contexts: ClientContexts
    roots: Roots
    source: Source
    clock: Callable[[], datetime]
    timeouts: Timeouts
    overrides: Overrides
    memories: TlsMemories


async def explain_host(domain: str, named: MxHost, route: Route, means: Means, connect: bool) -> HostExplained:
    """What is known of one host of the route for mail to `domain`. `connect`: call it, and hang up before MAIL."""
    override = means.overrides.find(domain, named.name, means.clock())
    unseen = unlisted(named, route, override)
    host = await means.router.addresses(named, route.hop)
    if isinstance(host, Deferred | Failed):
        return HostExplained(named, host.reason, need=unseen, override=override)
    tlsa = await means.router.tlsa(host, route)
    remembered = await means.memories.remembered(host.name)
    memory = None if remembered is None else remembered.memory
    evidence = Evidence(route.domain, host, tlsa, route.sts, override=override, remembered=remembered, hop=route.hop)
    need = unseen or require(evidence)
    sessions: list[SessionExplained] = []
    for address in host.addresses if connect and unseen is None else ():
        special = means.overrides.find(domain, address, means.clock()) if override is None else None
        asked = need if special is None else require(replace(evidence, override=special))
        if isinstance(asked, Requirement):
            called = await _call(Target(host.name, address, route.port), asked, means)
            sessions.append(replace(called, override=special))
        elif special is not None:
            sessions.append(SessionExplained(address, verdict=asked, override=special))
    return HostExplained(host, None, tlsa, need, override, memory, tuple(sessions))


async def _call(target: Target, need: Requirement, means: Means) -> SessionExplained:
    refusal = means.guard.refusal(target.address)
    if refusal is not None:
        return SessionExplained(target.address, problem=refusal)
    opened = await open_session(target, tls_plan(need, means.contexts), means.source, means.timeouts)
    if isinstance(opened, ConnectFailed):
        return SessionExplained(target.address, problem=connect_failed(opened, target).reason)
    trust = Trust(means.roots, means.clock())
    verdict = judge(need, opened.observed, trust)
    if isinstance(opened, FailedHandshake):
        return SessionExplained(
            target.address, opened.observed, verdict, shown=await _shown(opened, target, need, means)
        )
    await opened.quit()
    proof = words.of_proof(need, opened.observed, verdict, trust)
    return SessionExplained(target.address, opened.observed, verdict, None, opened.capabilities.keywords, proof)


async def _shown(failed: FailedHandshake, target: Target, need: Requirement, means: Means) -> TlsSeen | None:
    """The certificate for the sake of which OpenSSL broke the handshake off: it is what the reader wants to see."""
    handshake = failed.observed.handshake
    if handshake is None or handshake.problem is not HandshakeProblem.CERTIFICATE:
        return None
    plan = TlsPlan(means.contexts.required, need.sni, path_verified=False)
    opened = await open_session(target, plan, means.source, means.timeouts)
    if not isinstance(opened, OpenSession):
        return None
    await opened.quit()
    return opened.observed.tls
