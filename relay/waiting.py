"""Why mail waits, from what the queue itself knows: the page of `relay queue show`. Values in, text out.

Each recipient gets an answer that needs no log: what keeps it, since when and by whose word, what happens next and
when. What hosts say comes from strangers: it is cleaned of control characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from relay.mail.duration import utc
from relay.mail.message import Notify
from relay.mail.outcome import Cause, State
from relay.policy.limits import DestinationLimits
from relay.policy.retry import Schedules
from relay.policy.routing import PREFIX
from relay.policy.words import in_words
from relay.queue.history import AttemptEntry, MessageTrace
from relay.queue.store import QueueEntry, Rest
from relay.remedies import because, remedy
from relay.show import clean, count, fold, until_released
from relay.trace import DEMANDS, act_words, handed_in, wishes

_TITLE: Final = 14  # columns of the words in front


@dataclass(frozen=True, slots=True)
class Scene:
    """What a page is made from besides the message. `service`: whether one runs; None: that cannot be seen."""

    now: datetime
    rests: Mapping[str, Rest]
    service: bool | None
    schedules: Schedules
    limits: DestinationLimits = field(default_factory=DestinationLimits)


def page(trace: MessageTrace, scene: Scene, width: int | None = None) -> str:
    """Everything about one message that waits, or has left. `width`: of the terminal, None for no limit."""
    return "".join(f"{fold(clean(line), _TITLE + 3, width)}\n" for line in _lines(trace, scene))


def why(entry: QueueEntry, scene: Scene) -> str:
    """What keeps a recipient, in one sentence."""
    if entry.state.closed:
        return _ended(entry)
    if entry.state is State.HELD:
        return f"it is held: {entry.hold or 'no reason was given'}"
    if entry.under_way:
        if scene.service is False:
            return f"attempt {entry.attempts} was cut short when the service ended: the next start tries it again"
        return f"attempt {entry.attempts} is being made at this moment"
    if entry.release is not None and entry.waits_for_release(scene.now):
        return f"it is {until_released(entry.release)}"
    return _why_not_tried_now(entry, scene)


def _why_not_tried_now(entry: QueueEntry, scene: Scene) -> str:
    """Of mail that may be tried, and is not."""
    rest = _rest(entry, scene)
    if rest is not None:
        return f"{entry.destination} rests: {rest.reason}"
    if scene.service is False and _is_due(entry, scene):
        return "no service runs: nothing is tried before it is started"
    if entry.cause is not None:
        return because(entry.cause, entry)
    if entry.attempts:
        return entry.reason or "it was tried without success"
    return "it was not tried yet: other mail is before it" if _is_due(entry, scene) else "its time has not come"


def _lines(trace: MessageTrace, scene: Scene) -> Iterator[str]:
    yield f"{trace.id}  {trace.sender or '<>'} -> {count(len(trace.recipients), 'recipient')}"
    yield _line("Message-ID", f"<{trace.message_id}>" if trace.message_id is not None else "none")
    yield _line("arrived", f"{utc(trace.arrived)}, {in_words(scene.now - trace.arrived)} ago")
    yield from (_line("from", words) for words in handed_in(trace))
    yield _line("size", count(trace.size, "octet"))
    yield _line("TLS", DEMANDS[trace.demand])
    yield from (_line(name, words) for name, words in wishes(trace.recipients))
    asked = [] if trace.dsn.ret is None else [f"RET={trace.dsn.ret.value}"]
    asked += [] if trace.dsn.envid is None else [f"ENVID={trace.dsn.envid}"]
    if asked:
        yield _line("asked", " ".join(asked))
    if scene.service is False and not all(entry.state.closed for entry in trace.recipients):
        yield _line("service", "none runs: nothing is tried, and nothing expires, before it is started")
    if trace.about is not None:
        yield _line("notice", f"it speaks of {trace.about}")
    alike: dict[tuple[str, ...], list[str]] = {}  # of a thousand recipients most have the same to say
    for entry in trace.recipients:
        alike.setdefault(tuple(_recipient(entry, trace, scene)), []).append(entry.recipient)
    for said, recipients in alike.items():
        yield ""
        yield from recipients
        yield from said
    newest = {attempt.domain: attempt for attempt in trace.attempts}
    for destination in dict.fromkeys(entry.destination for entry in trace.recipients if not entry.state.closed):
        if destination in newest:
            yield ""
            yield from _last_attempt(newest[destination])
    yield ""
    yield f"`relay trace {trace.id}` has every attempt, with what was said"


def _recipient(entry: QueueEntry, trace: MessageTrace, scene: Scene) -> Iterator[str]:
    tries = "not tried yet" if not entry.attempts else f"tried {count(entry.attempts, 'time')}"
    yield _line("state", f"{entry.state.value} since {utc(entry.changed)}, {tries}")
    keeps = _cause(entry, scene)
    cause = f" ({keeps.value})" if keeps is not None else ""
    yield _line("ended" if entry.state.closed else "waits because", f"{why(entry, scene)}{cause}")
    yield from _said(entry)
    if not entry.state.closed:
        yield from _next(entry, scene)
        yield _line("goes to", _way(entry))
        yield from _resting(entry, scene)
    yield _line("notices", _wishes(entry, trace))
    for act in trace.acts:
        if act.number == entry.number:
            yield _line("operator", f"{act_words(act)}, {utc(act.made)}")


def _cause(entry: QueueEntry, scene: Scene) -> Cause | None:
    """What keeps it: where its destination rests, that is why it does, whatever came of its own last attempt."""
    waits = entry.state is State.HELD or entry.under_way or entry.waits_for_release(scene.now)
    rest = None if waits else _rest(entry, scene)
    return entry.cause if rest is None or rest.cause is None else Cause(rest.cause)


def _said(entry: QueueEntry) -> Iterator[str]:
    """What the last attempt came to: our words, then the host's."""
    ours = " ".join(part for part in (entry.status, entry.reason) if part)
    host = f" (host {entry.host}, TLS {entry.tls.value})" if entry.host else ""
    if ours or host:
        yield _line("last result", f"{ours}{host}".strip())
    if entry.reply:
        yield _line("host said", entry.reply)


