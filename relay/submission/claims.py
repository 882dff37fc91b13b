"""What others say of a client, taken with care: JSON objects, and names to go by. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

MAX_OCTETS: Final = 255  # of a name or password


def json_object(octets: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_login(text: object) -> bool:
    """Whether somebody may go by this name: printable, without blanks around it, and not too long."""
    return (
        isinstance(text, str)
        and bool(text)
        and text == text.strip()
        and text.isprintable()
        and len(text.encode("utf-8", "surrogatepass")) <= MAX_OCTETS
    )
