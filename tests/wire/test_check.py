"""`relay check` against DNS, mail hosts and a service on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner

from relay import cli
from relay.app import App
from relay.check import CHECKS, look, parse_target
from relay.events import Event, OpenRelay
from relay.finding import Finding, Level
from relay.lab.certs import LabCa
from relay.lab.sink import Sink
from relay.lab.zones import Fault, Security, Zone, Zones
from relay.queue import visitor
from relay.queue.hold_rules import HoldRule
from relay.settings import HostPort, Settings

OK, WARN, FAIL = Level
NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
RECORDS = """
relay   A   127.0.0.1
@       MX  10 mx1
@       MX  20 mx2
mx1     A   127.3.0.1
mx2     A   127.3.0.2
signed  A   127.0.0.1
"""


@dataclass
class Place:
    """Where the checks are made: lab DNS and a folder."""

    zones: Zones
    resolver: HostPort
    folder: Path

    def settings(
        self, given: Mapping[str, Mapping[str, Any]] | None = None, tables: Mapping[str, Any] | None = None
    ) -> Settings:
        sections: dict[str, dict[str, Any]] = {
            "submission": {"listen": ["127.0.0.1:0"]},
            "dns": {
                "nameservers": [self.resolver],
                "self_test_signed": "signed.here.test",
                "self_test_bogus": "x.bogus.test",
                "timeout": "2s",
            },
            "delivery": {"allow_private_addresses": True},
        }
        for section, values in (given or {}).items():
            sections[section] = {**sections.get(section, {}), **values}
        return Settings.model_validate({**sections, **(tables or {})})

    async def check(
        self,
        given: Mapping[str, Mapping[str, Any]] | None = None,
        connect: HostPort | str | None = None,
        hostname: str = "relay.here.test",
        tables: Mapping[str, Any] | None = None,
    ) -> dict[str, list[Finding]]:
        """The findings by subject."""
        found: dict[str, list[Finding]] = {}
        for one in await look(self.settings(given, tables), self.folder, hostname, NOW, connect):
            found.setdefault(one.subject, []).append(one)
        return found


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    zones = Zones(
        {
            "here.test": Zone(RECORDS),
            "bogus.test": Zone("x A 127.0.0.1", Security.BOGUS),
            "null.test": Zone("@ MX 0 ."),
            "0.0.127.in-addr.arpa": Zone("1 PTR relay.here.test."),
        }
    )
    try:
        yield Place(zones, await zones.start(), folder / "state")
    finally:
        await zones.stop()


def levels(found: list[Finding]) -> list[Level]:
    return [one.level for one in found]


@pytest.mark.asyncio
async def test_all_is_well(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        found = await there.check()
        assert {one.level for many in found.values() for one in many} == {OK}
        assert list(found) == [
            *("clock", "name", "dns", "dnssec", "authorities"),
            *("queue", "service", "memory", "overrides", "certificate", "dkim", "open files", "listeners"),
        ]
        assert found["dnssec"][0].text.startswith("DANE is on: ")
        assert not there.folder.exists()  # nothing is made


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("security", "bogus", "given", "words"),
    [
        (Security.UNSIGNED, Security.BOGUS, {}, "DANE is off: .* does not vouch for the signed name"),
        (Security.SIGNED, Security.UNSIGNED, {}, "DANE is off: .* accepts the wrongly signed name"),
        (Security.SIGNED, Security.BOGUS, {"trust_ad": "no"}, "DANE is off: dns.trust_ad is no"),
        (Security.UNSIGNED, Security.BOGUS, {"trust_ad": "yes"}, "DANE is off: dns.trust_ad is yes, but .* vouch"),
        (Security.SIGNED, Security.SIGNED, {"trust_ad": "yes"}, "DANE can be deceived: .* accepts"),
    ],
)
async def test_dane_is_off_and_why(
    tmp_path: Path, security: Security, bogus: Security, given: dict[str, str], words: str
) -> None:
    async with place(tmp_path) as there:
        there.zones.set_security("here.test", security)
        there.zones.set_security("bogus.test", bogus)
        (dnssec,) = (await there.check({"dns": given}))["dnssec"]
        assert dnssec.level is WARN
        assert re.match(words, dnssec.text)


@pytest.mark.asyncio
async def test_a_self_test_that_cannot_be_made(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        there.zones.set_fault("signed.here.test", "A", Fault.SERVFAIL)
        found = await there.check()
        assert levels(found["dnssec"]) == [WARN]
        assert found["dnssec"][0].text.startswith("DANE is on, but ")
        assert levels(found["dns"]) == [FAIL]


@pytest.mark.asyncio
async def test_one_resolver_of_two_is_silent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with place(tmp_path) as there:
            second = HostPort(host="127.0.0.1", port=silent.getsockname()[1])
            found = await there.check({"dns": {"nameservers": [there.resolver, second], "timeout": "1s"}})
            assert levels(found["dns"]) == [OK, WARN]
            assert "timed out" in found["dns"][1].text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("hostname", "expected", "words"),
    [
        ("relay.here.test", [OK, OK], "127.0.0.1 is relay.here.test"),
        ("mx1.here.test", [OK, WARN], "127.3.0.1 is called nothing"),
        ("nowhere.here.test", [WARN], "has no address"),
        ("x.bogus.test", [WARN], "failed DNSSEC validation"),
        ("relay", [WARN], "not a full name"),
    ],
)
async def test_our_name(tmp_path: Path, hostname: str, expected: list[Level], words: str) -> None:
    async with place(tmp_path) as there:
        found = (await there.check(hostname=hostname))["name"]
        assert levels(found) == expected
        assert words in found[-1].text


@pytest.mark.asyncio
async def test_a_name_that_only_we_can_reach(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        found = (await there.check({"delivery": {"allow_private_addresses": False}}))["name"]
        assert (levels(found), "loopback" in found[0].text) == ([WARN], True)


@pytest.mark.asyncio
async def test_calling_the_hosts_of_a_domain(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        sink = Sink()
        port = (await sink.start("127.3.0.1")).port
        try:
            found = await there.check({"delivery": {"port": port}}, "here.test")
        finally:
            await sink.stop()
        assert levels(found["port 25"]) == [OK, WARN]
        assert f"mx1.here.test:{port} answers at 127.3.0.1" in found["port 25"][0].text
        assert f"mx2.here.test:{port}: 127.3.0.2: " in found["port 25"][1].text
        assert (sink.commands, sink.received) == (["QUIT"], [])
        found = await there.check({"delivery": {"port": port}}, "here.test")
        assert levels(found["port 25"]) == [FAIL, FAIL]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("null.test", "takes no mail"),
        ("no.such.test", "does not exist"),
        (HostPort(host="nowhere.here.test", port=25), "has no address"),
        (HostPort(host="0.0.0.0", port=25), "unspecified address"),
    ],
)
async def test_targets_that_cannot_be_called(tmp_path: Path, target: HostPort | str, words: str) -> None:
    async with place(tmp_path) as there:
        (found,) = (await there.check(connect=target))["port 25"]
        assert (found.level, words in found.text) == (FAIL, True), found.text


@pytest.mark.asyncio
async def test_the_next_hop_is_called_without_being_asked_for_and_guarded(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        sink = Sink()
        hop = await sink.start("127.3.0.1")
        try:
            found = await there.check({"delivery": {"next_hop": f"mx1.here.test:{hop.port}"}})
            assert levels(found["next hop"]) == [OK]
            closed = {"next_hop": f"mx1.here.test:{hop.port}", "allow_private_addresses": False}
            found = await there.check({"delivery": closed})
            assert levels(found["next hop"]) == [FAIL]
            assert "delivery.allow_private_addresses" in found["next hop"][0].text
            assert sink.sessions.connections == 1
        finally:
            await sink.stop()


@pytest.mark.asyncio
async def test_the_hosts_of_routes_are_called(tmp_path: Path) -> None:
    """One that is down is a warning while another answers; a name with MX stands for its mail hosts."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    async with place(tmp_path) as there:
        sink = Sink()
        hop = await sink.start("127.3.0.1")
        two = {"name": "two", "hosts": [f"127.3.0.9:{hop.port}", f"mx1.here.test:{hop.port}"]}
        mx = {"name": "mx", "hosts": [f"here.test:{hop.port}"], "mx": True}
        gone = {"name": "gone", "hosts": ["no.such.test"], "mx": True}
        login = {"name": "login", "hosts": [f"mx1.here.test:{hop.port}"], "user": "us", "password_file": str(secret)}
        bin_ = {"name": "bin", "action": "discard"}
        try:
            found = await there.check(tables={"route": [two, mx, gone, login, bin_]})
        finally:
            await sink.stop()
        assert levels(found["route two"]) == [WARN, OK]
        assert levels(found["route mx"])[0] is OK
        assert levels(found["route gone"]) == [FAIL]
        assert levels(found["route login"]) == [OK, WARN]
        assert "secret" in found["route login"][1].text
        assert "route bin" not in found


