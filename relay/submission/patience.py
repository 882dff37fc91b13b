"""How long a client may let us wait. Pure.

A client has a stock of our patience, `submission.timeout` at most. Waiting for it uses the stock up; what it sends
fills it: a whole command all of it, a piece of a message as much as its size is worth. So silence ends a session after
the timeout (RFC 5321 section 4.5.3.2.7), an octet now and then does not prolong it, and a link of 100 octets a second,
slower than any modem, is good enough. Who may not send has one stock for all its commands: it can log in, or leave.
"""

from __future__ import annotations

SLOWEST = 100.0  # octets per second of a message


def after_waiting(left: float, waited: float) -> float:
    """Seconds that are left after some seconds in which we could do nothing but wait."""
    return left - waited


def after_octets(left: float, octets: int, full: float) -> float:
    """Seconds that are left when a piece of a message has come."""
    return min(full, left + octets / SLOWEST)
