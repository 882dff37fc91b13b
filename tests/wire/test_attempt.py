"""One attempt against real hosts: which host is tried when, and what becomes of each recipient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from attempt_world import DOWN, IPV6, OWN_NAME, TEXT, connections, in_words, make_claim, world

from relay.delivery.transaction import Timeouts
from relay.lab.sink import Break, How, SinkScript, Stage
from relay.lab.zones import Fault, Security
from relay.mail.message import Claim, FileBody, SmtpUtf8
from relay.mail.outcome import Deferred, Delivered, Failed
from relay.policy.limits import DestinationLimits, LimitEntry

OK = SinkScript()
SOON = Timeouts(final_seconds=0.2)

# What the first host may do that leaves the message for the second one.
NEXT_HOST: dict[str, SinkScript | None] = {
    "down": DOWN,
    "greeting 421": SinkScript(greeting=("421 4.3.2 busy",)),
    "greeting 554": SinkScript(greeting=("554 5.7.1 not you",)),
    "greeting garbage": SinkScript(greeting=(b"SSH-2.0-x\r\n",)),
    "greeting close": SinkScript(breaks=(Break(Stage.CONNECT),)),
    "EHLO 421": SinkScript(ehlo=("421 4.3.2 busy",)),
    "EHLO 451": SinkScript(ehlo=("451 4.3.0 later",)),
    "EHLO 554, and lost after HELO": SinkScript(ehlo=("554 5.7.1 not you",), breaks=(Break(Stage.MAIL),)),
    "EHLO reset": SinkScript(breaks=(Break(Stage.EHLO, How.RESET),)),
    "MAIL 451": SinkScript(mail=("451 4.3.0 later",)),
    "MAIL 421": SinkScript(mail=("421 4.3.2 later",)),
    "MAIL close": SinkScript(breaks=(Break(Stage.MAIL),)),
    "RCPT 450": SinkScript(rcpt={"*": ("450 4.2.1 later",)}),
    "RCPT 421": SinkScript(rcpt={"*": ("421 4.2.1 later",)}),
    "RCPT reset": SinkScript(breaks=(Break(Stage.RCPT, How.RESET),)),
    "DATA 451": SinkScript(data=("451 4.3.0 later",)),
    "DATA close": SinkScript(breaks=(Break(Stage.DATA),)),
    "final 451": SinkScript(final_dot=("451 4.3.0 later",)),
    "final 421": SinkScript(final_dot=("421 4.3.0 later",)),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("first", NEXT_HOST.values(), ids=NEXT_HOST)
async def test_the_next_host_gets_what_the_first_did_not_take(first: SinkScript | None) -> None:
    async with world() as there:
        sinks = await there.domain("a.test", first, OK, OK)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test none"]
        assert [len(sink.received) for sink in sinks] == [0, 1, 0]
        assert sinks[1].received[0].octets == TEXT
        assert (sinks[1].received[0].sender, sinks[1].received[0].helo) == ("from@sender.test", "relay.test")
        assert sinks[2].sessions.connections == 0


REFUSED: dict[str, tuple[SinkScript, str]] = {
    "MAIL": (SinkScript(mail=("550 5.7.1 not you",)), "5.7.1"),
    "RCPT": (SinkScript(rcpt={"*": ("550 5.1.1 who?",)}), "5.1.1"),
    "DATA": (SinkScript(data=("554 5.3.0 no",)), "5.3.0"),
    "final": (SinkScript(final_dot=("554 5.6.0 spam",)), "5.6.0"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("first", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_permanent_answer_is_final(first: SinkScript, status: str) -> None:
    async with world() as there:
        sinks = await there.domain("a.test", first, OK)
        found = await there.attempt(make_claim("b@a.test"))
        assert [in_words(outcome) for outcome in found] == [f"failed {status} mx1.a.test none"]
        assert isinstance(found[0], Failed)
        assert found[0].reply is not None
        assert found[0].reply.text[4:].startswith(status)
        assert connections(sinks) == [1, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("how", How)
async def test_lost_after_the_final_dot(how: How) -> None:
    """RFC 5321 section 4.2.5: the host may have the message, so nobody else gets it now."""
    async with world(timeouts=SOON) as there:
        sinks = await there.domain("a.test", SinkScript(breaks=(Break(Stage.FINAL_DOT, how),)), OK)
        assert await there.send("b@a.test", "c@a.test") == ["deferred 4.4.2 mx1.a.test none"] * 2
        assert [len(sink.received) for sink in sinks] == [1, 0]
        assert connections(sinks) == [1, 0]


@pytest.mark.asyncio
async def test_lost_in_the_middle_of_the_message(tmp_path: Path) -> None:
    """Before the final dot the host cannot have taken it: the next one gets all of it, from the beginning."""
    line = b"x" * 70 + b"\r\n"
    path = tmp_path / "body"
    path.write_bytes(line * 50_000)  # many pieces: there is time to see the end
    claim = replace(make_claim("b@a.test"), body=FileBody(path, 50_000 * len(line)))
    async with world() as there:
        sinks = await there.domain("a.test", SinkScript(breaks=(Break(Stage.BODY, How.RESET),)), OK)
        assert [in_words(outcome) for outcome in await there.attempt(claim)] == ["delivered 2.0.0 mx2.a.test none"]
        assert [len(sink.received) for sink in sinks] == [0, 1]
        assert len(sinks[1].received[0].octets) == claim.body.size


@pytest.mark.asyncio
async def test_each_recipient_has_its_own_way() -> None:
    """250 is done, 4xx goes on to the next host, 5xx is final; the next host hears of nobody else."""
    first = SinkScript(rcpt={"later@a.test": ("450 4.2.1 later",), "never@a.test": ("550 5.1.1 never",)})
    second = SinkScript(rcpt={"*": ("451 4.2.2 later still",)})
    async with world() as there:
        sinks = await there.domain("a.test", first, second, OK)
        assert await there.send("now@a.test", "later@a.test", "never@a.test", "too@a.test") == [
            "delivered 2.0.0 mx1.a.test none",
            "delivered 2.0.0 mx3.a.test none",
            "failed 5.1.1 mx1.a.test none",
            "delivered 2.0.0 mx1.a.test none",
        ]
        assert [mail.recipients for mail in sinks[0].received] == [("now@a.test", "too@a.test")]
        assert [line for line in sinks[1].commands if line.startswith("RCPT")] == ["RCPT TO:<later@a.test>"]
        assert [mail.recipients for mail in sinks[2].received] == [("later@a.test",)]


@pytest.mark.asyncio
async def test_the_last_reply_belongs_to_all_that_were_accepted() -> None:
    script = SinkScript(rcpt={"c@a.test": ("550 5.1.1 never",)}, final_dot=("250 2.6.0 kept as 7",))
    async with world() as there:
        await there.domain("a.test", script)
        found = await there.attempt(make_claim("b@a.test", "c@a.test", "d@a.test"))
        replies = [outcome.reply.text for outcome in found if outcome.reply is not None]
        assert replies == ["250 2.6.0 kept as 7", "550 5.1.1 never", "250 2.6.0 kept as 7"]
        assert [type(outcome) for outcome in found] == [Delivered, Failed, Delivered]


@pytest.mark.asyncio
async def test_refused_at_the_end_while_one_recipient_was_to_wait() -> None:
    script = SinkScript(rcpt={"c@a.test": ("450 4.2.1 later",)}, final_dot=("554 5.6.0 spam",))
    async with world() as there:
        sinks = await there.domain("a.test", script, OK)
        assert await there.send("b@a.test", "c@a.test") == [
            "failed 5.6.0 mx1.a.test none",
            "delivered 2.0.0 mx2.a.test none",
        ]
        assert [mail.recipients for mail in sinks[1].received] == [("c@a.test",)]


@pytest.mark.asyncio
async def test_what_is_told_when_no_host_takes_it() -> None:
    """A server's own words tell more than a broken connection."""
    async with world() as there:
        await there.domain(
            "a.test", DOWN, SinkScript(greeting=("554 5.7.1 go away",)), SinkScript(breaks=(Break(Stage.MAIL),))
        )
        found = await there.attempt(make_claim("b@a.test"))
        assert in_words(found[0]) == "deferred 4.7.1 mx2.a.test none"
        assert isinstance(found[0], Deferred)
        assert found[0].reason == "mx2.a.test [127.2.0.2]: refused the session in its greeting"
        assert found[0].reply is not None
        assert found[0].reply.text == "554 5.7.1 go away"


