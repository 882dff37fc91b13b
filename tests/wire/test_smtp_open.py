"""Opening a session in clear text: every way in which a host may be down, say no, or talk nonsense."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from relay.delivery.capabilities import Capabilities
from relay.delivery.opening import ConnectFailed, Target, open_session
from relay.delivery.smtp import OpenSession
from relay.delivery.transaction import Stage, Timeouts
from relay.policy.observed import ObservedSession
from relay.policy.source import Source

sys.path.insert(0, str(Path(__file__).parent))
from smtp_peer import CLOSE, RESET, STALL, Step, host, octet_by_octet

GREETING = b"220 mx.test ESMTP\r\n"
SOON = Timeouts(
    connect_seconds=5, greeting_seconds=0.1, ehlo_seconds=0.1, starttls_seconds=0.1, handshake_seconds=0.1,
    mail_seconds=0.1, rcpt_seconds=0.1, data_seconds=0.1, block_seconds=0.1, final_seconds=0.1, quit_seconds=0.1,
)  # fmt: skip
ABLE = Capabilities(pipelining=True, size=1000, eight_bit_mime=True)

OPENS: list[tuple[str, tuple[Step, ...], Capabilities, bytes]] = [
    ("plain", (GREETING, 1, b"250 mx.test\r\n"), Capabilities(), b"EHLO relay.test\r\n"),
    (
        "several lines, any case",
        (b"220-mx.test\r\n220 hello\r\n", 1, b"250-mx.test\r\n250-pipelining\r\n250-Size 1000\r\n250 8bitmime\r\n"),
        ABLE,
        b"EHLO relay.test\r\n",
    ),
    (
        "octet by octet",
        (
            octet_by_octet(GREETING),
            1,
            octet_by_octet(b"250-mx.test\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n"),
        ),
        ABLE,
        b"EHLO relay.test\r\n",
    ),
    (
        "HELO",
        (GREETING, 1, b"502 5.5.1 what?\r\n", 1, b"250-mx.test\r\n250 PIPELINING\r\n"),
        Capabilities(),  # RFC 5321 section 3.2: no extensions, whatever the answer to HELO says
        b"EHLO relay.test\r\nHELO relay.test\r\n",
    ),
    (
        "STARTTLS is left alone",
        (GREETING, 1, b"250-mx.test\r\n250 STARTTLS\r\n"),
        Capabilities(starttls=True),
        b"EHLO relay.test\r\n",
    ),
]

Failure = tuple[str, tuple[Step, ...], Stage, str, int | None]
FAILS: list[Failure] = [
    ("greeting 554", (b"554 5.7.1 not you\r\n",), Stage.GREETING, "refused the session in its greeting", 554),
    ("greeting 421", (b"421-busy\r\n421 later\r\n",), Stage.GREETING, "refused the session in its greeting", 421),
    ("greeting 250", (b"250 hi\r\n",), Stage.GREETING, 'answered "250 hi" before its greeting', None),
    ("greeting 354", (b"354 go\r\n",), Stage.GREETING, 'answered "354 go" before its greeting', None),
    ("close", (CLOSE,), Stage.GREETING, "closed the connection before its greeting", None),
    ("half a greeting", (b"220 mx.te", CLOSE), Stage.GREETING, "closed the connection before its greeting", None),
    ("half of two lines", (b"220-mx\r\n", CLOSE), Stage.GREETING, "closed the connection before its greeting", None),
    ("stall", (STALL,), Stage.GREETING, "said nothing for 0.1 seconds before its greeting", None),
    (
        "drip",  # the limit is for the whole greeting, not for an octet of it
        (octet_by_octet(b"220-" + b"x" * 2000),),
        Stage.GREETING,
        "said nothing for 0.1 seconds before its greeting",
        None,
    ),
    (
        "web server",
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        Stage.GREETING,
        'did not speak SMTP before its greeting: "HTTP/1.1 400 Bad Request" is not a line of an SMTP reply',
        None,
    ),
    (
        "ssh server",
        (b"SSH-2.0-OpenSSH_9.2p1\r\n",),
        Stage.GREETING,
        'did not speak SMTP before its greeting: "SSH-2.0-OpenSSH_9.2p1" is not a line of an SMTP reply',
        None,
    ),
    (
        "codes that disagree",
        (b"220-mx.test\r\n554 no\r\n",),
        Stage.GREETING,
        'did not speak SMTP before its greeting: "554 no" does not go on from a line with 220',
        None,
    ),
    (
        "no end of a line",
        (b"220 " + b"x" * 40000,),
        Stage.GREETING,
        "did not speak SMTP before its greeting: a reply of more than 32768 octets",
        None,
    ),
    (
        "no end of lines",
        (b"220-x\r\n" * 200,),
        Stage.GREETING,
        "did not speak SMTP before its greeting: a reply of more than 100 lines",
        None,
    ),
    (
        "talks before it is asked",
        (GREETING + b"250 mx.test\r\n",),
        Stage.EHLO,
        'spoke before it was asked after EHLO: "250 mx.test"',
        None,
    ),
    ("EHLO 421", (GREETING, 1, b"421 later\r\n"), Stage.EHLO, "refused EHLO", 421),
    ("EHLO 450", (GREETING, 1, b"450 later\r\n"), Stage.EHLO, "refused EHLO", 450),
    ("EHLO 354", (GREETING, 1, b"354 go\r\n"), Stage.EHLO, 'answered "354 go" after EHLO', None),
    (
        "EHLO and HELO 5xx",
        (GREETING, 1, b"502 no\r\n", 1, b"550 5.7.1 bad name\r\n"),
        Stage.EHLO,
        "refused EHLO and HELO",
        550,
    ),
    ("EHLO 5xx and close", (GREETING, 1, b"550 5.7.1 no\r\n", CLOSE), Stage.EHLO, "refused EHLO", 550),
    ("EHLO 5xx and stall", (GREETING, 1, b"550 5.7.1 no\r\n", STALL), Stage.EHLO, "refused EHLO", 550),
    ("EHLO close", (GREETING, 1, CLOSE), Stage.EHLO, "closed the connection after EHLO", None),
    (
        "EHLO reset",
        (GREETING, 1, RESET),
        Stage.EHLO,
        "closed the connection after EHLO: connection reset by peer",
        None,
    ),
    ("EHLO stall", (GREETING, 1, STALL), Stage.EHLO, "said nothing for 0.1 seconds after EHLO", None),
    ("EHLO half", (GREETING, 1, b"250-mx.test\r\n250-SI", CLOSE), Stage.EHLO, "closed the connection after EHLO", None),
]


async def opened(port: int, timeouts: Timeouts = SOON, name: str = "relay.test") -> OpenSession | ConnectFailed:
    session = await open_session(Target("mx.test", "127.0.0.1", port), None, Source(hostname=name), timeouts)
    assert isinstance(session, OpenSession | ConnectFailed)
    return session


@pytest.mark.asyncio
@pytest.mark.parametrize(("steps", "able", "heard"), [row[1:] for row in OPENS], ids=[row[0] for row in OPENS])
async def test_opens(steps: tuple[Step, ...], able: Capabilities, heard: bytes) -> None:
    async with host(*steps, 1, b"221 bye\r\n") as mx:
        session = await opened(mx.port, Timeouts())
        assert isinstance(session, OpenSession)
        assert session.capabilities == able
        assert session.observed == ObservedSession("mx.test", "127.0.0.1", starttls_offered=able.starttls)
        assert session.reusable()
        await session.quit()
        assert not session.reusable()
    assert mx.heard == heard + b"QUIT\r\n"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("steps", "stage", "reason", "code"), [row[1:] for row in FAILS], ids=[row[0] for row in FAILS]
)
async def test_fails(steps: tuple[Step, ...], stage: Stage, reason: str, code: int | None) -> None:
    async with host(*steps) as mx:
        failed = await opened(mx.port)
        assert isinstance(failed, ConnectFailed)
        assert (failed.stage, failed.reason) == (stage, reason)
        assert (failed.reply.code if failed.reply else None) == code


@pytest.mark.asyncio
async def test_says_goodbye_to_a_host_that_says_no() -> None:
    async with host(b"554 5.7.1 not you\r\n") as mx:
        await opened(mx.port)
    assert mx.heard == b"QUIT\r\n"


@pytest.mark.asyncio
async def test_refused_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        failed = await opened(closed.getsockname()[1])
    assert failed == ConnectFailed(Stage.CONNECT, "connection refused")


@pytest.mark.asyncio
async def test_no_answer_to_the_connection() -> None:
    """A full backlog: the kernel lets the handshake of TCP hang."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        failed = await opened(port, Timeouts(connect_seconds=0.2))
        for one in waiting:
            one.close()
    assert failed == ConnectFailed(Stage.CONNECT, "no connection within 0.2 seconds")


@pytest.mark.asyncio
async def test_cancelled_while_opening() -> None:
    """Cancellation comes through and the connection is closed."""
    asked = asyncio.Event()

    async def notice(_: object) -> None:
        asked.set()

    async with host(GREETING, 1, notice) as mx:
        task = asyncio.create_task(opened(mx.port, Timeouts()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await mx.over()


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["relay.test\r\nMAIL FROM:<a@a.test>", "relay\x00", "rélay.test"])
async def test_bad_ehlo_name(name: str) -> None:
    async with host() as mx:
        with pytest.raises(ValueError, match="not a name for EHLO"):
            await opened(mx.port, name=name)
        assert not mx.peers
