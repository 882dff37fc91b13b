"""Sending over a session: a result for each recipient, whatever the host answers and wherever it vanishes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.delivery.opening import Target, open_session
from relay.delivery.smtp import MailOptions, OpenSession
from relay.delivery.transaction import Lost, Timeouts
from relay.mail.message import MessageDsn, RecipientDsn, Ret
from relay.mail.outcome import TlsUsed
from relay.mail.status import Reply
from relay.policy.source import Source
from relay.policy.verdict import Allow, Rule

sys.path.insert(0, str(Path(__file__).parent))
from smtp_peer import BODY, CLOSE, RESET, STALL, Peer, Step, host, octet_by_octet

ALLOW = Allow(TlsUsed.NONE, Rule.OPPORTUNISTIC)
SOON = Timeouts(
    mail_seconds=0.1, rcpt_seconds=0.1, data_seconds=0.1, block_seconds=0.1, final_seconds=0.1, quit_seconds=0.1
)
MAIL = b"MAIL FROM:<a@a.test>\r\n"
RCPTS = tuple(b"RCPT TO:<%d@b.test>\r\n" % number for number in range(1200))
DATA = b"DATA\r\n"
RSET = b"RSET\r\n"
QUIT = b"QUIT\r\n"
TEXT = b"Subject: x\r\n\r\n.dot\r\n"
SENT = b"Subject: x\r\n\r\n..dot\r\n.\r\n"
OK = b"250 2.0.0 ok\r\n"
GO = b"354 go\r\n"
TAKEN = b"250 2.0.0 queued as 1\r\n"


@dataclass(frozen=True)
class Case:
    """One dialogue after EHLO: the host's steps; what is to come of each recipient; what the host hears."""

    name: str
    steps: tuple[Step, ...]
    results: tuple[str, ...]
    heard: bytes
    reusable: bool


def pipelined(recipients: int) -> bytes:
    return MAIL + b"".join(RCPTS[:recipients]) + DATA


