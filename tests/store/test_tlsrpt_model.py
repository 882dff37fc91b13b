"""Counts and reports against dictionaries: whatever comes between, a session is in one report, or in none only if the
process was killed within the second in which it was counted.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy, Tally
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.counts import Counts
from relay.tlsrpt.outbox import Due, GivenUp, Later, NewReport, Sent
from relay.tlsrpt.store import ReportStore

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LEASE = timedelta(minutes=10)
MEMORY = Path("/dev/shm")  # what a disk keeps is not the question here
URIS = ("mailto:a@r.example", "https://r.example/")
Key = tuple[date, str]

domains = st.sampled_from(("a.example", "b.example"))
results = st.sampled_from((None, ReportResult.CERTIFICATE_EXPIRED, ReportResult.VALIDATION_FAILURE))
kinds = st.sampled_from((PolicyType.NO_POLICY_FOUND, PolicyType.STS))


class Machine(RuleBasedStateMachine):
    """The service, which may be killed at any time, and what must be true of its file."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.now = START
        self.runs = 0
        self.reports = 0
        self.memory = Counter[Key]()  # counted, not yet on disk
        self.counted = Counter[Key]()  # on disk
        self.told = Counter[Key]()  # in reports
        self.dropped = Counter[Key]()
        self.all = Counter[Key]()  # but for what was lost with a process
        self.open: dict[tuple[str, str], datetime] = {}  # deliveries, and when they are due
        self.claimed: list[Due] = []
        self.words: list[object] = []
        self.begin(self.folder / "0")

    def begin(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.here = folder
        self.store = ReportStore(folder, self.words.append)
        self.counts = Counts(self.store, self.words.append, lambda tally: None)
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        self.runner.run(self.counts.write())
        self.runner.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)
        assert self.words == []

    @rule(domain=domains, result=results, kind=kinds, number=st.integers(1, 3))
    def count(self, domain: str, result: ReportResult | None, kind: PolicyType, number: int) -> None:
        fault = None if result is None else Fault(result, host="mx.example")
        tally = Tally(domain, ReportedPolicy(kind, domain), fault)

        async def add() -> None:
            self.counts.add([tally] * number, self.now)

        self.runner.run(add())
        self.memory[self.now.date(), domain] += number

    @rule()
    def flush(self) -> None:
        self.runner.run(self.counts.write())
        self.counted += self.memory
        self.all += self.memory
        self.memory.clear()

    @rule()
    def stop_and_start(self) -> None:
        self.flush()
        self.runner.run(self.store.close())
        self.begin(self.here)

    @rule()
    def die(self) -> None:
        """The file as it is now is what the next process finds."""
        self.runs += 1
        shutil.copytree(self.here, self.folder / str(self.runs))
        self.flush_for_nobody()
        self.begin(self.folder / str(self.runs))

    def flush_for_nobody(self) -> None:
        self.memory.clear()
        self.claimed.clear()
        self.runner.run(self.counts.write())
        self.runner.run(self.store.close())

    @rule(domain=domains, crash=st.booleans())
    def issue(self, domain: str, crash: bool) -> None:
        """`crash`: while the report is made."""
        day = self.now.date()
        self.reports += 1
        id = str(self.reports)

        def make(counts: tuple[Counted, ...]) -> NewReport:
            if crash:
                raise ZeroDivisionError
            total = sum(one.number for one in counts)
            return NewReport(id, json.dumps(total).encode(), URIS, self.now)

        try:
            made = self.runner.run(self.store.issue(day, domain, make, self.now))
        except ZeroDivisionError:
            assert self.counted[day, domain]
            return
        assert (made is not None) == (self.counted[day, domain] > 0)
        if made is not None:
            self.told[day, domain] += self.counted.pop((day, domain))
            self.open |= {(id, uri): self.now for uri in URIS}

    @rule(domain=domains)
    def drop(self, domain: str) -> None:
        key = (self.now.date(), domain)
        if self.counted[key]:
            self.runner.run(self.store.drop(*key, "no record", self.now))
            self.dropped[key] += self.counted.pop(key)

    @rule()
    def claim(self) -> None:
        due = self.runner.run(self.store.claim(self.now, LEASE, 100))
        assert {(one.id, one.uri) for one in due} == {key for key, when in self.open.items() if when <= self.now}
        self.open |= {(one.id, one.uri): self.now + LEASE for one in due}
        again = {(one.id, one.uri) for one in due}
        self.claimed = [one for one in self.claimed if (one.id, one.uri) not in again] + list(due)

    @precondition(lambda self: bool(self.claimed))
    @rule(outcome=st.sampled_from(("sent", "later", "given up")))
    def settle(self, outcome: str) -> None:
        due = self.claimed.pop()
        if outcome == "later":
            assert self.runner.run(self.store.settle(due, Later(self.now + HOUR, "busy"), self.now))
            self.open[due.id, due.uri] = self.now + HOUR
        else:
            done = Sent() if outcome == "sent" else GivenUp("no")
            assert self.runner.run(self.store.settle(due, done, self.now))
            del self.open[due.id, due.uri]

    @rule(hours=st.sampled_from((0.1, 1, 24)))
    def wait(self, hours: float) -> None:
        self.now += hours * HOUR

    @invariant()
    def nothing_is_doubled_or_lost(self) -> None:
        waiting = self.runner.run(self.store.waiting(date.max))
        assert set(waiting) == {key for key, number in self.counted.items() if number}
        found = Counter[Key]()
        for day, domain in waiting:
            found[day, domain] = sum(one.number for one in self.runner.run(self.store.counts(day, domain)))
        assert found == +self.counted
        told = Counter[Key]()
        for day in {day for day, _ in self.all}:
            for one in self.runner.run(self.store.ended(day)):
                told[day, one.domain] += 0 if one.octets is None else json.loads(one.octets)
        assert told == self.told
        assert self.told + self.counted + self.dropped == self.all


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
