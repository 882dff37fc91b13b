"""Filters: what is read from what was typed, and that SQL finds what the filter says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mail.address import Address, parse_address
from relay.mail.message import MessageId
from relay.mail.outcome import Cause, State
from relay.queue import database
from relay.queue.pattern import AddressPattern, like, parse_pattern
from relay.queue.rows import to_micros
from relay.queue.selection import FIELDS, OPEN, Cursor, FilterError, QueueFilter, read_filter

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, QueueFilter()),
        ({"id": ("0000000000001", "0000000000002")}, QueueFilter(ids=(MessageId(1), MessageId(2)))),
        ({"sender": ("<>",)}, QueueFilter(sender=AddressPattern(null=True))),
        ({"recipient": ("@Example.org",)}, QueueFilter(recipient=AddressPattern(domain="example.org"))),
        ({"domain": ("bücher.example",)}, QueueFilter(domain=AddressPattern(domain="xn--bcher-kva.example"))),
        ({"destination": ("Example.org.",)}, QueueFilter(destination="example.org")),
        ({"destination": ("route:Backup",)}, QueueFilter(destination="route:Backup")),
        ({"cause": ("tls-policy",)}, QueueFilter(cause=Cause.TLS_POLICY)),
        ({"state": ("held", "failed")}, QueueFilter(states=(State.HELD, State.FAILED))),
        ({"status": ("4.7",)}, QueueFilter(status="4.7")),
        ({"older_than": ("90m",)}, QueueFilter(arrived_by=NOW - timedelta(minutes=90))),
        ({"younger_than": ("5d",)}, QueueFilter(arrived_since=NOW - timedelta(days=5))),
        ({"login": ("jo",), "limit": ("3",)}, QueueFilter(login="jo", limit=3)),
        ({"after": ("0000000000001-7",)}, QueueFilter(after=Cursor(1, 7))),
    ],
)
def test_what_is_read(given: Mapping[str, Sequence[str]], wanted: QueueFilter) -> None:
    assert read_filter(given, NOW) == wanted


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("id", "x", "'x' is not a queue id"),
        ("sender", "example.org", "must be an address"),
        ("recipient", "<>", "no mail goes to the null address"),
        ("domain", "a b", "is no domain"),
        ("destination", "a b", "is no destination"),
        ("cause", "weather", "must be one of greylisting, "),
        ("state", "stuck", "must be one of queued, "),
        ("status", "4.7.5.1", "must be a status"),
        ("status", "3", "must be a status"),
        ("status", "4.*", "must be a status"),
        ("older_than", "5", "must be a number and a unit"),
        ("older_than", "0s", "must be longer than zero"),
        ("younger_than", "-5m", "must be a number and a unit"),
        ("login", "", "must not be empty"),
        ("limit", "0", "must be a number from 1"),
        ("limit", "1e3", "must be a number from 1"),
        ("limit", "٣", "must be a number from 1"),
        ("after", "0000000000001", "is no place in the list"),
        ("colour", "red", "is not known; there are id, sender"),
    ],
)
def test_a_mistake_names_its_field(field: str, text: str, problem: str) -> None:
    with pytest.raises(FilterError, match=problem) as raised:
        read_filter({field: (text,)}, NOW)
    assert raised.value.field == field


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_only_ids_and_states_may_be_given_twice(field: str) -> None:
    given = {field: ("held", "held") if field == "state" else ("0000000000001", "0000000000002")}
    if field in ("id", "state"):
        assert read_filter(given, NOW)
        return
    with pytest.raises(FilterError, match="may be given once"):
        read_filter(given, NOW)


def test_too_many_ids_are_a_mistake() -> None:
    with pytest.raises(FilterError, match="may be given 1000 times, not 1001"):
        read_filter({"id": [str(MessageId(number)) for number in range(1, 1002)]}, NOW)


# The same, told by SQL and by hand.


@dataclass(frozen=True)
class Row:
    """What a filter looks at."""

    message: int
    number: int
    sender: Address | None
    recipient: Address
    destination: str
    state: State
    cause: Cause | None
    status: str | None
    arrived: datetime
    login: str | None


SENDERS = [
    None,
    *(parse_address(text) for text in (b"jo@sender.example", b"JO@other.example", b"ann+x@sender.example")),
]
RECIPIENTS = [
    parse_address(text) for text in (b"a@example.org", b"B@example.net", b"b%x@sub.example.org", b"postmaster")
]
DESTINATIONS = ["example.org", "example.net", "route:backup", "route:back%up"]
STATUSES = [None, "4.7.5", "4.7.50", "4.70.5", "5.7.1", "4.4.1"]
TIMES = [NOW - timedelta(minutes=minutes) for minutes in (0, 10, 20)]
LOGINS = [None, "jo", "Jo"]

ROWS = st.builds(
    Row,
    message=st.integers(1, 4),
    number=st.integers(0, 3),
    sender=st.sampled_from(SENDERS),
    recipient=st.sampled_from(RECIPIENTS),
    destination=st.sampled_from(DESTINATIONS),
    state=st.sampled_from(list(State)),
    cause=st.sampled_from([None, Cause.OUTAGE, Cause.TLS_POLICY]),
    status=st.sampled_from(STATUSES),
    arrived=st.sampled_from(TIMES),
    login=st.sampled_from(LOGINS),
)
ONE_OR_NONE = st.none()
FILTERS = st.builds(
    QueueFilter,
    ids=st.lists(st.integers(1, 5).map(MessageId), max_size=2).map(tuple),
    sender=ONE_OR_NONE
    | st.sampled_from(["<>", "jo@sender.example", "@sender.example", "*@*.example"]).map(parse_pattern),
    recipient=ONE_OR_NONE
    | st.sampled_from(["A@example.org", "b%x@*", "postmaster", "@*example.org"]).map(parse_pattern),
    domain=ONE_OR_NONE | st.sampled_from(["example.org", "*.org"]).map(lambda domain: AddressPattern(domain=domain)),
    destination=ONE_OR_NONE | st.sampled_from(["example.org", "route:*", "route:back%up"]),
    cause=ONE_OR_NONE | st.sampled_from([Cause.OUTAGE, Cause.DNS]),
    states=st.lists(st.sampled_from(list(State)), max_size=2).map(tuple),
    status=ONE_OR_NONE | st.sampled_from(["4", "4.7", "4.7.5"]),
    arrived_by=ONE_OR_NONE | st.sampled_from(TIMES),
    arrived_since=ONE_OR_NONE | st.sampled_from(TIMES),
    login=ONE_OR_NONE | st.just("jo"),
    after=ONE_OR_NONE | st.builds(Cursor, st.integers(1, 3), st.integers(0, 2)),
)


def fits(row: Row, wanted: QueueFilter) -> bool:
    def given_and_not(value: object, fits: bool) -> bool:
        return value is not None and not fits

    status = row.status or ""
    return not (
        (wanted.ids and MessageId(row.message) not in wanted.ids)
        or row.state not in (wanted.states or OPEN)
        or (wanted.sender is not None and not wanted.sender.matches(row.sender))
        or (wanted.recipient is not None and not wanted.recipient.matches(row.recipient))
        or (wanted.domain is not None and not wanted.domain.matches(row.recipient))
        or (wanted.destination is not None and not like(wanted.destination, row.destination))
        or given_and_not(wanted.cause, row.cause is wanted.cause)
        or given_and_not(wanted.status, f"{status}.".startswith(f"{wanted.status}."))
        or (wanted.arrived_by is not None and row.arrived > wanted.arrived_by)
        or (wanted.arrived_since is not None and row.arrived < wanted.arrived_since)
        or given_and_not(wanted.login, row.login == wanted.login)
        or (wanted.after is not None and (row.message, row.number) <= (wanted.after.message, wanted.after.number))
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    folder = tmp_path_factory.mktemp("queue")
    database.prepare(folder)
    with closing(database.connect(folder)) as connection:
        yield connection


@settings(max_examples=300)
@given(rows=st.lists(ROWS, max_size=12, unique_by=lambda row: (row.message, row.number)), wanted=FILTERS)
def test_sql_finds_what_the_filter_says(tables: sqlite3.Connection, rows: list[Row], wanted: QueueFilter) -> None:
    messages = {row.message: row for row in rows}
    # What belongs to the message is the same for all its recipients.
    rows = [
        Row(
            row.message,
            row.number,
            messages[row.message].sender,
            row.recipient,
            row.destination,
            row.state,
            row.cause,
            row.status,
            messages[row.message].arrived,
            messages[row.message].login,
        )
        for row in rows
    ]
    tables.execute("BEGIN")
    try:
        fill(tables, rows)
        sql, values = wanted.condition()
        found = tables.execute(
            "SELECT m.id, r.number FROM message m JOIN recipient r ON r.message = m.id"
            f" WHERE {sql} ORDER BY m.id, r.number",
            values,
        ).fetchall()
    finally:
        tables.execute("ROLLBACK")
    assert found == sorted((row.message, row.number) for row in rows if fits(row, wanted))


def fill(tables: sqlite3.Connection, rows: Sequence[Row]) -> None:
    for message in {row.message for row in rows}:
        mine = [row for row in rows if row.message == message]
        one, is_open = mine[0], any(not row.state.closed for row in mine)
        tables.execute(
            "INSERT INTO message (id, sender, sender_domain, eight_bit, smtputf8, demand, size, arrived, closed, login)"
            " VALUES (?, ?, ?, 0, 0, 'default', 1, ?, ?, ?)",
            (
                message,
                None if one.sender is None else one.sender.text,
                None if one.sender is None else one.sender.domain,
                to_micros(one.arrived),
                None if is_open else 1,
                one.login,
            ),
        )
        for row in mine:
            tables.execute(
                "INSERT INTO recipient (message, number, address, domain, destination, state, cause, status, attempts,"
                " tls, changed, delay_notices) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 'none', 0, 0)",
                (
                    message,
                    row.number,
                    row.recipient.text,
                    row.recipient.domain,
                    row.destination,
                    row.state.value,
                    None if row.cause is None else row.cause.value,
                    row.status,
                ),
            )
