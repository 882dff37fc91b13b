"""Whether a Date field is one. RFC 5322 sections 3.3 and 4.3. Pure."""

from __future__ import annotations

import re
from datetime import date

from relay.mail.mime_head import without_comments

_MAX_OCTETS = 1000
_MONTHS = (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec")
_DATE = re.compile(
    rb"\s*(?:(?:mon|tue|wed|thu|fri|sat|sun)\s*,)?\s*(\d{1,2})\s+(" + b"|".join(_MONTHS) + rb")\s+(\d{4})\s+"
    rb"([01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60))?\s+(?:[+-]\d\d[0-5]\d|ut|gmt|[ecmp][sd]t|[a-ik-z])\s*\Z",
    re.IGNORECASE,
)


def is_date(value: bytes) -> bool:
    """Whether a field's value, folded or not, is a date and time with its zone. Comments may be in it."""
    found = _DATE.match(without_comments(value)) if len(value) <= _MAX_OCTETS else None
    if found is None:
        return False
    try:
        date(int(found[3]), _MONTHS.index(found[2].lower()) + 1, int(found[1]))
    except ValueError:
        return False
    return True
