"""TLS in one attempt: where it is required nothing the peer does brings clear text about; elsewhere mail goes on."""

from __future__ import annotations

import ssl
import warnings
from dataclasses import replace
from datetime import timedelta

import pytest
from attempt_world import CA, DOWN, World, connections, in_words, make_claim, world

from relay.delivery.standing import MAX_SESSIONS
from relay.delivery.transaction import Timeouts
from relay.events import PolicyChanged, PolicyTestFailed
from relay.lab.certs import Leaf
from relay.lab.sink import Break, How, Sink, SinkScript, Stage
from relay.lab.zones import Fault, Security
from relay.mail.message import TlsDemand
from relay.mail.outcome import Cause, Deferred
from relay.policy.sts import StsMode

OK = SinkScript()
SOON = Timeouts(starttls_seconds=0.1, handshake_seconds=0.1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # for naming it
    OLD = ssl.TLSVersion.TLSv1_1

# What a host that offers STARTTLS may do to it, and the status where TLS is required.
TROUBLE: dict[str, tuple[SinkScript, str]] = {
    "STARTTLS 454": (SinkScript(starttls=("454 4.7.0 not now",)), "4.7.4"),
    "STARTTLS 502": (SinkScript(starttls=("502 5.5.1 what?",)), "4.7.4"),
    "STARTTLS 554": (SinkScript(starttls=("554 5.7.3 no",)), "4.7.4"),
    "STARTTLS 421": (SinkScript(starttls=("421 4.3.2 bye",)), "4.7.4"),
    "STARTTLS 250": (SinkScript(starttls=("250 2.0.0 fine",)), "4.7.4"),
    "STARTTLS garbage": (SinkScript(breaks=(Break(Stage.STARTTLS, How.GARBAGE),)), "4.7.5"),
    "STARTTLS close": (SinkScript(breaks=(Break(Stage.STARTTLS, How.CLOSE),)), "4.7.5"),
    "STARTTLS reset": (SinkScript(breaks=(Break(Stage.STARTTLS, How.RESET),)), "4.7.5"),
    "STARTTLS hang": (SinkScript(breaks=(Break(Stage.STARTTLS, How.STALL),)), "4.7.5"),
    "handshake garbage": (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.GARBAGE),)), "4.7.5"),
    "handshake close": (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.CLOSE),)), "4.7.5"),
    "handshake reset": (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.RESET),)), "4.7.5"),
    "handshake hang": (SinkScript(breaks=(Break(Stage.HANDSHAKE, How.STALL),)), "4.7.5"),
    "injected": (SinkScript(starttls=(b"220 go\r\n250-mx.lab.test\r\n250 8BITMIME\r\n",)), "4.7.5"),
}


def mail_commands(sinks: list[Sink]) -> list[str]:
    return [line for sink in sinks for line in sink.commands if line.startswith(("MAIL", "RCPT", "DATA"))]


async def required(there: World, by: str, *scripts: SinkScript | None, leaf: Leaf | None = Leaf.GOOD) -> list[Sink]:
    """The domain a.test, whose hosts must be verified by MTA-STS or by DANE."""
    sts = StsMode.ENFORCE if by == "STS" else None
    return await there.domain("a.test", *scripts, leaf=leaf, sts=sts, dane=by == "DANE")


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["STS", "DANE"])
async def test_required_and_all_is_well(by: str) -> None:
    async with world() as there:
        sinks = await required(there, by, OK, OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test verified"]
        assert [(mail.tls_version, mail.sni) for mail in sinks[0].received] == [("TLSv1.3", "mx1.a.test")]
        assert connections(sinks) == [1, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["STS", "DANE"])
@pytest.mark.parametrize(("script", "status"), TROUBLE.values(), ids=TROUBLE)
async def test_required_tls_never_becomes_clear_text(script: SinkScript, status: str, by: str) -> None:
    """One connection to each host, no envelope on any."""
    async with world(timeouts=SOON) as there:
        sinks = await required(there, by, script, script)
        assert await there.send("b@a.test") == [f"deferred {status} mx1.a.test none"]
        assert (mail_commands(sinks), connections(sinks)) == ([], [1, 1])


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["STS", "DANE"])
@pytest.mark.parametrize("script", [TROUBLE["STARTTLS 454"][0], TROUBLE["handshake reset"][0], DOWN], ids=str)
async def test_required_and_the_next_host_has_it(script: SinkScript | None, by: str) -> None:
    async with world() as there:
        sinks = await required(there, by, script, OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test verified"]
        assert mail_commands(sinks[:1]) == []


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["STS", "DANE"])
async def test_required_and_not_offered(by: str) -> None:
    async with world() as there:
        sinks = await required(there, by, OK, leaf=None)
        assert await there.send("b@a.test") == ["deferred 4.7.4 mx1.a.test none"]
        assert (mail_commands(sinks), connections(sinks)) == ([], [1])


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["STS", "DANE"])
async def test_required_and_only_in_an_old_version(by: str) -> None:
    async with world() as there:
        sts = StsMode.ENFORCE if by == "STS" else None
        sinks = await there.domain("a.test", OK, leaf=Leaf.GOOD, newest=OLD, sts=sts, dane=by == "DANE")
        assert await there.send("b@a.test") == ["deferred 4.7.6 mx1.a.test none"]
        assert (mail_commands(sinks), connections(sinks)) == ([], [1])


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["STS", "DANE"])
@pytest.mark.parametrize("how", How)
async def test_required_and_lost_inside_tls(how: How, by: str) -> None:
    async with world(timeouts=Timeouts(ehlo_seconds=0.2)) as there:
        sinks = await required(there, by, SinkScript(breaks=(Break(Stage.TLS_EHLO, how),)))
        assert (await there.send("b@a.test"))[0].startswith("deferred 4.")
        assert (mail_commands(sinks), connections(sinks)) == ([], [1])


