"""Keeps some room on the disk for delivering: a queue that filled it to the last octet could never write down that
mail has left, and so never become smaller. New mail is refused before that."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from relay.queue.store import StoreUnavailable

# A batch of the largest rows in the write-ahead log, and the same again when it is copied into the database.
RESERVE_OCTETS = 64 << 20
ASK_EVERY_OCTETS = 256 << 10  # little, beside the reserve
_LARGEST_SHARE = 4  # but no more than this part of a small file system


class Room:
    """Asks the disk once in a while: for each so many octets that are put, and until there is room again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unchecked: int | None = None  # octets put since there was room; None: ask at once

    def check(self, octets: int, spare: Callable[[], int]) -> None:
        """Raise StoreUnavailable(full=True) when no `octets` more should be taken in. `spare`: see check_room."""
        if self._unchecked is not None and self._unchecked + octets < ASK_EVERY_OCTETS:
            self._unchecked += octets
            return
        self._unchecked = None
        check_room(self._folder, spare())
        self._unchecked = 0


def check_room(folder: Path, spare: int = 0) -> None:
    """Raise StoreUnavailable(full=True) when no new mail should be taken in.

    `spare`: octets that need no room on the disk, since the database has it. Blocking, a microsecond or two.
    """
    free, reserve = room(folder)
    if free + spare < reserve:
        raise StoreUnavailable(f"only {free >> 10} KiB are left on the disk of the queue", full=True)


def room(folder: Path) -> tuple[int, int]:
    """Octets that are free on the disk of `folder`, and how many are kept for delivering. Raises OSError."""
    disk = os.statvfs(folder)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    return free, min(RESERVE_OCTETS, total // _LARGEST_SHARE)
