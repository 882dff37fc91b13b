"""What a host is told of a message, and how often it gets it: against the lab's mail hosts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from attempt_world import DOWN, NOW, TEXT, connections, in_words, make_claim, world

from relay.delivery.opening import Target, open_session
from relay.delivery.sending import Means, send_message
from relay.delivery.smtp import OpenSession
from relay.delivery.transaction import Timeouts
from relay.lab.sink import Break, How, Sink, SinkScript, Stage
from relay.mail.message import Body, Claim, FileBody, MessageDsn, Notify, RecipientDsn, Ret, SmtpUtf8
from relay.mail.outcome import Cause, Deferred, Delivered, TlsUsed
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule
from relay.queue.store import StoreUnavailable

pytestmark = pytest.mark.asyncio

BASE = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES")
OK = SinkScript()
CHUNKING = SinkScript(extensions=(*BASE[1:], "CHUNKING"))  # without PIPELINING, where small messages go with it too
BOTH = SinkScript(extensions=(*BASE, "CHUNKING"))
TAKEN = "delivered 2.0.0 mx1.a.test none"


def recipients(sinks: Sequence[Sink]) -> list[list[str]]:
    return [[" ".join(mail.recipients) for mail in sink.received] for sink in sinks]


NOTHING = MessageDsn()


def dsn_claim(*asked: RecipientDsn, message: MessageDsn = NOTHING) -> Claim:
    claim = make_claim(*[f"{number}@a.test" for number in range(len(asked))])
    with_dsn = [replace(recipient, dsn=dsn) for recipient, dsn in zip(claim.recipients, asked, strict=True)]
    return replace(claim, recipients=tuple(with_dsn), dsn=message)


S, F, D = Notify.SUCCESS, Notify.FAILURE, Notify.DELAY
DSN = [
    (RecipientDsn(), MessageDsn(), (), ()),
    (RecipientDsn(), MessageDsn(Ret.HDRS, "QQ314159+2B"), ("RET=HDRS", "ENVID=QQ314159+2B"), ()),
    (RecipientDsn(), MessageDsn(Ret.FULL), ("RET=FULL",), ()),
    (RecipientDsn(F | S), MessageDsn(), (), ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;0@a.test")),
    (RecipientDsn(S | F | D), MessageDsn(), (), ("NOTIFY=SUCCESS,FAILURE,DELAY", "ORCPT=rfc822;0@a.test")),
    (RecipientDsn(Notify.NEVER), MessageDsn(), (), ("NOTIFY=NEVER",)),
    (RecipientDsn(D, "RFC822;Bob+2Bx@B.test"), MessageDsn(), (), ("NOTIFY=DELAY", "ORCPT=RFC822;Bob+2Bx@B.test")),
    (RecipientDsn(None, "x400;/c=de"), MessageDsn(), (), ("ORCPT=x400;/c=de",)),
    (RecipientDsn(None, "utf-8;b\xfc@b.test"), MessageDsn(), (), ("ORCPT=utf-8;b\xfc@b.test",)),
]


@pytest.mark.parametrize(("asked", "message", "mail", "rcpt"), DSN)
async def test_reports_are_asked_for_as_the_client_did(
    asked: RecipientDsn, message: MessageDsn, mail: tuple[str, ...], rcpt: tuple[str, ...]
) -> None:
    """RFC 3461 section 5.2.1; and to a host without DSN, section 5.2.2, nothing."""
    claim = dsn_claim(asked, RecipientDsn(), message=message)
    async with world() as there:
        (sink,) = await there.domain("a.test", OK)
        found = await there.attempt(claim)
        assert sink.received[0].mail_parameters == (f"SIZE={len(TEXT)}", *mail)
        assert sink.received[0].rcpt_parameters == (rcpt, ())
        passed = [outcome.dsn for outcome in found if isinstance(outcome, Delivered)]
        assert passed == [bool(mail or rcpt), bool(mail)]
    async with world() as there:
        (sink,) = await there.domain("a.test", SinkScript(extensions=BASE))
        found = await there.attempt(claim)
        assert sink.received[0].mail_parameters == (f"SIZE={len(TEXT)}",)
        assert sink.received[0].rcpt_parameters == ((), ())
        assert [outcome.dsn for outcome in found if isinstance(outcome, Delivered)] == [False, False]


async def test_an_original_recipient_in_utf8_goes_to_a_host_without_smtputf8_in_seven_bits() -> None:
    """RFC 6533 section 3."""
    async with world() as there:
        (sink,) = await there.domain("a.test", SinkScript(extensions=("PIPELINING", "DSN")))
        await there.attempt(dsn_claim(RecipientDsn(S, "utf-8;b\xfc\u20ac@b.test")))
        assert sink.received[0].rcpt_parameters == (("NOTIFY=SUCCESS", r"ORCPT=utf-8;b\x{FC}\x{20AC}@b.test"),)


@pytest.mark.parametrize("script", [OK, CHUNKING], ids=["DATA", "BDAT"])
async def test_a_control_character_in_what_was_asked_is_never_sent(script: SinkScript) -> None:
    for claim in (
        dsn_claim(RecipientDsn(S, "rfc822;a\r\nRCPT TO:<x@x.test>")),
        dsn_claim(RecipientDsn(), message=MessageDsn(None, "a b")),
    ):
        async with world() as there:
            (sink,) = await there.domain("a.test", replace(script, extensions=(*script.extensions, "DSN")))
            with pytest.raises(ValueError, match="control character"):
                await there.attempt(claim)
            assert not [line for line in sink.commands if line.startswith("MAIL")]


@pytest.mark.parametrize(
    ("smtputf8", "parameters"),
    [(SmtpUtf8.UNASKED, ()), (SmtpUtf8.ASKED, ()), (SmtpUtf8.NEEDED, ("SMTPUTF8",))],
)
async def test_smtputf8_is_asked_for_where_it_is_needed(smtputf8: SmtpUtf8, parameters: tuple[str, ...]) -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", OK)
        await there.attempt(make_claim("b@a.test", smtputf8=smtputf8))
        assert sink.received[0].mail_parameters == (f"SIZE={len(TEXT)}", *parameters)


EIGHT_BIT = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbc\xc3\x9fe\r\n"
)


@pytest.mark.parametrize(
    "extensions", [("PIPELINING", "SIZE"), ("PIPELINING", "SIZE", "CHUNKING")], ids=["DATA", "BDAT"]
)
async def test_8_bit_text_is_converted_for_a_host_without_8bitmime(extensions: tuple[str, ...]) -> None:
    """Without SIZE, which would be that of the message before; the sink complains of 8-bit octets."""
    async with world() as there:
        (sink,) = await there.domain("a.test", SinkScript(extensions=extensions))
        assert await there.attempt(make_claim("b@a.test", body=EIGHT_BIT, eight_bit=True))
        (mail,) = sink.received
        assert mail.mail_parameters == ()
        assert mail.octets.isascii()
        assert (
            message_from_bytes(mail.octets, policy=policy.SMTP).get_payload(decode=True) == b"gr\xc3\xbc\xc3\x9fe\r\n"
        )


async def test_8_bit_text_goes_as_it_is_where_it_can() -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", OK)
        await there.attempt(make_claim("b@a.test", body=EIGHT_BIT, eight_bit=True))
        assert sink.received[0].octets == EIGHT_BIT
        assert sink.received[0].mail_parameters == (f"SIZE={len(EIGHT_BIT)}", "BODY=8BITMIME")


async def test_too_large_for_one_host_and_not_for_the_other() -> None:
    """Known before MAIL, and told at MAIL."""
    for small in (
        SinkScript(extensions=("PIPELINING", "SIZE 10")),
        SinkScript(mail=("552 5.3.4 too large",)),
    ):
        async with world() as there:
            sinks = await there.domain("a.test", small, OK)
            assert await there.send("b@a.test") == ["delivered 2.0.0 mx2.a.test none"]
            assert recipients(sinks) == [[], ["b@a.test"]]
        async with world() as there:
            await there.domain("a.test", small, small)
            assert await there.send("b@a.test") == ["failed 5.3.4 mx1.a.test none"]
        async with world() as there:
            await there.domain("a.test", small, DOWN)
            assert (await there.send("b@a.test"))[0].startswith("deferred")


async def test_what_is_lost_after_the_message_has_a_cause_and_words() -> None:
    for script in (OK, CHUNKING):
        async with world() as there:
            await there.domain("a.test", replace(script, breaks=(Break(Stage.FINAL_DOT),)), OK)
            (found,) = await there.attempt(make_claim("b@a.test"))
            assert isinstance(found, Deferred)
            assert found.cause is Cause.UNKNOWN
            assert found.reason.endswith("after the end of the message; it may have arrived all the same")


# Hosts that take so much at a time


def limited(limits: str) -> SinkScript:
    return SinkScript(extensions=(*BASE, f"LIMITS {limits}"))


async def test_as_many_sessions_as_the_host_wants() -> None:
    """RFC 9422: two recipients a message, two messages a session."""
    async with world() as there:
        (sink,) = await there.domain("a.test", limited("RCPTMAX=2 MAILMAX=2"))
        assert await there.send(*[f"{number}@a.test" for number in range(7)]) == [TAKEN] * 7
        assert recipients([sink]) == [["0@a.test 1@a.test", "2@a.test 3@a.test", "4@a.test 5@a.test", "6@a.test"]]
        assert connections([sink]) == [2]
        # The second session has had two messages: the next one goes over a third.
        assert await there.send("b@a.test") == [TAKEN]
        assert connections([sink]) == [3]
    assert sink.sessions.aborted == 0


async def test_a_session_that_was_kept_is_used_up_before_the_next() -> None:
    async with world() as there:
        (sink,) = await there.domain("a.test", limited("RCPTMAX=1 MAILMAX=2"))
        assert await there.send("a@a.test") == [TAKEN]
        assert await there.send("b@a.test", "c@a.test", "d@a.test") == [TAKEN] * 3
        assert recipients([sink]) == [["a@a.test", "b@a.test", "c@a.test", "d@a.test"]]
        assert connections([sink]) == [2]


async def test_more_recipients_than_the_sessions_of_an_attempt_take() -> None:
    """The rest waits for the next attempt; the limit of sessions holds."""
    async with world() as there:
        (sink,) = await there.domain("a.test", limited("RCPTMAX=1 MAILMAX=1"))
        found = await there.send(*[f"{number}@a.test" for number in range(23)])
        assert found == [TAKEN] * 20 + ["deferred 4.5.3 mx1.a.test none"] * 3
        assert connections([sink]) == [20]


async def test_a_host_that_ends_the_session_after_each_message_without_saying_so() -> None:
    """421 to the second MAIL: the rest goes over another session with the same host, not to the next one."""
    script = SinkScript(max_recipients=1, mail=("250 ok", "421 4.7.0 one message", "250 ok"))
    async with world() as there:
        sinks = await there.domain("a.test", script, OK)
        assert await there.send("b@a.test", "c@a.test") == [TAKEN, TAKEN]
        assert recipients(sinks) == [["b@a.test", "c@a.test"], []]
        assert connections(sinks) == [2, 0]


async def test_too_many_at_once_are_sent_to_again_until_none_is_left() -> None:
    async with world() as there:
        sinks = await there.domain("a.test", SinkScript(max_recipients=3), OK)
        assert await there.send(*[f"{number}@a.test" for number in range(8)]) == [TAKEN] * 8
        assert [len(mail.recipients) for mail in sinks[0].received] == [3, 3, 2]
        assert connections(sinks) == [1, 0]


async def test_too_many_with_a_break_in_the_second_transaction() -> None:
    """The rest is tried over another session, as this host has taken the message; each has one outcome."""
    script = SinkScript(max_recipients=2, breaks=(Break(Stage.DATA, How.CLOSE, times=1),))
    async with world() as there:
        sinks = await there.domain("a.test", script, OK)
        assert await there.send(*[f"{number}@a.test" for number in range(4)]) == ["delivered 2.0.0 mx2.a.test none"] * 4
        assert connections(sinks) == [1, 1]


async def test_domains_are_counted_over_the_session() -> None:
    """RFC 9422 section 4.3; a route may send many domains to one host."""
    script = limited("RCPTDOMAINMAX=2")
    async with world() as there:
        (sink,) = await there.domain("a.test", script)
        claim = make_claim("1@a.test", "2@c.test", "3@A.test", "4@d.test", "5@c.test", "6@e.test")
        assert [in_words(outcome) for outcome in await there.attempt(claim)] == [TAKEN] * 6
        assert recipients([sink]) == [["1@a.test 2@c.test 3@A.test 5@c.test", "4@d.test 6@e.test"]]
        assert connections([sink]) == [2]
        # An idle session that has had its domains is no use for another one, and stays for these.
        there.publish("f.test", "@ MX 10 mx1.a.test.")
        assert await there.send("7@f.test") == [TAKEN]
        assert connections([sink]) == [3]
        assert [in_words(outcome) for outcome in await there.attempt(make_claim("8@a.test"))] == [TAKEN]
        assert connections([sink]) == [3]


# BDAT


async def test_the_octets_of_bdat_are_those_of_the_message(tmp_path: Path) -> None:
    """Several parts, dots at the beginning of lines; no complaint of the sink."""
    text = b"Subject: x\r\n\r\n" + b"..x\r\n.\r\nabc\r\n" * 60_000
    path = tmp_path / "body"
    path.write_bytes(text)
    claim = replace(make_claim("b@a.test", "c@a.test"), body=FileBody(path, len(text)))
    for script in (CHUNKING, BOTH):
        async with world() as there:
            (sink,) = await there.domain("a.test", script)
            for _ in range(2):
                assert [in_words(outcome) for outcome in await there.attempt(claim)] == [TAKEN, TAKEN]
            assert [mail.octets == text for mail in sink.received] == [True, True]
            assert [line for line in sink.commands if line.startswith("BDAT")][:2] == [f"BDAT {1 << 18}"] * 2
            assert connections([sink]) == [1]


async def test_a_part_that_is_refused_leaves_the_session_and_the_next_host(tmp_path: Path) -> None:
    text = b"x" * 70 + b"\r\n"
    script = replace(BOTH, bdat=("452 4.3.1 full", "250 2.0.0 ok"))
    async with world() as there:
        sinks = await there.domain("a.test", script, OK)
        path = tmp_path / "body"
        path.write_bytes(text * 20_000)
        claim = replace(make_claim("b@a.test"), body=FileBody(path, 20_000 * len(text)))
        assert [in_words(outcome) for outcome in await there.attempt(claim)] == ["delivered 2.0.0 mx2.a.test none"]
        assert await there.send("c@a.test") == [TAKEN]
        assert connections(sinks) == [1, 1]


async def test_a_session_that_was_kept_and_ends_at_bdat_is_not_replaced(tmp_path: Path) -> None:
    """The message is not sent to the same host again at once, which may have taken it for commands."""
    path = tmp_path / "body"
    path.write_bytes((b"x" * 70 + b"\r\n") * 10_000)
    claim = replace(make_claim("c@a.test"), body=FileBody(path, 720_000))
    async with world() as there:
        sinks = await there.domain("a.test", CHUNKING, OK)
        assert await there.send("b@a.test") == [TAKEN]
        sinks[0].play(replace(CHUNKING, breaks=(Break(Stage.BDAT),)))
        assert [in_words(outcome) for outcome in await there.attempt(claim)] == ["delivered 2.0.0 mx2.a.test none"]
        assert connections(sinks) == [1, 1]


async def test_a_caller_may_say_how_many_at_once() -> None:
    sink = Sink(limited("RCPTMAX=3"))
    at = await sink.start()
    session = await open_session(Target("mx.test", at.host, at.port), None, Source(hostname="relay.test"), Timeouts())
    assert isinstance(session, OpenSession)
    claim = make_claim("1@a.test", "2@a.test", "3@a.test")

    async def read(_: Body) -> AsyncGenerator[bytes, None]:
        yield TEXT

    sent = await send_message(
        claim, claim.recipients, session, Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC), Means(read, lambda: NOW, 2)
    )
    assert sent.delivered
    assert recipients([sink]) == [["1@a.test 2@a.test", "3@a.test"]]
    await session.quit()
    await sink.stop()


@pytest.mark.parametrize("eight_bit", [False, True])
async def test_a_message_that_cannot_be_read_waits_and_nobody_who_has_it_gets_it_again(eight_bit: bool) -> None:
    """Also where it is read before anything is said of it, to make it 7-bit. The session is closed."""
    reads = 0

    async def read(_: Body) -> AsyncGenerator[bytes, None]:
        nonlocal reads
        reads += 1
        yield EIGHT_BIT if eight_bit else TEXT
        if reads > (0 if eight_bit else 1):
            raise StoreUnavailable("the disk is gone")

    async with world() as there:
        there.tools = replace(there.tools, read=read)
        (sink,) = await there.domain("a.test", SinkScript(extensions=("PIPELINING", "LIMITS RCPTMAX=1")))
        claim = make_claim("1@a.test", "2@a.test", "3@a.test", eight_bit=eight_bit)
        first, *others = await there.attempt(claim)
        assert isinstance(first, Deferred if eight_bit else Delivered)
        for outcome in others:
            assert isinstance(outcome, Deferred)
            assert (str(outcome.status), outcome.cause) == ("4.3.0", Cause.LOCAL)
            assert outcome.reason == "the message could not be read: the disk is gone"
        assert recipients([sink]) == [[] if eight_bit else ["1@a.test"]]
        assert there.tools.pool._idle == {}


async def test_a_session_is_closed_when_a_defect_ends_the_message() -> None:
    sink = Sink(SinkScript(extensions=("PIPELINING",)))
    at = await sink.start()

    async def read(_: Body) -> AsyncGenerator[bytes, None]:
        yield EIGHT_BIT
        raise RuntimeError("a mistake")

    for eight_bit in (False, True):
        session = await open_session(
            Target("mx.test", at.host, at.port), None, Source(hostname="relay.test"), Timeouts()
        )
        assert isinstance(session, OpenSession)
        claim = make_claim("b@a.test", eight_bit=eight_bit)
        with pytest.raises(RuntimeError):
            await send_message(
                claim, claim.recipients, session, Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC), Means(read, lambda: NOW)
            )
        assert not session.reusable()
    await sink.stop()


@pytest.mark.parametrize("extensions", [BASE, BASE[1:]], ids=["pipelining", "one by one"])
async def test_a_recipient_that_ends_the_session_does_not_keep_the_others_back(extensions: tuple[str, ...]) -> None:
    """At the next attempt it comes last, and by itself."""
    async with world() as there:
        script = SinkScript(extensions=extensions, rcpt={"1@a.test": ("421 4.3.2 not for that one",)})
        (sink,) = await there.domain("a.test", script)
        claim = make_claim("0@a.test", "1@a.test", "2@a.test")
        first = await there.attempt(claim)
        own = "mx1.a.test asks us to come again later, after RCPT TO"
        other = f"{own} for another recipient"
        assert [one.reason for one in first if isinstance(one, Deferred)] == [other, own, other]
        again = [
            replace(recipient, attempts=2, last=outcome)
            for recipient, outcome in zip(claim.recipients, first, strict=True)
            if isinstance(outcome, Deferred)
        ]
        second = await there.attempt(replace(claim, recipients=tuple(again)))
        assert [in_words(one).split()[0] for one in second] == ["delivered", "deferred", "delivered"]
        assert recipients([sink]) == [["0@a.test 2@a.test"]]
