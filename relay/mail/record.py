"""The evidence of one attempt: what was required and by whom, what was seen, the verdict, and what was said.

Sentences for people, written by `delivery.attempt`, kept by the queue, shown by `relay trace`. Pure. `encode` bounds
what it writes: hosts may be many, and their words long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from relay.mail.outcome import Outcome

MAX_OCTETS: Final = 16 << 10  # of one encoded record
MAX_HOSTS: Final = 20
MAX_LINES: Final = 60  # of one dialogue
MAX_LINE: Final = 300  # characters
MAX_SENTENCE: Final = 500  # characters

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)


@dataclass(frozen=True, slots=True)
class HostRecord:
    """One host or address that was tried. `required`, `seen` and `verdict` are sentences for people."""

    host: str
    address: str | None  # None: it did not come to one
    required: str
    rule: str  # of policy.verdict.Rule: who required it
    seen: str
    verdict: str
    dialogue: tuple[str, ...] = ()  # transcript of the session, a line each; only when it failed


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """What is kept of one attempt besides its outcomes.

    `policies`: what was known before any host was called, a sentence each. `left_out`: how many hosts were tried
    between the first and the second half of `tried` that it has no room for.
    """

    policies: tuple[str, ...] = ()
    tried: tuple[HostRecord, ...] = ()
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Attempted:
    """What an attempt comes back with: an outcome for each recipient, by index, and its evidence."""

    outcomes: Mapping[int, Outcome]
    record: AttemptRecord


@dataclass(frozen=True, slots=True)
class _Bounds:
    hosts: int  # and policies
    lines: int
    line: int
    sentence: int


# The first that fits is taken. The last always fits: a character is at most 12 octets of JSON.
_BOUNDS: Final = (
    _Bounds(MAX_HOSTS, MAX_LINES, MAX_LINE, MAX_SENTENCE),
    _Bounds(MAX_HOSTS, 24, 200, MAX_SENTENCE),
    _Bounds(MAX_HOSTS, 8, 160, 300),
    _Bounds(MAX_HOSTS, 4, 80, 300),
    _Bounds(MAX_HOSTS, 0, 0, 300),
    _Bounds(MAX_HOSTS, 0, 0, 120),
    _Bounds(4, 0, 0, 40),
)


@lru_cache(maxsize=256)  # deliveries to one host leave the same record over and over
def encode(record: AttemptRecord) -> str:
    """The record as compact JSON in ASCII, of at most MAX_OCTETS.

    It is cut to MAX_HOSTS hosts, and for each to MAX_LINES lines of MAX_LINE characters; to less when that is too much
    together. What goes are the middles: the beginning and the end of a walk or a dialogue say most.
    """
    for bounds in _BOUNDS:
        text = _ENCODER.encode(_object(record, bounds))
        if len(text) <= MAX_OCTETS:
            return text
    raise AssertionError("the last bounds always fit")


def decode(text: str) -> AttemptRecord:
    """Read what `encode` wrote, in this or another version: what is not understood is left out. Never raises."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return AttemptRecord()
    if not isinstance(whole, dict):
        return AttemptRecord()
    left_out = whole.get("left_out")
    return AttemptRecord(
        policies=_texts(whole.get("policies")),
        tried=tuple(_to_host(one) for one in _list(whole.get("tried")) if isinstance(one, dict)),
        left_out=left_out if isinstance(left_out, int) and left_out > 0 else 0,
    )


def _object(record: AttemptRecord, bounds: _Bounds) -> dict[str, Any]:
    tried, left_out = record.tried, record.left_out
    if len(tried) > bounds.hosts:
        left_out += len(tried) - bounds.hosts
        tried = (*tried[: bounds.hosts // 2], *tried[-(bounds.hosts // 2) :])
    whole: dict[str, Any] = {}
    if record.policies:
        whole["policies"] = [_short(policy, bounds.sentence) for policy in record.policies[: bounds.hosts]]
    if tried:
        whole["tried"] = [_host_object(host, bounds) for host in tried]
    if left_out:
        whole["left_out"] = left_out
    return whole


def _host_object(host: HostRecord, bounds: _Bounds) -> dict[str, Any]:
    most = bounds.sentence
    fields: dict[str, Any] = {
        "host": _short(host.host, most),
        "address": host.address and _short(host.address, most),
        "required": _short(host.required, most),
        "rule": _short(host.rule, most),
        "seen": _short(host.seen, most),
        "verdict": _short(host.verdict, most),
    }
    if host.dialogue and bounds.lines:
        fields["dialogue"] = [_short(line, bounds.line) for line in _ends(host.dialogue, bounds.lines)]
    return fields


def _ends(lines: Sequence[str], most: int) -> Sequence[str]:
    """At most `most` lines: all, or the first and last of them round a line that counts the others."""
    if len(lines) <= most:
        return lines
    first, last = most // 2, (most - 1) // 2
    return (*lines[:first], f"({len(lines) - first - last} lines left out)", *lines[-last:])


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _to_host(fields: dict[str, Any]) -> HostRecord:
    def text(name: str) -> str:
        return fields[name] if isinstance(fields.get(name), str) else ""

    return HostRecord(
        host=text("host"),
        address=text("address") or None,
        required=text("required"),
        rule=text("rule"),
        seen=text("seen"),
        verdict=text("verdict"),
        dialogue=_texts(fields.get("dialogue")),
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in _list(value) if isinstance(one, str))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