PIPELINED = [
    Case("one", (3, OK + OK + GO, BODY, TAKEN), ("250 2.0.0 queued as 1",), pipelined(1) + SENT, True),
    Case(
        "three",
        (5, OK * 4 + GO, BODY, TAKEN),
        ("250 2.0.0 queued as 1",) * 3,
        pipelined(3) + SENT,
        True,
    ),
    Case(
        "answers octet by octet",
        (
            5,
            octet_by_octet(OK + OK + b"550-5.1.1 no\r\n550 5.1.1 such user\r\n" + OK + GO),
            BODY,
            octet_by_octet(TAKEN),
        ),
        ("250 2.0.0 queued as 1", "550 5.1.1 no 5.1.1 such user", "250 2.0.0 queued as 1"),
        pipelined(3) + SENT,
        True,
    ),
    Case(
        "some refused",
        (6, OK + b"550 5.1.1 no\r\n" + OK + b"452 4.5.3 too many\r\n" + b"251 will forward\r\n" + GO, BODY, TAKEN),
        ("550 5.1.1 no", "250 2.0.0 queued as 1", "452 4.5.3 too many", "250 2.0.0 queued as 1"),
        pipelined(4) + SENT,
        True,
    ),
    Case(
        "252 is a yes",
        (3, OK + b"252 try\r\n" + GO, BODY, TAKEN),
        ("250 2.0.0 queued as 1",),
        pipelined(1) + SENT,
        True,
    ),
    Case(
        "MAIL refused",
        (4, b"550 5.7.1 not you\r\n" + b"503 5.5.1 no MAIL\r\n" * 3),
        ("550 5.7.1 not you",) * 2,
        pipelined(2),
        True,
    ),
    Case(
        "MAIL deferred",
        (3, b"451 4.7.1 greylisted\r\n" + b"503 5.5.1 no MAIL\r\n" * 2),
        ("451 4.7.1 greylisted",),
        pipelined(1),
        True,
    ),
    Case(
        "MAIL refused, 354 all the same",
        (4, b"550 5.7.1 not you\r\n" + b"503 5.5.1 no MAIL\r\n" * 2 + GO, 1, b"503 5.5.1 no\r\n"),
        ("550 5.7.1 not you",) * 2,
        pipelined(2) + b".\r\n",
        True,
    ),
    Case(  # a lone dot would deliver an empty message
        "MAIL refused, RCPT and DATA taken",
        (4, b"550 5.7.1 not you\r\n503 5.5.1 no\r\n" + OK + GO),
        ("550 5.7.1 not you",) * 2,
        pipelined(2),
        False,
    ),
    Case(
        "MAIL refused, and gone",
        (4, b"550 5.7.1 not you\r\n", CLOSE),
        ("550 5.7.1 not you",) * 2,
        pipelined(2),
        False,
    ),
    Case(
        "all refused",
        (4, OK + b"550 5.1.1 no\r\n" + b"450 4.2.1 later\r\n" + b"554 5.5.1 nobody\r\n", 1, OK),
        ("550 5.1.1 no", "450 4.2.1 later"),
        pipelined(2) + RSET,
        True,
    ),
    Case(  # RFC 2920 section 3.1
        "all refused, 354 all the same",
        (4, OK + b"550 5.1.1 no\r\n" * 2 + GO, 1, b"554 5.5.1 nobody\r\n"),
        ("550 5.1.1 no",) * 2,
        pipelined(2) + b".\r\n",
        True,
    ),
    Case(
        "all refused, 354, and a yes to nothing",
        (3, OK + b"550 5.1.1 no\r\n" + GO, 1, OK),
        ("550 5.1.1 no",),
        pipelined(1) + b".\r\n",
        True,
    ),
    Case(
        "DATA refused",
        (4, OK + OK + b"550 5.1.1 no\r\n" + b"452 4.3.1 full\r\n", 1, OK),
        ("452 4.3.1 full", "550 5.1.1 no"),
        pipelined(2) + RSET,
        True,
    ),
    Case(
        "RSET refused",
        (3, OK + OK + b"452 4.3.1 full\r\n", 1, b"500 what\r\n"),
        ("452 4.3.1 full",),
        pipelined(1) + RSET,
        False,
    ),
    Case("RSET stall", (3, OK + OK + b"452 no\r\n", 1, STALL), ("452 no",), pipelined(1) + RSET, False),
    Case(
        "the message refused",
        (4, OK + OK + b"550 5.1.1 no\r\n" + GO, BODY, b"554 5.7.1 spam\r\n"),
        ("554 5.7.1 spam", "550 5.1.1 no"),
        pipelined(2) + SENT,
        True,
    ),
    Case("the message deferred", (3, OK + OK + GO, BODY, b"450 later\r\n"), ("450 later",), pipelined(1) + SENT, True),
    # 421: for all that have no answer yet
    Case("MAIL 421", (4, b"421 bye\r\n", CLOSE), ("421 bye",) * 2, pipelined(2), False),
    Case(
        "RCPT 421",
        (6, OK + OK + b"550 5.1.1 no\r\n" + b"421 4.3.2 bye\r\n", CLOSE),
        ("421 4.3.2 bye", "550 5.1.1 no", "421 4.3.2 bye", "421 4.3.2 bye"),
        pipelined(4),
        False,
    ),
    Case(
        "DATA 421",
        (4, OK + OK + b"550 5.1.1 no\r\n" + b"421 bye\r\n"),
        ("421 bye", "550 5.1.1 no"),
        pipelined(2),
        False,
    ),
    Case("the message 421", (3, OK + OK + GO, BODY, b"421 bye\r\n"), ("421 bye",), pipelined(1) + SENT, False),
    # replies that make no sense where they come: never taken for a yes
    Case(
        "MAIL 354",
        (3, b"354 go\r\n" + OK + GO),
        ('MAIL answered "354 go" after MAIL FROM',),
        pipelined(1),
        False,
    ),
    Case("RCPT 354", (3, OK + GO + GO), ('RCPT answered "354 go" after RCPT TO',), pipelined(1), False),
    Case("DATA 250", (3, OK * 3), ('DATA answered "250 2.0.0 ok" after DATA',), pipelined(1), False),
    Case("DATA 334", (3, OK * 2 + b"334 go\r\n"), ('DATA answered "334 go" after DATA',), pipelined(1), False),
    Case(
        "the message 354",
        (3, OK + OK + GO, BODY, GO),
        ('FINAL? answered "354 go" after the end of the message',),
        pipelined(1) + SENT,
        False,
    ),
    Case(
        "garbage",
        (3, OK + b"\x00\xff\r\n"),
        ('RCPT did not speak SMTP after RCPT TO: "\ufffd" is not a line of an SMTP reply',),
        pipelined(1),
        False,
    ),
    Case(
        "codes that disagree",
        (3, OK + b"550-no\r\n250 yes\r\n" + GO),
        ('RCPT did not speak SMTP after RCPT TO: "250 yes" does not go on from a line with 550',),
        pipelined(1),
        False,
    ),
    Case(
        "garbage for a final reply",
        (3, OK + OK + GO, BODY, b"OK\r\n"),
        ('FINAL? did not speak SMTP after the end of the message: "OK" is not a line of an SMTP reply',),
        pipelined(1) + SENT,
        False,
    ),
    # an answer before the message
    Case("354 and 552", (3, OK + OK + GO + b"552 full\r\n"), ("552 full",), pipelined(1), False),
    Case(
        "354 and 250",
        (3, OK + OK + GO + OK),
        ('BODY answered "250 2.0.0 ok" in the middle of the message',),
        pipelined(1),
        False,
    ),
    # gone
    Case("MAIL close", (4, CLOSE), ("MAIL closed the connection after MAIL FROM",) * 2, pipelined(2), False),
    Case(
        "RCPT close",
        (5, OK + OK + b"550 5.1.1 no\r\n", CLOSE),
        ("RCPT closed the connection after RCPT TO", "550 5.1.1 no", "RCPT closed the connection after RCPT TO"),
        pipelined(3),
        False,
    ),
    Case("DATA close", (3, OK + OK, CLOSE), ("DATA closed the connection after DATA",), pipelined(1), False),
    Case(
        "the message close",
        (4, OK + OK + b"550 5.1.1 no\r\n" + GO, BODY, CLOSE),
        ("FINAL? closed the connection after the end of the message", "550 5.1.1 no"),
        pipelined(2) + SENT,
        False,
    ),
    Case(
        "half a final reply",
        (3, OK + OK + GO, BODY, b"250 2.0.0 qu", CLOSE),
        ("FINAL? closed the connection after the end of the message",),
        pipelined(1) + SENT,
        False,
    ),
    Case(
        "the message reset",
        (3, OK + OK + GO, BODY, RESET),
        ("FINAL? closed the connection after the end of the message: connection reset by peer",),
        pipelined(1) + SENT,
        False,
    ),
    # silent
    Case("MAIL stall", (3, STALL), ("MAIL said nothing for 0.1 seconds after MAIL FROM",), pipelined(1), False),
    Case("RCPT stall", (3, OK, STALL), ("RCPT said nothing for 0.1 seconds after RCPT TO",), pipelined(1), False),
    Case("DATA stall", (3, OK + OK, STALL), ("DATA said nothing for 0.1 seconds after DATA",), pipelined(1), False),
    Case(
        "the message stall",
        (3, OK + OK + GO, BODY, STALL),
        ("FINAL? said nothing for 0.1 seconds after the end of the message",),
        pipelined(1) + SENT,
        False,
    ),
]

