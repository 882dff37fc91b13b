"""Domains and mail hosts for whole deliveries: a whole Relay between lab hosts and a real Unbound with signed zones.

A `Host` is a mail host of the lab, a `Row` a domain and what becomes of mail to it. `play` submits one message for each
row to a Relay that is built from a settings file as `relay run` does it, and gives what the first attempt came to.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from real_dns import Servers, Zone

from relay.app import App, utc_now
from relay.config import load
from relay.events import AttemptFinished, DnssecTrust, Event
from relay.lab.certs import Issued, LabCa, Leaf, tlsa_data
from relay.lab.sink import Sink, SinkScript
from relay.lab.site import SitePage, StsSite
from relay.policy.sts import StsMode

PATIENCE_SECONDS = 60.0
OWN = (3, 1, 1)  # the record that every mail host should have


@dataclass(frozen=True, slots=True)
class Host:
    """A mail host. `tlsa`: usage, selector and matching type of its record, made of its own chain; or the record."""

    leaf: Leaf | None = Leaf.GOOD  # None: no certificate, so no STARTTLS
    tlsa: tuple[int, int, int] | str | None = None
    requiretls: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """Mail to a domain: its MX records, its MTA-STS policy, how the message is sent, and what the attempt comes to.

    `without`: the same where `delivery.dane_insecure_mx` is off, if that is another thing. The domain is in one of the
    zones, or is one.
    """

    domain: str
    mx: str
    expected: str
    without: str | None = None
    sts: StsMode | None = None
    sts_mx: str = ""
    options: tuple[str, ...] = ()
    header: str = ""

    @property
    def recipient(self) -> str:
        return f"bob@{self.domain}.test"

    def records(self) -> list[str]:
        """Of the domain, for the zone that it is in; none when `mx` is empty."""
        name = f"{self.domain}.test."
        records = [f"{name} MX {' '.join(one.split())}" for one in self.mx.split(",") if one.strip()]
        if self.sts is not None:
            records += [f'_mta-sts.{name} TXT "v=STSv1; id=1;"', f"mta-sts.{name} A 127.0.0.1"]
        return records

    def expects(self, dane_insecure_mx: bool) -> str:
        return self.expected if dane_insecure_mx or self.without is None else self.without


@dataclass
class Lab:
    """The mail hosts and policy hosts. Made before the zones, which hold their addresses and keys."""

    port: int
    hosts: Mapping[str, Host]
    ca: LabCa = field(default_factory=lambda: LabCa.make(utc_now()))

    def __post_init__(self) -> None:
        self._issued = {name: self._issue(name, host.leaf) for name, host in self.hosts.items()}
        self._addresses = {name: f"127.3.0.{number}" for number, name in enumerate(self.hosts, 1)}

    def zones(self, empty: Mapping[str, Zone], rows: Iterable[Row]) -> dict[str, Zone]:
        """The zones with the records of the hosts and of the rows' domains in them."""
        added: dict[str, list[str]] = {name: [] for name in empty}
        for name, host in self.hosts.items():
            added[_zone_of(name, empty)] += [f"{name}.test. A {self._addresses[name]}", *self._tlsa(name, host)]
        for row in rows:
            added[_zone_of(row.domain, empty)] += row.records()
        return {
            name: replace(zone, records=zone.records + "\n".join([*added[name], ""])) for name, zone in empty.items()
        }

    def _issue(self, name: str, leaf: Leaf | None) -> Issued | None:
        return None if leaf is None else self.ca.issue((f"{name}.test",), leaf)

    def _tlsa(self, name: str, host: Host) -> list[str]:
        match host.tlsa:
            case None:
                return []
            case str() as record:
                return [f"_{self.port}._tcp.{name}.test. TLSA {record}"]
            case (usage, selector, matching_type):
                issued = self._issued[name] or self.ca.issue(("nobody.test",))
                data = tlsa_data(issued.chain_der[1 if usage == 2 else 0], selector, matching_type).hex()
                return [f"_{self.port}._tcp.{name}.test. TLSA {usage} {selector} {matching_type} {data}"]

    @asynccontextmanager
    async def running(self, rows: Iterable[Row]) -> AsyncIterator[tuple[int, list[Sink]]]:
        """Start all hosts; gives the port of the policy hosts, and the mail hosts."""
        sinks: list[Sink] = []
        async with AsyncExitStack() as stack:
            for name, host in self.hosts.items():
                issued = self._issued[name]
                sink = Sink(
                    SinkScript(
                        context=issued.server_context() if issued is not None else None,
                        tls_extensions=("REQUIRETLS",) if host.requiretls else (),
                    )
                )
                await sink.start(self._addresses[name], self.port)
                stack.push_async_callback(sink.stop)
                sinks.append(sink)
            site = StsSite()
            for row in rows:
                if row.sts is not None:
                    text = f"version: STSv1\r\nmode: {row.sts.value}\r\nmx: {row.sts_mx}\r\nmax_age: 86400\r\n"
                    context = self.ca.issue((f"mta-sts.{row.domain}.test",)).server_context()
                    site.set(f"{row.domain}.test", SitePage(text, context))
            policies = await site.start()
            stack.push_async_callback(site.stop)
            yield policies.port, sinks


