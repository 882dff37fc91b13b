"""Memory that was freed goes back to the system; glibc by itself keeps all that lies below something still in use.

uvloop gives each TLS connection 256 KiB, of which a client uses some pages; the next one there uses others. So a
service through which many clients have gone would end up with all of it, for as many as there once were at a time.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Let go of what is free, which takes some milliseconds. Nothing happens where the C library has no such call."""
    # A plain call makes no code while it runs, unlike a callback: it works under MemoryDenyWriteExecute.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
