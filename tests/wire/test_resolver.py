"""The resolver against DNS servers on loopback: the lab's, and ones that misbehave octet by octet."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from relay.lab.zones import Fault, Question, Security, Slow, Zone, Zones
from relay.lookup.exchange import ask, make_query
from relay.lookup.resolver import Answer, LookupFailed, Missing, MxRecord, NotFound, Resolver
from relay.lookup.servers import system_nameservers
from relay.policy.tlsa import TlsaRecord
from relay.settings import DnsSettings, HostPort, TrustAd

TIMEOUT = timedelta(seconds=5)
BRIEF = timedelta(seconds=0.2)
TRUSTING = DnsSettings(trust_ad=TrustAd.YES)
DIGEST = "ab" * 32

RECORDS = f"""
@       MX    10 MX1.signed.test.
@       MX    20 mx2
mx1     A     192.0.2.1
mx1     A     192.0.2.2
mx1     AAAA  2001:db8::1
text    TXT   "one" " two" "three"
text    TXT   "\\255\\000"
_25._tcp.mx1 TLSA 3 1 1 {DIGEST}
alias   CNAME mx1
alias2  CNAME alias
out     CNAME mx.unsigned.test.
gone    CNAME nothing.unsigned.test.
empty   CNAME text
loop1   CNAME loop2
loop2   CNAME loop1
root    MX    0 .
*.wild  A     192.0.2.3
"""


@asynccontextmanager
async def lab(timeout: timedelta = TIMEOUT, trusted: bool = True) -> AsyncIterator[tuple[Zones, Resolver]]:
    zones = Zones(
        {
            "signed.test": Zone(RECORDS),
            "unsigned.test": Zone("mx A 192.0.2.9\n@ MX 10 mx", Security.UNSIGNED),
            "bogus.test": Zone("@ MX 10 mx\nmx A 192.0.2.10", Security.BOGUS),
        }
    )
    resolver = Resolver([await zones.start()], timeout)
    if trusted:
        await resolver.assess(TRUSTING)
    try:
        yield zones, resolver
    finally:
        await resolver.close()
        await zones.stop()


def questions(zones: Zones, name: str, rdtype: str) -> int:
    return list(zones.asked).count(Question(name, rdtype))


@pytest.mark.asyncio
async def test_records_of_every_type() -> None:
    async with lab() as (_, resolver):
        mx = await resolver.mx("signed.test")
        assert isinstance(mx, Answer)
        assert set(mx.records) == {MxRecord(10, "mx1.signed.test"), MxRecord(20, "mx2.signed.test")}
        assert (mx.secure, mx.canonical, mx.ttl) == (True, "signed.test", 5)
        a = await resolver.a("mx1.signed.test")
        assert isinstance(a, Answer)
        assert set(a.records) == {"192.0.2.1", "192.0.2.2"}
        aaaa = await resolver.aaaa("mx1.signed.test")
        assert isinstance(aaaa, Answer)
        assert aaaa.records == ("2001:db8::1",)
        txt = await resolver.txt("text.signed.test")
        assert isinstance(txt, Answer)
        assert set(txt.records) == {b"one twothree", b"\xff\x00"}
        tlsa = await resolver.tlsa("_25._tcp.mx1.signed.test")
        assert isinstance(tlsa, Answer)
        assert tlsa.records == (TlsaRecord(3, 1, 1, bytes.fromhex(DIGEST)),)
        cname = await resolver.cname("alias2.signed.test")
        assert isinstance(cname, Answer)
        assert cname.records == ("alias.signed.test",)
        root = await resolver.mx("root.signed.test")
        assert isinstance(root, Answer)
        assert root.records == (MxRecord(0, "."),)


@pytest.mark.asyncio
@pytest.mark.parametrize(("address", "name"), [("192.0.2.1", "mx1.signed.test"), ("2001:db8::1", "v6.signed.test")])
async def test_what_an_address_is_called(address: str, name: str) -> None:
    async with lab() as (zones, resolver):
        zones.set("2.0.192.in-addr.arpa", Zone("1 PTR MX1.signed.test."))
        zones.set("8.b.d.0.1.0.0.2.ip6.arpa", Zone(f"1.{'0.' * 22}0 PTR v6.signed.test."))
        found = await resolver.ptr(address)
        assert isinstance(found, Answer)
        assert found.records == (name,)
        assert isinstance(await resolver.ptr("192.0.2.99"), NotFound)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("mx1.signed.test", (True, "mx1.signed.test")),
        ("alias.signed.test", (True, "mx1.signed.test")),
        ("alias2.signed.test", (True, "mx1.signed.test")),
        ("mx.unsigned.test", (False, "mx.unsigned.test")),
        ("out.signed.test", (False, "mx.unsigned.test")),  # AD covers the whole chain
        ("x.wild.signed.test", (True, "x.wild.signed.test")),
    ],
)
async def test_security_and_canonical_name(name: str, found: tuple[bool, str]) -> None:
    async with lab() as (_, resolver):
        answer = await resolver.a(name)
        assert isinstance(answer, Answer)
        assert (answer.secure, answer.canonical) == found


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "kind", "secure", "canonical"),
    [
        ("nothing.signed.test", Missing.NXDOMAIN, True, "nothing.signed.test"),
        ("nothing.unsigned.test", Missing.NXDOMAIN, False, "nothing.unsigned.test"),
        ("text.signed.test", Missing.NODATA, True, "text.signed.test"),
        ("wild.signed.test", Missing.NODATA, True, "wild.signed.test"),  # an empty non-terminal
        ("empty.signed.test", Missing.NODATA, True, "text.signed.test"),
        ("gone.signed.test", Missing.NXDOMAIN, False, "nothing.unsigned.test"),
    ],
)
async def test_a_certain_no(name: str, kind: Missing, secure: bool, canonical: str) -> None:
    async with lab() as (_, resolver):
        answer = await resolver.a(name)
        assert isinstance(answer, NotFound)
        assert (answer.kind, answer.secure, answer.canonical) == (kind, secure, canonical)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "name", ["", ".", "a..test", ".test", "x" * 64 + ".test", ".".join(["x" * 60] * 5), "bücher.test", "\ud800.test"]
)
async def test_names_that_cannot_be_are_not_asked(name: str) -> None:
    async with lab() as (zones, resolver):
        answer = await resolver.a(name)
        assert isinstance(answer, NotFound)
        assert (answer.kind, answer.secure) == (Missing.NXDOMAIN, False)
        assert not zones.asked


@pytest.mark.asyncio
async def test_no_character_of_a_name_is_special() -> None:
    async with lab() as (zones, resolver):
        answer = await resolver.a("mx1\\.signed.test")  # a backslash would join two labels
        assert isinstance(answer, NotFound)
        assert zones.asked[-1].name == "mx1\\\\.signed.test"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "reason", "bogus"),
    [
        (Fault.SERVFAIL, "DNS reported a failure (SERVFAIL) for mx1.signed.test (A)", False),
        (Fault.REFUSED, "the DNS server refused to look up mx1.signed.test (A)", False),
        (Fault.TIMEOUT, "the DNS lookup of mx1.signed.test (A) timed out", False),
        (Slow(60), "the DNS lookup of mx1.signed.test (A) timed out", False),
    ],
)
async def test_failures(fault: Fault | Slow, reason: str, bogus: bool) -> None:
    async with lab(BRIEF) as (zones, resolver):
        zones.set_fault("mx1.signed.test", "A", fault)
        assert await resolver.a("mx1.signed.test") == LookupFailed(reason, bogus)


@pytest.mark.asyncio
async def test_a_zone_that_fails_validation_is_bogus() -> None:
    async with lab() as (_, resolver):
        failed = await resolver.mx("bogus.test")
        assert failed == LookupFailed("the DNS answer for bogus.test (MX) failed DNSSEC validation", bogus=True)


@pytest.mark.asyncio
async def test_a_loop_of_aliases_is_a_failure() -> None:
    async with lab() as (_, resolver):
        assert isinstance(await resolver.a("loop1.signed.test"), LookupFailed)


@pytest.mark.asyncio
async def test_large_answers_come_over_tcp() -> None:
    async with lab() as (zones, resolver):
        zones.replace("text.signed.test", "TXT", *(f'"{number:0255d}"' for number in range(60)))
        answer = await resolver.txt("text.signed.test")
        assert isinstance(answer, Answer)
        assert len(answer.records) == 60
        assert questions(zones, "text.signed.test", "TXT") == 2
        zones.set_fault("mx1.signed.test", "A", Fault.TRUNCATED)
        assert isinstance(await resolver.a("mx1.signed.test"), Answer)


@pytest.mark.asyncio
async def test_nothing_is_secure_while_the_resolver_is_not_trusted() -> None:
    async with lab(trusted=False) as (zones, resolver):
        for name in ("mx1.signed.test", "nothing.signed.test"):
            assert not getattr(await resolver.a(name), "secure", True)
        await resolver.assess(TRUSTING)
        for name in ("mx1.signed.test", "nothing.signed.test"):
            assert getattr(await resolver.a(name), "secure", False)
        asked = len(zones.asked)
        await resolver.assess(DnsSettings(trust_ad=TrustAd.NO))
        for name in ("mx1.signed.test", "nothing.signed.test"):
            assert not getattr(await resolver.a(name), "secure", True)
        assert len(zones.asked) == asked  # those came from the cache, where trust is applied on reading


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.asyncio
async def test_answers_are_kept_for_their_ttl_and_failures_for_five_seconds() -> None:
    clock = Clock()
    zones = Zones({"signed.test": Zone(RECORDS, ttl=60), "long.test": Zone("@ A 192.0.2.1", ttl=1_000_000)})
    resolver = Resolver([await zones.start()], TIMEOUT, monotonic=clock)
    zones.set_fault("text.signed.test", "TXT", Fault.SERVFAIL)
    lookups: list[tuple[str, str, float, Callable[[str], object]]] = [
        ("mx1.signed.test", "A", 60, resolver.a),
        ("nothing.signed.test", "A", 60, resolver.a),
        ("mx1.signed.test", "TXT", 60, resolver.txt),
        ("text.signed.test", "TXT", 5, resolver.txt),
        ("long.test", "A", 3600, resolver.a),  # no longer than an hour
    ]
    try:
        for name, rdtype, kept_seconds, ask in lookups:
            clock.now = 0
            for moment, asked in ((0, 1), (kept_seconds - 0.1, 1), (kept_seconds, 2)):
                clock.now = moment
                await ask(name)  # type: ignore[misc]
                # one question of a lookup that fails with SERVFAIL is that without validation
                each = 2 if kept_seconds == 5 else 1
                assert questions(zones, name, rdtype) == asked * each, (name, moment)
    finally:
        await zones.stop()


@pytest.mark.asyncio
async def test_the_same_question_at_the_same_time_is_asked_once() -> None:
    async with lab() as (zones, resolver):
        zones.set_fault("mx1.signed.test", "A", Slow(0.05))
        answers = await asyncio.gather(*(resolver.a("mx1.signed.test") for _ in range(20)))
        assert all(isinstance(answer, Answer) for answer in answers)
        assert questions(zones, "mx1.signed.test", "A") == 1


@pytest.mark.asyncio
async def test_one_who_gives_up_does_not_spoil_it_for_the_others() -> None:
    async with lab() as (zones, resolver):
        zones.set_fault("mx1.signed.test", "A", Slow(0.05))
        first = asyncio.create_task(resolver.a("mx1.signed.test"))
        second = asyncio.create_task(resolver.a("mx1.signed.test"))
        while not zones.asked:
            await asyncio.sleep(0)
        first.cancel()
        assert isinstance(await second, Answer)
        with pytest.raises(asyncio.CancelledError):
            await first


# Servers that misbehave.

Respond = Callable[[dns.message.Message, bool], list[bytes]]  # the query and whether it came over TCP -> packets


class Scripted(asyncio.DatagramProtocol):
    """A DNS server that answers with whatever octets `respond` makes, and keeps the queries."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.queries: list[dns.message.Message] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HostPort]:
        server = await asyncio.start_server(self._tcp, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        try:
            yield HostPort(host="127.0.0.1", port=port)
        finally:
            self.transport.abort()
            server.close()
            await server.wait_closed()

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self.queries.append(dns.message.from_wire(data))
        for packet in self.respond(self.queries[-1], False):
            self.transport.sendto(packet, addr)

    async def _tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        self.queries.append(dns.message.from_wire(await reader.readexactly(length)))
        for packet in self.respond(self.queries[-1], True):
            writer.write(packet)
        writer.close()


def reply(
    query: dns.message.Message,
    *records: str,
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR,
    ra: bool = True,
    aa: bool = False,
    ad: bool = False,
    tc: bool = False,
    authority: str = "",
    ede: int | None = None,
) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=ra)
    response.set_rcode(rcode)
    for flag, wanted in ((dns.flags.AA, aa), (dns.flags.AD, ad), (dns.flags.TC, tc)):
        response.flags |= flag if wanted else 0
    for text in records:
        name, rdtype, data = text.split(" ", 2)
        response.answer.append(dns.rrset.from_text(name, 60, "IN", rdtype, data))
    if authority:
        rdtype, data = authority.split(" ", 1)
        response.authority.append(dns.rrset.from_text("test.", 60, "IN", rdtype, data))
    if ede is not None:
        response.use_edns(0, 0, 1232, options=[dns.edns.EDEOption(dns.edns.EDECode(ede))])
    return response


