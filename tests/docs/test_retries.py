"""docs/retries.md lists what the code does: causes with their waits and lifetimes, and what to do with a lost reply."""

from __future__ import annotations

import re
from pathlib import Path

from relay.mail.duration import format_duration
from relay.mail.outcome import Cause
from relay.policy.retry import OnUnknown
from relay.settings import RetrySettings

PAGE = (Path(__file__).parents[2] / "docs" / "retries.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"{heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", section, re.M)]


def test_every_cause_with_its_waits_and_its_lifetime() -> None:
    schedules = RetrySettings().schedules
    listed = rows("# When is it tried again, and when is it given up?")
    assert [[row[0], *row[2:4]] for row in listed] == [
        [
            cause.value,
            " ".join(map(format_duration, schedules.of(cause).delays)),
            format_duration(schedules.of(cause).expire),
        ]
        for cause in Cause
    ]


def test_every_way_to_treat_a_lost_reply() -> None:
    assert [row[0] for row in rows("## The reply was lost")] == [way.value for way in OnUnknown]


def test_the_rule_that_the_page_shows_is_one() -> None:
    assert f"`{RetrySettings().schedules.of(Cause.GREYLISTING).rule(2)}`" in PAGE
