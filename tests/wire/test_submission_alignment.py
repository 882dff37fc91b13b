"""On submission: a warning once, beside the session; or a refusal, of what is certain to fail alone."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from submission_peer import Client, Running, Wanted, running

from relay.events import AlignmentWarning, DefectFound, Event
from relay.guard import AddressGuard
from relay.lab.zones import Fault, Zone, Zones
from relay.lookup.alignment import AlignmentFinder, Asked
from relay.lookup.resolver import Resolver
from relay.mail.address import parse_address
from relay.mail.handed import Accepted, Declined, HandedIn
from relay.mail.header import Header
from relay.mail.message import NOTHING_ASKED, MessageDsn
from relay.policy.alignment import Facts, Kind
from relay.policy.dmarc import NoDmarc
from relay.policy.routing import ANY, Entry, Hop, Place, Routes
from relay.policy.source import Source, Sources
from relay.signing.keys import Algorithm, KeyTable, SigningKey
from relay.submission.alignment import (
    AT_ONCE,
    MAX_PAIRS,
    MAX_UNDER_WAY,
    AlignmentWatch,
    Submitted,
    author_domain,
    signers,
)

pytestmark = pytest.mark.asyncio

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def key(domain: str, algorithm: Algorithm = Algorithm.RSA_SHA256, subdomains: bool = False) -> SigningKey:
    """Its octets are not of RSA; only their comparison counts here."""
    return SigningKey(domain, "s1", subdomains, algorithm, 2048, PUBLIC, KEY.sign)


KEYS = KeyTable([key("signed.test"), key("ed.test", Algorithm.ED25519_SHA256), key("gone.test")])
RECORDS = """
good            TXT "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"
_dmarc.good     TXT "v=DMARC1; p=reject"
bad             TXT "v=spf1 -all"
_dmarc.bad      TXT "v=DMARC1; p=reject"
half            TXT "v=spf1 ip4:192.0.2.10 -all"
_dmarc.half     TXT "v=DMARC1; p=quarantine"
soft            TXT "v=spf1 -all"
_dmarc.soft     TXT "v=DMARC1; p=none"
_dmarc.broken   TXT "v=DMARC1; p=reject"
_dmarc.signed   TXT "v=DMARC1; p=reject"
_dmarc.ed       TXT "v=DMARC1; p=reject"
_dmarc.gone     TXT "v=DMARC1; p=reject"
free            TXT "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all"
"""


def records() -> str:
    text = base64.b64encode(PUBLIC).decode()
    lines = [f's1._domainkey.signed TXT "v=DKIM1; k=rsa; p={text}"', f's1._domainkey.ed TXT "k=ed25519; p={text}"']
    return "\n".join([RECORDS, *lines])


@dataclass
class World:
    """A server that looks at DNS, what it counted, and whom it asked."""

    zones: Zones
    server: Running
    watch: AlignmentWatch
    counted: Counter[Kind] = field(default_factory=Counter)

    async def settled(self, messages: int) -> Counter[Kind]:
        async with asyncio.timeout(20):
            while self.counted.total() < messages:
                await asyncio.sleep(0)
        return self.counted

    @property
    def warnings(self) -> list[AlignmentWarning]:
        return [event for event in self.server.events if isinstance(event, AlignmentWarning)]


@asynccontextmanager
async def world(
    folder: Path, *, refuse: bool = False, routes: Routes | None = None, public: tuple[str, ...] = ()
) -> AsyncIterator[World]:
    zones = Zones({"test": Zone(records())}, {("broken.test", "TXT"): Fault.SERVFAIL})
    resolver = Resolver([await zones.start()], timedelta(seconds=5))
    sources = Sources(Source("192.0.2.10", "2001:db8::10", "relay.test"))
    finder = AlignmentFinder(resolver, sources, public, AddressGuard(True), lambda: KEYS)
    counted: Counter[Kind] = Counter()
    watches: list[AlignmentWatch] = []

    def watch(emit: Callable[[Event], None]) -> AlignmentWatch:
        clock = asyncio.get_running_loop().time
        watches.append(
            AlignmentWatch(
                finder.find, routes or Routes(), emit, lambda kind: counted.update([kind]), clock, refuse=refuse
            )
        )
        return watches[0]

    try:
        async with running(folder, Wanted(alignment=watch)) as server:
            yield World(zones, server, watches[0], counted)
            assert server.count(DefectFound) == 0
    finally:
        await watches[0].close()
        await resolver.close()
        await zones.stop()


async def send(client: Client, author: str, sender: str | None = None, header: str = "") -> str:
    """One message; returns the answer to its end. `sender` None: as the author; empty: none."""
    await client.ask(f"MAIL FROM:<{author if sender is None else sender}>")
    await client.ask("RCPT TO:<b@remote.test>")
    await client.ask("DATA")
    return await client.ask(f"{header}From: <{author}>\r\nSubject: x\r\n\r\nx\r\n.")


async def test_each_message_is_counted_and_each_pair_told_of_once(tmp_path: Path) -> None:
    async with world(tmp_path) as there, await there.server.connect() as client:
        await client.hello()
        table = [
            ("a@good.test", None, Kind.PASSES),
            ("a@signed.test", "a@good.test", Kind.PASSES),
            ("a@bad.test", None, Kind.FAILS),
            ("a@bad.test", "a@good.test", Kind.FAILS),
            ("a@soft.test", None, Kind.FAILS),
            ("a@half.test", None, Kind.PARTLY),
            ("a@ed.test", None, Kind.PARTLY),
            ("a@gone.test", None, Kind.FAILS),
            ("a@free.test", None, Kind.NO_POLICY),
            ("a@nothing.test", None, Kind.UNPROVEN),
            ("a@broken.test", None, Kind.UNKNOWN),
            ("a@bad.test", "", Kind.FAILS),
        ]
        for number, (author, sender, kind) in enumerate(table, start=1):
            before = there.counted[kind]
            assert (await send(client, author, sender)).startswith("250 2.0.0 queued as ")
            await there.settled(number)
            assert there.counted[kind] == before + 1, author
        told = [(one.from_domain, one.sender_domain, one.verdict, one.policy) for one in there.warnings]
        assert told == [
            ("bad.test", "bad.test", "fails", "reject"),
            ("bad.test", "good.test", "fails", "reject"),
            ("soft.test", "soft.test", "fails", "none"),
            ("half.test", "half.test", "partly", "quarantine"),
            ("ed.test", "ed.test", "partly", "reject"),
            ("gone.test", "gone.test", "fails", "reject"),
            ("nothing.test", "nothing.test", "unproven", None),
            ("bad.test", "relay.test", "fails", "reject"),
        ]
        assert there.warnings[0].remedy == (
            "add ip4:192.0.2.10 ip6:2001:db8::10 to the SPF record of bad.test; "
            "or make a key: relay dkim keygen --domain bad.test"
        )
        asked = len(there.zones.asked)
        for author, sender, _ in table:
            await send(client, author, sender)
        assert (await there.settled(2 * len(table)))[Kind.PASSES] == 4
        assert len(there.zones.asked) == asked and len(there.warnings) == len(told)
        assert len(await there.server.stored()) == 2 * len(table)


async def test_nothing_waits_for_dns_where_it_is_only_told(tmp_path: Path) -> None:
    async with world(tmp_path) as there, await there.server.connect() as client:
        there.zones.set_fault("_dmarc.bad.test", "TXT", Fault.TIMEOUT)
        await client.hello()
        async with asyncio.timeout(1.5):  # the first packet alone is waited for longer
            assert (await send(client, "a@bad.test")).startswith("250 ")
        assert not there.counted and not there.warnings


async def test_what_came_signed_is_not_told_of(tmp_path: Path) -> None:
    async with world(tmp_path) as there, await there.server.connect() as client:
        await client.hello()
        for number, (domain, kind) in enumerate(
            [
                ("bad.test", Kind.SIGNED_BY_SENDER),
                ("mail.bad.test", Kind.SIGNED_BY_SENDER),
                ("elsewhere.test", Kind.FAILS),
            ],
            start=1,
        ):
            signature = f"DKIM-Signature: v=1; a=rsa-sha256;\r\n d={domain}; s=x; b=x\r\n"
            await send(client, "a@bad.test", header=signature)
            assert (await there.settled(number))[kind]
            assert len(there.warnings) == (kind is Kind.FAILS)


async def test_only_a_certain_loss_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path, refuse=True) as there, await there.server.connect() as client:
        await client.hello()
        for _ in range(2):  # asked, and remembered
            answer = await send(client, "a@bad.test")
            assert answer.startswith(
                "550 5.7.26 bad.test asks receivers to reject mail that fails DMARC, as this would ("
            )
            for author in (
                "a@good.test",
                "a@soft.test",
                "a@half.test",
                "a@broken.test",
                "a@nothing.test",
                "a@signed.test",
            ):
                assert (await send(client, author)).startswith("250 "), author
            assert (await send(client, "a@bad.test", header="DKIM-Signature: d=bad.test\r\n")).startswith("250 ")
        assert len(await there.server.stored()) == 14
        assert there.counted.total() == 16 and there.counted[Kind.FAILS] == 4


async def test_mail_by_http_is_looked_at_too(tmp_path: Path) -> None:
    async def octets(domain: str) -> AsyncIterator[bytes]:
        yield f"From: a@{domain}\r\nSubject: x\r\n\r\nx\r\n".encode()

    async with world(tmp_path, refuse=True) as there:
        intake, to = there.server.server.intake, parse_address(b"b@remote.test")
        for domain in ("bad.test", "good.test"):
            handed = HandedIn(parse_address(f"a@{domain}".encode()), (to,), MessageDsn(), NOTHING_ASKED)
            answer = await intake.submit("127.0.0.1", "ann", handed, octets(domain), lambda: None)
            if domain == "bad.test":
                assert isinstance(answer, Declined) and str(answer.reply.status) == "5.7.26"
            else:
                assert isinstance(answer, Accepted)
        assert there.counted == {Kind.FAILS: 1, Kind.PASSES: 1}


async def test_mail_for_a_smart_host_has_its_addresses(tmp_path: Path) -> None:
    hop = Routes([Entry("out", Hop("out", (Place("smart.test", 25),)), (ANY,))])
    async with world(tmp_path / "a", routes=hop) as there, await there.server.connect() as client:
        await client.hello()
        await send(client, "a@good.test")
        await send(client, "a@signed.test")
        assert await there.settled(2) == {Kind.UNKNOWN: 1, Kind.PASSES: 1}
    async with (
        world(tmp_path / "b", routes=hop, public=("192.0.2.10",)) as there,
        await there.server.connect() as client,
    ):
        await client.hello()
        await send(client, "a@half.test")
        assert await there.settled(1) == {Kind.PASSES: 1}


class Slow:
    """Answers when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0
        self.at_once = 0
        self.most = 0

    async def find(self, asked: Asked) -> Facts:
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.go.wait()
        self.at_once -= 1
        return Facts(asked.domain, asked.domain, False, NoDmarc(asked.domain), no_addresses="none")


