"""How times and lengths of time are written: in the settings, and for people."""

from __future__ import annotations

from datetime import datetime, timedelta

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def format_duration(value: timedelta | None) -> str:
    """How a duration is written in the settings: the largest unit that divides it. None is the empty text."""
    if value is None:
        return ""
    seconds = int(value.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % SECONDS[unit] == 0)
    return f"{seconds // SECONDS[unit]}{unit}"


def utc(moment: datetime) -> str:
    """A time, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