@pytest.mark.asyncio
async def test_certificate_and_users(tmp_path: Path) -> None:
    ca = LabCa.make(NOW)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    certificate, key = ca.issue(("relay.here.test",)).write(tmp_path)
    _, other_key = ca.issue(("relay.here.test",)).write(tmp_path / "other")
    users = tmp_path / "users"
    users.touch()
    given = {
        "tls": {"ca_file": str(tmp_path / "ca.pem")},
        "submission": {"tls_certificate": str(certificate), "tls_key": str(key), "users_file": str(users)},
    }
    async with place(tmp_path) as there:
        found = await there.check(given)
        assert levels(found["certificate"]) == [OK]
        assert levels(found["users"]) == [WARN]
        users.write_text("no hash\n")
        given["submission"]["tls_key"] = str(other_key)
        found = await there.check(given)
        assert "is not the key of" in found["certificate"][0].text
        assert "users, line 1" in found["users"][0].text
        assert levels(found["certificate"] + found["users"]) == [FAIL, FAIL]
        given["submission"] = dict.fromkeys(given["submission"], str(tmp_path / "missing"))
        given["tls"]["ca_file"] = str(users)
        found = await there.check(given)
        assert levels(found["certificate"] + found["users"] + found["authorities"]) == [FAIL, FAIL, FAIL]


