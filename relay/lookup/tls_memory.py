"""Which mail hosts have had TLS, in memory and on local disk: `tls.sqlite3` in the queue folder.

What is remembered, and what it means, is decided in `relay.policy.memory`; here it is kept. RFC 3207 section 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from relay.disk_table import DiskTable, DiskTableError, Layout, Row, parse_time
from relay.policy.memory import MemoryRules, Remembered, TlsMemory, noted

FILE_NAME = "tls.sqlite3"
WRITE_EVERY = timedelta(hours=1)  # at most, while nothing but the time of the latest session changes
FORGET_AFTER = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A memory, and the time of the latest session that its row on disk has."""

    memory: TlsMemory
    on_disk: datetime


class TlsMemories:
    """The memories in `folder`, by host (as MxHost.name).

    `report` is told, in a sentence, what is wrong with the file when it is. Without a file that works it goes on in
    memory alone; nothing here raises for it, but for `all`.
    """

    def __init__(self, folder: Path, rules: MemoryRules, report: Callable[[str], None]) -> None:
        self._table = DiskTable(folder, _LAYOUT, report)
        self._rules = rules
        self._report = report
        self._readable = True
        self._unwritten: dict[str, _Kept] = {}  # runs that go on
        self._write_every = min(WRITE_EVERY, rules.after / 4)

    async def open(self) -> None:
        """Open the file or make it. A damaged one is moved aside."""
        try:
            await self._table.open()
        except DiskTableError as error:
            self._report(f"{error}; which hosts have TLS is remembered until the service stops")

    async def close(self) -> None:
        """Write what is in memory alone, and close the file."""
        if self._unwritten:
            await self._table.put_all(self._unwritten)
        await self._table.close()

    async def get(self, host: str) -> TlsMemory | None:
        """What is remembered of `host`; None also when the file cannot be read now."""
        try:
            kept = await self._kept(host)
        except DiskTableError:
            return None
        return kept.memory if kept is not None else None

    async def remembered(self, host: str) -> Remembered | None:
        """The same with the rules that say what it means, for a verdict."""
        memory = await self.get(host)
        return None if memory is None else Remembered(memory, self._rules)

    async def note(self, host: str, *, tls: bool, authenticated_by: str | None, now: datetime) -> None:
        """Remember a session with `host`, made now. On disk on return, if it is more than a run that goes on.

        While the file cannot be read, only hosts in memory are noted: what is on disk is not replaced unseen.
        """
        try:
            kept = await self._kept(host)
        except DiskTableError:
            return
        # no await from here to the change: `kept` must be the newest when it is replaced
        before = kept.memory if kept is not None else None
        after = noted(before, self._rules, now, tls=tls, authenticated_by=authenticated_by)
        if after == before:
            return
        self._unwritten.pop(host, None)
        if after is None:
            await self._table.forget(host)
        elif kept is not None and self._goes_on(kept, after):
            self._unwritten[host] = _Kept(after, kept.on_disk)
            self._table.put_in_memory(host, self._unwritten[host])
        else:
            await self._table.put(host, _Kept(after, after.last))

    async def all(self) -> dict[str, TlsMemory]:
        """Everything that is remembered, by host. Raises DiskTableError."""
        return {host: kept.memory for host, kept in (await self._table.all()).items()}

    async def tidy(self, now: datetime) -> None:
        """Forget the hosts that have not been met with TLS for half a year. To be called again and again."""
        try:
            memories = await self.all()
        except DiskTableError as error:
            self._cannot_read(error)
            return
        self._readable = True
        for host, memory in memories.items():
            if now - memory.last >= FORGET_AFTER:
                await self._table.forget(host)

    async def _kept(self, host: str) -> _Kept | None:
        """Raises DiskTableError, and reports it the first time."""
        try:
            return await self._table.get(host)
        except DiskTableError as error:
            self._cannot_read(error)
            raise

    def _goes_on(self, kept: _Kept, after: TlsMemory) -> bool:
        """Whether the row on disk says nearly the same. What proved the host may change with every message's domain."""
        before, counts_from = kept.memory, after.since + self._rules.after
        same = (after.since, after.lost_at) == (before.since, before.lost_at)
        counts_alike = (kept.on_disk >= counts_from) == (after.last >= counts_from)  # see `is_lost`
        return same and counts_alike and abs(after.last - kept.on_disk) < self._write_every

    def _cannot_read(self, error: DiskTableError) -> None:
        if self._readable:  # once is enough, until `tidy` finds it readable again
            self._report(f"{error}; a host whose TLS is lost may not be noticed")
        self._readable = False


def _encode(kept: _Kept) -> Row:
    memory = kept.memory
    lost_at = memory.lost_at.isoformat() if memory.lost_at is not None else None
    return memory.since.isoformat(), memory.last.isoformat(), memory.authenticated_by, lost_at


def _decode(row: Row) -> _Kept:
    since, last, authenticated_by, lost_at = row
    lost = parse_time(lost_at) if lost_at is not None else None
    memory = TlsMemory(parse_time(since), parse_time(last), authenticated_by, lost)
    return _Kept(memory, memory.last)


_LAYOUT = Layout(
    file_name=FILE_NAME,
    table="host",
    key="name",
    columns=("since", "last", "authenticated_by", "lost_at"),
    encode=_encode,
    decode=_decode,
    content="hosts that have TLS",
    when_lost="which hosts have TLS is learned anew",
)
