"""The tables of TLS reports, and what each verb of the store does to them. Knows neither threads nor the file.

Every function works in the transaction of its caller and may raise sqlite3.Error. What strangers can make grow has a
limit: beyond it sessions still count, but no longer with all that is known of them.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime

from relay.policy.tls_failure import ReportResult
from relay.policy.tls_report import Fault, PolicyType, ReportedPolicy, Tally
from relay.queue.rows import from_micros, to_micros
from relay.tlsrpt import asking
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.outbox import Delivery, Due, Ended, NewReport, Outcome, State

MOST_DOMAINS = 100_000  # in a day
MOST_POLICIES = 20  # of a domain in a day; the others are one of each type, without their text
MOST_FAULTS = 100  # of a policy of a domain in a day; the others are one of each result
MOST_OCTETS = 1 << 30  # of the file: beyond it nothing new is begun, and what is there goes on

SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE told (day TEXT NOT NULL, domain TEXT NOT NULL, PRIMARY KEY (day, domain)) WITHOUT ROWID",
    "CREATE TABLE policy (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, type TEXT NOT NULL,"
    " domain TEXT NOT NULL, text TEXT NOT NULL)",
    # An empty result: the sessions succeeded.
    "CREATE TABLE counted (day TEXT NOT NULL, domain TEXT NOT NULL, policy INTEGER NOT NULL, result TEXT NOT NULL,"
    " reason TEXT NOT NULL, host TEXT NOT NULL, helo TEXT NOT NULL, address TEXT NOT NULL, source TEXT NOT NULL,"
    " number INTEGER NOT NULL,"
    " PRIMARY KEY (day, domain, policy, result, reason, host, helo, address, source)) WITHOUT ROWID",
    "CREATE INDEX counted_policy ON counted (policy)",
    # `octets` NULL: there was no report, and `words` say why.
    "CREATE TABLE report (number INTEGER PRIMARY KEY, id TEXT UNIQUE, day TEXT NOT NULL, domain TEXT NOT NULL,"
    " octets BLOB, words TEXT NOT NULL, ended INTEGER NOT NULL)",
    "CREATE INDEX report_day ON report (day, domain)",
    "CREATE INDEX report_ended ON report (ended)",
    "CREATE TABLE delivery (report INTEGER NOT NULL, uri TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,"
    " next INTEGER, words TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (report, uri)) WITHOUT ROWID",
    "CREATE INDEX delivery_next ON delivery (next) WHERE next IS NOT NULL",
    asking.SCHEMA,
)
_KEY = "day = ? AND domain = ?"
_ROW = f"{_KEY} AND policy = ? AND result = ? AND reason = ? AND host = ? AND helo = ? AND address = ? AND source = ?"
_NO_FAULT = ("", "", "", "", "", "")

Day = tuple[str, str]  # a day and the domain that is told of it


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, if they are not there."""
    if not is_ready(connection):
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def is_ready(connection: sqlite3.Connection) -> bool:
    """Whether the tables are there. Raises sqlite3.OperationalError when they are another version's."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, SCHEMA_VERSION):
        raise sqlite3.OperationalError(f"it has schema {version}, and this version of Relay knows {SCHEMA_VERSION}")
    return bool(version)


class Adding:
    """Adds sessions to the counts, in one transaction. `lost`: how many there was no room for."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[ReportedPolicy, int] = {}
        self._domains: dict[str, int] = {}  # by day
        self._full = _octets(connection) >= MOST_OCTETS
        self.lost = 0

    def add(self, day: date, tally: Tally, number: int) -> None:
        """Count that many sessions more."""
        key, fault = (day.isoformat(), tally.domain), _columns(tally.fault)
        policy = self._find_policy(tally.policy)
        if policy is not None and self._more(key, policy, fault, number):  # as nearly always
            return
        allowed = self._policy(key, tally.policy) if self._is_told(key) else None
        if allowed is None or not self._count(key, allowed, fault, number):
            self.lost += number

    def _is_told(self, key: Day) -> bool:
        """Whether the domain has a place in that day; it gets one while there are any."""
        if self._connection.execute(f"SELECT 1 FROM told WHERE {_KEY}", key).fetchone():  # noqa: S608
            return True
        day = key[0]
        if day not in self._domains:
            found = self._connection.execute("SELECT count(*) FROM told WHERE day = ?", (day,))
            (self._domains[day],) = found.fetchone()
        if self._full or self._domains[day] >= MOST_DOMAINS:
            return False
        self._connection.execute("INSERT INTO told VALUES (?, ?)", key)
        self._domains[day] += 1
        return True

    def _policy(self, key: Day, policy: ReportedPolicy) -> int | None:
        """The number of a policy that is one of the domain's that day, or of what stands for it; None: no room."""
        found = self._find_policy(policy)
        if found is not None and self._has(key, found):
            return found
        if self._policies(key) >= MOST_POLICIES:
            policy = ReportedPolicy(policy.type, key[1])
            found = self._find_policy(policy)
        return found if found is not None or self._full else self._insert_policy(policy)

    def _find_policy(self, policy: ReportedPolicy) -> int | None:
        if policy not in self._known:
            sql = "SELECT id FROM policy WHERE digest = ?"
            row = self._connection.execute(sql, (_digest(policy),)).fetchone()
            if row is None:
                return None
            self._known[policy] = int(row[0])
        return self._known[policy]

    def _insert_policy(self, policy: ReportedPolicy) -> int | None:
        return self._connection.execute(
            "INSERT INTO policy (digest, type, domain, text) VALUES (?, ?, ?, ?)",
            (_digest(policy), policy.type.value, policy.domain, _text(policy)),
        ).lastrowid

    def _has(self, key: Day, policy: int) -> bool:
        sql = f"SELECT 1 FROM counted WHERE {_KEY} AND policy = ? LIMIT 1"  # noqa: S608
        return self._connection.execute(sql, (*key, policy)).fetchone() is not None

    def _policies(self, key: Day) -> int:
        sql = f"SELECT count(DISTINCT policy) FROM counted WHERE {_KEY}"  # noqa: S608
        return int(self._connection.execute(sql, key).fetchone()[0])

    def _count(self, key: Day, policy: int, fault: tuple[str, ...], number: int) -> bool:
        if self._more(key, policy, fault, number):
            return True
        if fault != _NO_FAULT and self._faults(key, policy) >= MOST_FAULTS:
            fault = (fault[0], *_NO_FAULT[1:])
            if self._more(key, policy, fault, number):
                return True
        if self._full:
            return False
        marks = ", ".join("?" for _ in range(10))
        self._connection.execute(f"INSERT INTO counted VALUES ({marks})", (*key, policy, *fault, number))  # noqa: S608
        return True

    def _more(self, key: Day, policy: int, fault: tuple[str, ...], number: int) -> bool:
        """Add to a row, if there is one."""
        sql = f"UPDATE counted SET number = number + ? WHERE {_ROW}"  # noqa: S608
        return self._connection.execute(sql, (number, *key, policy, *fault)).rowcount > 0

    def _faults(self, key: Day, policy: int) -> int:
        sql = f"SELECT count(*) FROM counted WHERE {_KEY} AND policy = ? AND result != ''"  # noqa: S608
        return int(self._connection.execute(sql, (*key, policy)).fetchone()[0])


