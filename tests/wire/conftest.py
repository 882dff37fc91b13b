"""For tests that start the whole service in their own process."""

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
