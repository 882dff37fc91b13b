"""What signs mail in one running Relay, and the work that goes with it. `app` runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any

from relay.delivery.body import Sign
from relay.delivery.signing import signing_of
from relay.events import Emit
from relay.key_watch import KeyWatch
from relay.settings import Settings
from relay.signing.keys import KeyTable


class SigningDesk:
    """`sign`: for deliveries; None: no mail is signed. `keys` gives those in force.

    `work`: what is to run for ever, each with its name.

    `clock` gives aware UTC, `hearer` an event that is set when files and DNS are to be looked at now. Raises ValueError
    for a key that cannot be used.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime], emit: Emit, hearer: Callable[[], asyncio.Event]
    ) -> None:
        self.sign: Sign | None = None
        self.keys: Callable[[], KeyTable] = KeyTable
        self.work: tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...] = ()
        watch = KeyWatch(settings, clock, emit)
        signing = signing_of(settings, emit, watch.usable)
        if signing is None:
            return
        self.sign = signing.sign
        self.keys = lambda: signing.signer.keys
        self.work = (
            ("keys that sign", partial(signing.renew, hearer())),
            ("keys that sign, in DNS", partial(watch.run, self.keys, hearer())),
        )
