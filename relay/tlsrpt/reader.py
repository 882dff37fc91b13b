"""A look at what TLS reports keep, while the service runs or not: for `relay tlsrpt show`. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from relay.tlsrpt import tables
from relay.tlsrpt.counted import Counted
from relay.tlsrpt.outbox import Ended
from relay.tlsrpt.store import FILE_NAME, ReportStoreError

_BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class OfDomain:
    """Of one domain and day: what is counted and not reported yet, and what became of earlier counts."""

    counts: tuple[Counted, ...] = ()
    ended: tuple[Ended, ...] = ()


@dataclass(frozen=True, slots=True)
class OfDay:
    """Of all domains: how many sessions of the day succeeded and failed that are not reported yet, and what became of
    the others.
    """

    totals: dict[str, tuple[int, int]]
    ended: tuple[Ended, ...] = ()


def of_domain(folder: Path, day: date, domain: str) -> OfDomain:
    """Raises ReportStoreError when the file is there and cannot be read."""
    with _looking(folder) as connection:
        if connection is None:
            return OfDomain()
        return OfDomain(tables.counts(connection, day, domain), tuple(tables.ended(connection, day, domain)))


def of_day(folder: Path, day: date) -> OfDay:
    """As `of_domain`."""
    with _looking(folder) as connection:
        if connection is None:
            return OfDay({})
        return OfDay(tables.totals(connection, day), tuple(tables.ended(connection, day, None)))


@contextmanager
def _looking(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """One state of the file. None: there is nothing in it, or no file."""
    path = folder / FILE_NAME
    try:
        if not path.exists():
            yield None
            return
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            yield connection if tables.is_ready(connection) else None
    except (sqlite3.Error, OSError) as error:
        raise ReportStoreError(f"{path} cannot be read ({error})") from None
