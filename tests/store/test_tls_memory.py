"""The memory of TLS on disk: it survives restarts and damage, and a busy relay writes almost nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.disk_table import DiskTableError
from relay.lookup.tls_memory import FILE_NAME, FORGET_AFTER, WRITE_EVERY, TlsMemories
from relay.policy.memory import MemoryRules, OnTlsLoss, TlsMemory

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
RULES = MemoryRules(OnTlsLoss.WARN, 7 * DAY, DAY)


@asynccontextmanager
async def memories_in(folder: Path, rules: MemoryRules = RULES) -> AsyncIterator[tuple[TlsMemories, list[str]]]:
    troubles: list[str] = []
    memories = TlsMemories(folder, rules, troubles.append)
    await memories.open()
    try:
        yield memories, troubles
    finally:
        await memories.close()


async def with_tls(memories: TlsMemories, host: str, now: datetime, by: str | None = None) -> None:
    await memories.note(host, tls=True, authenticated_by=by, now=now)


async def without(memories: TlsMemories, host: str, now: datetime) -> None:
    await memories.note(host, tls=False, authenticated_by=None, now=now)


def on_disk(folder: Path) -> dict[str, tuple[str | None, ...]]:
    with closing(sqlite3.connect(folder / FILE_NAME)) as other:
        rows = other.execute("SELECT name, since, last, authenticated_by, lost_at FROM host").fetchall()
    return {name: tuple(row) for name, *row in rows}


@pytest.mark.asyncio
async def test_what_is_noted_comes_back_after_a_restart(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "plain.test", NOW)
        await with_tls(memories, "proven.test", NOW, "dane")
        await with_tls(memories, "lost.test", NOW, "sts")
        await without(memories, "lost.test", NOW + DAY)
        await without(memories, "never.test", NOW)
    expected = {
        "plain.test": TlsMemory(NOW, NOW, None),
        "proven.test": TlsMemory(NOW, NOW, "dane"),
        "lost.test": TlsMemory(NOW, NOW, "sts", lost_at=NOW + DAY),
    }
    async with memories_in(tmp_path) as (memories, troubles):
        assert await memories.all() == expected
        for host, memory in expected.items():
            assert await memories.get(host) == memory
        assert await memories.get("never.test") is None
        await with_tls(memories, "lost.test", NOW + 2 * DAY)
        assert await memories.get("lost.test") == TlsMemory(NOW, NOW + 2 * DAY, None)
        assert not troubles


@pytest.mark.asyncio
async def test_a_host_that_stays_without_tls_is_forgotten(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        for days in range(1, 9):
            await without(memories, "a.test", NOW + days * DAY)
            assert await memories.get("a.test") == TlsMemory(NOW, NOW, None, lost_at=NOW + DAY)
        await without(memories, "a.test", NOW + 8 * DAY + SECOND)
        assert await memories.get("a.test") is None
        assert on_disk(tmp_path) == {}


@pytest.mark.asyncio
async def test_a_run_that_goes_on_is_written_once_an_hour(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
            seen = [other.execute("PRAGMA data_version").fetchone()]
            for minutes in range(180):
                now = NOW + timedelta(minutes=minutes)
                await with_tls(memories, "a.test", now, "sts" if minutes % 2 else None)  # two domains, one host
                await without(memories, "never.test", now)
                assert await memories.get("a.test") == TlsMemory(NOW, now, "sts" if minutes % 2 else None)
                seen.append(other.execute("PRAGMA data_version").fetchone())
        assert [minute for minute in range(180) if seen[minute] != seen[minute + 1]] == [60, 120]
        assert (await memories.all())["a.test"].last == now


@pytest.mark.asyncio
async def test_a_restart_forgets_nothing_of_a_run_that_goes_on(tmp_path: Path) -> None:
    last = NOW + WRITE_EVERY - SECOND
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        await with_tls(memories, "a.test", last)
        assert on_disk(tmp_path)["a.test"][1] == NOW.isoformat()  # the price of a power cut
    async with memories_in(tmp_path) as (memories, _):
        assert await memories.get("a.test") == TlsMemory(NOW, last, None)


@pytest.mark.asyncio
async def test_that_a_host_has_had_tls_for_long_enough_is_on_disk_at_once(tmp_path: Path) -> None:
    """Whatever happens afterwards: from here on its loss counts."""
    rules = MemoryRules(OnTlsLoss.DEFER, after=3 * SECOND, defer_for=DAY)
    async with memories_in(tmp_path, rules) as (memories, _):
        for seconds in (0, 0.5, 3, 3.5):
            await with_tls(memories, "a.test", NOW + seconds * SECOND)
        assert on_disk(tmp_path)["a.test"][:2] == (NOW.isoformat(), (NOW + 3 * SECOND).isoformat())


@pytest.mark.asyncio
async def test_what_changes_is_on_disk_at_once(tmp_path: Path) -> None:
    def row(since: datetime, last: datetime, lost_at: datetime | None = None) -> tuple[str | None, ...]:
        return since.isoformat(), last.isoformat(), None, lost_at.isoformat() if lost_at else None

    lost, healed, back = NOW + SECOND, NOW + 2 * SECOND, NOW - SECOND
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        assert on_disk(tmp_path) == {"a.test": row(NOW, NOW)}
        await without(memories, "a.test", lost)
        assert on_disk(tmp_path) == {"a.test": row(NOW, NOW, lost)}
        await without(memories, "a.test", healed)
        assert on_disk(tmp_path) == {"a.test": row(NOW, NOW, lost)}
        await with_tls(memories, "a.test", healed)
        assert on_disk(tmp_path) == {"a.test": row(NOW, healed)}
        await with_tls(memories, "a.test", back)  # the clock was set back, to before it all
        assert on_disk(tmp_path) == {"a.test": row(back, back)}


@pytest.mark.asyncio
async def test_a_clock_set_back_by_much_does_not_stop_the_writing(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        await with_tls(memories, "a.test", NOW + 3650 * DAY)
        await with_tls(memories, "a.test", NOW + DAY)
        assert on_disk(tmp_path)["a.test"][:2] == (NOW.isoformat(), (NOW + DAY).isoformat())


@pytest.mark.asyncio
async def test_sessions_at_the_same_time_lose_nothing_of_each_other(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
    async with memories_in(tmp_path) as (memories, _):  # all of them have to look on disk first
        times = [NOW + number * SECOND for number in range(20)]
        await asyncio.gather(*(with_tls(memories, "a.test", now) for now in times))
        await asyncio.gather(
            without(memories, "a.test", NOW + DAY), *(with_tls(memories, "b.test", NOW) for _ in times)
        )
        assert await memories.get("a.test") == TlsMemory(NOW, times[-1], None, lost_at=NOW + DAY)
        assert await memories.get("b.test") == TlsMemory(NOW, NOW, None)


@pytest.mark.asyncio
async def test_hosts_not_met_for_half_a_year_are_forgotten(tmp_path: Path) -> None:
    now = NOW + FORGET_AFTER
    async with memories_in(tmp_path) as (memories, troubles):
        await with_tls(memories, "old.test", NOW)
        await with_tls(memories, "lost.test", NOW)
        await without(memories, "lost.test", now)  # it is the last one with TLS that counts
        await with_tls(memories, "young.test", NOW + SECOND)
        await with_tls(memories, "met.test", NOW)
        await with_tls(memories, "met.test", NOW + 2 * SECOND)  # in memory alone
        await with_tls(memories, "future.test", now + 1000 * DAY)
        await memories.tidy(now)
        assert set(await memories.all()) == {"young.test", "met.test", "future.test"} == set(on_disk(tmp_path))
        assert await memories.get("old.test") is None
        await memories.tidy(now + SECOND)
        assert set(on_disk(tmp_path)) == {"met.test", "future.test"}
        assert not troubles


@pytest.mark.asyncio
async def test_a_look_at_what_is_known_needs_no_thread(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        await without(memories, "never.test", NOW)
        for host, known in (("a.test", TlsMemory(NOW, NOW, None)), ("never.test", None)):
            with pytest.raises(StopIteration) as done:  # a coroutine that never waits ends with its first step
                memories.get(host).send(None)
            assert done.value.value == known
        with pytest.raises(StopIteration):
            with_tls(memories, "a.test", NOW + SECOND).send(None)
        with pytest.raises(StopIteration):
            without(memories, "never.test", NOW).send(None)


@pytest.mark.asyncio
@pytest.mark.parametrize("row", [(None, None), ("soon", "later"), ("2026-01-02", "2026-01-02"), (b"\xff", b"\xff")])
@pytest.mark.parametrize("lost_at", [None, "soon"])
async def test_a_row_that_we_cannot_have_written_is_as_good_as_none(
    tmp_path: Path, row: tuple[object, object], lost_at: str | None
) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute("UPDATE host SET since = ?, last = ?, lost_at = ?", (*row, lost_at))
        other.commit()
    async with memories_in(tmp_path) as (memories, troubles):
        await memories.tidy(NOW)
        assert await memories.get("a.test") is None
        await with_tls(memories, "a.test", NOW)
        assert await memories.all() == {"a.test": TlsMemory(NOW, NOW, None)}
        assert not troubles


@pytest.mark.asyncio
async def test_damage_forgets_what_is_not_in_memory(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        await with_tls(memories, "a.test", NOW)
        await with_tls(memories, "b.test", NOW)
    async with memories_in(tmp_path) as (memories, troubles):
        await with_tls(memories, "a.test", NOW + SECOND)
        (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 500)
        assert await memories.get("b.test") is None
        assert len(troubles) == 1
        assert f"was moved to {tmp_path / FILE_NAME}.damaged; which hosts have TLS is learned anew" in troubles[0]
    async with memories_in(tmp_path) as (memories, troubles):
        assert await memories.all() == {"a.test": TlsMemory(NOW, NOW + SECOND, None)}
        assert not troubles


@pytest.mark.asyncio
async def test_without_a_file_it_goes_on_in_memory_and_says_so_once(tmp_path: Path) -> None:
    async with memories_in(tmp_path / "not there") as (memories, troubles):
        for host in ("a.test", "b.test"):
            assert await memories.get(host) is None
            await with_tls(memories, host, NOW)
            await without(memories, host, NOW + DAY)
        lost = TlsMemory(NOW, NOW, None, lost_at=NOW + DAY)
        assert await memories.all() == {"a.test": lost, "b.test": lost}
        await memories.tidy(NOW + FORGET_AFTER)
        assert await memories.all() == {}
        assert len(troubles) == 1
        assert "cannot be opened" in troubles[0]
        assert troubles[0].endswith("; which hosts have TLS is remembered until the service stops")


@pytest.mark.asyncio
async def test_a_file_that_is_deleted_meanwhile_stops_nothing(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, troubles):
        await with_tls(memories, "a.test", NOW)
        (tmp_path / FILE_NAME).unlink()
        await without(memories, "a.test", NOW + DAY)
        await with_tls(memories, "b.test", NOW)
        assert await memories.get("a.test") == TlsMemory(NOW, NOW, None, lost_at=NOW + DAY)
        assert await memories.get("unknown.test") is None
        assert len(troubles) == 1
    assert set(on_disk(tmp_path)) == {"a.test", "b.test"}


@pytest.mark.asyncio
async def test_what_cannot_be_read_now_is_not_replaced_unseen(tmp_path: Path) -> None:
    async with memories_in(tmp_path) as (memories, _):
        for host in ("a.test", "b.test"):
            await with_tls(memories, host, NOW)
    later = NOW + 10 * DAY
    async with memories_in(tmp_path) as (memories, troubles):
        assert await memories.get("b.test")
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
            other.execute("ALTER TABLE host RENAME TO away")
            await memories.tidy(later)
            assert len(troubles) == 1
            assert await memories.get("a.test") is None
            await with_tls(memories, "a.test", later)
            assert await memories.get("a.test") is None
            with pytest.raises(DiskTableError, match="the file of hosts that have TLS cannot be read"):
                await memories.all()
            assert len(troubles) == 1
            assert troubles[0].endswith("; a host whose TLS is lost may not be noticed")
            await with_tls(memories, "b.test", NOW + SECOND)
            assert await memories.get("b.test") == TlsMemory(NOW, NOW + SECOND, None)
            other.execute("ALTER TABLE away RENAME TO host")
            await with_tls(memories, "a.test", later)
            assert await memories.get("a.test") == TlsMemory(NOW, later, None)
            await memories.tidy(later)
            other.execute("ALTER TABLE host RENAME TO away")
            assert await memories.get("c.test") is None
            assert len(troubles) == 2  # another outage, another word


@pytest.mark.asyncio
async def test_memory_is_bounded_and_the_disk_knows_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.disk_table._MEMORY_SIZE", 2)
    known = {f"{number}.test": TlsMemory(NOW, NOW, "dane") for number in range(4)}
    async with memories_in(tmp_path) as (memories, _):
        for host in known:
            await with_tls(memories, host, NOW, "dane")
        for host, memory in known.items():
            assert await memories.get(host) == memory
        for host, memory in known.items():
            await without(memories, host, NOW + DAY)
            assert await memories.get(host) == replace(memory, lost_at=NOW + DAY)