IN_TURN = [
    Case("one", (1, OK, 1, OK, 1, GO, BODY, TAKEN), ("250 2.0.0 queued as 1",), pipelined(1) + SENT, True),
    Case("MAIL refused", (1, b"550 no\r\n"), ("550 no",) * 2, MAIL, True),
    Case(
        "some refused",
        (1, OK, 1, b"550 no\r\n", 1, OK, 1, GO, BODY, TAKEN),
        ("550 no", "250 2.0.0 queued as 1"),
        pipelined(2) + SENT,
        True,
    ),
    Case(
        "all refused",
        (1, OK, 1, b"550 no\r\n", 1, b"450 later\r\n", 1, OK),
        ("550 no", "450 later"),
        MAIL + RCPTS[0] + RCPTS[1] + RSET,
        True,
    ),
    Case("DATA refused", (1, OK, 1, OK, 1, b"451 no\r\n", 1, OK), ("451 no",), pipelined(1) + RSET, True),
    Case("RCPT 421", (1, OK, 1, OK, 1, b"421 bye\r\n"), ("421 bye",) * 3, MAIL + RCPTS[0] + RCPTS[1], False),
    Case(
        "RCPT close",
        (1, OK, 1, b"550 no\r\n", 1, CLOSE),
        ("550 no", "RCPT closed the connection after RCPT TO", "RCPT closed the connection after RCPT TO"),
        MAIL + RCPTS[0] + RCPTS[1],
        False,
    ),
    Case(
        "RCPT stall",
        (1, OK, 1, STALL),
        ("RCPT said nothing for 0.1 seconds after RCPT TO",),
        MAIL + RCPTS[0],
        False,
    ),
    Case(  # the second reply would be taken for the answer to RCPT
        "two answers to MAIL",
        (1, OK + OK),
        ('RCPT spoke before it was asked after RCPT TO: "250 2.0.0 ok"',),
        MAIL,
        False,
    ),
    Case(  # RFC 5321 section 3.8: this one may come at any time
        "421 out of turn",
        (1, OK, 1, b"550 no\r\n", 1, OK + b"421 4.3.2 shutting down\r\n", CLOSE),
        ("550 no", "421 4.3.2 shutting down"),
        MAIL + RCPTS[0] + RCPTS[1],
        False,
    ),
    Case(
        "two answers to DATA",
        (1, OK, 1, OK, 1, GO + b"552 full\r\n"),
        ("552 full",),
        pipelined(1),
        False,
    ),
]


