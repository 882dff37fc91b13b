"""Overrides in an attempt: what the operator says is what a session must prove, and what is published is told."""

from __future__ import annotations

import hashlib
import ssl
from datetime import timedelta

import pytest
from attempt_world import NOW, World, connections, in_words, make_claim, world

from relay.events import Event, PolicyOverridden, PolicyTestFailed
from relay.lab.certs import Leaf
from relay.lab.sink import SinkScript
from relay.mail.message import TlsDemand
from relay.policy.observed import TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode, Overrides
from relay.policy.sts import StsMode

OK = SinkScript()
L, M = OverrideLevel, OverrideMode


def override(
    level: OverrideLevel,
    mode: OverrideMode = M.REPLACE,
    hosts: tuple[str, ...] = (),
    minimum: TlsVersion | None = None,
    names: tuple[str, ...] = (),
    fingerprints: tuple[bytes, ...] = (),
) -> Overrides:
    domains = () if hosts else ("a.test",)
    until = NOW + timedelta(days=1)
    return Overrides([Override(domains, hosts, level, mode, "because", "ops", until, minimum, names, fingerprints)])


def overridden(there: World) -> list[tuple[str, str, str]]:
    return [(event.host, event.override, event.owner) for event in there.events if isinstance(event, PolicyOverridden)]


@pytest.mark.asyncio
async def test_none_leaves_starttls_alone_and_tells_what_the_policy_would_have_refused() -> None:
    async with world(overrides=override(L.NONE)) as there:
        (sink,) = await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=StsMode.ENFORCE)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert "STARTTLS" not in sink.commands
        assert overridden(there) == [("mx1.a.test", "none", "ops")]
        assert not any(isinstance(event, PolicyTestFailed) for event in there.events)


@pytest.mark.asyncio
@pytest.mark.parametrize(("leaf", "tls", "told"), [(Leaf.GOOD, "verified", 0), (Leaf.EXPIRED, "encrypted", 1)])
async def test_opportunistic_in_place_of_enforce(leaf: Leaf, tls: str, told: int) -> None:
    async with world(overrides=override(L.OPPORTUNISTIC)) as there:
        await there.domain("a.test", OK, leaf=leaf, sts=StsMode.ENFORCE)
        assert await there.send("b@a.test") == [f"delivered 2.0.0 mx1.a.test {tls}"]
        assert len(overridden(there)) == told


@pytest.mark.asyncio
async def test_a_host_that_is_not_listed_is_called_in_its_place() -> None:
    async with world(overrides=override(L.ENCRYPT)) as there:
        await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, sts=StsMode.ENFORCE, sts_mx="other.a.test")
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test encrypted"]
        assert len(overridden(there)) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", [M.RAISE, M.REPLACE])
async def test_encrypt_keeps_clear_text_back(mode: OverrideMode) -> None:
    async with world(overrides=override(L.ENCRYPT, mode)) as there:
        sinks = await there.domain("a.test", SinkScript(starttls=("454 4.7.0 not now",)), OK)
        assert await there.send("b@a.test") == ["deferred 4.7.4 mx1.a.test none"]
        assert connections(sinks) == [1, 1]
        assert [line for sink in sinks for line in sink.commands if line.startswith("MAIL")] == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("leaf", "told"),
    [(Leaf.GOOD, "delivered 2.0.0 mx1.a.test verified"), (Leaf.SELF_SIGNED, "deferred 4.7.5 mx1.a.test none")],
)
async def test_verify(leaf: Leaf, told: str) -> None:
    async with world(overrides=override(L.VERIFY, M.RAISE)) as there:
        await there.domain("a.test", OK, leaf=leaf)
        assert await there.send("b@a.test") == [told]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("mx1.a.test",), "delivered 2.0.0 mx1.a.test verified"),
        (("x.test", "mx1.a.test"), "delivered 2.0.0 mx1.a.test verified"),
        (("gateway.test",), "deferred 4.7.5 mx1.a.test none"),
    ],
)
async def test_verify_by_names(names: tuple[str, ...], told: str) -> None:
    async with world(overrides=override(L.VERIFY, M.RAISE, names=names)) as there:
        await there.domain("a.test", OK, leaf=Leaf.GOOD)
        assert await there.send("b@a.test") == [told]


@pytest.mark.asyncio
@pytest.mark.parametrize("fits", [True, False])
async def test_fingerprint(fits: bool) -> None:
    async with world() as there:
        await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED)
        shown = hashlib.sha256(there.issued["mx1.a.test"].chain_der[0]).digest()
        there.override(override(L.FINGERPRINT, M.RAISE, fingerprints=(shown if fits else bytes(32),)))
        told = "delivered 2.0.0 mx1.a.test verified" if fits else "deferred 4.7.5 mx1.a.test none"
        assert await there.send("b@a.test") == [told]


