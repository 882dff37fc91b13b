"""Reports that were made, and what becomes of them: the values that go in and out of the store. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum


class State(Enum):
    """Of the delivery of a report to one destination."""

    WAITS = "waits"
    SENT = "sent"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report to put into the outbox. `octets`: the JSON, compressed. `uris`: where it goes, first at `due`."""

    id: str
    octets: bytes
    uris: tuple[str, ...]
    due: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come. `attempts`: with this one."""

    id: str
    day: date
    domain: str
    octets: bytes
    made: datetime
    uri: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Sent:
    """It is delivered. `words`: what the other side said."""

    words: str = ""
    state = State.SENT
    until = None


@dataclass(frozen=True, slots=True)
class Later:
    """It is tried again then. `words`: why."""

    until: datetime
    words: str
    state = State.WAITS


@dataclass(frozen=True, slots=True)
class GivenUp:
    """It is not tried again. `words`: why."""

    words: str
    state = State.GIVEN_UP
    until = None


Outcome = Sent | Later | GivenUp


@dataclass(frozen=True, slots=True)
class Delivery:
    """Of a report, to one destination: where it stands. `until`: the next attempt; `at`: when that was written."""

    uri: str
    state: State
    attempts: int
    until: datetime | None
    words: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a domain's counts of a day: a report (`octets`, made `at`), or none (`words` say why)."""

    id: str | None
    day: date
    domain: str
    octets: bytes | None
    words: str
    at: datetime
    deliveries: tuple[Delivery, ...] = ()