@pytest.mark.asyncio
@pytest.mark.parametrize("leaf", [Leaf.SELF_SIGNED, Leaf.EXPIRED, Leaf.UNKNOWN_CA, Leaf.MISSING_INTERMEDIATE])
async def test_a_certificate_that_sts_does_not_accept(leaf: Leaf) -> None:
    """OpenSSL breaks the handshake off, before there is a session that could be misused."""
    async with world() as there:
        sinks = await required(there, "STS", OK, leaf=leaf)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        assert (mail_commands(sinks), connections(sinks)) == ([], [1])
        assert sinks[0].sessions.handshakes == 0


@pytest.mark.asyncio
async def test_a_certificate_that_fits_no_tlsa_record() -> None:
    """The handshake is good, so that it is the verdict that keeps the message back; and politely."""
    async with world() as there:
        sinks = await required(there, "DANE", OK)
        there.zones.replace(f"_{there.port}._tcp.mx1.a.test", "TLSA", there.tlsa("other"))
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        assert (mail_commands(sinks), sinks[0].sessions.handshakes, sinks[0].commands[-1]) == ([], 1, "QUIT")


@pytest.mark.asyncio
async def test_both_must_hold() -> None:
    """DANE fits, but the web's authorities do not know the certificate: MTA-STS refuses it."""
    async with world() as there:
        sinks = await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, sts=StsMode.ENFORCE, dane=True)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        assert mail_commands(sinks) == []


@pytest.mark.asyncio
async def test_a_host_that_the_policy_does_not_list_is_not_called() -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK, OK, leaf=Leaf.GOOD, sts=StsMode.ENFORCE, sts_mx="mx2.a.test")
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test verified"]
        assert connections(sinks) == [0, 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.TIMEOUT, Fault.REFUSED])
async def test_a_host_whose_tlsa_lookup_fails_is_not_called(fault: Fault) -> None:
    """RFC 7672 section 2.1.2: whoever can stop a packet must not switch DANE off."""
    async with world(dns_seconds=0.3) as there:
        sinks = await required(there, "DANE", OK, OK)
        there.zones.set_fault(f"_{there.port}._tcp.mx1.a.test", "TLSA", fault)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test verified"]
        assert connections(sinks) == [0, 1]


@pytest.mark.asyncio
@pytest.mark.parametrize("script", [script for script, _ in TROUBLE.values()], ids=TROUBLE)
async def test_opportunistic_tls_becomes_clear_text(script: SinkScript) -> None:
    """On a new connection, on which STARTTLS is left alone."""
    async with world(timeouts=SOON) as there:
        sinks = await there.domain("a.test", script, OK, leaf=Leaf.GOOD)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert connections(sinks) == [2, 0]
        assert sinks[0].commands.count("STARTTLS") == 1
        assert [mail.tls_version for mail in sinks[0].received] == [None]