@pytest.mark.asyncio
async def test_all_addresses_of_a_host_come_before_the_next_host() -> None:
    """IPv6 first, as the resolver gives it."""
    async with world() as there:
        first, _ = await there.host(SinkScript(greeting=("421 4.3.2 busy",)), IPV6)
        second, address2 = await there.host(OK)
        third, address3 = await there.host(OK)
        there.publish("a.test", f"@ MX 1 mx1\n@ MX 2 mx2\nmx1 A {address2}\nmx1 AAAA {IPV6}\nmx2 A {address3}")
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]
        assert connections([first, second, third]) == [1, 1, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("script", [SinkScript(mail=("451 4.3.0 later",)), SinkScript(greeting=("421 4.3.2 busy",))])
async def test_every_host_is_tried(script: SinkScript) -> None:
    """The last one might be the one that works. RFC 5321 section 5.1."""
    async with world() as there:
        sinks = await there.domain("a.test", *[script] * 14, SinkScript())
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx15.a.test none"]
        assert connections(sinks) == [1] * 15


NEEDS: dict[str, tuple[SinkScript, Claim, str, tuple[str, ...]]] = {
    "size": (
        SinkScript(extensions=("PIPELINING", "SIZE 20")), make_claim("b@a.test"), "5.3.4", (f"SIZE={len(TEXT)}",)
    ),
    "8BITMIME": (
        SinkScript(extensions=("PIPELINING", "SIZE")),
        make_claim("b@a.test", body=b"Subject: \xe4\r\n\r\nx\r\n", eight_bit=True),  # a header cannot be converted
        "5.6.3",
        ("SIZE=17", "BODY=8BITMIME"),
    ),
    "SMTPUTF8": (
        SinkScript(extensions=("PIPELINING", "8BITMIME")),
        make_claim("bä@a.test", smtputf8=SmtpUtf8.NEEDED),
        "5.6.7",
        (f"SIZE={len(TEXT)}", "SMTPUTF8"),
    ),
}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize(("poor", "claim", "status", "_"), NEEDS.values(), ids=NEEDS)
async def test_a_host_that_lacks_what_the_message_needs(
    poor: SinkScript, claim: Claim, status: str, _: tuple[str, ...]
) -> None:
    async with world() as there:
        sinks = await there.domain("a.test", poor)
        assert [in_words(outcome) for outcome in await there.attempt(claim)] == [f"failed {status} mx1.a.test none"]
        assert not [line for line in sinks[0].commands if line.startswith("MAIL")]


@pytest.mark.asyncio
@pytest.mark.parametrize(("poor", "claim", "_", "parameters"), NEEDS.values(), ids=NEEDS)
async def test_another_host_has_what_the_message_needs(
    poor: SinkScript, claim: Claim, _: str, parameters: tuple[str, ...]
) -> None:
    async with world() as there:
        sinks = await there.domain("a.test", poor, OK)
        assert [in_words(outcome) for outcome in await there.attempt(claim)] == ["delivered 2.0.0 mx2.a.test none"]
        assert sinks[1].received[0].mail_parameters == parameters


@pytest.mark.asyncio
async def test_a_host_that_lacks_something_is_no_reason_to_give_up_while_another_is_down() -> None:
    async with world() as there:
        await there.domain("a.test", NEEDS["size"][0], DOWN)
        assert await there.send("b@a.test") == ["deferred 4.4.1 mx2.a.test none"]


@pytest.mark.asyncio
async def test_a_size_that_is_just_right_and_one_without_a_limit() -> None:
    for size in (f"SIZE {len(TEXT)}", "SIZE 0", "SIZE"):
        async with world() as there:
            await there.domain("a.test", SinkScript(extensions=(size,)))
            assert await there.send("b@a.test") == ["delivered 2.0.0 mx1.a.test none"]


NO_ROUTE = {
    "null MX": ("@ MX 0 .", "failed 5.1.10 None none"),
    "ourselves": (f"@ MX 10 {OWN_NAME}.\n@ MX 20 other", "failed 5.4.6 None none"),
    "no such domain": (None, "failed 5.1.2 None none"),
    "neither MX nor address": ('@ TXT "x"', "failed 5.1.2 None none"),
    "MX without an address": ("@ MX 10 mx1", "failed 5.4.4 mx1.a.test none"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("records", "told"), NO_ROUTE.values(), ids=NO_ROUTE)
async def test_dns_says_that_there_is_no_way(records: str | None, told: str) -> None:
    async with world() as there:
        if records is not None:
            there.publish("a.test", records)
        assert await there.send("b@a.test", "c@a.test") == [told, told]


@pytest.mark.asyncio
async def test_dns_that_says_nothing() -> None:
    async with world(dns_seconds=0.3) as there:
        sinks = await there.domain("a.test", OK, OK)
        there.zones.set_fault("a.test", "MX", Fault.TIMEOUT)
        assert await there.send("b@a.test") == ["deferred 4.4.3 None none"]
        there.zones.set_fault("c.test", "ANY", Fault.SERVFAIL)
        assert await there.send("b@c.test") == ["deferred 4.4.3 None none"]
        there.publish("bogus.test", "@ MX 10 mx1.a.test.", Security.BOGUS)
        assert await there.send("b@bogus.test") == ["deferred 4.7.5 None none"]
        assert connections(sinks) == [0, 0]


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [Fault.TIMEOUT, Fault.SERVFAIL, Fault.NXDOMAIN])
async def test_a_host_without_a_known_address_does_not_stop_the_others(fault: Fault) -> None:
    async with world(dns_seconds=0.3) as there:
        sinks = await there.domain("a.test", OK, OK)
        there.zones.set_fault("mx1.a.test", "ANY", fault)
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test none"]
        assert connections(sinks) == [0, 1]


@pytest.mark.asyncio
async def test_a_host_without_an_address_is_no_reason_to_give_up_while_another_is_down() -> None:
    async with world() as there:
        await there.domain("a.test", OK, DOWN)
        there.zones.set_fault("mx1.a.test", "ANY", Fault.NXDOMAIN)
        assert await there.send("b@a.test") == ["deferred 4.4.1 mx2.a.test none"]


PRIVATE = ["A 127.2.0.1", "AAAA ::ffff:127.2.0.1", "AAAA ::1", "A 10.0.0.1", "A 169.254.169.254", "AAAA fd00::1",
           "AAAA 64:ff9b::7f02:1", "A 0.0.0.0"]  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("record", PRIVATE)
async def test_private_addresses_are_not_connected_to(record: str) -> None:
    """Also as the second address of a host, and for a message that has another host."""
    async with world(allow_private=False) as there:
        sink, address = await there.host(OK)
        there.publish("a.test", f"@ MX 10 mx\nmx {record}\n@ MX 20 mx2\nmx2 A {address}")
        found = await there.attempt(make_claim("b@a.test"))
        assert in_words(found[0]) == "deferred 4.4.4 mx.a.test none"
        assert isinstance(found[0], Deferred)
        assert record.split()[1] in found[0].reason
        assert sink.sessions.connections == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("recipient", ["b@[127.2.0.1]", "b@[IPv6:::ffff:127.2.0.1]", "b@[IPv6:::1]"])
async def test_private_address_literals_are_not_connected_to(recipient: str) -> None:
    async with world(allow_private=False) as there:
        sink, _ = await there.host(OK)
        assert (await there.send(recipient))[0].startswith("deferred 4.4.4 ")
        assert sink.sessions.connections == 0


@pytest.mark.asyncio
async def test_private_addresses_are_connected_to_where_that_is_allowed() -> None:
    """Not to 0.0.0.0 all the same; and an IPv4 address may come as IPv6."""
    async with world() as there:
        sink, address = await there.host(OK)
        there.publish("a.test", f"@ MX 10 mx\nmx A 0.0.0.0\nmx AAAA ::ffff:{address}")
        assert await there.send("b@a.test") == ["delivered 2.0.0 mx.a.test none"]
        there.publish("c.test", f"@ MX 10 mx\nmx A 0.0.0.0\nmx A {address}")
        assert await there.send("b@c.test") == ["delivered 2.0.0 mx.c.test none"]
        assert sink.sessions.connections == 2


@pytest.mark.asyncio
async def test_address_literals() -> None:
    """Mail goes to the address itself; DNS is not asked, since it has nothing to say."""
    async with world() as there:
        _, address = await there.host(OK)
        await there.host(OK, IPV6)
        assert await there.send(f"b@[{address}]") == [f"delivered 2.0.0 {address} none"]
        assert await there.send("b@[IPv6:0:0::1]") == ["delivered 2.0.0 ::1 none"]
        assert there.asked() == set()


@pytest.mark.asyncio
async def test_null_sender_and_an_empty_header() -> None:
    async with world() as there:
        sinks = await there.domain("a.test", OK)
        claim = replace(make_claim("b@a.test", body=b"\r\n"), sender=None)
        assert isinstance((await there.attempt(claim))[0], Delivered)
        assert (sinks[0].received[0].sender, sinks[0].received[0].octets) == ("", b"\r\n")


@pytest.mark.asyncio
async def test_the_operator_limits_the_recipients_of_one_transaction() -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", OK)
        limits = DestinationLimits(entries=[LimitEntry(("a.test",), recipients=2)])
        there.tools = replace(there.tools, limits=limits)
        assert await there.send("a@a.test", "b@a.test", "c@a.test") == ["delivered 2.0.0 mx1.a.test none"] * 3
        assert [len(one.recipients) for one in sink.received] == [2, 1]
        assert sink.sessions.connections == 1
