"""Clients that may not send: how little time, memory and attention they get, and that others are not slowed."""

from __future__ import annotations

import asyncio
import base64
import socket
from datetime import timedelta
from pathlib import Path

import argon2
import pytest
from submission_peer import LOOPBACK, PATIENCE, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import ConnectionRefused, MessageAccepted, SubmissionRefused
from relay.submission.users import Users
from relay.tls import shrink_tls_buffers

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

SERVER_TLS = lab_tls()
TLS = client_tls()
TIMED_OUT = "421 4.4.2 Timeout, closing connection"
DENIED = "550 5.7.1 Relaying denied"
STOPPING = "421 4.3.2 Service is shutting down, try again later"
TOO_MANY = "421 4.7.0 Too many connections from your address, try again later"
UNIT = 0.03  # of the tarpit, in seconds
CLOCK = 0.002  # that of uvloop goes in milliseconds
CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def strangers(folder: Path | None = None, **settings: object) -> Wanted:
    """Nobody is trusted for an address; alice may log in, over TLS from the first octet at the second listener."""
    users = None
    if folder is not None:
        (folder / "users").write_text(f"alice:{CHEAP.hash('secret')}\n")
        users = Users.load(folder / "users")
    options = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,), **settings}
    return Wanted(options, tls=SERVER_TLS, users=users, loopback_trusted=False)


