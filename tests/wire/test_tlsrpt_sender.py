"""From counts to reports that arrive: real files, DNS, queue and web server; time is set by hand."""

from __future__ import annotations

import asyncio
import email
import email.policy
import gzip
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from report_endpoint import CA, Endpoint

from relay.events import Event, TlsReportGivenUp, TlsReportSent, TlsReportsUnwanted
from relay.guard import AddressGuard
from relay.lab.certs import Leaf
from relay.lab.zones import Fault as DnsFault
from relay.lab.zones import Zone, Zones
from relay.lookup.resolver import Resolver
from relay.mail.address import parse_address
from relay.mail.message import InlineBody, MessageId, NewMessage, TlsDemand
from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy, Tally
from relay.queue.sqlite import SqliteStore
from relay.queue.store import Earlier, QueueEntry
from relay.tls import https_context, https_context_unverified
from relay.tlsrpt.asking import Told
from relay.tlsrpt.letter import Submitter
from relay.tlsrpt.outbox import Ended, NewReport, State
from relay.tlsrpt.outgoing import LEASE, Desk, Outgoing
from relay.tlsrpt.post import Poster
from relay.tlsrpt.report import Reporter, build_report, compress, encode
from relay.tlsrpt.schedule import PATIENCE, Schedule
from relay.tlsrpt.sender import ReportSender, Tools
from relay.tlsrpt.store import FILE_NAME, ReportStore, ReportStoreError

pytestmark = pytest.mark.asyncio

DAY = date(2030, 1, 1)
MIDNIGHT = datetime(2030, 1, 2, tzinfo=UTC)
HOURS = timedelta(hours=4)
STS = ReportedPolicy(PolicyType.STS, "a.test", ("version: STSv1",), ("mx.a.test",))
EXPIRED = Fault(ReportResult.CERTIFICATE_EXPIRED, host="mx.a.test")
REPORTER = Reporter("Example", "tls@s.test", "s.test")
SUBMITTER = Submitter(parse_address(b"reports@s.test"), "Example", "tls@s.test")
SCHEDULE = Schedule(HOURS, "s.test")
MOMENT = SCHEDULE.moment(DAY, "a.test")
VERIFIED, UNVERIFIED = https_context(CA.pem), https_context_unverified()
IDS = count(1)


class Crash(Exception):  # noqa: N818
    """The process ends here."""


@dataclass(slots=True)
class Queue:
    """The queue of a relay; `crash`: the process ends right after the next commit."""

    store: SqliteStore
    crash: bool = False

    async def put(self, messages: Collection[NewMessage]) -> None:
        await self.store.put(messages)
        if self.crash:
            raise Crash

    async def stored_once(self, owner: str, key: str) -> Earlier | None:
        return await self.store.controls.stored_once(owner, key)