async def ask_scripted(respond: Respond, timeout: timedelta = TIMEOUT) -> tuple[object, Scripted]:
    server = Scripted(respond)
    async with server.running() as address:
        resolver = Resolver([address], timeout)
        await resolver.assess(TRUSTING)
        return await resolver.a("a.test"), server


GOOD = "a.test. A 192.0.2.1"
SOA = "SOA ns. root. 1 2 3 4 5"
FOUND = Answer(("192.0.2.1",), secure=False, canonical="a.test", ttl=60)


def failed(reason: str, bogus: bool = False) -> LookupFailed:
    return LookupFailed(reason.format("a.test (A)"), bogus)


UNUSABLE = failed("the DNS server gave an unusable answer for {}")
SERVFAIL = failed("DNS reported a failure (SERVFAIL) for {}")
BOGUS = failed("the DNS answer for {} failed DNSSEC validation", bogus=True)
NODATA = NotFound(Missing.NODATA, secure=False, canonical="a.test", ttl=5)


def checked_only(ede: int | None, unchecked: dns.rcode.Rcode) -> Callable[[dns.message.Message], dns.message.Message]:
    """SERVFAIL, with an extended error if given; without validation (CD), the rcode `unchecked`."""

    def respond(query: dns.message.Message) -> dns.message.Message:
        if query.flags & dns.flags.CD:
            return reply(query, *([GOOD] if unchecked is dns.rcode.NOERROR else []), rcode=unchecked)
        return reply(query, rcode=dns.rcode.SERVFAIL, ede=ede)

    return respond


