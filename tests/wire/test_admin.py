"""Health and metrics over HTTP, of a server alone and of the whole service."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest
from admin_peer import Running, get, running

from relay.admin.server import AdminServer, Stage
from relay.app import App
from relay.events import AdminStarted, DefectFound, Event, MessageAccepted
from relay.lab.zones import Zones
from relay.settings import AdminSettings, HostPort, Settings

E = TypeVar("E", bound=Event)


@pytest.mark.asyncio
async def test_metrics_are_what_prometheus_reads(tmp_path: Path) -> None:
    async with running(tmp_path / "queue") as there, aiohttp.ClientSession() as session:
        assert there.events == [AdminStarted(str(there.address))]
        async with session.get(f"http://{there.address}/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            text = await response.text()
        assert "# TYPE relay_messages_accepted_total counter\n" in text
        assert 'relay_queue_recipients{state="under_way"} 7.0\n' in text
        assert 'relay_queue_recipients{state="due"} 0.0\n' in text


@pytest.mark.asyncio
async def test_health_follows_the_life_of_the_service(tmp_path: Path) -> None:
    async with running(tmp_path / "queue") as there:
        there.server.stage = Stage.STARTING
        assert await there.get("/health/ready") == (503, "the service is starting\n")
        there.server.stage = Stage.SERVING
        assert await there.get("/health/ready") == (200, "ready\n")
        there.server.leave()
        assert await there.get("/health/ready") == (503, "the service is stopping\n")
        assert await there.get("/health/live") == (200, "live\n")


@pytest.mark.asyncio
async def test_a_queue_that_cannot_be_written_is_not_ready_and_its_depth_not_known(tmp_path: Path) -> None:
    async with running(tmp_path / "queue") as there:
        await there.store.close()
        (tmp_path / "queue" / "queue.db").rename(tmp_path / "gone")
        assert await there.get("/health/ready") == (503, "the queue is closed\n")
        assert 'relay_queue_recipients{state="due"} NaN\n' in (await there.get("/metrics"))[1]


@pytest.mark.asyncio
async def test_what_is_not_there_and_what_is_not_allowed(tmp_path: Path) -> None:
    async with running(tmp_path / "queue") as there:
        assert (await there.get("/"))[0] == 404
        assert (await there.get("/metrics", "POST"))[0] == 405
        assert (await there.get("/metrics", "HEAD"))[0] == 200


@pytest.mark.asyncio
async def test_a_defect_costs_one_answer_and_is_reported(tmp_path: Path) -> None:
    async with running(tmp_path / "queue") as there:
        there.defect = True
        status, text = await there.get("/metrics")
        assert (status, "mistake" in text) == (500, False)
        assert there.events[1:] == [DefectFound("GET /metrics", "RuntimeError('a mistake of ours')")]
        there.defect = False
        assert (await there.get("/metrics"))[0] == 200


@pytest.mark.asyncio
async def test_an_address_in_use_leaves_nothing_behind(tmp_path: Path) -> None:
    there = Running(tmp_path / "queue")
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        both = (HostPort(host="127.0.0.1", port=port), HostPort(host="127.0.0.1", port=taken.getsockname()[1]))
        server = AdminServer(AdminSettings(listen=both), there.server._sources, there.api)
        with pytest.raises(OSError, match=rf"cannot listen on {both[1]}: Address already in use"):
            server.bind()
        await server.stop()
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.asyncio
@pytest.mark.usefixtures("asyncio_buffers")
async def test_the_service_counts_and_says_when_it_is_ready(tmp_path: Path) -> None:
    zones = Zones({})
    resolver = await zones.start()
    settings = Settings.model_validate(
        {
            "hostname": "relay.test",
            "submission": {"listen": ["127.0.0.1:0"]},
            "dns": {"nameservers": [resolver], "trust_ad": "yes"},
            "admin": {"listen": ["127.0.0.1:0"]},
        }
    )
    seen: list[Event] = []
    app = App(settings, tmp_path / "state", "relay.test", emit=seen.append)
    (submission,) = await app.start()
    try:
        address = HostPort(
            host="127.0.0.1",
            port=int(one_of(seen, AdminStarted).address.rpartition(":")[2]),  # as the log says
        )
        assert await get(address, "/health/ready") == (200, "ready\n")
        reader, writer = await asyncio.open_connection(submission.host, submission.port)
        writer.write(
            b"EHLO x\r\nMAIL FROM:<a@nowhere.test>\r\nRCPT TO:<b@nowhere.test>\r\nDATA\r\n"
            b"Subject: x\r\n\r\nx\r\n.\r\nQUIT\r\n"
        )
        assert b"250 2.0.0 queued" in await reader.read()
        writer.close()
        text = (await get(address, "/metrics"))[1]
        one_of(seen, MessageAccepted)
        assert "relay_messages_accepted_total 1.0\n" in text
        assert "relay_dnssec_trusted 1.0\n" in text
    finally:
        await app.stop()
        await zones.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(address, "/health/live")


def one_of(seen: list[Event], kind: type[E]) -> E:
    (found,) = [event for event in seen if isinstance(event, kind)]
    return found


def test_a_metrics_port_in_use_is_told_in_one_line_before_anything_is_touched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RELAY_")},
            "RELAY_SUBMISSION__LISTEN": "127.0.0.1:0",
            "RELAY_ADMIN__LISTEN": place,
            "RELAY_STATE": str(tmp_path / "state"),
        }
        command = [sys.executable, "-m", "relay", "run"]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"relay: cannot listen on {place}: Address already in use\n"
    assert not (tmp_path / "state").exists()
