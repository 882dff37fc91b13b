"""Where an operator may send mail that waits, as it is typed."""

from __future__ import annotations

from relay.policy.routing import DIRECT, PREFIX, Routes, Unknown, parse_place

DEFAULT = "default"  # as the settings say


def chosen_route(text: str, routes: Routes) -> str | None:
    """The route that is written down with the mail; None: as the settings say.

    Raises ValueError, in words that go after the name of the field.
    """
    if text == DEFAULT:
        return None
    if text == DIRECT:
        return text
    place = parse_place(text)
    if place is not None:
        return str(place)
    if isinstance(routes.way(PREFIX + text), Unknown):
        names = dict.fromkeys([*(entry.name for entry in routes.entries), *(hop.name for hop in routes.hops)])
        raise ValueError(f"must be one of {', '.join([*names, DIRECT, DEFAULT])}, or host:port (got {text!r})")
    return text
