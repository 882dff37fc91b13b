"""The queue against a dictionary: whatever is done to both, they agree. A crash may come at any time."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from relay.mail.address import Address, parse_address
from relay.mail.message import Claim, Envelope, InlineBody, MessageId, NewMessage
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.record import AttemptRecord
from relay.mail.status import Kind, Reply, Status
from relay.policy.retry import SettledRecipient, Settlement
from relay.queue import visitor
from relay.queue.control import Act, Action
from relay.queue.selection import QueueFilter
from relay.queue.sqlite import SqliteStore
from relay.queue.store import Rest, by_domain
from relay.queue.transactions import SPREAD_EACH_MICROS

START = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MEMORY = Path("/dev/shm")  # thousands of commits, and what a disk keeps is not the question here
DOMAINS = ("a.example", "b.example", "c.example")
SENDERS = (None, parse_address(b"jo@x.example"), parse_address(b"news+4711@x.example"))
OUTCOMES: dict[State, Outcome] = {
    State.DELIVERED: Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("ok",)), "mx.example", TlsUsed.NONE),
    State.DEFERRED: Deferred(Status(Kind.TEMPORARY, 0, 0), "later"),
    State.FAILED: Failed(Status(Kind.PERMANENT, 0, 0), "never"),
}

seconds = st.sampled_from((30, 10, 60, 0, 90)).map(lambda number: number * SECOND)  # few, so that they meet
leases = seconds.filter(bool)
domains = st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=4)  # of the recipients of one message
bodies = st.sampled_from([b"small", b"l" * 70_000])
states = st.sampled_from(list(OUTCOMES))
senders = st.sampled_from(SENDERS)
wishes = st.sampled_from(((0, None), (0, 60), (0, -60), (5, None), (-5, 10)))  # priority, and seconds until the release


@dataclass(slots=True)
class Recipient:
    """The model: what is true of one recipient. `lease`: the number of the claim that has it."""

    domain: str
    next_attempt: datetime | None
    sender: Address | None
    state: State = State.QUEUED
    attempts: int = 0
    lease: int | None = None
    changed: datetime = START
    priority: int = 0
    release: datetime | None = None

    def is_early(self, now: datetime) -> bool:
        """Whether it waits for the time that its sender gave."""
        return self.release is not None and self.release > now and self.next_attempt == self.release


@dataclass(frozen=True, slots=True)
class Evidence:
    """The model: what is true of one attempt that was settled. `states`: by number of the recipient."""

    message: int
    domain: str
    number: int
    began: datetime
    lease: int
    states: dict[int, State]


class QueueMachine(RuleBasedStateMachine):
    claims: Bundle[Claim] = Bundle("claims")

    # The preconditions keep Hypothesis from spending its steps on an empty queue.

    @initialize(to=st.lists(domains, min_size=3, max_size=6))
    def begin(self, to: list[list[str]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="queue-model-", dir=MEMORY if MEMORY.is_dir() else None))
        self.runner = asyncio.Runner()
        self.now = START
        self.model: dict[tuple[int, int], Recipient] = {}
        self.bodies: dict[int, bytes] = {}
        self.evidence: list[Evidence] = []
        self.rests: dict[str, Rest] = {}
        self.last_id = 0
        self.store = SqliteStore(self.folder)
        self.runner.run(self.store.open(self.now))
        self.runner.run(self._put([self._new(each, b"first") for each in to]))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.runner.run(self.store.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @precondition(lambda self: not self._due(set()))
    @rule(passed=seconds)
    def time_passes(self, passed: timedelta) -> None:
        self.now += passed

    @rule(to=domains, octets=bodies, sender=senders, wish=wishes)
    def put(self, to: Sequence[str], octets: bytes, sender: Address | None, wish: tuple[int, int | None]) -> None:
        self.runner.run(self._put([self._asking(self._new(to, octets, sender), wish)]))

    @rule(to=domains, octets=bodies, lease=seconds, sender=senders, wish=wishes, target=claims)
    def put_claimed(
        self, to: Sequence[str], octets: bytes, lease: timedelta, sender: Address | None, wish: tuple[int, int | None]
    ) -> MultipleResults[Claim]:
        message = self._asking(self._new(to, octets, sender), wish)
        taken = self.runner.run(self._put_claimed(message, self.now + lease))
        found = {recipient.index: one.destination for one in taken for recipient in one.recipients}
        assert found == (dict(enumerate(to)) if message.due <= self.now else {})
        for one in taken:
            for recipient in one.recipients:
                known = self.model[one.id.number, recipient.index]
                known.attempts, known.lease, known.next_attempt = 1, one.lease, one.lease_until
        return multiple(*taken)

    @precondition(lambda self: self._due(set()))
    @rule(limit=st.integers(1, 5), lease=leases, skip=st.sets(st.sampled_from(DOMAINS), max_size=2), target=claims)
    def claim(self, limit: int, lease: timedelta, skip: set[str]) -> MultipleResults[Claim]:
        before = self._due(skip)
        taken = self.runner.run(self.store.claim(limit, lease, self.now, dict.fromkeys(skip, 0), 100))
        expected = before
        first: dict[tuple[int, str], tuple[datetime, int]] = {}
        for (id, _number), recipient in expected.items():
            assert recipient.next_attempt is not None
            first.setdefault((id, recipient.domain), (recipient.next_attempt, id))
        # All that is due, as far as it is asked for; in each line in the order of work.
        assert len(taken) == min(limit, len(first))
        for line in product(DOMAINS, SENDERS, (False, True)):
            order = [
                (-claim.priority, first[claim.id.number, claim.destination])
                for claim in taken
                if (claim.destination, claim.sender, self._is_retry(claim)) == line
            ]
            for rank in {rank for rank, _ in order}:
                times = [time for one, time in order if one == rank]
                assert times == sorted(times)
            # One claim of four has each priority in turn: it may go before a higher one.
            ranks = [rank for rank, _ in order]
            before_higher = [rank for place, rank in enumerate(ranks) if min(ranks[place:]) < rank]
            assert len(before_higher) <= -(-len(taken) // 4)
        assert len({(claim.id, claim.destination) for claim in taken}) == len(taken)
        for one in taken:
            numbers = [
                number
                for (id, number), known in sorted(expected.items(), key=lambda item: item[0])
                if (id, known.domain) == (one.id.number, one.destination)
            ]
            assert [recipient.index for recipient in one.recipients] == numbers
            assert one.lease_until == self.now + lease
            assert self.runner.run(self._octets(one)) == self.bodies[one.id.number]
            for taken_recipient in one.recipients:
                known = self.model[one.id.number, taken_recipient.index]
                known.attempts += 1
                known.lease, known.next_attempt = one.lease, one.lease_until
                assert taken_recipient.attempts == known.attempts
        return multiple(*taken)

    @rule(
        claim=claims,
        wanted=st.lists(st.tuples(states, seconds), min_size=4, max_size=4),
        notice=st.none() | domains,
    )
    def settle(self, claim: Claim, wanted: list[tuple[State, timedelta]], notice: Sequence[str] | None) -> None:
        settlement = Settlement(
            tuple(
                SettledRecipient(recipient, state, OUTCOMES[state], None if state.closed else self.now + wait, False)
                for recipient, (state, wait) in zip(claim.recipients, wanted, strict=False)
            )
        )
        notices = [self._new(notice, b"notice")] if notice else []
        kept = self._holds(claim)
        assert (
            self.runner.run(
                self.store.settle(claim, settlement, notices, self.now, record=AttemptRecord(), began=self.now)
            )
            is kept
        )
        if kept:
            states = {one.recipient.index: one.state for one in settlement.recipients}
            number = max(one.attempts for one in claim.recipients)
            self.evidence.append(Evidence(claim.id.number, claim.destination, number, self.now, claim.lease, states))
            for settled in settlement.recipients:
                known = self.model[claim.id.number, settled.recipient.index]
                known.state, known.next_attempt = settled.state, settled.next_attempt
                known.lease, known.changed = None, self.now
            self._remember(notices)

    @rule(claim=consumes(claims), wait=seconds)
    def release(self, claim: Claim, wait: timedelta) -> None:
        kept = self._holds(claim)
        assert self.runner.run(self.store.release(claim, self.now + wait)) is kept
        if kept:
            for recipient in claim.recipients:
                known = self.model[claim.id.number, recipient.index]
                known.lease, known.next_attempt = None, self.now + wait
                known.attempts -= 1

    @rule(claim=claims, wait=seconds)
    def renew(self, claim: Claim, wait: timedelta) -> None:
        kept = self._holds(claim)
        assert self.runner.run(self.store.renew(claim, self.now + wait)) is kept
        if kept:
            for recipient in claim.recipients:
                self.model[claim.id.number, recipient.index].next_attempt = self.now + wait

    @rule(domain=st.sampled_from(DOMAINS), length=st.none() | seconds)
    def rest(self, domain: str, length: timedelta | None) -> None:
        """None: it was reached."""
        if length is None:
            self.rests.pop(domain, None)
        else:
            self.rests[domain] = Rest(self.now + length, self.now, 1, "4.4.1", "nobody answers", "outage")
        self.runner.run(self.store.rest(domain, self.rests.get(domain)))

    @rule(which=st.none() | st.integers(1, 20), from_outside=st.booleans())
    def retry_now(self, which: int | None, from_outside: bool) -> None:
        id = None if which is None else MessageId(which)
        action = Action(Act.RETRY, QueueFilter(ids=() if id is None else (id,)), "root")
        if from_outside:
            tally = visitor.perform(self.folder, action, self.now, lambda *_: None, by_domain)
        else:
            tally = self.runner.run(self.store.controls.perform(action, self.now, lambda *_: None))
        leased = [key for key, one in self.model.items() if which in (None, key[0]) and one.lease is not None]
        assert tally.under_way == len(leased)
        waiting = [
            recipient
            for (message, _), recipient in self.model.items()
            if which in (None, message) and recipient.next_attempt is not None and recipient.lease is None
            if which is not None or not recipient.is_early(self.now)
        ]
        assert tally.done == len(waiting)
        for recipient in waiting:
            assert recipient.next_attempt is not None
            recipient.next_attempt = min(recipient.next_attempt, self.now)
            self.rests.pop(recipient.domain, None)

    @precondition(lambda self: any(one.state.closed for one in self.model.values()))
    @rule(age=seconds)
    def tidy(self, age: timedelta) -> None:
        self.runner.run(self.store.tidy(self.now - age))
        for id in {id for id, _ in self.model}:
            recipients = [recipient for (message, _), recipient in self.model.items() if message == id]
            if all(one.state.closed and one.changed < self.now - age for one in recipients):
                self.model = {key: one for key, one in self.model.items() if key[0] != id}
                self.evidence = [one for one in self.evidence if one.message != id]
        waiting = {one.domain for one in self.model.values() if one.next_attempt is not None}
        for domain, rest in list(self.rests.items()):
            if rest.until < self.now - age and domain not in waiting:
                del self.rests[domain]

    @precondition(lambda self: any(one.lease is not None for one in self.model.values()))
    @rule()
    def crash(self) -> None:
        self.runner.run(self.store.close())
        self.store = SqliteStore(self.folder)
        self.runner.run(self.store.open(self.now))
        for recipient in self.model.values():
            if recipient.lease is not None:
                recipient.lease, recipient.next_attempt = None, self.now + 5 * min(recipient.attempts, 60) * SECOND
        self._learn_the_spread()

    def _learn_the_spread(self) -> None:
        """Retries that fell due while nothing ran come at random times, one in so many milliseconds on average."""
        overdue = {
            key: one
            for key, one in self.model.items()
            if one.state is State.DEFERRED and one.next_attempt is not None and one.next_attempt < self.now
        }
        if len(overdue) < 2:
            return
        with closing(visitor.open_reader(self.folder)) as reader:
            found = {(one.id.number, one.number): one.next_attempt for one in reader.find(None, False)}
        for key, one in overdue.items():
            time = found[key]
            assert time is not None
            assert self.now <= time <= self.now + len(overdue) * timedelta(microseconds=SPREAD_EACH_MICROS)
            one.next_attempt = time

    @invariant()
    def the_lists_agree(self) -> None:
        if not hasattr(self, "store"):
            return
        with closing(visitor.open_reader(self.folder)) as reader:
            for history in (False, True):
                expected = [
                    (MessageId(id), one.state, one.attempts, one.next_attempt if one.lease is None else None)
                    for (id, _), one in sorted(self.model.items(), key=lambda item: item[0])
                    if history or not one.state.closed
                ]
                found = reader.find(None, history)
                assert [(one.id, one.state, one.attempts, one.next_attempt) for one in found] == expected

    @invariant()
    def every_settled_attempt_has_left_its_evidence(self) -> None:
        if not hasattr(self, "store"):
            return
        found = []
        with closing(visitor.open_reader(self.folder)) as reader:
            # Of a message without an attempt there is nothing to be read.
            for id in sorted({id for (id, _), one in self.model.items() if one.attempts}):
                (message,) = reader.trace(str(MessageId(id)))
                for attempt in message.attempts:
                    states = {number: one.state for one in attempt.results for number in one.recipients}
                    found.append((id, attempt.domain, attempt.number, attempt.began, states))
        expected = sorted(self.evidence, key=lambda one: (one.message, one.began, one.lease))
        assert found == [(one.message, one.domain, one.number, one.began, one.states) for one in expected]

    @invariant()
    def they_agree_on_what_is_next(self) -> None:
        if not hasattr(self, "store"):
            return
        for skip in ((), *((domain,) for domain in DOMAINS)):
            times = [
                max(one.next_attempt, self._opens(one.domain))
                for one in self.model.values()
                if one.domain not in skip and one.next_attempt is not None
            ]
            expected = min(times, default=None)
            found = self.runner.run(self.store.next_due(skip, self.now))
            if expected is not None:  # too early is allowed, too late is not
                assert found is not None
                assert found <= max(expected, self.now)

    @invariant()
    def the_rests_agree(self) -> None:
        if hasattr(self, "store"):
            assert self.runner.run(self.store.rests()) == self.rests

    @invariant()
    def the_files_are_those_of_open_mail(self) -> None:
        if not hasattr(self, "store"):
            return
        self.runner.run(
            self.store.next_due((), self.now)
        )  # what the last settlement removed is gone before the next answer
        open_mail = {id for (id, _), one in self.model.items() if not one.state.closed}
        expected = {str(MessageId(id)) for id in open_mail if len(self.bodies[id]) > 65536}
        assert {path.name for path in (self.folder / "bodies").iterdir()} == expected
        assert list((self.folder / "incoming").iterdir()) == []

    def _opens(self, domain: str) -> datetime:
        return self.rests[domain].until if domain in self.rests else self.now

    def _new(self, to: Sequence[str], octets: bytes, sender: Address | None = None) -> NewMessage:
        self.last_id += 1
        self.bodies[self.last_id] = octets
        recipients = tuple(Address("x", domain, f"x@{domain}") for domain in to)
        return NewMessage(MessageId(self.last_id), Envelope(sender, recipients), InlineBody(octets), self.now)

    def _asking(self, message: NewMessage, wish: tuple[int, int | None]) -> NewMessage:
        priority, wait = wish
        return replace(message, priority=priority, release=None if wait is None else self.now + wait * SECOND)

    async def _put(self, messages: list[NewMessage]) -> None:
        await self.store.put([await self._finished(message) for message in messages])
        self._remember(messages)

    async def _put_claimed(self, message: NewMessage, lease_until: datetime) -> tuple[Claim, ...]:
        claims = await self.store.put_claimed(
            await self._finished(message), lease_until, self.store.destinations(message)
        )
        self._remember((message,))
        return claims

    async def _finished(self, message: NewMessage) -> NewMessage:
        writer = self.store.new_body(message.id)
        await writer.write(self.bodies[message.id.number])
        return replace(message, body=await writer.finish())

    def _remember(self, messages: Sequence[NewMessage]) -> None:
        for message in messages:
            for number, address in enumerate(message.envelope.recipients):
                self.model[message.id.number, number] = Recipient(
                    address.domain,
                    message.due,
                    message.envelope.sender,
                    priority=message.priority,
                    release=message.release,
                )

    def _due(self, skip: set[str]) -> dict[tuple[int, int], Recipient]:
        """In the order of work."""
        due = [
            (one.next_attempt, key)
            for key, one in self.model.items()
            if one.next_attempt is not None
            and one.next_attempt <= self.now
            and one.domain not in skip
            and self._opens(one.domain) <= self.now
        ]
        return {key: self.model[key] for _, key in sorted(due)}

    def _is_retry(self, claim: Claim) -> bool:
        states = {self.model[claim.id.number, one.index].state for one in claim.recipients}
        return State.DEFERRED in states

    def _holds(self, claim: Claim) -> bool:
        return all(
            (claim.id.number, one.index) in self.model and self.model[claim.id.number, one.index].lease == claim.lease
            for one in claim.recipients
        )

    async def _octets(self, claim: Claim) -> bytes:
        return b"".join([chunk async for chunk in self.store.read(claim.body)])


QueueMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_model = QueueMachine.TestCase
