"""Where mail goes, against the lab's DNS: hosts in order, their policies, and what DNS says for sure."""

from __future__ import annotations

import pytest
from attempt_world import OWN_NAME, World, world

from relay.delivery.route import Route
from relay.lab.zones import Fault, Security
from relay.mail.outcome import Cause, Deferred, Dropped, Failed
from relay.mail.status import Kind, Status
from relay.policy.mx import MxHost
from relay.policy.routing import Discard, Entry, Hop, Place, Reject, Routes
from relay.policy.sts import NoSts, StsFetchFailed, StsFound, StsMode, StsUnknown
from relay.policy.tlsa import NoTlsa, TlsaLookupFailed, UsableTlsa

HOSTS = "@ MX 20 d\n@ MX 10 a\n@ MX 10 b\n@ MX 10 c\n@ MX 5 best.other.test."


async def hosts(there: World, domain: str) -> list[str]:
    route = await there.tools.router.direct(domain)
    assert isinstance(route, Route), route
    assert (route.domain, route.port) == (domain, there.port)
    return [host.name.removesuffix(f".{domain}") for host in route.hosts]


@pytest.mark.asyncio
async def test_hosts_of_equal_preference_come_in_the_order_of_draw() -> None:
    """RFC 5321 section 5.1: in random order, whatever the order in the answer. One number for each host."""
    numbers: list[float] = []
    async with world(draw=lambda: numbers.pop(0)) as there:
        there.publish("a.test", HOSTS, ttl=3600)
        numbers[:] = [0.5] * 5
        first, *equal, last = await hosts(there, "a.test")
        assert (first, sorted(equal), last) == ("best.other.test", ["a", "b", "c"], "d")
        for drawn in ((0.9, 0.1, 0.2, 0.3, 0.0), (0.0, 0.3, 0.2, 0.1, 0.9), (0.5, 0.2, 0.3, 0.1, 0.5)):
            numbers[:] = drawn
            by_number = [name for _, name in sorted(zip(drawn[1:4], equal, strict=True))]
            assert await hosts(there, "a.test") == [first, *by_number, last]
            assert numbers == []


@pytest.mark.asyncio
async def test_without_mx_records_the_domain_is_its_own_host() -> None:
    async with world() as there:
        there.publish("a.test", "@ A 192.0.2.1")
        there.publish("six.test", "@ AAAA 2001:db8::1")
        route = await there.tools.router.direct("a.test")
        assert isinstance(route, Route)
        assert route == Route("a.test", (MxHost("a.test"),), there.port, NoSts())
        assert await hosts(there, "six.test") == ["six.test"]


CERTAIN: dict[str, tuple[str | None, str, str]] = {
    "null MX": ("@ MX 0 .", "5.1.10", "a.test takes no mail at all (null MX)"),
    "no such domain": (None, "5.1.2", "the domain a.test does not exist"),
    "nothing there": ('@ TXT "x"', "5.1.2", "the domain a.test has neither a mail host (MX) nor an address"),
    "alias of nothing": (
        "@ CNAME nothing.test.", "5.1.2", "the domain a.test is an alias of nothing.test, which does not exist"
    ),
    "MX names an address": ("@ MX 10 192.0.2.1.", "5.1.2", "the MX records of a.test name no possible host: 192.0.2.1"),
}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize(("records", "status", "reason"), CERTAIN.values(), ids=CERTAIN)
async def test_dns_says_for_sure_that_there_is_no_way(records: str | None, status: str, reason: str) -> None:
    async with world() as there:
        if records is not None and "CNAME" in records:
            there.publish("test", records.replace("@", "a"))
        elif records is not None:
            there.publish("a.test", records)
        found = await there.tools.router.direct("a.test")
        assert isinstance(found, Failed)
        assert (str(found.status), found.reason, found.host) == (status, reason, None)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fault", "security", "status"),
    [
        (Fault.TIMEOUT, Security.UNSIGNED, "4.4.3"),
        (Fault.SERVFAIL, Security.UNSIGNED, "4.4.3"),
        (Fault.REFUSED, Security.SIGNED, "4.4.3"),
        (None, Security.BOGUS, "4.7.5"),
    ],
)
async def test_dns_does_not_know(fault: Fault | None, security: Security, status: str) -> None:
    async with world(dns_seconds=0.3) as there:
        there.publish("a.test", "@ MX 10 mx\nmx A 127.2.0.1", security)
        there.zones.set_fault("a.test", "MX", fault)
        found = await there.tools.router.direct("a.test")
        assert isinstance(found, Deferred)
        assert str(found.status) == status
        assert found.reason.startswith("the mail hosts of a.test could not be looked up: ")


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.SERVFAIL])
async def test_no_mx_and_addresses_that_are_not_known(fault: Fault) -> None:
    """Not the same as having none: nobody may be told that the domain does not exist."""
    async with world(dns_seconds=0.3) as there:
        there.publish("a.test", "@ A 127.2.0.1")
        for rdtype in ("A", "AAAA"):
            there.zones.set_fault("a.test", rdtype, fault)
        found = await there.tools.router.direct("a.test")
        assert isinstance(found, Deferred)
        assert str(found.status) == "4.4.3"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("records", "fault", "security", "status"),
    [
        ('mx TXT "x"', None, Security.UNSIGNED, "5.4.4"),
        ("", None, Security.UNSIGNED, "5.4.4"),
        ("mx A 127.2.0.1", Fault.SERVFAIL, Security.UNSIGNED, "4.4.3"),
        ("mx A 127.2.0.1", Fault.TIMEOUT, Security.SIGNED, "4.4.3"),
        ("mx A 127.2.0.1", None, Security.BOGUS, "4.7.5"),
    ],
)
async def test_a_host_without_addresses(records: str, fault: Fault | None, security: Security, status: str) -> None:
    async with world(dns_seconds=0.3) as there:
        there.publish("hosts.test", records, security)
        for rdtype in ("A", "AAAA"):
            there.zones.set_fault("mx.hosts.test", rdtype, fault)
        found = await there.tools.router.addresses(MxHost("mx.hosts.test"))
        assert isinstance(found, Deferred | Failed)
        assert (str(found.status), found.host) == (status, "mx.hosts.test")
        assert "the mail host mx.hosts.test" in found.reason


