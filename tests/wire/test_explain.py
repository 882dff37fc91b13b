"""`relay explain` walks as an attempt does: what it says of a host is what mail to it meets, and it sends nothing."""

from __future__ import annotations

import json

import pytest
from attempt_world import CONTEXTS, DOWN, NOW, ROOTS, World, make_claim, world

from relay import explained
from relay.delivery.explain import Means, explain_host
from relay.delivery.route import Route
from relay.lab.certs import Leaf
from relay.lab.sink import SinkScript
from relay.lab.zones import Security
from relay.mail.outcome import Deferred, Delivered
from relay.policy.explanation import Explanation
from relay.policy.sts import StsMode
from relay.policy.verdict import Allow, Refuse, Requirement

pytestmark = pytest.mark.asyncio

OK = SinkScript()


async def explained_way(there: World, domain: str, connect: bool = True) -> Explanation:
    tools = there.tools
    means = Means(tools.router, tools.guard, CONTEXTS, ROOTS, tools.hostname, tools.clock, tools.timeouts)
    route = await tools.router.route(domain)
    assert isinstance(route, Route)
    hosts = [await explain_host(host, route, means, connect) for host in route.hosts]
    return Explanation(domain, NOW, "DNSSEC is believed", route.sts, hosts=tuple(hosts), connected=connect)


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
        verdict = host.sessions[0].verdict if host.sessions else host.need
        (outcome,) = await there.attempt(make_claim("b@a.test"))
        if isinstance(outcome, Delivered):
            assert isinstance(verdict, Allow)
            assert verdict.tls is outcome.tls
        else:
            assert isinstance(outcome, Deferred)
            assert isinstance(verdict, Refuse)
            assert (verdict.status, verdict.reason) == (outcome.status, outcome.reason)


async def test_the_page_and_the_object() -> None:
    async with world() as there:
        await there.domain("a.test", DOWN, OK, leaf=Leaf.SELF_SIGNED, dane=True)
        found = await explained_way(there, "a.test")
        text = explained.page(found)
        assert text.splitlines()[1:3] == ["  DNSSEC is believed", "  MTA-STS: no policy"]
        assert "   10 mx1.a.test  (MX signed, address signed)\n" in text
        assert "127.2.0.1: mx1.a.test [127.2.0.1]: connection refused\n" in text
        assert "required: TLS 1.2 or newer, a certificate that a TLSA record matches (dane) (rule dane)\n" in text
        assert "127.2.0.2: TLS 1.3, " in text
        assert (
            "certificate for mx2.a.test, REQUIRETLS offered\n        may carry mail, TLS verified (rule dane)" in text
        )
        whole = json.loads(explained.as_json(found))
        assert [host["name"] for host in whole["hosts"]] == ["mx1.a.test", "mx2.a.test"]
        assert whole["hosts"][1]["sessions"][0]["verdict"] == "may carry mail, TLS verified (rule dane)"


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
        assert "      the mail host mx1.a.test has no address\n" in text
        assert "127.2.0.9: 127.2.0.9 is a loopback address\n" in text
