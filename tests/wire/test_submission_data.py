"""DATA over real sockets into the real queue: every octet as it came, and 250 only for what is on disk."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest
from submission_peer import HOSTNAME, NOW, PATIENCE, Client, Running, Wanted, running

from relay.events import DefectFound, MessageAccepted, StoreFailed, SubmissionRefused
from relay.mail.message import FileBody, InlineBody, SmtpUtf8
from relay.queue.store import StoreUnavailable
from relay.submission.content import MAX_HOPS

pytestmark = pytest.mark.asyncio

END = b".\r\n"
LARGE = b"".join(b"line %06d of a message that needs a file\r\n" % number for number in range(8000))
SECRET = "secret /var/lib/relay"  # what an exception might tell a client


def files(folder: Path) -> list[Path]:
    """The bodies that lie in files of the queue."""
    return [path for place in ("incoming", "bodies") for path in (folder / "queue" / place).iterdir()]


async def in_time(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()


def reset(client: Client) -> None:
    """Go without a goodbye: the server hears of it at once, whatever it is doing."""
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


async def still_answers(client: Client) -> None:
    assert (await client.ask("NOOP")).startswith("250 2.0.0 ")


# What goes out after DATA, without the final dot -> what must be stored
BODIES: dict[str, tuple[bytes, bytes]] = {
    "empty": (b"", b""),
    "one empty line": (b"\r\n", b"\r\n"),
    "one line": (b"a\r\n", b"a\r\n"),
    "header and body": (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x\r\n\r\nbody\r\n"),
    "a dot alone": (b"..\r\n", b".\r\n"),
    "dots at the start": (b"...a\r\n..b\r\n.c\r\n", b"..a\r\n.b\r\nc\r\n"),
    "dots elsewhere": (b"a.\r\nb..c\r\n", b"a.\r\nb..c\r\n"),
    "blank lines at both ends": (b"\r\n\r\na\r\n\r\n\r\n", b"\r\n\r\na\r\n\r\n\r\n"),
    "blanks at line ends": (b"a \r\n \t\r\n", b"a \r\n \t\r\n"),
    "every octet that may be": (bytes(range(1, 10)) + bytes(range(14, 256)) + b"\r\n",) * 2,
    "Latin-1": (b"Subject: \xe4\r\n\r\n\xf6\xfc\xdf\r\n",) * 2,
    "UTF-8": ("Subject: ä\r\n\r\n日本語\r\n".encode(),) * 2,
    "a line of 5000 octets": (b"x" * 5000 + b"\r\n",) * 2,
    "looks like commands": (b"QUIT\r\nRSET\r\n",) * 2,
    "looks like our own header": (b"Received: from x\r\n\tby y\r\n",) * 2,
    "just in memory": (b"y" * 65000 + b"\r\n",) * 2,
    "in a file": (LARGE,) * 2,
    "in a file, with dots": (b"..\r\n" * 50000, b".\r\n" * 50000),
}


@pytest.mark.parametrize("size", [1 << 20, 1000, 61])
async def test_stored_octet_for_octet(size: int, tmp_path: Path) -> None:
    """All through one session, which must stay in step; in segments of several sizes."""
    async with running(tmp_path) as server, await server.connect() as client:
        for wire, _ in BODIES.values():
            await client.begin()
            octets = wire + END
            step = max(size, len(octets) // 500)
            for start in range(0, len(octets), step):
                client.send(octets[start : start + step])
                await client.writer.drain()
            assert (await client.reply()).startswith("250 2.0.0 queued as ")
        messages = await server.stored()
        assert [message.body for message in messages] == [body for _, body in BODIES.values()]
        assert [len(message.claims) for message in messages] == [1] * len(BODIES)


async def test_one_received_line_in_front(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        answer = await client.deliver(b"Subject: x\r\n\r\n.\r\n")
        (message,) = await server.stored()
        assert answer == f"250 2.0.0 queued as {message.claim.id}"
        assert message.trace == (
            b"Received: from client.example.test ([127.0.0.1]) by relay.example.test\r\n"
            b"\twith ESMTP id %s; Wed, 04 Mar 2026 05:06:07 +0000\r\n" % str(message.claim.id).encode()
        )
        assert message.body == b"Subject: x\r\n\r\n"
        assert message.claim.arrived == NOW
        assert message.recipients == ("rcpt@example.test",)
        assert str(message.claim.sender) == "sender@example.test"


async def test_what_is_noted_with_the_message(tmp_path: Path) -> None:
    """Options of MAIL, message -> needs 8BITMIME, needs SMTPUTF8, Message-ID."""
    cases = [
        (" BODY=8BITMIME SMTPUTF8", b"Message-ID: <a@b>\r\n\r\nx\r\n", (False, SmtpUtf8.ASKED, "a@b")),
        ("", b"Subject: x\r\n\r\n\xe4\r\n", (True, SmtpUtf8.UNASKED, None)),
        (" SMTPUTF8", b"Subject: x\r\n\r\n\xe4\r\n", (True, SmtpUtf8.ASKED, None)),
        (" SMTPUTF8", b"Subject: \xc3\xa4\r\n\r\nx\r\n", (True, SmtpUtf8.NEEDED, None)),
        ("", b"Subject: \xc3\xa4\r\n\r\nx\r\n", (True, SmtpUtf8.UNASKED, None)),
    ]
    async with running(tmp_path) as server, await server.connect() as client:
        for options, message, _ in cases:
            await client.deliver(message + END, options=options)
        seen = [(one.claim.eight_bit, one.claim.smtputf8, one.claim.message_id) for one in await server.stored()]
        assert seen == [expected for _, _, expected in cases]


async def test_the_event_of_a_message(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.deliver(b"Message-ID: <a@b>\r\n\r\nx\r\n.\r\n", "b@example.test", "c@example.test")
        (message,) = await server.stored()
        assert await server.event(MessageAccepted) == MessageAccepted(
            id=str(message.claim.id),
            message_id="a@b",
            sender="sender@example.test",
            recipients=2,
            size=len(message.trace + message.body),
            client="127.0.0.1",
            login=None,
            listener="submission",
            allowed_by="trusted-networks",
        )


async def test_large_messages_go_to_a_file_in_pieces(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        octets = LARGE * 12
        await client.deliver(octets + END)
        await client.deliver(b"small\r\n.\r\n")
        large, small = await server.stored()
        assert isinstance(large.claim.body, FileBody)
        assert isinstance(small.claim.body, InlineBody)
        assert large.body == octets
        assert [path.name for path in files(tmp_path)] == [str(large.claim.id)]
        # Never the whole message in memory: what is read ahead, behind a header section that is held back.
        assert server.queue.writers[0].largest < 768 << 10 < len(octets)


LIMIT = 200_000


async def test_size_limit(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_message_size": LIMIT})) as server, await server.connect() as client:
        exact = b"x" * (LIMIT - 2) + b"\r\n"
        assert (await client.deliver(exact + END)).startswith("250 2.0.0 ")
        for over in (b"x" + exact, b"y\r\n" * LIMIT, LARGE * 4):
            assert await client.deliver(over + END) == "552 5.3.4 Message too big"
            await still_answers(client)
        # Stuffed dots are no part of the message.
        assert (await client.deliver(b"..\r\n" * (LIMIT // 3) + END)).startswith("250 2.0.0 ")
        assert [message.body for message in await server.stored()] == [exact, b".\r\n" * (LIMIT // 3)]
        assert len(files(tmp_path)) == 2
        refusal = await server.event(SubmissionRefused)
        assert refusal == SubmissionRefused(
            "127.0.0.1", "552 5.3.4 Message too big", "message from <sender@example.test>", "submission"
        )


@pytest.mark.parametrize("bad", [LARGE * 2, b"x\ny\r\n" + LARGE], ids=["too big", "bare LF"])
async def test_what_will_be_refused_is_thrown_away_while_the_rest_still_comes(bad: bytes, tmp_path: Path) -> None:
    """Otherwise a client could fill the disk with one message."""
    async with running(tmp_path, Wanted({"max_message_size": 400_000})) as server, await server.connect() as client:
        await client.begin()
        client.send(bad)
        (writer,) = server.queue.writers
        await in_time(writer.discarded)
        client.send(LARGE * 4)
        await client.writer.drain()
        assert files(tmp_path) == []
        client.send(END)
        assert (await client.reply())[:3] in ("552", "554")
        assert files(tmp_path) == []
        assert await server.stored() == []


FAULTS = {
    b"a\r\nb\nc\r\n": "554 5.6.0 Bare LF in the message (line 2, octet 2); lines must end with CRLF",
    b"a\r\nb\rc\r\n": "554 5.6.0 Bare CR in the message (line 2, octet 2); lines must end with CRLF",
    b"\0\r\n": "554 5.6.0 NUL in the message (line 1, octet 1); lines must end with CRLF",
    LARGE + b"x\n.\n": "554 5.6.0 Bare LF in the message (line 8001, octet 2); lines must end with CRLF",
    b"x\n.\nMAIL FROM:<evil@example.test>\nRCPT TO:<victim@example.test>\nDATA\ny\n.\nQUIT\n" + LARGE: (
        "554 5.6.0 Bare LF in the message (line 1, octet 2); lines must end with CRLF"
    ),
    b"x\r\n.\rMAIL FROM:<evil@example.test>\r\n": (
        "554 5.6.0 Bare CR in the message (line 2, octet 1); lines must end with CRLF"
    ),
}


async def test_bare_cr_lf_and_nul_are_refused_behind_the_true_end(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        for message, expected in FAULTS.items():
            assert await client.deliver(message + (b"" if message.endswith(b"\r\n") else b"\r\n") + END) == expected
            await still_answers(client)
        assert await server.stored() == []
        assert files(tmp_path) == []
        assert (await client.deliver(b"good\r\n.\r\n")).startswith("250 ")
        assert [message.body for message in await server.stored()] == [b"good\r\n"]


async def test_too_many_hops(tmp_path: Path) -> None:
    hop = b"Received: from a by b\r\n"
    async with running(tmp_path) as server, await server.connect() as client:
        assert (await client.deliver(hop * MAX_HOPS + b"\r\n" + hop + END)).startswith("250 ")
        for body in (b"x\r\n", LARGE):
            answer = await client.deliver(hop * (MAX_HOPS + 1) + b"\r\n" + body + END)
            assert answer == "554 5.4.6 Too many Received lines: mail loop"
            await still_answers(client)
        assert len(await server.stored()) == 1
        assert files(tmp_path) == []


def transaction(name: str) -> bytes:
    return b"MAIL FROM:<%s@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n" % name.encode()


async def test_pipelined_commands_get_one_segment(tmp_path: Path) -> None:
    """RFC 2920 section 3.2."""
    async with running(tmp_path) as server, await server.connect() as client:
        await client.hello()
        before = client.segments
        client.send(transaction("a"))
        assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
        assert client.segments == before + 1
        # The next commands come in one piece with the end of the message.
        client.send(
            b"one\r\n.\r\n" + transaction("b") + b"two\r\n.\r\nRSET\r\n" + transaction("c") + b"three\r\n.\r\nQUIT\r\n"
        )
        answers = [(await client.reply())[:3] for _ in range(11)]
        assert answers == ["250", "250", "250", "354", "250", "250", "250", "250", "354", "250", "221"]
        assert await client.closed()
        messages = await server.stored()
        assert [(str(one.claim.sender), one.body) for one in messages] == [
            ("a@example.test", b"one\r\n"),
            ("b@example.test", b"two\r\n"),
            ("c@example.test", b"three\r\n"),
        ]


async def test_a_whole_session_in_one_segment(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect(greeted=False) as client:
        client.send(b"EHLO x\r\n" + transaction("a") + b"one\r\n.\r\nMAIL FROM:<>\r\nDATA\r\nQUIT\r\n")
        assert " ".join([(await client.reply())[:3] for _ in range(9)]) == "220 250 250 250 354 250 250 503 221"
        assert [message.body for message in await server.stored()] == [b"one\r\n"]


async def test_250_comes_only_after_the_put(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client, await server.connect() as other:
        await client.begin()
        server.queue.may_put.clear()
        client.send(b"x\r\n.\r\nNOOP\r\n")
        await in_time(server.queue.putting)
        for _ in range(3):  # time for a 250 that comes too soon: others are served meanwhile
            await still_answers(other)
        answer = asyncio.create_task(client.reply())
        await still_answers(other)
        assert not answer.done()
        assert server.count(MessageAccepted) == 0
        server.queue.may_put.set()
        assert (await answer).startswith("250 2.0.0 queued as ")
        assert (await client.reply()) == "250 2.0.0 OK"
        assert len(await server.stored()) == 1


@pytest.mark.parametrize("body", [b"x\r\n", LARGE], ids=["in memory", "in a file"])
@pytest.mark.parametrize("politely", [True, False], ids=["close", "reset"])
async def test_client_hangs_up_during_the_commit(body: bytes, politely: bool, tmp_path: Path) -> None:
    """Once the dot is in, the message is stored whole, and once."""
    async with running(tmp_path) as server:
        server.queue.may_put.clear()
        async with await server.connect() as client:
            await client.begin()
            client.send(body + END)
            await in_time(server.queue.putting)
            if not politely:
                reset(client)
        async with await server.connect() as other:
            await still_answers(other)
        server.queue.may_put.set()
        await server.event(MessageAccepted)
        (message,) = await server.stored()
        assert message.body == body
        assert server.count(MessageAccepted) == 1
        assert server.count(DefectFound) == 0
        assert len(files(tmp_path)) == (body == LARGE)


@pytest.mark.parametrize("body", [b"x\r\n.\r", LARGE + b".\r"], ids=["in memory", "in a file"])
@pytest.mark.parametrize("politely", [True, False], ids=["close", "reset"])
async def test_client_hangs_up_in_the_middle(body: bytes, politely: bool, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        async with await server.connect() as client:
            await client.begin()
            client.send(body)
            await client.writer.drain()
            if not politely:
                reset(client)
        (writer,) = server.queue.writers
        await in_time(writer.discarded)
        assert await server.stored() == []
        assert files(tmp_path) == []
        assert server.count(MessageAccepted) == server.count(DefectFound) == 0
        about = "message from <sender@example.test>, without its end"  # a printer that ends with LF . LF is found so
        assert await server.event(SubmissionRefused) == SubmissionRefused(
            "127.0.0.1", "connection closed", about, "submission"
        )


FAILURES = [
    (StoreUnavailable(SECRET), "451 4.3.0 Queue not available, try again later", StoreFailed(SECRET)),
    (StoreUnavailable(SECRET, full=True), "452 4.3.1 Queue has no room, try again later", StoreFailed(SECRET)),
    (
        RuntimeError(SECRET),
        "451 4.3.0 Local error, try again later",
        DefectFound("submission", f"RuntimeError({SECRET!r})"),
    ),
]


@pytest.mark.parametrize("where", ["write_error", "put_error"])
@pytest.mark.parametrize(("error", "answer", "event"), FAILURES, ids=["unavailable", "full", "defect"])
async def test_store_failures(
    where: str, error: Exception, answer: str, event: StoreFailed | DefectFound, tmp_path: Path
) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        setattr(server.queue, where, error)
        for body in (b"x\r\n", LARGE):
            assert await client.deliver(body + END) == answer  # behind the dot, word for word: nothing of the error
            await still_answers(client)
        assert await server.stored() == []
        assert files(tmp_path) == []
        assert [one for one in server.events if isinstance(one, StoreFailed | DefectFound)] == [event, event]
        setattr(server.queue, where, None)
        assert (await client.deliver(b"again\r\n.\r\n")).startswith("250 2.0.0 ")
        assert [message.body for message in await server.stored()] == [b"again\r\n"]


async def test_a_defect_before_the_message(tmp_path: Path) -> None:
    """The client has not heard 354, or has half sent: what follows must not be taken for commands."""
    async with running(tmp_path) as server, await server.connect() as client:
        server.queue.new_body_error = RuntimeError(SECRET)
        await client.hello()
        client.send(transaction("a") + transaction("smuggled") + b"x\r\n.\r\n")
        assert [(await client.reply())[:3] for _ in range(2)] == ["250", "250"]
        assert await client.reply() == "451 4.3.0 Local error, try again later"
        assert await client.closed()
        assert await server.event(DefectFound) == DefectFound("submission, DATA", f"RuntimeError({SECRET!r})")
        server.queue.new_body_error = None
        async with await server.connect() as other:
            assert (await other.deliver(b"x\r\n.\r\n")).startswith("250 ")
        assert len(await server.stored()) == 1


async def send_slowly(server: Running, name: bytes, turns: asyncio.Barrier) -> None:
    """A message, a piece at a time, in turn with other clients."""
    async with await server.connect() as client:
        await client.begin(f"{name.decode()}@example.test")
        for number in range(100):
            client.send(name * 2000 + b" %d\r\n" % number)
            await client.writer.drain()
            await turns.wait()
        client.send(END)
        assert (await client.reply()).startswith("250 2.0.0 ")


async def test_clients_do_not_disturb_each_other(tmp_path: Path) -> None:
    """All connections share the buffer that octets land in."""
    names = [b"a", b"b", b"c", b"d"]
    async with running(tmp_path) as server, await server.connect() as leaving:
        await leaving.begin()
        leaving.send(b"z" * 70000)
        turns = asyncio.Barrier(len(names))
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(send_slowly(server, name, turns))
            reset(leaving)
        stored = {message.recipients: message.body for message in await server.stored()}
        assert stored == {
            (f"{name.decode()}@example.test",): b"".join(name * 2000 + b" %d\r\n" % number for number in range(100))
            for name in names
        }


async def test_hostname_in_greeting_and_trace(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect(greeted=False) as client:
        assert await client.reply() == f"220 {HOSTNAME} ESMTP Relay"
        assert await client.ask("HELO [127.0.0.1]") == f"250 {HOSTNAME}"
        client.send(transaction("a") + b"x\r\n.\r\n")
        assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        (message,) = await server.stored()
        assert message.trace.startswith(
            b"Received: from [127.0.0.1] ([127.0.0.1]) by relay.example.test with SMTP\r\n\tid "
        )
