"""Where patience ends: silence, crowds, mistakes, long lines, and the end of the service. And what we rely on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta
from pathlib import Path

import argon2
import pytest
from aiosmtpd.smtp import SMTP
from submission_peer import LOOPBACK, PATIENCE, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import ConnectionRefused, MessageAccepted
from relay.submission import passwords
from relay.submission.session import Session
from relay.submission.stream import Stream
from relay.submission.users import Users

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

SERVER_TLS = lab_tls()
TLS = client_tls()
SHORT = timedelta(milliseconds=400)  # much more than a busy machine takes for an answer
LARGE = b"line of a message that needs a file\r\n" * 3000
TIMED_OUT = "421 4.4.2 Timeout, closing connection"
STOPPING = "421 4.3.2 Service is shutting down, try again later"
CROWDED = "421 4.7.0 Too many connections, try again later"


def files(folder: Path) -> list[Path]:
    return [path for place in ("incoming", "bodies") for path in (folder / "queue" / place).iterdir()]


async def says_and_closes(client: Client, last: str) -> None:
    assert await client.reply() == last
    assert await client.closed()


# Silence

SILENT_AFTER: dict[str, list[str]] = {
    "greeting": [],
    "EHLO": ["EHLO x"],
    "MAIL": ["EHLO x", "MAIL FROM:<a@example.test>"],
    "RCPT": ["EHLO x", "MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>"],
    "DATA": ["EHLO x", "MAIL FROM:<a@example.test>", "RCPT TO:<b@example.test>", "DATA"],
}


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "TLS"])
async def test_silent_client(secure: bool, tmp_path: Path) -> None:
    settings = {"timeout": SHORT, "listen": (LOOPBACK,), "listen_tls": (LOOPBACK,)}
    async with running(tmp_path, Wanted(settings, tls=SERVER_TLS)) as server, contextlib.AsyncExitStack() as stack:
        clients: list[Client] = []
        for commands in SILENT_AFTER.values():
            client = await stack.enter_async_context(await server.connect(int(secure), tls=TLS if secure else None))
            for command in commands:
                await client.ask(command)
            clients.append(client)
        for client in clients:
            await says_and_closes(client, TIMED_OUT)
        assert await server.stored() == []


async def test_half_a_command(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"timeout": SHORT})) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await server.connect()) for _ in range(3)]
        for client, half in zip(clients, (b"NOO", b"NOOP\r", b"x" * 5000), strict=True):
            client.send(half)
        for client in clients:
            await says_and_closes(client, TIMED_OUT)


async def test_half_a_message(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"timeout": SHORT})) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await server.connect()) for _ in range(3)]
        for client, half in zip(clients, (b"x\r\n.\r", b"x\r\n.\n", LARGE), strict=True):
            await client.begin()
            client.send(half)
        for client in clients:
            await says_and_closes(client, TIMED_OUT)
        async with asyncio.timeout(PATIENCE):
            for writer in server.queue.writers:
                await writer.discarded.wait()
        assert await server.stored() == []
        assert files(tmp_path) == []


@contextlib.asynccontextmanager
async def somebody_silent(server: Running) -> AsyncGenerator[asyncio.Task[str]]:
    """A client that says nothing from now on; the task ends when the server has lost patience with it."""
    async with await server.connect() as client:
        cut = asyncio.create_task(client.reply())
        yield cut
        assert await cut == TIMED_OUT


async def test_slow_upload_that_goes_on(tmp_path: Path) -> None:
    """It takes longer than the timeout, but is never silent that long."""
    async with running(tmp_path, Wanted({"timeout": SHORT})) as server, await server.connect() as client:
        await client.begin()
        sent = b""
        async with somebody_silent(server) as cut:
            while not cut.done():
                client.send(b"slow\r\n")
                sent += b"slow\r\n"
                await asyncio.wait([cut], timeout=0.02)
        client.send(b".\r\n")
        assert (await client.reply()).startswith("250 2.0.0 ")
        (message,) = await server.stored()
        assert message.body == sent


async def test_slow_commands_that_go_on(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"timeout": SHORT})) as server, await server.connect() as client:
        async with somebody_silent(server) as cut:
            while not cut.done():
                assert (await client.ask("NOOP")).startswith("250 ")
                await asyncio.wait([cut], timeout=0.02)
        await says_and_closes(client, TIMED_OUT)


async def test_our_own_work_is_not_the_clients_silence(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"timeout": SHORT})) as server, await server.connect() as client:
        await client.begin()
        server.queue.may_put.clear()
        client.send(b"x\r\n.\r\n")
        await server.queue.putting.wait()
        for _ in range(2):
            async with somebody_silent(server):
                pass
        server.queue.may_put.set()
        assert (await client.reply()).startswith("250 2.0.0 ")
        assert (await client.ask("NOOP")).startswith("250 ")  # and has the whole time again


# Crowds


async def test_too_many_connections(tmp_path: Path) -> None:
    async with running(tmp_path, Wanted({"max_connections": 2})) as server:
        async with await server.connect() as first, await server.connect() as second:
            for _ in range(3):
                async with await server.connect(greeted=False) as third:
                    await says_and_closes(third, CROWDED)
            for client in (first, second):
                assert (await client.ask("NOOP")).startswith("250 ")
            await first.ask("QUIT")
            assert await first.closed()
            async with await server.connect() as fourth:
                assert (await fourth.hello()).startswith("250-")
        assert await server.event(ConnectionRefused) == ConnectionRefused("127.0.0.1", "submission", CROWDED, 0)
        assert server.count(ConnectionRefused) == 3


async def test_clients_that_do_not_shake_hands_count_too(tmp_path: Path) -> None:
    settings = {"max_connections": 2, "listen": (LOOPBACK,), "listen_tls": (LOOPBACK,)}
    async with (
        running(tmp_path, Wanted(settings, tls=SERVER_TLS)) as server,
        await server.connect(1, greeted=False) as first,
        await server.connect(0) as second,
        await server.connect(0, greeted=False) as third,
        await server.connect(1, greeted=False) as fourth,
    ):
        await says_and_closes(third, CROWDED)
        assert await fourth.closed()  # before TLS there is no way to say why
        first.send(b"no TLS\r\n" * 100)
        await first.reader.read()
        async with await server.connect(1, tls=TLS) as fifth:
            assert (await fifth.hello()).startswith("250-")
        assert (await second.hello()).startswith("250-")


# A password whose check takes long enough for all the others to come meanwhile.
SLOW = argon2.PasswordHasher(time_cost=2, memory_cost=32768, parallelism=1)


def login(password: bytes) -> str:
    return f"AUTH PLAIN {base64.b64encode(bytes(1) + b'alice' + bytes(1) + password).decode()}"


@contextlib.asynccontextmanager
async def logging_in(tmp_path: Path, sources: Sequence[str]) -> AsyncGenerator[list[Client], None]:
    """Clients at these addresses, who have said hello."""
    (tmp_path / "users").write_text(f"alice:{SLOW.hash('secret')}\n")
    wanted = Wanted({"listen": (), "listen_tls": (LOOPBACK,)}, tls=SERVER_TLS, users=Users.load(tmp_path / "users"))
    async with running(tmp_path, wanted) as server, contextlib.AsyncExitStack() as stack:
        clients = []
        for source in sources:
            clients.append(await stack.enter_async_context(await server.connect(tls=TLS, source=source)))
            await clients[-1].hello()
        yield clients


async def test_many_logins_at_once_wait_for_their_turn(tmp_path: Path) -> None:
    """Of six networks: none has more than four of the sixteen places."""
    async with logging_in(tmp_path, [f"127.0.{number % 6}.1" for number in range(24)]) as clients:
        answers = await asyncio.gather(*(client.ask(login(b"wrong")) for client in clients))
        assert {answer[:3] for answer in answers} == {"535"}


async def test_too_many_logins_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are under way, two wait, and the others are told that it is too much; a right password gets in after it."""
    monkeypatch.setattr(passwords, "_MAX_CHECKS", 2)
    monkeypatch.setattr(passwords, "_MAX_WAITING", 2)
    async with logging_in(tmp_path, [f"127.0.{number}.1" for number in range(8)]) as clients:
        answers = await asyncio.gather(*(client.ask(login(b"wrong")) for client in clients))
        assert set(answers) == {
            "535 5.7.8 Authentication credentials invalid",
            "454 4.7.0 Too many logins at once, try again later",
        }
        busy = clients[[answer[:3] for answer in answers].index("454")]
        assert (await busy.ask(login(b"secret"))).startswith("235 ")