@pytest.mark.asyncio
async def test_a_host_that_insists_on_the_tls_that_failed_costs_no_mail() -> None:
    """RFC 3207 section 4: 530 is about the session. The mail waits, or goes to a host where TLS works."""
    script = replace(TROUBLE["STARTTLS 454"][0], mail=("530 5.7.0 Must issue a STARTTLS command first",))
    async with world(timeouts=SOON) as there:
        await there.domain("a.test", script, OK, leaf=Leaf.GOOD)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test encrypted"]
        await there.domain("c.test", script, leaf=Leaf.GOOD)
        (outcome,) = await there.attempt(make_claim("b@c.test"))
        assert isinstance(outcome, Deferred)
        assert (str(outcome.status), outcome.cause) == ("4.7.0", Cause.TLS_POLICY)
        assert outcome.reason.startswith("mx1.c.test takes mail over TLS only, and its STARTTLS failed: ")


@pytest.mark.asyncio
async def test_opportunistic_and_the_second_connection_is_refused() -> None:
    script = SinkScript(breaks=(Break(Stage.STARTTLS),), greeting=("220 hi", "421 4.3.2 no"))
    async with world() as there:
        sinks = await there.domain("a.test", script, OK, leaf=Leaf.GOOD)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test encrypted"]
        assert connections(sinks) == [2, 1]


OPPORTUNISTIC = [(leaf, ssl.TLSVersion.TLSv1_3) for leaf in (Leaf.GOOD, Leaf.SELF_SIGNED, Leaf.EXPIRED, Leaf.RSA_1024)]


@pytest.mark.asyncio
@pytest.mark.parametrize(("leaf", "newest"), [*OPPORTUNISTIC, (Leaf.GOOD, OLD)])
async def test_opportunistic_tls_takes_what_it_can_get(leaf: Leaf, newest: ssl.TLSVersion) -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK, leaf=leaf, newest=newest)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test encrypted"]
        assert [mail.tls_version for mail in sinks[0].received] == ["TLSv1.1" if newest is OLD else "TLSv1.3"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("leaf", "tls", "reported"),
    [(Leaf.GOOD, "verified", False), (Leaf.EXPIRED, "encrypted", True), (None, "none", True)],
)
async def test_a_policy_in_testing_mode(leaf: Leaf | None, tls: str, reported: bool) -> None:
    """It is checked and reported, and refuses nothing."""
    async with world() as there:
        await there.domain("a.test", OK, leaf=leaf, sts=StsMode.TESTING)
        assert await there.send("b@a.test") == [f"delivered 2.0.0 mx1.a.test {tls}"]
        reports = [event for event in there.events if isinstance(event, PolicyTestFailed)]
        assert [(report.domain, report.host) for report in reports] == [("a.test", "mx1.a.test")] * reported


@pytest.mark.asyncio
async def test_a_policy_in_testing_mode_tells_what_really_went_wrong() -> None:
    async with world() as there:
        await there.domain("a.test", TROUBLE["handshake reset"][0], leaf=Leaf.GOOD, sts=StsMode.TESTING)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        (report,) = [event for event in there.events if isinstance(event, PolicyTestFailed)]
        assert "does not offer STARTTLS" not in report.reason


@pytest.mark.asyncio
@pytest.mark.parametrize("script", [OK, TROUBLE["STARTTLS 454"][0]], ids=["offered", "refused"])
async def test_the_sender_waives_tls(script: SinkScript) -> None:
    """RFC 8689 section 3: no policy of the recipient's stops such a message."""
    async with world() as there:
        await there.domain("a.test", script, leaf=Leaf.EXPIRED, sts=StsMode.ENFORCE)
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.WAIVED))
        tls = "encrypted" if script is OK else "none"
        assert in_words(found[0]) == f"delivered 2.0.0 mx1.a.test {tls}"


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["nothing", "DANE"])
async def test_requiretls_that_cannot_be_had(by: str) -> None:
    """No policy to authenticate the host by, or a host that does not offer REQUIRETLS."""
    async with world() as there:
        sinks = await required(there, by, SinkScript(tls_extensions=()))
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.REQUIRED))
        status, called = ("5.7.30", [1]) if by == "DANE" else ("5.7.10", [0])
        assert in_words(found[0]) == f"failed {status} mx1.a.test none"
        assert (mail_commands(sinks), connections(sinks)) == ([], called)


@pytest.mark.asyncio
async def test_requiretls_is_passed_on() -> None:
    """RFC 8689 section 4.2.1, step 5: the next host must know."""
    async with world() as there:
        sinks = await required(there, "DANE", OK)
        found = await there.attempt(make_claim("b@a.test", demand=TlsDemand.REQUIRED))
        assert in_words(found[0]) == "delivered 2.0.0 mx1.a.test verified"
        assert "REQUIRETLS" in sinks[0].received[0].mail_parameters