def held_port() -> tuple[int, socket.socket]:
    """A port for the mail hosts, and what holds it on an address of its own so that nobody else is given it."""
    held = socket.socket()
    held.bind(("127.3.0.254", 0))
    return int(held.getsockname()[1]), held


def _zone_of(name: str, zones: Mapping[str, Zone]) -> str:
    return max((zone for zone in zones if f".{name}.test".endswith(f".{zone}")), key=len)


class Listener:
    """Takes the events of a Relay."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.trusted: bool | None = None
        self._changed = asyncio.Event()

    def emit(self, event: Event) -> None:
        if isinstance(event, AttemptFinished):
            self.outcomes.setdefault(event.recipient, f"{event.state} {event.status} {event.tls}")
        elif isinstance(event, DnssecTrust):
            self.trusted = event.trusted
        self._changed.set()

    async def all_of(self, recipients: set[str]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not recipients <= self.outcomes.keys():
                self._changed.clear()
                await self._changed.wait()


async def play(
    lab: Lab, servers: Servers, rows: Sequence[Row], lost: Sequence[Row], folder: Path, *, dane_insecure_mx: bool
) -> dict[str, str]:
    """What the first attempt for each row came to: state, status, and how the session was protected; by domain.

    The messages of `lost` are sent when the others are done, and Knot, which is stopped then, is no longer there. What
    is called delivered has arrived, and nothing else has.
    """
    listener = Listener()
    folder.mkdir()
    async with lab.running(rows) as (policy_port, sinks):
        settings = load(_settings(lab, servers, policy_port, folder, dane_insecure_mx), {})
        app = App(settings, folder / "state", "relay.sender.test", utc_now, listener.emit)
        submission = (await app.start())[0]
        try:
            assert listener.trusted
            await asyncio.to_thread(_submit, submission.port, lab.ca, rows)
            await listener.all_of({row.recipient for row in rows})
            if lost:
                servers.knot.stop()
                servers.unbound["ede"].forget()
                await asyncio.to_thread(_submit, submission.port, lab.ca, lost)
                await listener.all_of({row.recipient for row in lost})
        finally:
            await app.stop()
        arrived = {recipient for sink in sinks for mail in sink.received for recipient in mail.recipients}
        assert arrived == {who for who, outcome in listener.outcomes.items() if outcome.startswith("delivered")}
        assert [sink.complaints for sink in sinks if sink.complaints] == []
    return {row.domain: listener.outcomes[row.recipient] for row in (*rows, *lost)}


def _settings(lab: Lab, servers: Servers, policy_port: int, folder: Path, dane_insecure_mx: bool) -> Path:
    certificate, key = lab.ca.issue(("localhost",)).write(folder)
    (folder / "ca.pem").write_bytes(lab.ca.pem)
    path = folder / "relay.toml"
    path.write_text(f"""hostname = "relay.sender.test"
[submission]
listen = ["127.0.0.1:0"]
tls_certificate = "{certificate}"
tls_key = "{key}"
[queue]
path = "{folder / "state"}"
[dns]
nameservers = ["{servers.unbound["ede"].address}"]
timeout = "3s"
self_test_signed = "signed.test"
self_test_bogus = "wrong.test"
[tls]
ca_file = "{folder / "ca.pem"}"
[delivery]
port = {lab.port}
allow_private_addresses = true
dane_insecure_mx = {str(dane_insecure_mx).lower()}
[mta_sts]
port = {policy_port}
""")
    return path


def _submit(port: int, ca: LabCa, rows: Sequence[Row]) -> None:
    with smtplib.SMTP("localhost", port, timeout=PATIENCE_SECONDS) as client:
        client.starttls(context=ssl.create_default_context(cadata=ca.pem.decode()))
        for row in rows:
            client.sendmail("from@sender.test", [row.recipient], f"{row.header}Subject: x\r\n\r\nx\r\n", row.options)
