"""The queue's values as JSON objects: one form for the commands and for the API. Values in, plain objects out.

Times are ISO 8601 in UTC, to the millisecond; what is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from relay.mail.duration import format_duration
from relay.mail.message import Origin
from relay.queue.control import Action, Tally
from relay.queue.history import ActEntry, AttemptEntry, MessageTrace
from relay.queue.hold_rules import HoldRule
from relay.queue.stats import AGES, Group, QueueStats
from relay.queue.store import QueueEntry, Rest

Object = dict[str, Any]

AGE_NAMES: Final = tuple(map(format_duration, AGES))


def json_time(time: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the millisecond."""
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of_entry(entry: QueueEntry) -> Object:
    """One recipient."""
    return {
        "id": str(entry.id),
        "message_id": entry.message_id,
        "sender": entry.sender,
        "recipient": entry.recipient,
        "domain": entry.domain,
        "destination": entry.destination,
        "route": entry.route,
        "login": entry.login,
        "size": entry.size,
        "state": entry.state.value,
        "under_way": entry.under_way,
        "attempts": entry.attempts,
        "cause": None if entry.cause is None else entry.cause.value,
        "status": entry.status,
        "reply": entry.reply,
        "reason": entry.reason,
        "host": entry.host,
        "tls": entry.tls.value,
        "rule": entry.rule,
        "hold": entry.hold,
        "notify": None if entry.dsn.notify is None else list(entry.dsn.notify.words),
        "orcpt": entry.dsn.orcpt,
        "priority": entry.priority,
        "release": json_time(entry.release),
        "deliver_by": None if entry.deliver_by is None else json_time(entry.deliver_by.time),
        "deliver_mode": None if entry.deliver_by is None else entry.deliver_by.mode,
        "arrived": json_time(entry.arrived),
        "changed": json_time(entry.changed),
        "next_attempt": json_time(entry.next_attempt),
        "review": json_time(entry.review),
    }


def of_stats(stats: QueueStats) -> Object:
    """The queue in figures."""
    return {
        "recipients": stats.recipients,
        "messages": stats.messages,
        "under_way": stats.under_way,
        "due": stats.due,
        "oldest": json_time(stats.oldest),
        "states": {state.value: number for state, number in stats.states.items()},
        "destinations": [_of_group(group) for group in stats.destinations],
        "causes": [_of_group(group) for group in stats.causes],
        "senders": [_of_group(group) for group in stats.senders],
        "resting": [_of_rest(name, rest) for name, rest in stats.resting.items()],
    }


def _of_group(group: Group) -> Object:
    return {
        "name": group.name,
        "recipients": group.recipients,
        "messages": group.messages,
        "held": group.held,
        "under_way": group.under_way,
        "oldest": json_time(group.oldest),
        "next_attempt": json_time(group.next_attempt),
        "rests_until": None if group.rest is None else json_time(group.rest.until),
        "ages": dict(zip((*AGE_NAMES, "older"), group.ages, strict=True)),
    }


def _of_rest(destination: str, rest: Rest) -> Object:
    """A destination that is down."""
    return {
        "destination": destination,
        "until": json_time(rest.until),
        "since": json_time(rest.since),
        "failures": rest.failures,
        "status": rest.status,
        "reason": rest.reason,
    }


def of_tally(action: Action, tally: Tally) -> Object:
    """What became of an act."""
    return {
        "action": action.act.value,
        "dry_run": action.dry_run,
        "recipients": tally.recipients,
        "messages": tally.messages,
        "done": tally.done,
        "done_messages": tally.done_messages,
        "under_way": tally.under_way,
        "unfit": tally.unfit,
        "notices": len(tally.notices),
    }


def of_hold_rule(rule: HoldRule) -> Object:
    """A rule; the patterns as they are typed."""
    return {
        "id": rule.id,
        "sender": None if rule.sender is None else str(rule.sender),
        "recipient": None if rule.recipient is None else str(rule.recipient),
        "domain": None if rule.domain is None else rule.domain.domain or "*",
        "login": rule.login,
        "reason": rule.reason,
        "made": json_time(rule.made),
    }


def _of_origin(origin: Origin | None) -> Object:
    return {
        "client": None if origin is None else origin.client,
        "listener": None if origin is None else origin.listener,
        "allowed_by": None if origin is None else origin.allowed_by,
    }


def of_trace(trace: MessageTrace) -> Object:
    """A message's life."""
    return {
        "id": str(trace.id),
        "message_id": trace.message_id,
        "sender": trace.sender,
        "size": trace.size,
        "tls_demand": trace.demand.value,
        "arrived": json_time(trace.arrived),
        "about": None if trace.about is None else str(trace.about),
        "login": trace.login,
        **_of_origin(trace.origin),
        "recipients": [
            {
                "address": entry.recipient,
                "domain": entry.domain,
                "state": entry.state.value,
                "attempts": entry.attempts,
                "under_way": entry.under_way,
                "next_attempt": json_time(entry.next_attempt),
                "changed": json_time(entry.changed),
            }
            for entry in trace.recipients
        ],
        "attempts": [_of_attempt(attempt, trace) for attempt in trace.attempts],
        "acts": [_of_act(act, trace) for act in trace.acts],
    }


def _of_attempt(attempt: AttemptEntry, trace: MessageTrace) -> Object:
    return {
        "domain": attempt.domain,
        "number": attempt.number,
        "began": json_time(attempt.began),
        "ended": json_time(attempt.ended),
        "policies": list(attempt.record.policies),
        "tried": [
            {
                "host": host.host,
                "address": host.address,
                "required": host.required,
                "rule": host.rule,
                "seen": host.seen,
                "verdict": host.verdict,
                "dialogue": list(host.dialogue),
            }
            for host in attempt.record.tried
        ],
        "tried_left_out": attempt.record.left_out,
        "results": [
            {
                "recipients": [trace.recipients[place].recipient for place in result.recipients],
                "state": result.state.value,
                "status": result.status,
                "reason": result.reason,
                "reply": result.reply,
                "host": result.host,
                "tls": result.tls.value,
                "next_attempt": json_time(result.next_attempt),
            }
            for result in attempt.results
        ],
        "notices": [
            {"id": str(notice.id), "kind": notice.kind, "state": None if notice.state is None else notice.state.value}
            for notice in attempt.notices
        ],
    }


def _of_act(act: ActEntry, trace: MessageTrace) -> Object:
    return {
        "recipient": trace.recipients[act.number].recipient,
        "action": act.act,
        "made": json_time(act.made),
        "who": act.who,
        "detail": act.detail,
    }


def of_message(trace: MessageTrace, rests: Mapping[str, Rest]) -> Object:
    """All that is known of one message, its recipients in full, and which of their destinations rest."""
    destinations = {entry.destination for entry in trace.recipients if not entry.state.closed}
    return of_trace(trace) | {
        "ret": None if trace.dsn.ret is None else trace.dsn.ret.value,
        "envid": trace.dsn.envid,
        "recipients": [of_entry(entry) for entry in trace.recipients],
        "resting": [_of_rest(name, rest) for name, rest in rests.items() if name in destinations],
    }
