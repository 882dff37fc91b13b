"""Plays scenarios: mail over SMTP, time that passes with what changes in it, and what became of every recipient.

What is seen is taken from Relay's own events, from the mail that arrived at the hosts (octet for octet), and from the
notices that came back to the sender.
"""

from __future__ import annotations

import asyncio
import email
import smtplib
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from time import monotonic

from relay.events import (
    AttemptFinished,
    Event,
    NoticeQueued,
    OverrideEnded,
    PolicyChanged,
    PolicyOverridden,
    PolicyTestFailed,
    TlsLost,
)
from relay.lab import reports
from relay.lab.clock import LabClock, LabLoop
from relay.lab.scenario import Expected, Scenario
from relay.lab.world import PASSWORD, SENDER_DOMAIN, USER, Addresses, World
from relay.mail.outcome import State

PASSAGES = {  # to where the clock is moved: past the first retry, the refresh of policies, the end of a message's life
    "20m": timedelta(minutes=20),
    "1d": timedelta(days=1, minutes=20),
    "7d": timedelta(days=7, minutes=20),
}
# The lab begins late in the evening (UTC): its first day holds all that happens up to `20m`, its second one `1d`. From
# there it is not far past midnight, where TLS reports of both days have gone, and most mail that waits is not due yet.
_BEGINS = time(23, 20, tzinfo=UTC)
_REPORTED_AFTER, _REPORTED = "1d", timedelta(days=1, hours=1)
_STEP = timedelta(seconds=30)  # while nothing goes on: somebody waits for an answer that does not come
_MOST_STEPS = 8  # more than any wait for a host that scenarios have, less than the first retry
_PATIENCE_SECONDS = 25.0
_SHOW_EVERY_SECONDS = 0.3

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario came to. `seconds` is how long the first attempt took, from submission to its outcome."""

    scenario: Scenario
    expected: str
    seen: str
    code: str
    tls: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all was as expected."""
        return self.expected == self.seen


@dataclass(slots=True)
class Recorder:
    """Listens to Relay's events, and calls `changed` after each."""

    changed: Callable[[], None]
    now: str = ""  # the passage of time after which we are
    attempts: dict[str, list[AttemptFinished]] = field(default_factory=dict)  # by recipient
    journeys: dict[str, list[str]] = field(default_factory=dict)  # by recipient, as in `Expected`
    times: dict[str, float] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)  # queue id of the notice -> whom it went to
    warnings: set[tuple[str, str]] = field(default_factory=set)  # domain, name of the event

    def emit(self, event: Event) -> None:
        """Take one event."""
        match event:
            case AttemptFinished():
                self._attempted(event)
            case NoticeQueued():
                self.notices[event.id] = event.recipient
            case PolicyTestFailed() | PolicyChanged() | PolicyOverridden() | TlsLost():
                self.warnings.add((event.domain, event.name))
            case OverrideEnded():
                self.warnings.update((name, event.name) for name in event.destinations.split(", "))
            case _:
                pass
        self.changed()

    def _attempted(self, event: AttemptFinished) -> None:
        before = self.attempts.setdefault(event.recipient, [])
        outcome = f"{event.state} {event.status}"
        if not before:
            self.times[event.recipient] = monotonic()
            self.journeys[event.recipient] = [outcome]
        elif outcome != f"{before[-1].state} {before[-1].status}":
            self.journeys[event.recipient].append(f"{self.now}: {outcome}")
        before.append(event)

    def count(self, recipient: str) -> int:
        """How many attempts were made."""
        return len(self.attempts.get(recipient, []))

    def closed(self, recipient: str) -> bool:
        """Whether no further attempt will be made."""
        attempts = self.attempts.get(recipient, [])
        return bool(attempts) and State(attempts[-1].state).closed

    def notices_under_way(self) -> bool:
        """Whether a notice that was queued has not reached its mailbox yet."""
        arrived = [
            attempt.id for attempts in self.attempts.values() for attempt in attempts if attempt.id in self.notices
        ]
        return len(arrived) < len(self.notices)


@dataclass(frozen=True, slots=True, eq=False)
class Mail:
    """One mail of a scenario; `number` 0 is the first."""

    scenario: Scenario
    number: int

    @property
    def sender(self) -> str:
        """The mailbox for notices."""
        return f"{self.scenario.name}@{SENDER_DOMAIN}"

    @property
    def recipients(self) -> tuple[str, ...]:
        """Their addresses."""
        return tuple(f"{who}@{self.scenario.domain}" for who in self.scenario.mails[self.number])

    @property
    def octets(self) -> bytes:
        """A message with what breaks careless servers: 8-bit text, a lone dot, a line that begins with one, blanks."""
        name = self.scenario.name
        return (
            f"From: <{self.sender}>\r\nTo: undisclosed-recipients:;\r\n"
            f"Subject: {name} {self.number}\r\nMessage-ID: <{self.number}.{name}@{SENDER_DOMAIN}>\r\n"
            f"{self.scenario.header}"
            "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            "Grüße aus dem Labor\r\n.\r\n..two dots\r\n.one dot \r\n\r\n\r\n"
        ).encode()