@pytest.mark.asyncio
async def test_addresses_are_looked_up_once() -> None:
    async with world() as there:
        there.publish("hosts.test", "mx A 127.2.0.1\nmx AAAA ::1")
        found = await there.tools.router.addresses(MxHost("mx.hosts.test"))
        assert isinstance(found, MxHost)
        assert found.addresses == ("::1", "127.2.0.1")
        there.zones.asked.clear()
        assert await there.tools.router.addresses(found) is found
        assert there.asked() == set()


@pytest.mark.asyncio
async def test_the_policy_comes_with_the_route() -> None:
    async with world() as there:
        await there.domain("a.test", None, sts=StsMode.ENFORCE)
        await there.domain("b.test", None)
        there.publish("c.test", '@ MX 10 mx\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A 127.0.0.1')
        there.publish("d.test", "@ MX 10 mx")
        there.publish("_mta-sts.d.test", '@ TXT "v=STSv1; id=1;"', Security.BOGUS)
        kinds = {}
        for name in ("a.test", "b.test", "c.test", "d.test"):
            route = await there.tools.router.direct(name)
            assert isinstance(route, Route)
            kinds[name] = type(route.sts)
        assert kinds == {"a.test": StsFound, "b.test": NoSts, "c.test": StsFetchFailed, "d.test": StsUnknown}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("domain", "address"),
    [("[127.2.0.1]", "127.2.0.1"), ("[IPv6:::1]", "::1"), ("[IPv6:::ffff:127.2.0.1]", "::ffff:127.2.0.1")],
)
async def test_address_literals(domain: str, address: str) -> None:
    async with world() as there:
        route = await there.tools.router.direct(domain)
        assert route == Route(address, (MxHost(address, addresses=(address,)),), there.port, NoSts())
        assert isinstance(route, Route)
        assert isinstance(await there.tools.router.tlsa(route.hosts[0], route), NoTlsa)
        assert there.asked() == set()


@pytest.mark.asyncio
async def test_next_hop() -> None:
    """As an address it has no policy at all, as a name it has those of that name."""
    async with world(next_hop="127.2.0.7") as there:
        hop = Hop("next-hop", (Place("127.2.0.7", there.port),))
        (found,) = [one async for one in there.tools.router.find("route:next-hop")]
        assert found == Route("127.2.0.7", (MxHost("127.2.0.7", addresses=("127.2.0.7",)),), there.port, NoSts(), hop)
        assert there.asked() == set()
    async with world(next_hop="Hop.test") as there:
        hop = Hop("next-hop", (Place("hop.test", there.port),))
        (found,) = [one async for one in there.tools.router.find("route:next-hop")]
        assert found == Route("hop.test", (MxHost("hop.test"),), there.port, NoSts(), hop)
        assert there.asked() == {("_mta-sts.hop.test", "TXT")}


