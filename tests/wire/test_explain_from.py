"""`relay explain --from`: what it shows, in words and as JSON, and its exit code; and our own addresses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay import explained_from
from relay.cli import relay
from relay.explain_from import FromExplained, explain_from
from relay.guard import AddressGuard
from relay.lab.zones import Fault, Zone, Zones
from relay.lookup import alignment
from relay.lookup.alignment import AlignmentFinder, Asked
from relay.lookup.own_addresses import OwnAddresses, own_addresses
from relay.lookup.resolver import Resolver
from relay.mail.address import parse_address
from relay.policy.alignment import Kind, judge
from relay.policy.source import Source, Sources
from relay.settings import Settings
from relay.signing.keys import KeyTable

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
RECORDS = """
@               TXT "v=spf1 ip4:192.0.2.10 ~all"
_dmarc          TXT "v=DMARC1; p=reject; adkim=s"
s1._domainkey   TXT "v=DKIM1; k=ed25519; p=AAAA"
bounce          TXT "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"
"""


@asynccontextmanager
async def asking(folder: Path, **delivery: object) -> AsyncIterator[tuple[Zones, Settings]]:
    """DNS of example.test, and settings that ask it and have a key for that domain, and one that cannot be used."""
    file = folder / "key.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    zones = Zones({"example.test": Zone(RECORDS), "other.test": Zone("@ TXT x")})
    server = await zones.start()
    keys = [{"domain": "example.test", "selector": "s1", "key_file": str(file)}]
    keys.append({"domain": "other.test", "selector": "s1", "key_file": str(folder / "gone.pem")})
    try:
        yield (
            zones,
            Settings.model_validate(
                {"dns": {"nameservers": [str(server)]}, "delivery": delivery, "dkim_key": keys},
            ),
        )
    finally:
        await zones.stop()


async def look(settings: Settings, domain: str, sender: str | None) -> FromExplained:
    whose = None if sender is None else parse_address(sender.encode())
    return await explain_from(settings, "relay.test", domain, whose, NOW)


@pytest.mark.asyncio
async def test_what_is_shown(tmp_path: Path) -> None:
    public = ["192.0.2.10", "2001:db8::10"]
    async with asking(tmp_path, public_addresses=public) as (_, settings):
        found = await look(settings, "example.test", "a@example.test")
        assert explained_from.exit_code(found) == 1
        assert explained_from.page(found) == (
            "mail from example.test, 2026-03-04 05:06:07 UTC\n"
            "\n"
            "sender      example.test\n"
            "SPF         v=spf1 ip4:192.0.2.10 ~all\n"
            "            192.0.2.10: pass, 'ip4:192.0.2.10' of example.test matches\n"
            "            2001:db8::10: softfail, '~all' of example.test matches\n"
            "DKIM        s1._domainkey.example.test, ed25519-sha256: the record in DNS has another key\n"
            f"            {tmp_path}/gone.pem cannot be read: No such file or directory\n"
            "DMARC       v=DMARC1; p=reject; adkim=s (at _dmarc.example.test): asks for reject; DKIM strict, "
            "house example.test\n"
            "\n"
            "verdict     partly: SPF: 2001:db8::10: softfail, '~all' of example.test matches; "
            "DKIM: s1._domainkey.example.test: the record in DNS has another key\n"
            "to do       add ip6:2001:db8::10 to the SPF record of example.test\n"
            "or          publish what `relay dkim show --domain example.test --selector s1` prints in its place, "
            "or name the file of the key that DNS has\n"
        )
        shown = json.loads(explained_from.as_json(found))
        assert shown["spf"]["addresses"][1] == {
            "address": "2001:db8::10",
            "result": "softfail",
            "reason": "'~all' of example.test matches",
        }
        assert (shown["verdict"], shown["dkim"][0]["dns"], shown["dmarc"]["policy"]) == ("partly", "differs", "reject")
        below = await look(settings, "example.test", "a@bounce.example.test")
        assert (below.found.kind, explained_from.exit_code(below)) == (Kind.PASSES, 0)
        assert "sender      bounce.example.test, of the house example.test\n" in explained_from.page(below)
        notice = await look(settings, "example.test", None)
        assert (notice.found.kind, json.loads(explained_from.as_json(notice))["sender"]) == (Kind.FAILS, None)
        assert "sender      none (a notice): SPF is that of our name, relay.test\n" in explained_from.page(notice)


@pytest.mark.asyncio
async def test_what_is_not_known(tmp_path: Path) -> None:
    async with asking(tmp_path, source_ipv4="10.0.0.1", source_ipv6="fd00::1") as (zones, settings):
        found = await look(settings, "example.test", "a@example.test")
        assert explained_from.exit_code(found) == 2
        assert "SPF         our public address is not known (10.0.0.1 is a private address; " in explained_from.page(
            found
        )
        zones.set_fault("_dmarc.other.test", "TXT", Fault.SERVFAIL)
        found = await look(settings, "other.test", "a@other.test")
        assert explained_from.exit_code(found) == 2
        assert "DMARC       not known: DNS reported a failure (SERVFAIL) for _dmarc.other.test (TXT)" in (
            explained_from.page(found)
        )
    async with asking(tmp_path, next_hop="smart.test:25") as (_, settings):
        found = await look(settings, "other.test", "a@other.test")
        assert "SPF         a smart host sends the mail on, and its addresses count: give them in" in (
            explained_from.page(found)
        )
        assert "DMARC       no record\n" in explained_from.page(found)
    async with asking(tmp_path, public_addresses=["192.0.2.10"]) as (zones, settings):
        found = await look(settings, "other.test", "a@nothing.test")
        assert "SPF         no record\n            192.0.2.10: none, nothing.test has no SPF record\n" in (
            explained_from.page(found)
        )
        zones.set_fault("other.test", "TXT", Fault.SERVFAIL)
        found = await look(settings, "other.test", "a@other.test")
        assert "SPF         not known\n            192.0.2.10: temperror, " in explained_from.page(found)


@pytest.mark.asyncio
async def test_a_key_that_only_the_service_can_read_may_sign(tmp_path: Path) -> None:
    async with asking(tmp_path, public_addresses=["192.0.2.10"]) as (_, settings):
        found = await look(settings, "other.test", "a@other.test")
        assert (found.found.kind, explained_from.exit_code(found)) == (Kind.UNKNOWN, 2)
        assert f"            {tmp_path}/gone.pem cannot be read: " in explained_from.page(found)


@pytest.mark.asyncio
async def test_the_whole_is_limited_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "LIMIT_SECONDS", 0.1)
    async with asking(tmp_path) as (zones, settings):
        for name in ("_dmarc.example.test", "example.test"):
            zones.set_fault(name, "ANY", Fault.TIMEOUT)
        resolver = Resolver(settings.dns.nameservers, settings.dns.timeout)
        guard = AddressGuard(True)
        finder = AlignmentFinder(resolver, Sources(Source("192.0.2.1")), (), guard, KeyTable)
        async with asyncio.timeout(5):
            facts = await finder.find(Asked("example.test", parse_address(b"a@example.test")))
        assert judge(facts).kind is Kind.UNKNOWN
        await resolver.close()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give the domain that mail goes to, or --from and the domain that it comes from"),
        (["a.test", "--from", "b.test"], "give the domain that mail goes to, or --from"),
        (["--from", "b.test", "--connect"], "--connect and --login are for the way to a domain"),
        (["--from", "b..test"], "'b..test' is not a domain name"),
        (["--from", "[192.0.2.1]"], "[192.0.2.1] is no domain"),
        (["--from", "b.test", "--sender", "a@@b"], "relay: "),
    ],
)
def test_mistakes(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(relay, ["explain", *arguments], env={"RELAY_HOSTNAME": "relay.test"})
    assert result.exit_code == 2 and problem in result.output


GUARD = AddressGuard(False)


@pytest.mark.parametrize(
    ("source", "public", "known", "hidden"),
    [
        (Source("8.8.8.8", "2a00::1"), (), ("8.8.8.8", "2a00::1"), ()),
        (Source("10.0.0.1", "2a00::1"), ("8.8.4.4",), ("8.8.4.4", "2a00::1"), ()),
        (Source("8.8.8.8", "2a00::1"), ("8.8.4.4", "2a00::2"), ("8.8.8.8", "2a00::1"), ()),
        (Source(), ("8.8.4.4", "2a00::2"), ("8.8.4.4", "2a00::2"), ()),
        (Source("", "fd00::1"), ("192.0.2.1",), ("192.0.2.1",), ()),
        (Source("10.0.0.1", "2a00::1"), (), ("2a00::1",), ("10.0.0.1 is a private address",)),
    ],
)
def test_with_which_addresses_others_see_us(
    source: Source, public: tuple[str, ...], known: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    assert own_addresses(source, public, GUARD) == OwnAddresses(known, hidden)


def test_the_address_that_the_system_chooses() -> None:
    """Whatever this machine has: no packet is sent, and what is private is not said to be known."""
    found = own_addresses(Source(), (), GUARD)
    assert all(GUARD.refusal(address) is None for address in found.known)
    assert len(found.known) + len(found.hidden) <= 2