MESSAGES: list[tuple[str, Callable[[dns.message.Message], dns.message.Message], object]] = [
    ("an answer", lambda q: reply(q, GOOD), FOUND),
    ("AD", lambda q: reply(q, GOOD, ad=True), Answer(("192.0.2.1",), True, "a.test", 60)),
    ("a server that is authoritative", lambda q: reply(q, GOOD, ra=False, aa=True), FOUND),
    ("records nobody asked for", lambda q: reply(q, GOOD, "b.test. A 192.0.2.2", "a.test. TXT x"), FOUND),
    (
        "names in upper case",
        lambda q: reply(q, "a.test. CNAME B.TEST.", "B.test. A 192.0.2.1"),
        Answer(("192.0.2.1",), False, "b.test", 60),
    ),
    ("NODATA", lambda q: reply(q, authority=SOA), NODATA),
    ("NODATA, authoritative", lambda q: reply(q, authority=SOA, ra=False, aa=True), NODATA),
    ("NODATA without SOA", reply, NotFound(Missing.NODATA, False, "a.test", 300)),
    (
        "NXDOMAIN",
        lambda q: reply(q, authority=SOA, rcode=dns.rcode.NXDOMAIN),
        NotFound(Missing.NXDOMAIN, False, "a.test", 5),
    ),
    ("a referral", lambda q: reply(q, authority="NS ns.test."), UNUSABLE),
    ("a no from a server that does not recurse", lambda q: reply(q, ra=False), UNUSABLE),
    ("NXDOMAIN from one", lambda q: reply(q, ra=False, rcode=dns.rcode.NXDOMAIN), UNUSABLE),
    ("NXDOMAIN with the record", lambda q: reply(q, GOOD, rcode=dns.rcode.NXDOMAIN), UNUSABLE),
    ("a loop", lambda q: reply(q, "a.test. CNAME b.test.", "b.test. CNAME a.test."), UNUSABLE),
    ("another rcode", lambda q: reply(q, rcode=dns.rcode.FORMERR), failed("the DNS server refused to look up {}")),
    ("bogus by the extended error", checked_only(6, dns.rcode.SERVFAIL), BOGUS),
    ("bogus by signature expiry", checked_only(7, dns.rcode.SERVFAIL), BOGUS),
    ("bogus, as it answers without validation", checked_only(None, dns.rcode.NOERROR), BOGUS),
    ("bogus, as it says no without validation", checked_only(None, dns.rcode.NXDOMAIN), BOGUS),
    ("bogus, and the server names another error", checked_only(22, dns.rcode.NOERROR), BOGUS),
    ("SERVFAIL, validation or not", checked_only(None, dns.rcode.SERVFAIL), SERVFAIL),
    ("SERVFAIL with another extended error", checked_only(22, dns.rcode.SERVFAIL), SERVFAIL),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("respond", "found"), [case[1:] for case in MESSAGES], ids=[case[0] for case in MESSAGES])
