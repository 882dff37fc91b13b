"""Plays scenarios: one message each over SMTP, time that passes, and what became of every recipient.

What is seen is taken from Relay's own events, from the mail that arrived at the hosts (octet for octet), and from the
notices that came back to the sender.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic

from relay.events import AttemptFinished, Event, NoticeQueued
from relay.lab.scenario import Host, Scenario
from relay.lab.sink import Sink
from relay.lab.world import PASSWORD, SENDER_DOMAIN, USER, Addresses, LabClock, World
from relay.mail.outcome import State

PASSAGES = {  # how far the clock is moved: past the first retry, then past the end of a message's life
    "twenty minutes later": timedelta(minutes=20),
    "six days later": timedelta(days=6),
}
PATIENCE_SECONDS = 25.0

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
    """Listens to Relay's events."""

    attempts: dict[str, list[AttemptFinished]] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    notices: dict[str, str] = field(default_factory=dict)  # queue id of the notice -> whom it went to
    others: list[Event] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def emit(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, AttemptFinished):
            self.attempts.setdefault(event.recipient, []).append(event)
            self.times.setdefault(event.recipient, monotonic())
        elif isinstance(event, NoticeQueued):
            self.notices[event.id] = event.recipient
        else:
            self.others.append(event)
        self.changed.set()

    def state(self, recipient: str) -> str | None:
        """The state after the last attempt; None before the first."""
        attempts = self.attempts.get(recipient)
        return attempts[-1].state if attempts else None

    def notices_under_way(self) -> bool:
        """Whether a notice that was queued has not reached its mailbox yet."""
        arrived = [
            attempt.id for attempts in self.attempts.values() for attempt in attempts if attempt.id in self.notices
        ]
        return len(arrived) < len(self.notices)


class Play:
    """One performance of some scenarios."""

    def __init__(self, scenarios: tuple[Scenario, ...], folder: Path, progress: Progress) -> None:
        self._recorder = Recorder()
        self._world = World(scenarios, folder, LabClock(), self._recorder.emit)
        self._progress = progress
        self._sent: dict[str, tuple[bytes, float]] = {}  # by scenario: the octets, and when they were submitted

    async def run(self) -> tuple[Result, ...]:
        """Bring the world up, play, take it down."""
        self._progress("starting DNS, policy hosts, mail hosts and Relay")
        addresses = await self._world.start()
        try:
            await self._submit(addresses)
            await self._attempts("first attempts", {})
            for when, passage in PASSAGES.items():
                before = {name: len(attempts) for name, attempts in self._recorder.attempts.items()}
                await self._world.advance(passage)
                await self._attempts(when, before)
            return tuple(self._result(scenario) for scenario in self._world.scenarios)
        finally:
            await self._world.stop()

    async def _submit(self, addresses: Addresses) -> None:
        for scenario in self._world.scenarios:
            octets = _message(scenario)
            self._sent[scenario.name] = (octets, monotonic())
            await asyncio.to_thread(_send, addresses, scenario, octets)

    async def _attempts(self, what: str, before: dict[str, int]) -> None:
        """Wait until every open recipient had one more attempt than `before`, and every notice its own."""
        recipients = [_address(scenario, who) for scenario in self._world.scenarios for who in scenario.recipients]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    self._recorder.changed.clear()
                    done = [one for one in recipients if self._attempted(one, before)]
                    self._progress(f"{what}: {len(done)} of {len(recipients)}")
                    if len(done) == len(recipients) and not self._recorder.notices_under_way():
                        return
                    await self._recorder.changed.wait()
        except TimeoutError:
            return  # the table shows who is missing

    def _attempted(self, recipient: str, before: dict[str, int]) -> bool:
        attempts = self._recorder.attempts.get(recipient, [])
        closed = bool(attempts) and State(attempts[-1].state).closed
        return closed or len(attempts) > before.get(recipient, 0)

    def _result(self, scenario: Scenario) -> Result:
        journeys = [self._journey(_address(scenario, who)) for who in scenario.recipients]
        told = self._told(scenario)
        last = self._recorder.attempts.get(_address(scenario, scenario.recipients[-1]), [])
        seen = _in_words(scenario, tuple(journeys), told)
        if any(journey and journey[-1].startswith("delivered") for journey in journeys) and not self._arrived(scenario):
            seen += ", altered on the way"
        complaints = [words for host in scenario.hosts for words in self._sink(scenario, host).complaints]
        if complaints:
            seen += f", the host complains: {'; '.join(complaints)}"
        tls = last[-1].tls if last else "none"
        if tls != scenario.tls:
            seen += f", tls {tls} and not {scenario.tls}"
        submitted = self._sent[scenario.name][1]
        first = min(self._recorder.times.get(_address(scenario, who), submitted) for who in scenario.recipients)
        return Result(
            scenario,
            expected=_in_words(scenario, scenario.expected, scenario.told),
            seen=seen,
            code=told or (last[-1].status if last else "-"),
            tls=tls,
            seconds=round(first - submitted, 3),
        )

    def _journey(self, recipient: str) -> tuple[str, ...]:
        steps: list[str] = []
        for attempt in self._recorder.attempts.get(recipient, []):
            step = f"{attempt.state} {attempt.status}"
            if not steps or steps[-1] != step:
                steps.append(step)
        return tuple(steps)

    def _arrived(self, scenario: Scenario) -> bool:
        """Whether a host got the message, octet for octet below the Received line that Relay puts in front."""
        octets = self._sent[scenario.name][0]
        mails = [mail for host in scenario.hosts for mail in self._sink(scenario, host).received]
        return any(mail.octets.startswith(b"Received: ") and mail.octets.endswith(b"\r\n" + octets) for mail in mails)

    def _sink(self, scenario: Scenario, host: Host) -> Sink:
        return self._world.sink(scenario.domain, host.label)

    def _told(self, scenario: Scenario) -> str | None:
        """The code in the failure notice that reached the sender's mailbox, such as `551 5.7.5`; None: no notice."""
        mailbox = f"{scenario.name}@{SENDER_DOMAIN}"
        for mail in self._world.sink(SENDER_DOMAIN).received:
            if mailbox in mail.recipients and mail.sender == "":
                parsed = email.message_from_bytes(mail.octets, policy=email.policy.default)
                for part in parsed.walk():
                    diagnostic = part.get("Diagnostic-Code", "")
                    if part.get("Action") == "failed":
                        return " ".join(diagnostic.partition(";")[2].split()[:2])
        return None


