"""What another process asks the running service to do with the counts: the table behind `relay tlsrpt send --now`.

Whoever asks writes a row; the service finds it, does it and writes down what became of it; whoever asked takes the row
away. Every function works in the transaction of its caller and may raise sqlite3.Error.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date

SCHEMA = (
    # `answer` NULL: nothing has been done yet.
    "CREATE TABLE asked (number INTEGER PRIMARY KEY AUTOINCREMENT, day TEXT NOT NULL, domains TEXT NOT NULL,"
    " answer TEXT)"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """To tell these domains of that day at once. No domains: all of which something is counted."""

    number: int
    day: date
    domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one domain: the id of its report, or none, and `words` that say why."""

    report: str | None
    words: str = ""


def ask(connection: sqlite3.Connection, day: date, domains: tuple[str, ...]) -> int:
    """Write down what is wanted. Returns its number."""
    row = (day.isoformat(), json.dumps(domains))
    number = connection.execute("INSERT INTO asked (day, domains) VALUES (?, ?)", row).lastrowid
    return int(number or 0)


def asked(connection: sqlite3.Connection) -> tuple[Asked, ...]:
    """What is wanted and not done yet."""
    rows = connection.execute("SELECT number, day, domains FROM asked WHERE answer IS NULL ORDER BY number")
    return tuple(Asked(number, date.fromisoformat(day), tuple(json.loads(text))) for number, day, text in rows)


def answer(connection: sqlite3.Connection, number: int, told: Mapping[str, Told]) -> None:
    """Write down what became of it, by domain. Whoever asked may have gone."""
    text = json.dumps({domain: asdict(one) for domain, one in told.items()})
    connection.execute("UPDATE asked SET answer = ? WHERE number = ?", (text, number))


def answer_to(connection: sqlite3.Connection, number: int) -> dict[str, Told] | None:
    """What became of it; None: nothing yet."""
    row = connection.execute("SELECT answer FROM asked WHERE number = ?", (number,)).fetchone()
    if row is None or row[0] is None:
        return None
    return {domain: Told(**one) for domain, one in json.loads(row[0]).items()}


def forget(connection: sqlite3.Connection, number: int) -> None:
    """Take it away, done or not."""
    connection.execute("DELETE FROM asked WHERE number = ?", (number,))
