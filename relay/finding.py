"""What a finding of `relay check` is: how bad, of what, and what to do; and how findings are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

EXPIRES_SOON = timedelta(days=14)


class Level(Enum):
    """How bad it is, from good to bad."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and unless it is well, what to do."""

    level: Level
    subject: str
    text: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        if (self.level is Level.OK) is not (self.remedy is None):
            raise ValueError("what is not well needs a remedy, and only that")


def ok(subject: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(Level.OK, subject, text)


def warn(subject: str, text: str, remedy: str) -> Finding:
    """Some mail suffers."""
    return Finding(Level.WARN, subject, text, remedy)


def fail(subject: str, text: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Level.FAIL, subject, text, remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level there is; OK for nothing at all."""
    levels = list(Level)
    return max((finding.level for finding in findings), key=levels.index, default=Level.OK)


def page(findings: Sequence[Finding]) -> str:
    """A line for each finding, and under it what to do."""
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.value:4}  {finding.subject:{width}}  {finding.text}")
        if finding.remedy is not None:
            lines.append(f"{'':4}  {'':{width}}  -> {finding.remedy}")
    return "".join(f"{_clean(line)}\n" for line in lines)


def as_json(findings: Sequence[Finding]) -> str:
    """One object: the worst level, and the findings in their order. `remedy` is null where all is well."""
    listed = [
        {"level": one.level.value, "subject": one.subject, "text": one.text, "remedy": one.remedy} for one in findings
    ]
    return json.dumps({"level": worst(findings).value, "findings": listed}, indent=2, ensure_ascii=False)


def _clean(text: str) -> str:
    """Names and greetings come from strangers."""
    return "".join(character if character.isprintable() else "?" for character in text)
