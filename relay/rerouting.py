"""Where an operator may send mail that waits, as it is typed."""

from __future__ import annotations

from collections.abc import Collection

from relay.setting_types import parse_next_hop

DIRECT = "direct"  # the mail hosts of the recipient's domain
DEFAULT = "default"  # as the settings say


def chosen_route(text: str, names: Collection[str] = ()) -> str | None:
    """The route that is written down with the mail; None: as the settings say. `names`: of the routes of the settings.

    Raises ValueError, in words that go after the name of the field.
    """
    if text == DEFAULT:
        return None
    if text == DIRECT or text in names:
        return text
    if ":" not in text:
        known = ", ".join([*names, DIRECT, DEFAULT])
        raise ValueError(f"must be one of {known}, or host:port (got {text!r})")
    return str(parse_next_hop(text))