async def test_what_a_message_means(
    respond: Callable[[dns.message.Message], dns.message.Message], found: object
) -> None:
    result, _ = await ask_scripted(lambda query, tcp: [respond(query).to_wire()])
    assert result == found


def wrong_id(query: dns.message.Message) -> bytes:
    response = reply(query, "a.test. A 192.0.2.66")
    response.id ^= 1
    return response.to_wire()


def other_question(query: dns.message.Message) -> bytes:
    other = dns.message.make_query("b.test", "A", id=query.id)
    return reply(other, "b.test. A 192.0.2.66").to_wire()


def cut_record(query: dns.message.Message) -> bytes:
    return reply(query, GOOD, tc=True).to_wire()[:-20]


def framed(octets: bytes) -> bytes:
    return len(octets).to_bytes(2) + octets


PACKETS: list[tuple[str, Respond, object]] = [
    ("a forgery with another id first", lambda q, tcp: [wrong_id(q), reply(q, GOOD).to_wire()], FOUND),
    ("an answer to another question first", lambda q, tcp: [other_question(q), reply(q, GOOD).to_wire()], FOUND),
    ("our own question first", lambda q, tcp: [q.to_wire(), reply(q, GOOD).to_wire()], FOUND),
    ("a few octets first", lambda q, tcp: [b"", b"\0", q.to_wire()[:11], reply(q, GOOD).to_wire()], FOUND),
    ("two answers", lambda q, tcp: [reply(q, GOOD).to_wire(), reply(q, "a.test. A 192.0.2.66").to_wire()], FOUND),
    ("trailing octets", lambda q, tcp: [reply(q, GOOD).to_wire() + b"\0\0"], FOUND),
    ("a record cut in two", lambda q, tcp: [reply(q, GOOD).to_wire()[:-20]], UNUSABLE),
    (
        "a record cut in two with TC, then TCP",
        lambda q, tcp: [framed(reply(q, GOOD).to_wire())] if tcp else [cut_record(q)],
        FOUND,
    ),
    ("TC over TCP too", lambda q, tcp: [framed(cut_record(q))] if tcp else [cut_record(q)], UNUSABLE),
    ("another answer over TCP", lambda q, tcp: [framed(wrong_id(q))] if tcp else [cut_record(q)], UNUSABLE),
    (
        "TCP ends at once",
        lambda q, tcp: [] if tcp else [cut_record(q)],
        failed("no DNS server could be reached to look up {}"),
    ),
    (
        "TCP ends early",
        lambda q, tcp: [framed(reply(q, GOOD).to_wire())[:-1]] if tcp else [cut_record(q)],
        failed("no DNS server could be reached to look up {}"),
    ),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("respond", "found"), [case[1:] for case in PACKETS], ids=[case[0] for case in PACKETS])
