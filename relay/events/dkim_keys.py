"""What DNS has of the keys that sign mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from relay.events.event import Event


@dataclass(frozen=True, slots=True)
class DkimKeyMatches(Event):
    """DNS has the key. Told at the start, and when it was otherwise before. `note`: what may be better."""

    name = "dkim-key-matches"
    domain: str
    selector: str
    note: str | None


@dataclass(frozen=True, slots=True)
class DkimKeyMismatch(Event):
    """DNS does not have the key, or not it alone: signatures with it fail. `since`: when that was first seen; `action`:
    sign (all the same) or skip. Told again when it changes, and once a day.
    """

    name = "dkim-key-mismatch"
    level = "error"
    domain: str
    selector: str
    reason: str
    since: datetime
    action: str


@dataclass(frozen=True, slots=True)
class DkimKeyUnknown(Event):
    """What DNS has of the key could not be found out; what was known before stays. Told once, until it can be."""

    name = "dkim-key-unknown"
    level = "warning"
    domain: str
    selector: str
    reason: str


@dataclass(frozen=True, slots=True)
class DkimKeyRenewed(Event):
    """The file of a DKIM key has changed; mail is signed with the new key from now on."""

    name = "dkim-key-renewed"
    domain: str
    selector: str
