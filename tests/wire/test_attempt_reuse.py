"""Sessions that are used again: for the same requirement only, judged anew each time, replaced when they are gone."""

from __future__ import annotations

import pytest
from attempt_world import CA, World, connections, in_words, make_claim, world

from relay.delivery.transaction import Timeouts
from relay.lab.certs import Leaf
from relay.lab.sink import Break, How, Sink, SinkScript, Stage
from relay.lab.zones import Security
from relay.policy.sts import StsMode

OK = SinkScript()
CLEAR, ENCRYPTED, VERIFIED = (f"delivered 2.0.0 mx1.a.test {tls}" for tls in ("none", "encrypted", "verified"))


def tlsa_name(there: World, host: str = "mx1.a.test") -> str:
    return f"_{there.port}._tcp.{host}"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("leaf", "sts", "dane", "told"),
    [
        (None, None, False, CLEAR),
        (Leaf.SELF_SIGNED, None, False, ENCRYPTED),
        (Leaf.GOOD, StsMode.ENFORCE, False, VERIFIED),
        (Leaf.SELF_SIGNED, None, True, VERIFIED),
    ],
    ids=["clear", "opportunistic", "STS", "DANE"],
)
async def test_the_next_message_goes_over_the_same_session(
    leaf: Leaf | None, sts: StsMode | None, dane: bool, told: str
) -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", OK, leaf=leaf, sts=sts, dane=dane)
        for number in range(3):
            assert await there.send(f"{number}@a.test") == [told]
        assert connections([sink]) == [1]
        assert [mail.recipients for mail in sink.received] == [("0@a.test",), ("1@a.test",), ("2@a.test",)]
    assert sink.sessions.aborted == 0


@pytest.mark.asyncio
async def test_domains_with_the_same_host_share_its_session() -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", OK, leaf=Leaf.GOOD)
        there.publish("c.test", "@ MX 10 mx1.a.test.")
        assert await there.send("b@a.test") == await there.send("b@c.test") == [ENCRYPTED]
        assert connections([sink]) == [1]


REFUSALS = {
    "recipient": SinkScript(rcpt={"first@a.test": ("550 5.1.1 who?",)}),
    "recipient for now": SinkScript(rcpt={"first@a.test": ("450 4.2.1 later",)}),
    "sender": SinkScript(mail=("550 5.7.1 not you", "250 2.1.0 ok")),
    "message": SinkScript(final_dot=("554 5.6.0 spam", "250 2.0.0 ok")),
    "size": SinkScript(extensions=("PIPELINING", "SIZE 1000")),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("script", REFUSALS.values(), ids=REFUSALS)
async def test_a_session_that_refused_one_message_takes_the_next(script: SinkScript) -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", script)
        first = await there.attempt(make_claim("first@a.test", body=b"x" * 990 + b"\r\n" + b"x" * 990 + b"\r\n"))
        assert not in_words(first[0]).startswith("delivered")
        assert await there.send("second@a.test") == [CLEAR]
        assert connections([sink]) == [1]


async def two_domains(there: World, *, first: str, second: str) -> Sink:
    """a.test and c.test, which have one host and ask for `first` and `second` of it: nothing, STS or DANE."""
    (sink,) = await there.domain("a.test", OK, leaf=Leaf.GOOD, dane="DANE" in (first, second))
    for name, asks in (("a.test", first), ("c.test", second)):
        records = "@ MX 10 mx1.a.test."
        if asks == "STS":
            there.set_policy(name, StsMode.ENFORCE, "mx1.a.test")
            records += '\n_mta-sts TXT "v=STSv1; id=1;"\nmta-sts A 127.0.0.1'
        if name == "a.test":
            records += "\nmx1 A 127.2.0.1"
            if "DANE" in (first, second):
                records += f"\n_{there.port}._tcp.mx1 TLSA {there.tlsa('mx1.a.test')}"
        there.publish(name, records, Security.SIGNED if "DANE" in (first, second) else Security.UNSIGNED)
    return sink


@pytest.mark.asyncio
async def test_a_stricter_message_does_not_take_an_easier_ones_session() -> None:
    """OpenSSL has verified nothing in the first session; the second is made with verification in the handshake."""
    async with world() as there:
        sink = await two_domains(there, first="nothing", second="STS")
        assert await there.send("b@a.test") == [ENCRYPTED]
        assert await there.send("b@c.test") == [VERIFIED]
        assert await there.send("b@a.test") == [ENCRYPTED]
        assert await there.send("b@c.test") == [VERIFIED]
        assert connections([sink]) == [2]
        assert [mail.recipients for mail in sink.received] == [("b@a.test",), ("b@c.test",)] * 2


@pytest.mark.asyncio
async def test_a_stricter_message_does_not_take_a_session_in_clear_text() -> None:
    """The first message fell back to clear text; the second may not, and has no session to go over."""
    async with world() as there:
        sink = await two_domains(there, first="nothing", second="STS")
        sink.play(SinkScript(starttls=("454 4.7.0 not now",), context=sink.script.context))
        assert await there.send("b@a.test") == [CLEAR]
        assert await there.send("b@c.test") == ["deferred 4.7.4 mx1.a.test none"]
        assert [mail.recipients for mail in sink.received] == [("b@a.test",)]


@pytest.mark.asyncio
async def test_a_session_for_dane_is_not_one_for_dane_and_sts() -> None:
    async with world() as there:
        sink = await two_domains(there, first="DANE", second="STS")
        assert await there.send("b@a.test") == await there.send("b@c.test") == [VERIFIED]
        assert connections([sink]) == [2]


@pytest.mark.asyncio
async def test_a_session_is_judged_anew() -> None:
    """The TLSA records have changed since it was opened: what was good then is not good now."""
    async with world() as there:
        (sink,) = await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, dane=True, ttl=0)
        assert await there.send("b@a.test") == [VERIFIED]
        there.zones.replace(tlsa_name(there), "TLSA", there.tlsa("other"))
        assert await there.send("c@a.test") == ["deferred 4.7.5 mx1.a.test none"]
        assert [mail.recipients for mail in sink.received] == [("b@a.test",)]