@pytest.mark.asyncio
async def test_those_who_are_asked_for_logins(tmp_path: Path) -> None:
    async def shows(_: web.Request) -> web.Response:
        return web.json_response({"keys": []})

    app = web.Application()
    app.router.add_get("/keys", shows)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with place(tmp_path) as there:
            found = await there.check({"login": {"url": f"{here}/check", "jwks": f"{here}/keys"}})
            assert levels(found["logins"]) == [OK, FAIL]  # who answers 405 to GET is there
            assert "login.jwks: the issuer shows no key that can be used" in found["logins"][1].text
            await runner.cleanup()
            found = await there.check({"login": {"url": f"{here}/check", "jwks": f"{here}/keys"}})
            assert levels(found["logins"]) == [FAIL, FAIL]
            assert "login.url: no connection to it could be made" in found["logins"][0].text
    finally:
        await runner.cleanup()


@pytest.mark.asyncio
async def test_users_of_tables_and_an_open_relay(tmp_path: Path) -> None:
    users, tokens = tmp_path / "users", tmp_path / "tokens"
    users.touch()
    tokens.touch()
    async with place(tmp_path) as there:
        found = await there.check(
            {
                "submission": {"users_file": str(users), "trusted_networks": ["0.0.0.0/0"]},
                "admin": {"tokens_file": str(tokens)},
            },
            tables={"client": [{"name": "c", "users": ["jo", "token:web"]}]},
        )
        assert levels(found["open relay"]) == [FAIL]
        assert levels(found["clients"]) == [WARN, WARN]


@pytest.mark.asyncio
async def test_an_address_in_use_while_nothing_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place_taken = f"127.0.0.1:{taken.getsockname()[1]}"
        async with place(tmp_path) as there:
            found = await there.check({"admin": {"listen": [place_taken]}})
            assert levels(found["listeners"]) == [OK, FAIL]
            assert place_taken in found["listeners"][1].text


@pytest.mark.asyncio
async def test_addresses_to_send_from(tmp_path: Path) -> None:
    source = {"sender_domains": ["news.example"], "ipv4": "203.0.113.77", "ipv6": "::1"}
    async with place(tmp_path) as there:
        found = (await there.check({"delivery": {"source_ipv4": "127.0.0.9"}}, tables={"source": [source]}))["sources"]
        assert levels(found) == [OK, FAIL, OK]
        assert found[0].text == "delivery.source_ipv4 is 127.0.0.9"
        begins = "ipv4 of [[source]] for news.example is 203.0.113.77, and mail cannot go out from there: "
        assert found[1].text.startswith(begins)


