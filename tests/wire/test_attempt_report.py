"""What an attempt tells the counts of TLS reports, with real hosts, real DNS and real policy hosts."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from attempt_world import CA, DOWN, IPV6, NOW, World, make_claim, world

from relay.delivery.transaction import Timeouts
from relay.lab.certs import Leaf, tlsa_data
from relay.lab.sink import Break, How, SinkScript, Stage
from relay.lab.site import SitePage
from relay.lab.zones import Fault
from relay.mail.message import TlsDemand
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides
from relay.policy.routing import Entry, Hop, Place, Routes
from relay.policy.sts import StsMode
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import PolicyType, Tally

OK = SinkScript()
ENFORCE, TESTING = StsMode.ENFORCE, StsMode.TESTING
REPLACE, RAISE = OverrideMode.REPLACE, OverrideMode.RAISE
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # for naming it
    OLD = ssl.TLSVersion.TLSv1_1


def told(tallies: list[Tally], domain: str) -> list[str]:
    """Such as `tlsa mx1 validation-failure at mx1`; the domain itself is `.`."""

    def short(name: str) -> str:
        return "." if name == domain else name.removesuffix(f".{domain}")

    lines = []
    for one in tallies:
        assert one.domain == domain
        place = f" at {short(one.fault.host)}" if one.fault is not None and one.fault.host else ""
        result = "ok" if one.fault is None else one.fault.result.value
        lines.append(f"{one.policy.type.value} {short(one.policy.domain)} {result}{place}")
    return lines


def no_page(there: World, domain: str) -> None:
    page = SitePage("gone", CA.issue((f"mta-sts.{domain}",)).server_context(), status=404)
    there.site.set(domain, page)


def bad_page(there: World, domain: str) -> None:
    there.site.set(domain, SitePage("version: STSv1\r\n", CA.issue((f"mta-sts.{domain}",)).server_context()))


def page_of_another(there: World, domain: str) -> None:
    there.site.set(domain, SitePage("version: STSv1\r\n", CA.issue(("other.test",)).server_context()))


def fault(label: str, rdtype: str, how: Fault) -> Callable[[World, str], None]:
    def strike(there: World, domain: str) -> None:
        name = label.format(port=there.port)
        there.zones.set_fault(f"{name}.{domain}" if name else domain, rdtype, how)

    return strike


def record(make: Callable[[World, str], str]) -> Callable[[World, str], None]:
    """Another TLSA record in place of that of the first host."""

    def change(there: World, domain: str) -> None:
        host = f"mx1.{domain}"
        there.zones.replace(f"_{there.port}._tcp.{host}", "TLSA", make(there, host))

    return change


unusable_record = record(lambda there, host: there.tlsa(host).replace("3 1 1", "1 1 1"))
other_record = record(lambda there, host: there.tlsa("nobody"))
authority_record = record(lambda there, host: f"2 0 1 {tlsa_data(there.issued[host].chain_der[1], 0, 1).hex()}")


@dataclass(frozen=True)
class Delivery:
    name: str
    counts: list[str]
    hosts: tuple[SinkScript | None, ...] = (OK,)
    leaf: Leaf | None = Leaf.GOOD
    leaves: Mapping[int, Leaf] = field(default_factory=dict)
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    sts: StsMode | None = None
    sts_mx: str | None = None
    dane: bool = False
    also: Callable[[World, str], None] | None = None
    demand: TlsDemand = TlsDemand.DEFAULT
    level: OverrideLevel | None = None
    mode: OverrideMode = REPLACE


NONE = "no-policy-found ."
RESET = SinkScript(breaks=(Break(Stage.HANDSHAKE, How.RESET),))
PUT_OFF = SinkScript(starttls=("454 4.7.0 not now",))
L = OverrideLevel
DELIVERIES = [
    Delivery("TLS", [f"{NONE} ok"]),
    Delivery("TLS with any certificate", [f"{NONE} ok"], leaf=Leaf.SELF_SIGNED),
    Delivery("clear text", [f"{NONE} starttls-not-supported at mx1"], leaf=None),
    Delivery("handshake fails, then clear text", [f"{NONE} validation-failure at mx1"], (RESET,)),
    Delivery("STARTTLS put off, then clear text", [f"{NONE} starttls-not-supported at mx1"], (PUT_OFF,)),
    Delivery("no host answers", [], (DOWN,)),
    Delivery("no service", [], (SinkScript(greeting=("554 5.3.2 no service",)),)),
    Delivery("the second host takes it", [f"{NONE} ok"], (DOWN, OK)),
    Delivery("mail is refused over TLS", [f"{NONE} ok"], (SinkScript(mail=("550 5.7.1 no",)),)),
    Delivery("sts", ["sts . ok"], sts=ENFORCE),
    Delivery("sts, no STARTTLS", ["sts . starttls-not-supported at mx1"], leaf=None, sts=ENFORCE),
    Delivery("sts, expired", ["sts . certificate-expired at mx1"], leaf=Leaf.EXPIRED, sts=ENFORCE),
    Delivery("sts, name in the subject", ["sts . certificate-host-mismatch at mx1"], leaf=Leaf.CN_ONLY, sts=ENFORCE),
    Delivery("sts, self-signed", ["sts . certificate-not-trusted at mx1"], leaf=Leaf.SELF_SIGNED, sts=ENFORCE),
    Delivery("sts, old TLS", ["sts . validation-failure at mx1"], newest=OLD, sts=ENFORCE),
    Delivery("sts, handshake reset", ["sts . validation-failure at mx1"], (RESET,), sts=ENFORCE),
    Delivery("sts, first host expired", ["sts . certificate-expired at mx1", "sts . ok"], (OK, OK), sts=ENFORCE,
             leaves={1: Leaf.EXPIRED}),
    Delivery("sts, first host not listed", ["sts . validation-failure at mx1", "sts . ok"], (OK, OK), sts=ENFORCE,
             sts_mx="mx2.d.test"),
    Delivery("sts, no host listed", ["sts . validation-failure at mx1"], (OK, OK, OK), sts=ENFORCE, sts_mx="x.test"),
    Delivery("sts testing", ["sts . ok"], sts=TESTING),
    Delivery("sts testing, expired", ["sts . certificate-expired at mx1"], leaf=Leaf.EXPIRED, sts=TESTING),
    Delivery("sts testing, not listed", ["sts . validation-failure at mx1"], sts=TESTING, sts_mx="x.test"),
    Delivery("sts testing, clear text", ["sts . starttls-not-supported at mx1"], leaf=None, sts=TESTING),
    Delivery("sts none", [f"{NONE} ok"], leaf=Leaf.EXPIRED, sts=StsMode.NONE),
    Delivery("policy 404", ["sts . sts-policy-fetch-error", f"{NONE} ok"], sts=ENFORCE, also=no_page),
    Delivery("policy without mode", ["sts . sts-policy-invalid", f"{NONE} ok"], sts=ENFORCE, also=bad_page),
    Delivery("policy of another", ["sts . sts-webpki-invalid", f"{NONE} ok"], sts=ENFORCE, also=page_of_another),
    Delivery("policy record forged", ["sts . dnssec-invalid"], sts=ENFORCE, also=fault("_mta-sts", "TXT", Fault.BOGUS)),
    Delivery("policy record not to be had", [f"{NONE} ok"], sts=ENFORCE, also=fault("_mta-sts", "TXT", Fault.SERVFAIL)),
    Delivery("dane", ["tlsa mx1 ok"], dane=True),
    Delivery("dane, self-signed", ["tlsa mx1 ok"], leaf=Leaf.SELF_SIGNED, dane=True),
    Delivery("dane, another key", ["tlsa mx1 validation-failure at mx1"], dane=True, also=other_record),
    Delivery("dane, no STARTTLS", ["tlsa mx1 starttls-not-supported at mx1"], leaf=None, dane=True),
    Delivery("dane, handshake reset", ["tlsa mx1 validation-failure at mx1"], (RESET,), dane=True),
    Delivery("dane by authority", ["tlsa mx1 ok"], dane=True, also=authority_record),
    Delivery("dane by authority, expired", ["tlsa mx1 certificate-expired at mx1"], leaf=Leaf.EXPIRED, dane=True,
             also=authority_record),
    Delivery("dane unusable", ["tlsa mx1 tlsa-invalid at mx1"], dane=True, also=unusable_record),
    Delivery("dane forged, then the next", ["tlsa mx1 dnssec-invalid at mx1", "tlsa mx2 ok"], (OK, OK), dane=True,
             also=fault("_{port}._tcp.mx1", "TLSA", Fault.BOGUS)),
    Delivery("dane not to be had", ["tlsa mx1 dnssec-invalid at mx1"], dane=True,
             also=fault("_{port}._tcp.mx1", "TLSA", Fault.SERVFAIL)),
    Delivery("mail hosts forged", [f"{NONE} dnssec-invalid"], dane=True, also=fault("", "MX", Fault.BOGUS)),
    Delivery("mail hosts not to be had", [], also=fault("", "MX", Fault.SERVFAIL)),
    Delivery("address forged", [f"{NONE} dnssec-invalid at mx1"], dane=True, also=fault("mx1", "A", Fault.BOGUS)),
    Delivery("both", ["tlsa mx1 ok", "sts . ok"], dane=True, sts=ENFORCE),
    Delivery("dane good, sts not", ["tlsa mx1 ok", "sts . certificate-not-trusted at mx1"], leaf=Leaf.SELF_SIGNED,
             dane=True, sts=ENFORCE),
    Delivery("sts good, dane not", ["tlsa mx1 validation-failure at mx1", "sts . ok"], dane=True, sts=ENFORCE,
             also=other_record),
    Delivery("dane good, sts in testing not", ["tlsa mx1 ok", "sts . certificate-expired at mx1"], leaf=Leaf.EXPIRED,
             dane=True, sts=TESTING),
    Delivery("dane unusable, sts good", ["tlsa mx1 tlsa-invalid at mx1", "sts . ok"], dane=True, sts=ENFORCE,
             also=unusable_record),
    Delivery("waived", ["sts . certificate-expired at mx1"], leaf=Leaf.EXPIRED, sts=ENFORCE, demand=TlsDemand.WAIVED),
    Delivery("waived, not listed", ["sts . validation-failure at mx1"], sts=ENFORCE, sts_mx="x.test",
             demand=TlsDemand.WAIVED),
    Delivery("requiretls", ["tlsa mx1 ok"], dane=True, demand=TlsDemand.REQUIRED),
    Delivery("requiretls for nobody certain", [], demand=TlsDemand.REQUIRED),
    Delivery("override, STARTTLS left alone", [], sts=ENFORCE, level=L.NONE),
    Delivery("override in place of sts", ["sts . certificate-expired at mx1"], leaf=Leaf.EXPIRED, sts=ENFORCE,
             level=L.OPPORTUNISTIC),
    Delivery("override verify, nothing published", [], leaf=Leaf.EXPIRED, level=L.VERIFY),
    Delivery("override dane-only, no records", ["tlsa mx1 dane-required at mx1"], level=L.DANE_ONLY, mode=RAISE),
]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("part", range(3))
async def test_what_is_told_of_a_delivery(part: int) -> None:
    """Each to a domain of its own; in one world, since to build one takes longer than to deliver."""
    found, expected = {}, {}
    async with world(timeouts=Timeouts(handshake_seconds=2)) as there:
        for number, delivery in enumerate(DELIVERIES[part::3]):
            domain = f"d{number}.test"
            tallies = await deliver(there, delivery, domain)
            found[delivery.name], expected[delivery.name] = told(tallies, domain), delivery.counts
    assert found == expected


async def deliver(there: World, delivery: Delivery, domain: str, report: bool = False) -> list[Tally]:
    """One attempt; what was counted in it."""
    await there.domain(
        domain,
        *delivery.hosts,
        leaf=delivery.leaf,
        leaves=delivery.leaves,
        newest=delivery.newest,
        sts=delivery.sts,
        sts_mx=delivery.sts_mx and delivery.sts_mx.replace("d.test", domain),
        dane=delivery.dane,
    )
    if delivery.also is not None:
        delivery.also(there, domain)
    overrides = []
    if delivery.level is not None:
        until = NOW + timedelta(days=1)
        overrides.append(Override((domain,), (), delivery.level, delivery.mode, "because", "ops", until))
    tallies: list[Tally] = []
    there.tools = replace(there.tools, overrides=Overrides(overrides), count=tallies.extend)
    claim = replace(make_claim(f"b@{domain}", demand=delivery.demand), report=report)
    await there.attempt(claim)
    return tallies


@pytest.mark.asyncio
async def test_all_that_is_told_of_one_failure() -> None:
    async with world() as there:
        script = SinkScript(name="mx.real.test")
        (tally,) = await deliver(there, Delivery("", [], (script,), Leaf.EXPIRED, sts=TESTING), "a.test")
        fault = tally.fault
        assert fault is not None
        assert (fault.result, fault.host, fault.helo) == (
            ReportResult.CERTIFICATE_EXPIRED, "mx1.a.test", "mx.real.test",
        )  # fmt: skip
        assert (fault.address, fault.source) == ("127.2.0.1", "127.0.0.1")
        assert fault.reason.startswith("the certificate expired on ")
        assert (tally.policy.type, tally.policy.domain, tally.policy.mx) == (PolicyType.STS, "a.test", ("*.a.test",))
        assert tally.policy.strings == ("version: STSv1", "mode: testing", "mx: *.a.test", "max_age: 86400")
        there.tools = replace(there.tools, public_addresses=("2001:db8::1", "192.0.2.7", "192.0.2.8"))
        (tally,) = await deliver(there, Delivery("", [], leaf=None), "b.test")
        assert tally.fault is not None and tally.fault.source == "192.0.2.7"


@pytest.mark.asyncio
async def test_a_session_counts_once_however_many_messages_it_carries() -> None:
    async with world() as there:
        tallies: list[Tally] = []
        (sink,) = await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=ENFORCE)
        there.tools = replace(there.tools, count=tallies.extend)
        for _ in range(3):
            assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test verified"]
        assert (sink.sessions.connections, told(tallies, "a.test")) == (1, ["sts . ok"])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("host", "leaf", "first", "second"),
    [
        (OK, Leaf.GOOD, f"{NONE} ok", "sts . ok"),
        (OK, Leaf.EXPIRED, f"{NONE} ok", "sts . certificate-expired at mx1.a.test"),
        (RESET, Leaf.GOOD, f"{NONE} validation-failure at mx1", "sts . validation-failure at mx1.a.test"),
    ],
    ids=["good", "expired", "clear text after a failed handshake"],
)
async def test_a_session_that_domains_share_counts_for_each_by_its_own_policy(
    host: SinkScript, leaf: Leaf, first: str, second: str
) -> None:
    async with world() as there:
        tallies: list[Tally] = []
        (sink,) = await there.domain("a.test", host, leaf=leaf)
        there.publish("c.test", '@ MX 10 mx1.a.test.\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A 127.0.0.1')
        there.set_policy("c.test", TESTING, "mx1.a.test")
        await there.attempt(replace(make_claim("b@a.test"), report=True))  # nothing is told of it
        there.tools = replace(there.tools, count=tallies.extend)
        for _ in range(2):
            for domain in ("a.test", "c.test"):
                assert (await there.send(f"b@{domain}"))[0].startswith("delivered")
        told_a, told_c = ([one for one in tallies if one.domain == domain] for domain in ("a.test", "c.test"))
        assert (told(told_a, "a.test"), told(told_c, "c.test")) == ([first], [second])
        assert len(sink.received) == 5


@pytest.mark.asyncio
async def test_a_second_round_under_a_renewed_policy_counts_its_sessions_and_not_its_failures_again() -> None:
    async with world() as there:
        delivery = Delivery("", [], (OK, OK), sts=ENFORCE, sts_mx="x.test")
        assert told(await deliver(there, delivery, "a.test"), "a.test") == ["sts . validation-failure at mx1"]
        there.set_policy("a.test", ENFORCE, "mx2.a.test")
        there.policies_since = timedelta(minutes=5)
        tallies: list[Tally] = []
        there.tools = replace(there.tools, count=tallies.extend)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test verified"]
        assert told(tallies, "a.test") == ["sts . validation-failure at mx1", "sts . ok"]
        assert [one.policy.mx for one in tallies] == [("x.test",), ("mx2.a.test",)]


@pytest.mark.asyncio
async def test_a_policy_in_force_whose_renewal_fails() -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=ENFORCE, ttl=0)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test verified"]
        await there.tools.pool.close_all()
        no_page(there, "a.test")
        there.zones.replace("_mta-sts.a.test", "TXT", '"v=STSv1; id=2;"')
        tallies: list[Tally] = []
        there.tools = replace(there.tools, count=tallies.extend)
        for wait, counts in ((0, ["sts . sts-policy-fetch-error", "sts . ok"]), (2, ["sts . sts-policy-fetch-error"])):
            there.policies_since = timedelta(minutes=wait)  # the second time no fetch is made: it is too soon
            assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test verified"]
            assert told(tallies, "a.test") == counts
            tallies.clear()


@pytest.mark.asyncio
async def test_what_is_not_counted() -> None:
    async with world() as there:
        expired = Delivery("", [], leaf=Leaf.EXPIRED, sts=ENFORCE)
        assert await deliver(there, expired, "a.test", report=True) == []  # a report of ours
        tallies: list[Tally] = []
        there.tools = replace(there.tools, count=tallies.extend)
        for address in ("127.2.0.9", IPV6):  # an address literal has nobody who is told
            sink, _ = await there.host(SinkScript(context=CA.issue(("x.test",)).server_context()), address)
            literal = f"IPv6:{address}" if address == IPV6 else address
            assert await there.send(f"b@[{literal}]") == [f"delivered 2.0.0 {address} encrypted"]
            assert sink.sessions.connections == 1
        assert tallies == []


@pytest.mark.asyncio
async def test_a_next_hop_is_told_at_its_own_name() -> None:
    async with world(next_hop="smart.test") as there:
        tallies: list[Tally] = []
        there.tools = replace(there.tools, count=tallies.extend)
        context = CA.issue(("smart.test",)).server_context()
        there.set_policy("smart.test", ENFORCE, "smart.test")
        _, address = await there.host(SinkScript(context=context))
        there.publish("smart.test", f'@ A {address}\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A 127.0.0.1')
        assert await there.send("b@a.test", "c@b.test") == ["delivered 2.0.0 smart.test verified"] * 2
        assert told(tallies, "smart.test") == ["sts . ok"]


@pytest.mark.asyncio
async def test_a_route_by_mail_hosts_is_told_at_its_names() -> None:
    """The first one's answer is forged; whose it was is known all the same."""

    def routes(port: int) -> Routes:
        hop = Hop("smart", (Place("one.test", port), Place("two.test", port)), mx=True)
        return Routes((Entry("smart", hop, ("*",)),))

    async with world(routes=routes) as there:
        tallies: list[Tally] = []
        there.tools = replace(there.tools, count=tallies.extend)
        await there.domain("one.test", OK, leaf=Leaf.GOOD, dane=True)
        await there.domain("two.test", OK, leaf=Leaf.GOOD, dane=True)
        there.zones.set_fault("one.test", "MX", Fault.BOGUS)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.two.test verified"]
        assert [(one.domain, one.policy.type.value, one.fault and one.fault.result.value) for one in tallies] == [
            ("one.test", "no-policy-found", "dnssec-invalid"),
            ("two.test", "tlsa", None),
        ]
