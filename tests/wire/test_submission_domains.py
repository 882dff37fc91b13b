"""DNS is asked for the domains of senders and recipients: a certain "no" refuses, any doubt does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from submission_peer import Client, Running, Wanted, running

from relay.events import DefectFound
from relay.lab.zones import Fault, Question, Security, Zone, Zones
from relay.lookup.destination import find_destination
from relay.lookup.resolver import Resolver
from relay.policy.routing import Discard, Entry, Routes
from relay.settings import DnsSettings, TrustAd
from relay.submission.domains import DomainChecks

pytestmark = pytest.mark.asyncio

ZONES = {
    "here.test": Zone("@ MX 10 mx\nmx A 192.0.2.1\nimplicit A 192.0.2.2\nimplicit6 AAAA 2001:db8::2"),
    "empty.test": Zone("@ TXT nothing\nip MX 10 192.0.2.1.\nalias CNAME nothing"),
    "null.test": Zone("@ MX 0 ."),
    "bogus.test": Zone("@ MX 0 .", Security.BOGUS),
    "xn--bcher-kva.test": Zone("@ MX 10 mx.here.test."),
    "broken.test": Zone("@ MX 10 mx"),
    "silent.test": Zone("@ MX 10 mx"),
    "halfway.test": Zone("@ TXT x"),
}
FAULTS = {
    ("broken.test", "MX"): Fault.SERVFAIL,
    ("silent.test", "MX"): Fault.TIMEOUT,
    ("halfway.test", "AAAA"): Fault.SERVFAIL,
}
ELSEWHERE = Routes(
    [Entry("away", Discard("away"), ("routed.test",)), Entry("in", Discard("in"), ("x.test",), ("s.test",))]
)
# domain -> what a sender there hears, and a recipient
ANSWERS = {
    "here.test": ("250 2.1.0", "250 2.1.5"),
    "HERE.test": ("250 2.1.0", "250 2.1.5"),
    "implicit.here.test": ("250 2.1.0", "250 2.1.5"),
    "implicit6.here.test": ("250 2.1.0", "250 2.1.5"),
    "bücher.test": ("250 2.1.0", "250 2.1.5"),
    "nothing.here.test": ("550 5.1.8 the domain nothing.here.test does not exist", "550 5.1.2 the domain nothing.here"),
    "no-such.test": ("550 5.1.8", "550 5.1.2"),
    "localhost": ("550 5.1.8", "550 5.1.2"),
    "empty.test": ("550 5.1.8 the domain empty.test has neither a mail host", "550 5.1.2"),
    "ip.empty.test": ("550 5.1.8 the MX records of ip.empty.test name no possible host", "550 5.1.2"),
    "alias.empty.test": ("550 5.1.8 the domain alias.empty.test is an alias of", "550 5.1.2"),
    "null.test": ("550 5.7.27", "550 5.1.10"),
    "bogus.test": ("250 2.1.0", "250 2.1.5"),
    "broken.test": ("250 2.1.0", "250 2.1.5"),
    "silent.test": ("250 2.1.0", "250 2.1.5"),
    "halfway.test": ("250 2.1.0", "250 2.1.5"),
    "[192.0.2.1]": ("250 2.1.0", "250 2.1.5"),
    "[IPv6:2001:db8::1]": ("250 2.1.0", "250 2.1.5"),
    "routed.test": ("250 2.1.0", "250 2.1.5"),
}


@asynccontextmanager
async def checking(
    folder: Path, *, of_senders: bool = True, of_recipients: bool = True, seconds: float = 0.3
) -> AsyncIterator[tuple[Running, Zones]]:
    """A server that asks a real resolver, and the lab's DNS that answers it."""
    zones = Zones(ZONES)
    for (name, kind), fault in FAULTS.items():
        zones.set_fault(name, kind, fault)
    resolver = Resolver([await zones.start()], timedelta(seconds=seconds))
    await resolver.assess(DnsSettings(trust_ad=TrustAd.YES))
    checks = DomainChecks(
        partial(find_destination, resolver), ELSEWHERE, timedelta(seconds=seconds), of_senders, of_recipients
    )
    try:
        async with running(folder, Wanted(domains=checks)) as server:
            yield server, zones
    finally:
        await resolver.close()
        await zones.stop()