@pytest.mark.asyncio
async def test_a_host_with_a_new_certificate_is_called_anew() -> None:
    """Certificate and TLSA records were changed together; only the idle session still shows the old ones."""
    async with world() as there:
        (sink,) = await there.domain("a.test", OK, leaf=Leaf.SELF_SIGNED, dane=True, ttl=0)
        assert await there.send("b@a.test") == [VERIFIED]
        there.issued["mx1.a.test"] = CA.issue(("mx1.a.test",))
        sink.play(SinkScript(context=there.issued["mx1.a.test"].server_context()))
        there.zones.replace(tlsa_name(there), "TLSA", there.tlsa("mx1.a.test"))
        assert await there.send("c@a.test") == [VERIFIED]


GONE = {how.value: SinkScript(breaks=(Break(Stage.MAIL, how, times=1),)) for how in How}
GONE["RCPT"] = SinkScript(breaks=(Break(Stage.RCPT, times=1),))
GONE["DATA"] = SinkScript(breaks=(Break(Stage.DATA, How.RESET, times=1),))


@pytest.mark.asyncio
@pytest.mark.parametrize("then", GONE.values(), ids=GONE)
async def test_a_session_that_is_lost_in_the_next_message_is_replaced(then: SinkScript) -> None:
    """It may have gone stale while it idled: that says nothing of the host, and is no failed attempt."""
    async with world(timeouts=Timeouts(mail_seconds=0.5)) as there:
        sinks = await there.domain("a.test", OK, OK)
        assert await there.send("b@a.test") == [CLEAR]
        sinks[0].play(then)
        assert await there.send("c@a.test", "d@a.test") == [CLEAR, CLEAR]
        assert connections(sinks) == [2, 0]
        assert [mail.recipients for mail in sinks[0].received] == [("b@a.test",), ("c@a.test", "d@a.test")]


@pytest.mark.asyncio
async def test_a_session_that_is_ended_with_421_at_the_next_message_is_replaced() -> None:
    """Many hosts end a session so: after so many messages, or when their idle limit and our MAIL cross."""
    async with world() as there:
        sinks = await there.domain("a.test", OK)
        assert await there.send("b@a.test") == [CLEAR]
        sinks[0].play(SinkScript(mail=("421 4.4.2 too many messages in this session", "250 2.1.0 ok")))
        assert await there.send("c@a.test") == [CLEAR]
        assert connections(sinks) == [2]


@pytest.mark.asyncio
async def test_a_session_that_has_lost_its_thread_is_replaced() -> None:
    """503 to MAIL (bad sequence of commands) over a session that was kept says nothing of the message."""
    async with world() as there:
        script = SinkScript(mail=("250 2.1.0 ok", "503 5.5.1 nested MAIL", "250 2.1.0 ok"))
        (sink,) = await there.domain("a.test", script)
        assert [*await there.send("1@a.test"), *await there.send("2@a.test")] == [CLEAR, CLEAR]
        assert connections([sink]) == [2]


@pytest.mark.asyncio
async def test_a_host_that_was_started_anew_is_called_anew() -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", OK)
        assert await there.send("b@a.test") == [CLEAR]
        await sink.stop()
        await sink.start("127.2.0.1", there.port)
        assert await there.send("c@a.test") == [CLEAR]
        assert connections([sink]) == [2]


@pytest.mark.asyncio
async def test_a_host_that_is_down_now() -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK, OK)
        assert await there.send("b@a.test") == [CLEAR]
        await sinks[0].stop()
        assert await there.send("c@a.test") == ["delivered 2.0.0 mx2.a.test none"]
        await sinks[1].stop()
        assert await there.send("d@a.test") == ["deferred 4.4.1 mx1.a.test none"]


@pytest.mark.asyncio
async def test_a_session_lost_after_the_final_dot_is_not_replaced() -> None:
    """The host may have the message: it must not be sent again now, over a new session either."""
    async with world() as there:
        sinks = await there.domain("a.test", OK, OK)
        assert await there.send("b@a.test") == [CLEAR]
        sinks[0].play(SinkScript(breaks=(Break(Stage.FINAL_DOT),)))
        assert await there.send("c@a.test") == ["deferred 4.4.2 mx1.a.test none"]
        assert connections(sinks) == [1, 0]
        assert [mail.recipients for mail in sinks[0].received] == [("b@a.test",), ("c@a.test",)]


@pytest.mark.asyncio
async def test_a_session_lost_after_some_answers_keeps_them() -> None:
    """One recipient has its 550, so the message was looked at: the other one goes to the next host."""
    async with world() as there:
        sinks = await there.domain("a.test", OK, OK)
        assert await there.send("b@a.test") == [CLEAR]
        sinks[0].play(SinkScript(rcpt={"c@a.test": ("550 5.1.1 who?",)}, breaks=(Break(Stage.DATA),)))
        assert await there.send("c@a.test", "d@a.test") == [
            "failed 5.1.1 mx1.a.test none",
            "delivered 2.0.0 mx2.a.test none",
        ]
        assert connections(sinks) == [1, 1]