async def pieces(*octets: bytes) -> AsyncIterator[bytes]:
    for one in octets:
        yield one


def said(result: Reply | Lost) -> str:
    if isinstance(result, Reply):
        return result.text
    return f"{result.stage.name}{'?' if result.after_final_dot else ''} {result.reason}"


def hello(*extensions: bytes) -> tuple[Step, ...]:
    keywords = b"".join(b"250-" + keyword + b"\r\n" for keyword in extensions)
    return (b"220 mx.test\r\n", 1, b"250-mx.test\r\n" + keywords + b"250 HELP\r\n")


async def opened(port: int, timeouts: Timeouts = SOON) -> OpenSession:
    session = await open_session(Target("mx.test", "127.0.0.1", port), None, Source(hostname="relay.test"), timeouts)
    assert isinstance(session, OpenSession), session
    return session


async def send(
    session: OpenSession, recipients: int = 1, *octets: bytes, options: MailOptions | None = None
) -> tuple[str, ...]:
    addresses = [b"%d@b.test" % number for number in range(recipients)]
    body = pieces(*(octets or (TEXT,)))
    results = await session.send(b"a@a.test", addresses, body, options or MailOptions(), ALLOW)
    return tuple(map(said, results))


async def run_case(case: Case, *extensions: bytes) -> None:
    async with host(*hello(*extensions), *case.steps) as mx:
        session = await opened(mx.port)
        assert await send(session, len(case.results)) == case.results
        assert session.reusable() == case.reusable
        session.close()
    heard = mx.heard.removeprefix(b"EHLO relay.test\r\n")
    assert heard == case.heard + (QUIT if case.reusable else b"")