async def test_what_counts_as_an_answer(respond: Respond, found: object) -> None:
    result, _ = await ask_scripted(respond)
    assert result == found


@pytest.mark.asyncio
async def test_tlsa_records_that_are_broken_do_not_hide_the_others() -> None:
    datas = [bytes([3, 1, 1]) + b"a" * 32, bytes([3, 1, 1]) + b"short", bytes([3, 1, 2]), b"\x03\x01", b"", bytes(200)]

    def respond(query: dns.message.Message, tcp: bool) -> list[bytes]:
        response = reply(query, "a.test. CNAME b.test.")
        broken = dns.rrset.RRset(dns.name.from_text("b.test."), dns.rdataclass.IN, dns.rdatatype.TLSA)
        for data in datas:
            broken.add(dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, data), 60)
        response.answer.append(broken)
        return [response.to_wire()]

    server = Scripted(respond)
    async with server.running() as address:
        found = await Resolver([address], TIMEOUT).tlsa("a.test")
    assert isinstance(found, Answer)
    assert set(found.records) == {
        TlsaRecord(3, 1, 1, b"a" * 32),
        TlsaRecord(3, 1, 1, b"short"),
        TlsaRecord(3, 1, 2, b""),
        TlsaRecord(3, 1, 255, b""),
        TlsaRecord(255, 255, 255, b""),
        TlsaRecord(0, 0, 0, bytes(197)),
    }
    assert found.canonical == "b.test"