@pytest.mark.asyncio
async def test_a_policy_that_was_changed_without_its_id_is_found_when_it_matters() -> None:
    """RFC 8461 section 5.1: the mistake that administrators make most."""
    async with world() as there:
        sinks = await there.domain("a.test", OK, leaf=Leaf.GOOD, sts=StsMode.ENFORCE, sts_mx="old.a.test")
        assert await there.send("b@a.test") == ["deferred 4.4.8 mx1.a.test none"]
        there.set_policy("a.test", StsMode.ENFORCE, "mx1.a.test")
        assert await there.send("b@a.test") == ["deferred 4.4.8 mx1.a.test none"]  # fetched just now
        there.policies_since = timedelta(minutes=5)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test verified"]
        assert PolicyChanged("a.test", "1") in there.events
        assert connections(sinks) == [1]


@pytest.mark.asyncio
async def test_another_look_when_as_many_hosts_as_are_tried_have_refused() -> None:
    """There is no room for a second round: what the first one found is told."""
    async with world() as there:
        scripts = [OK] * MAX_SESSIONS
        sinks = await there.domain("a.test", *scripts, leaf=Leaf.SELF_SIGNED, sts=StsMode.ENFORCE)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        there.set_policy("a.test", StsMode.TESTING, "mx1.a.test")
        there.policies_since = timedelta(minutes=5)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        assert connections(sinks) == [2] * MAX_SESSIONS


@pytest.mark.asyncio
async def test_another_look_at_the_policy_that_changes_nothing() -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, sts=StsMode.ENFORCE)
        there.policies_since = timedelta(minutes=5)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        there.site.remove("a.test")
        there.policies_since = timedelta(minutes=10)
        assert await there.send("b@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        assert connections(sinks) == [2]


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_signed_host_that_an_unsigned_domain_names(keeps: bool) -> None:
    """Its TLSA record is for another key: who keeps to it does not deliver."""
    async with world(dane_insecure_mx=keeps) as there:
        there.publish("a.test", "@ MX 10 mx1.signed.test.")
        _, address = await there.host(SinkScript(context=CA.issue(("mx1.signed.test",)).server_context()))
        there.publish(
            "signed.test", f"mx1 A {address}\n_{there.port}._tcp.mx1 TLSA {there.tlsa('nobody')}", Security.SIGNED
        )
        told = "deferred 4.7.5 mx1.signed.test none" if keeps else "delivered 2.0.0 mx1.signed.test encrypted"
        assert await there.send("b@a.test") == [told]


NEXT_HOP = "hop.test"


async def next_hop(there: World, address: str, sink_context: ssl.SSLContext | None, records: str) -> None:
    sink, _ = await there.host(SinkScript(context=sink_context), address)
    there.publish(NEXT_HOP, f"@ A {address}\n@ MX 10 elsewhere\n{records}")
    assert sink.sessions.connections == 0


@pytest.mark.asyncio
async def test_next_hop_as_an_address() -> None:
    """All mail goes there and nothing is looked up; a policy of the recipient's domain is not the next hop's."""
    async with world(next_hop="127.2.0.1") as there:
        (sink,) = await there.domain("a.test", OK, sts=StsMode.ENFORCE)
        assert await there.send("b@a.test") == ["delivered 2.0.0 127.2.0.1 none"]
        assert await there.send("b@[192.0.2.1]") == ["delivered 2.0.0 127.2.0.1 none"]
        assert (there.asked(), sink.sessions.connections) == (set(), 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("secured", [True, False])
async def test_next_hop_as_a_name(secured: bool) -> None:
    """Its policies are those published at its own name; neither its MX nor the recipient's domain is asked for."""
    async with world(next_hop=NEXT_HOP) as there:
        context = CA.issue((NEXT_HOP,)).server_context() if secured else None
        there.set_policy(NEXT_HOP, StsMode.ENFORCE, NEXT_HOP)
        await next_hop(there, "127.2.0.9", context, '_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A 127.0.0.1')
        told = f"delivered 2.0.0 {NEXT_HOP} verified" if secured else f"deferred 4.7.4 {NEXT_HOP} none"
        assert await there.send("b@a.test") == [told]
        names = {name for name, _ in there.asked()}
        assert names <= {NEXT_HOP, f"_mta-sts.{NEXT_HOP}", f"mta-sts.{NEXT_HOP}"}
        assert (NEXT_HOP, "MX") not in there.asked()