@dataclass(slots=True)
class World:
    """All that outlives a restart, and what is made anew by one."""

    store: ReportStore
    queue: Queue
    zones: Zones
    resolver: Resolver
    now: datetime = MIDNIGHT
    mailer: Submitter | None = SUBMITTER
    events: list[Event] = field(default_factory=list)
    sender: ReportSender = field(init=False)
    outgoing: Outgoing = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """As after a crash: nothing is remembered but what is on disk."""
        tools = Tools(
            self.store, self.resolver, REPORTER, SCHEDULE, self.unique, self.clock, self.events.append, self.flush
        )
        self.sender = ReportSender(tools)
        poster = Poster(self.resolver, AddressGuard(True), VERIFIED, UNVERIFIED, timedelta(seconds=5))
        self.outgoing = Outgoing(
            Desk(
                self.store,
                self.queue.put,
                self.queue.stored_once,
                poster.post,
                REPORTER,
                self.mailer,
                "mail.s.test",
                lambda: MessageId(next(IDS)),
                self.clock,
                self.events.append,
            )
        )

    def clock(self) -> datetime:
        return self.now

    @staticmethod
    def unique() -> str:
        return f"u{next(IDS)}"

    @staticmethod
    async def flush() -> None:
        """Everything is on disk."""

    async def count(self, *faults: Fault | None, domain: str = "a.test", day: date = DAY) -> None:
        for fault in faults:
            assert await self.store.add({(day, Tally(domain, STS, fault)): 1}) == 0

    async def at(self, now: datetime) -> None:
        """What the service does at this moment."""
        self.now = now
        await self.sender.tell_due()
        await self.outgoing.send_due()

    async def ended(self, day: date = DAY) -> list[Ended]:
        return list(await self.store.ended(day))

    async def mails(self) -> list[QueueEntry]:
        return list(await self.queue.store.find(None, history=True))

    def said(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def world(folder: Path, record: str = "mailto:rua@r.test") -> AsyncIterator[World]:
    """a.test wants reports at `record`; b.test and all others have none."""
    txt = f'_smtp._tls TXT "v=TLSRPTv1; " "rua={record}"' if record else ""
    zones = Zones({"a.test": Zone(txt, ttl=0), "b.test": Zone(ttl=0), "r.test": Zone("@ A 127.0.0.1", ttl=0)})
    resolver = Resolver([await zones.start()], timedelta(seconds=0.3), monotonic=lambda: float(next(IDS) * 1000))
    reports = ReportStore(folder, lambda words: None if "deleted or replaced" in words else pytest.fail(words))
    queue = SqliteStore(folder / "queue")
    await queue.open(MIDNIGHT)
    await reports.open()
    try:
        yield World(reports, Queue(queue), zones, resolver)
    finally:
        await reports.close()
        await queue.close()
        await resolver.close()
        await zones.stop()


async def claimed(queue: SqliteStore, now: datetime) -> tuple[bytes, Any]:
    [claim] = await queue.claim(10, timedelta(minutes=1), now, {}, 10)
    assert isinstance(claim.body, InlineBody)
    return claim.body.octets, claim


def report_in(octets: bytes) -> tuple[EmailMessage, dict[str, Any]]:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    [_, attached] = message.iter_parts()
    return message, json.loads(gzip.decompress(attached.get_content()))


async def test_a_domain_is_told_by_mail_and_by_https(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with endpoint.running() as port, world(tmp_path, f"mailto:rua@r.test,https://r.test:{port}/in") as here:
        await here.count(None, None, EXPIRED)
        await here.at(MOMENT - timedelta(seconds=1))
        assert await here.mails() == [] and endpoint.got == []
        await here.at(MOMENT)
        octets, claim = await claimed(here.queue.store, here.now)
        [ended] = await here.ended()
        assert (claim.report, claim.demand, claim.sender) == (True, TlsDemand.WAIVED, SUBMITTER.sender)
        assert [str(one.address) for one in claim.recipients] == ["rua@r.test"]
        message, report = report_in(octets)
        [posted] = [json.loads(gzip.decompress(body)) for *_, body in endpoint.got]
        assert report == posted
        assert report["report-id"] == ended.id
        assert f"<{ended.id}>" in message["Subject"]
        assert [one["summary"] for one in report["policies"]] == [
            {"total-successful-session-count": 2, "total-failure-session-count": 1}
        ]
        assert report["date-range"]["start-datetime"] == "2030-01-01T00:00:00Z"
        assert [(one.state, one.words) for one in ended.deliveries] == [
            (State.SENT, "r.test answered 201"),
            (State.SENT, f"queued as {claim.id}"),
        ]
        sent = [event for event in here.events if isinstance(event, TlsReportSent)]
        assert sorted(event.transport for event in sent) == ["https", "mail"]
        await here.at(MOMENT + timedelta(hours=20))
        assert len(await here.mails()) == len(endpoint.got) == 1


async def test_today_is_told_tomorrow(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None, day=MIDNIGHT.date())
        await here.at(MIDNIGHT + timedelta(hours=23, minutes=59))
        assert await here.ended(MIDNIGHT.date()) == []


async def test_many_domains_are_not_told_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.store.add({(DAY, Tally(f"d{number}.b.test", STS)): 1 for number in range(200)})
        ended = []
        for minutes in (5, 65, 125, 185, 245):
            await here.at(MIDNIGHT + timedelta(minutes=minutes))
            ended.append(len(await here.ended()))
        assert ended[0] < 5 and ended[-1] == 200
        assert min(after - before for before, after in pairwise(ended)) > 30
        unwanted = [event.domains for event in here.events if isinstance(event, TlsReportsUnwanted)]
        assert sum(unwanted) == 200 and len(unwanted) <= 5  # a line for many


async def test_a_domain_without_a_record_is_forgotten(tmp_path: Path) -> None:
    async with world(tmp_path, record="") as here:
        await here.count(EXPIRED)
        await here.at(MOMENT)
        assert [(one.id, one.words) for one in await here.ended()] == [(None, "it has no TLSRPT record")]
        assert await here.store.waiting(date.max) == ()
        assert here.events == [TlsReportsUnwanted(1)]


async def test_an_address_in_place_of_a_domain_is_asked_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None, domain="[192.0.2.1]")
        await here.at(MIDNIGHT + timedelta(hours=5))
        assert [(one.id, one.words) for one in await here.ended()] == [(None, "it is an address, and has no record")]
        assert not here.zones.asked


@pytest.mark.parametrize("fault", [DnsFault.SERVFAIL, DnsFault.BOGUS, DnsFault.TIMEOUT])
async def test_what_cannot_be_looked_up_is_asked_again(tmp_path: Path, fault: DnsFault) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        here.zones.set_fault("_smtp._tls.a.test", "TXT", fault)
        await here.at(MOMENT)
        await here.at(MOMENT + timedelta(minutes=14))
        assert await here.ended() == [] and await here.mails() == []
        here.zones.set_fault("_smtp._tls.a.test", "TXT", None)
        await here.at(MOMENT + timedelta(minutes=14, seconds=59))
        assert await here.mails() == []
        await here.at(MOMENT + timedelta(minutes=15))
        assert len(await here.mails()) == 1


async def test_what_can_never_be_looked_up_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        here.zones.set_fault("_smtp._tls.a.test", "TXT", DnsFault.SERVFAIL)
        now, questions = MOMENT, 0
        while not await here.ended():
            await here.at(now)
            questions += 1
            now += timedelta(minutes=5)
        assert MOMENT + PATIENCE - timedelta(hours=9) < now <= MOMENT + PATIENCE + timedelta(minutes=10)
        [event] = here.said(TlsReportGivenUp)
        assert isinstance(event, TlsReportGivenUp) and event.report is None
        assert len([one for one in here.zones.asked if one.name == "_smtp._tls.a.test"]) < 25


async def test_a_day_that_ended_two_days_ago_is_told_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        await here.at(MIDNIGHT + timedelta(days=2))
        [ended] = await here.ended()
        assert ended.id is None and "too late" in ended.words
        assert not here.zones.asked


async def test_a_host_that_fails_is_tried_until_patience_ends(tmp_path: Path) -> None:
    endpoint = Endpoint(status=503)
    async with endpoint.running() as port, world(tmp_path, f"https://r.test:{port}/,mailto:rua@r.test") as here:
        await here.count(None)
        tries, now = [], MOMENT
        while now < MOMENT + timedelta(hours=40):
            before = len(endpoint.got)
            await here.at(now)
            tries += [now] * (len(endpoint.got) - before)
            here.restart()  # what is on disk is enough
            now += timedelta(minutes=15)
        waits = [(after - before) / timedelta(minutes=1) for before, after in pairwise(tries)]
        assert waits == [15, 30, 60, 120, 240, 480, 480, 480]
        assert len({body for *_, body in endpoint.got}) == 1
        assert len(await here.mails()) == 1  # its state is its own
        [ended] = await here.ended()
        assert [one.state for one in ended.deliveries] == [State.GIVEN_UP, State.SENT]
        [event] = here.said(TlsReportGivenUp)
        assert isinstance(event, TlsReportGivenUp)
        assert (event.transport, event.reason) == ("https", "r.test answered 503")


async def test_a_crash_between_the_two_commits_doubles_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        here.queue.crash = True
        with pytest.raises(Crash):
            await here.at(MOMENT)
        [mail] = await here.mails()
        here.queue.crash = False
        here.restart()
        await here.at(MOMENT + timedelta(minutes=1))  # the lease of the attempt that died runs
        assert here.said(TlsReportSent) == []
        await here.at(MOMENT + LEASE)
        assert [one.id for one in await here.mails()] == [mail.id]
        [ended] = await here.ended()
        assert [(one.state, one.words) for one in ended.deliveries] == [(State.SENT, f"queued as {mail.id}")]


async def test_a_crash_after_the_report_is_made_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        here.now = MOMENT
        await here.sender.tell_due()
        here.restart()
        await here.at(MOMENT)
        [ended] = await here.ended()
        octets, _ = await claimed(here.queue.store, here.now)
        assert report_in(octets)[1]["report-id"] == ended.id


async def test_without_a_key_nothing_goes_by_mail(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with endpoint.running() as port, world(tmp_path, f"mailto:rua@r.test,https://r.test:{port}/") as here:
        here.mailer = None
        here.restart()
        await here.count(None)
        await here.at(MOMENT)
        assert len(endpoint.got) == 1 and await here.mails() == []
        [event] = here.said(TlsReportGivenUp)
        assert isinstance(event, TlsReportGivenUp) and "cannot be signed" in event.reason


async def test_an_operator_tells_domains_now(tmp_path: Path) -> None:
    today = MIDNIGHT.date()
    async with world(tmp_path) as here:
        await here.count(None, day=today)
        await here.count(None, domain="b.test", day=today)
        number = await here.store.ask(today, ("a.test", "c.test"))
        assert await here.store.answer_to(number) is None
        await here.sender.tell_asked()
        [first] = await here.ended(today)
        assert await here.store.answer_to(number) == {
            "a.test": Told(first.id),
            "c.test": Told(None, "nothing is counted of it"),
        }
        await here.sender.tell_asked()  # it has been done
        assert await here.store.asked() == ()
        await here.store.unask(number)

        await here.count(EXPIRED, day=today)
        everyone = await here.store.ask(today, ())
        await here.sender.tell_asked()
        told = await here.store.answer_to(everyone)
        assert told is not None
        assert told["b.test"] == Told(None, "it has no TLSRPT record")
        assert told["a.test"].report not in (None, first.id)
        await here.outgoing.send_due()
        assert len(await here.mails()) == 2


async def test_what_was_told_by_hand_is_not_told_again(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        await here.count(None, domain="b.test")
        await here.at(MIDNIGHT + timedelta(minutes=1))  # both are planned
        await here.store.ask(DAY, ())
        await here.sender.tell_asked()
        await here.at(MIDNIGHT + timedelta(hours=5))
        assert [one.domain for one in await here.ended()] == ["a.test", "b.test"]
        assert here.said(TlsReportsUnwanted) == []


async def test_what_an_operator_asks_and_dns_does_not_know(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        here.zones.set_fault("_smtp._tls.a.test", "TXT", DnsFault.SERVFAIL)
        number = await here.store.ask(DAY, ())
        await here.sender.tell_asked()
        told = await here.store.answer_to(number)
        assert told is not None and told["a.test"].report is None and "_smtp._tls.a.test" in told["a.test"].words
        here.zones.set_fault("_smtp._tls.a.test", "TXT", None)
        await here.at(MOMENT)  # its counts are there still
        assert len(await here.mails()) == 1


async def test_a_host_that_does_not_answer_keeps_nobody_waiting(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    context = CA.issue(("r.test",), Leaf.GOOD).server_context()
    async with (
        await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context) as server,
        world(tmp_path) as here,
    ):
        await here.count(None)
        mails = tuple(f"mailto:r{number}@r.test" for number in range(20))
        uris = (f"https://r.test:{server.sockets[0].getsockname()[1]}/", *mails)
        octets = compress(encode(build_report("1@s.test", DAY, (), REPORTER)))
        await here.store.issue(DAY, "a.test", lambda _: NewReport("1@s.test", octets, uris, MIDNIGHT), MIDNIGHT)
        sending = asyncio.create_task(here.outgoing.send_due())
        while len(here.said(TlsReportSent)) < 20:
            await asyncio.sleep(0.01)
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
        assert len(await here.mails()) == 20
        here.restart()
        here.now += LEASE  # as after a stop of the service: it is tried again
        assert len(await here.store.claim(here.now, LEASE, 9)) == 1


async def test_a_file_that_cannot_be_used_stops_nothing_for_good(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.count(None)
        await here.at(MOMENT - timedelta(seconds=1))  # it is planned
        (tmp_path / FILE_NAME).rename(tmp_path / "away")
        (tmp_path / FILE_NAME).mkdir()
        with pytest.raises(ReportStoreError):
            await here.at(MOMENT)
        (tmp_path / FILE_NAME).rmdir()
        (tmp_path / "away").rename(tmp_path / FILE_NAME)
        await here.at(MOMENT)
        assert len(await here.mails()) == 1
