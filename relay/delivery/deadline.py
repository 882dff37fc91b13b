"""A time by which mail is to be delivered, at the next host: what it is told of it, and what follows where it does not
know such times. Pure. RFC 2852 section 4.1.4.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Final

from relay.delivery.capabilities import Capabilities
from relay.mail.message import Claim, Notify, RecipientDsn
from relay.mail.outcome import Failed
from relay.mail.status import Kind, Status

NOT_CAPABLE_5_3_3: Final = Status(Kind.PERMANENT, 3, 3)
_MAX_SECONDS = 999_999_999


def kept_back(claim: Claim, can: Capabilities, host: str, now: datetime) -> Failed | None:
    """Why a message that comes back when it is late, and is not yet, must not go to this host (section 4.1.4.1)."""
    by = claim.deliver_by
    if by is None or not by.returns:
        return None
    if can.deliver_by is None:
        what = f"{host} does not take mail with a time by which it comes back (DELIVERBY), as its sender asked"
        return Failed(NOT_CAPABLE_5_3_3, what, host)
    left = by.seconds_left(now)
    if can.deliver_by > left > 0:
        what = f"{host} takes mail that has {can.deliver_by} seconds left or more (DELIVERBY), and this has {left}"
        return Failed(NOT_CAPABLE_5_3_3, what, host)
    return None


def by_value(claim: Claim, can: Capabilities, now: datetime) -> str | None:
    """The value of BY for this host, with the seconds that are left, or have gone since; None: it is not told."""
    by = claim.deliver_by
    if by is None or can.deliver_by is None:
        return None
    left = max(-_MAX_SECONDS, min(by.seconds_left(now), _MAX_SECONDS))
    return f"{left};{by.mode}"


def is_untold(claim: Claim, can: Capabilities, now: datetime) -> bool:
    """Whether this host does not learn of a time that is still to come."""
    by = claim.deliver_by
    return by is not None and can.deliver_by is None and now < by.time


def is_traced(claim: Claim, can: Capabilities, now: datetime) -> bool:
    """Whether the sender is to hear of it when this host has it. RFC 2852 sections 4.1.4 (trace) and 4.1.4.2."""
    by = claim.deliver_by
    return by is not None and (by.trace or is_untold(claim, can, now))


def with_delay(asked: RecipientDsn) -> RecipientDsn:
    """What a host is asked to report that does not know the time: delays too. RFC 2852 section 4.1.4.2."""
    if asked.notify == Notify.NEVER:
        return asked
    return replace(asked, notify=(Notify.FAILURE if asked.notify is None else asked.notify) | Notify.DELAY)
