"""The service is killed with -9 at random while it takes and delivers mail: nothing that got a 250 is lost.

Duplicates are allowed only for what was in flight at a kill: a message whose remote 250 came before our commit, or one
whose client lost its 250 and sends again. As a command it does the same with more: `python tests/scenario/test_kill.py
--messages 5000 --kills 50`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from service import Service, number_of, numbered, submit

from relay.lab.sink import Sink
from relay.mail.outcome import State
from relay.queue.visitor import open_reader

CLIENTS = 10
LANE = 20  # delivery.concurrency_per_destination: what can be in flight at once
SETTINGS = """[delivery]
next_hop = "127.0.0.1:{port}"
allow_private_addresses = true
concurrency_per_destination = {lane}
[retry]
schedule = ["1s"]
outage_schedule = []
unknown_schedule = []
"""


@dataclass(frozen=True)
class Result:
    """`doubles`: arrivals beyond the first of each message. `in_flight`: how many there may be of them."""

    acknowledged: int
    doubles: int
    in_flight: int


async def kill_and_count(folder: Path, messages: int, kills: int, seed: int) -> Result:
    """Submit `messages` over some clients while the service is killed so often. Fails when one does not arrive."""
    chance = random.Random(seed)
    sink = Sink()
    service = Service(folder, SETTINGS.format(port=(await sink.start()).port, lane=LANE))
    await service.start()
    acknowledged: set[int] = set()
    numbers = iter(range(messages))

    async def client() -> None:
        for number in numbers:
            lines = random.Random(number).choice([1, 100, 9000])
            while number not in acknowledged:
                with contextlib.suppress(OSError):
                    if (await submit(service.port, numbered(number, lines))).startswith(b"250"):
                        acknowledged.add(number)
                        break
                await asyncio.sleep(0.02)  # the service is down; the client tries again, as clients do

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    for _ in range(kills):
        before = len(acknowledged)
        while len(acknowledged) < min(before + chance.randrange(5, messages // kills), messages):
            await asyncio.sleep(0.005)
        await service.kill()
        await service.start()
    await asyncio.gather(*clients)
    assert acknowledged == set(range(messages))

    def arrived() -> Counter[int]:
        return Counter(number_of(mail.octets) for mail in sink.received)

    async with asyncio.timeout(60):
        while set(arrived()) != acknowledged:
            await asyncio.sleep(0.1)
    assert await service.stop() == 0
    await sink.stop()
    assert_evidence(service.queue, messages)
    doubles = sum(count - 1 for count in arrived().values())
    # A client that lost its 250 in a kill sends again: that too is a double that SMTP allows.
    return Result(len(acknowledged), doubles, kills * (LANE + CLIENTS))


def assert_evidence(queue: Path, messages: int) -> None:
    """Every message that left has the evidence of the attempt that it left with; what waits has none."""
    with contextlib.closing(open_reader(queue)) as reader:
        entries = reader.find(None, history=True)
        assert len(entries) >= messages
        for entry in entries:
            (message,) = reader.trace(str(entry.id))
            left = [entry.attempts] if entry.state is State.DELIVERED else []
            assert [attempt.number for attempt in message.attempts if attempt.results] == left


@pytest.mark.asyncio
@pytest.mark.timeout(120)
async def test_every_acknowledged_message_arrives(tmp_path: Path) -> None:
    result = await kill_and_count(tmp_path, messages=300, kills=6, seed=20261124)
    assert result.doubles <= result.in_flight


def main() -> None:
    parser = argparse.ArgumentParser(description="kill the service while it takes and delivers mail, and count")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(kill_and_count(Path(folder), given.messages, given.kills, given.seed))
    print(  # noqa: T201  (a command)
        f"{result.acknowledged} messages acknowledged, {given.kills} kills: all arrived, {result.doubles} of them twice"
        f" ({result.in_flight} were allowed)"
    )
    sys.exit(result.doubles > result.in_flight)


if __name__ == "__main__":
    main()
