"""Clients that vanish in the middle of a TLS handshake: they must not be counted for ever, nor hold up the end."""

from __future__ import annotations

import asyncio
import socket
import struct
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from submission_peer import LOOPBACK, Running, Wanted, lab_tls, running

from relay.submission.replies import TOO_MANY_CONNECTIONS

pytestmark = pytest.mark.asyncio

HALF_A_HELLO = bytes.fromhex("160301020001")
MOST = 8


def wanted() -> Wanted:
    return Wanted(tls=lab_tls(), settings={"listen_tls": (LOOPBACK,), "max_connections": MOST})


async def vanish(server: Running, number: int, *said: bytes) -> None:
    """Connect, say each of these (waiting for an answer after each but the last), and reset the connection."""
    address = server.addresses[number]
    reader, writer = await asyncio.open_connection(address.host, address.port)
    for octets in said:
        if number == 0:
            await reader.readline()
        writer.write(octets)
        await writer.drain()
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, (b"STARTTLS\r\n", b"")),
        (0, (b"STARTTLS\r\n", HALF_A_HELLO)),
        (0, (b"NOOP\r\nSTARTTLS\r\n",)),
        (1, ()),
        (1, (HALF_A_HELLO,)),
    ],
)
async def test_a_client_that_resets_the_handshake_is_not_counted(
    number: int, said: tuple[bytes, ...], tmp_path: Path
) -> None:
    async with running(tmp_path, wanted()) as server:
        for _ in range(3 * MOST):
            await vanish(server, number, *said)
        async with asyncio.timeout(10):
            while True:
                async with await server.connect(greeted=False) as client:
                    if await client.reply() != TOO_MANY_CONNECTIONS.text:
                        return


@pytest.mark.parametrize("number", [0, 1])
async def test_a_handshake_that_hangs_does_not_hold_up_the_end(number: int, tmp_path: Path) -> None:
    async with running(tmp_path, wanted()) as server:
        address = server.addresses[number]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        if number == 0:
            await reader.readline()
            writer.write(b"STARTTLS\r\n")
            await reader.readline()
        async with asyncio.timeout(5):
            await server.server.stop(timedelta(seconds=60))
            assert await reader.read() == b""
        writer.close()


async def test_strangers_in_handshakes_leave_a_quarter_to_trusted_networks(tmp_path: Path) -> None:
    loopback = ip_network("127.0.0.1/32")
    settings = {"listen_tls": (LOOPBACK,), "max_connections": MOST, "trusted_networks": (loopback,)}
    async with running(tmp_path, Wanted(tls=lab_tls(), settings=settings)) as server:
        address = server.addresses[1]
        strangers = [
            await asyncio.open_connection(address.host, address.port, local_addr=("127.0.0.2", 0)) for _ in range(MOST)
        ]
        async with asyncio.timeout(10):
            turned_away = [await reader.read() for reader, _ in strangers[MOST * 3 // 4 :]]
        assert turned_away == [b""] * (MOST // 4)
        async with await server.connect() as client:  # greets
            assert (await client.hello()).startswith("250-")
        for _, writer in strangers:
            writer.close()
