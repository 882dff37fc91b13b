"""What is known of the way to one domain, and what follows from it: the values behind `relay explain`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.policy.mx import MxHost
from relay.policy.observed import ObservedSession
from relay.policy.sts import StsResult
from relay.policy.tlsa import TlsaResult
from relay.policy.verdict import Refuse, Requirement, Verdict


@dataclass(frozen=True, slots=True)
class SessionExplained:
    """One address that was called. Either a session was `seen` and judged, or there is a `problem`."""

    address: str
    seen: ObservedSession | None = None
    verdict: Verdict | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class HostExplained:
    """One mail host, in the order of trying. `need`: what a session must prove, or why the host is not even tried."""

    host: MxHost
    problem: str | None = None  # it has no address that can be used
    tlsa: TlsaResult | None = None
    need: Requirement | Refuse | None = None
    sessions: tuple[SessionExplained, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole way. `problem`: mail for the domain goes nowhere, and why. `resolver`: whether DNSSEC is believed."""

    domain: str
    now: datetime
    resolver: str
    sts: StsResult
    problem: str | None = None
    hosts: tuple[HostExplained, ...] = ()
    connected: bool = False  # hosts that may have mail were called
