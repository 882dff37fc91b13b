"""The operator's own word on how a destination is reached."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How much a session must prove."""

    ANY = 0  # TLS when it works, clear text otherwise
    ENCRYPTED = 1  # TLS, no matter whose
    AUTHENTICATED = 2  # TLS with somebody whose name was proven


@dataclass(frozen=True, slots=True)
class Override:
    """A local rule for one destination.

    `replaces` True: this level stands in place of all that the recipient's domain publishes. False: it is one more
    requirement. AUTHENTICATED means a certificate of the trusted authorities for the host's name. `reason` is told
    to senders whose mail it stops.
    """

    level: Level
    replaces: bool
    reason: str