# Mistakes and long lines


async def test_nothing_is_done_after_too_many_errors(tmp_path: Path) -> None:
    message = b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nx\r\n.\r\n"
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(b"FROB\r\n" * 20 + message)
        assert [(await client.reply())[:9] for _ in range(20)] == ["500 5.5.2"] * 19 + ["421 4.7.0"]
        assert await client.closed()
        assert await server.stored() == []


async def test_refused_messages_are_no_errors_of_the_protocol(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        for _ in range(25):
            assert (await client.deliver(b"x\ny\r\n.\r\n")).startswith("554 5.6.0 ")
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 ")


async def test_line_without_end_is_cut_short(tmp_path: Path) -> None:
    """However fast it comes, we do not keep it."""
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(b"MAIL FROM:<" + b"x" * (8 << 20))
        with contextlib.suppress(ConnectionError):
            assert (await client.reply()).startswith("500 5.5.2 ")
            assert await client.reader.read() == b""


async def test_many_commands_at_once_are_all_answered(tmp_path: Path) -> None:
    """More replies than are kept back, while the client is still sending."""
    async with running(tmp_path) as server, await server.connect() as client:
        client.send(b"NOOP\r\n" * 20000)
        for _ in range(20000):
            assert await client.reply() == "250 2.0.0 OK"


async def test_a_client_that_never_waits_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client, await server.connect() as other:
        client.send(b"NOOP\r\n" * 5000)
        assert await other.ask("NOOP") == "250 2.0.0 OK"
        assert max(server.unread) > 0  # of the first
        for _ in range(5000):
            assert await client.reply() == "250 2.0.0 OK"


async def test_a_flood_behind_a_message_is_not_kept_in_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client, await server.connect() as other:
        await client.begin()
        server.queue.may_put.clear()
        client.send(b"x\r\n.\r\n" + b"NOOP\r\n" * (8 << 20))  # more than the kernel's buffers hold
        await server.queue.putting.wait()
        for _ in range(500):  # as many rounds of the event loop, in which it could be read
            assert (await other.ask("NOOP")).startswith("250 ")
        assert client.writer.transport.get_write_buffer_size() > 0
        client.writer.transport.abort()


# The end of the service


async def test_idle_clients_are_told(tmp_path: Path) -> None:
    settings = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,)}
    async with (
        running(tmp_path, Wanted(settings, tls=SERVER_TLS)) as server,
        await server.connect() as first,
        await server.connect(1, tls=TLS) as second,
    ):
        await second.hello()
        async with asyncio.timeout(PATIENCE / 2):  # none of the grace is needed
            await server.server.stop(timedelta(seconds=PATIENCE))
        for client in (first, second):
            await says_and_closes(client, STOPPING)
        with pytest.raises(ConnectionRefusedError):
            await server.connect()


