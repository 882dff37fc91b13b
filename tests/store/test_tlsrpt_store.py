"""What TLS reports keep on disk: counts, reports and their deliveries, over restarts, with a file that is not well."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy, Tally
from relay.tlsrpt import tables
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.outbox import Due, GivenUp, Later, NewReport, Sent, State
from relay.tlsrpt.store import FILE_NAME, KEEP, KEEP_UNTOLD, ReportStore, ReportStoreError

pytestmark = pytest.mark.asyncio

NOW = datetime(2030, 1, 2, 1, 0, tzinfo=UTC)
DAY = date(2030, 1, 1)
LEASE = timedelta(minutes=10)
STS = ReportedPolicy(PolicyType.STS, "a.example", ("version: STSv1", "mode: enforce"), ("*.a.example",))
NONE = ReportedPolicy(PolicyType.NO_POLICY_FOUND, "a.example")
EXPIRED = Fault(ReportResult.CERTIFICATE_EXPIRED, "10", "mx.a.example", "helo.example", "192.0.2.1", "192.0.2.2")
GOOD = Tally("a.example", STS)
BAD = Tally("a.example", STS, EXPIRED)


@dataclass(slots=True)
class Desk:
    """A store in a folder, and what it had to say."""

    folder: Path
    store: ReportStore = field(init=False)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = ReportStore(self.folder, self.words.append)

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    desk = Desk(folder)
    await desk.store.open()
    try:
        yield desk
    finally:
        await desk.store.close()


def report(id: str = "1@r.example", *uris: str, due: datetime = NOW) -> NewReport:
    return NewReport(id, b"octets of " + id.encode(), uris or ("mailto:a@a.example",), due)


def bad(number: int, result: ReportResult = ReportResult.VALIDATION_FAILURE) -> Tally:
    return Tally("a.example", STS, Fault(result, f"reason {number}", "mx.a.example"))


async def test_counts_add_up_and_outlive_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        assert await desk.store.add({(DAY, GOOD): 2, (DAY, BAD): 1}) == 0
        await desk.store.add({(DAY, GOOD): 3, (DAY, Tally("b.example", NONE)): 1, (DAY + timedelta(1), GOOD): 9})
    async with opened(tmp_path) as desk:
        counted = await desk.store.counts(DAY, "a.example")
        assert set(counted) == {Counted(STS, None, 5), Counted(STS, EXPIRED, 1)}
        assert await desk.store.totals(DAY) == {"a.example": (5, 1), "b.example": (1, 0)}
        assert await desk.store.waiting(DAY + timedelta(1)) == ((DAY, "a.example"), (DAY, "b.example"))
        assert await desk.store.counts(DAY, "c.example") == ()
        assert desk.path.stat().st_mode & 0o777 == 0o600


async def test_the_text_of_a_policy_is_there_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        for number in range(10):
            await desk.store.add({(DAY, bad(number)): 1, (DAY + timedelta(1), bad(number)): 1})
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM policy").fetchone() == (1,)


async def test_two_versions_of_a_policy_are_two(tmp_path: Path) -> None:
    newer = ReportedPolicy(PolicyType.STS, "a.example", ("version: STSv1", "mode: testing"), ("*.a.example",))
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 1, (DAY, Tally("a.example", newer)): 2})
        assert set(await desk.store.counts(DAY, "a.example")) == {Counted(STS, None, 1), Counted(newer, None, 2)}


async def test_too_many_faults_are_one_row_of_each_result(tmp_path: Path) -> None:
    many = tables.MOST_FAULTS + 50
    other = ReportResult.TLSA_INVALID
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, bad(number)): 1 for number in range(many)})
        assert (
            await desk.store.add({(DAY, bad(0)): 5, (DAY, bad(many)): 1, (DAY, bad(1, other)): 2, (DAY, GOOD): 7}) == 0
        )
        counted = await desk.store.counts(DAY, "a.example")
    assert sum(one.number for one in counted) == many + 5 + 1 + 2 + 7
    assert len(counted) == tables.MOST_FAULTS + 3
    assert Counted(STS, Fault(ReportResult.VALIDATION_FAILURE), 51) in counted
    assert Counted(STS, Fault(other), 2) in counted
    assert next(one for one in counted if one.fault == bad(0).fault).number == 6


async def test_too_many_policies_are_one_of_each_type(tmp_path: Path) -> None:
    def of(number: int) -> Tally:
        return Tally("a.example", ReportedPolicy(PolicyType.TLSA, f"mx{number}.evil.example", (str(number),)))

    many = tables.MOST_POLICIES + 7
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, of(number)): 1 for number in range(many)})
        await desk.store.add({(DAY, of(number)): 1 for number in range(many)})
        counted = await desk.store.counts(DAY, "a.example")
        assert len(counted) == tables.MOST_POLICIES + 1
        assert Counted(ReportedPolicy(PolicyType.TLSA, "a.example"), None, 14) in counted
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM policy").fetchone() == (tables.MOST_POLICIES + 1,)


async def test_too_many_domains_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_DOMAINS", 3)
    async with opened(tmp_path) as desk:
        lost = await desk.store.add({(DAY, Tally(f"{number}.example", NONE)): 2 for number in range(5)})
        assert lost == 4
        assert await desk.store.add({(DAY, Tally("0.example", NONE)): 1, (DAY, Tally("9.example", NONE)): 1}) == 1
        assert await desk.store.totals(DAY) == {"0.example": (3, 0), "1.example": (2, 0), "2.example": (2, 0)}
        assert await desk.store.add({(DAY + timedelta(1), Tally("9.example", NONE)): 1}) == 0  # another day


async def test_in_a_full_file_what_is_there_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 1})
        monkeypatch.setattr(tables, "MOST_OCTETS", 0)
        lost = await desk.store.add({(DAY, GOOD): 1, (DAY, BAD): 3, (DAY, Tally("a.example", NONE)): 5})
        assert lost == 8
        assert await desk.store.add({(DAY, Tally("b.example", NONE)): 1}) == 1
        assert await desk.store.counts(DAY, "a.example") == (Counted(STS, None, 2),)
        assert await desk.store.issue(DAY, "a.example", lambda _: report(), NOW) is not None


async def test_a_report_takes_the_place_of_its_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        given: list[tuple[Counted, ...]] = []

        def make(counts: tuple[Counted, ...]) -> NewReport:
            given.append(counts)
            return report("1@r.example", "mailto:a@a.example", "https://a.example/r")

        assert await desk.store.issue(DAY, "a.example", make, NOW) is not None
        assert given == [(Counted(STS, None, 2),)]
        assert await desk.store.waiting(date.max) == ()
        assert await desk.store.issue(DAY, "a.example", make, NOW) is None  # by another process, say
        assert len(given) == 1
    async with opened(tmp_path) as desk:
        due = await desk.store.claim(NOW, LEASE, 10)
        assert [(one.id, one.day, one.domain, one.octets, one.uri, one.attempts) for one in due] == [
            ("1@r.example", DAY, "a.example", b"octets of 1@r.example", "https://a.example/r", 1),
            ("1@r.example", DAY, "a.example", b"octets of 1@r.example", "mailto:a@a.example", 1),
        ]


async def test_a_report_that_cannot_be_made_leaves_its_counts(tmp_path: Path) -> None:
    def fail(counts: tuple[Counted, ...]) -> NewReport:
        raise ZeroDivisionError

    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        with pytest.raises(ZeroDivisionError):
            await desk.store.issue(DAY, "a.example", fail, NOW)
        assert await desk.store.counts(DAY, "a.example") == (Counted(STS, None, 2),)


async def test_a_delivery_from_one_attempt_to_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        await desk.store.issue(DAY, "a.example", lambda _: report(due=NOW + LEASE), NOW)
        assert await desk.store.claim(NOW, LEASE, 10) == ()
        assert await desk.store.next_due() == NOW + LEASE
        (first,) = await desk.store.claim(NOW + LEASE, LEASE, 10)
        assert await desk.store.claim(NOW + LEASE, LEASE, 10) == ()  # it has a lease
        again = NOW + 10 * LEASE
        assert await desk.store.settle(first, Later(again, "503 busy"), NOW + LEASE)
        (ended,) = await desk.store.ended(DAY)
        assert (ended.id, ended.octets, ended.at) == ("1@r.example", b"octets of 1@r.example", NOW)
        (delivery,) = ended.deliveries
        assert (delivery.state, delivery.attempts, delivery.until, delivery.words) == (
            State.WAITS,
            1,
            again,
            "503 busy",
        )
        (second,) = await desk.store.claim(again, LEASE, 10)
        assert (second.attempts, second.made) == (2, NOW)
        assert await desk.store.settle(second, Sent("200"), again)
        assert await desk.store.next_due() is None
        ((delivery,),) = [one.deliveries for one in await desk.store.ended(DAY, "a.example")]
        assert (delivery.state, delivery.words, delivery.at) == (State.SENT, "200", again)


async def test_who_lost_the_lease_settles_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        await desk.store.issue(DAY, "a.example", lambda _: report(), NOW)
        (slow,) = await desk.store.claim(NOW, LEASE, 10)
        (quick,) = await desk.store.claim(NOW + LEASE, LEASE, 10)
        assert not await desk.store.settle(slow, Sent(), NOW + LEASE)
        assert await desk.store.settle(quick, GivenUp("404"), NOW + LEASE)
        assert not await desk.store.settle(quick, Sent(), NOW + LEASE)


async def test_what_was_dropped_and_why(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        await desk.store.drop(DAY, "a.example", "it has no record", NOW)
        assert await desk.store.waiting(date.max) == ()
        (ended,) = await desk.store.ended(DAY, "a.example")
        assert (ended.id, ended.octets, ended.words, ended.deliveries) == (None, None, "it has no record", ())
        assert await desk.store.ended(DAY, "b.example") == ()


async def test_what_is_old_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2, (DAY, Tally("b.example", NONE)): 1})
        await desk.store.issue(DAY, "a.example", lambda _: report(), NOW)
        await desk.store.ask(DAY, ())  # and never taken back
        await desk.store.tidy(NOW + KEEP - timedelta(days=1))
        assert len(await desk.store.asked()) == 1
        assert len(await desk.store.ended(DAY)) == 1
        assert await desk.store.waiting(date.max) == ((DAY, "b.example"),)
        await desk.store.tidy(NOW + KEEP + timedelta(seconds=1))
        assert await desk.store.ended(DAY) == ()
        assert await desk.store.asked() == ()
        assert await desk.store.claim(NOW + KEEP, LEASE, 1) == ()
        assert await desk.store.waiting(date.max) == ()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM policy").fetchone() == (0,)


async def test_why_a_domain_was_not_told_is_forgotten_sooner(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2, (DAY, Tally("b.example", NONE)): 1})
        await desk.store.issue(DAY, "a.example", lambda _: report(), NOW)
        await desk.store.drop(DAY, "b.example", "it has no record", NOW)
        await desk.store.tidy(NOW + KEEP_UNTOLD)
        assert [one.domain for one in await desk.store.ended(DAY)] == ["a.example", "b.example"]
        await desk.store.tidy(NOW + KEEP_UNTOLD + timedelta(seconds=1))
        assert [one.domain for one in await desk.store.ended(DAY)] == ["a.example"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
async def test_a_file_that_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    """`relay tlsrpt send` may come before the service, or find no file."""
    os.chown(tmp_path, 4711, 4712)
    async with opened(tmp_path) as desk:
        for _ in range(2):
            await desk.store.add({(DAY, GOOD): 1})
            found = [path.stat() for path in tmp_path.glob(f"{FILE_NAME}*")]
            assert {(one.st_uid, one.st_gid, one.st_mode & 0o7777) for one in found} == {(4711, 4712, 0o600)}
            assert len(found) == 3  # SQLite's own beside it
            desk.path.unlink()


async def test_a_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        assert await desk.store.totals(DAY) == {"a.example": (2, 0)}
        (said,) = desk.words
        assert "is damaged" in said
        assert (tmp_path / f"{FILE_NAME}.damaged").read_bytes().startswith(b"no database")


async def test_a_row_that_cannot_be_ours_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        with closing(sqlite3.connect(desk.path)) as connection, connection:
            connection.execute("UPDATE policy SET text = '{'")
        assert await desk.store.counts(DAY, "a.example") == ()
        assert "cannot have written" in desk.words[0]


async def test_a_file_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await desk.store.add({(DAY, GOOD): 2})
        for path in tmp_path.iterdir():
            path.unlink()
        await desk.store.add({(DAY, GOOD): 1})
        assert "was deleted" in desk.words[0]
        assert await desk.store.totals(DAY) == {"a.example": (1, 0)}
        assert desk.path.exists()


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
    desk = Desk(tmp_path)
    with pytest.raises(ReportStoreError, match="schema 99"):
        await desk.store.open()
    await desk.store.close()
    assert desk.words == []
    assert not (tmp_path / f"{FILE_NAME}.damaged").exists()


async def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    async with opened_later(tmp_path / "not") as desk:
        with pytest.raises(ReportStoreError, match="cannot be used"):
            await desk.store.add({(DAY, GOOD): 2})
        (tmp_path / "not").mkdir()
        await desk.store.add({(DAY, GOOD): 2})
        assert await desk.store.totals(DAY) == {"a.example": (2, 0)}


@asynccontextmanager
async def opened_later(folder: Path) -> AsyncIterator[Desk]:
    desk = Desk(folder)
    with pytest.raises(ReportStoreError):
        await desk.store.open()
    try:
        yield desk
    finally:
        await desk.store.close()


async def test_two_processes_share_the_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as service, opened(tmp_path) as command:
        await service.store.add({(DAY, GOOD): 2})
        assert await command.store.issue(DAY, "a.example", lambda _: report(), NOW) is not None
        await service.store.add({(DAY, GOOD): 1})  # counted after the report was made: for another one
        assert await command.store.totals(DAY) == {"a.example": (1, 0)}
        assert [type(one) for one in await service.store.claim(NOW, LEASE, 10)] == [Due]
        assert await command.store.claim(NOW, LEASE, 10) == ()
