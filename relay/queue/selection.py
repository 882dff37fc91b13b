"""Which recipients an operator means: a filter as a value, read from what was typed, and as a condition of SQL.

Everything that is given must be so. No SQL is run here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from relay.mail.address import AddressError, parse_domain
from relay.mail.message import MessageId
from relay.mail.outcome import Cause, State
from relay.queue.pattern import (
    AddressPattern,
    Condition,
    like_condition,
    parse_domain_pattern,
    parse_pattern,
)
from relay.queue.rows import to_micros
from relay.setting_types import parse_duration

OPEN: Final = tuple(state for state in State if not state.closed)
MAX_IDS: Final = 1000
_STATUS = re.compile(r"[245](\.[0-9]{1,3}){0,2}\Z")
_AGE = re.compile(r"[0-9]{1,12}[smhdw]\Z")
_LARGEST_LIMIT = 1_000_000_000

T = TypeVar("T")


class FilterError(ValueError):
    """What was typed is no filter. `field`: its name as in FIELDS; `problem`: goes after it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of the list: behind this recipient of this message."""

    message: int
    number: int

    def __str__(self) -> str:
        return f"{MessageId(self.message)}-{self.number}"

    @staticmethod
    def parse(text: str) -> Cursor:
        """Read what `str` wrote. Raises ValueError."""
        id, _, number = text.partition("-")
        if not number.isdecimal() or not number.isascii() or len(number) > 9:
            raise ValueError("is no place in the list: give what `next` said")
        return Cursor(MessageId.parse(id).number, int(number))


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """Some recipients of the queue. None, or nothing in a tuple: whatever it is. Times are aware.

    `states`: nothing in it means those that are open. `status`: `4`, `4.7` or `4.7.5`. `destination` may have `*`.
    `limit`: the first so many, in the order of arrival. `after`: those behind that place only.
    """

    ids: tuple[MessageId, ...] = ()
    sender: AddressPattern | None = None
    recipient: AddressPattern | None = None
    domain: AddressPattern | None = None
    destination: str | None = None
    cause: Cause | None = None
    states: tuple[State, ...] = ()
    status: str | None = None
    arrived_by: datetime | None = None
    arrived_since: datetime | None = None
    login: str | None = None
    limit: int | None = None
    after: Cursor | None = None

    def condition(self) -> Condition:
        """For `message m` and `recipient r` joined; `limit` is not in it."""
        states = self.states or OPEN
        conditions: list[Condition] = [(f"r.state IN ({_marks(states)})", tuple(state.value for state in states))]
        if not any(state.closed for state in states):
            conditions.append(("m.closed IS NULL", ()))  # an index knows these
        if self.ids:
            conditions.append((f"m.id IN ({_marks(self.ids)})", tuple(id.number for id in self.ids)))
        if self.sender is not None:
            conditions.append(self.sender.condition("m.sender", "m.sender_domain"))
        patterns = [pattern for pattern in (self.recipient, self.domain) if pattern is not None]
        conditions += [pattern.condition("r.address", "r.domain") for pattern in patterns]
        if self.destination is not None:
            conditions.append(like_condition(self.destination, "r.destination"))
        if self.status is not None:
            conditions.append(("(r.status = ? OR r.status GLOB ?)", (self.status, f"{self.status}.*")))
        conditions += self._compared()
        return " AND ".join(sql for sql, _ in conditions), tuple(value for _, values in conditions for value in values)

    def _compared(self) -> list[Condition]:
        """What is one value compared with one column."""
        compared: list[tuple[str, Any]] = [
            ("r.cause = ?", None if self.cause is None else self.cause.value),
            ("m.login = ?", self.login),
            ("m.arrived <= ?", None if self.arrived_by is None else to_micros(self.arrived_by)),
            ("m.arrived >= ?", None if self.arrived_since is None else to_micros(self.arrived_since)),
        ]
        found: list[Condition] = [(sql, (value,)) for sql, value in compared if value is not None]
        if self.after is not None:
            found.append(("(m.id, r.number) > (?, ?)", (self.after.message, self.after.number)))
        return found


# What can be given, and what it means: for the options of the command line and the parameters of the API.
FIELDS: Final[Mapping[str, str]] = {
    "id": "queue id of a message; may be given several times",
    "sender": "address, @domain, or <> for the null sender; * is anything",
    "recipient": "address or @domain; * is anything",
    "domain": "domain of the recipient; * is anything",
    "destination": "where it goes: a domain, or route:NAME; * is anything",
    "cause": f"why it waits: {', '.join(cause.value for cause in Cause)}",
    "state": f"{', '.join(state.value for state in State)}; may be given several times; else those that are open",
    "status": "of the last attempt, or its beginning: 4.7.5, 4.7 or 4",
    "older_than": "arrived so long ago or longer: 90s, 15m, 4h, 5d",
    "younger_than": "arrived so long ago or less",
    "login": "name under which the client sent it",
    "limit": "the first so many recipients, by arrival",
}
MANY: Final = frozenset(("id", "state"))  # those that may be given several times


def read_filter(given: Mapping[str, Sequence[str]], now: datetime) -> QueueFilter:
    """The filter from what was typed, by the names of FIELDS and `after`; ages count back from `now`.

    Raises FilterError for the first mistake.
    """
    for field, texts in given.items():
        if field not in FIELDS and field != "after":
            raise FilterError(field, f"is not known; there are {', '.join(FIELDS)}")
        if len(texts) > 1 and field not in MANY:
            raise FilterError(field, "may be given once")

    def one(field: str, read: Callable[[str], T]) -> T | None:
        return next(iter(many(field, read)), None)

    def many(field: str, read: Callable[[str], T]) -> tuple[T, ...]:
        try:
            return tuple(map(read, given.get(field, ())))
        except ValueError as error:
            raise FilterError(field, str(error)) from None

    ids = many("id", read_id)
    if len(ids) > MAX_IDS:
        raise FilterError("id", f"may be given {MAX_IDS} times, not {len(ids)}")
    return QueueFilter(
        ids=ids,
        sender=one("sender", parse_pattern),
        recipient=one("recipient", _recipient),
        domain=one("domain", parse_domain_pattern),
        destination=one("destination", _destination),
        cause=one("cause", _named(Cause)),
        states=many("state", _named(State)),
        status=one("status", _status),
        arrived_by=one("older_than", lambda text: now - _age(text)),
        arrived_since=one("younger_than", lambda text: now - _age(text)),
        login=one("login", _not_empty),
        limit=one("limit", _limit),
        after=one("after", Cursor.parse),
    )


def read_id(text: str) -> MessageId:
    """A queue id. Raises ValueError, in words that go after the name of the field."""
    try:
        return MessageId.parse(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a queue id; `relay queue list` shows them") from None


def _recipient(text: str) -> AddressPattern:
    pattern = parse_pattern(text)
    if pattern.null:
        raise ValueError("no mail goes to the null address <>")
    return pattern


def _destination(text: str) -> str:
    """Domains as they are kept; names of routes and hosts with a port as they are written."""
    if ":" in text or "*" in text:
        return text
    try:
        return parse_domain(text.removesuffix("."))
    except AddressError as error:
        raise ValueError(f"is no destination: {error}") from None


def _age(text: str) -> timedelta:
    if not _AGE.match(text):
        raise ValueError(f"must be a number and a unit (s, m, h, d, w), such as 15m or 5d (got {text!r})")
    return parse_duration(text)


def _status(text: str) -> str:
    if not _STATUS.match(text):
        raise ValueError(f"must be a status such as 4.7.5, or its beginning (got {text!r})")
    return text


def _limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= _LARGEST_LIMIT:
        raise ValueError(f"must be a number from 1 (got {text!r})")
    return int(text)


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _named(kind: type[T]) -> Callable[[str], T]:
    def read(text: str) -> T:
        names = {one.value: one for one in kind}  # type: ignore[attr-defined]
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)} (got {text!r})")
        return names[text]  # type: ignore[no-any-return]

    return read


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