def add(connection: sqlite3.Connection, counts: Mapping[tuple[date, Tally], int]) -> int:
    """Add sessions to the counts. Returns how many there was no room for."""
    adding = Adding(connection)
    for (day, tally), number in counts.items():
        adding.add(day, tally, number)
    return adding.lost


def waiting(connection: sqlite3.Connection, before: date) -> tuple[tuple[date, str], ...]:
    """The days before this one of which something is counted, each with a domain, in order."""
    rows = connection.execute("SELECT day, domain FROM told WHERE day < ? ORDER BY day, domain", (before.isoformat(),))
    return tuple((date.fromisoformat(day), domain) for day, domain in rows)


def counts(connection: sqlite3.Connection, day: date, domain: str) -> tuple[Counted, ...]:
    """What is counted of a domain that day."""
    rows = connection.execute(
        "SELECT p.type, p.domain, p.text, result, reason, host, helo, address, source, number"
        " FROM counted c JOIN policy p ON p.id = c.policy WHERE c.day = ? AND c.domain = ?",
        (day.isoformat(), domain),
    )
    return tuple(_counted(row) for row in rows)


def totals(connection: sqlite3.Connection, day: date) -> dict[str, tuple[int, int]]:
    """Of each domain with counts that day: how many sessions succeeded and failed, under all its policies together."""
    rows = connection.execute(
        "SELECT domain, sum(number * (result = '')), sum(number * (result != '')) FROM counted"
        " WHERE day = ? GROUP BY domain ORDER BY domain",
        (day.isoformat(),),
    )
    return {domain: (successful, failed) for domain, successful, failed in rows}