@pytest.mark.asyncio
async def test_only_forgeries_is_silence() -> None:
    result, _ = await ask_scripted(lambda query, tcp: [wrong_id(query), other_question(query)], BRIEF)
    assert result == failed("the DNS lookup of {} timed out")


@pytest.mark.asyncio
async def test_what_is_asked() -> None:
    """Without DO a validating resolver says nothing, and DANE would be off without a sound."""
    _, server = await ask_scripted(lambda query, tcp: [checked_only(None, dns.rcode.SERVFAIL)(query).to_wire()])
    plain, unchecked = server.queries
    for query in (plain, unchecked):
        assert query.question[0].name.to_text() == "a.test."
        assert query.flags & dns.flags.RD
        assert (query.edns, query.payload, bool(query.ednsflags & dns.flags.DO)) == (0, 1232, True)
    assert not plain.flags & dns.flags.CD
    assert unchecked.flags & dns.flags.CD
    assert plain.id != unchecked.id


@pytest.mark.asyncio
async def test_giving_up_before_the_question_is_answered_leaves_nothing_behind() -> None:
    """A time limit may strike at any moment."""
    loop, left = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: left.append(context["message"]))
    query = make_query(dns.name.from_text("a.test"), dns.rdatatype.A)
    for steps in range(4):
        asking = asyncio.create_task(ask(_closed(), query))
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.sleep(0)
        gc.collect()
    assert left == []


