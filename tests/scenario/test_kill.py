"""The service is killed with -9 at random while it takes and delivers mail: nothing that got a 250 is lost.

Duplicates are allowed only for what was in flight at a kill: a message whose remote 250 came before our commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

from relay.lab.sink import Sink
from relay.mail.outcome import State
from relay.queue.visitor import open_reader

MESSAGES, KILLS, CLIENTS = 300, 6, 10
LANE = 20  # delivery.concurrency_per_destination: what can be in flight at once


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """`relay run`, to be killed and started again on the same queue."""

    def __init__(self, folder: Path, next_hop: int) -> None:
        self.port = free_port()
        self._folder = folder
        self._settings = folder / "relay.toml"
        self._settings.write_text(f"""hostname = "relay.test"
[submission]
listen = ["127.0.0.1:{self.port}"]
[queue]
path = "{folder}/state"
[delivery]
next_hop = "127.0.0.1:{next_hop}"
allow_private_addresses = true
concurrency_per_destination = {LANE}
[retry]
schedule = ["1s"]
outage_schedule = []
unknown_schedule = []
""")

    async def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "relay", "run", "--config", str(self._settings), stderr=log
            )
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    greeting = await reader.readline()
                    writer.close()
                    if greeting.startswith(b"220"):
                        return
                assert self._process.returncode is None, (self._folder / "log").read_text()
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()

    async def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


async def submit(port: int, number: int) -> bool:
    """One message; True when the final reply was 250."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = f"X-Number: {number}\r\n\r\n".encode() + b"some text\r\n" * random.Random(number).choice([1, 100, 9000])
        for command in (b"EHLO t", b"MAIL FROM:<>", b"RCPT TO:<r@t.test>", b"DATA"):
            writer.write(command + b"\r\n")
        for _ in range(4):
            await _reply(reader)
        await _reply(reader)
        writer.write(body + b".\r\n")
        return (await _reply(reader)).startswith(b"250")
    finally:
        writer.close()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await reader.readline()
        if not line:
            raise ConnectionError("closed")
        if line[3:4] != b"-":
            return line


def assert_evidence(queue: Path) -> None:
    """Every message that left has the evidence of the attempt that it left with; what waits has none."""
    with contextlib.closing(open_reader(queue)) as reader:
        entries = reader.find(None, history=True)
        assert len(entries) >= MESSAGES
        for entry in entries:
            (message,) = reader.trace(str(entry.id))
            left = [entry.attempts] if entry.state is State.DELIVERED else []
            assert [attempt.number for attempt in message.attempts if attempt.results] == left


@pytest.mark.asyncio
@pytest.mark.timeout(120)
async def test_every_acknowledged_message_arrives(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    sink = Sink()
    service = Service(tmp_path, (await sink.start()).port)
    await service.start()
    acknowledged: set[int] = set()
    numbers = iter(range(MESSAGES))

    async def client() -> None:
        for number in numbers:
            while number not in acknowledged:
                with contextlib.suppress(OSError):
                    if await submit(service.port, number):
                        acknowledged.add(number)
                        break
                await asyncio.sleep(0.02)  # the service is down; the client tries again, as clients do

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    for _ in range(KILLS):
        before = len(acknowledged)
        while len(acknowledged) < min(before + chance.randrange(5, MESSAGES // KILLS), MESSAGES):
            await asyncio.sleep(0.005)
        await service.kill()
        await service.start()
    await asyncio.gather(*clients)
    assert acknowledged == set(range(MESSAGES))

    def arrived() -> Counter[int]:
        return Counter(int(mail.octets.split(b"X-Number: ")[1].split(b"\r\n")[0]) for mail in sink.received)

    async with asyncio.timeout(60):
        while set(arrived()) != acknowledged:
            await asyncio.sleep(0.1)
    assert await service.stop() == 0
    await sink.stop()
    doubles = sum(count - 1 for count in arrived().values())
    assert_evidence(tmp_path / "state")
    # A client that lost its 250 in a kill sends again: that too is a double that SMTP allows.
    assert doubles <= KILLS * (LANE + CLIENTS)
