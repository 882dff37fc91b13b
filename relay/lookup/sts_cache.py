"""MTA-STS policies on local disk, so that a restart forgets none of them, and in memory, so that a look costs nothing.

`sts.sqlite3` in the queue folder keeps each policy as it was fetched. What to do with a policy is decided in
`relay.lookup.sts`; nothing here knows the time. RFC 8461 section 3.3 (caching) and section 10.2 (why it must last).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from relay.disk_table import DiskTable, DiskTableError, Layout, Row, parse_time
from relay.policy.sts import StsFetchFailed, StsFound, StsProblem, parse_policy

FILE_NAME = "sts.sqlite3"
_MARK = "! "  # between problem and reason in one cell: the columns are those of every version
StsCacheError = DiskTableError  # the file cannot be read now, so it is not known whether a policy is in force


@dataclass(frozen=True, slots=True)
class StsEntry:
    """What is remembered of a domain. Times are aware UTC.

    `found` is the last policy that was fetched, expired or not. `failed_at`, `failure` and `failed_id` (the id that was
    announced) are set when the last fetch failed.
    """

    used_at: datetime
    found: StsFound | None = None
    failed_at: datetime | None = None
    failure: StsFetchFailed | None = None
    failed_id: str | None = None


class StsCache(DiskTable[StsEntry]):
    """The cache in `folder`, by domain. `report` is told, in a sentence, what is wrong with the file when it is.

    Without a file that works it goes on in memory alone.
    """

    def __init__(self, folder: Path, report: Callable[[str], None]) -> None:
        super().__init__(folder, _LAYOUT, report)


def _encode(entry: StsEntry) -> Row:
    found = entry.found
    return (
        entry.used_at.isoformat(),
        found.id if found else None,
        found.fetched_at.isoformat() if found else None,
        found.policy.raw if found else None,
        entry.failed_at.isoformat() if entry.failed_at else None,
        _written(entry.failure),
        entry.failed_id,
    )


def _decode(row: Row) -> StsEntry:
    used_at, policy_id, fetched_at, raw, failed_at, failure, failed_id = row
    found = None
    if policy_id is not None and fetched_at is not None and raw is not None:
        found = StsFound(parse_policy(raw.encode()), policy_id, parse_time(fetched_at))
    failed = parse_time(failed_at) if failed_at is not None else None
    return StsEntry(parse_time(used_at), found, failed, None if failure is None else _read(failure), failed_id)


def _written(failure: StsFetchFailed | None) -> str | None:
    """`certificate! the policy could not be fetched`; without the first word where no problem is known."""
    if failure is None or failure.problem is None:
        return None if failure is None else failure.reason
    return f"{failure.problem.value}{_MARK}{failure.reason}"


def _read(text: str) -> StsFetchFailed:
    """What `_written` wrote, or an older version: the reason alone."""
    for problem in StsProblem:
        if text.startswith(problem.value + _MARK):
            return StsFetchFailed(text.removeprefix(problem.value + _MARK), problem)
    return StsFetchFailed(text)


_LAYOUT = Layout(
    file_name=FILE_NAME,
    table="policy",
    key="domain",
    columns=("used_at", "id", "fetched_at", "raw", "failed_at", "failure", "failed_id"),
    encode=_encode,
    decode=_decode,
    content="MTA-STS policies",
    when_lost="MTA-STS policies fetched before are forgotten until they are fetched again",
)
