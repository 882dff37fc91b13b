"""docs/events.md lists every event, its level, its fields and what it means: compared with the code."""

import dataclasses
import re
from pathlib import Path

from relay import events
from relay.events import Event

PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def documented() -> list[str]:
    return re.findall(r"^\| `[a-z-]+` \|.*$", PAGE.read_text(), re.MULTILINE)


def row(event: type[Event]) -> str:
    fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(event)) or "none"
    meaning = " ".join((event.__doc__ or "").split())
    return f"| `{event.name}` | {event.level} | {fields} | {meaning} |"


def test_the_page_lists_every_event_as_it_is() -> None:
    defined = [
        one for one in vars(events).values() if isinstance(one, type) and issubclass(one, Event) and one is not Event
    ]
    assert documented() == [row(event) for event in defined]