@pytest.mark.asyncio
async def test_a_closed_port_is_known_at_once() -> None:
    resolver = Resolver([_closed()], timedelta(seconds=60))
    assert await resolver.a("a.test") == failed("no DNS server could be reached to look up {}")


@pytest.mark.asyncio
async def test_the_next_server_is_asked_when_one_fails() -> None:
    refusing = Scripted(lambda query, tcp: [reply(query, rcode=dns.rcode.REFUSED).to_wire()])
    good = Scripted(lambda query, tcp: [reply(query, GOOD).to_wire()])
    async with refusing.running() as first, good.running() as second:
        resolver = Resolver([_closed(), first, second], TIMEOUT)
        assert await resolver.a("a.test") == FOUND
        assert len(refusing.queries) == 1


@pytest.mark.asyncio
async def test_a_failed_validation_is_not_overruled_by_a_server_that_does_not_validate() -> None:
    validating = Scripted(lambda query, tcp: [checked_only(6, dns.rcode.NOERROR)(query).to_wire()])
    careless = Scripted(lambda query, tcp: [reply(query, GOOD).to_wire()])
    async with validating.running() as first, careless.running() as second:
        assert await Resolver([first, second], TIMEOUT).a("a.test") == BOGUS
        assert not careless.queries


@pytest.mark.asyncio
async def test_a_machine_without_nameservers(tmp_path: Path) -> None:
    resolver = Resolver([], TIMEOUT, resolv_conf=tmp_path / "resolv.conf")
    assert await resolver.a("a.test") == failed("there is no DNS server to look up {}")
    assert await resolver.assess(DnsSettings()) == (
        False,
        f"there is no DNS server: none is set, and {tmp_path / 'resolv.conf'} names none",
    )


def test_resolv_conf_with_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_bytes(
        b"# a comment\nnameserver\nnameserver not-an-address\nnameserver 192.0.2.1 # first\n"
        b"search \xff..bad\noptions edns0 trust-ad timeout:x\n  nameserver ::1\nnameserver fe80::1%eth0\n"
    )
    assert [server.host for server in system_nameservers(path)] == ["192.0.2.1", "::1", "fe80::1%eth0"]
    assert system_nameservers(tmp_path / "nothing") == ()


def _closed() -> HostPort:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return HostPort(host="127.0.0.1", port=probe.getsockname()[1])


# The self-test.

AUTO = DnsSettings(self_test_signed="signed.test", self_test_bogus="bogus.test")


@asynccontextmanager
async def self_test_lab(
    signed: Security = Security.SIGNED, bogus: Security = Security.BOGUS
) -> AsyncIterator[tuple[Zones, Resolver]]:
    zones = Zones({"signed.test": Zone("@ A 192.0.2.1", signed), "bogus.test": Zone("@ A 192.0.2.1", bogus)})
    resolver = Resolver([await zones.start()], BRIEF)
    try:
        yield zones, resolver
    finally:
        await zones.stop()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("signed", "bogus", "trusted", "words"),
    [
        (Security.SIGNED, Security.BOGUS, True, "vouches for signed.test and refuses bogus.test"),
        (Security.UNSIGNED, Security.BOGUS, False, "does not vouch for the signed name signed.test"),
        (Security.SIGNED, Security.UNSIGNED, False, "accepts the wrongly signed name bogus.test"),
        (Security.SIGNED, Security.SIGNED, False, "accepts the wrongly signed name bogus.test"),
        (Security.UNSIGNED, Security.UNSIGNED, False, "does not vouch for the signed name"),
        (Security.BOGUS, Security.BOGUS, True, "could not be tested"),
    ],
)
async def test_self_test(signed: Security, bogus: Security, trusted: bool, words: str) -> None:
    async with self_test_lab(signed, bogus) as (_, resolver):
        found, sentence = await resolver.assess(AUTO)
        assert found is trusted is resolver.trusted
        assert words in sentence


