"""BDAT over real sockets into the real queue: octets are counted, whatever they are and whatever becomes of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from submission_peer import LOOPBACK, PATIENCE, Client, Running, Wanted, lab_tls, running

from relay.events import DefectFound, MessageAccepted, SubmissionRefused
from relay.mail.message import SmtpUtf8
from relay.policy.clients import Headers
from relay.queue.store import StoreUnavailable
from relay.settings import ListenerSettings, ListenerTls

pytestmark = pytest.mark.asyncio

ENVELOPE = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\n"
LARGE = b"".join(b"line %06d of a message that needs a file\r\n" % number for number in range(8000))


def chunk(octets: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(octets), b" LAST" if last else b"") + octets


def chunks(octets: bytes, size: int) -> bytes:
    starts = range(0, max(1, len(octets)), size)
    return b"".join(chunk(octets[start : start + size], last=start == starts[-1]) for start in starts)


async def answers(client: Client, number: int) -> list[str]:
    return [await client.reply() for _ in range(number)]


def files(folder: Path) -> list[Path]:
    return [path for place in ("incoming", "bodies") for path in (folder / "queue" / place).iterdir()]


async def begin(client: Client) -> None:
    await client.hello()
    client.send(ENVELOPE)
    assert [answer[:3] for answer in await answers(client, 2)] == ["250", "250"]


async def nothing_is_kept(server: Running, folder: Path) -> None:
    for writer in server.queue.writers:
        async with asyncio.timeout(PATIENCE):
            await writer.discarded.wait()
    assert await server.stored() == []
    assert files(folder) == []
    assert server.count(MessageAccepted) == server.count(DefectFound) == 0


# What the chunks bring -> what is stored
BODIES = {
    "empty": (b"", b""),
    "one line": (b"a\r\n", b"a\r\n"),
    "no line end": (b"a", b"a\r\n"),
    "dots": (b".a\r\n..b\r\n.\r\n", b".a\r\n..b\r\n.\r\n"),
    "what ends DATA": (b"a\r\n.\r\nQUIT\r\n.\r\n", b"a\r\n.\r\nQUIT\r\n.\r\n"),
    "what begins a chunk": (b"a\r\nBDAT 5 LAST\r\nRSET\r\n",) * 2,
    "every octet that may be": (bytes(range(1, 10)) + bytes(range(14, 256)) + b"\r\n",) * 2,
    "in a file": (LARGE, LARGE),
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_stored_octet_for_octet(size: int, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        for octets, _ in BODIES.values():
            each = max(size, len(octets) // 200)
            count = max(1, -(-len(octets) // each))
            client.send(ENVELOPE + chunks(octets, each))
            said = await answers(client, 2 + count)
            assert all(answer.startswith("250 2.") for answer in said), said
            assert said[-1].startswith("250 2.0.0 queued as ")
        assert [message.body for message in await server.stored()] == [stored for _, stored in BODIES.values()]


async def test_each_chunk_has_its_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await begin(client)
        client.send(chunk(b"Message-ID: <x@y>\r"))  # a line end in two chunks
        assert await client.reply() == "250 2.0.0 18 octets received"
        client.send(chunk(b"\nSubject: \xc3"))
        assert await client.reply() == "250 2.0.0 11 octets received"
        client.send(b"BDAT 1\r\n")
        client.send(b"\xa4")
        assert await client.reply() == "250 2.0.0 1 octets received"
        client.send(chunk(b"\r\n\r\n.\r\n") + chunk(b"", last=True) + b"NOOP\r\n")
        said = await answers(client, 3)
        (message,) = await server.stored()
        assert said == ["250 2.0.0 7 octets received", f"250 2.0.0 queued as {message.claim.id}", "250 2.0.0 OK"]
        assert message.body == "Message-ID: <x@y>\r\nSubject: ä\r\n\r\n.\r\n".encode()
        assert message.trace.startswith(b"Received: from client.example.test ([127.0.0.1]) by relay.example.test\r\n")
        assert (message.claim.eight_bit, message.claim.message_id) == (True, "x@y")
        assert message.claim.smtputf8 is SmtpUtf8.UNASKED


# What is wrong before the message -> the answers; each chunk is thrown away, and nothing in it is obeyed
TRAP = chunk(b"RSET\r\nQUIT\r\n.\r\nBDAT 3\r\n") + chunk(b"QUIT\r\n", last=True)
UNWANTED = {
    b"": ["503 5.5.1 Send MAIL first"],
    b"MAIL FROM:<a@example.test>\r\n": ["250 2.1.0 Sender OK", "503 5.5.1 No valid recipients"],
    b"MAIL FROM:<a>\r\n": ["553 5.1.7 the address has no @ and domain", "503 5.5.1 Send MAIL first"],
    ENVELOPE + chunk(b"a\n"): [
        "250 2.1.0 Sender OK",
        "250 2.1.5 Recipient OK",
        "554 5.6.0 Bare LF in the message (line 1, octet 2); lines must end with CRLF",
        "503 5.5.1 Send MAIL first",
    ],
}


async def test_chunks_without_a_message_are_thrown_away(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        for before, expected in UNWANTED.items():
            await client.hello()
            client.send(before + TRAP + b"NOOP\r\n")
            assert await answers(client, len(expected) + 2) == [*expected, expected[-1], "250 2.0.0 OK"]
        await nothing_is_kept(server, tmp_path)
        await begin(client)
        client.send(chunk(b"good\r\n", last=True))
        assert (await client.reply()).startswith("250 2.0.0 queued as ")


async def test_strangers_chunks_are_thrown_away(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted(loopback_trusted=False)) as server, await server.connect() as client:
        await client.hello()
        client.send(ENVELOPE + TRAP)
        assert [answer[:9] for answer in await answers(client, 4)] == [
            "250 2.1.0",
            "550 5.7.1",
            "503 5.5.1",
            "503 5.5.1",
        ]
        await nothing_is_kept(server, tmp_path)


@pytest.mark.parametrize("trusted", [True, False])
async def test_nobody_makes_us_read_for_ever(trusted: bool, tmp_path: Path) -> None:
    wanted = Wanted({"max_message_size": LIMIT, "tarpit": None}, loopback_trusted=trusted)
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await client.hello()
        client.send(chunk((b"QUIT\r\n" * LIMIT)[:LIMIT]))
        assert await client.reply() == "503 5.5.1 Send MAIL first"
        client.send(b"BDAT %d\r\n" % (LIMIT + 1))
        assert await client.reply() == "421 4.5.1 No message for a chunk of this size, closing connection"
        assert await client.closed()


async def test_what_a_stranger_sends_buys_no_time(tmp_path: Path) -> None:
    """A piece of a message gives patience back to those alone who may send one."""
    wanted = Wanted({"timeout": timedelta(seconds=0.5)}, loopback_trusted=False)
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await client.hello()
        client.send(b"BDAT 1000000\r\n")
        answer = asyncio.create_task(client.reply())
        while not answer.done():
            client.send(b"x" * 100)
            await asyncio.wait({answer}, timeout=0.05)
        assert await answer == "421 4.4.2 Timeout, closing connection"


async def test_before_tls_no_octet_of_a_chunk_becomes_a_command(tmp_path: Path) -> None:
    listener = ListenerSettings(name="x", listen=(LOOPBACK,), tls=ListenerTls.REQUIRED)
    wanted = Wanted({"listen": ()}, {"listener": (listener,)}, tls=lab_tls())
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await client.hello()
        client.send(ENVELOPE + chunk(b"QUIT\r\nSTARTTLS\r\n", last=True) + b"NOOP\r\n")
        said = [answer[:9] for answer in await answers(client, 4)]
        assert said == ["530 5.7.0", "530 5.7.0", "503 5.5.1", "250 2.0.0"]


async def test_something_behind_the_size(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await begin(client)
        client.send(b"BDAT 6 LATS\r\nQUIT\r\n" + b"BDAT 6 LAST now\r\nQUIT\r\n" + chunk(b"x\r\n", last=True))
        said = await answers(client, 3)
        assert said[:2] == ["501 5.5.4 Syntax: BDAT size [LAST]"] * 2
        assert said[2].startswith("250 2.0.0 queued as ")
        (message,) = await server.stored()
        assert message.body == b"x\r\n"


@pytest.mark.parametrize("argument", ["", "LAST", "-1", "+1", "0x10", "1.0", "1,0", "9" * 21, "１", "5LAST"])
async def test_a_size_that_cannot_be_read_ends_the_session(argument: str, tmp_path: Path) -> None:
    """What follows may be octets of the message, and none of them may become a command."""
    async with running(tmp_path) as server, await server.connect() as client:
        await begin(client)
        client.send(chunk(b"x\r\n") + f"BDAT {argument}\r\n".encode() + ENVELOPE + chunk(b"evil\r\n", last=True))
        assert await client.reply() == "250 2.0.0 3 octets received"
        assert await client.reply() == "501 5.5.4 Syntax: BDAT size [LAST]"
        assert await client.reply() == "421 4.5.2 Cannot tell where the message goes on, closing connection"
        assert await client.closed()
        await nothing_is_kept(server, tmp_path)


# Lines that are no BDAT for us, and perhaps one for the client, or for what stands before it -> the answer
LIKE_BDAT = {
    b"BDAT 6 LAST\n": "500 5.5.2 Command lines must end with <CR><LF>",
    b"BDAT 6\x0b\r\n": "500 5.5.2 Control character in command line",
    b"BDAT 6\0LAST\r\n": "500 5.5.2 Control character in command line",
    b"BDAT 6 LAST\r \r\n": "500 5.5.2 Control character in command line",
    b"\x01bdat 6\r\n": "500 5.5.2 Control character in command line",
    b"BDAT\t6 LAST\r\n": "500 5.5.2 Command not recognized",
    b"BDAT\xa06\r\n": "500 5.5.2 Command not recognized",
    b" BDAT 6\r\n": "500 5.5.2 Empty command line",
    b"BDAT 6" + b" " * 3000 + b"LAST\r\n": "500 5.5.2 Line too long",
    b"BDAT 6" + b" " * 13000 + b"LAST\r\n": "500 5.5.2 Line too long",
}


@pytest.mark.parametrize("line", LIKE_BDAT, ids=lambda line: repr(line[:16]))
async def test_a_line_that_may_have_been_bdat_ends_the_session(line: bytes, tmp_path: Path) -> None:
    """As a size that cannot be read does: its octets must not become commands."""
    async with running(tmp_path) as server, await server.connect() as client:
        await begin(client)
        client.send(line + b"RSET\r\n" + ENVELOPE + chunk(b"evil\r\n", last=True))
        assert await client.reply() == LIKE_BDAT[line]
        assert await client.reply() == "421 4.5.2 Cannot tell where the message goes on, closing connection"
        assert await client.closed()
        await nothing_is_kept(server, tmp_path)


@pytest.mark.parametrize("line", [b"BDATA 6", b"XBDAT 6", b"NOOP\tBDAT", b"BDAT6"])
async def test_other_unknown_lines_do_not(line: bytes, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        assert await client.ask(line) == "500 5.5.2 Command not recognized"
        assert await client.ask("NOOP") == "250 2.0.0 OK"


LIMIT = 200_000


async def test_size_limit_over_all_chunks(tmp_path: Path) -> None:
    half = b"x" * (LIMIT // 2 - 2) + b"\r\n"
    async with running(tmp_path, Wanted({"max_message_size": LIMIT})) as server, await server.connect() as client:
        await begin(client)
        client.send(chunk(half) + chunk(half, last=True))
        assert [answer[:9] for answer in await answers(client, 2)] == ["250 2.0.0"] * 2
        await begin(client)
        client.send(chunk(half) + chunk(half + b"QUIT\r\n") + chunk(b"QUIT\r\n") + chunk(b"QUIT\r\n", last=True))
        assert (await answers(client, 4))[1:] == ["552 5.3.4 Message too big", *["503 5.5.1 Send MAIL first"] * 2]
        await begin(client)
        client.send(chunk(LARGE, last=True))
        assert await client.reply() == "552 5.3.4 Message too big"
        assert len(await server.stored()) == 1
        assert len(files(tmp_path)) == 1
        assert server.count(SubmissionRefused) >= 2


async def test_an_endless_chunk_is_neither_kept_nor_obeyed(tmp_path: Path) -> None:
    wanted = Wanted({"max_message_size": LIMIT, "timeout": timedelta(seconds=0.3)})
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await begin(client)
        client.send(b"BDAT 99999999999999999999 LAST\r\n" + LARGE + b"\r\n.\r\nQUIT\r\n")
        assert await client.reply() == "421 4.4.2 Timeout, closing connection"
        assert await client.closed()
        await nothing_is_kept(server, tmp_path)


@pytest.mark.parametrize(
    "sent", [b"BDAT 10\r\nabc", b"BDAT 3\r\nabc", b"BDAT 3\r\nabcBDAT 5 LA", b"BDAT 10 LAST\r\nabc"]
)
@pytest.mark.parametrize("goodbye", [b"", b"QUIT\r\n"], ids=["gone", "QUIT"])
async def test_a_client_that_leaves_in_the_middle(sent: bytes, goodbye: bytes, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        async with await server.connect() as client:
            await begin(client)
            client.send(sent + goodbye)
            await client.writer.drain()
        await nothing_is_kept(server, tmp_path)
        cut_short = server.count(SubmissionRefused)
        assert cut_short == sent.startswith(b"BDAT 10")  # in the middle of a chunk; between two it may be on purpose


@pytest.mark.parametrize("way", ["RSET", "EHLO again", "HELO again"])
async def test_a_message_that_is_given_up_in_the_middle_is_not_kept(way: str, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await begin(client)
        client.send(chunk(LARGE))
        assert await client.reply() == f"250 2.0.0 {len(LARGE)} octets received"
        assert len(files(tmp_path)) == 1
        assert (await client.ask(way)).startswith("250")
        await nothing_is_kept(server, tmp_path)


@pytest.mark.parametrize("body", [b"x\r\n", LARGE], ids=["in memory", "in a file"])
async def test_a_client_that_leaves_during_the_commit(body: bytes, tmp_path: Path) -> None:
    """Once the last octet is in, the message is stored whole, and once."""
    async with running(tmp_path) as server:
        server.queue.may_put.clear()
        async with await server.connect() as client:
            await begin(client)
            client.send(chunk(body[:1]) + chunk(body[1:], last=True))
            async with asyncio.timeout(PATIENCE):
                await server.queue.putting.wait()
            client.writer.transport.abort()
        async with await server.connect() as other:
            assert (await other.ask("NOOP")).startswith("250 ")
        server.queue.may_put.set()
        await server.event(MessageAccepted)
        (message,) = await server.stored()
        assert message.body == body
        assert server.count(MessageAccepted) == 1
        assert server.count(DefectFound) == 0
        assert len(files(tmp_path)) == (body == LARGE)


async def test_store_failures(tmp_path: Path) -> None:
    full = "452 4.3.1 Queue has no room, try again later"
    async with running(tmp_path) as server, await server.connect() as client:
        server.queue.write_error = StoreUnavailable("secret", full=True)
        await begin(client)
        client.send(chunk(b"a\r\n\r\n") + chunk(b"QUIT\r\n") + chunk(b"QUIT\r\n", last=True))
        assert await answers(client, 3) == [full, *["503 5.5.1 Send MAIL first"] * 2]
        server.queue.write_error, server.queue.put_error = None, StoreUnavailable("secret", full=True)
        await begin(client)
        client.send(chunk(b"a\r\n\r\n") + chunk(b"b\r\n", last=True) + chunk(b"QUIT\r\n", last=True))
        assert await answers(client, 3) == ["250 2.0.0 5 octets received", full, "503 5.5.1 Send MAIL first"]
        await nothing_is_kept(server, tmp_path)
        server.queue.put_error = None
        await begin(client)
        client.send(chunk(b"again\r\n", last=True))
        assert (await client.reply()).startswith("250 2.0.0 queued as ")


async def test_a_defect_ends_the_session(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        server.queue.new_body_error = RuntimeError("secret")
        await begin(client)
        client.send(chunk(ENVELOPE + b"QUIT\r\n", last=True))
        assert await client.reply() == "451 4.3.0 Local error, try again later"
        assert await client.closed()
        assert await server.event(DefectFound) == DefectFound("submission, BDAT", "RuntimeError('secret')")


async def test_headers_are_made_ready_as_with_data(tmp_path: Path) -> None:
    message = b"Subject: x\r\nBcc: secret@example.test,\r\n other@example.test\r\n\r\n.\r\nbody\r\n"
    wanted = Wanted(headers=Headers.FIX)
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await client.deliver(message.replace(b"\r\n.", b"\r\n..") + b".\r\n", "b@example.test")
        for size in (1, 20, 1000):
            await client.hello()
            count = -(-len(message) // size)
            client.send(b"MAIL FROM:<sender@example.test>\r\nRCPT TO:<b@example.test>\r\n" + chunks(message, size))
            await answers(client, 2 + count)
        bodies = [one.body.replace(str(one.claim.id).encode(), b"ID") for one in await server.stored()]
        assert (
            bodies
            == [
                b"Message-ID: <ID@relay.example.test>\r\nDate: Wed, 04 Mar 2026 05:06:07 +0000\r\n"
                b"From: sender@example.test\r\nSubject: x\r\n\r\n.\r\nbody\r\n"
            ]
            * 4
        )


async def test_many_small_chunks_at_once(tmp_path: Path) -> None:
    """They come faster than they are looked at; taking one off must not move all the others."""
    async with running(tmp_path) as server, await server.connect() as client:
        await begin(client)
        client.send(chunk(b"x") * 20_000 + chunk(b"\r\n", last=True))
        for _ in range(20_000):
            assert await client.reply() == "250 2.0.0 1 octets received"
        assert (await client.reply()).startswith("250 2.0.0 queued as ")
        (message,) = await server.stored()
        assert message.body == b"x" * 20_000 + b"\r\n"
