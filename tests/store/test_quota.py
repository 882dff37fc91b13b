"""Quotas over real files: held, counted, remembered over restarts, and kept when the files are not well."""

from __future__ import annotations

import asyncio
import ipaddress
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.events import Event, QuotaFailed, QuotaReached
from relay.mail.address import Address, parse_address
from relay.policy.clients import Grant, Peer, Quota
from relay.policy.quota import DAY, SLOT, Limit, Over
from relay.submission.quota import FORGET_AFTER, TELL_EVERY, Quotas, Spending

pytestmark = pytest.mark.asyncio

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PEER = Peer(ipaddress.ip_address("192.0.2.1"), "l", (), "alice")
OTHER = Peer(ipaddress.ip_address("192.0.2.1"), "l", (), "bob")
SECOND = timedelta(seconds=1)


class Desk:
    """Quotas in a folder, with a clock that is moved by hand."""

    def __init__(self, folder: Path, now: datetime) -> None:
        self.now = now
        self.events: list[Event] = []
        self.quotas = Quotas(folder, lambda: self.now, self.events.append)

    async def begin(self, grant: Grant, *names: str, peer: Peer = PEER) -> Spending | Over:
        """A message on its way in to all of these, or to none."""
        spending = self.quotas.message(grant, peer)
        if isinstance(spending, Over):
            return spending
        for recipient in addresses(*names):
            found = await spending.add(recipient)
            if found is not None:
                spending.release()
                return found
        return spending

    async def send(self, grant: Grant, *names: str, peer: Peer = PEER) -> Over | None:
        """A whole message, accepted if it may be."""
        spending = await self.begin(grant, *names, peer=peer)
        if isinstance(spending, Over):
            return spending
        await spending.accept()
        return None

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, QuotaFailed)]


@asynccontextmanager
async def desk(folder: Path, now: datetime = START) -> AsyncIterator[Desk]:
    found = Desk(folder, now)
    await found.quotas.open()
    try:
        yield found
    finally:
        await found.quotas.close()


def addresses(*names: str) -> list[Address]:
    return [parse_address(f"{name}@b.test".encode()) for name in names]


def grant(messages: int | None = None, recipients: int | None = None, new: int | None = None) -> Grant:
    return Grant("x", users=("*",), quota=Quota(messages, recipients, new))


async def test_messages_in_a_minute(tmp_path: Path) -> None:
    limited = grant(messages=6)
    async with desk(tmp_path) as at:
        for _ in range(6):
            assert await at.send(limited, "a") is None
        assert await at.send(limited, "a") == Over(Limit.MESSAGES, 6)
        assert await at.send(limited, "a", peer=OTHER) is None
        at.now += 10 * SECOND
        assert await at.send(limited, "a") is None
        assert await at.send(limited, "a") == Over(Limit.MESSAGES, 6)


async def test_what_was_given_up_costs_nothing(tmp_path: Path) -> None:
    limited = grant(1, 2, 2)
    async with desk(tmp_path) as at:
        for _ in range(5):
            spending = await at.begin(limited, "a", "b")
            assert isinstance(spending, Spending)
            spending.release()
            spending.release()
        assert await at.send(limited, "a", "b") is None


async def test_messages_on_their_way_in_are_held_against_the_limit(tmp_path: Path) -> None:
    """Or as many sessions at once as there may be would each have the whole day."""
    limited = grant(recipients=3)
    async with desk(tmp_path) as at:
        one = await at.begin(limited, "a", "b")
        assert isinstance(one, Spending)
        assert await at.send(limited, "c", "d") == Over(Limit.RECIPIENTS, 3)
        assert await at.send(limited, "c") is None  # the message refused holds nothing any more
        assert await at.send(limited, "d") == Over(Limit.RECIPIENTS, 3)
        await one.accept()
        assert await at.send(limited, "d") == Over(Limit.RECIPIENTS, 3)


