"""check_host against the test suite of RFC 7208 and cases of our own, with real DNS on loopback.

tests/data/spf holds the suite of openspf.org (see LICENSE there) as JSON: the cases (client, HELO, MAIL FROM, results
that are right) and zones; explanations, which nobody asks for here, are left out.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dns.name
import pytest

from relay.lab.zones import Fault, Zone, Zones
from relay.lookup.resolver import Resolver
from relay.lookup.spf import Identity, check_host
from relay.policy.spf import Spf, SpfResult

SUITE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "spf" / "rfc7208-tests.json").read_text(encoding="utf-8")
)
CASES = sum(len(scenario["tests"]) for scenario in SUITE)


@asynccontextmanager
async def resolving(zones: Zones) -> AsyncIterator[Resolver]:
    resolver = Resolver([await zones.start()], timedelta(seconds=5))
    try:
        yield resolver
    finally:
        await resolver.close()
        await zones.stop()


def name(text: str) -> str:
    return dns.name.Name([*(label.encode() for label in text.rstrip(".").split(".")), b""]).to_text()


def line(owner: str, rdtype: str, data: Any) -> str:
    match rdtype:
        case "TXT":
            strings = (b for text in data for b in (text.encode()[i : i + 255] for i in range(0, len(text) or 1, 255)))
            data = (
                '""'
                if not data
                else " ".join('"' + "".join(f"\\{octet:03}" for octet in string) + '"' for string in strings)
            )
        case "MX":
            data = f"{data[0]} {name(data[1]) if data[1] else '.'}"
        case "CNAME" | "PTR":
            data = name(data)
    return f"{name(owner)} {rdtype} {data}"


def zones_of(scenario: Mapping[str, list[list[Any]]]) -> Zones:
    """The zone data as one root zone; where it says TIMEOUT the server fails at once, which is the same to a client."""
    lines = []
    faults: dict[tuple[str, str], Fault] = {}
    for owner, records in scenario.items():
        kinds = {rdtype for rdtype, _ in records}
        for rdtype, data in records:
            if rdtype == "TIMEOUT":
                faults |= {
                    (name(owner), kind): Fault.SERVFAIL for kind in ("TXT", "A", "AAAA", "MX") if kind not in kinds
                }
            elif rdtype != "SPF":  # type 99, of which RFC 7208 wants nothing to be known
                lines.append(line(owner, rdtype, data))
    return Zones({".": Zone("\n".join(dict.fromkeys(lines)))}, faults)


def identity(helo: str, mail_from: str) -> Identity:
    local, _, domain = mail_from.rpartition("@")
    return Identity(local or "postmaster", domain or helo, helo)


def test_the_suite_is_whole() -> None:
    assert (len(SUITE), CASES) == (16, 203)


@pytest.mark.asyncio
@pytest.mark.parametrize("scenario", SUITE, ids=lambda scenario: scenario["description"])
async def test_the_suite_of_rfc_7208(scenario: dict[str, Any]) -> None:
    wrong = {}
    async with resolving(zones_of(scenario["zone"])) as resolver:
        for title, (host, helo, mail_from, right) in scenario["tests"].items():
            found = await check_host(resolver, host, identity(helo, mail_from))
            if found.result.value not in right:
                wrong[title] = (right, found)
    assert not wrong


OWN = """
plain           TXT  "v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 ~all"
open            TXT  "v=spf1 ip4:192.0.2.1"
loop            TXT  "v=spf1 include:loop.spf.test -all"
redirected      TXT  "v=spf1 redirect=plain.spf.test"
included        TXT  "v=spf1 include:plain.spf.test ?all"
nothing         TXT  "v=spf1 include:none.spf.test -all"
void            TXT  "v=spf1 a:v1.spf.test a:v2.spf.test a:v3.spf.test -all"
by-mailbox      TXT  "v=spf1 exists:%{l}.ok.spf.test -all"
ann.ok          A    127.0.0.2
broken          TXT  "v=spf1 a:servfail.spf.test -all"
wrong           TXT  "v=spf1 ip4:192.0.2 -all"
fan             TXT  "v=spf1 mx:m1.spf.test mx:m2.spf.test mx:m3.spf.test mx:m4.spf.test mx:m5.spf.test -all"
"""
OWN += "".join(f"m{m} MX {n} m{m}n{n}\n" + f"m{m}n{n} A 203.0.113.{n}\n" for m in range(1, 6) for n in range(10))


@pytest.mark.asyncio
async def test_results_and_their_words() -> None:
    table = [
        ("plain", "192.0.2.1", SpfResult.PASS, "'ip4:192.0.2.1' of plain.spf.test matches"),
        ("plain", "2001:db8::9", SpfResult.PASS, "'ip6:2001:db8::/32' of plain.spf.test matches"),
        ("plain", "192.0.2.2", SpfResult.SOFTFAIL, "'~all' of plain.spf.test matches"),
        ("open", "192.0.2.2", SpfResult.NEUTRAL, "no term of the record of open.spf.test matches"),
        ("redirected", "192.0.2.1", SpfResult.PASS, "'ip4:192.0.2.1' of plain.spf.test matches"),
        ("included", "192.0.2.1", SpfResult.PASS, "'include:plain.spf.test' of included.spf.test matches"),
        ("included", "192.0.2.2", SpfResult.NEUTRAL, "'?all' of included.spf.test matches"),
        ("none", "192.0.2.1", SpfResult.NONE, "none.spf.test has no SPF record"),
        (
            "nothing",
            "192.0.2.1",
            SpfResult.PERMERROR,
            "include of nothing.spf.test: none.spf.test has no SPF record",
        ),
        (
            "loop",
            "192.0.2.1",
            SpfResult.PERMERROR,
            "more than 10 terms ask DNS, 'include:loop.spf.test' is one too many",
        ),
        ("void", "192.0.2.1", SpfResult.PERMERROR, "more than 2 names that it asks for do not exist"),
        (
            "broken",
            "192.0.2.1",
            SpfResult.TEMPERROR,
            "DNS reported a failure (SERVFAIL) for servfail.spf.test (A)",
        ),
        (
            "wrong",
            "192.0.2.1",
            SpfResult.PERMERROR,
            "the SPF record of wrong.spf.test: 'ip4:192.0.2' has a mistake in it",
        ),
    ]
    zones = Zones({"spf.test": Zone(OWN)}, {("servfail.spf.test", "ANY"): Fault.SERVFAIL})
    async with resolving(zones) as resolver:
        for domain, address, result, reason in table:
            found = await check_host(resolver, address, Identity("ann", f"{domain}.spf.test", "mx.example.org"))
            assert (found.result, found.reason, found.by_mailbox) == (result, reason, False), domain
        found = await check_host(resolver, "192.0.2.1", Identity("ann", "plain.spf.test", "mx.example.org"))
        assert found == Spf(
            SpfResult.PASS,
            "plain.spf.test",
            "'ip4:192.0.2.1' of plain.spf.test matches",
            "v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 ~all",
        )


@pytest.mark.asyncio
async def test_a_result_that_depends_on_the_mailbox_says_so() -> None:
    async with resolving(Zones({"spf.test": Zone(OWN)})) as resolver:
        for local, result in (("ann", SpfResult.PASS), ("bob", SpfResult.FAIL)):
            found = await check_host(resolver, "192.0.2.1", Identity(local, "by-mailbox.spf.test", "mx.example.org"))
            assert (found.result, found.by_mailbox) == (result, True)


@pytest.mark.asyncio
async def test_records_that_are_long_together_are_not_read() -> None:
    long = '" "'.join(["ip4:203.0.113.0/24 " * 13] * 30)
    lines = [f'l{n} TXT "v=spf1 " "{long}" "include:l{n + 1}.spf.test -all"' for n in range(5)]
    async with resolving(Zones({"spf.test": Zone("\n".join(lines))})) as resolver:
        found = await check_host(resolver, "192.0.2.1", Identity("ann", "l0.spf.test", "mx.example.org"))
        assert (found.result, found.reason) == (
            SpfResult.TEMPERROR,
            "the SPF records have more than 16384 octets together",
        )


@pytest.mark.asyncio
async def test_a_record_that_fans_out_is_bounded() -> None:
    zones = Zones({"spf.test": Zone(OWN)})
    async with resolving(zones) as resolver:
        found = await check_host(resolver, "192.0.2.1", Identity("ann", "fan.spf.test", "mx.example.org"))
        assert found.result is SpfResult.FAIL
        assert len(zones.asked) == 1 + 5 * 11  # with ten such terms it is 111, and no record can do more
