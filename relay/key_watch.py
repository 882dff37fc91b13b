"""Compares the keys that sign mail with what DNS has of them, again and again, and says which may sign.

A key that does not match is told of as an error; whether it signs all the same is for dkim.on_mismatch to say. What
cannot be found out changes nothing: whoever can stop the questions must not be able to stop the signatures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from relay.events import DkimKeyMatches, DkimKeyMismatch, DkimKeyUnknown, Emit
from relay.lookup.dkim import check_keys
from relay.lookup.resolver import LookupFailed, Resolver
from relay.policy.dkim_match import Comparison, Matches, in_words, is_match, may_verify
from relay.settings import Settings
from relay.signing.keys import KeyTable, SigningKey
from relay.signing_settings import OnMismatch

LOOK_EVERY_SECONDS = 3600.0
LOOK_ANEW_SECONDS = 600.0  # while not all is well: whoever mends it waits for us
SEE_KEYS_EVERY_SECONDS = 60.0  # whether they are others than before
REMIND_EVERY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Known:
    """What DNS was last seen to have of a key. `since`: when it began to match, or not to; `told`: of that, last."""

    key: SigningKey
    found: Comparison
    since: datetime
    told: datetime


class KeyWatch:
    """What is known of the keys of one running Relay. `clock` gives aware UTC."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], emit: Emit) -> None:
        self._settings = settings
        self._clock = clock
        self._emit = emit
        self._known: dict[str, _Known] = {}  # by the name of the record
        self._unknown: set[str] = set()  # names of records that could not be had the last time

    def usable(self, key: SigningKey) -> bool:
        """Whether mail is to be signed with this key. A key that was never compared is usable."""
        if self._settings.dkim.on_mismatch is OnMismatch.SIGN:
            return True
        known = self._known.get(key.record_name)
        return known is None or known.key != key or may_verify(known.found)

    async def run(self, keys: Callable[[], KeyTable], hung_up: asyncio.Event) -> None:
        """Compare the keys in force now, when they are others, and again and again; none: there is nothing to do.

        `hung_up`: do so now.
        """
        loop_time, looked_at, due, asked = asyncio.get_running_loop().time, None, 0.0, False
        while table := keys():
            if table is not looked_at or asked or loop_time() >= due:
                wait = LOOK_EVERY_SECONDS if await self.look(table) else LOOK_ANEW_SECONDS
                looked_at, due = table, loop_time() + wait
            asked = await _within(SEE_KEYS_EVERY_SECONDS, hung_up)

    async def look(self, keys: KeyTable) -> bool:
        """Compare each key once, and tell what is new. Returns whether DNS has all of them."""
        # Nothing is remembered from one time to the next: whoever has just mended a record wants to see it.
        resolver = Resolver(self._settings.dns.nameservers, self._settings.dns.timeout)
        try:
            checked = await check_keys(resolver, keys, self._settings.tlsrpt.report_domain)
        finally:
            await resolver.close()
        for one in checked:
            if isinstance(one.found, LookupFailed):
                self._note_failure(one.key, one.found.reason)
            else:
                self._note(one.key, one.found)
        return all(not isinstance(one.found, LookupFailed) and is_match(one.found) for one in checked)

    def _note_failure(self, key: SigningKey, reason: str) -> None:
        if key.record_name not in self._unknown:
            self._unknown.add(key.record_name)
            self._emit(DkimKeyUnknown(key.domain, key.selector, reason))

    def _note(self, key: SigningKey, found: Comparison) -> None:
        now, name, matches = self._clock(), key.record_name, is_match(found)
        before = self._known.get(name)
        as_before = before is not None and before.key == key and is_match(before.found) is matches
        since = before.since if before is not None and as_before else now
        is_new = before is None or not as_before or before.found != found or name in self._unknown
        self._unknown.discard(name)
        if not is_new and before is not None and (matches or now - before.told < REMIND_EVERY):
            return
        self._known[name] = _Known(key, found, since, told=now)
        if matches:
            note = None if isinstance(found, Matches) else in_words(found)
            self._emit(DkimKeyMatches(key.domain, key.selector, note))
        else:
            skipped = self._settings.dkim.on_mismatch is OnMismatch.SKIP and not may_verify(found)
            action = OnMismatch.SKIP if skipped else OnMismatch.SIGN
            self._emit(DkimKeyMismatch(key.domain, key.selector, in_words(found), since, action.value))


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Whether the event comes within this time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