def _in_words(scenario: Scenario, journeys: tuple[tuple[str, ...], ...], told: str | None) -> str:
    """`bob delivered; eve returned 550 5.1.1`, without names when there is one recipient."""
    walked = [_walked(journey, told) for journey in journeys]
    if len(walked) > 1:
        walked = [f"{who} {steps}" for who, steps in zip(scenario.recipients, walked, strict=True)]
    if told is not None and not any("returned" in steps for steps in walked):
        walked.append(f"the sender was told {told}")
    return "; ".join(walked)


def _walked(journey: tuple[str, ...], told: str | None) -> str:
    """`deferred 4.7.5 > returned 551 5.7.5`: a failure that the sender was told of with its own code is a return."""
    steps = list(journey) or ["nothing"]
    if told is not None and steps[-1] == f"failed {told.split()[-1]}":
        steps[-1] = f"returned {told}"
    return " > ".join("delivered" if step == "delivered 2.0.0" else step for step in steps)


def _address(scenario: Scenario, who: str) -> str:
    return f"{who}@{scenario.domain}"


def _message(scenario: Scenario) -> bytes:
    """A message with what breaks careless servers: 8-bit text, a lone dot, a line that begins with one, blank ends."""
    return (
        f"From: <{scenario.name}@{SENDER_DOMAIN}>\r\nTo: undisclosed-recipients:;\r\n"
        f"Subject: {scenario.name}\r\nMessage-ID: <{scenario.name}@{SENDER_DOMAIN}>\r\n{scenario.header}"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        "Grüße aus dem Labor\r\n.\r\n..two dots\r\n.one dot \r\n\r\n\r\n"
    ).encode()


def _send(addresses: Addresses, scenario: Scenario, octets: bytes) -> None:
    """Submit as a mail program would: STARTTLS, a password, one message."""
    context = ssl.create_default_context(cafile=str(addresses.ca_file))
    with smtplib.SMTP("localhost", addresses.submission.port, timeout=PATIENCE_SECONDS) as client:
        client.starttls(context=context)
        client.login(USER, PASSWORD)
        to = [_address(scenario, who) for who in scenario.recipients]
        client.sendmail(f"{scenario.name}@{SENDER_DOMAIN}", to, octets, ["BODY=8BITMIME", *scenario.mail_options])