def issue(connection: sqlite3.Connection, day: date, domain: str, report: NewReport, now: datetime) -> None:
    """Put a report into the outbox in place of the counts that it tells."""
    row = (report.id, day.isoformat(), domain, report.octets, "", to_micros(now))
    number = _insert_report(connection, row)
    connection.executemany(
        "INSERT OR IGNORE INTO delivery VALUES (?, ?, ?, 0, ?, '', ?)",
        [(number, uri, State.WAITS.value, to_micros(report.due), to_micros(now)) for uri in report.uris],
    )
    _forget_counts(connection, day, domain)


def drop(connection: sqlite3.Connection, day: date, domain: str, words: str, now: datetime) -> None:
    """Forget the counts of a domain that is not told of them, and remember why."""
    _insert_report(connection, (None, day.isoformat(), domain, None, words, to_micros(now)))
    _forget_counts(connection, day, domain)


def claim(connection: sqlite3.Connection, now: datetime, until: datetime, limit: int) -> tuple[Due, ...]:
    """Deliveries whose time has come, each with one attempt more; nobody else gets them until then."""
    rows = connection.execute(
        "SELECT d.report, d.uri, d.attempts + 1, r.id, r.day, r.domain, r.octets, r.ended FROM delivery d"
        " JOIN report r ON r.number = d.report WHERE d.next <= ? ORDER BY d.next LIMIT ?",
        (to_micros(now), limit),
    ).fetchall()
    connection.executemany(
        "UPDATE delivery SET attempts = attempts + 1, next = ? WHERE report = ? AND uri = ?",
        [(to_micros(until), number, uri) for number, uri, *_ in rows],
    )
    return tuple(
        Due(id, date.fromisoformat(day), domain, octets, from_micros(made), uri, attempts)
        for _, uri, attempts, id, day, domain, octets, made in rows
    )


def settle(connection: sqlite3.Connection, due: Due, outcome: Outcome, now: datetime) -> bool:
    """Write down what became of an attempt. False: somebody else has the delivery by now, or it has ended."""
    until = None if outcome.until is None else to_micros(outcome.until)
    changed = connection.execute(
        "UPDATE delivery SET state = ?, next = ?, words = ?, at = ? WHERE uri = ? AND attempts = ? AND state = ?"
        " AND report = (SELECT number FROM report WHERE id = ?)",
        (outcome.state.value, until, outcome.words, to_micros(now), due.uri, due.attempts, State.WAITS.value, due.id),
    )
    return changed.rowcount > 0


