"""How does it do with much mail that waits? A command: `python tests/bench/deferred_mail.py`; see docs/bench.md.

It measures the real service, `relay run` in a process of its own, against the lab's DNS and a mail host in another:
memory, the time from its start to the first delivery, the rate of fresh mail beside what waits against the rate with
an empty queue (in turns, so that the machine's moods strike both), and what large messages cost.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import far_side
from far_side import FarSide
from fill import Waiting, fill
from service import Service, Submitter, numbered

MIB = 1 << 20
SESSIONS = 20
SETTINGS = """[delivery]
port = {port}
allow_private_addresses = true
[dns]
nameservers = ["{dns}"]
trust_ad = "no"
"""
LARGE, LARGE_COUNT, LARGE_AT_ONCE = 50_000_000, 10, 4
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Round:
    """Seconds from the start of the process to the first delivery, fresh messages per second, and MiB of memory."""

    first: float
    rate: float
    resident: float
    peak: float


@dataclass(frozen=True)
class Figures:
    """Medians of some rounds, and the rate with an empty queue beside it."""

    waiting: Waiting
    first: float
    rate: float
    empty_rate: float
    resident: float
    peak: float

    @property
    def ratio(self) -> float:
        return self.rate / self.empty_rate


def memory(pid: int) -> tuple[float, float]:
    """What a process has now and the most that it had, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return found["VmRSS"] / 1024, found["VmHWM"] / 1024


async def send(port: int, count: int, sessions: int, body: bytes) -> None:
    """Submit so many messages to fresh.test over so many sessions at once."""
    numbers = iter(range(count))

    async def client(sender: int) -> None:
        session = await Submitter.connect(port)
        for number in numbers:
            answer = await session.send(body, b"r%d@fresh.test" % number, b"s%d@sender.test" % sender)
            assert answer.startswith(b"250"), answer
        session.close()

    await asyncio.gather(*(client(number) for number in range(sessions)))


async def one_round(folder: Path, far: FarSide, fresh: int, clock: Callable[[], float] = time.perf_counter) -> Round:
    """Start the service on the queue in `folder`, send it fresh mail, and stop it."""
    service = Service(folder, SETTINGS.format(dns=far.dns, port=far.port))
    before = far.arrived
    began = clock()
    await service.start()
    try:
        await send(service.port, 1, 1, numbered(0))
        await far.arrivals(before + 1, PATIENCE_SECONDS)
        first = clock() - began
        before, began = far.arrived, clock()
        await send(service.port, fresh, SESSIONS, numbered(1, 150))
        await far.arrivals(before + fresh, PATIENCE_SECONDS)
        rate = fresh / (clock() - began)
        return Round(first, rate, *memory(service.pid))
    finally:
        assert await service.stop() == 0, service.log.read_text()[-2000:]


async def beside(far: FarSide, waiting: Waiting, fresh: int, rounds: int, place: Path) -> Figures:
    """The rounds with a full queue and with an empty one, in turns."""
    full = place / "filled"
    await fill(full, waiting)
    found: list[Round] = []
    empty: list[Round] = []
    for number in range(rounds):
        for kind, results in (("full", found), ("empty", empty)):
            folder = place / f"{kind}{number}"
            folder.mkdir()
            if kind == "full":
                shutil.copytree(full, folder / "state")
            results.append(await one_round(folder, far, fresh))
            shutil.rmtree(folder)
    return Figures(
        waiting,
        max(one.first for one in found),
        median(one.rate for one in found),
        median(one.rate for one in empty),
        median(one.resident for one in found),
        max(one.peak for one in found),
    )


async def large(far: FarSide, place: Path) -> float:
    """The memory (MiB) that large messages take beyond what the service has after some small ones."""
    service = Service(place, SETTINGS.format(dns=far.dns, port=far.port))
    await service.start()
    try:
        before = far.arrived
        await send(service.port, 100, LARGE_AT_ONCE, numbered(1, 150))
        await far.arrivals(before + 100, PATIENCE_SECONDS)
        small = memory(service.pid)[1]
        line = b"x" * 76 + b"\r\n"
        await send(service.port, LARGE_COUNT, LARGE_AT_ONCE, b"Subject: large\r\n\r\n" + line * (LARGE // len(line)))
        await far.arrivals(before + 100 + LARGE_COUNT, PATIENCE_SECONDS)
        return memory(service.pid)[1] - small
    finally:
        assert await service.stop() == 0


def table(figures: Sequence[Figures]) -> str:
    """What was found, a line for each queue, as Markdown."""
    lines = [
        "| waits | domains | due | to first delivery | memory | peak | fresh mail | with an empty queue | share |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in figures:
        of = one.waiting
        due = "all of it" if of.overdue else "in the next hours"
        lines.append(
            f"| {of.messages:,} | {of.domains:,} | {due} | {one.first:.1f} s | {one.resident:.0f} MiB"
            f" | {one.peak:.0f} MiB | {one.rate:.0f}/s | {one.empty_rate:.0f}/s | {one.ratio:.0%} |"
        )
    return "\n".join(lines)


async def measure(queues: Sequence[Waiting], fresh: int, rounds: int) -> list[Figures]:
    far = far_side.start()
    try:
        figures = []
        for waiting in queues:
            with tempfile.TemporaryDirectory() as place:
                figures.append(await beside(far, waiting, fresh, rounds, Path(place)))
            print(table(figures[-1:]).splitlines()[-1], flush=True)
        return figures
    finally:
        far.stop()


async def measure_large() -> float:
    far = far_side.start()
    try:
        with tempfile.TemporaryDirectory() as place:
            return await large(far, Path(place))
    finally:
        far.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="measure the service with much mail that waits, and with large mail")
    parser.add_argument("--deferred", type=int, default=100_000, help="messages that wait")
    parser.add_argument("--domains", type=int, default=20_000, help="dead domains, where there are many")
    parser.add_argument("--fresh", type=int, default=3000, help="fresh messages in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("spread", "overdue", "domains", "large"), action="append")
    given = parser.parse_args()
    queues = {
        "spread": Waiting(given.deferred),
        "overdue": Waiting(given.deferred, overdue=True),
        "domains": Waiting(given.deferred, domains=given.domains, overdue=True),
    }
    chosen = [waiting for name, waiting in queues.items() if not given.only or name in given.only]
    print(table(asyncio.run(measure(chosen, given.fresh, given.rounds))))
    if not given.only or "large" in given.only:
        extra = asyncio.run(measure_large())
        print(f"{LARGE_COUNT} messages of {LARGE / 1e6:.0f} MB, {LARGE_AT_ONCE} at once: {extra:.1f} MiB more")


if __name__ == "__main__":
    main()