@pytest.mark.asyncio
@pytest.mark.parametrize("dane", [True, False])
async def test_dane_only(dane: bool) -> None:
    """A host without records is not called; the policy that lists it does not help."""
    async with world(overrides=override(L.DANE_ONLY, M.RAISE)) as there:
        sinks = await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=StsMode.ENFORCE, dane=dane)
        told = "delivered 2.0.0 mx1.a.test verified" if dane else "deferred 4.7.5 mx1.a.test none"
        assert await there.send("b@a.test") == [told]
        assert connections(sinks) == [1 if dane else 0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("newest", "minimum", "told"),
    [
        (ssl.TLSVersion.TLSv1_2, TlsVersion.TLS_1_3, "deferred 4.7.6 mx1.a.test none"),
        (ssl.TLSVersion.TLSv1_3, TlsVersion.TLS_1_3, "delivered 2.0.0 mx1.a.test encrypted"),
        (ssl.TLSVersion.TLSv1_1, TlsVersion.TLS_1_1, "delivered 2.0.0 mx1.a.test encrypted"),
        (ssl.TLSVersion.TLSv1_1, None, "deferred 4.7.6 mx1.a.test none"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
async def test_the_oldest_version(newest: ssl.TLSVersion, minimum: TlsVersion | None, told: str) -> None:
    async with world(overrides=override(L.ENCRYPT, minimum=minimum)) as there:
        await there.domain("a.test", OK, leaf=Leaf.GOOD, newest=newest)
        assert await there.send("b@a.test") == [told]


@pytest.mark.asyncio
async def test_one_host_of_two() -> None:
    async with world(overrides=override(L.VERIFY, M.RAISE, hosts=("mx1.a.test",))) as there:
        sinks = await there.domain("a.test", OK, OK, leaf=Leaf.SELF_SIGNED)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test encrypted"]
        assert connections(sinks) == [1, 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["127.2.0.1", "[127.2.0.1]", "a.test"])
async def test_the_next_hop_and_the_recipients_domain(name: str) -> None:
    """All mail goes to one next hop: overrides are for it, or for the domain that mail is for."""
    hosts = () if name == "a.test" else (name.strip("[]"),)
    async with world(next_hop="127.2.0.1", overrides=override(L.ENCRYPT, M.RAISE, hosts=hosts)) as there:
        await there.domain("a.test", OK)
        assert await there.send("b@a.test") == ["deferred 4.7.4 127.2.0.1 none"]
        other = "delivered 2.0.0 127.2.0.1 none" if name == "a.test" else "deferred 4.7.4 127.2.0.1 none"
        assert await there.send("b@other.test") == [other]


@pytest.mark.asyncio
async def test_sessions_of_one_level_do_not_serve_another() -> None:
    """The second message needs a host that is proven, and the idle session was with nobody in particular."""
    async with world() as there:
        (sink,) = await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test encrypted"]
        there.override(override(L.VERIFY, M.RAISE))
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        there.override(override(L.NONE))
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert len(sink.received) == 2


@pytest.mark.asyncio
async def test_the_senders_demand_is_not_lowered() -> None:
    """REQUIRETLS under an override without TLS: the host is proven by DANE all the same."""
    async with world(overrides=override(L.NONE)) as there:
        await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, dane=True)
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.REQUIRED))
        assert in_words(found[0]) == "delivered 2.0.0 mx1.a.test verified"


@pytest.mark.asyncio
async def test_the_sender_cannot_waive_what_the_operator_asks_for() -> None:
    async with world(overrides=override(L.ENCRYPT, M.RAISE)) as there:
        await there.domain("a.test", OK)
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.WAIVED))
        assert in_words(found[0]) == "deferred 4.7.4 mx1.a.test none"


@pytest.mark.asyncio
@pytest.mark.parametrize(("address", "told"), [("127.2.0.1", "deferred 4.7.4"), ("127.2.0.2", "delivered 2.0.0")])
async def test_the_address_of_an_mx_host(address: str, told: str) -> None:
    async with world(overrides=override(L.ENCRYPT, M.RAISE, hosts=(address,))) as there:
        await there.domain("a.test", OK)
        assert (await there.send("b@a.test"))[0].startswith(told)


@pytest.mark.asyncio
async def test_one_address_of_two() -> None:
    async with world(overrides=override(L.ENCRYPT, M.RAISE, hosts=("127.2.0.1",))) as there:
        first, one = await there.host(OK)
        second, other = await there.host(OK)
        there.publish("a.test", f"@ MX 10 mx1\nmx1 A {one}\nmx1 A {other}")
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert (len(first.received), len(second.received)) == (0, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", [StsMode.TESTING, StsMode.NONE])
async def test_the_operator_vouches_where_a_policy_that_does_not_list_the_host_enforces_nothing(mode: StsMode) -> None:
    """REQUIRETLS, and a name that only the settings know for certain."""
    names = ("mx1.a.test",)
    async with world(overrides=override(L.VERIFY, M.RAISE, names=names)) as there:
        await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=mode, sts_mx="other.a.test")
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.REQUIRED))
        assert in_words(found[0]) == "delivered 2.0.0 mx1.a.test verified"


@pytest.mark.asyncio
@pytest.mark.parametrize(("mode", "event"), [(StsMode.ENFORCE, PolicyOverridden), (StsMode.TESTING, PolicyTestFailed)])
async def test_what_is_told_under_an_override(mode: StsMode, event: type[Event]) -> None:
    """A policy in testing mode would not have kept the mail back without it either."""
    async with world(overrides=override(L.OPPORTUNISTIC)) as there:
        await there.domain("a.test", OK, leaf=Leaf.EXPIRED, sts=mode)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test encrypted"]
        told = [type(one) for one in there.events if isinstance(one, PolicyOverridden | PolicyTestFailed)]
        assert told == [event]
