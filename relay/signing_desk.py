"""What signs mail, built from the settings: the keys, read from their files, and the watch over them.

`app` runs it. How a message is signed is in `relay.signing.signature`; what DNS has to do with it in `relay.key_watch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from relay.events import Emit, FileRefused
from relay.files import Stamp, file_stamp
from relay.key_watch import KeyWatch
from relay.settings import Settings
from relay.signing.keys import KeyTable, SigningKey, UnusableKey, load_key
from relay.signing.signature import Signer
from relay.signing_settings import DkimKeySettings


class SigningDesk:
    """Of one running Relay. `clock` gives aware UTC.

    Raises ValueError, naming the file and what is wrong with it, for a key that cannot be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime], emit: Emit) -> None:
        self._given = settings.dkim_key
        self._emit = emit
        self._stamps = self._seen()
        self._watch = KeyWatch(settings, clock, emit)
        self.signer = Signer(self._load(), settings.dkim.canonicalization, self._watch.usable)

    async def run(self, hung_up: asyncio.Event) -> None:
        """Compare the keys with DNS, again and again. `hung_up`: look at files and DNS now."""
        await self._watch.run(self.renew, hung_up)

    def renew(self) -> KeyTable:
        """The keys in force: those of the files as they are now, or, while one is of no use, those from before."""
        stamps = self._seen()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self.signer.keys = self._load()
            except ValueError as error:
                self._emit(FileRefused(str(error)))
        return self.signer.keys

    def _seen(self) -> tuple[Stamp | None, ...]:
        return tuple(file_stamp(given.key_file) for given in self._given)

    def _load(self) -> KeyTable:
        """Raises ValueError."""
        return KeyTable([_key(given) for given in self._given])


def _key(given: DkimKeySettings) -> SigningKey:
    """Raises ValueError."""
    found = load_key(given)
    if isinstance(found, UnusableKey):
        raise ValueError(found.reason)
    return found
