"""SMTP replies and enhanced status codes that cannot disagree.

A `Status` is the only place where "retry or not" is kept. Nothing here does I/O.
RFC 3463 (enhanced codes), RFC 5321 section 4.2 (replies), RFC 2034 section 4 (codes in replies).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?=\s|$)")


class Kind(Enum):
    """The class of a status: done, try again, or never. RFC 3463 section 3.1."""

    SUCCESS = 2
    TEMPORARY = 4
    PERMANENT = 5


@dataclass(frozen=True, slots=True, order=False)
class Status:
    """An enhanced status code, such as 4.7.5. RFC 3463."""

    kind: Kind
    subject: int
    detail: int

    def __post_init__(self) -> None:
        if not (0 <= self.subject <= 999 and 0 <= self.detail <= 999):
            raise ValueError(f"no such enhanced status code: {self}")

    def __str__(self) -> str:
        return f"{self.kind.value}.{self.subject}.{self.detail}"

    def with_kind(self, kind: Kind) -> Status:
        """The same subject and detail in another class: what 4.7.5 becomes when we give up."""
        return Status(kind, self.subject, self.detail)

    @staticmethod
    def parse(text: str) -> Status:
        """Read `x.y.z` at the start of `text`. Raises ValueError when it does not begin with one."""
        found = _ENHANCED.match(text)
        if found is None:
            raise ValueError(f"no enhanced status code in {text!r}")
        return Status(Kind(int(found[1])), int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True)
class Reply:
    """What an SMTP server answered: the code, what it means, and its words, line by line without the code.

    `status.kind` always agrees with the first digit of `code`; a reply where they differ cannot be made.
    """

    code: int
    status: Status
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599 or (self.code // 100 != 3 and self.code // 100 != self.status.kind.value):
            raise ValueError(f"reply code {self.code} does not agree with status {self.status}")

    @property
    def text(self) -> str:
        """The whole reply on one line, as the server worded it: `550 5.1.1 no such user`."""
        return f"{self.code} {' '.join(line.strip() for line in self.lines)}".strip()

    @staticmethod
    def of(code: int, lines: tuple[str, ...]) -> Reply:
        """Make a reply from a code (200 to 599) and the lines that came with it.

        The enhanced code is taken from the first line; its class is corrected to the reply code's class where they
        differ, and x.0.0 stands in when there is none (RFC 3463 section 2: the reply code decides).
        Raises ValueError for a code outside 200 to 599.
        """
        if not 200 <= code <= 599:
            raise ValueError(f"{code} is not an SMTP reply code")
        kind = Kind(code // 100) if code // 100 != 3 else Kind.SUCCESS
        try:
            status = Status.parse(lines[0] if lines else "").with_kind(kind)
        except ValueError:
            status = Status(kind, 0, 0)
        return Reply(code, status, lines)
