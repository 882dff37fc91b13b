"""What is known of the way to one domain, and what follows from it: the values behind `relay explain`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.mail.address import Address
from relay.policy.memory import TlsMemory
from relay.policy.mx import MxHost
from relay.policy.observed import ObservedSession, TlsSeen
from relay.policy.override import Override
from relay.policy.sts import StsResult
from relay.policy.tlsa import TlsaResult
from relay.policy.verdict import Refuse, Requirement, Verdict


@dataclass(frozen=True, slots=True)
class SessionExplained:
    """One address that was called. Either a session was `seen` and judged, or there is a `problem`.

    `override`: one for this address; where it refuses before a session, there is a verdict alone.
    `ehlo` are the keywords of the last EHLO, `proof` which record, name or fingerprint matched. `shown`: what a host
    whose certificate was not accepted shows to those who do not ask.
    """

    address: str
    seen: ObservedSession | None = None
    verdict: Verdict | None = None
    problem: str | None = None
    ehlo: tuple[str, ...] = ()
    proof: str | None = None
    shown: TlsSeen | None = None
    override: Override | None = None


@dataclass(frozen=True, slots=True)
class HostExplained:
    """One mail host, in the order of trying. `need`: what a session must prove, or why the host is not even tried."""

    host: MxHost
    problem: str | None = None  # it has no address that can be used
    tlsa: TlsaResult | None = None
    need: Requirement | Refuse | None = None
    override: Override | None = None
    memory: TlsMemory | None = None
    sessions: tuple[SessionExplained, ...] = ()


@dataclass(frozen=True, slots=True)
class StsExplained:
    """The MTA-STS policy that holds. `fetched_now`: not from the cache. `last_failure`: of the last fetch, and when."""

    found: StsResult
    fetched_now: bool = False
    last_failure: tuple[datetime, str] | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """The mail that is asked about. `sender` is None for the null sender."""

    recipient: Address
    sender: Address | None = None
    login: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole way. `problem`: mail for the domain goes nowhere, and why.

    `dnssec` says whether the resolver's word is believed; `dnssec_reason` why. `policy_domain` is where policies are
    published: the domain, or a host that the settings name. `route`: the route that takes the mail, in words; `more`:
    its further hosts, which are tried in their order when the one before did not take the mail.
    """

    domain: str
    now: datetime
    dnssec: bool
    dnssec_reason: str
    policy_domain: str
    sts: StsExplained
    problem: str | None = None
    hosts: tuple[HostExplained, ...] = ()
    port: int = 25
    connected: bool = False  # hosts that may have mail were called
    route: str | None = None
    more: tuple[Explanation, ...] = ()