@pytest.mark.asyncio
async def test_self_test_needs_only_servfail_from_servers_without_extended_errors() -> None:
    async with self_test_lab() as (zones, resolver):
        zones.set_fault("bogus.test", "A", Fault.SERVFAIL)
        assert (await resolver.assess(AUTO))[0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("signed.test", Fault.TIMEOUT),
        ("signed.test", Fault.REFUSED),
        ("signed.test", Fault.SERVFAIL),
        ("bogus.test", Fault.TIMEOUT),
    ],
)
async def test_a_self_test_that_cannot_be_done_changes_nothing(name: str, fault: Fault) -> None:
    """Otherwise whoever can stop the test's packets switches DANE off."""
    async with self_test_lab() as (zones, resolver):
        zones.set_fault(name, "A", fault)
        found, sentence = await resolver.assess(AUTO)
        assert found is True is resolver.trusted
        assert "could not be tested" in sentence
        assert sentence.endswith("the resolver is believed until it can be")
        zones.set_fault(name, "A", None)
        zones.set_security("bogus.test", Security.UNSIGNED)
        assert not (await resolver.assess(AUTO))[0]
        zones.set_fault(name, "A", fault)
        if name == "signed.test":
            assert "accepts" in (await resolver.assess(AUTO))[1]
        else:
            assert (await resolver.assess(AUTO))[1].endswith("the resolver stays untrusted")
        zones.set_fault(name, "A", None)
        zones.set_security("bogus.test", Security.BOGUS)
        assert (await resolver.assess(AUTO))[0]
        zones.set_fault(name, "A", fault)
        found, sentence = await resolver.assess(AUTO)
        assert found is True is resolver.trusted
        assert sentence.endswith("the resolver stays trusted")


@pytest.mark.asyncio
async def test_trust_ends_when_the_resolver_stops_validating() -> None:
    async with self_test_lab() as (zones, resolver):
        assert (await resolver.assess(AUTO))[0]
        assert getattr(await resolver.a("signed.test"), "secure", False)
        zones.set_security("signed.test", Security.UNSIGNED)
        assert not (await resolver.assess(AUTO))[0]
        assert not getattr(await resolver.a("signed.test"), "secure", True)  # although AD is in the cache


@pytest.mark.asyncio
async def test_every_server_is_tested() -> None:
    careless = Zones({"signed.test": Zone("@ A 192.0.2.1"), "bogus.test": Zone("@ A 192.0.2.1", Security.UNSIGNED)})
    async with self_test_lab() as (_, good):
        assert (await good.assess(AUTO))[0]
        both = Resolver([*good._servers, await careless.start()], BRIEF)
        found, sentence = await both.assess(AUTO)
        await careless.stop()
        assert not found
        assert "accepts the wrongly signed name" in sentence


@pytest.mark.asyncio
async def test_a_server_elsewhere_is_not_trusted_by_itself(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 192.0.2.53\n")
    resolver = Resolver([], BRIEF, resolv_conf)
    found, sentence = await resolver.assess(AUTO)
    assert not found
    assert sentence == "the DNS server 192.0.2.53:53 is not on this machine, and not named in dns.nameservers"
    assert await resolver.assess(TRUSTING) == (True, "dns.trust_ad is yes")
    assert await resolver.assess(DnsSettings(trust_ad=TrustAd.NO)) == (False, "dns.trust_ad is no")


@pytest.mark.asyncio
async def test_a_server_elsewhere_that_the_settings_name_is_tested() -> None:
    async with self_test_lab() as (_, good):
        (server,) = good._servers
        elsewhere = Resolver([HostPort(host="0.0.0.0", port=server.port)], BRIEF)  # the same one
        found, sentence = await elsewhere.assess(AUTO)
        assert (found, "vouches for" in sentence) == (True, True)
        await elsewhere.close()