@pytest.mark.asyncio
@pytest.mark.parametrize("case", PIPELINED, ids=lambda case: case.name)
async def test_pipelined(case: Case) -> None:
    await run_case(case, b"PIPELINING")


@pytest.mark.asyncio
@pytest.mark.parametrize("case", IN_TURN, ids=lambda case: case.name)
async def test_in_turn(case: Case) -> None:
    await run_case(case)


@pytest.mark.asyncio
async def test_envelope_is_one_write_and_the_message_another() -> None:
    """The host reads MAIL, RCPT and DATA in one segment, and nothing of the message before its 354."""
    reads: list[int] = []

    async def read(peer: Peer) -> None:
        before = len(peer.heard)
        await peer.line()
        reads.append(len(peer.heard) - before)
        await peer.line()
        await peer.line()
        assert bytes(peer.heard[before:]) == pipelined(1)
        await peer.say(OK + OK + GO)
        await peer.body()
        reads.append(len(peer.heard) - before - reads[0])
        await peer.say(TAKEN)

    async with host(*hello(b"PIPELINING"), read) as mx:
        session = await opened(mx.port)
        await send(session)
        session.close()
    assert reads == [len(pipelined(1)), len(SENT)]


@pytest.mark.asyncio
@pytest.mark.parametrize("refused", [None, 3, 777])
async def test_many_recipients_go_in_batches(refused: int | None) -> None:
    def answers(start: int, stop: int) -> bytes:
        return b"".join(b"550 5.1.1 no\r\n" if number == refused else OK for number in range(start, stop))

    steps = (501, OK + answers(0, 500), 500, answers(500, 1000), 201, answers(1000, 1200) + GO, BODY, TAKEN)
    async with host(*hello(b"PIPELINING"), *steps) as mx:
        session = await opened(mx.port, Timeouts())
        results = await send(session, 1200)
        session.close()
    assert results == tuple("550 5.1.1 no" if number == refused else "250 2.0.0 queued as 1" for number in range(1200))
    assert mx.heard.endswith(MAIL + b"".join(RCPTS) + DATA + SENT + QUIT)


@pytest.mark.asyncio
async def test_many_recipients_mail_refused() -> None:
    """The second batch is not sent."""
    async with host(*hello(b"PIPELINING"), 501, b"550 no\r\n" + b"503 no\r\n" * 500) as mx:
        session = await opened(mx.port)
        assert await send(session, 1200) == ("550 no",) * 1200
        assert session.reusable()
        session.close()
    assert mx.heard.endswith(MAIL + b"".join(RCPTS[:500]) + QUIT)


@pytest.mark.asyncio
async def test_second_message_on_the_same_session() -> None:
    dialogue: tuple[Step, ...] = (3, OK + OK + GO, BODY, TAKEN)
    async with host(*hello(b"PIPELINING"), *dialogue, 3, OK + b"550 no\r\n503 no\r\n", 1, OK, *dialogue) as mx:
        session = await opened(mx.port)
        assert await send(session) == ("250 2.0.0 queued as 1",)
        assert await send(session) == ("550 no",)
        assert await send(session) == ("250 2.0.0 queued as 1",)
        assert session.messages == 3
        session.close()
    assert mx.heard.endswith(pipelined(1) + SENT + pipelined(1) + RSET + pipelined(1) + SENT + QUIT)


async def until_gone(session: OpenSession) -> None:
    async with asyncio.timeout(5):
        while session.reusable():
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_closed_after_the_message() -> None:
    async with host(*hello(b"PIPELINING"), 3, OK + OK + GO, BODY, TAKEN, CLOSE) as mx:
        session = await opened(mx.port)
        assert await send(session) == ("250 2.0.0 queued as 1",)
        await until_gone(session)
        assert await send(session) == ("MAIL ended the session before MAIL FROM",)


