"""What an event is, and what is done with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `name` and `level` belong to the class; the fields are what the line carries."""

    name: ClassVar[str]
    level: ClassVar[str] = "info"


Emit = Callable[[Event], None]


def fields(event: Event) -> dict[str, object]:
    """The event's fields by name, without those that are None."""
    found: dict[str, object] = {}
    names: tuple[str, ...] = type(event).__slots__
    for field in names:
        value = getattr(event, field)
        if value is not None:
            found[field] = _time(value) if isinstance(value, datetime) else value
    return found


def _time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