@contextlib.asynccontextmanager
async def stopping(server: Running, grace: float = PATIENCE) -> AsyncGenerator[asyncio.Task[None]]:
    """The stop, under way; it has ended when this has."""
    task = asyncio.create_task(server.server.stop(timedelta(seconds=grace)))
    await asyncio.sleep(0)  # it begins
    yield task
    async with asyncio.timeout(PATIENCE):
        await task


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
async def test_a_message_under_way_ends(step: str, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        done = SILENT_AFTER[step]
        for command in done:
            await client.ask(command)
        async with stopping(server) as stop:
            for command in SILENT_AFTER["DATA"][len(done) :]:
                assert (await client.ask(command))[:3] in ("250", "354")
            client.send(b"one\r\n.\r\nMAIL FROM:<next@example.test>\r\n")
            assert not stop.done()
            assert (await client.reply()).startswith("250 2.0.0 queued ")
            await says_and_closes(client, STOPPING)
        assert [message.body for message in await server.stored()] == [b"one\r\n"]


@pytest.mark.parametrize("last", ["RSET", "EHLO again"])
async def test_a_message_given_up_during_the_stop(last: str, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        for command in SILENT_AFTER["RCPT"]:
            await client.ask(command)
        async with stopping(server):
            assert (await client.ask(last)).startswith("250")
            await says_and_closes(client, STOPPING)


@pytest.mark.parametrize("half", [b"x\r\n", LARGE], ids=["in memory", "in a file"])
async def test_cut_at_the_end_of_the_grace(half: bytes, tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.begin()
        client.send(half)
        async with stopping(server, grace=0.05):
            assert await client.closed()
        assert await server.stored() == []
        assert files(tmp_path) == []  # the stop has waited for that too


async def test_a_commit_under_way_is_waited_for_however_long(tmp_path: Path) -> None:
    async with running(tmp_path) as server, await server.connect() as client:
        await client.begin()
        server.queue.may_put.clear()
        client.send(b"x\r\n.\r\n")
        await server.queue.putting.wait()
        async with stopping(server, grace=0) as stop:
            assert await client.closed()
            assert not stop.done()
            server.queue.may_put.set()
        assert len(await server.stored()) == server.count(MessageAccepted) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
async def test_stop_in_the_middle_of_a_handshake(implicit: bool, tmp_path: Path) -> None:
    settings = {"listen": (LOOPBACK,), "listen_tls": (LOOPBACK,)}
    async with (
        running(tmp_path, Wanted(settings, tls=SERVER_TLS)) as server,
        await server.connect(int(implicit), greeted=not implicit) as client,
    ):
        if not implicit:
            assert (await client.ask("STARTTLS")).startswith("220 ")
        async with await server.connect():  # greeted: so the server has seen what came before
            pass
        async with asyncio.timeout(PATIENCE / 2), stopping(server):
            assert await client.closed()


async def test_starttls_during_the_stop(tmp_path: Path) -> None:
    """It ends the message that was under way, so that there is nothing more to wait for."""
    async with running(tmp_path, Wanted(tls=SERVER_TLS)) as server, await server.connect() as client:
        for command in SILENT_AFTER["RCPT"]:
            await client.ask(command)
        async with stopping(server):
            await client.start_tls(TLS)
            await says_and_closes(client, STOPPING)


@pytest.mark.parametrize("last", [b"QUIT\r\n", b""])
async def test_a_session_that_is_over_is_gone_at_once(last: bytes, tmp_path: Path) -> None:
    """Its memory comes back without the garbage collector, which runs seldom."""
    async with running(tmp_path, Wanted()) as server:
        gc.disable()
        try:
            async with await server.connect() as client:
                [session] = [weakref.ref(one) for one in server.server._shared.sessions]
                assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
                client.send(last)
            async with asyncio.timeout(PATIENCE):
                while session() is not None:
                    await asyncio.sleep(0.001)
        finally:
            gc.enable()


# What relay/submission/stream.py knows of aiosmtpd's inside


class Bystander(SMTP):
    """aiosmtpd as it is; shows its inside when the client has come, and when it has gone."""

    def __init__(self) -> None:
        super().__init__(object(), hostname="canary.example.test", loop=asyncio.get_running_loop())
        self.made = self.loop.create_future()
        self.lost = self.loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made.set_result(dict(vars(self)))

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.lost.set_result(dict(vars(self)))


async def test_canary_life_cycle() -> None:
    """Task, timer and transport are where we look for them, and what becomes of them is what we rely on."""
    bystander = Bystander()
    assert vars(bystander)["_original_transport"] is None
    listener = await bystander.loop.create_server(lambda: bystander, "127.0.0.1", 0)
    async with listener:
        async with await Client.connect(*listener.sockets[0].getsockname()):
            made = await bystander.made
            assert made["_handler_coroutine"].get_coro().cr_code is SMTP._handle_client.__code__
            assert not made["_timeout_handle"].cancelled()
            assert isinstance(made["_timeout_duration"], int)
            assert made["transport"] is not None
        async with asyncio.timeout(PATIENCE):
            lost = await bystander.lost
            await asyncio.wait([lost["_handler_coroutine"]])
        assert lost["transport"] is None
        assert lost["_timeout_handle"].cancelled()
        assert lost["_handler_coroutine"].cancelled()


async def test_canary_names() -> None:
    """What we put in the place of aiosmtpd's own is still called by these names there; no verb of its own is left."""
    replaced = {name for name in vars(SMTP) if not name.startswith("__") and name in {*vars(Stream), *vars(Session)}}
    assert replaced >= {"_handle_client", "_reset_timeout", "_timeout_cb", "connection_made", "connection_lost"}
    own = {name for kind in Session.__mro__ if kind not in SMTP.__mro__ for name in vars(kind)}
    assert {name for name in dir(SMTP) if name.startswith("smtp_")} <= own
