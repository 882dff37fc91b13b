"""Attempts by a route against real hosts: which host is tried when, what it must prove, what becomes of the mail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from attempt_world import CA, DOWN, NOW, World, connections, in_words, make_claim, world

from relay.delivery.attempt import Attempt
from relay.lab.certs import Leaf
from relay.lab.sink import Break, Sink, SinkScript, Stage
from relay.lab.zones import Security
from relay.mail.message import TlsDemand
from relay.mail.outcome import Cause, Deferred, Dropped, Failed, Outcome
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides
from relay.policy.routing import Direct, Discard, Entry, Hop, Place, Reject, Routes
from relay.policy.sts import StsMode

OK = SinkScript()
ONE, TWO = "127.2.0.1", "127.2.0.2"
L = OverrideLevel
WEEK = timedelta(days=7)


def by(*hosts: str, **more: object) -> Callable[[int], Routes]:
    """All mail goes by the route `smart` to these hosts; `more` is of its Hop."""

    def made(port: int) -> Routes:
        hop = Hop("smart", tuple(Place(host, port) for host in hosts), **more)  # type: ignore[arg-type]
        return Routes((Entry("smart", hop, ("*",)),))

    return made


async def sinks(there: World, *scripts: SinkScript | None) -> list[Sink]:
    """At 127.2.0.1, 127.2.0.2 and so on."""
    return [(await there.host(script))[0] for script in scripts]


async def send_as(there: World, destination: str, *recipients: str) -> list[Outcome]:
    claim = replace(make_claim(*recipients), destination=destination)
    outcomes = (await Attempt(claim, there.tools).run()).outcomes
    return [outcomes[index] for index in range(len(recipients))]


FAILOVER: dict[str, SinkScript | None] = {
    "down": DOWN,
    "greeting 554": SinkScript(greeting=("554 5.7.1 not you",)),
    "greeting 421": SinkScript(greeting=("421 4.3.2 busy",)),
    "EHLO 554": SinkScript(ehlo=("554 5.7.1 not you",), breaks=(Break(Stage.MAIL),)),
    "greylisting": SinkScript(rcpt={"*": ("451 4.7.1 later",)}),
    "MAIL 451": SinkScript(mail=("451 4.3.0 later",)),
    "no more at the final dot": SinkScript(final_dot=("452 4.3.1 disk full",)),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("first", FAILOVER.values(), ids=FAILOVER)
async def test_the_next_host_of_the_route_gets_it(first: SinkScript | None) -> None:
    async with world(routes=by(ONE, TWO)) as there:
        made = await sinks(there, first, OK)
        assert await there.send("b@a.test") == [f"delivered 2.0.0 {TWO} none"]
        assert (len(made[0].received), len(made[1].received)) == (0, 1)


@pytest.mark.asyncio
async def test_the_first_host_is_the_first_again() -> None:
    async with world(routes=by(ONE, TWO)) as there:
        made = await sinks(there, SinkScript(mail=("451 4.3.0 later", "250 2.1.0 ok")), OK)
        assert await there.send("b@a.test") == [f"delivered 2.0.0 {TWO} none"]
        assert await there.send("b@a.test") == [f"delivered 2.0.0 {ONE} none"]
        assert [len(sink.received) for sink in made] == [1, 1]


@pytest.mark.asyncio
async def test_what_one_host_refuses_for_good_is_not_asked_of_the_next() -> None:
    async with world(routes=by(ONE, TWO)) as there:
        made = await sinks(there, SinkScript(rcpt={"*": ("550 5.1.1 who?",)}), OK)
        assert await there.send("b@a.test") == [f"failed 5.1.1 {ONE} none"]
        assert connections(made) == [1, 0]


@pytest.mark.asyncio
async def test_when_no_host_takes_it_it_waits() -> None:
    async with world(routes=by(ONE, TWO, "nothing.test")) as there:
        await sinks(there, SinkScript(greeting=("554 5.7.1 not you",)), DOWN)
        assert await there.send("b@a.test") == [f"deferred 4.7.1 {ONE} none"]


@pytest.mark.asyncio
async def test_a_host_without_an_address_costs_no_mail() -> None:
    async with world(routes=by("nothing.test")) as there:
        (outcome,) = await there.attempt(make_claim("b@a.test"))
        assert isinstance(outcome, Deferred)
        assert (str(outcome.status), outcome.cause) == ("4.4.4", Cause.DNS)
        assert outcome.reason == "the host nothing.test of the route smart has no address"


@pytest.mark.asyncio
async def test_recipients_of_many_domains_go_in_one_transaction() -> None:
    async with world(routes=by(ONE)) as there:
        (sink,) = await sinks(there, OK)
        told = await there.send("b@a.test", "c@other.test", "d@[192.0.2.1]")
        assert told == [f"delivered 2.0.0 {ONE} none"] * 3
        assert [mail.recipients for mail in sink.received] == [("b@a.test", "c@other.test", "d@[192.0.2.1]")]
        assert there.asked() == set()


@pytest.mark.asyncio
async def test_a_name_with_mx_goes_to_its_mail_hosts() -> None:
    async with world(routes=by("smart.test", mx=True)) as there:
        made = await there.domain("smart.test", DOWN, OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.smart.test none"]
        assert len(made[1].received) == 1
        assert not {name for name, _ in there.asked()} & {"a.test", "_mta-sts.a.test"}


@pytest.mark.asyncio
@pytest.mark.parametrize("records", [None, "@ MX 0 ."])
async def test_a_name_with_mx_that_leads_nowhere_costs_no_mail(records: str | None) -> None:
    async with world(routes=by("smart.test", mx=True)) as there:
        if records is not None:
            there.publish("smart.test", records)
        (outcome,) = await there.attempt(make_claim("b@a.test"))
        assert isinstance(outcome, Deferred)
        assert outcome.reason.startswith("the route smart leads nowhere: ")


# The level of the route, the certificate of the host (None: no TLS), and what becomes of mail.
LEVELS: list[tuple[OverrideLevel | None, Leaf | None, str]] = [
    (None, None, "delivered 2.0.0 mx1.smart.test none"),
    (None, Leaf.SELF_SIGNED, "delivered 2.0.0 mx1.smart.test encrypted"),
    (L.OPPORTUNISTIC, None, "delivered 2.0.0 mx1.smart.test none"),
    (L.NONE, Leaf.GOOD, "delivered 2.0.0 mx1.smart.test none"),
    (L.ENCRYPT, None, "deferred 4.7.4 mx1.smart.test none"),
    (L.ENCRYPT, Leaf.SELF_SIGNED, "delivered 2.0.0 mx1.smart.test encrypted"),
    (L.VERIFY, None, "deferred 4.7.4 mx1.smart.test none"),
    (L.VERIFY, Leaf.SELF_SIGNED, "deferred 4.7.5 mx1.smart.test none"),
    (L.VERIFY, Leaf.EXPIRED, "deferred 4.7.5 mx1.smart.test none"),
    (L.VERIFY, Leaf.GOOD, "delivered 2.0.0 mx1.smart.test verified"),
    (L.DANE, Leaf.SELF_SIGNED, "delivered 2.0.0 mx1.smart.test encrypted"),
    (L.DANE_ONLY, Leaf.GOOD, "deferred 4.7.5 mx1.smart.test none"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("level", "leaf", "told"), LEVELS)
async def test_what_the_route_demands(level: OverrideLevel | None, leaf: Leaf | None, told: str) -> None:
    async with world(routes=by("mx1.smart.test", tls=level)) as there:
        await there.domain("smart.test", OK, leaf=leaf)
        assert await there.send("b@a.test") == [told]


@pytest.mark.asyncio
async def test_the_refusal_names_the_route() -> None:
    async with world(routes=by("mx1.smart.test", tls=L.VERIFY)) as there:
        await there.domain("smart.test", OK)
        claim = replace(make_claim("b@a.test"), destination="route:smart")
        attempted = await Attempt(claim, there.tools).run()
        assert attempted.record.tried[0].rule == "route"
        (outcome,) = attempted.outcomes.values()
        assert isinstance(outcome, Deferred)
        assert outcome.reason.startswith("the route in this server's own settings demands TLS, but mx1.smart.test ")


@pytest.mark.asyncio
@pytest.mark.parametrize("matches", [True, False])
async def test_dane_only_and_fingerprints(matches: bool) -> None:
    async with world(routes=by("mx1.smart.test", tls=L.DANE_ONLY)) as there:
        await there.domain("smart.test", OK, leaf=Leaf.SELF_SIGNED, dane=True)
        if not matches:
            records = f"mx1 A {ONE}\n_{there.port}._tcp.mx1 TLSA {there.tlsa('nobody')}"
            there.publish("smart.test", records, Security.SIGNED)
        told = "delivered 2.0.0 mx1.smart.test verified" if matches else "deferred 4.7.5 mx1.smart.test none"
        assert await there.send("b@a.test") == [told]
    issued = CA.issue(("whoever.test",), Leaf.SELF_SIGNED)
    pinned = (hashlib.sha256(issued.chain_der[0]).digest() if matches else bytes(32),)
    async with world(routes=by(ONE, tls=L.FINGERPRINT, fingerprints=pinned)) as there:
        await sinks(there, SinkScript(context=issued.server_context()))
        told = f"delivered 2.0.0 {ONE} verified" if matches else f"deferred 4.7.5 {ONE} none"
        assert await there.send("b@a.test") == [told]


@pytest.mark.asyncio
@pytest.mark.parametrize("level", [None, L.NONE, L.OPPORTUNISTIC, L.ENCRYPT])
async def test_what_the_hosts_name_publishes_holds_beside_the_route(level: OverrideLevel | None) -> None:
    """And the next host, whose name publishes nothing, is not held to it."""
    async with world(routes=by("mx1.smart.test", "mx1.other.test", tls=level)) as there:
        there.set_policy("mx1.smart.test", StsMode.ENFORCE, "mx1.smart.test")
        made = await there.domain("smart.test", OK, leaf=Leaf.SELF_SIGNED)
        there.publish(
            "smart.test",
            f'mx1 A {ONE}\n_mta-sts.mx1 TXT "v=STSv1; id=1;"\nmta-sts.mx1 A 127.0.0.1',
        )
        made += await there.domain("other.test", OK, leaf=Leaf.SELF_SIGNED)
        how = "none" if level is L.NONE else "encrypted"
        assert await there.send("b@a.test") == [f"delivered 2.0.0 mx1.other.test {how}"]
        assert [len(sink.received) for sink in made] == [0, 1]


@pytest.mark.asyncio
async def test_a_route_without_tls_keeps_to_what_is_published() -> None:
    async with world(routes=by("mx1.smart.test", tls=L.NONE)) as there:
        await there.domain("smart.test", OK, leaf=Leaf.SELF_SIGNED, dane=True)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.smart.test verified"]


@pytest.mark.asyncio
async def test_a_policy_of_the_recipients_domain_is_not_the_smart_hosts() -> None:
    async with world(routes=by(ONE)) as there:
        await there.domain("a.test", OK, sts=StsMode.ENFORCE)
        assert await there.send("b@a.test") == [f"delivered 2.0.0 {ONE} none"]
        assert there.asked() == set()


@pytest.mark.asyncio
@pytest.mark.parametrize("offered", [True, False])
async def test_requiretls_holds_on_a_route(offered: bool) -> None:
    async with world(routes=by("mx1.smart.test", tls=L.NONE)) as there:
        script = OK if offered else SinkScript(tls_extensions=())
        (sink,) = await there.domain("smart.test", script, leaf=Leaf.GOOD)
        (outcome,) = await there.attempt(make_claim("b@a.test", demand=TlsDemand.REQUIRED))
        told = "delivered 2.0.0 mx1.smart.test verified" if offered else "failed 5.7.30 mx1.smart.test none"
        assert in_words(outcome) == told
        assert ["REQUIRETLS" in mail.mail_parameters for mail in sink.received] == [True] * offered


@pytest.mark.asyncio
async def test_tls_required_no_does_not_waive_what_the_operator_demands() -> None:
    async with world(routes=by("mx1.smart.test", tls=L.VERIFY)) as there:
        await there.domain("smart.test", OK, leaf=Leaf.SELF_SIGNED)
        (outcome,) = await there.attempt(make_claim("b@a.test", demand=TlsDemand.WAIVED))
        assert in_words(outcome) == "deferred 4.7.5 mx1.smart.test none"


def override(level: OverrideLevel, mode: OverrideMode, domain: str = "", host: str = "") -> Overrides:
    return Overrides([Override((domain,) * bool(domain), (host,) * bool(host), level, mode, "t", "o", NOW + WEEK)])


@pytest.mark.asyncio
async def test_an_override_for_one_recipients_domain_parts_it_from_the_others() -> None:
    overrides = override(L.VERIFY, OverrideMode.RAISE, domain="strict.test")
    async with world(routes=by("mx1.smart.test"), overrides=overrides) as there:
        (sink,) = await there.domain("smart.test", OK, leaf=Leaf.SELF_SIGNED)
        assert await there.send("b@a.test", "c@strict.test", "d@other.test") == [
            "delivered 2.0.0 mx1.smart.test encrypted",
            "deferred 4.7.5 mx1.smart.test none",
            "delivered 2.0.0 mx1.smart.test encrypted",
        ]
        assert [mail.recipients for mail in sink.received] == [("b@a.test", "d@other.test")]


@pytest.mark.asyncio
@pytest.mark.parametrize("level", [L.NONE, L.OPPORTUNISTIC])
async def test_an_override_that_replaces_does_not_lower_the_route(level: OverrideLevel) -> None:
    overrides = override(level, OverrideMode.REPLACE, host="mx1.smart.test")
    async with world(routes=by("mx1.smart.test", tls=L.VERIFY), overrides=overrides) as there:
        await there.domain("smart.test", OK, leaf=Leaf.SELF_SIGNED)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.smart.test none"]
    async with world(routes=by("mx1.smart.test", tls=L.VERIFY), overrides=overrides) as there:
        await there.domain("smart.test", OK, leaf=Leaf.GOOD)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.smart.test verified"]


@pytest.mark.asyncio
async def test_a_private_address_needs_leave_as_any_other() -> None:
    async with world(routes=by(ONE), allow_private=False) as there:
        (sink,) = await sinks(there, OK)
        assert await there.send("b@a.test") == [f"deferred 4.4.4 {ONE} none"]
        assert sink.sessions.connections == 0


@pytest.mark.asyncio
async def test_nowhere() -> None:
    entries = (
        Entry("bin", Discard("bin"), ("spam.test",)),
        Entry("shut", Reject("shut", "not from here"), ("shut.test",)),
    )
    async with world(routes=lambda _: Routes(entries)) as there:
        (dropped,) = await there.attempt(make_claim("b@spam.test"))
        assert dropped == Dropped("the route bin discards it")
        (failed,) = await there.attempt(make_claim("b@shut.test"))
        assert isinstance(failed, Failed)
        assert (str(failed.status), failed.reason) == ("5.7.1", "the route shut rejects it: not from here")
        (unknown,) = await send_as(there, "route:gone", "b@a.test")
        assert isinstance(unknown, Deferred)
        assert (str(unknown.status), unknown.cause) == ("4.3.5", Cause.LOCAL)
        assert there.asked() == set()


@pytest.mark.asyncio
async def test_a_place_that_no_route_names() -> None:
    async with world() as there:
        (sink,) = await sinks(there, OK)
        (outcome,) = await send_as(there, f"route:{ONE}:{there.port}", "b@a.test")
        assert in_words(outcome) == f"delivered 2.0.0 {ONE} none"
        assert len(sink.received) == 1


@pytest.mark.asyncio
async def test_an_exception_goes_directly() -> None:
    """What has a route of its own, the action direct, is not for the smart host behind it."""

    def made(port: int) -> Routes:
        smart = Hop("smart", (Place("127.2.0.9", port),))
        return Routes((Entry("own", Direct(), ("a.test",)), Entry("smart", smart, ("*",))))

    async with world(routes=made) as there:
        direct = await there.domain("a.test", OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert len(direct[0].received) == 1


@pytest.mark.asyncio
async def test_fallback_after_direct_failures_and_not_for_a_policy() -> None:
    """The whole way that the worker goes: the attempt, what moves, and the next attempt."""

    def made(port: int) -> Routes:
        return Routes(fallback=Place(ONE, port), fallback_after=2)

    async with world(routes=made) as there:
        (fallback,) = await sinks(there, OK)
        routes = there.tools.router.routes
        await there.domain("a.test", SinkScript(greeting=("421 4.3.2 busy",)))
        await there.domain("strict.test", OK, leaf=Leaf.SELF_SIGNED, sts=StsMode.ENFORCE)
        for domain, attempts, moves in (
            ("a.test", 1, None),
            ("a.test", 2, "fallback"),
            ("strict.test", 1, None),
            ("strict.test", 9, None),
        ):
            claim = make_claim(f"b@{domain}")
            recipient = replace(claim.recipients[0], attempts=attempts)
            (outcome,) = await there.attempt(claim)
            assert isinstance(outcome, Deferred)
            assert routes.moved(claim, recipient, outcome) == moves
        claim = make_claim("b@a.test")
        destination = routes.destination(claim.sender, None, claim.recipients[0].address, "fallback")
        (outcome,) = await send_as(there, destination, "b@a.test")
        assert in_words(outcome) == f"delivered 2.0.0 {ONE} none"
        assert len(fallback.received) == 1
