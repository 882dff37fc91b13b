"""Who is to be told of what: the notices that are due after an attempt.

RFC 3461 section 4.1 and 6 (when), RFC 5321 section 4.5.5 (the null sender). A notice has the null sender itself, so no
sender is ever told of a notice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from relay.mail.address import Address
from relay.mail.message import Claim, MessageId, Notify, Ret, TlsDemand
from relay.mail.outcome import Delivered, State
from relay.policy.retry import SettledRecipient, Settlement

FULL_LIMIT = 1 << 20  # octets of a message up to which the whole of it goes back to the sender


class Kind(Enum):
    """Which notice."""

    FAILURE = "failure"
    DELAY = "delay"
    RELAYED = "relayed"  # handed on to a host that does not report on delivery, as the sender asked us to
    UNDELIVERABLE = "undeliverable"  # to the postmaster: a message with the null sender has failed


@dataclass(frozen=True, slots=True)
class Due:
    """One notice: which, to whom, and about which recipients of the message."""

    kind: Kind
    to: Address
    recipients: tuple[SettledRecipient, ...]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a notice says of itself: its queue id, the time and our name. `tried`: it follows an attempt, just now."""

    id: MessageId
    now: datetime
    hostname: str
    tried: bool = True


def due(claim: Claim, settlement: Settlement, postmaster: Address | None) -> tuple[Due, ...]:
    """The notices that `settlement` of `claim` calls for: one for each thing that happened.

    `postmaster` hears of messages with the null sender that have failed, unless they were for the postmaster. Of a TLS
    report of ours nobody hears: the failure it would tell of may be what it reports.
    """
    if claim.report or all(map(_is_no_news, settlement.recipients)):
        return ()  # as nearly always
    sender = claim.sender
    if sender is None:
        # RFC 5321 §4.5.5: never to the null sender. What the postmaster did not get is not told to the postmaster.
        lost = tuple(settled for settled in settlement.failed if not _same(settled.recipient.address, postmaster))
        return (Due(Kind.UNDELIVERABLE, postmaster, lost),) if lost and postmaster is not None else ()
    wanted = (
        (Kind.FAILURE, _wanting(Notify.FAILURE, settlement.failed)),
        (Kind.DELAY, _wanting(Notify.DELAY, settlement.delayed)),
        (Kind.RELAYED, tuple(filter(_is_news_of_relaying, settlement.recipients))),
    )
    return tuple(Due(kind, sender, recipients) for kind, recipients in wanted if recipients)


def returns_whole(kind: Kind, claim: Claim) -> bool:
    """Whether the whole message goes back with the notice, or its header alone.

    RFC 3461 section 6.2: RET speaks of failures only. RFC 8689 section 5: nothing confidential goes back.
    """
    return (
        kind is Kind.FAILURE
        and claim.dsn.ret is Ret.FULL
        and claim.demand is not TlsDemand.REQUIRED
        and claim.body.size <= FULL_LIMIT
    )


def _wanting(event: Notify, recipients: Iterable[SettledRecipient]) -> tuple[SettledRecipient, ...]:
    return tuple(settled for settled in recipients if settled.recipient.dsn.wants(event))


def _is_no_news(settled: SettledRecipient) -> bool:
    """Whether it was delivered, and nothing was asked."""
    outcome = settled.outcome
    if settled.state is not State.DELIVERED or settled.recipient.dsn.notify is not None:
        return False
    return not (isinstance(outcome, Delivered) and outcome.traced)


def _is_news_of_relaying(settled: SettledRecipient) -> bool:
    """Whether it was delivered to a host that will not say what becomes of it (RFC 3461 section 5.2.2), or where the
    sender hears of that anyway, unless it wants to hear of nothing (RFC 2852 section 4.1.4).
    """
    outcome, asked = settled.outcome, settled.recipient.dsn
    if not isinstance(outcome, Delivered):
        return False
    if outcome.traced and asked.notify != Notify.NEVER:
        return True
    return not outcome.dsn and asked.wants(Notify.SUCCESS)


def _same(one: Address, other: Address | None) -> bool:
    return other is not None and (one.local.lower(), one.domain) == (other.local.lower(), other.domain)
