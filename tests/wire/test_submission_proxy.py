"""Clients behind a proxy: who must send a header, who may not, what it gives, and that it never opens the relay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from submission_peer import LOOPBACK, PATIENCE, Client, Running, Wanted, client_tls, lab_tls, running

from relay.events import ConnectionRefused, Event, MessageAccepted, SubmissionRefused
from relay.settings import ListenerSettings, ListenerTls
from relay.submission.proxy import LOCAL

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(60)]

SERVER_TLS = lab_tls()
TLS = client_tls()
PROXY, DIRECT = "127.0.0.1", "127.0.0.2"
PLAIN, IMPLICIT = 0, 1  # the listeners
V1 = b"PROXY TCP4 %s 192.0.2.25 4711 25\r\n"
V2 = LOCAL[:12] + b"\x21\x11\x00\x0c"
TRUSTED, STRANGER = "10.1.2.3", "192.0.2.1"


def v2(client: str) -> bytes:
    return V2 + socket.inet_aton(client) + socket.inet_aton("192.0.2.25") + struct.pack("!2H", 4711, 25)


def wanted(**settings: object) -> Wanted:
    """Two listeners behind a proxy at 127.0.0.1, which is itself in a trusted network, as 10.0.0.0/8 is."""
    listeners = tuple(
        ListenerSettings.model_validate(
            {"name": name, "listen": (LOOPBACK,), "tls": tls, "proxy_from": (PROXY + "/32",)}
        )
        for name, tls in (("plain", ListenerTls.STARTTLS), ("implicit", ListenerTls.IMPLICIT))
    )
    trusted = (ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))
    return Wanted({"listen": (), "trusted_networks": trusted, **settings}, {"listener": listeners}, tls=SERVER_TLS)


async def connect(server: Running, header: bytes, number: int = PLAIN, source: str = PROXY) -> Client:
    """A client through the proxy; `header` goes out first, and TLS follows where the listener wants it."""
    address = server.addresses[number]
    reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=(source, 0))
    client = Client(reader, writer)
    client.send(header)
    if number == IMPLICIT:
        async with asyncio.timeout(PATIENCE):
            await writer.start_tls(TLS)
    assert (await client.reply()).startswith("220 ")
    return client


async def may_send(client: Client) -> bool:
    await client.hello()
    await client.ask("MAIL FROM:<a@example.test>")
    answer = await client.ask("RCPT TO:<b@example.org>")
    assert answer[:3] in ("250", "550")
    return answer.startswith("250 ")


HEADERS: dict[str, tuple[bytes, bool, str]] = {
    "1, trusted": (V1 % TRUSTED.encode(), True, TRUSTED),
    "1, stranger": (V1 % STRANGER.encode(), False, STRANGER),
    "1, mapped": (f"PROXY TCP6 ::ffff:{TRUSTED} ::1 1 2\r\n".encode(), True, TRUSTED),
    "1, unknown": (b"PROXY UNKNOWN\r\n", False, PROXY),
    "2, trusted": (v2(TRUSTED), True, TRUSTED),
    "2, stranger": (v2(STRANGER), False, STRANGER),
    "2, local": (LOCAL, False, PROXY),
    "1, the proxy itself": (V1 % PROXY.encode(), False, PROXY),
    "2, the proxy itself": (v2(PROXY), False, PROXY),
    "2, this machine": (v2("127.0.0.9"), True, "127.0.0.9"),  # the proxy says so, and it is no proxy
}


@pytest.mark.parametrize("number", [PLAIN, IMPLICIT], ids=["plain", "implicit TLS"])
async def test_the_header_says_who_it_is_and_a_proxy_is_nobody(number: int, tmp_path: Path) -> None:
    async with running(tmp_path, wanted()) as server:
        for name, (header, may, _) in HEADERS.items():
            async with await connect(server, header, number) as client:
                assert await may_send(client) is may, name
        seen = [event.client for event in server.events if isinstance(event, SubmissionRefused)]
        assert seen == [address for _, may, address in HEADERS.values() if not may]


async def test_starttls_does_not_make_a_proxy_somebody(tmp_path: Path) -> None:
    """What is forgotten at STARTTLS is not that the address is a proxy's."""
    async with running(tmp_path, wanted()) as server:
        for header in (LOCAL, b"PROXY UNKNOWN\r\n", V1 % PROXY.encode()):
            async with await connect(server, header) as client:
                await client.start_tls(TLS)
                assert not await may_send(client)


async def test_mail_is_from_the_client_and_not_from_the_proxy(tmp_path: Path) -> None:
    async with running(tmp_path, wanted()) as server, await connect(server, v2(TRUSTED), IMPLICIT) as client:
        assert (await client.deliver(b"x\r\n.\r\n")).startswith("250 ")
        (message,) = await server.stored()
        assert f"([{TRUSTED}])".encode() in message.trace
        accepted = await server.event(MessageAccepted)
        assert isinstance(accepted, MessageAccepted) and accepted.client == TRUSTED


async def test_commands_right_behind_the_header(tmp_path: Path) -> None:
    """Not one octet too many is taken, whatever comes in the same segment, and however it is cut."""
    hello = b"EHLO x\r\nNOOP\r\n"
    async with running(tmp_path, wanted()) as server:
        for header in (V1 % TRUSTED.encode(), v2(TRUSTED), b"PROXY UNKNOWN\r\n"):
            async with await connect(server, header + hello) as client:
                assert (await client.reply()).startswith("250-")
                assert (await client.reply()).startswith("250 2.0.0")


