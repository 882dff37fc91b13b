"""What several of these tests need done to the process."""

from __future__ import annotations

import asyncio.sslproto
from collections.abc import Iterator

import pytest


@pytest.fixture
def asyncio_buffers() -> Iterator[None]:
    """Asyncio's own size, whoever has shrunk it before in this process; and back to what it was."""
    before = asyncio.sslproto.SSLProtocol.max_size
    asyncio.sslproto.SSLProtocol.max_size = 256 * 1024
    yield
    asyncio.sslproto.SSLProtocol.max_size = before


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker asks a queue that cannot be used again after a moment, not after a second."""
    monkeypatch.setattr("relay.delivery.settling.STORE_RETRY_SECONDS", 0.02)
