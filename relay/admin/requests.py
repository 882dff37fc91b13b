"""What a request of the API asks for: parameters and JSON into filters, acts and rules. Values in, values out.

A mistake is a FieldError that names the field; the text goes into the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from relay.queue.control import Act, Action
from relay.queue.hold_rules import HoldRule
from relay.queue.selection import FilterError, QueueFilter, read_filter

DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1000
MAX_WORDS: Final = 1000  # characters of a reason
ACTION_FIELDS: Final = ("action", "filter", "all", "dry_run", "reason", "to")
RULE_FIELDS: Final = ("sender", "recipient", "domain", "login", "reason")


class FieldError(ValueError):
    """What is wrong with a request. `field`: where; None: with all of it."""

    def __init__(self, field: str | None, problem: str) -> None:
        super().__init__(f"{field}: {problem}" if field else problem)
        self.field = field


def page_filter(query: Mapping[str, Sequence[str]], now: datetime) -> QueueFilter:
    """The filter of GET /v1/queue, with `limit` and `cursor`. Raises FieldError."""
    given = dict(query)
    if "after" in given:
        raise FieldError("after", "is not known; the place to go on from is `cursor`")
    if "cursor" in given:
        given["after"] = given.pop("cursor")
    found = _filter(given, now)
    limit = DEFAULT_PAGE if found.limit is None else found.limit
    if limit > LARGEST_PAGE:
        raise FieldError("limit", f"must be at most {LARGEST_PAGE}; `cursor` gives the next page")
    return replace(found, limit=limit)


def stats_filter(query: Mapping[str, Sequence[str]], now: datetime) -> tuple[QueueFilter, int]:
    """The filter of GET /v1/queue/stats, and how many groups. Raises FieldError."""
    found = _filter(query, now)
    return replace(found, limit=None), DEFAULT_PAGE if found.limit is None else found.limit


def read_action(body: Any, who: str, now: datetime) -> tuple[Action, str | None]:
    """The act of POST /v1/queue/actions, and where a reroute goes, as it was written. Raises FieldError."""
    given = _object(body, ACTION_FIELDS)
    try:
        act = Act(given.get("action"))
    except ValueError:
        raise FieldError("action", f"must be one of {', '.join(act.value for act in Act)}") from None
    wanted = given.get("filter", {})
    if not isinstance(wanted, dict):
        raise FieldError("filter", "must be an object")
    everything, dry_run = _flag(given, "all"), _flag(given, "dry_run")
    if bool(wanted) is everything:
        raise FieldError("filter", "must say which mail is meant; for all of it, `all` is true and there is no filter")
    if "after" in wanted:
        raise FieldError("filter.after", "is not known")
    try:
        selection = _filter({field: _texts(field, value) for field, value in wanted.items()}, now)
    except FieldError as error:
        raise FieldError(f"filter.{error.field}", str(error).partition(": ")[2]) from None
    to = _text(given, "to")
    if (act is Act.REROUTE) != (to is not None):
        raise FieldError("to", "says where a reroute goes, and goes with nothing else")
    return Action(act, selection, who, _text(given, "reason"), None, dry_run), to


def read_rule(body: Any, now: datetime) -> HoldRule:
    """The rule of POST /v1/queue/hold-rules. Raises FieldError."""
    given = _object(body, RULE_FIELDS)
    reason = _text(given, "reason")
    if not (reason and reason.strip()):
        raise FieldError("reason", "must be given")
    names = [name for name in RULE_FIELDS if name != "reason" and given.get(name) is not None]
    found = _filter({name: (_text(given, name) or "",) for name in names}, now)
    try:
        return HoldRule(found.sender, found.recipient, found.domain, found.login, reason, now)
    except ValueError as error:
        raise FieldError(None, str(error)) from None


def _filter(given: Mapping[str, Sequence[str]], now: datetime) -> QueueFilter:
    try:
        return read_filter(given, now)
    except FilterError as error:
        raise FieldError("cursor" if error.field == "after" else error.field, error.problem) from None


def _object(body: Any, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise FieldError(None, "the body must be a JSON object")
    for field in body:
        if field not in known:
            raise FieldError(field, f"is not known; there are {', '.join(known)}")
    return body


def _texts(field: str, value: object) -> tuple[str, ...]:
    """A value of a filter: text, a list of texts, or a whole number for `limit`."""
    if field == "limit" and isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str) for one in values):
        raise FieldError(field, "must be text" if not isinstance(value, list) else "must be a list of texts")
    return tuple(values)


def _text(given: Mapping[str, Any], field: str) -> str | None:
    value = given.get(field)
    if value is not None and not isinstance(value, str):
        raise FieldError(field, "must be text")
    if value is not None and len(value) > MAX_WORDS:
        raise FieldError(field, f"must have at most {MAX_WORDS} characters")
    return value


def _flag(given: Mapping[str, Any], field: str) -> bool:
    value = given.get(field, False)
    if not isinstance(value, bool):
        raise FieldError(field, "must be true or false")
    return value