@pytest.mark.asyncio
@pytest.mark.usefixtures("asyncio_buffers")
async def test_while_the_service_runs_it_has_to_answer(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        listen = {"submission": {"listen": [f"127.0.0.1:{port}"], "trusted_networks": ["::/0"]}}
        events: list[Event] = []
        app = App(there.settings(listen), there.folder, "relay.here.test", emit=events.append)
        await app.start()
        try:
            assert OpenRelay("submission.trusted_networks", "::/0") in events
            found = await there.check(listen)
            assert found["service"][0].text == f"runs, as process {os.getpid()}"
            assert [one.text for one in found["listeners"]] == [f"the service answers at 127.0.0.1:{port}"]
            assert levels(found["queue"]) == [OK, OK, OK]
            found = await there.check({"submission": {"listen": ["127.0.0.1:1"]}, "admin": {"listen": ["127.0.0.1:2"]}})
            assert levels(found["listeners"]) == [FAIL, FAIL]
            assert all(one.text.endswith(": connection refused") for one in found["listeners"]), found["listeners"]
            mail = {"listener": [{"name": "mail", "listen": ["systemd:mail"]}]}
            (inherited, answers) = (await there.check(listen, tables=mail))["listeners"]
            assert (inherited.level, answers.level) == (OK, OK)
            assert inherited.text == "systemd opens the socket mail: `systemctl list-sockets` shows where"
            now = datetime.now(UTC)
            login = HoldRule(None, None, None, "jo", "odd", now)
            visitor.add_hold_rule(there.folder, login)
            assert (await there.check(listen))["queue"][-1].text == "new mail is put on hold by 1 hold rule"
        finally:
            await app.stop()
        found = await there.check(listen)
        assert found["service"][0].text == "does not run"
        assert "is free" in found["listeners"][0].text


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["file", "link", "below a file", "broken"])
async def test_a_folder_that_cannot_be_used(tmp_path: Path, what: str) -> None:
    async with place(tmp_path) as there:
        match what:
            case "file":
                there.folder.touch()
            case "link":
                there.folder.symlink_to("nowhere")
            case "below a file":
                (tmp_path / "file").touch()
                there.folder = tmp_path / "file" / "state"
            case "broken":
                there.folder.mkdir()
                (there.folder / "queue.db").write_bytes(b"no database" * 1000)
        found = (await there.check())["queue"]
        assert FAIL in levels(found)


TARGETS: list[tuple[str, HostPort | str | None]] = [
    ("example.org", "example.org"),
    ("Example.ORG.", "example.org"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("mx.example.org:2525", HostPort(host="mx.example.org", port=2525)),
    ("192.0.2.1", HostPort(host="192.0.2.1", port=25)),
    ("2001:db8::1", HostPort(host="2001:db8::1", port=25)),
    ("[2001:db8::1]", HostPort(host="2001:db8::1", port=25)),
    ("[2001:db8::1]:26", HostPort(host="2001:db8::1", port=26)),
    ("192.0.2.1:26", HostPort(host="192.0.2.1", port=26)),
    ("", None),
    ("a b", None),
    ("mx.example.org:0", None),
    ("mx.example.org:x", None),
    (":25", None),
]


@pytest.mark.parametrize(("text", "target"), TARGETS)
def test_what_connect_names(text: str, target: HostPort | str | None) -> None:
    if target is None:
        with pytest.raises(ValueError, match="is neither a domain nor a host with a port"):
            parse_target(text, 25)
    else:
        assert parse_target(text, 25) == target


def test_every_check_is_there_once() -> None:
    assert len(set(CHECKS)) == len(CHECKS)


def relay(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    command = [sys.executable, "-m", "relay", "check", *arguments]
    return subprocess.run(
        command,
        env={**environ, **given(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def given(folder: Path) -> dict[str, str]:
    return {
        "RELAY_STATE": str(folder),
        "RELAY_SUBMISSION__LISTEN": "127.0.0.1:0",
        "RELAY_DNS__NAMESERVERS": "127.0.0.1:9",
        "RELAY_DNS__TIMEOUT": "1s",
        "RELAY_HOSTNAME": "relay.test",
    }


def test_the_command_and_its_exit_codes(tmp_path: Path) -> None:
    failing = relay(tmp_path / "state")
    assert (failing.returncode, failing.stderr) == (1, "")
    assert "\nfail  dns " in failing.stdout and "--connect DOMAIN" in failing.stdout
    here = CliRunner(env=given(tmp_path / "state"))
    as_json = here.invoke(cli.relay, ["check", "--json"])
    assert (as_json.exit_code, json.loads(as_json.stdout)["level"]) == (1, "fail")
    broken = relay(tmp_path / "state", RELAY_DELIVERY__PORT="x")
    assert (broken.returncode, broken.stdout, len(broken.stderr.splitlines())) == (2, "", 1)
    wrong = here.invoke(cli.relay, ["check", "--connect", "a b"])
    assert (wrong.exit_code, wrong.stdout, len(wrong.stderr.splitlines())) == (2, "", 1)


@pytest.mark.asyncio
async def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        variables = {"RELAY_DNS__NAMESERVERS": str(there.resolver), "RELAY_HOSTNAME": "relay"}
        ended = await asyncio.to_thread(lambda: relay(tmp_path / "state", **variables))
        assert ended.returncode == 0, ended.stdout
        assert "\nwarn  name " in ended.stdout
