"""docs/events.md lists every event, its level, its fields and what it means: compared with the code."""

import dataclasses
import re
from pathlib import Path
from types import ModuleType

from relay import events
from relay.events import Event, delivery, dkim_keys, reports, service, submission

SUBJECTS = service, submission, delivery, dkim_keys, reports
PAGE = Path(__file__).parents[2] / "docs" / "events.md"


def documented() -> list[str]:
    return re.findall(r"^\| `[a-z-]+` \|.*$", PAGE.read_text(), re.MULTILINE)


def row(event: type[Event]) -> str:
    fields = ", ".join(f"`{field.name}`" for field in dataclasses.fields(event)) or "none"
    meaning = " ".join((event.__doc__ or "").split())
    return f"| `{event.name}` | {event.level} | {fields} | {meaning} |"


def _events_of(subject: ModuleType) -> list[type[Event]]:
    return [
        one for one in vars(subject).values() if isinstance(one, type) and issubclass(one, Event) and one is not Event
    ]


def test_the_page_lists_every_event_as_it_is() -> None:
    defined = [event for subject in SUBJECTS for event in _events_of(subject)]
    assert documented() == [row(event) for event in defined]


def test_every_event_can_be_had_from_one_place() -> None:
    defined = {one.__name__ for subject in SUBJECTS for one in _events_of(subject)}
    assert defined | {"Event", "Emit", "fields"} == set(events.__all__)
