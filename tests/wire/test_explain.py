"""`relay explain` walks as an attempt does: what it says of a host is what mail to it meets, and it sends nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from attempt_world import CONTEXTS, DOWN, NOW, ROOTS, World, make_claim, world

from relay import explained
from relay.config import load_without_files
from relay.delivery.explain import Means, explain_host
from relay.delivery.route import Route
from relay.explain import explain
from relay.lab.certs import Leaf
from relay.lab.sink import SinkScript
from relay.lab.zones import Security, Zone, Zones
from relay.mail.address import parse_address
from relay.mail.outcome import Deferred, Delivered
from relay.policy.explanation import Explanation, HostExplained, Question, StsExplained
from relay.policy.memory import MemoryRules, OnTlsLoss
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides
from relay.policy.sts import StsMode
from relay.policy.verdict import Allow, Refuse, Requirement

pytestmark = pytest.mark.asyncio

OK = SinkScript()
DAY = timedelta(days=1)


async def explained_way(there: World, domain: str, connect: bool = True) -> Explanation:
    tools = there.tools
    means = Means(
        tools.router,
        tools.guard,
        CONTEXTS,
        ROOTS,
        tools.sources.choose(None),
        tools.clock,
        tools.timeouts,
        tools.overrides,
        there.memories,
    )
    route = await tools.router.direct(domain)
    assert isinstance(route, Route)
    hosts = [await explain_host(domain, host, route, means, connect) for host in route.hosts]
    sts = StsExplained(route.sts)
    return Explanation(
        domain, NOW, True, "because", route.domain, sts, hosts=tuple(hosts), port=route.port, connected=connect
    )


async def assert_mail_meets(there: World, host: HostExplained) -> None:
    """What was said of the only host of a.test is what becomes of mail."""
    verdict = host.sessions[0].verdict if host.sessions else host.need
    (outcome,) = await there.attempt(make_claim("b@a.test"))
    if isinstance(outcome, Delivered):
        assert isinstance(verdict, Allow)
        assert verdict.tls is outcome.tls
    else:
        assert isinstance(outcome, Deferred)
        assert isinstance(verdict, Refuse)
        assert (verdict.status, verdict.reason) == (outcome.status, outcome.reason)


@pytest.mark.parametrize(
    ("leaf", "sts", "sts_mx", "dane"),
    [
        (None, None, None, False),
        (Leaf.GOOD, StsMode.ENFORCE, None, False),
        (Leaf.EXPIRED, StsMode.ENFORCE, None, False),
        (Leaf.GOOD, StsMode.ENFORCE, "other.a.test", False),
        (None, StsMode.ENFORCE, None, False),
        (Leaf.EXPIRED, StsMode.TESTING, None, False),
        (Leaf.SELF_SIGNED, None, None, True),
        (Leaf.SELF_SIGNED, StsMode.ENFORCE, None, True),
        (None, None, None, True),
    ],
)
async def test_it_says_what_mail_meets(leaf: Leaf | None, sts: StsMode | None, sts_mx: str | None, dane: bool) -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK, leaf=leaf, sts=sts, sts_mx=sts_mx, dane=dane)
        found = await explained_way(there, "a.test")
        assert sinks[0].received == []
        (host,) = found.hosts
        await assert_mail_meets(there, host)


@pytest.mark.parametrize("mode", OverrideMode)
@pytest.mark.parametrize("level", [level for level in OverrideLevel if level is not OverrideLevel.FINGERPRINT])
@pytest.mark.parametrize("hosts", [(), ("mx1.a.test",), ("127.2.0.1",)], ids=["domain", "host", "address"])
@pytest.mark.parametrize(("leaf", "sts"), [(None, None), (Leaf.EXPIRED, StsMode.ENFORCE), (Leaf.GOOD, None)])
async def test_it_says_what_mail_meets_under_an_override(
    mode: OverrideMode, level: OverrideLevel, hosts: tuple[str, ...], leaf: Leaf | None, sts: StsMode | None
) -> None:
    one = Override(() if hosts else ("a.test",), hosts, level, mode, "ticket 7", "ops", NOW + DAY)
    async with world(overrides=Overrides([one])) as there:
        await there.domain("a.test", OK, leaf=leaf, sts=sts)
        (host,) = (await explained_way(there, "a.test")).hosts
        await assert_mail_meets(there, host)


async def test_the_page_and_the_object() -> None:
    one = Override(("a.test",), (), OverrideLevel.ENCRYPT, OverrideMode.RAISE, "ticket 7", "ops", NOW + DAY)
    async with world(overrides=Overrides([one])) as there:
        await there.domain("a.test", DOWN, OK, leaf=Leaf.SELF_SIGNED, dane=True)
        await there.memories.note("mx2.a.test", tls=True, authenticated_by="dane", now=NOW - DAY)
        found = await explained_way(there, "a.test")
        text = explained.page(found)
        assert text.splitlines()[2:4] == ["DNSSEC      believed: because", "MTA-STS     no policy"]
        assert f"\n1. mx1.a.test, preference 10, port {there.port}\n   DNS         MX signed, address signed\n" in text
        assert "     problem     mx1.a.test [127.2.0.1]: connection refused\n" in text
        assert "\n   DANE        TLSA records at mx2.a.test: 3 1 1 " in text
        assert "   override    encrypt, beside what is published, until " in text
        assert "   memory      TLS since " in text
        assert "   required    TLS 1.2 or newer, a certificate that a TLSA record matches (dane)\n" in text
        assert "     EHLO        PIPELINING, " in text
        assert "     TLS         TLS 1.3, TLS_AES_256_GCM_SHA384\n" in text
        assert "     chain       mx2.a.test, issued by mx2.a.test, valid " in text
        assert "     names       mx2.a.test\n     matched     TLSA record 3 1 1 " in text
        assert "     verdict     may carry mail, TLS verified (rule dane)\n" in text
        whole = json.loads(explained.as_json(found))
        assert [host["name"] for host in whole["hosts"]] == ["mx1.a.test", "mx2.a.test"]
        assert whole["hosts"][0]["sessions"][0]["allowed"] is None
        session = whole["hosts"][1]["sessions"][0]
        assert (session["allowed"], session["rule"], session["tls"]) == (True, "dane", "verified")
        assert (session["tls_version"], session["names"]) == ("TLS 1.3", ["mx2.a.test"])


async def test_what_is_reported_and_not_required() -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=Leaf.EXPIRED, sts=StsMode.TESTING)
        text = explained.page(await explained_way(there, "a.test"))
        assert "   required    nothing: TLS when it works, clear text otherwise (opportunistic)\n" in text
        assert "   reported    TLS 1.2 or newer, a certificate of a trusted authority that names mx1.a.test" in text
        assert "may carry mail, TLS encrypted; reported, not enforced: " in text


async def test_a_certificate_that_is_not_accepted_is_shown() -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=Leaf.EXPIRED, sts=StsMode.ENFORCE)
        text = explained.page(await explained_way(there, "a.test"))
        assert "     TLS         no TLS: the certificate was not accepted: certificate has expired\n" in text
        assert "     chain       mx1.a.test, issued by Lab Intermediate" in text
        assert "     verdict     mail is kept back, 4.7.5: the MTA-STS policy demands TLS, but " in text


async def test_a_loss_of_tls_is_told() -> None:
    async with world(memory=MemoryRules(OnTlsLoss.DEFER, DAY, DAY)) as there:
        await there.domain("a.test", OK)
        for days in (3, 1):
            await there.memories.note("mx1.a.test", tls=True, authenticated_by=None, now=NOW - days * DAY)
        text = explained.page(await explained_way(there, "a.test"))
        assert "mail is kept back, 4.7.4: mx1.a.test had TLS from " in text
        assert "(rule tls-memory)" in text


async def test_without_connect_nobody_is_called() -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=StsMode.ENFORCE)
        found = await explained_way(there, "a.test", connect=False)
        assert isinstance(found.hosts[0].need, Requirement)
        assert sinks[0].sessions.connections == 0
        assert "--connect" in explained.page(found)


async def test_hosts_without_addresses_and_strange_answers_are_told() -> None:
    async with world(allow_private=False) as there:
        there.publish("a.test", "@ MX 10 mx1\n@ MX 20 mx2\nmx2 A 127.2.0.9", Security.UNSIGNED)
        found = await explained_way(there, "a.test")
        text = explained.page(found)
        assert "   problem     the mail host mx1.a.test has no address\n" in text
        assert "     problem     127.2.0.9 is a loopback address\n" in text


ROUTES = """
[delivery]
allow_private_addresses = true
[[route]]
name = "news"
sender_domains = ["news.test"]
hosts = ["one.smart.test:587", "192.0.2.9"]
user = "us"
tls = "fingerprint"
fingerprints = ["{digest}"]
password_file = "p"
[[route]]
name = "bin"
logins = ["robot"]
action = "discard"
[[route]]
name = "by-mx"
recipient_domains = [".mx.test"]
hosts = ["smart.test"]
mx = true
"""
ZONES = {
    "a.test": Zone("@ MX 10 mx\nmx A 127.3.0.1"),
    "smart.test": Zone("@ MX 10 one\none A 127.3.0.2"),
    "signed.test": Zone("@ A 127.0.0.1", Security.SIGNED),
    "bogus.test": Zone("@ A 127.0.0.1", Security.BOGUS),
}


@pytest.mark.parametrize(
    ("recipient", "sender", "login", "lines"),
    [
        ("b@a.test", None, None, ["MTA-STS     no policy", "1. mx.a.test, preference 10"]),
        (
            "b@a.test",
            "x@news.test",
            None,
            [
                "route       news: one.smart.test:587, then 192.0.2.9:25, as us; the policies of one.smart.test hold",
                "1. one.smart.test, a host of the route, port 587",
                "route       news: one.smart.test:587, then 192.0.2.9:25, as us; the policies of 192.0.2.9 hold",
                "2. 192.0.2.9, a host of the route",
                "   required    TLS 1.2 or newer, "
                "a certificate or key with one of the fingerprints in the settings (route)",
            ],
        ),
        ("b@a.test", "x@a.test", "robot", ["route       bin", "mail        goes nowhere: the route bin discards it"]),
        (
            "b@sub.mx.test",
            None,
            None,
            [
                "route       by-mx: smart.test:25 by its MX records; the policies of smart.test hold",
                "1. one.smart.test, preference 10",
            ],
        ),
    ],
)
async def test_the_route_that_takes_the_mail(
    recipient: str, sender: str | None, login: str | None, lines: list[str], tmp_path: Path
) -> None:
    zones = Zones(ZONES)
    try:
        resolver = await zones.start()
        (tmp_path / "relay.toml").write_text(
            f'[dns]\nnameservers = ["{resolver}"]\nself_test_signed = "signed.test"\n'
            f'self_test_bogus = "bogus.test"\n{ROUTES.format(digest="ab" * 32)}'
        )
        settings = load_without_files(tmp_path / "relay.toml", {})
        whose = None if sender is None else parse_address(sender.encode())
        asked = Question(parse_address(recipient.encode()), whose, login)
        found = await explain(settings, tmp_path, "relay.test", asked, lambda: NOW, connect=False)
        page = explained.page(found).splitlines()
        assert [line for line in lines if line not in page] == []
        whole = json.loads(explained.as_json(found))
        assert len([found.route, *(one.route for one in found.more)]) == 1 + len(whole["more"])
        assert whole["route"] == found.route
    finally:
        await zones.stop()
