"""What lies beyond the service under measurement, in a process of its own: the lab's DNS, and one mail host.

`fresh.test` takes mail. `dead.test` and every name below it has a mail host where nobody listens.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from relay.lab.sink import ReceivedMail, Sink
from relay.lab.zones import Security, Zone, Zones

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

ALIVE, DEAD = "127.2.0.1", "127.3.0.1"
_DEAD_ZONE = f"@ MX 10 mx\n* MX 10 mx.dead.test.\nmx A {DEAD}"


class _Counting(Sink):
    """Keeps nothing of what it takes but how much there was."""

    def __init__(self, count: Synchronized[int]) -> None:
        super().__init__()
        self._count = count

    def keep(self, mail: ReceivedMail) -> None:
        with self._count.get_lock():
            self._count.value += 1


@dataclass
class FarSide:
    """`dns`: host:port of the name server. `port`: of all mail hosts."""

    dns: str
    port: int
    _count: Synchronized[int]
    _process: Any

    @property
    def arrived(self) -> int:
        """How many messages the living host has taken in all."""
        return self._count.value

    async def arrivals(self, count: int, seconds: float) -> None:
        """Wait until it has taken so many in all. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while self.arrived < count:
                await asyncio.sleep(0.002)

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self._process.close()


def start() -> FarSide:
    context = multiprocessing.get_context("spawn")
    count = context.Value("q")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(count, there), daemon=True)
    process.start()
    dns, port = here.recv()
    return FarSide(dns, port, count, process)


def _run(count: Synchronized[int], ready: Connection) -> None:
    asyncio.run(_serve(count, ready))


async def _serve(count: Synchronized[int], ready: Connection) -> None:
    fresh = Zone(f"@ MX 10 mx\nmx A {ALIVE}", Security.UNSIGNED, 300)
    zones = Zones({"fresh.test": fresh, "dead.test": Zone(_DEAD_ZONE, Security.UNSIGNED, 300)})
    dns = await zones.start()
    address = await _Counting(count).start(ALIVE)
    ready.send((f"{dns.host}:{dns.port}", address.port))
    await asyncio.Event().wait()