WAYS = [
    ("route:bin", Dropped("the route bin discards it")),
    ("route:shut", Failed(Status(Kind.PERMANENT, 7, 1), "the route shut rejects it: not from here")),
    (
        "route:gone",
        Deferred(
            Status(Kind.TEMPORARY, 3, 5),
            "the route gone is not in the settings any more: put it there, or send the mail another way",
            cause=Cause.LOCAL,
        ),
    ),
    (
        "route:lost",
        Deferred(
            Status(Kind.TEMPORARY, 1, 2),
            "the route lost leads nowhere: the domain nothing.test does not exist",
            cause=Cause.DNS,
        ),
    ),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("destination", "outcome"), WAYS)
async def test_routes_that_lead_nowhere(destination: str, outcome: object) -> None:
    entries = (
        Entry("bin", Discard("bin")),
        Entry("shut", Reject("shut", "not from here")),
        Entry("lost", Hop("lost", (Place("nothing.test", 25),), mx=True)),
    )
    async with world(routes=lambda _: Routes(entries)) as there:
        assert [one async for one in there.tools.router.find(destination)] == [outcome]


@pytest.mark.asyncio
async def test_a_route_by_mx_goes_to_its_port_under_the_policies_of_its_name() -> None:
    hop = Hop("smart", (Place("smart.test", 2600),), mx=True)
    async with world(routes=lambda _: Routes((Entry("smart", hop),))) as there:
        there.publish("smart.test", "@ MX 10 a\n@ MX 5 b")
        (found,) = [one async for one in there.tools.router.find("route:smart")]
        assert found == Route("smart.test", (MxHost("b.smart.test", 5), MxHost("a.smart.test", 10)), 2600, NoSts(), hop)


@pytest.mark.asyncio
async def test_our_own_name_on_another_port_is_another_server() -> None:
    def made(port: int) -> Routes:
        ports = {"same": port, "other": port - 1}
        return Routes(Entry(name, Hop(name, (Place("smart.test", at),), mx=True)) for name, at in ports.items())

    async with world(routes=made) as there:
        there.publish("smart.test", f"@ MX 10 {OWN_NAME}.")
        (same,) = [one async for one in there.tools.router.find("route:same")]
        assert isinstance(same, Deferred) and "is this server itself" in same.reason
        (other,) = [one async for one in there.tools.router.find("route:other")]
        assert isinstance(other, Route) and other.hosts == (MxHost(OWN_NAME, 10),)


@pytest.mark.asyncio
async def test_a_later_host_of_a_route_is_looked_up_when_it_is_asked_for() -> None:
    hop = Hop("smart", (Place("one.test", 25), Place("two.test", 26)))
    async with world(routes=lambda _: Routes((Entry("smart", hop),))) as there:
        found = there.tools.router.find("route:smart")
        assert await anext(found) == Route("one.test", (MxHost("one.test"),), 25, NoSts(), hop)
        assert there.asked() == {("_mta-sts.one.test", "TXT")}
        assert await anext(found) == Route("two.test", (MxHost("two.test"),), 26, NoSts(), hop)
        await found.aclose()


@pytest.mark.asyncio
async def test_tlsa_records_are_those_of_the_port() -> None:
    async with world() as there:
        there.publish(
            "a.test",
            f"@ MX 10 mx\nmx A 127.2.0.1\n_{there.port}._tcp.mx TLSA {there.tlsa('')}\n"
            f"@ MX 20 other\nother A 127.2.0.2\n_25._tcp.other TLSA {there.tlsa('')}",
            Security.SIGNED,
        )
        route = await there.tools.router.direct("a.test")
        assert isinstance(route, Route)
        found = []
        for named in route.hosts:
            host = await there.tools.router.addresses(named)
            assert isinstance(host, MxHost)
            found.append(await there.tools.router.tlsa(host, route))
        assert [type(one) for one in found] == [UsableTlsa, NoTlsa]
        assert isinstance(found[0], UsableTlsa)
        assert "a.test" in found[0].names  # RFC 7672 section 3.2.2: the next hop's name counts, as its MX was signed
        there.zones.set_fault(f"_{there.port}._tcp.bad.a.test", "TLSA", Fault.SERVFAIL)
        bad = MxHost("bad.a.test", addresses=("127.2.0.3",), expanded="bad.a.test", secure=True, alias_secure=True)
        assert isinstance(await there.tools.router.tlsa(bad, route), TlsaLookupFailed)
