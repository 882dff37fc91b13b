"""`relay dkim check`, and what `relay check` says of keys, against the lab's DNS."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.check import look
from relay.cli import relay
from relay.config import load_without_files
from relay.dkim_page import record
from relay.dmarc_check import look_at_domains
from relay.finding import Level, ok
from relay.lab.zones import Fault, Zone, Zones
from relay.settings import HostPort
from relay.signing.keygen import KeyType, new_key
from relay.signing.keys import SigningKey, load_key
from relay.signing_settings import DkimKeySettings

NOW = datetime(2026, 3, 4, tzinfo=UTC)
HEAD = "[dns]\nnameservers = [{dns}]\ntimeout = '1s'\n[tlsrpt]\norganization = 'Us'\ncontact = 'tls@two.test'\n"
TABLE = "[[dkim_key]]\ndomain = '{domain}'\nselector = 's1'\nkey_file = '{file}'\n"


class Place:
    """Settings with a key for each of two domains, and a zone for each."""

    def __init__(self, folder: Path, zones: Zones, dns: HostPort) -> None:
        self.zones = zones
        self.settings = folder / "relay.toml"
        text = HEAD.format(dns=json.dumps(str(dns)))
        self.keys: dict[str, SigningKey] = {}
        for domain in ("one.test", "two.test"):
            file = folder / f"{domain}.pem"
            file.write_bytes(new_key(KeyType.ED25519, 0))
            text += TABLE.format(domain=domain, file=file)
            key = load_key(DkimKeySettings(domain=domain, selector="s1", key_file=file))
            assert isinstance(key, SigningKey)
            self.keys[domain] = key
            self.publish(domain, record(key))
        self.settings.write_text(text)

    def publish(self, domain: str, *texts: str) -> None:
        self.zones.replace(f"s1._domainkey.{domain}", "TXT", *(f'"{text}"' for text in texts))

    async def check(self, *words: str) -> Result:
        arguments = ["dkim", "check", "--config", str(self.settings), *words]
        return await asyncio.to_thread(CliRunner().invoke, relay, arguments)


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    zones = Zones({"one.test": Zone(), "two.test": Zone()})
    try:
        yield Place(folder, zones, await zones.start())
    finally:
        await zones.stop()


@pytest.mark.asyncio
async def test_what_relay_check_says_of_dmarc(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        there.zones.replace("one.test", "TXT", '"v=spf1 ip4:192.0.2.10 -all"')
        there.zones.replace("_dmarc.one.test", "TXT", '"v=DMARC1; p=reject"')
        there.zones.replace("s1._domainkey.two.test", "TXT")
        given = load_without_files(there.settings, {})
        delivery = given.delivery.model_copy(update={"public_addresses": ("192.0.2.10",)})
        settings = given.model_copy(update={"delivery": delivery})
        one, two = await look_at_domains(settings, "relay.test", NOW)
        assert one == ok("dmarc", "one.test: SPF will pass")
        assert (two.level, two.text.partition(";")[0]) == (Level.WARN, "two.test: there is no DMARC record")
        there.zones.replace("_dmarc.two.test", "TXT", '"v=DMARC1; p=reject"')
        _, two = await look_at_domains(settings, "relay.test", NOW)
        assert two.level is Level.FAIL and (two.remedy or "").startswith("publish SPF of two.test, a TXT record")


@pytest.mark.asyncio
async def test_all_is_well(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        done = await there.check()
        assert done.stdout.splitlines() == [
            "ok    dkim  s1._domainkey.one.test: DNS has this key",
            "ok    dkim  s1._domainkey.two.test: DNS has this key",
        ]
        assert done.exit_code == 0


def _other(there: Place) -> None:
    there.publish("one.test", record(there.keys["two.test"]))


def _silent(there: Place) -> None:
    there.zones.set_fault("s1._domainkey.one.test", "TXT", Fault.SERVFAIL)


def _both(there: Place) -> None:
    there.zones.set_fault("s1._domainkey.two.test", "TXT", Fault.SERVFAIL)
    there.publish("one.test")


def _trial(there: Place) -> None:
    there.publish("one.test", f"{record(there.keys['one.test'])}; t=y")


def _not_for_reports(there: Place) -> None:
    for domain in there.keys:
        there.publish(domain, f"{record(there.keys[domain])}; s=email")


CHANGES: list[tuple[Callable[[Place], None], int, list[tuple[str, str]]]] = [
    (lambda there: there.publish("one.test"), 1, [("missing", "fail"), ("matches", "ok")]),
    (lambda there: there.publish("one.test", "v=DKIM1; p="), 1, [("revoked", "fail"), ("matches", "ok")]),
    (_other, 1, [("other-key", "fail"), ("matches", "ok")]),
    (_silent, 2, [("not-known", "warn"), ("matches", "ok")]),
    (_both, 1, [("missing", "fail"), ("not-known", "warn")]),
    (_trial, 0, [("trial", "warn"), ("matches", "ok")]),
    (_not_for_reports, 0, [("matches", "ok"), ("not-for-reports", "warn")]),
]


@pytest.mark.asyncio
async def test_what_is_not_well(tmp_path: Path) -> None:
    for number, (change, code, results) in enumerate(CHANGES):
        (tmp_path / str(number)).mkdir()
        async with place(tmp_path / str(number)) as there:
            change(there)
            done = await there.check("--json")
            listed = json.loads(done.stdout)
            assert [(one["result"], one["level"]) for one in listed] == results
            assert [one["name"] for one in listed] == ["s1._domainkey.one.test", "s1._domainkey.two.test"]
            assert done.exit_code == code
            page = (await there.check()).stdout
            for one in listed:
                assert f"{one['level']:4}  dkim  {one['name']}: {one['text']}\n" in page
                assert (one["remedy"] is None) is (one["level"] == "ok")
                assert one["remedy"] is None or f"-> {one['remedy']}\n" in page


@pytest.mark.asyncio
async def test_relay_check_looks_at_keys_and_their_files(tmp_path: Path) -> None:
    async with place(tmp_path) as there:
        there.publish("two.test")
        (tmp_path / "three.pem").write_text("no key")
        for name, mode in (("one.test", 0o604), ("two.test", 0o660), ("three", 0o600)):
            (tmp_path / f"{name}.pem").chmod(mode)
        with there.settings.open("a") as file:
            file.write(TABLE.format(domain="three.test", file=tmp_path / "three.pem"))
        settings = load_without_files(there.settings, {})
        seen = await look(settings, tmp_path / "state", "relay.one.test", datetime(2030, 1, 1, tzinfo=UTC))
        found = [one for one in seen if one.subject == "dkim"]
        assert [one.level for one in found] == [Level.FAIL, Level.OK, Level.FAIL, Level.WARN]
        assert "three.pem does not hold a private key in PEM form" in found[0].text
        assert found[1].text == "s1._domainkey.one.test: DNS has this key"
        assert found[2].text == "s1._domainkey.two.test: DNS has no TXT record there"
        assert found[3].remedy == f"chmod o= {tmp_path / 'one.test.pem'}"