def play(scenarios: Sequence[Scenario], folder: Path, progress: Progress) -> tuple[Result, ...]:
    """Bring a world up in `folder`, play, and take it down. The results are in the order of the scenarios."""
    clock = LabClock()
    begins = datetime.combine(clock().date(), _BEGINS)
    clock.advance(begins - clock() if clock() < begins else begins - clock() + timedelta(days=1))
    loop = LabLoop(clock)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_Play(tuple(scenarios), folder, clock, loop, progress).run())


class _Play:
    """One performance of some scenarios."""

    def __init__(
        self, scenarios: tuple[Scenario, ...], folder: Path, clock: LabClock, loop: LabLoop, progress: Progress
    ) -> None:
        self._scenarios = scenarios
        self._recorder = Recorder(self._show)
        self._world = World(scenarios, folder, clock, self._recorder.emit)
        self._clock = clock
        self._first_day = clock().date()
        self._loop = loop
        self._progress = progress
        self._sent: dict[Mail, float] = {}  # and when
        self._shown = 0.0
        self._steps_left = 0
        self._before: dict[str, int] = {}  # by recipient: the attempts made before the last passage of time

    async def run(self) -> tuple[Result, ...]:
        """Play it all."""
        self._progress("starting DNS, policy hosts, mail hosts and Relay")
        addresses = await self._world.start()
        try:
            await self._step(0, addresses)
            passed = timedelta(0)
            for number, (self._recorder.now, until) in enumerate(PASSAGES.items(), 1):
                await self._world.turn(number)
                self._clock.advance(until - passed)
                passed = until
                await self._step(number, addresses)
                if self._recorder.now == _REPORTED_AFTER and any(one.tlsrpt for one in self._scenarios):
                    await self._reports(_REPORTED - passed)
                    passed = _REPORTED
            reported = self._reported()
            return tuple(self._result(scenario, reported[scenario.domain]) for scenario in self._scenarios)
        finally:
            await self._world.stop()

    async def _step(self, number: int, addresses: Addresses) -> None:
        """See what is open through one more attempt, then send the mail of this phase."""
        self._steps_left = _MOST_STEPS
        self._before = {who: self._recorder.count(who) for mail in self._sent for who in mail.recipients}
        if self._sent:
            await self._attempts()
        mails = [Mail(one, number) for one in self._scenarios if number < len(one.mails) and one.mails[number]]
        if mails:
            self._sent.update(dict.fromkeys(mails, monotonic()))
            await asyncio.to_thread(self._submit, mails, addresses)
            await self._attempts()

    def _submit(self, mails: Sequence[Mail], addresses: Addresses) -> None:
        """As a mail program would: STARTTLS, a password, one message after the other."""
        context = ssl.create_default_context(cafile=str(addresses.ca_file))
        with smtplib.SMTP("localhost", addresses.submission.port, timeout=_PATIENCE_SECONDS) as client:
            client.starttls(context=context)
            client.login(USER, PASSWORD)
            for mail in mails:
                self._sent[mail] = monotonic()
                options = ["BODY=8BITMIME", *mail.scenario.mail_options]
                client.sendmail(mail.sender, list(mail.recipients), mail.octets, options)

    async def _attempts(self) -> None:
        """Wait until every open recipient had one more attempt than `before`, and every notice its own.

        When all is quiet and that is not so, somebody waits for an answer (or for a slow disk): let time pass.
        """
        give_up = monotonic() + _PATIENCE_SECONDS
        while monotonic() < give_up:
            await self._loop.quiet(_PATIENCE_SECONDS)
            done, total = self._progress_made()
            if done == total and not self._recorder.notices_under_way():
                return
            if self._steps_left:
                self._steps_left -= 1
                self._clock.advance(_STEP)

    async def _reports(self, until: timedelta) -> None:
        """See that TLS reports go out: those of the first day, by mail; and after `until` those of both, by HTTPS too.

        An endpoint that has refused one is asked again then. Reports that must not come have had their time, too.
        """
        places = [place for one in self._scenarios for place in reports.places(one.expected.reported)]
        await self._arrivals(places.count(""), 1)
        self._clock.advance(until)
        await self._arrivals(len(places), 3)

    async def _arrivals(self, wanted: int, least: int) -> None:
        """Wait until so many reports have arrived in all, and all has been quiet at least so often."""
        for number in range(1, _MOST_STEPS + 1):
            await self._loop.quiet(_PATIENCE_SECONDS)
            if number >= least and sum(map(len, self._reported().values())) >= wanted:
                return
            self._clock.advance(_STEP)

    def _reported(self) -> dict[str, list[reports.Written]]:
        """The TLS reports that have arrived, by the domain that is told."""
        sinks = [self._world.sender, *(sink for one in self._scenarios for sink in self._world.sinks(one))]
        found: dict[str, list[reports.Written]] = {one.domain: [] for one in self._scenarios}
        for mail in (mail for sink in sinks for mail in sink.received):
            domain = reports.told_by_mail(mail.octets)
            if domain is not None:
                found.setdefault(domain, []).append(mail.octets)
        for one in self._scenarios:
            found[one.domain] += self._world.posted(one)
        return found

    def _progress_made(self) -> tuple[int, int]:
        recipients = [who for mail in self._sent for who in mail.recipients]
        done = [
            who
            for who in recipients
            if self._recorder.closed(who) or self._recorder.count(who) > self._before.get(who, 0)
        ]
        return len(done), len(recipients)

    def _show(self) -> None:
        if monotonic() < self._shown + _SHOW_EVERY_SECONDS:
            return
        self._shown = monotonic()
        done, total = self._progress_made()
        self._progress(f"{self._recorder.now or 'first attempts'}: {done} of {total}")

    def _result(self, scenario: Scenario, written: Sequence[reports.Written]) -> Result:
        mails = [mail for mail in self._sent if mail.scenario is scenario]
        recipients = [who for mail in mails for who in mail.recipients]
        last = self._recorder.attempts.get(recipients[-1], [])
        tls = last[-1].tls if last else "none"
        told = self._told(mails[0])
        warnings = frozenset(name for domain, name in self._recorder.warnings if domain == scenario.domain)
        journeys = tuple(tuple(self._recorder.journeys.get(who, ())) for who in recipients)
        reported, report_faults = reports.in_words(written, scenario.domain, self._first_day)
        seen = Expected(journeys, tls, told, warnings, reported)
        words = _in_words(scenario, seen)
        if any(self._is_delivered(mail) and not self._arrived(mail) for mail in mails):
            words += ", altered on the way"
        complaints = [words for sink in self._world.sinks(scenario) for words in sink.complaints]
        if complaints:
            words += f", the host complains: {'; '.join(complaints)}"
        if report_faults:
            words += f", a report is wrong: {'; '.join(report_faults)}"
        if tls != scenario.expected.tls:
            words += f", tls {tls} and not {scenario.expected.tls}"
        submitted = self._sent[mails[0]]
        first = min(self._recorder.times.get(who, submitted) for who in mails[0].recipients)
        return Result(
            scenario,
            expected=_in_words(scenario, scenario.expected),
            seen=words,
            code=told or (last[-1].status if last else "-"),
            tls=tls,
            seconds=round(first - submitted, 3),
        )

    def _is_delivered(self, mail: Mail) -> bool:
        """Whether Relay says so, of a recipient."""
        attempts = [attempt for who in mail.recipients for attempt in self._recorder.attempts.get(who, [])]
        return any(attempt.state == State.DELIVERED.value for attempt in attempts)

    def _arrived(self, mail: Mail) -> bool:
        """Whether a host got the message, octet for octet below the Received line that Relay puts in front."""
        ending = b"\r\n" + mail.octets
        got = [one.octets for sink in self._world.sinks(mail.scenario) for one in sink.received]
        return any(octets.startswith(b"Received: ") and octets.endswith(ending) for octets in got)

    def _told(self, mail: Mail) -> str | None:
        """The code in the failure notice that reached the sender's mailbox, such as `551 5.7.5`; None: no notice."""
        for notice in self._world.sender.received:
            if mail.sender in notice.recipients and notice.sender == "":
                for part in email.message_from_bytes(notice.octets).walk():
                    diagnostic = part.get("Diagnostic-Code", "")
                    if part.get("Action") == "failed":
                        return " ".join(diagnostic.partition(";")[2].split()[:2])
        return None