async def test_a_header_in_pieces(tmp_path: Path) -> None:
    async with running(tmp_path, wanted()) as server, await connect(server, v2(TRUSTED)) as witness:
        for header in (V1 % TRUSTED.encode(), v2(TRUSTED)):
            address = server.addresses[PLAIN]
            reader, writer = await asyncio.open_connection(address.host, address.port)
            for octet in header[:-1]:
                writer.write(bytes([octet]))
                await witness.ask("NOOP")  # the server has been round since
            writer.write(header[-1:] + b"EHLO x\r\n")
            async with Client(reader, writer) as client:
                assert (await client.reply()).startswith("220 ")
                assert (await client.reply()).startswith("250-")


async def refused(server: Running, octets: bytes, number: int = PLAIN) -> None:
    """From the proxy, without a good header: closed without a word."""
    address = server.addresses[number]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(octets)
    async with asyncio.timeout(PATIENCE), Client(reader, writer):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


async def nth(server: Running, kind: type[Event], number: int) -> Event:
    async with asyncio.timeout(PATIENCE):
        while server.count(kind) < number:
            server.heard.clear()
            await server.heard.wait()
    return [event for event in server.events if isinstance(event, kind)][number - 1]


@pytest.mark.parametrize("number", [PLAIN, IMPLICIT], ids=["plain", "implicit TLS"])
async def test_a_proxy_must_send_its_header(number: int, tmp_path: Path) -> None:
    name = ("plain", "implicit")[number]
    async with running(tmp_path, wanted(timeout=timedelta(milliseconds=60))) as server:
        cases = {
            b"EHLO x\r\n": "no PROXY header",
            b"\x16\x03\x01\x02\x00": "no PROXY header",
            V1 % b"300.1.1.1": "PROXY line with a mistake",
            LOCAL[:12] + b"\x21\x11\x00\x04abcd": "PROXY header too short for its addresses",
            b"": "no PROXY header within 0.06 s",
            b"PROXY TCP4 ": "no PROXY header within 0.06 s",
        }
        for turn, (octets, reason) in enumerate(cases.items(), 1):
            await refused(server, octets, number)
            assert await nth(server, ConnectionRefused, turn) == ConnectionRefused(PROXY, name, reason, 0)


async def test_a_proxy_that_only_looks_is_no_news(tmp_path: Path) -> None:
    """Many see whether a server is up by connecting, and no more."""
    async with running(tmp_path, wanted()) as server:
        address = server.addresses[PLAIN]
        for _ in range(3):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"PROXY TC")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        (event,) = [await nth(server, ConnectionRefused, 1)]
        assert event == ConnectionRefused(PROXY, "plain", "PROXY header that ends in the middle", 0)


async def test_others_are_direct_clients_and_their_header_is_a_bad_command(tmp_path: Path) -> None:
    async with running(tmp_path, wanted()) as server:
        async with await connect(server, V1 % TRUSTED.encode(), source=DIRECT) as client:
            assert (await client.reply()).startswith("500 5.5.2 ")
            assert await may_send(client)  # as itself, being in 127.0.0.0/8
            event = await client.deliver(b"x\r\n.\r\n") if await client.ask("RSET") else ""
            assert event.startswith("250 ")
        async with await connect(server, b"", IMPLICIT, source=DIRECT) as client:
            assert await may_send(client)
        accepted = await server.event(MessageAccepted)
        assert isinstance(accepted, MessageAccepted) and accepted.client == DIRECT
        address = server.addresses[IMPLICIT]
        reader, writer = await asyncio.open_connection(address.host, address.port, local_addr=(DIRECT, 0))
        writer.write(v2(TRUSTED))
        async with Client(reader, writer):
            assert not (await reader.read()).startswith(b"220")


async def test_half_a_header_counts_as_a_client(tmp_path: Path) -> None:
    async with running(tmp_path, wanted(max_connections=2)) as server:
        address = server.addresses[PLAIN]
        halves = [await asyncio.open_connection(address.host, address.port) for _ in range(2)]
        for _, writer in halves:
            writer.write(b"PROXY ")
        await refused(server, v2(TRUSTED))
        for _, writer in halves:
            writer.write(b"UNKNOWN\r\n")
        assert (await halves[0][0].readline()).startswith(b"220 ")
        for _, writer in halves:
            writer.close()
        async with asyncio.timeout(PATIENCE):
            while True:  # until both are gone
                reader, writer = await asyncio.open_connection(address.host, address.port)
                writer.write(v2(TRUSTED))
                async with Client(reader, writer) as client:
                    if (await client.reply()).startswith("220 "):
                        return


async def test_limits_are_for_the_clients_and_not_for_the_proxy(tmp_path: Path) -> None:
    async with (
        running(tmp_path, wanted(max_connections_per_address=1)) as server,
        await connect(server, v2(STRANGER)),
        await connect(server, v2("192.0.2.2")) as second,
    ):
        address = server.addresses[PLAIN]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(v2(STRANGER))
        async with Client(reader, writer) as third:
            assert (await third.reply()).startswith("421 4.7.0 Too many connections from your address")
            assert await third.closed()
        await refused(server, v2(STRANGER), IMPLICIT)
        assert (await second.ask("NOOP")).startswith("250 ")


async def test_the_stop_does_not_wait_for_headers(tmp_path: Path) -> None:
    async with running(tmp_path, wanted()) as server:
        address = server.addresses[IMPLICIT]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        async with await connect(server, v2(TRUSTED)), asyncio.timeout(3):
            await server.server.stop(timedelta(0))
            assert await reader.read() == b""
        writer.close()