def login(password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0alice\0{password}".encode()).decode()


async def time_of(client: Client, command: str, answer: str) -> float:
    """Seconds until the answer."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert (await client.ask(command)).startswith(answer)
    return loop.time() - begun


# The tarpit


async def test_each_mistake_makes_a_stranger_wait_longer(tmp_path: Path) -> None:
    async with running(tmp_path, strangers(tarpit=timedelta(seconds=UNIT))) as server, await server.connect() as client:
        await client.hello()
        waits = [await time_of(client, "FROB", "500 ") for _ in range(3)]
        await client.ask("MAIL FROM:<a@example.test>")
        waits.append(await time_of(client, "RCPT TO:<b@example.org>", DENIED))
        for number, wait in enumerate(waits[1:], 2):
            assert number * UNIT - CLOCK <= wait


async def test_all_that_a_stranger_is_refused_is_a_mistake(tmp_path: Path) -> None:
    """Each has a line in the log."""
    async with running(tmp_path, strangers()) as server, await server.connect() as client:
        client.send(b"EHLO x\r\n" + b"MAIL FROM:<x>\r\n" * 100)
        assert [(await client.reply())[:9] for _ in range(21)][1:] == ["553 5.1.7"] * 19 + ["421 4.7.0"]
        assert await client.closed()
        assert server.count(SubmissionRefused) == 21
        assert not [one for one in server.events if isinstance(one, SubmissionRefused) and len(one.about) > 1000]


async def test_it_ends_at_ten_units(tmp_path: Path) -> None:
    wanted = strangers(tarpit=timedelta(milliseconds=2))
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(19):
            await client.ask("FROB")
        least = 0.002 * (sum(range(2, 11)) + 9 * 10)
        assert least - 19 * CLOCK <= loop.time() - begun


async def test_a_wrong_password_is_a_mistake_and_a_right_one_ends_it(tmp_path: Path) -> None:
    wanted = strangers(tmp_path, tarpit=timedelta(seconds=UNIT))
    async with running(tmp_path, wanted) as server, await server.connect(1, tls=TLS) as client:
        await client.hello()
        await client.ask(login("wrong"))
        assert await time_of(client, login("wrong"), "535 ") >= 2 * UNIT - CLOCK
        await client.ask(login("secret"))
        waits = [await time_of(client, "FROB", "500 ") for _ in range(5)]
        assert sum(waits) < (3 + 4 + 5 + 6 + 7) * UNIT


async def test_clients_that_may_send_are_not_slowed(tmp_path: Path) -> None:
    wanted = Wanted({"tarpit": timedelta(seconds=PATIENCE)})
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        for _ in range(10):
            assert (await client.ask("FROB")).startswith("500 ")


async def test_the_first_mistake_and_what_is_none_do_not_wait(tmp_path: Path) -> None:
    wanted = strangers(tarpit=timedelta(seconds=10 * PATIENCE))
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        assert (await client.ask("FROB")).startswith("500 ")
        for _ in range(20):
            assert (await client.ask("NOOP")).startswith("250 ")


async def in_the_tarpit(server: Running, client: Client) -> None:
    """The client has made two mistakes, and the second answer does not come."""
    await client.hello()
    await client.ask("FROB")
    client.send(b"FROB\r\n")
    async with await server.connect():  # greeted: the server has seen what came before
        pass


async def test_who_leaves_in_the_tarpit_leaves_nothing(tmp_path: Path) -> None:
    wanted = strangers(tarpit=timedelta(seconds=PATIENCE), max_connections=4)
    async with running(tmp_path, wanted) as server:
        for _ in range(2):
            for half in (False, True):
                client = await server.connect()
                await in_the_tarpit(server, client)
                if half:
                    client.writer.write_eof()
                    assert (await client.reply()).startswith("500 ")
                    assert await client.closed()
                else:
                    client.writer.transport.abort()
                client.writer.close()


async def test_who_does_not_wait_in_the_tarpit_is_not_heard(tmp_path: Path) -> None:
    """Twenty mistakes of a client that is gone at once would be twenty lines in the log, and no time of its own."""
    async with running(tmp_path, strangers(tarpit=timedelta(seconds=PATIENCE))) as server:
        client = await server.connect()
        client.send(b"EHLO x\r\nMAIL FROM:<a@example.test>\r\n" + b"RCPT TO:<b@example.test>\r\n" * 10)
        client.writer.write_eof()
        assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "550", "550"]
        assert await client.closed()
        client.writer.close()
        assert server.count(SubmissionRefused) == 2


async def test_the_stop_does_not_wait_for_the_tarpit(tmp_path: Path) -> None:
    wanted = strangers(tarpit=timedelta(seconds=PATIENCE))
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await in_the_tarpit(server, client)
        async with asyncio.timeout(PATIENCE / 2):
            await server.server.stop(timedelta(seconds=PATIENCE))
        assert (await client.reply()).startswith("500 ")
        assert await client.reply() == STOPPING


@pytest.mark.usefixtures("asyncio_buffers")
@pytest.mark.parametrize("number", [0, 1], ids=["clear text", "TLS"])
async def test_what_is_sent_meanwhile_is_not_read(number: int, tmp_path: Path) -> None:
    shrink_tls_buffers()  # as the service does
    wanted = strangers(tarpit=timedelta(seconds=PATIENCE))
    async with (
        running(tmp_path, wanted) as server,
        await server.connect(number, tls=TLS if number else None) as client,
    ):
        await in_the_tarpit(server, client)
        client.send(b"NOOP\r\n" * (1 << 18))
        for _ in range(100):
            async with await server.connect(greeted=False):
                pass
        assert 4096 < max(server.unread) < 8192
        assert max(server.undecrypted) < 64 * 1024
        client.writer.transport.abort()


# Time


async def test_a_stranger_has_one_timeout_for_everything(tmp_path: Path) -> None:
    async with (
        running(tmp_path, strangers(timeout=timedelta(milliseconds=300))) as server,
        await server.connect() as client,
    ):
        loop = asyncio.get_running_loop()
        begun = loop.time()
        answer = await client.hello()
        while answer.startswith("250"):
            await asyncio.sleep(0.03)
            answer = await client.ask("NOOP")
        assert answer == TIMED_OUT
        assert loop.time() - begun < PATIENCE / 2


async def test_who_has_logged_in_has_all_the_time_again(tmp_path: Path) -> None:
    """As often as it says something."""
    wanted = strangers(tmp_path, timeout=timedelta(milliseconds=500))
    async with running(tmp_path, wanted) as server, await server.connect(1, tls=TLS) as client:
        await client.hello()
        assert (await client.ask(login("secret"))).startswith("235 ")
        for _ in range(8):
            await asyncio.sleep(0.08)
            assert (await client.ask("NOOP")).startswith("250 ")


@pytest.mark.parametrize("where", ["command", "message"])
async def test_an_octet_now_and_then_is_not_enough(where: str, tmp_path: Path) -> None:
    wanted = Wanted({"timeout": timedelta(milliseconds=300)})
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        if where == "message":
            await client.begin()
        cut = asyncio.create_task(client.reply())
        while not cut.done():  # as often as in 60 ms: less than the timeout, and far less than 100 octets in a second
            client.send(b"x")
            await asyncio.wait([cut], timeout=0.06)
        assert await cut == TIMED_OUT
        assert server.count(MessageAccepted) == 0


# Commands and memory


async def test_commands_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path, strangers()) as server, await server.connect() as client:
        client.send(b"EHLO x\r\n" + b"MAIL FROM:<a@example.test>\r\nRSET\r\nNOOP\r\n" * 80)
        answers = [await client.reply() for _ in range(201)]
        assert {answer[:3] for answer in answers[:200]} == {"250"}
        assert answers[200] == "421 4.7.0 Too many commands without a login, closing connection"
        assert await client.closed()


async def test_a_chunk_of_a_stranger_is_not_read_for_ever(tmp_path: Path) -> None:
    """RFC 3030 section 2: the octets of a chunk that is refused have to be read. Of a stranger not all of them."""
    async with running(tmp_path, strangers()) as server, await server.connect() as client:
        await client.hello()
        client.send(b"BDAT 41943040 LAST\r\n" + b"x" * (3 << 20))
        answer = await client.reply()
        assert answer in ("421 4.7.0 Too many octets without a login, closing connection", "")  # or it was cut at once
        assert await client.closed()
        assert server.unread == []


async def test_a_slow_chunk_of_a_stranger_does_not_buy_time(tmp_path: Path) -> None:
    wanted = strangers(timeout=timedelta(milliseconds=300))
    async with running(tmp_path, wanted) as server, await server.connect() as client:
        await client.hello()
        client.send(b"BDAT 1000000 LAST\r\n")
        cut = asyncio.create_task(client.reply())
        while not cut.done():
            client.send(b"x" * 200)
            await asyncio.wait([cut], timeout=0.05)
        assert await cut == TIMED_OUT


async def test_commands_of_others_are_not(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(b"NOOP\r\n" * 1000)
        for _ in range(1000):
            assert (await client.reply()).startswith("250 ")


@pytest.mark.parametrize("number", [0, 1], ids=["clear text", "TLS"])
async def test_a_line_without_end_is_not_kept(number: int, tmp_path: Path) -> None:
    async with (
        running(tmp_path, strangers()) as server,
        await server.connect(number, tls=TLS if number else None) as client,
    ):
        client.send(b"AUTH PLAIN " + b"x" * 12000)  # as long as one may be, and not yet at its end
        async with asyncio.timeout(PATIENCE):
            while max(server.unread) < 12000:
                await asyncio.sleep(0)
        assert max(server.unread) < 20_000
        client.send(b"x" * 20_000)
        assert (await client.reply()).startswith("500 5.5.2 ")
        assert await client.closed()


async def test_who_does_not_read_is_not_answered_for_ever(tmp_path: Path) -> None:
    """Whoever it is: what the kernel does not take is not kept either."""
    async with running(tmp_path) as server:
        address = server.addresses[0]
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as little as the kernel allows
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (address.host, address.port))
        sending = asyncio.create_task(loop.sock_sendall(sock, b"EHLO x\r\n" * 60_000))
        async with asyncio.timeout(PATIENCE):
            while not any(server.unsent):
                await asyncio.sleep(0)
        seen = set()
        async with await server.connect() as other:
            for _ in range(100):  # as many rounds of the event loop, in which more could be answered
                await other.ask("NOOP")
                seen.add(max(server.unsent))
        assert 0 < max(seen) < 32 * 1024
        sending.cancel()
        sock.close()


# Crowds


async def test_clients_from_one_address(tmp_path: Path) -> None:
    async with running(tmp_path, strangers(max_connections_per_address=2)) as server:
        async with await server.connect() as first, await server.connect(1, tls=TLS):
            for number in (0, 1):
                async with await server.connect(number, greeted=False) as third:
                    assert await third.reply() == ("" if number else TOO_MANY)
            await first.ask("QUIT")
            assert await first.closed()
            async with await server.connect():
                pass
        event = await server.event(ConnectionRefused)
        assert isinstance(event, ConnectionRefused)
        assert (event.client, event.listener, event.more) == ("127.0.0.1", "submission", 0)


async def test_clients_in_a_minute(tmp_path: Path) -> None:
    async with running(tmp_path, strangers(connections_per_minute=3)) as server:
        for _ in range(3):
            async with await server.connect() as client:
                await client.ask("QUIT")
        for _ in range(30):
            async with await server.connect(greeted=False) as client:
                assert (await client.reply()).startswith("421 4.7.0 Too many new connections from your address")
        assert server.count(ConnectionRefused) == 20  # the log is not theirs


async def test_trusted_clients_are_not_counted_by_address(tmp_path: Path) -> None:
    limits = {"max_connections_per_address": 1, "connections_per_minute": 1}
    async with (
        running(tmp_path, Wanted(limits)) as server,
        await server.connect(),
        await server.connect(),
        await server.connect() as client,
    ):
        assert (await client.hello()).startswith("250-")
