"""The MTA-STS policies on disk: they survive restarts and cuts of power, and a broken file stops nothing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.lookup.sts_cache import FILE_NAME, StsCache, StsCacheError, StsEntry
from relay.policy.sts import StsFetchFailed, StsFound, StsProblem, parse_policy

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
RAW = "version: STSv1\r\nmode: enforce\r\nmx: *.a.test\r\nnote: J\ufffdrgen 山\r\nmax_age: 86400\r\n"
FOUND = StsFound(parse_policy(RAW.encode()), "1", NOW)
ENTRIES = {
    "policy.test": StsEntry(NOW, FOUND),
    "failed.test": StsEntry(
        NOW, None, NOW + timedelta(seconds=1), StsFetchFailed("it answered 404", StsProblem.FETCH), "2"
    ),
    "both.test": StsEntry(
        NOW, FOUND, NOW + timedelta(seconds=1), StsFetchFailed("it expired", StsProblem.CERTIFICATE), "3"
    ),
}


@asynccontextmanager
async def cache_in(folder: Path, opens: bool = True) -> AsyncIterator[tuple[StsCache, list[str]]]:
    troubles: list[str] = []
    cache = StsCache(folder, troubles.append)
    if opens:
        await cache.open()
    else:
        with pytest.raises(StsCacheError, match=f"^{folder / FILE_NAME} cannot be opened "):
            await cache.open()
    try:
        yield cache, troubles
    finally:
        await cache.close()


async def fill(folder: Path) -> None:
    async with cache_in(folder) as (cache, _):
        for domain, entry in ENTRIES.items():
            await cache.put(domain, entry)


@pytest.mark.asyncio
async def test_what_is_put_comes_back_after_a_restart(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with cache_in(tmp_path) as (cache, troubles):
        for domain, entry in ENTRIES.items():
            assert await cache.get(domain) == entry
        assert await cache.get("other.test") is None
        assert not troubles


@pytest.mark.asyncio
async def test_the_newest_entry_counts(tmp_path: Path) -> None:
    newer = StsEntry(NOW, replace(FOUND, id="2"))
    await fill(tmp_path)
    async with cache_in(tmp_path) as (cache, _):
        assert await cache.get("both.test") == ENTRIES["both.test"]
        await cache.put("both.test", newer)
        await cache.put("new.test", newer)
        assert await cache.get("both.test") == await cache.get("new.test") == newer
    async with cache_in(tmp_path) as (cache, _):
        assert await cache.get("both.test") == await cache.get("new.test") == newer


@pytest.mark.asyncio
async def test_what_is_put_during_a_look_on_disk_counts(tmp_path: Path) -> None:
    newer = StsEntry(NOW, replace(FOUND, id="2"))
    await fill(tmp_path)
    async with cache_in(tmp_path) as (cache, _):
        found, _ = await asyncio.gather(cache.get("both.test"), cache.put("both.test", newer))
        assert found == await cache.get("both.test") == newer


@pytest.mark.asyncio
async def test_on_disk_when_put_returns(tmp_path: Path) -> None:
    async with cache_in(tmp_path) as (cache, _):
        await cache.put("a.test", ENTRIES["policy.test"])
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
            assert other.execute("SELECT id, raw FROM policy WHERE domain = 'a.test'").fetchall() == [("1", RAW)]


@pytest.mark.asyncio
async def test_a_row_that_we_cannot_read_is_as_good_as_none(tmp_path: Path) -> None:
    await fill(tmp_path)
    changes = {
        "policy.test": "raw = 'nonsense'",
        "failed.test": "failed_at = '2026-01-02T03:04:05'",  # in which zone?
        "both.test": "fetched_at = ''",
    }
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        for domain, change in changes.items():
            other.execute(f"UPDATE policy SET {change} WHERE domain = ?", (domain,))
        other.commit()
    async with cache_in(tmp_path) as (cache, troubles):
        for domain in changes:
            assert await cache.get(domain) is None
        assert not troubles


@pytest.mark.asyncio
@pytest.mark.parametrize("damage", ["no database", "torn pages", "cut short"])
async def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE_NAME
    await fill(tmp_path)
    octets = path.read_bytes()
    damaged = {
        "no database": b"not a database at all" * 500,
        "torn pages": octets[:4096] + os.urandom(4096) + octets[8192:],
        "cut short": octets[:6000],
    }[damage]
    path.write_bytes(damaged)
    async with cache_in(tmp_path) as (cache, troubles):
        assert len(troubles) == 1
        assert f"was moved to {path}.damaged; MTA-STS policies fetched before are forgotten" in troubles[0]
        assert Path(f"{path}.damaged").read_bytes() == damaged
        assert await cache.get("policy.test") is None
        await cache.put("policy.test", ENTRIES["policy.test"])
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.get("policy.test") == ENTRIES["policy.test"]
        assert not troubles


@pytest.mark.asyncio
@pytest.mark.parametrize("deed", ["get", "put"])
async def test_damage_that_shows_later_keeps_what_is_in_memory(tmp_path: Path, deed: str) -> None:
    async with cache_in(tmp_path) as (cache, troubles):
        await cache.put("a.test", ENTRIES["policy.test"])
        await cache.put("c.test", ENTRIES["failed.test"])
        (tmp_path / FILE_NAME).write_bytes(b"not a database at all" * 500)
        if deed == "get":
            assert await cache.get("unknown.test") is None
        else:
            await cache.put("b.test", ENTRIES["both.test"])
        assert len(troubles) == 1
    octets = (tmp_path / FILE_NAME).read_bytes()
    assert int.from_bytes(octets[24:28]) == 2  # commits: the table, and all that was in memory
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.get("a.test") == ENTRIES["policy.test"]
        assert await cache.get("b.test") == (ENTRIES["both.test"] if deed == "put" else None)
        assert await cache.get("c.test") == ENTRIES["failed.test"]
        assert not troubles


@pytest.mark.asyncio
async def test_damage_that_many_meet_at_once_is_one_damage(tmp_path: Path) -> None:
    async with cache_in(tmp_path) as (cache, troubles):
        await cache.put("a.test", ENTRIES["policy.test"])
        damaged = b"not a database at all" * 500
        (tmp_path / FILE_NAME).write_bytes(damaged)
        found = await asyncio.gather(
            cache.get("x.test"), cache.get("y.test"), cache.put("b.test", ENTRIES["both.test"]), cache.forget("z.test")
        )
        assert not any(found)
        assert len(troubles) == 1
        assert (tmp_path / f"{FILE_NAME}.damaged").read_bytes() == damaged
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.all() == {"a.test": ENTRIES["policy.test"], "b.test": ENTRIES["both.test"]}
        assert not troubles


@pytest.mark.asyncio
async def test_a_damaged_file_that_cannot_be_moved_is_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"not a database at all" * 500)
    Path(f"{path}.damaged").mkdir()  # the place is taken
    async with cache_in(tmp_path) as (cache, troubles):
        for domain, entry in ENTRIES.items():
            await cache.put(domain, entry)
            assert await cache.get(domain) == entry
        assert await cache.get("other.test") is None
        assert len(troubles) == 1
        assert "is damaged (file is not a database) and cannot be replaced" in troubles[0]
        Path(f"{path}.damaged").rmdir()
        await cache.put("a.test", ENTRIES["policy.test"])
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.all() == ENTRIES | {"a.test": ENTRIES["policy.test"]}
        assert not troubles


@pytest.mark.asyncio
async def test_without_a_file_it_can_go_on_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with cache_in(folder, opens=False) as (cache, troubles):
        assert await cache.get("both.test") is None
        for domain, entry in ENTRIES.items():
            await cache.put(domain, entry)
            assert await cache.get(domain) == entry
        folder.mkdir()
        await fill(folder)  # somebody else's, or the disk is back
        await cache.put("a.test", ENTRIES["policy.test"])
        assert await cache.get("both.test") == ENTRIES["both.test"]
        assert not troubles  # it was said at the beginning
    async with cache_in(folder) as (cache, troubles):
        assert await cache.get("a.test") == ENTRIES["policy.test"]
        assert not troubles


@pytest.mark.asyncio
async def test_what_was_not_there_without_a_file_is_looked_for_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with cache_in(folder, opens=False) as (cache, _):
        assert await cache.get("policy.test") is None
        folder.mkdir()
        await fill(folder)
        await cache.put("a.test", ENTRIES["both.test"])
        assert await cache.get("policy.test") == ENTRIES["policy.test"]


@pytest.mark.asyncio
async def test_a_file_that_cannot_be_read_now_is_no_empty_file(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with cache_in(tmp_path) as (cache, troubles):
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
            other.execute("ALTER TABLE policy RENAME TO away")
            with pytest.raises(StsCacheError, match="no such table"):
                await cache.get("policy.test")
            await cache.put("a.test", ENTRIES["both.test"])
            assert len(troubles) == 1
            other.execute("ALTER TABLE away RENAME TO policy")
        assert await cache.get("policy.test") == ENTRIES["policy.test"]
        assert await cache.get("a.test") == ENTRIES["both.test"]


@pytest.mark.asyncio
async def test_a_file_of_the_first_version_is_read_and_written(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute(
            "CREATE TABLE policy (domain TEXT PRIMARY KEY, used_at TEXT NOT NULL, id TEXT, fetched_at TEXT, raw TEXT, "
            "failed_at TEXT, failure TEXT, failed_id TEXT)"
        )
        time = "2026-01-02T03:04:05.678901+00:00"
        row = ("policy.test", time, "1", time, RAW, None, None, None)
        other.execute("INSERT INTO policy VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        other.commit()
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.get("policy.test") == ENTRIES["policy.test"]
        await cache.put("both.test", ENTRIES["both.test"])
        await cache.forget("policy.test")
        assert not troubles
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.all() == {"both.test": ENTRIES["both.test"]}
        assert not troubles


@pytest.mark.asyncio
async def test_what_is_forgotten_is_not_found_even_without_a_file(tmp_path: Path) -> None:
    async with cache_in(tmp_path / "not there", opens=False) as (cache, troubles):
        await cache.put("a.test", ENTRIES["policy.test"])
        await cache.forget("a.test")
        assert await cache.get("a.test") is None
        assert await cache.all() == {}
        assert not troubles


@pytest.mark.asyncio
async def test_a_file_of_another_make_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        other.execute("CREATE TABLE policy (domain TEXT PRIMARY KEY, something TEXT)")
    before = (tmp_path / FILE_NAME).read_bytes()
    async with cache_in(tmp_path, opens=False) as (cache, _):
        await cache.put("a.test", ENTRIES["policy.test"])
        assert await cache.get("a.test") == ENTRIES["policy.test"]
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.asyncio
async def test_memory_is_bounded_and_the_disk_knows_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.disk_table._MEMORY_SIZE", 2)
    await fill(tmp_path)
    async with cache_in(tmp_path) as (cache, _):
        for _ in range(2):
            for domain, entry in ENTRIES.items():
                assert await cache.get(domain) == entry
                assert len(cache._memory) <= 2


@pytest.mark.asyncio
async def test_what_was_looked_at_last_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.disk_table._MEMORY_SIZE", 2)
    async with cache_in(tmp_path) as (cache, _):
        for domain in ("a.test", "b.test", "a.test", "c.test"):
            await cache.get(domain)
        assert list(cache._memory) == ["a.test", "c.test"]


@pytest.mark.asyncio
async def test_a_file_that_is_deleted_under_us_is_made_anew(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.get("policy.test") == ENTRIES["policy.test"]
        (tmp_path / FILE_NAME).unlink()
        await cache.put("a.test", ENTRIES["both.test"])
        assert troubles == [f"{tmp_path / FILE_NAME} was deleted; it was made anew, with what is in memory"]
    async with cache_in(tmp_path) as (cache, troubles):
        assert await cache.all() == {"policy.test": ENTRIES["policy.test"], "a.test": ENTRIES["both.test"]}
        assert not troubles


@pytest.mark.asyncio
async def test_a_failure_that_an_older_version_wrote_has_no_problem(tmp_path: Path) -> None:
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE policy SET failure = 'it answered 404' WHERE domain = 'failed.test'")
    async with cache_in(tmp_path) as (cache, _):
        entry = await cache.get("failed.test")
        assert entry is not None and entry.failure == StsFetchFailed("it answered 404")
