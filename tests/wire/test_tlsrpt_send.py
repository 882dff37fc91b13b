"""`relay tlsrpt send --now` as a person types it: the whole service, real DNS, a mail host and a web address."""

from __future__ import annotations

import asyncio
import email
import email.policy
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from report_endpoint import CA, Endpoint
from service import submit

from relay import reporting
from relay.app import App, utc_now
from relay.cli import relay
from relay.config import load
from relay.events import Event, TlsReportSent, TlsReportsUnsigned
from relay.lab.sink import Sink
from relay.lab.zones import Security, Zone, Zones
from relay.policy.tls_report import PolicyType, ReportedPolicy, Tally
from relay.tlsrpt.reader import of_day
from relay.tlsrpt.store import ReportStore

pytestmark = pytest.mark.asyncio

NONE = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "a.test")
SETTINGS = """
hostname = "relay.s.test"
submission.listen = ["127.0.0.1:0"]
dns = {{ nameservers = ["{resolver}"], trust_ad = "no" }}
delivery = {{ allow_private_addresses = true, port = {port} }}
queue.path = "{folder}/state"
tls.ca_file = "{folder}/ca.pem"
tlsrpt = {{ organization = "Example Inc.", contact = "tls@s.test", sender = "reports@s.test" }}
"""
KEY = """
[[dkim_key]]
domain = "s.test"
selector = "k"
key_file = "{folder}/key.pem"
"""


@dataclass(slots=True)
class Place:
    """A service that has counted one session with each of a.test (which wants reports) and b.test (which does not)."""

    file: Path
    sink: Sink
    endpoint: Endpoint
    events: list[Event]
    port: int = 0

    async def send(self, *arguments: str) -> Result:
        words = ["tlsrpt", "send", "--config", str(self.file), *arguments]
        return await asyncio.to_thread(CliRunner().invoke, relay, words)


@asynccontextmanager
async def place(folder: Path, key: bool = True, runs: bool = True) -> AsyncIterator[Place]:
    sink, endpoint, zones = Sink(), Endpoint(), Zones({})
    async with endpoint.running() as web:
        resolver = await zones.start()
        port = (await sink.start("127.0.0.1")).port
        record = f'_smtp._tls TXT "v=TLSRPTv1; rua=mailto:rua@r.test,https://r.test:{web}/in"'
        zones.set("a.test", Zone(record, Security.UNSIGNED))
        zones.set("b.test", Zone("", Security.UNSIGNED))
        zones.set("r.test", Zone("@ MX 10 r.test.\n@ A 127.0.0.1", Security.UNSIGNED))
        file = folder / "relay.toml"
        text = SETTINGS + KEY if key else SETTINGS
        file.write_text(text.format(folder=folder, resolver=resolver, port=port))
        (folder / "ca.pem").write_bytes(CA.pem)
        private = Ed25519PrivateKey.generate()
        (folder / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (folder / "state").mkdir()
        store = ReportStore(folder / "state", pytest.fail)
        await store.add({(utc_now().date(), Tally(domain, NONE)): 1 for domain in ("a.test", "b.test")})
        await store.close()
        events: list[Event] = []
        app = App(load(file, {}), folder / "state", "relay.s.test", utc_now, events.append)
        addresses = await app.start() if runs else ()
        try:
            yield Place(file, sink, endpoint, events, *(address.port for address in addresses))
        finally:
            await app.stop()
            await sink.stop()
            await zones.stop()


async def test_domains_are_told_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_EVERY_SECONDS", 0.05)
    async with place(tmp_path) as here:
        done = await here.send("--now", "--json", "A.test", "c.test")
        assert done.exit_code == 1  # of c.test nothing is counted
        [told, other] = json.loads(done.stdout)["domains"]
        assert other == {"domain": "c.test", "report": None, "why": "nothing is counted of it", "deliveries": []}
        web, mail = told["deliveries"]
        assert (web["state"], web["words"]) == ("sent", "r.test answered 201")
        assert mail["state"] == "sent" and mail["words"].startswith("queued as ")
        (arrived,) = await here.sink.wait_for(1)
        message = email.message_from_bytes(arrived.octets.partition(b"\r\n.\r\n")[0], policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        signature = "".join(str(message["DKIM-Signature"]).split())  # RFC 8460 §3: it must be there
        assert ";d=s.test;s=k;" in signature
        assert {"from", "subject", "tls-report-domain", "tls-report-submitter"} <= set(
            signature.lower().partition(";h=")[2].partition(";")[0].split(":")
        )
        [_, attached] = message.iter_parts()
        report = json.loads(gzip.decompress(attached.get_content()))
        assert report["report-id"] == told["report"]
        assert report["policies"][0]["summary"]["total-successful-session-count"] == 1
        assert [json.loads(gzip.decompress(body)) for *_, body in here.endpoint.got] == [report]
        assert len([event for event in here.events if isinstance(event, TlsReportSent)]) == 2

        again = await here.send("--now")  # a.test has been told, and its report was not counted in turn
        assert (again.exit_code, again.stdout) == (1, "b.test: no report: it has no TLSRPT record\n")
        nothing = await here.send("--now")
        assert nothing.exit_code == 0
        assert nothing.stdout.startswith("Nothing is counted on ")


async def test_what_was_counted_last_is_on_disk_when_the_service_has_ended(tmp_path: Path) -> None:
    """The counts of a delivery that ends while the service does, too."""
    async with place(tmp_path) as here:
        assert (await submit(here.port, b"Subject: x\r\n\r\nx\r\n", b"u@r.test", b"s@s.test")).startswith(b"250")
        await here.sink.wait_for(1)
    assert sum(of_day(tmp_path / "state", utc_now().date()).totals["r.test"]) == 1


async def test_without_a_key_by_https_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "_EVERY_SECONDS", 0.05)
    async with place(tmp_path, key=False) as here:
        done = await here.send("--now", "a.test", "--day", "today")
        assert done.exit_code == 1
        assert TlsReportsUnsigned("s.test") in here.events
        head, web, mail = done.stdout.splitlines()
        assert head.startswith("a.test: report 20")
        assert "sent" in web and "r.test answered 201" in web
        assert "given up" in mail and "cannot be signed: no [[dkim_key]] is for it" in mail


async def test_no_service(tmp_path: Path) -> None:
    async with place(tmp_path, runs=False) as here:
        done = await here.send("--now", "a.test")
        assert (done.exit_code, done.stderr) == (
            2,
            "relay: no service runs, and it is the service that sends reports\n",
        )
        assert (await here.send("a.test")).exit_code == 2  # without --now they go by themselves
        assert "has not begun" in (await here.send("--now", "--day", "2999-01-01")).stderr
        assert "is no day" in (await here.send("--now", "--day", "monday")).stderr
        assert "is not a domain name" in (await here.send("--now", "a..test")).stderr
        here.file.write_text(here.file.read_text().replace('organization = "Example Inc.", ', ""))
        assert "TLS reports are off" in (await here.send("--now")).stderr
