"""A scenario's domain among the lab's servers: its zones, its policy page and its mail hosts, phase after phase.

It turns the values of `lab.scenario` into what the servers of the lab take. What is the same in two phases is left
alone, so that a host counts on.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from relay.lab.certs import Issued, LabCa, Leaf, tlsa_data
from relay.lab.collector import Collector, Endpoint
from relay.lab.http import Request
from relay.lab.scenario import Host, Of, Override, Route, Scenario, Sts, Tlsa, Tlsrpt
from relay.lab.sink import Sink
from relay.lab.site import SitePage, StsSite
from relay.lab.zones import Fault, Slow, Zone, Zones

_TTL_SECONDS = 300
_REPORTS = "tls-reports"  # the label of the host that takes them


@dataclass(frozen=True, slots=True)
class Servers:
    """What all domains share. Mail hosts listen on `mail_port`, each at an address of its own."""

    ca: LabCa
    zones: Zones
    site: StsSite
    collector: Collector
    mail_port: int
    report_port: int  # of the collector
    mailbox: str  # for reports


class Domain:
    """One domain. Its hosts have addresses that begin with `network`, such as `127.1.1.`."""

    def __init__(self, scenario: Scenario, network: str, servers: Servers) -> None:
        self.sinks: dict[str, Sink] = {}  # by label
        self._scenario = scenario
        self._network = network
        self._servers = servers
        self._places = {
            "domain": scenario.domain,
            "elsewhere": f"{scenario.name}-elsewhere.test",
            "port": str(servers.mail_port),
            "mailbox": f"mailto:{servers.mailbox}",
            "endpoint": f"https://{_REPORTS}.{scenario.domain}:{servers.report_port}/v1/tls",
        }
        self._certificates: dict[object, Issued] = {}
        self._contexts: dict[object, ssl.SSLContext] = {}
        self._now: Scenario | None = None
        self._up: set[str] = set()
        phases = [scenario.at(step) for step in range(len(scenario.then) + 1)]
        self._labels = list(dict.fromkeys(host.label for phase in phases for host in phase.hosts))

    async def turn(self, step: int) -> None:
        """Let the phase number `step` begin; 0: what holds at first."""
        before, now = self._now, self._scenario.at(step)
        if now == before:
            return
        hosts_before = before.hosts if before is not None else ()
        for host in now.hosts:
            if host not in hosts_before:
                await self._place(host)
        if now.sts is not None and (before is None or now.sts != before.sts):
            self._servers.site.set(now.domain, self._page(now.sts))
        if now.tlsrpt is not None and before is None and any("{endpoint}" in text for text in now.tlsrpt.txt):
            self._servers.collector.endpoints[f"{_REPORTS}.{now.domain}"] = self._endpoint(now.tlsrpt)
        if now.exists:
            self._publish(now)
        for (name, rdtype), fault in self._faults(now, before).items():
            self._servers.zones.set_fault(name, rdtype, fault)
        self._now = now

    def overrides(self, today: date) -> str:
        """The overrides of the settings that belong to it, as TOML."""
        words = dict(self._places)
        if any(override.fingerprints for override in self._scenario.overrides):
            first = self._scenario.hosts[0]
            certificate = self._certificate(first, first.key).chain_der[0]
            words |= {"certificate": tlsa_data(certificate, 0, 1).hex(), "key": tlsa_data(certificate, 1, 1).hex()}
        return "".join(_override(one, words, today) for one in self._scenario.overrides)

    def route(self, password_file: Path) -> str:
        """The route of the settings that belongs to it, as TOML."""
        route = self._scenario.route
        if route is None:
            return ""
        login = f'user = "{route.user}"\npassword_file = "{password_file}"\n' if route.user else ""
        return _route(route, self._scenario, self._places) + login

    def posted(self) -> Sequence[Request]:
        """The reports that its HTTPS endpoint has accepted."""
        endpoint = self._servers.collector.endpoints.get(f"{_REPORTS}.{self._scenario.domain}")
        return endpoint.accepted if endpoint is not None else ()

    async def stop(self) -> None:
        """Take the mail hosts down."""
        for sink in self.sinks.values():
            await sink.stop()

    async def _place(self, host: Host) -> None:
        """Bring the host up, or down, with what it shows and does now."""
        context = self._context(host) if host.leaf is not None else None
        script = replace(host.script, context=context, name=self._name(host))
        sink = self.sinks.setdefault(host.label, Sink())
        sink.play(script)
        if host.up and host.label not in self._up:
            await sink.start(self._address(host), self._servers.mail_port)
            self._up.add(host.label)
        elif not host.up:
            await sink.stop()
            self._up.discard(host.label)

    def _publish(self, now: Scenario) -> None:
        records = [self._fill(line) for line in now.records]
        mx_records = now.mx_records
        if mx_records is None:
            mx_records = tuple(f"{host.preference} {host.alias or self._name(host) + '.'}" for host in now.hosts)
        records += (f"@ MX {self._fill(mx)}" for mx in mx_records)
        for host in now.hosts:
            if host.alias:
                records.append(f"{host.alias} CNAME {self._name(host)}.")
                records += self._tlsa_lines(host, host.alias, host.alias_tlsa)
            if host.zone is None:
                records += self._host_lines(host, host.label)
            else:
                zone = Zone("\n".join(self._host_lines(host, "@")), host.zone, _TTL_SECONDS)
                self._servers.zones.set(self._name(host), zone)
        if now.sts is not None:
            records += (f'_mta-sts TXT "{text.replace("{id}", now.sts.id)}"' for text in now.sts.txt)
            records.append("mta-sts A 127.0.0.1")
        if now.tlsrpt is not None:
            records += (f'_smtp._tls TXT "{self._fill(text)}"' for text in now.tlsrpt.txt)
            records.append(f"{_REPORTS} A 127.0.0.1")
        self._servers.zones.set(now.domain, Zone("\n".join(records), now.security, _TTL_SECONDS))

    def _host_lines(self, host: Host, owner: str) -> list[str]:
        return [f"{owner} A {self._address(host)}", *self._tlsa_lines(host, owner, host.tlsa)]

    def _tlsa_lines(self, host: Host, owner: str, records: tuple[Tlsa, ...]) -> list[str]:
        below = "" if owner == "@" else f".{owner}"
        where = f"_{self._servers.mail_port}._tcp{below}"
        return [
            f"{where} TLSA {one.usage} {one.selector} {one.matching_type} {self._tlsa(host, one)}" for one in records
        ]

    def _tlsa(self, host: Host, tlsa: Tlsa) -> str:
        if tlsa.data:
            return tlsa.data
        match tlsa.of:
            case Of.LEAF:
                certificate = self._certificate(host, tlsa.key or host.key).chain_der[0]
            case Of.ISSUER:
                certificate = self._servers.ca.issue(("any.test",)).chain_der[1]  # all sound ones have the same
            case Of.ROOT:
                certificate = self._servers.ca.der
        return tlsa_data(certificate, tlsa.selector, tlsa.matching_type).hex()

    def _context(self, host: Host) -> ssl.SSLContext:
        issued = self._certificate(host, host.key)
        which = (issued.chain_der[0], host.newest)
        if which not in self._contexts:
            self._contexts[which] = issued.server_context(host.newest)
        return self._contexts[which]

    def _certificate(self, host: Host, key: int) -> Issued:
        """The certificate that the host has under this key: always the same one, so that its TLSA records fit."""
        names = tuple(self._fill(name) for name in host.names) or (self._name(host),)
        which = (host.label, host.leaf, names, key)
        if which not in self._certificates:
            self._certificates[which] = self._servers.ca.issue(names, host.leaf or Leaf.GOOD)
        return self._certificates[which]

    def _page(self, sts: Sts) -> SitePage:
        mx = "".join(f"mx: {pattern}\r\n" for pattern in sts.mx)
        text = f"version: STSv1\r\nmode: {sts.mode.value}\r\n{mx}max_age: {sts.max_age}\r\n"
        names = sts.names or ("mta-sts.{domain}",)
        context = self._servers.ca.issue([self._fill(name) for name in names], sts.leaf).server_context()
        elsewhere = sts.page.redirect_to
        return replace(
            sts.page,
            policy=self._fill(text if sts.text is None else sts.text),
            context=context,
            redirect_to=self._fill(elsewhere) if elsewhere is not None else None,
        )

    def _endpoint(self, tlsrpt: Tlsrpt) -> Endpoint:
        issued = self._servers.ca.issue((f"{_REPORTS}.{self._scenario.domain}",), tlsrpt.leaf)
        return Endpoint(issued.server_context(), tlsrpt.statuses)

    def _faults(self, now: Scenario, before: Scenario | None) -> dict[tuple[str, str], Fault | Slow | None]:
        """By absolute name and type: the faults there are from now on, and None for those that are over."""
        over = dict.fromkeys(before.faults, None) if before is not None else {}
        return {(self._absolute(name), rdtype): fault for (name, rdtype), fault in {**over, **now.faults}.items()}

    def _name(self, host: Host) -> str:
        parent = self._places["domain" if host.zone is None else "elsewhere"]
        return parent if host.label == "@" else f"{host.label}.{parent}"

    def _absolute(self, name: str) -> str:
        domain = self._places["domain"]
        return domain if name == "@" else f"{self._fill(name)}.{domain}"

    def _address(self, host: Host) -> str:
        return f"{self._network}{1 + self._labels.index(host.label)}"

    def _fill(self, text: str) -> str:
        return text.format_map(self._places)


def _override(override: Override, words: Mapping[str, str], today: date) -> str:
    """The table of one override, with `words` in place of the words in braces."""
    targets = {"hosts": override.hosts} if override.hosts else {"domains": override.domains}
    lists = {**targets, "names": override.names, "fingerprints": override.fingerprints}
    filled = {name: json.dumps([text.format_map(words) for text in texts]) for name, texts in lists.items() if texts}
    lines = [
        "[[override]]",
        f'level = "{override.level.value}"',
        f'mode = "{override.mode.value}"',
        *(f"{name} = {values}" for name, values in filled.items()),
        f'minimum_tls = "{override.minimum_tls}"',
        'reason = "a scenario of the lab"',
        'owner = "the lab"',
        f"until = {today + timedelta(days=override.last_day)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _route(route: Route, scenario: Scenario, words: Mapping[str, str]) -> str:
    """The table of the scenario's route, with `words` in place of the words in braces."""
    hosts = [f"{host}:{{port}}".format_map(words) for host in route.hosts]
    lines = [
        "[[route]]",
        f'name = "{scenario.name}"',
        f'recipient_domains = ["{scenario.domain}"]',
        f'action = "{route.action.value}"',
        f"hosts = {json.dumps(hosts)}",
        f"mx = {json.dumps(route.mx)}",
        f'tls = "{route.tls.value if route.tls is not None else ""}"',
    ]
    return "".join(f"{line}\n" for line in lines)
