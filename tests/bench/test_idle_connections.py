"""A small run of the bench: it works, and the figures are not absurd."""

from __future__ import annotations

import asyncio

import idle_connections
import pytest


@pytest.mark.timeout(60)
def test_clients_that_do_nothing_cost_little() -> None:
    kind = "half a message of 60 KB, TLS"
    (found,) = asyncio.run(idle_connections.measure_all(["asyncio"], [kind], connections=60, messages=3))
    assert 20 < found.each < 500  # KiB; the first ones have room that is there already
    assert found.longest < 1
    assert f"| asyncio | {kind} | 60 | " in found.row()