def _next(entry: QueueEntry, scene: Scene) -> Iterator[str]:
    if entry.state is State.HELD:
        yield _line("next attempt", f"none, until `relay queue release {entry.id}`")
    elif entry.next_attempt is not None:
        yield _line("next attempt", _next_attempt(entry, entry.next_attempt, scene))
    if entry.rule and entry.state is not State.HELD:
        yield _line("by the rule", entry.rule)
    yield _line("expires", _end(entry, scene))
    keeps = _cause(entry, scene)
    todo = remedy(entry if keeps is entry.cause else replace(entry, cause=keeps, reply=None))
    if entry.waits_for_release(scene.now):
        todo = f"nothing: its sender wants it so; `relay queue retry {entry.id}` sends it now"
    if todo is not None:
        yield _line("what to do", todo)


def _next_attempt(entry: QueueEntry, due: datetime, scene: Scene) -> str:
    rest = _rest(entry, scene)
    if rest is not None and rest.until > due:
        return f"{utc(rest.until)}, in {in_words(rest.until - scene.now)}, when the rest ends"
    if due > scene.now:
        return f"{utc(due)}, in {in_words(due - scene.now)}"
    most = scene.limits.of(entry.destination).per_minute
    slowly = "" if most is None else f": {entry.destination} gets {count(most, 'message')} a minute ([[destination]])"
    return f"{utc(due)}, due now{slowly}"


def _end(entry: QueueEntry, scene: Scene) -> str:
    """When it is given up, tried or not, and before that, when its sender hears that it is late."""
    schedules = scene.schedules.of_reports() if entry.report else scene.schedules
    life = schedules.life(entry.due, entry.deliver_by, entry.cause)
    if entry.state is State.HELD and not schedules.expire_held and not life.asked:
        end = "never, while it is held (retry.expire_held = false)"
    else:
        away = f"in {in_words(life.end - scene.now)}" if life.end > scene.now else "overdue"
        end = f"{utc(life.end)}, {away} ({life.limit})"
    late = schedules.notice_times(entry.due, entry.deliver_by)[entry.delay_notices :]
    if late and entry.sender and entry.dsn.wants(Notify.DELAY):
        end += f"; its sender is told that it is late {utc(late[0])}"
    return end


def _way(entry: QueueEntry) -> str:
    chosen = f", chosen for it: {entry.route}" if entry.route is not None else ""
    name = entry.destination.removeprefix(PREFIX)
    where = f"the mail hosts of {name}" if name == entry.destination else f"the route {name}"
    return f"{where}{chosen}"


def _resting(entry: QueueEntry, scene: Scene) -> Iterator[str]:
    rest = _rest(entry, scene)
    if rest is not None:
        yield _line(
            "rest",
            f"nothing is tried at {entry.destination} before {utc(rest.until)}, in {in_words(rest.until - scene.now)}: "
            f"it was down {count(rest.failures, 'time')} in a row since {utc(rest.since)}, last with "
            f"{rest.status} {rest.reason}; `relay queue retry {entry.id}` ends the rest",
        )


def _wishes(entry: QueueEntry, trace: MessageTrace) -> str:
    """Of what the sender hears."""
    if not trace.sender:
        return "nobody hears of it: it has no sender"
    if entry.dsn.notify is None:
        wanted = "of failure and delay, as nothing was asked"
    elif entry.dsn.notify == Notify.NEVER:
        wanted = "of nothing (NOTIFY=NEVER)"
    else:
        names = entry.dsn.notify.words
        wanted = f"of {' and '.join(names).lower()} (NOTIFY={','.join(names)})"
    orcpt = f", ORCPT={entry.dsn.orcpt}" if entry.dsn.orcpt else ""
    told = f"; told {count(entry.delay_notices, 'time')} that it is late" if entry.delay_notices else ""
    return f"{trace.sender} hears {wanted}{orcpt}{told}"


def _ended(entry: QueueEntry) -> str:
    match entry.state:
        case State.DELIVERED:
            return f"{entry.host} took it, {utc(entry.changed)}"
        case State.FAILED:
            return f"it failed for good, {utc(entry.changed)}"
        case _:
            return f"it was dropped and nobody was told, {utc(entry.changed)}"


def _last_attempt(attempt: AttemptEntry) -> Iterator[str]:
    """The newest evidence of a destination, in brief."""
    seconds = max(0.0, (attempt.ended - attempt.began).total_seconds())
    yield f"last attempt: number {attempt.number} for {attempt.domain}, {utc(attempt.began)}, took {seconds:.1f} s"
    yield from (f"  {policy}" for policy in attempt.record.policies)
    for host in attempt.record.tried:
        address = f" [{host.address}]" if host.address not in (None, host.host) else ""
        yield f"  {host.host}{address}: {host.verdict}"
        if host.required:
            yield f"    required: {host.required}"
        if host.seen:
            yield f"    seen: {host.seen}"


def _rest(entry: QueueEntry, scene: Scene) -> Rest | None:
    rest = None if entry.state.closed else scene.rests.get(entry.destination)
    return rest if rest is not None and rest.until > scene.now else None


def _is_due(entry: QueueEntry, scene: Scene) -> bool:
    return entry.next_attempt is not None and entry.next_attempt <= scene.now


def _line(title: str, text: str) -> str:
    return f"  {f'{title}:':{_TITLE + 1}}{text}"