def message(domain: str) -> Submitted:
    return Submitted(Header(f"From: a@{domain}\r\n".encode()), None, (), None)


async def test_a_flood_of_domains_is_bounded() -> None:
    slow, counted = Slow(), Counter[Kind]()
    clock = asyncio.get_running_loop().time
    watch = AlignmentWatch(
        slow.find, Routes(), lambda _: None, lambda kind: counted.update([kind]), clock, refuse=False
    )
    for number in range(2 * MAX_UNDER_WAY):
        watch.note(message(f"d{number}.test"))
    await asyncio.sleep(0)
    assert (slow.asked, counted.total()) == (AT_ONCE, MAX_UNDER_WAY)
    slow.go.set()
    while counted.total() < 2 * MAX_UNDER_WAY:
        await asyncio.sleep(0)
    assert slow.most == AT_ONCE
    for number in range(MAX_PAIRS + 10):
        watch.note(message(f"e{number}.test"))
        while watch._looks:
            await asyncio.sleep(0)
    assert len(watch._kept) == MAX_PAIRS
    await watch.close()


async def test_times_are_kept_to() -> None:
    """Good news lasts an hour, bad news five minutes; and the warning comes once an hour all the same."""
    now, slow, events = [0.0], Slow(), list[Event]()
    slow.go.set()

    async def find(asked: Asked) -> Facts:
        facts = await slow.find(asked)
        return Facts(facts.domain, facts.domain, False, facts.dmarc)  # SPF: nothing known to pass, and no key

    watch = AlignmentWatch(find, Routes(), events.append, lambda _: None, lambda: now[0], refuse=False)
    for at, asked, told in ((0.0, 1, 1), (299.0, 1, 1), (301.0, 2, 1), (3599.0, 3, 1), (3601.0, 3, 2)):
        now[0] = at
        watch.note(message("x.test"))
        while watch._looks:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (slow.asked, len(events)) == (asked, told), at
    await watch.close()


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b" A B <a@Example.ORG>", "example.org"),
        ("a@bücher.example".encode(), "xn--bcher-kva.example"),
        (b" a@x.test, b@x.test", "x.test"),
        (b" a@x.test, b@y.test", None),
        (b" nobody", None),
        (b" a@[192.0.2.1]", None),
        (b" " + b"x" * 5000 + b" <a@x.test>", "x.test"),
    ],
)
async def test_the_author_domain(value: bytes, domain: str | None) -> None:
    assert author_domain(value) == domain


async def test_who_signed() -> None:
    header = Header(
        b"DKIM-Signature: v=1; d=A.test; s=x\r\nX: d=b.test\r\ndkim-signature:\r\n d = c.test.\r\n"
        b"DKIM-Signature: v=1; bd=e.test; d=\r\n"
    )
    assert signers(header) == ("a.test", "c.test")
