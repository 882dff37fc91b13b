"""The lab's small internet: DNS, an authority, policy hosts, mail hosts, a sender's mailbox, and Relay among them.

Everything is on loopback. Relay is the real one, built from a settings file as `relay run` does it; only its clock is
the lab's, so that hours of retrying pass in an instant.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from relay.app import App, utc_now
from relay.config import load
from relay.events import Emit
from relay.lab.certs import Issued, LabCa, tlsa_data
from relay.lab.scenario import Host, Scenario, Sts
from relay.lab.sink import Sink
from relay.lab.site import SitePage, StsSite
from relay.lab.zones import Security, Zone, Zones
from relay.settings import HostPort
from relay.submission.users import add_user

SENDER_DOMAIN = "sender.test"
USER, PASSWORD = "lab", "lab-password"
_HOSTNAME = "relay.lab.test"
_SENDER_ADDRESS = "127.1.0.1"
_SIGNED, _BOGUS = "signed.test", "bogus.test"  # what Relay tests its resolver with


class LabClock:
    """The real time and a bit: it can be moved ahead, never back."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        """What time it is in the lab."""
        return utc_now() + self._ahead

    def advance(self, by: timedelta) -> None:
        """Let `by` pass at once."""
        self._ahead += by


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
        self.clock = clock
        self._folder = folder
        self._emit = emit
        self._stack = AsyncExitStack()
        self._ca = LabCa.make(utc_now())
        self._certificates: dict[tuple[str, str], Issued] = {}
        self._sinks: dict[tuple[str, str], Sink] = {}
        self.zones = Zones({})
        self.site = StsSite()
        self.app: App | None = None

    def sink(self, domain: str, label: str = "mx") -> Sink:
        """The mail host `label` of `domain`. KeyError when there is none."""
        return self._sinks[domain, label]

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

    async def advance(self, by: timedelta) -> None:
        """Let time pass for Relay."""
        self.clock.advance(by)
        assert self.app is not None  # noqa: S101  (started)
        self.app.wake()

    async def _start(self) -> Addresses:
        self._stack.push_async_callback(self.zones.stop)
        resolver = await self.zones.start()
        self._stack.push_async_callback(self.site.stop)
        policies = await self.site.start("127.0.0.1", 0)
        mail_port = await self._add_host(SENDER_DOMAIN, Host(), _SENDER_ADDRESS, 0)
        self._publish(SENDER_DOMAIN, "@ MX 10 mx\nmx A " + _SENDER_ADDRESS, Security.UNSIGNED)
        self._publish(_SIGNED, "@ A 127.0.0.1", Security.SIGNED)
        self._publish(_BOGUS, "@ A 127.0.0.1", Security.BOGUS)
        for number, scenario in enumerate(self.scenarios, 1):
            await self._add_scenario(number, scenario, mail_port)
        ca_file = self._folder / "lab-ca.pem"
        ca_file.write_bytes(self._ca.pem)
        settings_file = self._write_settings(resolver, policies, ca_file, mail_port)
        settings = load(settings_file, {})
        app = App(settings, self._folder / "state", _HOSTNAME, self.clock, self._emit)
        submission = (await app.start())[0]
        self._stack.push_async_callback(app.stop)
        self.app = app
        return Addresses(submission, resolver, ca_file, settings_file, mail_port, policies.port)

    async def _add_scenario(self, number: int, scenario: Scenario, port: int) -> None:
        records: list[str] = []
        for index, host in enumerate(scenario.hosts, 1):
            address = f"127.1.{number}.{index}"
            await self._add_host(scenario.domain, host, address, port)
            records.append(f"{host.label} A {address}")
            records += (f"_{port}._tcp.{host.label} TLSA {text}" for text in self._tlsa(scenario.domain, host))
        mx_records = scenario.mx_records
        if mx_records is None:
            mx_records = tuple(f"{host.preference} {host.label}" for host in scenario.hosts)
        records += (f"@ MX {mx}" for mx in mx_records)
        if scenario.sts is not None:
            records += ['_mta-sts TXT "v=STSv1; id=1;"', "mta-sts A 127.0.0.1"]
            self.site.set(scenario.domain, self._page(scenario.domain, scenario.sts))
        if scenario.exists:
            self._publish(scenario.domain, "\n".join(records), scenario.security)

    async def _add_host(self, domain: str, host: Host, address: str, port: int) -> int:
        issued = self._certificate(domain, host)
        newest = ssl.TLSVersion.TLSv1_1 if host.tls_max_1_1 else ssl.TLSVersion.TLSv1_3
        context = issued.server_context(newest) if issued is not None else None
        sink = Sink(replace(host.script, context=context, name=f"{host.label}.{domain}"))
        self._sinks[domain, host.label] = sink
        self._stack.push_async_callback(sink.stop)
        return (await sink.start(address, port)).port

    def _certificate(self, domain: str, host: Host) -> Issued | None:
        """The certificate of a host: always the same one, so that its TLSA records fit."""
        if host.leaf is None:
            return None
        if (domain, host.label) not in self._certificates:
            names = host.names or (f"{host.label}.{domain}",)
            self._certificates[domain, host.label] = self._ca.issue(names, host.leaf)
        return self._certificates[domain, host.label]

    def _tlsa(self, domain: str, host: Host) -> list[str]:
        texts = []
        for tlsa in host.tlsa:
            issued = self._certificate(domain, host) if tlsa.of_this_host else self._ca.issue(("other.test",))
            assert issued is not None  # noqa: S101  (a host with TLSA records of its own certificate has one)
            data = tlsa_data(issued.chain_der[0], tlsa.selector, tlsa.matching_type)
            texts.append(f"{tlsa.usage} {tlsa.selector} {tlsa.matching_type} {data.hex()}")
        return texts

    def _page(self, domain: str, sts: Sts) -> SitePage:
        mx = "".join(f"mx: {pattern.format(domain=domain)}\r\n" for pattern in sts.mx)
        text = f"version: STSv1\r\nmode: {sts.mode.value}\r\n{mx}max_age: 2592000\r\n"
        context = self._ca.issue((f"mta-sts.{domain}",), sts.leaf).server_context()
        redirect_to = f"https://mta-sts.{domain}/elsewhere" if sts.redirect else None
        return SitePage(text, context, status=sts.status, redirect_to=redirect_to)

    def _publish(self, domain: str, records: str, security: Security) -> None:
        self.zones.set(domain, Zone(records, security))

    def _write_settings(self, resolver: HostPort, policies: HostPort, ca_file: Path, mail_port: int) -> Path:
        certificate, key = self._ca.issue((_HOSTNAME, "localhost")).write(self._folder)
        users = self._folder / "users"
        add_user(users, USER, PASSWORD)
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
allow_private_addresses = true
[mta_sts]
port = {policies.port}
"""
        )
        return path