@pytest.mark.parametrize("limited", [grant(recipients=7), grant(new=7), grant(messages=7)])
async def test_many_at_once_never_slip_under_the_limit(limited: Grant, tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        answers = await asyncio.gather(*(at.send(limited, f"r{number}") for number in range(50)))
        assert sum(answer is None for answer in answers) == 7


async def test_a_recipient_is_new_once(tmp_path: Path) -> None:
    limited = grant(new=2)
    async with desk(tmp_path) as at:
        assert await at.send(limited, "a", "b") is None
        assert await at.send(limited, "c") == Over(Limit.NEW_RECIPIENTS, 2)
        assert await at.send(limited, "a", "b") is None
        assert await at.send(limited, "c", peer=OTHER) is None
        at.now += DAY + SLOT
        assert await at.send(limited, "c") is None
        assert await at.send(limited, "a", "b") is None


async def test_two_messages_at_once_to_somebody_new_count_him_twice_at_most_while_they_last(tmp_path: Path) -> None:
    limited = grant(new=2)
    async with desk(tmp_path) as at:
        one, two = [await at.begin(limited, "a") for _ in range(2)]
        assert isinstance(one, Spending) and isinstance(two, Spending)
        await one.accept()
        await two.accept()
        assert await at.send(limited, "b") is None


async def test_the_day_survives_a_restart(tmp_path: Path) -> None:
    limited = grant(recipients=3, new=2)
    async with desk(tmp_path) as at:
        assert await at.send(limited, "a", "b") is None
    async with desk(tmp_path, START + DAY / 2) as at:
        assert await at.send(limited, "c") == Over(Limit.NEW_RECIPIENTS, 2)
        assert await at.send(limited, "a") is None
        assert await at.send(limited, "a") == Over(Limit.RECIPIENTS, 3)
    async with desk(tmp_path, START + 2 * DAY) as at:
        assert await at.send(limited, "a", "b", "c") is None
        assert not at.reasons()


async def test_files_name_no_recipient_and_do_not_grow_for_ever(tmp_path: Path) -> None:
    limited = grant(recipients=1000, new=1000)
    async with desk(tmp_path) as at:
        assert await at.send(limited, "somebody") is None
        at.now += FORGET_AFTER / 2
        assert await at.send(limited, "other") is None
        at.now += FORGET_AFTER / 2 + SECOND
        await at.quotas.tidy()
    with closing(sqlite3.connect(tmp_path / "recipients.sqlite3")) as file:
        rows = file.execute("SELECT hash FROM recipient").fetchall()
    assert len(rows) == 1 and "b.test" not in rows[0][0]
    with closing(sqlite3.connect(tmp_path / "quota.sqlite3")) as file:
        assert file.execute("SELECT name FROM account").fetchall() == []


async def test_a_limit_is_told_of_once_an_hour(tmp_path: Path) -> None:
    limited = grant(recipients=1)
    async with desk(tmp_path) as at:
        await at.send(limited, "a")
        for _ in range(5):
            await at.send(limited, "b")
        expected = QuotaReached("x, user alice", "192.0.2.1", "alice", "recipients_per_day", 1)
        assert at.events == [expected]
        await at.quotas.tidy()
        await at.send(limited, "b")
        assert at.events == [expected]
        at.now += TELL_EVERY
        await at.send(limited, "b")
        assert at.events == [expected, expected]


async def test_damage_is_moved_aside_and_recipients_are_learned_for_a_day(tmp_path: Path) -> None:
    limited = grant(recipients=4, new=1)
    for name in ("quota.sqlite3", "recipients.sqlite3"):
        (tmp_path / name).write_bytes(b"no database" * 1000)
    async with desk(tmp_path) as at:
        assert await at.send(limited, "a", "b", "c") is None  # known before, for all we know
        assert await at.send(limited, "d", "e") == Over(Limit.RECIPIENTS, 4)
        assert len(at.reasons()) == 2 and all("is damaged" in reason for reason in at.reasons())
        assert at.quotas.learning
    assert (tmp_path / "quota.sqlite3.damaged").exists()
    async with desk(tmp_path, START + DAY - SECOND) as at:  # a restart does not begin the day anew, nor end it
        assert at.quotas.learning
    async with desk(tmp_path, START + DAY + SLOT) as at:
        assert not at.quotas.learning
        assert await at.send(limited, "a", "b", "c", "d") is None  # d is the one new one
        assert await at.send(limited, "e") == Over(Limit.RECIPIENTS, 4)


async def test_damage_met_while_it_runs(tmp_path: Path) -> None:
    limited = grant(recipients=100, new=1)
    async with desk(tmp_path) as at:
        assert await at.send(limited, "a") is None
    async with desk(tmp_path) as at:
        with (tmp_path / "recipients.sqlite3").open("r+b") as file:
            file.write(b"x" * 4096)
        assert await at.send(limited, "b", "c") is None
        assert at.quotas.learning
        assert "recipients.sqlite3 is damaged" in at.reasons()[0]


async def test_without_a_file_that_opens_it_counts_in_memory(tmp_path: Path) -> None:
    limited = grant(messages=10, recipients=3, new=1)
    for name in ("quota.sqlite3", "recipients.sqlite3"):
        (tmp_path / name).mkdir()
    async with desk(tmp_path) as at:
        assert await at.send(limited, "a", "b") is None
        assert await at.send(limited, "a", "b") == Over(Limit.RECIPIENTS, 3)
        assert at.reasons()
        at.now += DAY + SLOT
        assert await at.send(limited, "c") is None  # the day of learning is over
        assert await at.send(limited, "d") == Over(Limit.NEW_RECIPIENTS, 1)


async def test_a_disk_that_takes_nothing_stops_no_mail_and_opens_no_limit(tmp_path: Path) -> None:
    limited = grant(recipients=3, new=2)
    async with desk(tmp_path) as at:
        assert await at.send(limited, "a") is None
        with closing(sqlite3.connect(tmp_path / "quota.sqlite3")) as other:  # as good as a full disk
            other.execute("CREATE TRIGGER full BEFORE INSERT ON account BEGIN SELECT RAISE(ABORT, 'full'); END")
            other.commit()
        assert await at.send(limited, "b") is None
        assert await at.send(limited, "c") == Over(Limit.NEW_RECIPIENTS, 2)
        assert await at.send(limited, "a") is None
        assert await at.send(limited, "a") == Over(Limit.RECIPIENTS, 3)


async def test_counts_are_written_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not only at the end: a service may be killed."""
    monkeypatch.setattr("relay.submission.quota._WRITE_AFTER_SECONDS", 0.0)
    async with desk(tmp_path) as at:
        for name in ("a", "b"):
            assert await at.send(grant(recipients=9, new=9), name) is None
            async with asyncio.timeout(5):
                while not ((running := at.quotas._behind._running) is not None and running.done()):
                    await asyncio.sleep(0)
            at.quotas._behind._running = None
        with closing(sqlite3.connect(tmp_path / "recipients.sqlite3")) as file:
            assert len(file.execute("SELECT hash FROM recipient").fetchall()) == 2
        with closing(sqlite3.connect(tmp_path / "quota.sqlite3")) as file:
            assert "[2,2]" in file.execute("SELECT slots FROM account").fetchone()[0]


ACTS = st.one_of(
    st.tuples(st.just("admit"), st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True)),
    st.tuples(st.sampled_from(["accept", "release"]), st.integers(0, 5)),
    st.tuples(st.just("pass"), st.integers(1, 100_000)),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=25, deadline=None)
@given(acts=st.lists(ACTS, max_size=25))
async def test_no_day_has_more_than_the_limit_and_none_is_refused_without_need(acts: list[tuple[str, Any]]) -> None:
    """Whatever begins, ends and restarts: against a list of all that was sent."""
    with TemporaryDirectory() as folder:
        await play(Path(folder), acts)


async def play(folder: Path, acts: list[tuple[str, Any]]) -> None:
    limited, most = grant(recipients=5), 5
    at = Desk(folder, START)
    await at.quotas.open()
    under_way: list[tuple[Spending, int]] = []
    sent: list[tuple[datetime, int]] = []
    for act, what in acts:
        held = sum(many for _, many in under_way)
        match act:
            case "admit":
                found = await at.begin(limited, *what)
                day = sum(many for then, many in sent if at.now - then < DAY)
                longer = sum(many for then, many in sent if at.now - then < DAY + SLOT)
                if isinstance(found, Spending):
                    assert day + held + len(what) <= most
                    under_way.append((found, len(what)))
                else:
                    assert longer + held + len(what) > most
            case "accept" if under_way:
                spending, many = under_way.pop(what % len(under_way))
                await spending.accept()
                sent.append((at.now, many))
            case "release" if under_way:
                under_way.pop(what % len(under_way))[0].release()
            case "pass":
                at.now += what * SECOND
            case "restart":
                await at.quotas.close()
                at, under_way = Desk(folder, at.now), []
                await at.quotas.open()
    await at.quotas.close()


async def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.submission.quota._MOST_IN_MEMORY", 10)
    limited = grant(messages=1)
    async with desk(tmp_path) as at:
        for number in range(30):
            peer = Peer(ipaddress.ip_address(number), "l", (), None)
            assert await at.send(limited, "a", peer=peer) is None
            assert await at.send(limited, "a", peer=peer) == Over(Limit.MESSAGES, 1)
        assert len(at.quotas._buckets) == 10 and len(at.quotas._told) == 10
        at.now += timedelta(minutes=1)
        await at.quotas.tidy()
        assert not at.quotas._buckets
        assert not at.quotas._held