def _in_words(scenario: Scenario, outcome: Expected) -> str:
    """`bob delivered; eve returned 550 5.1.1`, without names when there is one recipient; what was logged, reported."""
    walked = [_walked(journey, outcome.told) for journey in outcome.journeys]
    if len(walked) > 1:
        recipients = [who for mail in scenario.mails for who in mail]
        walked = [f"{who} {steps}" for who, steps in zip(recipients, walked, strict=True)]
    if outcome.told is not None and not any("returned" in steps for steps in walked):
        walked.append(f"the sender was told {outcome.told}")
    words = [*walked, *sorted(outcome.logged)]
    if outcome.reported or scenario.tlsrpt is not None:
        told = sorted(outcome.reported, key=lambda text: ("day " in text, text))
        words.append(f"reported: {', '.join(told) or 'nothing'}")
    return "; ".join(words)


def _walked(journey: tuple[str, ...], told: str | None) -> str:
    """`deferred 4.7.5 > 7d: returned 551 5.7.5`: a failure that the sender was told of with its code is a return."""
    steps = " > ".join(journey) or "nothing"
    failure = f"failed {told.split()[-1]}" if told is not None else ""
    if failure and steps.endswith(failure):
        steps = f"{steps.removesuffix(failure)}returned {told}"
    return steps.replace("delivered 2.0.0", "delivered")
