"""Keeps some room on the disk for delivering: a queue that filled it to the last octet could never write down that
mail has left, and so never become smaller. New mail is refused before that."""

from __future__ import annotations

import os
from pathlib import Path

from relay.queue.store import StoreUnavailable

# A batch of the largest rows in the write-ahead log, and the same again when it is copied into the database.
RESERVE_OCTETS = 64 << 20
_LARGEST_SHARE = 4  # but no more than this part of a small file system


def check_room(folder: Path, spare: int = 0) -> None:
    """Raise StoreUnavailable(full=True) when no new mail should be taken in.

    `spare`: octets that need no room on the disk, since the database has it. Blocking, a microsecond or two.
    """
    disk = os.statvfs(folder)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if free + spare < min(RESERVE_OCTETS, total // _LARGEST_SHARE):
        raise StoreUnavailable(f"only {free >> 10} KiB are left on the disk of the queue", full=True)
