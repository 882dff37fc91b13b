"""The service dies with -9 at each step of a message's life, by place and not by luck, and is started again.

What got a 250 arrives; only what the other host took before our commit arrives twice; and nothing is left over.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mortal
import pytest
from service import number_of, numbered, submit

from relay.lab.sink import How, Sink, SinkScript, Stage
from relay.mail.address import parse_address
from relay.mail.message import Envelope, InlineBody, MessageId, NewMessage
from relay.mail.outcome import Delivered, State, TlsUsed
from relay.mail.record import AttemptRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue.sqlite import SqliteStore
from relay.queue.visitor import open_reader
from relay.settings import HostPort, Settings

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["relay.app", "relay.config", "relay.lab.sink"])
SCHEMA_1 = Path(__file__).parents[1] / "data" / "queue_schema_1.sql"
LARGE_LINES = 400_000  # of 11 octets: more than is ever under way between two sockets
HAPPY = SinkScript()
REFUSED = SinkScript(rcpt={"r@t.test": ("550 5.1.1 who?",)})
LAST = 99  # the number of the message that is sent after the restart


class Killer(Sink):
    """A mail host that kills the service when its session has come to a stage."""

    def __init__(self, script: SinkScript, stage: Stage | None) -> None:
        super().__init__(script)
        self.victim: int | None = None
        self._stage = stage

    def due(self, stage: Stage) -> How | None:
        if stage is self._stage and self.victim is not None:
            os.kill(self.victim, signal.SIGKILL)
            self.victim = None
        return super().due(stage)

    def arrivals(self) -> Counter[int]:
        """How often each message came, by its number; notices count as their negative."""
        return Counter(-number_of(one.octets) if not one.sender else number_of(one.octets) for one in self.received)


class Life:
    """The service, from its start to its death or its end."""

    def __init__(self, folder: Path, next_hop: HostPort, point: str, ahead: timedelta = timedelta(0)) -> None:
        settings = Settings.model_validate(
            {
                "hostname": "relay.test",
                "submission": {"listen": ["127.0.0.1:0"]},
                "dns": {"trust_ad": "no"},
                "alignment": {"check": "off"},
                "delivery": {"next_hop": f"{next_hop.host}:{next_hop.port}", "allow_private_addresses": True},
                "retry": {"schedule": ["1s"]},
            }
        )
        self._ready, ready = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(target=mortal.live, args=(point, settings, folder, ahead, ready), daemon=True)
        self.process.start()
        ready.close()

    async def port(self) -> int | None:
        """Where it takes mail; None: it died before that."""
        try:
            return int(await asyncio.to_thread(self._ready.recv))
        except EOFError:
            return None

    async def end(self) -> int | None:
        """Its exit code."""
        await asyncio.to_thread(self.process.join, 20)
        self._ready.close()
        code = self.process.exitcode
        self.process.close()
        return code


@dataclass(frozen=True)
class Case:
    """What is done before the service dies, and what must have come of it in the end.

    `arrives`: how often message 1 comes in all. `before`: fills the queue before the first start. `submits`: how many
    messages are sent. `stage`: where the sink kills the service. `acknowledged`: whether message 1 gets its 250.
    """

    point: str
    arrives: int
    before: Callable[[Path], Awaitable[None]] | None = None
    submits: int = 1
    lines: int = 1
    stage: Stage | None = None
    script: SinkScript = HAPPY
    sink_is_down: bool = False
    acknowledged: bool | None = None
    notices: int = 0


async def one_waits(folder: Path) -> None:
    """A message that was put, and nothing more."""
    async with queue(folder) as store:
        await store.put([message(1)])


async def one_was_leased(folder: Path) -> None:
    """A message that an attempt had when the service died."""
    async with queue(folder) as store:
        await store.put([message(1)])
        assert await store.claim(1, timedelta(minutes=30), now(), {}, 1)


async def files_of_nobody(folder: Path) -> None:
    """A large message that waits, and two files that a crash has left."""
    async with queue(folder) as store:
        writer = store.new_body(MessageId(1))
        await writer.write(numbered(1, LARGE_LINES // 10))
        await store.put([message(1, await writer.finish())])
    (folder / "incoming" / str(MessageId(7))).write_bytes(b"half")
    (folder / "bodies" / str(MessageId(8))).write_bytes(b"whole")


async def one_waits_and_old_ones_left(folder: Path) -> None:
    """One waits, and some have left so long ago that they are forgotten at the start."""
    then = now() - timedelta(days=30)
    async with queue(folder) as store:
        await store.put([message(number, arrived=then) for number in range(2, 9)])
        for claim in await store.claim(9, timedelta(minutes=30), then, {}, 9):
            gone = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("2.0.0 ok",)), "mx.test", TlsUsed.NONE)
            settled = SettledRecipient(claim.recipients[0], State.DELIVERED, gone, None, 0)
            await store.settle(claim, Settlement((settled,)), (), then, record=AttemptRecord(), began=then)
        await store.put([message(1)])


async def first_version(folder: Path) -> None:
    """The queue that the first version wrote, with the body of message 1 under way in it."""
    (folder / "bodies").mkdir(parents=True)
    (folder / "bodies" / str(MessageId(2))).write_bytes(b"large\r\n" * 20_000)
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA_1.read_text())
        connection.execute("DELETE FROM recipient WHERE message IN (1, 2, 3, 4)")
        connection.execute("DELETE FROM message WHERE id IN (1, 2, 3, 4)")
        connection.execute("DELETE FROM body WHERE message IN (1, 2, 3, 4)")
        connection.execute("UPDATE body SET octets = ?", (numbered(1),))
        connection.commit()


@asynccontextmanager
async def queue(folder: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(folder)
    await store.open(now())
    yield store
    await store.close()


def now() -> datetime:
    return datetime.now(UTC)


def message(number: int, body: object = None, arrived: datetime | None = None) -> NewMessage:
    return NewMessage(
        id=MessageId(number),
        envelope=Envelope(parse_address(b"s@from.test"), (parse_address(b"r@t.test"),)),
        body=body or InlineBody(numbered(number)),  # type: ignore[arg-type]
        arrived=arrived or now(),
    )


CASES = (
    Case("the body comes", 0, acknowledged=False),
    Case("a large body is complete, without its name", 0, lines=LARGE_LINES, acknowledged=False),
    Case("a large body has its name", 0, lines=LARGE_LINES, acknowledged=False),
    Case("before the commit of a put", 0, acknowledged=False),
    Case("after the commit of a put", 1, acknowledged=False),
    Case("before the 250", 1, acknowledged=False),
    Case("after the 250", 1, acknowledged=True),
    Case("before the commit of a claim", 1, one_waits, submits=0),
    Case("after a claim", 1, one_waits, submits=0),
    Case("nowhere", 1, stage=Stage.CONNECT),
    Case("nowhere", 1, stage=Stage.EHLO),
    Case("nowhere", 1, stage=Stage.MAIL),
    Case("nowhere", 1, stage=Stage.RCPT),
    Case("nowhere", 1, stage=Stage.DATA),
    Case("nowhere", 1, lines=LARGE_LINES, stage=Stage.BODY),
    # From here to our commit the other host may have it without our knowing.
    Case("nowhere", 2, stage=Stage.FINAL_DOT),
    Case("before a settlement", 2),
    Case("before the commit of a settlement", 2),
    Case("after the commit of a settlement", 1),
    Case("before the file is removed", 1, lines=LARGE_LINES),
    Case("a notice is put", 0, script=REFUSED, notices=1),
    Case("before the commit with a notice", 0, script=REFUSED, notices=1),
    Case("after the commit with a notice", 0, script=REFUSED, notices=1),
    Case("before the commit of a rest", 1, submits=3, sink_is_down=True),
    Case("after the commit of a rest", 1, submits=3, sink_is_down=True),
    Case("before the commit of a tidy", 1, one_waits_and_old_ones_left, submits=0),
    Case("after the commit of a tidy", 1, one_waits_and_old_ones_left, submits=0),
    Case("leases are undone", 1, one_was_leased, submits=0),
    Case("before the commit of taking over", 1, one_was_leased, submits=0),
    Case("after the commit of taking over", 1, one_was_leased, submits=0),
    Case("files are swept", 1, files_of_nobody, submits=0),
    Case("before the commit of schema 2", 1, first_version, submits=0),
    Case("after the commit of schema 2", 1, first_version, submits=0),
    Case("before the commit of schema 3", 1, first_version, submits=0),
    Case("after the commit of schema 3", 1, first_version, submits=0),
)


def test_every_point_has_a_case() -> None:
    assert {case.point for case in CASES} == set(mortal.POINTS)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stage.value if case.stage else case.point)
async def test_killed_at(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    if case.before is not None:
        await case.before(folder)
    sink = Killer(case.script, case.stage)
    address = await sink.start()
    if case.sink_is_down:
        await sink.stop()
    acknowledged = await first_life(case, folder, sink, address)
    assert case.acknowledged is None or acknowledged == [1] * case.acknowledged
    if case.sink_is_down:
        await sink.start(port=address.port)
    await second_life(case, folder, sink, address, acknowledged)
    await sink.stop()
    assert sink.complaints == []
    arrived = sink.arrivals()
    assert {number: arrived[number] for number in (1, -1, LAST)} == {1: case.arrives, -1: case.notices, LAST: 1}
    for number in range(2, case.submits + 1):  # whether these were in time for their 250 is a matter of luck
        assert arrived[number] == 1 or (arrived[number] == 0 and number not in acknowledged)
    assert "defect-found" not in (tmp_path / "events").read_text()
    assert_nothing_is_left(folder)


async def first_life(case: Case, folder: Path, sink: Killer, address: HostPort) -> list[int]:
    """It ends at the point of the case. Returns the numbers of the messages that got a 250."""
    life = Life(folder, address, case.point)
    sink.victim = life.process.pid
    port = await life.port()
    acknowledged = []
    for number in range(1, case.submits + 1):
        with contextlib.suppress(ConnectionError):
            assert port is not None
            answer = await submit(port, numbered(number, case.lines), sender=b"s@from.test")
            acknowledged += [number] * answer.startswith(b"250")
    assert await life.end() == -signal.SIGKILL, "it did not come to that point"
    return acknowledged


async def second_life(case: Case, folder: Path, sink: Killer, address: HostPort, acknowledged: list[int]) -> None:
    """It goes on where the first has ended, takes mail too, and ends in peace."""
    life = Life(folder, address, "nowhere", mortal.AHEAD)
    port = await life.port()
    assert port is not None
    assert (await submit(port, numbered(LAST), recipient=b"last@t.test", sender=b"s@from.test")).startswith(b"250")
    others = len(set(acknowledged) - {1})
    await sink.wait_for(case.arrives + case.notices + others + 1)
    assert life.process.pid is not None
    os.kill(life.process.pid, signal.SIGTERM)
    assert await life.end() == 0


def assert_nothing_is_left(folder: Path) -> None:
    with closing(open_reader(folder)) as reader:
        assert reader.find(None, history=False) == ()
    with closing(sqlite3.connect(folder / "queue.db")) as connection:
        assert connection.execute("SELECT count(*) FROM recipient WHERE lease IS NOT NULL").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM body").fetchone() == (0,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert [path.name for name in ("incoming", "bodies") for path in (folder / name).iterdir()] == []
