"""The walk of an attempt without a message: the same lookups, requirements, sessions and verdicts, and nothing is sent.

What an attempt would do with what is found is `relay.delivery.attempt`; this only tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from relay.delivery.plan import tls_plan
from relay.delivery.results import connect_failed
from relay.delivery.route import Route, Router
from relay.delivery.smtp import ConnectFailed, FailedHandshake, Target, Timeouts, open_session
from relay.guard import AddressGuard
from relay.mail.outcome import Deferred, Failed
from relay.policy.chain import Roots, Trust
from relay.policy.explanation import HostExplained, SessionExplained
from relay.policy.mx import MxHost
from relay.policy.tlsa import NoTlsa
from relay.policy.verdict import Evidence, Refuse, Requirement, judge, require
from relay.tls import ClientContexts


@dataclass(frozen=True, slots=True)
class Means:
    """What the walk needs: those of an attempt that have nothing to do with a message."""

    router: Router
    guard: AddressGuard
    contexts: ClientContexts
    roots: Roots
    hostname: str
    clock: Callable[[], datetime]
    timeouts: Timeouts


async def explain_host(named: MxHost, route: Route, means: Means, connect: bool) -> HostExplained:
    """What is known of one host of a route. `connect`: also call its addresses, and hang up before MAIL."""
    host = await means.router.addresses(named)
    if isinstance(host, Deferred | Failed):
        unseen = require(Evidence(route.domain, named, NoTlsa("not asked"), route.sts))
        return HostExplained(named, host.reason, need=unseen if isinstance(unseen, Refuse) else None)
    tlsa = await means.router.tlsa(host, route)
    need = require(Evidence(route.domain, host, tlsa, route.sts))
    sessions: list[SessionExplained] = []
    if connect and isinstance(need, Requirement):
        sessions = [await _call(Target(host.name, address, route.port), need, means) for address in host.addresses]
    return HostExplained(host, tlsa=tlsa, need=need, sessions=tuple(sessions))


async def _call(target: Target, need: Requirement, means: Means) -> SessionExplained:
    refusal = means.guard.refusal(target.address)
    if refusal is not None:
        return SessionExplained(target.address, problem=refusal)
    opened = await open_session(target, tls_plan(need, means.contexts), means.hostname, means.timeouts)
    if isinstance(opened, ConnectFailed):
        return SessionExplained(target.address, problem=connect_failed(opened, target).reason)
    verdict = judge(need, opened.observed, Trust(means.roots, means.clock()))
    if not isinstance(opened, FailedHandshake):
        await opened.quit()
    return SessionExplained(target.address, opened.observed, verdict)
