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

    `clock` gives aware UTC; `hung_up`: look at files and DNS now. Raises ValueError for a key that cannot be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime], emit: Emit, hung_up: asyncio.Event) -> None:
        self.sign: Sign | None = None
        self.keys: Callable[[], KeyTable] = KeyTable
        self.work: tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...] = ()
        signing = signing_of(settings, emit)
        if signing is None:
            return
        watch = KeyWatch(settings, clock, emit)
        signing.signer.usable = watch.usable
        self.sign = signing.sign
        self.keys = lambda: signing.signer.keys
        self.work = (
            ("keys that sign", partial(signing.renew, hung_up)),
            ("keys that sign, in DNS", partial(watch.run, self.keys, hung_up)),
        )