def ended(connection: sqlite3.Connection, day: date, domain: str | None) -> Iterator[Ended]:
    """What became of that day's counts, of one domain or of all, by domain."""
    which = "" if domain is None else "AND domain = ?"
    sql = f"SELECT number, id, domain, octets, words, ended FROM report WHERE day = ? {which} ORDER BY domain, number"  # noqa: S608
    values = (day.isoformat(),) if domain is None else (day.isoformat(), domain)
    for number, id, whose, octets, words, at in connection.execute(sql, values).fetchall():
        yield Ended(id, day, whose, octets, words, from_micros(at), tuple(_deliveries(connection, number)))


def next_due(connection: sqlite3.Connection) -> datetime | None:
    """When the next delivery is due; None: there is none."""
    (found,) = connection.execute("SELECT min(next) FROM delivery WHERE next IS NOT NULL").fetchone()
    return None if found is None else from_micros(found)


def tidy(connection: sqlite3.Connection, before: datetime, untold_before: datetime) -> None:
    """Forget what became of reports that were made before this, and counts of earlier days that nobody asked for.

    `untold_before`: the same for domains that were not told, which are most of them.
    """
    old = "SELECT number FROM report WHERE ended < ?"
    connection.execute(f"DELETE FROM delivery WHERE report IN ({old})", (to_micros(before),))  # noqa: S608
    connection.execute("DELETE FROM report WHERE ended < ?", (to_micros(before),))
    connection.execute("DELETE FROM report WHERE ended < ? AND octets IS NULL", (to_micros(untold_before),))
    day = (before.date().isoformat(),)
    connection.execute("DELETE FROM counted WHERE day < ?", day)
    connection.execute("DELETE FROM told WHERE day < ?", day)
    connection.execute("DELETE FROM asked WHERE day < ?", day)  # of callers that were killed before they took it back
    connection.execute("DELETE FROM policy WHERE id NOT IN (SELECT policy FROM counted)")


def _insert_report(connection: sqlite3.Connection, row: Collection[object]) -> int | None:
    sql = "INSERT INTO report (id, day, domain, octets, words, ended) VALUES (?, ?, ?, ?, ?, ?)"
    return connection.execute(sql, tuple(row)).lastrowid


def _forget_counts(connection: sqlite3.Connection, day: date, domain: str) -> None:
    for table in ("counted", "told"):
        connection.execute(f"DELETE FROM {table} WHERE {_KEY}", (day.isoformat(), domain))  # noqa: S608


def _deliveries(connection: sqlite3.Connection, number: int) -> Iterator[Delivery]:
    sql = "SELECT uri, state, attempts, next, words, at FROM delivery WHERE report = ? ORDER BY uri"
    for uri, state, attempts, due, words, at in connection.execute(sql, (number,)):
        until = None if due is None else from_micros(due)
        yield Delivery(uri, State(state), attempts, until, words, from_micros(at))


def _text(policy: ReportedPolicy) -> str:
    return json.dumps([policy.strings, policy.mx], separators=(",", ":"))


def _digest(policy: ReportedPolicy) -> bytes:
    return hashlib.sha256(json.dumps([policy.type.value, policy.domain, _text(policy)]).encode()).digest()


def _columns(fault: Fault | None) -> tuple[str, ...]:
    if fault is None:
        return _NO_FAULT
    return fault.result.value, fault.reason, fault.host, fault.helo, fault.address, fault.source


def _counted(row: tuple[str, ...]) -> Counted:
    type, domain, text, result, *texts, number = row
    try:
        strings, mx = json.loads(text)
        policy = ReportedPolicy(PolicyType(type), domain, tuple(strings), tuple(mx))
        return Counted(policy, Fault(ReportResult(result), *texts) if result else None, int(number))
    except (TypeError, ValueError):
        raise sqlite3.DatabaseError("a row that Relay cannot have written") from None


def _octets(connection: sqlite3.Connection) -> int:
    """How much of the file is in use."""
    size, pages, free = (
        int(connection.execute(f"PRAGMA {what}").fetchone()[0])
        for what in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free)
