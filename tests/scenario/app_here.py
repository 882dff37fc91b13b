"""The whole service in the test's own process, with a clock that the test moves and the events at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from service import submit

from relay.app import App, utc_now
from relay.events import AttemptFinished, Event
from relay.queue.store import QueueEntry
from relay.settings import HostPort, Settings

E = TypeVar("E", bound=Event)
PATIENCE_SECONDS = 6.0


@dataclass
class Here:
    """The running service. `ahead`: of the real time."""

    ahead: timedelta = timedelta(0)
    port: int = 0
    events: list[Event] = field(default_factory=list)
    app: App = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    def finished(self, state: str) -> list[AttemptFinished]:
        return [event for event in self.seen(AttemptFinished) if event.state == state]

    async def until(self, done: Callable[[], object]) -> None:
        """Wait for something that an event shows. Raises TimeoutError."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            last = "\n".join(map(repr, self.events[-30:]))
            raise AssertionError(f"it did not happen; the last events were:\n{last}") from None

    def pass_time(self, by: timedelta) -> None:
        self.ahead += by
        self.app._store.wake()

    async def send(self, body: bytes, recipient: bytes = b"r@t.test") -> bytes:
        """The answer to the final dot."""
        return await submit(self.port, body, recipient, b"s@from.test")

    async def waiting(self) -> list[QueueEntry]:
        return list(await self.app._store.find(None, history=False))


@asynccontextmanager
async def running(folder: Path, next_hop: HostPort | None = None, **sections: Any) -> AsyncIterator[Here]:
    """The service on the queue in `folder`. `sections`: settings beyond those that every test needs."""
    delivery: dict[str, Any] = {"allow_private_addresses": True}
    if next_hop is not None:
        delivery["next_hop"] = f"{next_hop.host}:{next_hop.port}"
    settings = Settings.model_validate(
        {
            **sections,
            "hostname": "relay.test",
            "submission": {"listen": ["127.0.0.1:0"]} | sections.get("submission", {}),
            "dns": {"trust_ad": "no"} | sections.get("dns", {}),
            "alignment": {"check": "off"} | sections.get("alignment", {}),  # it asks the DNS of the world
            "delivery": delivery | sections.get("delivery", {}),
        }
    )
    here = Here()
    here.app = App(settings, folder, "relay.test", lambda: utc_now() + here.ahead, here.emit)
    here.port = (await here.app.start())[0].port
    try:
        yield here
    finally:
        await here.app.stop()