@pytest.mark.asyncio
async def test_idle_session_that_got_421() -> None:
    spoken = asyncio.Event()

    async def wait(_: Peer) -> None:
        await spoken.wait()

    async with host(*hello(b"PIPELINING"), wait, b"421 4.4.2 idle\r\n", CLOSE) as mx:
        session = await opened(mx.port)
        assert session.reusable()
        spoken.set()
        await mx.over()
        await until_gone(session)
        assert await send(session) == ('MAIL ended the session before MAIL FROM: "421 4.4.2 idle"',)
    assert mx.heard == b"EHLO relay.test\r\n"


OPTIONS = [
    (b"", (b"SIZE",), MailOptions(), b""),
    (b"", (), MailOptions(size=5), b""),
    (b"", (b"SIZE",), MailOptions(size=5), b" SIZE=5"),
    (b"", (b"SIZE 1000", b"8BITMIME"), MailOptions(size=5, eight_bit=True), b" SIZE=5 BODY=8BITMIME"),
    (b"a@a.test", (b"SMTPUTF8", b"8BITMIME"), MailOptions(smtputf8=True), b" SMTPUTF8"),
    ("ä@a.test".encode(), (b"REQUIRETLS",), MailOptions(requiretls=True), b" REQUIRETLS"),
    (b'"a b>"@a.test', (), MailOptions(), b""),
    (b"a@a.test", (b"DSN",), MailOptions(dsn=MessageDsn(Ret.FULL, "x")), b" RET=FULL ENVID=x"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("sender", "extensions", "options", "parameters"), OPTIONS)
async def test_options(sender: bytes, extensions: tuple[bytes, ...], options: MailOptions, parameters: bytes) -> None:
    async with host(*hello(*extensions), 1, b"550 no\r\n") as mx:
        session = await opened(mx.port)
        await session.send(sender, [b"b@b.test"], pieces(TEXT), options, ALLOW)
        session.close()
    assert mx.heard == b"EHLO relay.test\r\nMAIL FROM:<" + sender + b">" + parameters + b"\r\n" + QUIT


BAD_CALLS = [
    (b"a@a.test\r\nRCPT TO:<x@x.test>", [b"b@b.test"], MailOptions()),
    (b"", [b"b@b.test", b"b\n@b.test"], MailOptions()),
    (b"", [b"b\x00@b.test"], MailOptions()),
    (b"", [b"b\x7f@b.test"], MailOptions()),
    (b"", [], MailOptions()),
    (b"", [b"b@b.test"], MailOptions(eight_bit=True)),
    (b"", [b"b@b.test"], MailOptions(smtputf8=True)),
    (b"", [b"b@b.test"], MailOptions(requiretls=True)),
    (b"", [b"b@b.test"], MailOptions(chunks=True)),
    (b"", [b"b@b.test"], MailOptions(dsn=MessageDsn())),
    (b"", [b"b@b.test"], MailOptions(rcpts=[RecipientDsn()])),
]


@pytest.mark.asyncio
@pytest.mark.parametrize(("sender", "recipients", "options"), BAD_CALLS)
async def test_bad_calls_send_nothing(sender: bytes, recipients: list[bytes], options: MailOptions) -> None:
    async with host(*hello(b"PIPELINING")) as mx:
        session = await opened(mx.port)
        with pytest.raises(ValueError, match=r"control character|no recipients|does not offer"):
            await session.send(sender, recipients, pieces(TEXT), options, ALLOW)
        assert session.reusable()
        session.close()
    assert mx.heard == b"EHLO relay.test\r\n" + QUIT


@pytest.mark.asyncio
async def test_quit_does_not_wait_for_ever() -> None:
    async with host(*hello(), STALL) as mx:
        session = await opened(mx.port)
        async with asyncio.timeout(5):
            await session.quit()
    assert mx.heard.endswith(QUIT)