async def test_what_each_domain_comes_to(tmp_path: Path) -> None:
    async with checking(tmp_path) as (server, _), await server.connect() as client:
        await client.hello()
        for domain, (of_sender, of_recipient) in ANSWERS.items():
            answer = await client.ask(f"MAIL FROM:<a@{domain}> SMTPUTF8")
            assert answer.startswith(of_sender), (domain, answer)
            await client.ask("RSET")
            await client.ask("MAIL FROM:<> SMTPUTF8")
            answer = await client.ask(f"RCPT TO:<a@{domain}>")
            assert answer.startswith(of_recipient), (domain, answer)
            await client.ask("RSET")
        assert server.count(DefectFound) == 0


async def test_each_check_is_for_itself(tmp_path: Path) -> None:
    async with checking(tmp_path / "s", of_recipients=False) as (server, _), await server.connect() as client:
        await client.hello()
        assert (await client.ask("MAIL FROM:<a@null.test>")).startswith("550 5.7.27 ")
        assert (await client.ask("MAIL FROM:<a@here.test>")).startswith("250 ")
        assert (await client.ask("RCPT TO:<a@null.test>")).startswith("250 ")
    async with checking(tmp_path / "r", of_senders=False) as (server, zones), await server.connect() as client:
        await client.hello()
        assert (await client.ask("MAIL FROM:<a@null.test>")).startswith("250 ")
        assert not zones.asked
        assert (await client.ask("RCPT TO:<a@null.test>")).startswith("550 5.1.10 ")


async def test_a_route_may_go_by_the_sender(tmp_path: Path) -> None:
    async with checking(tmp_path, of_senders=False) as (server, _), await server.connect() as client:
        await client.hello()
        for sender, answer in (("s.test", "250 2.1.5"), ("other.test", "550 5.1.2")):
            await client.ask(f"MAIL FROM:<a@{sender}>")
            assert (await client.ask("RCPT TO:<a@x.test>")).startswith(answer)
            await client.ask("RSET")


@pytest.mark.parametrize("domain", ["here.test", "implicit.here.test", "null.test", "empty.test", "broken.test"])
async def test_a_thousand_recipients_ask_once(domain: str, tmp_path: Path) -> None:
    async with checking(tmp_path) as (server, zones), await server.connect() as client:
        await client.hello()
        await client.ask("MAIL FROM:<>")
        client.send(b"".join(b"RCPT TO:<r%d@%s>\r\n" % (number, domain.encode()) for number in range(1000)))
        answers = {(await client.reply())[:4] for _ in range(1000)}
        assert len(answers) == 1
        questions = list(zones.asked)
        assert questions[0] == Question(domain, "MX")
        assert len(questions) == len(set(questions)) or domain == "broken.test"  # there it is asked again, as always
        assert len(questions) <= 4


async def test_strangers_make_nobody_ask(tmp_path: Path) -> None:
    async with checking(tmp_path) as (server, zones):
        server.server._shared.clients.grants = ()
        async with await server.connect() as client:
            await client.hello()
            assert (await client.ask("MAIL FROM:<a@null.test>")).startswith("250 ")
            assert (await client.ask("RCPT TO:<a@null.test>")).startswith("550 5.7.1 ")
        assert not zones.asked


async def test_a_client_that_leaves_does_not_wait(tmp_path: Path) -> None:
    async with checking(tmp_path, seconds=60) as (server, zones):
        client = await server.connect()
        await client.hello()
        client.send(b"MAIL FROM:<a@silent.test>\r\n")
        await _until_asked(zones, client)
        client.writer.transport.abort()
        (session,) = server.server._shared.sessions
        session.abort()
        async with asyncio.timeout(5):
            await asyncio.shield(session.lost)
            assert session._handler_coroutine is not None
            await asyncio.wait([session._handler_coroutine])


async def _until_asked(zones: Zones, client: Client) -> None:
    async with asyncio.timeout(5):
        while not zones.asked:
            await asyncio.sleep(0.001)
