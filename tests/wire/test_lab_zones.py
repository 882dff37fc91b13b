"""The lab's DNS server, asked over real sockets with dnspython as the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.asyncresolver
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.lab.zones import Fault, Question, Security, Slow, Zone, Zones
from relay.settings import HostPort

GOOD = """
@ MX 10 mx
@ MX 20 mx.other.test.
mx A 127.1.0.1
mx AAAA ::1
_25._tcp.mx TLSA 3 1 1 0000000000000000000000000000000000000000000000000000000000000001
_mta-sts 300 TXT "v=STSv1; id=1;"
alias CNAME mx
away CNAME mx.plain.test.
broken CNAME mx.bogus.test.
dangling CNAME nothere
loop CNAME loop2
loop2 CNAME loop
*.wild A 127.1.0.9
*.wildalias CNAME mx
a.b.wild A 127.1.0.8
big TXT LONG LONG LONG
""".replace("LONG", "x" * 200)

ZONES = {
    "good.test": Zone(GOOD),
    "plain.test": Zone("@ MX 10 mx\nmx A 127.1.0.2\nback CNAME mx.good.test.", Security.UNSIGNED),
    "bogus.test": Zone("@ MX 10 mx\nmx A 127.1.0.3", Security.BOGUS),
    "child.good.test": Zone("@ A 127.1.0.4", Security.UNSIGNED),
}


class Client:
    """Asks one server."""

    def __init__(self, address: HostPort) -> None:
        self.address = address

    async def udp(self, query: dns.message.Message, seconds: float = 5) -> dns.message.Message:
        return await dns.asyncquery.udp(query, self.address.host, port=self.address.port, timeout=seconds)

    async def tcp(self, query: dns.message.Message) -> dns.message.Message:
        return await dns.asyncquery.tcp(query, self.address.host, port=self.address.port, timeout=5)

    async def ask(self, name: str, rdtype: str) -> dns.message.Message:
        return await self.udp(dns.message.make_query(name, rdtype, want_dnssec=True))


@pytest_asyncio.fixture
async def zones() -> AsyncIterator[Zones]:
    server = Zones(ZONES)
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def client(zones: Zones) -> Client:
    return Client(await zones.start())


def texts(response: dns.message.Message) -> list[str]:
    """The answer as `name type data`, without TTL and class."""
    return [
        f"{rrset.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(rrset.rdtype)} {data}"
        for rrset in response.answer
        for data in sorted(map(str, rrset))
    ]


NOERROR, NXDOMAIN, SERVFAIL, REFUSED, NOTIMP = (
    dns.rcode.NOERROR,
    dns.rcode.NXDOMAIN,
    dns.rcode.SERVFAIL,
    dns.rcode.REFUSED,
    dns.rcode.NOTIMP,
)

ANSWERS = [
    # name, type, rcode, AD, answer, SOA in authority
    ("good.test", "MX", NOERROR, True, ["good.test MX 10 mx.good.test.", "good.test MX 20 mx.other.test."], None),
    ("mx.good.test", "A", NOERROR, True, ["mx.good.test A 127.1.0.1"], None),
    ("mx.good.test", "AAAA", NOERROR, True, ["mx.good.test AAAA ::1"], None),
    ("mx.plain.test", "A", NOERROR, False, ["mx.plain.test A 127.1.0.2"], None),
    ("child.good.test", "A", NOERROR, False, ["child.good.test A 127.1.0.4"], None),
    # aliases: AD needs every step
    ("alias.good.test", "A", NOERROR, True, ["alias.good.test CNAME mx.good.test.", "mx.good.test A 127.1.0.1"], None),
    ("alias.good.test", "CNAME", NOERROR, True, ["alias.good.test CNAME mx.good.test."], None),
    ("away.good.test", "CNAME", NOERROR, True, ["away.good.test CNAME mx.plain.test."], None),
    ("away.good.test", "A", NOERROR, False, ["away.good.test CNAME mx.plain.test.", "mx.plain.test A 127.1.0.2"], None),
    ("back.plain.test", "A", NOERROR, False, ["back.plain.test CNAME mx.good.test.", "mx.good.test A 127.1.0.1"], None),
    ("alias.good.test", "TXT", NOERROR, True, ["alias.good.test CNAME mx.good.test."], "good.test."),
    ("dangling.good.test", "A", NXDOMAIN, True, ["dangling.good.test CNAME nothere.good.test."], "good.test."),
    ("loop.good.test", "A", SERVFAIL, False, [], None),
    # wildcards: RFC 4592 section 2.2.1
    ("x.wild.good.test", "A", NOERROR, True, ["x.wild.good.test A 127.1.0.9"], None),
    ("x.y.wild.good.test", "A", NOERROR, True, ["x.y.wild.good.test A 127.1.0.9"], None),
    ("x.wild.good.test", "TXT", NOERROR, True, [], "good.test."),
    ("wild.good.test", "A", NOERROR, True, [], "good.test."),
    ("b.wild.good.test", "A", NOERROR, True, [], "good.test."),
    ("x.b.wild.good.test", "A", NXDOMAIN, True, [], "good.test."),
    (
        "w.wildalias.good.test",
        "A",
        NOERROR,
        True,
        ["w.wildalias.good.test CNAME mx.good.test.", "mx.good.test A 127.1.0.1"],
        None,
    ),
    # nothing there
    ("nothere.good.test", "A", NXDOMAIN, True, [], "good.test."),
    ("nothere.plain.test", "A", NXDOMAIN, False, [], "plain.test."),
    ("mx.good.test", "TXT", NOERROR, True, [], "good.test."),
    ("_tcp.mx.good.test", "TLSA", NOERROR, True, [], "good.test."),
    ("mx.plain.test", "TXT", NOERROR, False, [], "plain.test."),
    ("test", "A", NOERROR, True, [], "."),
    ("nowhere.example", "MX", NXDOMAIN, True, [], "."),
    # broken signatures
    ("bogus.test", "MX", SERVFAIL, False, [], None),
    ("nothere.bogus.test", "A", SERVFAIL, False, [], None),
    ("broken.good.test", "A", SERVFAIL, False, [], None),
    ("broken.good.test", "CNAME", NOERROR, True, ["broken.good.test CNAME mx.bogus.test."], None),
    # what cannot be answered honestly
    ("good.test", "DNSKEY", NOTIMP, False, [], None),
    ("good.test", "DS", NOTIMP, False, [], None),
    ("good.test", "ANY", NOTIMP, False, [], None),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "rdtype", "rcode", "secure", "answer", "authority"), ANSWERS)
async def test_answers(
    client: Client,
    name: str,
    rdtype: str,
    rcode: dns.rcode.Rcode,
    secure: bool,
    answer: list[str],
    authority: str | None,
) -> None:
    query = dns.message.make_query(name, rdtype, want_dnssec=True)
    for response in (await client.udp(query), await client.tcp(query)):
        assert response.rcode() == rcode
        assert texts(response) == answer
        assert bool(response.flags & dns.flags.AD) == secure
        assert response.flags & dns.flags.RA
        assert not response.flags & dns.flags.AA
        assert response.ednsflags & dns.flags.DO
        found = [rrset.name.to_text() for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA]
        assert found == ([authority] if authority is not None else [])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("dnssec_ok", "ad_bit", "secure"), [(False, False, False), (True, False, True), (False, True, True)]
)
async def test_ad_is_only_for_clients_that_ask(client: Client, dnssec_ok: bool, ad_bit: bool, secure: bool) -> None:
    query = dns.message.make_query("mx.good.test", "A", want_dnssec=dnssec_ok)
    query.flags = dns.flags.Flag(dns.flags.RD | (dns.flags.AD if ad_bit else 0))
    assert bool((await client.udp(query)).flags & dns.flags.AD) == secure


@pytest.mark.asyncio
async def test_bogus_says_so_to_clients_with_edns(client: Client) -> None:
    response = await client.ask("bogus.test", "MX")
    codes = [option.code for option in response.options if isinstance(option, dns.edns.EDEOption)]
    assert codes == [dns.edns.EDECode.DNSSEC_BOGUS]
    plain = await client.udp(dns.message.make_query("bogus.test", "MX"))
    assert plain.rcode() == SERVFAIL
    assert plain.edns == -1


@pytest.mark.asyncio
async def test_bogus_data_is_shown_to_those_who_check_themselves(client: Client) -> None:
    query = dns.message.make_query("bogus.test", "MX", want_dnssec=True)
    query.flags |= dns.flags.CD
    response = await client.udp(query)
    assert (response.rcode(), texts(response)) == (NOERROR, ["bogus.test MX 10 mx.bogus.test."])
    assert not response.flags & dns.flags.AD
    assert response.flags & dns.flags.CD
    assert not response.options


@pytest.mark.asyncio
@pytest.mark.parametrize(("payload", "cut"), [(None, True), (512, True), (100, True), (1232, False), (4096, False)])
async def test_long_answers_are_cut_over_udp_only(client: Client, payload: int | None, cut: bool) -> None:
    query = dns.message.make_query("big.good.test", "TXT")
    if payload is not None:
        query.use_edns(0, dns.flags.DO, payload)
    response = await client.udp(query)
    assert bool(response.flags & dns.flags.TC) == cut
    assert bool(response.answer) != cut
    over_tcp = await client.tcp(query)
    assert not over_tcp.flags & dns.flags.TC
    assert len(over_tcp.answer) == 1


@pytest.mark.asyncio
async def test_ttl(zones: Zones, client: Client) -> None:
    assert (await client.ask("mx.good.test", "A")).answer[0].ttl == 5
    assert (await client.ask("_mta-sts.good.test", "TXT")).answer[0].ttl == 300
    zones.set("slow.test", Zone("@ A 127.0.0.1", ttl=60))
    assert (await client.ask("slow.test", "A")).answer[0].ttl == 60
    assert (await client.ask("slow.test", "MX")).authority[0].ttl == 60


FAULTS = [
    # fault, rcode, AD, truncated
    (Fault.SERVFAIL, SERVFAIL, False, False),
    (Fault.BOGUS, SERVFAIL, False, False),
    (Fault.REFUSED, REFUSED, False, False),
    (Fault.NXDOMAIN, NXDOMAIN, True, False),
    (Fault.TRUNCATED, NOERROR, True, True),
    (Slow(0.05), NOERROR, True, False),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("fault", "rcode", "secure", "cut"), FAULTS)
async def test_faults(
    zones: Zones, client: Client, fault: Fault | Slow, rcode: dns.rcode.Rcode, secure: bool, cut: bool
) -> None:
    zones.set_fault("mx.good.test", "A", fault)
    begin = asyncio.get_running_loop().time()
    response = await client.ask("mx.good.test", "A")
    took = asyncio.get_running_loop().time() - begin
    assert response.rcode() == rcode
    assert bool(response.flags & dns.flags.AD) == secure
    assert bool(response.flags & dns.flags.TC) == cut
    assert bool(response.answer) == (rcode == NOERROR and not cut)
    assert (took >= 0.05) == isinstance(fault, Slow)
    over_tcp = await client.tcp(dns.message.make_query("mx.good.test", "A"))
    assert (over_tcp.rcode(), bool(over_tcp.flags & dns.flags.TC)) == (rcode, False)
    # Another type at the same name is as ever, and so is this one when the fault is gone.
    assert texts(await client.ask("mx.good.test", "AAAA")) == ["mx.good.test AAAA ::1"]
    zones.set_fault("mx.good.test", "A", None)
    assert texts(await client.ask("mx.good.test", "A")) == ["mx.good.test A 127.1.0.1"]


@pytest.mark.asyncio
async def test_a_forged_answer_is_seen_by_those_who_check_themselves(zones: Zones, client: Client) -> None:
    zones.set_fault("mx.good.test", "A", Fault.BOGUS)
    query = dns.message.make_query("mx.good.test", "A")
    query.flags |= dns.flags.CD
    assert texts(await client.udp(query)) == ["mx.good.test A 127.1.0.1"]


@pytest.mark.asyncio
async def test_no_answer_at_all(zones: Zones, client: Client) -> None:
    zones.set_fault("mx.good.test", "ANY", Fault.TIMEOUT)
    query = dns.message.make_query("mx.good.test", "A")
    with pytest.raises(dns.exception.Timeout):
        await client.udp(query, seconds=0.1)
    with pytest.raises(dns.exception.Timeout):
        await dns.asyncquery.tcp(query, client.address.host, port=client.address.port, timeout=0.1)
    assert list(zones.asked) == [Question("mx.good.test", "A")] * 2


@pytest.mark.asyncio
async def test_a_fault_strikes_through_an_alias_and_outside_all_zones() -> None:
    zones = Zones(ZONES, {("MX.good.test.", "A"): Fault.SERVFAIL, ("example.com", "MX"): Fault.REFUSED})
    client = Client(await zones.start())
    assert (await client.ask("alias.good.test", "A")).rcode() == SERVFAIL
    assert (await client.ask("alias.good.test", "AAAA")).rcode() == NOERROR
    assert (await client.ask("example.com", "MX")).rcode() == REFUSED
    await zones.stop()


@pytest.mark.asyncio
async def test_zones_change_while_the_server_runs(zones: Zones, client: Client) -> None:
    zones.replace("mx.good.test", "A", "127.1.0.5", "127.1.0.6")
    assert texts(await client.ask("mx.good.test", "A")) == ["mx.good.test A 127.1.0.5", "mx.good.test A 127.1.0.6"]
    zones.replace("new.good.test", "MX", "10 mx")
    assert texts(await client.ask("new.good.test", "MX")) == ["new.good.test MX 10 mx.good.test."]
    zones.replace("_mta-sts.good.test", "TXT", '"v=STSv1; id=2;"')
    assert (await client.ask("_mta-sts.good.test", "TXT")).answer[0].ttl == 300
    zones.replace("_mta-sts.good.test", "TXT")
    assert (await client.ask("_mta-sts.good.test", "TXT")).rcode() == NXDOMAIN
    zones.set_security("good.test", Security.BOGUS)
    assert (await client.ask("mx.good.test", "A")).rcode() == SERVFAIL
    zones.remove("good.test")
    assert (await client.ask("mx.good.test", "A")).rcode() == NXDOMAIN
    zones.set("good.test", Zone("mx A 127.1.0.7", Security.UNSIGNED))
    assert texts(await client.ask("mx.good.test", "A")) == ["mx.good.test A 127.1.0.7"]


@pytest.mark.asyncio
async def test_a_root_without_signatures(zones: Zones, client: Client) -> None:
    assert (await client.ask(".", "SOA")).flags & dns.flags.AD
    zones.set(".", Zone(security=Security.UNSIGNED))
    assert not (await client.ask(".", "SOA")).flags & dns.flags.AD
    zones.remove(".")
    assert (await client.ask(".", "NS")).flags & dns.flags.AD


@pytest.mark.asyncio
async def test_own_soa_and_ns_are_kept() -> None:
    zones = Zones({"own.test": Zone("@ SOA ns hostmaster 7 1 1 1 1\n@ NS ns\nns A 127.0.0.1")})
    client = Client(await zones.start())
    assert texts(await client.ask("own.test", "NS")) == ["own.test NS ns.own.test."]
    assert texts(await client.ask("own.test", "SOA")) == ["own.test SOA ns.own.test. hostmaster.own.test. 7 1 1 1 1"]
    await zones.stop()


@pytest.mark.parametrize("text", ["mx A 300.1.1.1", "mx A 127.0.0.1\nmx CNAME x", "what is this"])
def test_zone_text_with_errors(text: str) -> None:
    with pytest.raises(dns.exception.DNSException):
        Zones({"bad.test": Zone(text)})


@pytest.mark.asyncio
async def test_what_was_asked(zones: Zones, client: Client) -> None:
    await client.ask("ALIAS.good.test", "A")
    await client.ask("good.test", "MX")
    assert list(zones.asked) == [Question("alias.good.test", "A"), Question("good.test", "MX")]


@pytest.mark.asyncio
async def test_refuses_what_is_no_ordinary_question(client: Client) -> None:
    other_class = dns.message.make_query("version.bind", "TXT", rdclass="CH")
    assert (await client.udp(other_class)).rcode() == REFUSED
    notify = dns.message.make_query("good.test", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    assert (await client.udp(notify)).rcode() == NOTIMP
    two = dns.message.make_query("good.test", "MX")
    two.question += dns.message.make_query("good.test", "A").question
    assert (await client.udp(two)).rcode() == dns.rcode.FORMERR
    newer = dns.message.make_query("good.test", "MX", use_edns=1)
    assert (await client.udp(newer)).rcode() == dns.rcode.BADVERS


@pytest.mark.asyncio
async def test_nonsense_is_ignored_over_udp_and_ends_tcp(client: Client) -> None:
    reply = dns.message.make_query("good.test", "MX")
    reply.flags |= dns.flags.QR
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=(client.address.host, client.address.port)
    )
    for octets in (b"", b"x", b"\xff" * 40, reply.to_wire()):
        transport.sendto(octets)
        reader, writer = await asyncio.open_connection(client.address.host, client.address.port)
        writer.write(len(octets).to_bytes(2) + octets)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    transport.close()
    assert texts(await client.ask("mx.good.test", "A")) == ["mx.good.test A 127.1.0.1"]


@pytest.mark.asyncio
async def test_several_questions_on_one_connection(client: Client) -> None:
    reader, writer = await asyncio.open_connection(client.address.host, client.address.port)
    queries = [dns.message.make_query("good.test", rdtype) for rdtype in ("MX", "A")]
    writer.write(b"".join(len(wire).to_bytes(2) + wire for wire in (query.to_wire() for query in queries)))
    for query in queries:
        response = dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        assert query.is_response(response)
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
async def test_a_resolver_finds_its_way(client: Client) -> None:
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = [client.address.host], client.address.port, 5
    answer = await resolver.resolve("big.good.test.", "TXT")  # cut over UDP, whole over TCP
    assert len(answer[0].strings) == 3
    with pytest.raises(dns.resolver.NoAnswer):
        await resolver.resolve("mx.good.test.", "TXT")
    with pytest.raises(dns.resolver.NXDOMAIN):
        await resolver.resolve("nothere.good.test.", "A")


@pytest.mark.asyncio
async def test_starts_and_stops_many_times_with_connections_open() -> None:
    for host in ("127.0.0.1", "127.9.9.9"):
        zones = Zones(ZONES)
        address = await zones.start(host)
        assert address.host == host
        reader, writer = await asyncio.open_connection(address.host, address.port)
        zones.set_fault("good.test", "MX", Slow(3600))
        query = dns.message.make_query("good.test", "MX").to_wire()
        writer.write(len(query).to_bytes(2) + query)
        with pytest.raises(dns.exception.Timeout):
            await Client(address).udp(dns.message.make_query("good.test", "MX"), seconds=0.05)
        await zones.stop()
        await zones.stop()
        assert await reader.read() == b""
        writer.close()
        assert await zones.start(host, address.port) == address
        assert texts(await Client(address).ask("mx.good.test", "A")) == ["mx.good.test A 127.1.0.1"]
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            await Zones({}).start(host, address.port)
        await zones.stop()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 80), st.binary(max_size=8))
def test_any_octets_are_answered_or_refused(octets: bytes, at: int, spoiled: bytes) -> None:
    zones = Zones(ZONES)
    whole = dns.message.make_query("mx.good.test", "A", want_dnssec=True).to_wire()
    for packet in (octets, whole[:at] + spoiled + whole[at + len(spoiled) :]):
        try:
            _, response = zones.answer(packet, tcp=False)
        except ValueError:
            continue
        assert response is not None
        assert dns.message.from_wire(response).flags & dns.flags.QR
