"""A web address that takes TLS reports: a real aiohttp server on loopback with a certificate of the lab."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web

from relay.lab.certs import LabCa, Leaf

CA = LabCa.make(datetime.now(UTC))


@dataclass
class Endpoint:
    """An HTTPS server on loopback that keeps what it is sent and answers `status`."""

    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""
    got: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.got.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        return web.Response(status=self.status, headers=self.headers, body=self.answer)

    @asynccontextmanager
    async def running(self, leaf: Leaf = Leaf.GOOD, name: str = "r.test") -> AsyncIterator[int]:
        runner = web.ServerRunner(web.Server(self.handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=CA.issue((name,), leaf).server_context())
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()
