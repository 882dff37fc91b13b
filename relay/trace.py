"""A message's life, for people, to be pasted into a ticket, and for programs. Values in, text out.

What hosts say comes from strangers: it is cleaned of control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from relay.mail.duration import utc
from relay.mail.message import TlsDemand
from relay.mail.outcome import State, TlsUsed
from relay.mail.record import AttemptRecord, HostRecord
from relay.policy.words import in_words
from relay.queue.control import AS_SET
from relay.queue.history import KEPT_FIRST, KEPT_NEWEST, ActEntry, AttemptEntry, MessageTrace, NoticeSent, Result
from relay.queue.objects import of_trace
from relay.queue.store import QueueEntry
from relay.show import clean, count

_MANY: Final = 10  # recipients named in one line
_ACTS: Final = {
    "hold": "held",
    "release": "released",
    "retry": "made due",
    "fail": "given up",
    "drop": "dropped",
    "reroute": "rerouted",
}
DEMANDS: Final = {
    TlsDemand.DEFAULT: "what the recipients' domains ask",
    TlsDemand.REQUIRED: "the sender requires it all the way (REQUIRETLS)",
    TlsDemand.WAIVED: "the sender waives it (TLS-Required: No)",
}
_NOTICES: Final = {"relayed": "handing on", "undeliverable": "a lost bounce"}  # where the kind is no noun
_TLS: Final = {TlsUsed.NONE: "no TLS", TlsUsed.ENCRYPTED: "TLS encrypted", TlsUsed.VERIFIED: "TLS verified"}


def as_json(traces: Sequence[MessageTrace]) -> str:
    """A list of objects, one for each message. Times are ISO 8601 in UTC; what is not known is null."""
    return json.dumps([of_trace(trace) for trace in traces], indent=2)


def page(traces: Sequence[MessageTrace], now: datetime) -> str:
    """For each message: what it is, what was tried and came of it, and what happens next."""
    blocks = ["".join(f"{clean(line)}\n" for line in _lines(trace, now)) for trace in traces]
    return "\n\n".join(blocks)


def _lines(trace: MessageTrace, now: datetime) -> Iterator[str]:
    yield f"{trace.id}  {trace.sender or '<>'} -> {_people([entry.recipient for entry in trace.recipients])}"
    yield f"  Message-ID: {f'<{trace.message_id}>' if trace.message_id is not None else 'none'}"
    yield f"  size: {count(trace.size, 'octet')}"
    yield from (f"  from: {words}" for words in handed_in(trace))
    yield f"  TLS: {DEMANDS[trace.demand]}"
    yield from (f"  {name}: {words}" for name, words in wishes(trace.recipients))
    if trace.about is not None:
        yield f"  a notice about {trace.about}"
    yield ""
    yield f"{utc(trace.arrived)}  arrived"
    last: dict[int, int] = {}  # number of the attempt before, by recipient: one may move to another route
    acts = list(trace.acts)
    for attempt in trace.attempts:
        yield from _acts(acts, attempt.began, trace)
        places = [place for result in attempt.results for place in result.recipients]
        yield from _gap(attempt.domain, _before(last, places), attempt.number, trace)
        last |= dict.fromkeys(places, attempt.number)
        yield ""
        yield from _attempt(attempt, trace)
    yield from _acts(acts, None, trace)
    yield from _unsettled(trace, last)
    yield ""
    yield from _ends(trace, now)


def handed_in(trace: MessageTrace) -> Iterator[str]:
    """Who handed the message in, where, and which row of the table of clients let it in; nothing for a notice."""
    login = f"logged in as {trace.login}" if trace.login is not None else "without a login"
    if trace.origin is not None:
        yield f"{trace.origin.client}, {login}, at the listener {trace.origin.listener}, by {trace.origin.allowed_by}"
    elif trace.login is not None:
        yield login


def wishes(recipients: Sequence[QueueEntry]) -> Iterator[tuple[str, str]]:
    """What its sender asked of time and rank for a message, each with its name. All recipients have the same."""
    for entry in recipients[:1]:
        if entry.priority:
            yield "priority", f"{entry.priority} (from -9 to 9)"
        if entry.release is not None:
            yield "not before", f"{utc(entry.release)}, as its sender asked"
        if entry.deliver_by is not None:
            late = "it comes back" if entry.deliver_by.returns else "its sender hears that it is late"
            yield "deliver by", f"{utc(entry.deliver_by.time)}, or {late}"


def act_words(act: ActEntry) -> str:
    """What an operator did, and why: `held by root: under attack`."""
    done = _ACTS.get(act.act, act.act)
    if act.act == "reroute":
        return f"{done} by {act.who} {f'to {act.detail}' if act.detail != AS_SET else AS_SET}"
    return f"{done} by {act.who}: {act.detail}" if act.detail else f"{done} by {act.who}"


def _acts(acts: list[ActEntry], before: datetime | None, trace: MessageTrace) -> Iterator[str]:
    """Take what operators did before that time out of `acts`, and tell it; None: all that is left."""
    while acts and (before is None or acts[0].made < before):
        act = acts.pop(0)
        people = [act.number]
        while acts and replace(acts[0], number=act.number) == act:
            people.append(acts.pop(0).number)
        yield ""
        yield f"{utc(act.made)}  {_people(_names(people, trace))}: {act_words(act)}"


def _attempt(attempt: AttemptEntry, trace: MessageTrace) -> Iterator[str]:
    span = _duration(attempt.ended - attempt.began)
    yield f"{utc(attempt.began)}  attempt {attempt.number} for {attempt.domain}, took {span}"
    for policy in attempt.record.policies:
        yield f"  {policy}"
    yield from _tried(attempt.record)
    for result in attempt.results:
        yield from _result(result, trace)
    for notice in attempt.notices:
        yield f"  => {_notice(notice, trace)}"


def _tried(record: AttemptRecord) -> Iterator[str]:
    for number, host in enumerate(record.tried):
        if record.left_out and number == len(record.tried) // 2:
            yield f"  ({record.left_out} more were tried here, and are not kept)"
        yield from _host(host)


def _host(host: HostRecord) -> Iterator[str]:
    yield f"  {host.host}{f' [{host.address}]' if host.address not in (None, host.host) else ''}"
    rule = f" (rule {host.rule})" if host.rule else ""
    for title, text in (("required", host.required), ("seen", host.seen), ("verdict", f"{host.verdict}{rule}")):
        if text:
            yield f"    {f'{title}:':10}{text}"
    for line in host.dialogue:
        yield f"      | {line}"


def _result(result: Result, trace: MessageTrace) -> Iterator[str]:
    people = _people(_names(result.recipients, trace))
    if result.state is State.DELIVERED:
        words = f"delivered to {result.host}, {_TLS[result.tls]}"
    else:
        words = " ".join(part for part in (f"{result.state.value},", result.status, result.reason) if part)
    yield f"  => {people}: {words}"
    if result.reply:
        yield f"       {result.host or 'the host'} said: {result.reply}"
    if result.next_attempt is not None:
        yield f"       next attempt: {utc(result.next_attempt)}"


def _notice(notice: NoticeSent, trace: MessageTrace) -> str:
    fate = "no longer kept" if notice.state is None else notice.state.value
    words = f"notice of {_NOTICES.get(notice.kind, notice.kind)}" if notice.kind is not None else "notice"
    return f"{words} to {trace.sender or 'the postmaster'}: {notice.id} ({fate})"


def _gap(domain: str, before: int, number: int, trace: MessageTrace) -> Iterator[str]:
    """A line about attempts that have left no evidence between two that have."""
    first, last = before + 1, number - 1
    if first > last:
        return
    which = f"attempt {first}" if first == last else f"attempts {first} to {last}"
    newest = max([attempt.number for attempt in trace.attempts if attempt.domain == domain], default=0)
    if max(first, KEPT_FIRST + 1) <= min(last, newest - KEPT_NEWEST):
        why = f"left out, as the first {KEPT_FIRST} and the newest {KEPT_NEWEST} are kept"
    else:
        why = "no evidence: the service stopped meanwhile, or the disk was full, or a version made it that kept none"
    yield ""
    yield f"({which} for {domain}: {why})"


def _before(last: dict[int, int], places: Sequence[int]) -> int:
    """The number of the newest attempt for any of these recipients that has left evidence."""
    return max([last.get(place, 0) for place in places], default=0)


def _unsettled(trace: MessageTrace, last: dict[int, int]) -> Iterator[str]:
    """What came after the last attempt for each destination that has left evidence."""
    destinations: dict[str, list[int]] = {}
    for place, entry in enumerate(trace.recipients):
        destinations.setdefault(entry.destination, []).append(place)
    for destination, places in destinations.items():
        entries = [trace.recipients[place] for place in places]
        attempts, under_way = max(entry.attempts for entry in entries), any(entry.under_way for entry in entries)
        yield from _gap(destination, _before(last, places), attempts if under_way else attempts + 1, trace)
        if under_way:
            yield ""
            yield f"attempt {attempts} for {destination} is under way, or was cut short if the service does not run"


def _ends(trace: MessageTrace, now: datetime) -> Iterator[str]:
    """A line for each end that recipients have come to, or for what they wait for."""
    fates: dict[str, list[str]] = {}
    for entry in trace.recipients:
        fates.setdefault(_fate(entry, trace, now), []).append(entry.recipient)
    for fate, people in fates.items():
        whom = "all recipients" if len(fates) == 1 and len(people) > 1 else _people(people)
        yield f"{whom}: {fate}"


def _fate(entry: QueueEntry, trace: MessageTrace, now: datetime) -> str:
    status = " ".join(part for part in (entry.status, entry.reason) if part)
    because = f" ({status})" if status else ""
    if entry.state is State.DELIVERED:
        return "delivered"
    if entry.state is State.FAILED:
        end = "returned to the sender" if trace.sender else "given up, and nobody is told: it has no sender"
        return f"{end}{because}"
    if entry.state is State.DROPPED:
        return f"dropped, and nobody was told{because}"
    if entry.state is State.HELD:
        return f"held: {entry.hold}" if entry.hold else f"held{because}"
    if entry.next_attempt is None:
        return "being tried now"
    if entry.next_attempt <= now:
        return f"due since {utc(entry.next_attempt)}, waits for the service{because}"
    return f"waits until {utc(entry.next_attempt)}, in {in_words(entry.next_attempt - now)}{because}"


def _names(places: Sequence[int], trace: MessageTrace) -> list[str]:
    return [trace.recipients[place].recipient for place in places]


def _people(addresses: Sequence[str]) -> str:
    named = ", ".join(addresses[:_MANY])
    return named if len(addresses) <= _MANY else f"{named} and {len(addresses) - _MANY} more"


def _duration(span: timedelta) -> str:
    """A clock may be set back meanwhile: less than nothing is nothing."""
    seconds = max(0.0, span.total_seconds())
    return f"{seconds:.1f} s" if seconds < 10 else in_words(span)
