"""The lab's small internet: DNS, an authority, policy hosts, mail hosts, a sender's mailbox, and Relay among them.

Everything is on loopback. Relay is the real one, built from a settings file as `relay run` does it; only its clock is
the lab's, so that hours of retrying pass in an instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from relay.app import App, utc_now
from relay.config import load
from relay.events import Emit
from relay.lab.certs import LabCa
from relay.lab.clock import LabClock
from relay.lab.collector import Collector
from relay.lab.dkim import make_key
from relay.lab.domain import Domain, Servers
from relay.lab.http import Request
from relay.lab.reports import CONTACT, ORGANIZATION, SUBMITTER
from relay.lab.scenario import Scenario
from relay.lab.sink import Sink, SinkScript
from relay.lab.site import StsSite
from relay.lab.zones import Security, Zone, Zones
from relay.settings import HostPort

SENDER_DOMAIN = "sender.test"
USER, PASSWORD = "lab", "lab-password"
ROUTE_PASSWORD = "correct horse"  # noqa: S105  with which routes log in at the lab's own hosts
# The hash is made to be cheap: one of the ordinary ones takes 100 ms to check, at each passage of time.
_USERS = f"{USER}:$argon2id$v=19$m=8,t=1,p=1$byJwdjwpOVWbVkEz+/BN2Q$8BuWC+sCvJaWJpEZ2aul99gk8k5EGdns0t/Bdkx8gIs\n"
_HOSTNAME = SUBMITTER
_SELECTOR = "lab"
_MAILBOX = f"tls-reports@{SENDER_DOMAIN}"  # where TLS reports arrive
_SENDER_ADDRESS = "127.1.0.1"
# By the passages of time: TLS at first and at `20m` counts as TLS before, and what is lost at `1d` is given up at `7d`.
_TLS_AFTER, _TLS_DEFER_FOR = "15m", "2d"
_CONCURRENCY = 40  # all retries are due at once: more questions than that overflow the socket of the DNS server
_SIGNED, _BOGUS = "signed.test", "bogus.test"  # what Relay tests its resolver with


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where things are, for those who use the lab as a test harness."""

    submission: HostPort
    resolver: HostPort
    ca_file: Path
    settings_file: Path
    mail_port: int
    policy_port: int


class World:
    """Starts and stops it all. `folder` holds the queue, the certificates and the settings file."""

    def __init__(self, scenarios: Sequence[Scenario], folder: Path, clock: LabClock, emit: Emit) -> None:
        self.scenarios = tuple(scenarios)
        self.sender = Sink()  # the mailbox for notices and TLS reports
        self._clock = clock
        self._folder = folder
        self._emit = emit
        self._stack = AsyncExitStack()
        self._ca = LabCa.make(utc_now())
        self._domains: dict[str, Domain] = {}
        self._zones = Zones({})
        self._site = StsSite()
        self._collector = Collector()

    def sinks(self, scenario: Scenario) -> tuple[Sink, ...]:
        """The mail hosts of a scenario, in all its phases."""
        return tuple(self._domains[scenario.name].sinks.values())

    def posted(self, scenario: Scenario) -> Sequence[Request]:
        """The TLS reports that the scenario's HTTPS endpoint has accepted."""
        return self._domains[scenario.name].posted()

    async def start(self) -> Addresses:
        """Bring everything up. Returns where it is."""
        try:
            return await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Take everything down."""
        await self._stack.aclose()

    async def turn(self, step: int) -> None:
        """Let the phase number `step` of every scenario begin."""
        for domain in self._domains.values():
            await domain.turn(step)

    async def _start(self) -> Addresses:
        self._stack.push_async_callback(self._zones.stop)
        resolver = await self._zones.start()
        self._stack.push_async_callback(self._site.stop)
        policies = await self._site.start("127.0.0.1", 0)
        self._stack.push_async_callback(self._collector.stop)
        reports = await self._collector.start()
        context = self._ca.issue((f"mx.{SENDER_DOMAIN}",)).server_context()
        self.sender.play(SinkScript(context, name=f"mx.{SENDER_DOMAIN}"))
        self._stack.push_async_callback(self.sender.stop)
        mail_port = (await self.sender.start(_SENDER_ADDRESS)).port
        self._zones.set(SENDER_DOMAIN, Zone("@ MX 10 mx\nmx A " + _SENDER_ADDRESS, Security.UNSIGNED))
        self._zones.set(_SIGNED, Zone("@ A 127.0.0.1", Security.SIGNED))
        self._zones.set(_BOGUS, Zone("@ A 127.0.0.1", Security.BOGUS))
        record = make_key(self._folder / "dkim.pem")
        self._zones.set(_HOSTNAME, Zone(f'{_SELECTOR}._domainkey TXT "{record}"', Security.UNSIGNED))
        servers = Servers(self._ca, self._zones, self._site, self._collector, mail_port, reports.port, _MAILBOX)
        for number, scenario in enumerate(self.scenarios, 1):
            domain = Domain(scenario, f"127.{1 + number // 256}.{number % 256}.", servers)
            self._domains[scenario.name] = domain
            self._stack.push_async_callback(domain.stop)
        await self.turn(0)
        ca_file = self._folder / "lab-ca.pem"
        ca_file.write_bytes(self._ca.pem)
        settings_file = self._write_settings(resolver, policies, ca_file, mail_port)
        app = App(load(settings_file, {}), self._folder / "state", _HOSTNAME, self._clock, self._emit)
        submission = (await app.start())[0]
        self._stack.push_async_callback(app.stop)
        return Addresses(submission, resolver, ca_file, settings_file, mail_port, policies.port)

    def _write_settings(self, resolver: HostPort, policies: HostPort, ca_file: Path, mail_port: int) -> Path:
        certificate, key = self._ca.issue((_HOSTNAME, "localhost")).write(self._folder)
        users = self._folder / "users"
        users.write_text(_USERS)
        overrides = "".join(domain.overrides(self._clock().date()) for domain in self._domains.values())
        secret = self._folder / "route-password"
        secret.write_text(ROUTE_PASSWORD)
        routes = "".join(domain.route(secret) for domain in self._domains.values())
        path = self._folder / "relay.toml"
        path.write_text(
            f"""hostname = "{_HOSTNAME}"
[submission]
listen = ["127.0.0.1:0"]
tls_certificate = "{certificate}"
tls_key = "{key}"
users_file = "{users}"
[queue]
path = "{self._folder / "state"}"
[dns]
nameservers = ["{resolver}"]
self_test_signed = "{_SIGNED}"
self_test_bogus = "{_BOGUS}"
[tls]
ca_file = "{ca_file}"
[delivery]
port = {mail_port}
concurrency = {_CONCURRENCY}
allow_private_addresses = true
public_addresses = ["127.0.0.1", "::1"]
[mta_sts]
port = {policies.port}
[tls_memory]
on_loss = "defer"
after = "{_TLS_AFTER}"
defer_for = "{_TLS_DEFER_FOR}"
[retry]
tls_policy_expire = ""
dns_schedule = []
[tlsrpt]
organization = "{ORGANIZATION}"
contact = "{CONTACT}"
sender = "tls-reports@{SUBMITTER}"
spread = "10m"
[[dkim_key]]
domain = "{SUBMITTER}"
selector = "{_SELECTOR}"
key_file = "{self._folder / "dkim.pem"}"
{routes}{overrides}"""
        )
        return path
