"""What was freed goes back to the system."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import pytest

from relay.freed_memory import give_back

_OCTETS = 1000  # of a block: above what Python keeps in arenas of its own


def resident() -> int:
    """KiB of memory that count as ours."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_what_lies_below_something_in_use_goes_back() -> None:
    blocks = [bytes(_OCTETS) for _ in range(50_000)]
    last = blocks.pop()
    blocks.clear()
    gc.collect()
    before = resident()
    give_back()
    assert before - resident() > 20_000
    assert last == bytes(_OCTETS)
