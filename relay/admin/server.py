"""Answers over HTTP how the service is: `/metrics` for Prometheus, `/health/live` and `/health/ready` for whatever
starts and stops services. docs/metrics.md. What begins with `/v1/` is in relay.admin.api.

Plain HTTP, so it is for addresses that only your own machines reach. Without a token it changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from aiohttp import web
from aiohttp.typedefs import Handler

from relay.admin.api import MAX_BODY, Api
from relay.admin.depth import DepthGauge
from relay.admin.metrics import CONTENT_TYPE, Metrics
from relay.events import AdminStarted, DefectFound, Emit
from relay.listen import listening_socket
from relay.queue.store import Depth, StoreUnavailable
from relay.settings import AdminSettings, HostPort

READY_SECONDS = 5.0  # a queue that takes longer to write one thing does not take mail
_CLOSE_SECONDS = 1.0  # for answers under way when the service stops
_KEEP_SECONDS = 75.0  # an idle connection
_SERVER = {"Server": "Relay"}  # aiohttp would name its version and Python's


class Stage(Enum):
    """Where the service is in its life; the value is what /health/ready says when it is not ready."""

    STARTING = "the service is starting"
    SERVING = ""
    STOPPING = "the service is stopping"


@dataclass(frozen=True, slots=True)
class Sources:
    """What is asked for an answer.

    `depth` reads the queue and `check_writable` writes into it, both as `QueueStore` has them; `under_way` gives the
    number of recipients in an attempt, `clock` aware UTC times.
    """

    metrics: Metrics
    depth: Callable[[], Awaitable[Depth]]
    under_way: Callable[[], int]
    check_writable: Callable[[], Awaitable[None]]
    clock: Callable[[], datetime]
    emit: Emit


class AdminServer:
    """The listeners of `[admin]`; none at all where no address is set. `stage` is set by whoever runs the service."""

    def __init__(self, settings: AdminSettings, sources: Sources, api: Api) -> None:
        self.stage = Stage.STARTING
        self._settings = settings
        self._sources = sources
        self._api = api
        self._gauge = DepthGauge(sources.depth, lambda: asyncio.get_running_loop().time())
        self._bound: list[socket.socket] = []
        self._runner: web.AppRunner | None = None

    def bind(self) -> None:
        """Have all addresses. Raises OSError, which names the one that cannot be had; then nothing listens."""
        with ExitStack() as undo:
            for address in self._settings.listen:
                self._bound.append(undo.enter_context(listening_socket(address)))
            undo.pop_all()

    async def start(self) -> tuple[HostPort, ...]:
        """Answer from now on. Returns the addresses really bound. After `bind`."""
        if not self._bound:
            return ()
        application = web.Application(middlewares=[self._guarded], client_max_size=MAX_BODY)
        self._api.add_to(application)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/health/live", self._live)
        application.router.add_get("/health/ready", self._ready)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            # What is no HTTP would be a page of traceback in our log; a defect of ours is told of by `_guarded`.
            logger=logging.Logger("aiohttp", logging.CRITICAL + 1),
            keepalive_timeout=_KEEP_SECONDS,
            shutdown_timeout=_CLOSE_SECONDS,
        )
        await self._runner.setup()
        return tuple([await self._serve(self._runner, sock) for sock in self._bound])

    async def stop(self) -> None:
        """Answer no more. Also after a `bind` that was not followed by `start`."""
        if self._runner is not None:
            await self._runner.cleanup()
        for sock in self._bound:
            sock.close()

    def leave(self) -> None:
        """The service is about to stop: it is not ready any more, and says so until the end."""
        self.stage = Stage.STOPPING

    async def _serve(self, runner: web.AppRunner, sock: socket.socket) -> HostPort:
        host, port = sock.getsockname()[:2]
        await web.SockSite(runner, sock).start()
        self._sources.emit(AdminStarted(str(address := HostPort(host=host, port=port))))
        return address

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A programming error is reported as all of them are, and only costs this answer."""
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001  reported
            self._sources.emit(DefectFound(f"{request.method} {request.path}", repr(error)))
            return _line(500, "a defect was met; the log has it")

    async def _metrics(self, _: web.Request) -> web.Response:
        sources = self._sources
        sources.metrics.show_queue(await self._gauge.depth(), sources.under_way(), sources.clock())
        return web.Response(body=sources.metrics.text(), headers={"Content-Type": CONTENT_TYPE, **_SERVER})

    async def _live(self, _: web.Request) -> web.Response:
        """That this is answered is all there is to say: the event loop runs."""
        return _line(200, "live")

    async def _ready(self, _: web.Request) -> web.Response:
        if self.stage is not Stage.SERVING:
            return _line(503, self.stage.value)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._sources.check_writable()
        except StoreUnavailable as error:
            return _line(503, str(error))
        except TimeoutError:
            return _line(503, f"the queue could not be written within {READY_SECONDS:g} s")
        return _line(200, "ready")


def _line(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers=_SERVER)
