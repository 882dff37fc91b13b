"""A small internet on loopback for one attempt: the lab's DNS, policy host and mail hosts, and the tools to reach them.

Mail hosts share one port, as they do on the Internet, and differ by address: 127.2.0.1, 127.2.0.2 and so on.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relay.delivery.attempt import Attempt
from relay.delivery.credentials import Login
from relay.delivery.logins import Logins
from relay.delivery.pool import SessionPool
from relay.delivery.route import Router
from relay.delivery.tools import Tools
from relay.delivery.transaction import Timeouts
from relay.events import Event
from relay.guard import AddressGuard
from relay.lab.certs import Issued, LabCa, Leaf, tlsa_data
from relay.lab.sink import Sink, SinkScript
from relay.lab.site import SitePage, StsSite
from relay.lab.zones import Security, Zone, Zones
from relay.lookup.resolver import Resolver
from relay.lookup.sts import StsFinder
from relay.lookup.sts_cache import StsCache
from relay.lookup.sts_fetch import PolicyFetcher
from relay.lookup.tls_memory import TlsMemories
from relay.mail.address import parse_address
from relay.mail.message import Claim, InlineBody, MessageId, Recipient, SmtpUtf8, TlsDemand
from relay.mail.outcome import Delivered, Failed, Outcome
from relay.policy.chain import Roots
from relay.policy.memory import MemoryRules, OnTlsLoss
from relay.policy.override import Overrides
from relay.policy.routing import Routes
from relay.policy.source import Source, Sources
from relay.policy.sts import StsMode
from relay.queue.bodies import Bodies
from relay.settings import DeliverySettings, DnsSettings, Settings, TrustAd
from relay.tls import ClientContexts, https_context

NOW = datetime.now(UTC)  # the real time: OpenSSL looks at its own clock when it verifies a chain
CA = LabCa.make(NOW)
CONTEXTS = ClientContexts(CA.pem)
ROOTS = Roots(CA.pem)
POLICIES = https_context(CA.pem)
TEXT = b"Subject: x\r\n\r\n.one dot\r\n"
DOWN = None  # in place of a script: nobody listens at that host's address
IPV6 = "::1"
OWN_NAME = "relay.example.test"  # the MX host that would be ourselves


def make_claim(
    *recipients: str,
    body: bytes = TEXT,
    sender: str | None = "from@sender.test",
    eight_bit: bool = False,
    smtputf8: SmtpUtf8 = SmtpUtf8.UNASKED,
    demand: TlsDemand = TlsDemand.DEFAULT,
) -> Claim:
    addresses = [parse_address(recipient.encode()) for recipient in recipients]
    return Claim(
        id=MessageId(1),
        sender=None if sender is None else parse_address(sender.encode()),
        destination=addresses[0].domain,
        recipients=tuple(Recipient(index, address, 1) for index, address in enumerate(addresses)),
        body=InlineBody(body),
        arrived=NOW,
        lease=1,
        lease_until=NOW + timedelta(minutes=30),
        eight_bit=eight_bit,
        smtputf8=smtputf8,
        demand=demand,
    )


def in_words(outcome: Outcome) -> str:
    """Such as `delivered 2.0.0 mx1.a.test verified`: state, status, host, and how the session was protected."""
    state = "delivered" if isinstance(outcome, Delivered) else "failed" if isinstance(outcome, Failed) else "deferred"
    return f"{state} {outcome.status} {outcome.host} {outcome.tls.value}"


@dataclass
class World:
    """What was built. `publish` and `domain` add to it; `attempt` makes one attempt in it."""

    zones: Zones
    site: StsSite
    resolver: Resolver
    tools: Tools
    port: int
    events: list[Event]
    memories: TlsMemories
    sinks: list[Sink] = field(default_factory=list)
    issued: dict[str, Issued] = field(default_factory=dict)  # by host name
    policies_since: timedelta = timedelta(0)  # how long ago, for those who keep policies, it was NOW

    def publish(self, name: str, records: str, security: Security = Security.UNSIGNED, ttl: int = 5) -> None:
        self.zones.set(name, Zone(records, security, ttl))

    async def domain(
        self,
        name: str,
        *scripts: SinkScript | None,
        leaf: Leaf | None = None,
        newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        sts: StsMode | None = None,
        sts_mx: str | None = None,
        dane: bool = False,
        ttl: int = 5,
        leaves: Mapping[int, Leaf] | None = None,
    ) -> list[Sink]:
        """A domain with a host for each script, mx1, mx2 and so on, in this order of preference.

        `leaf`: the hosts have certificates of this kind, but for those numbers that `leaves` names. `sts`: the domain
        has a policy that lists `sts_mx`, or all of its hosts. `dane`: the domain is signed and has a TLSA record for
        each host.
        """
        made: list[Sink] = []
        records = []
        for number, script in enumerate(scripts, 1):
            label, host = f"mx{number}", f"mx{number}.{name}"
            if leaf is not None and script is not None:
                self.issued[host] = CA.issue((host,), (leaves or {}).get(number, leaf))
                script = replace(script, context=self.issued[host].server_context(newest))  # noqa: PLW2901
            sink, address = await self.host(script)
            made.append(sink)
            records += [f"@ MX {number}0 {label}", f"{label} A {address}"]
            if dane:
                records.append(f"_{self.port}._tcp.{label} TLSA {self.tlsa(host)}")
        if sts is not None:
            self.set_policy(name, sts, sts_mx or f"*.{name}")
            records += ['_mta-sts TXT "v=STSv1; id=1;"', "mta-sts A 127.0.0.1"]
        self.publish(name, "\n".join(records), Security.SIGNED if dane else Security.UNSIGNED, ttl)
        return made

    async def host(self, script: SinkScript | None, address: str = "") -> tuple[Sink, str]:
        """One mail host, not in DNS yet, and its address."""
        sink = Sink(script)
        self.sinks.append(sink)
        address = address or f"127.2.0.{len(self.sinks)}"
        if script is not DOWN:
            await sink.start(address, self.port)
        return sink, address

    def set_policy(self, domain: str, mode: StsMode, mx: str) -> None:
        text = f"version: STSv1\r\nmode: {mode.value}\r\nmx: {mx}\r\nmax_age: 86400\r\n"
        self.site.set(domain, SitePage(text, CA.issue((f"mta-sts.{domain}",)).server_context()))

    def later(self, passed: timedelta) -> None:
        """From now on it is so long after NOW, for attempts."""
        self.tools = replace(self.tools, clock=lambda: NOW + passed)

    def override(self, overrides: Overrides) -> None:
        """From now on these are in the settings."""
        self.tools = replace(self.tools, overrides=overrides)

    def tlsa(self, host: str) -> str:
        """The data of a TLSA record for the key of `host`, or for a key that nobody has when it has none."""
        issued = self.issued.get(host) or CA.issue(("nobody.test",))
        return f"3 1 1 {tlsa_data(issued.chain_der[0], 1, 1).hex()}"

    async def attempt(self, claim: Claim) -> list[Outcome]:
        """One attempt for these recipients, which go the way of the first."""
        way = self.tools.router.routes.destination(claim.sender, claim.login, claim.recipients[0].address)
        claim = replace(claim, destination=way)
        outcomes = (await Attempt(claim, self.tools).run()).outcomes
        assert set(outcomes) == {recipient.index for recipient in claim.recipients}
        return [outcomes[recipient.index] for recipient in claim.recipients]

    async def send(self, *recipients: str) -> list[str]:
        """An ordinary message; its outcomes in words."""
        return [in_words(outcome) for outcome in await self.attempt(make_claim(*recipients))]

    def asked(self) -> set[tuple[str, str]]:
        return {(question.name, question.rdtype) for question in self.zones.asked}


def connections(sinks: Sequence[Sink]) -> list[int]:
    return [sink.sessions.connections for sink in sinks]


@asynccontextmanager
async def world(
    *,
    allow_private: bool = True,
    timeouts: Timeouts | None = None,
    next_hop: str | None = None,
    draw: Callable[[], float] = lambda: 0.5,
    dns_seconds: float = 5,
    dane_insecure_mx: bool = True,
    overrides: Overrides | None = None,
    sources: Sources | None = None,
    memory: MemoryRules | None = None,
    routes: Callable[[int], Routes] | None = None,
    logins: Mapping[str, Login] | None = None,
) -> AsyncIterator[World]:
    """Build it, and take it down. `next_hop`: the host of `delivery.next_hop`; its port is that of all hosts.

    `routes` is given that port. `logins`: by the name of the route.
    """
    async with AsyncExitStack() as stack:
        held = stack.enter_context(socket.socket())
        held.bind(("127.2.0.254", 0))  # so that nobody else is given the port
        port = held.getsockname()[1]
        zones, site = Zones({}), StsSite()
        stack.push_async_callback(zones.stop)
        resolver = Resolver([await zones.start()], timedelta(seconds=dns_seconds))
        stack.push_async_callback(resolver.close)
        await resolver.assess(DnsSettings(trust_ad=TrustAd.YES))
        stack.push_async_callback(site.stop)
        policies = await site.start()
        events: list[Event] = []
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cache = StsCache(folder, lambda reason: events.append(_trouble(reason)))
        await cache.open()
        stack.push_async_callback(cache.close)
        rules = memory or MemoryRules(OnTlsLoss.WARN, timedelta(days=7), timedelta(days=1))
        memories = TlsMemories(folder, rules, lambda reason: events.append(_trouble(reason)))
        await memories.open()
        stack.push_async_callback(memories.close)
        fetcher = PolicyFetcher(resolver, policies.port, AddressGuard(allow_private=True), POLICIES)
        worlds: list[World] = []
        finder = StsFinder(resolver, cache, fetcher, lambda: NOW + worlds[0].policies_since, events.append)
        stack.push_async_callback(finder.close)
        pool = SessionPool()
        bodies = Bodies(folder, _is_stored)
        stack.push_async_callback(bodies.close)
        settings = DeliverySettings.model_validate(
            {
                "port": port,
                "next_hop": f"{next_hop}:{port}" if next_hop is not None else "",
                "dane_insecure_mx": dane_insecure_mx,
            }
        )
        named = routes(port) if routes is not None else Settings(delivery=settings).routes
        tools = Tools(
            router=Router(resolver, finder, settings, OWN_NAME, draw, named),
            guard=AddressGuard(allow_private),
            contexts=CONTEXTS,
            roots=ROOTS,
            pool=pool,
            sources=sources or Sources(Source(hostname="relay.test")),
            read=bodies.read,
            clock=lambda: NOW,
            emit=events.append,
            timeouts=timeouts or Timeouts(),
            overrides=overrides or Overrides(),
            memories=memories,
            logins=Logins(logins or {}, events.append),
        )
        built = World(zones, site, resolver, tools, port, events, memories)
        worlds.append(built)
        try:
            yield built
            await pool.close_all()
            assert [sink.complaints for sink in built.sinks if sink.complaints] == []
        finally:
            await pool.close_all()
            for sink in built.sinks:
                await sink.stop()


def _trouble(reason: str) -> Event:
    raise AssertionError(reason)


async def _is_stored(_: MessageId) -> bool:
    return True
