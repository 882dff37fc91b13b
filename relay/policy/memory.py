"""What is remembered of a mail host's TLS, and what it means when the host has none any more.

The offer of STARTTLS is made in clear text, and whoever sits in between can take it away. Where nobody publishes a
policy, having seen TLS before is all there is to notice it by. RFC 3207 section 6: a client may record that a server
offers TLS and raise an alarm when the offer is missing later; that should not make mail bounce, but may delay it.

All times are aware UTC. The clock may have been set back between any two of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum


class OnTlsLoss(Enum):
    """What is done when a host that had TLS has none."""

    OFF = "off"
    WARN = "warn"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """When the loss of TLS counts, and what is done then.

    `after`: how long the host must have had TLS. `defer_for`: how long mail waits for TLS to come back (DEFER).
    """

    on_loss: OnTlsLoss
    after: timedelta
    defer_for: timedelta


@dataclass(frozen=True, slots=True)
class TlsMemory:
    """A host that has had TLS: from `since` to `last` in every session, but for losses that healed.

    `authenticated_by`: what proved the host in the latest of these sessions (the value of a `policy.verdict.Rule`),
    None when nothing did. `lost_at`: the first session without TLS since then, None while there is none.
    """

    since: datetime
    last: datetime
    authenticated_by: str | None
    lost_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.since > self.last:
            raise ValueError("TLS cannot have been seen before it was first seen")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A memory, and the rules that say what it means."""

    memory: TlsMemory
    rules: MemoryRules


def noted(
    before: TlsMemory | None, rules: MemoryRules, now: datetime, *, tls: bool, authenticated_by: str | None
) -> TlsMemory | None:
    """What is to be remembered of a host after a session with it, made now. None: nothing.

    A host without TLS for so long that neither a warning nor a wait is left is forgotten: that is how it is now.
    """
    if tls:
        return TlsMemory(min(before.since, now) if before is not None else now, now, authenticated_by)
    if before is None:
        return None
    lost_at = _lost_at(before, now)
    if now - lost_at > max(rules.after, rules.defer_for):
        return None
    return replace(before, lost_at=lost_at)


def is_lost(memory: TlsMemory, rules: MemoryRules) -> bool:
    """Whether a session without TLS, now, is to be taken for a possible downgrade."""
    return rules.on_loss is not OnTlsLoss.OFF and memory.last - memory.since >= rules.after


def waits_until(memory: TlsMemory, rules: MemoryRules, now: datetime) -> datetime | None:
    """Until when mail waits for TLS to come back. None: it goes out in clear text, with a warning if `is_lost`."""
    if rules.on_loss is not OnTlsLoss.DEFER or not is_lost(memory, rules):
        return None
    until = _lost_at(memory, now) + rules.defer_for
    return until if now < until else None


def _lost_at(memory: TlsMemory, now: datetime) -> datetime:
    """When TLS was lost, if it is not there now. A time to come, of a clock that was wrong, is now."""
    return now if memory.lost_at is None else min(memory.lost_at, now)
