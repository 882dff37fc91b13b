"""The keys of the issuer of access tokens: fetched, kept for a while, and fetched anew when they are old.

A key that we do not know is looked for at once, for issuers change theirs; but not more often than once in a minute,
or tokens with made-up key ids would make us hammer the issuer. When a fetch fails, the keys that we have stay in force
for a week. RFC 7517 section 5 (sets of keys), RFC 9111 (max-age).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from relay.submission.bearer import Key, TokenFault, TokenRules, check_token, key_id, parse_keys
from relay.submission.https import Answer

_SHORTEST_SECONDS: Final = 300.0  # how long keys are kept, whatever max-age says
_LONGEST_SECONDS: Final = 86_400.0
_USUAL_SECONDS: Final = 3600.0
_AGAIN_SECONDS: Final = 60.0  # between two fetches
_IN_FORCE_SECONDS: Final = 7 * 86_400.0

Fetch = Callable[[], Awaitable[Answer | str]]


def keys_in(answer: Answer | str) -> tuple[Key, ...] | str:
    """The issuer's keys, or why there are none. `answer`: what came of the fetch."""
    if isinstance(answer, str):
        return f"the issuer's keys could not be fetched: {answer}"
    if answer.status != 200:
        return f"the issuer's keys could not be fetched: the answer was {answer.status}"
    return parse_keys(answer.body) or "the issuer shows no key that can be used"


class IssuerKeys:
    """The keys. `monotonic` is a clock in seconds, `tell` hears why a fetch failed, or None when one has not."""

    def __init__(self, fetch: Fetch, monotonic: Callable[[], float], tell: Callable[[str | None], None]) -> None:
        self._fetch = fetch
        self._monotonic = monotonic
        self._tell = tell
        self._keys: tuple[Key, ...] = ()
        self._fetched: float | None = None  # when the keys that we have came
        self._old_at = 0.0  # when they should be fetched anew
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def having(self, id: str | None) -> tuple[Key, ...] | None:
        """All keys, the one called `id` among them if it can be had; None: there are none to be had now."""
        now = self._monotonic()
        unknown = id is not None and all(key.id != id for key in self._keys)
        if self._fetched is None or now >= self._old_at or unknown:
            await self._fetch_anew(now)
        if self._fetched is None or self._monotonic() >= self._fetched + _IN_FORCE_SECONDS:
            return None
        return self._keys

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch_anew(self, now: float) -> None:
        """One fetch for all who want it; it goes on when the client that began it leaves."""
        if self._fetching is None:
            if self._tried is not None and now < self._tried + _AGAIN_SECONDS:
                return
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch_now())
        await asyncio.shield(self._fetching)

    async def _fetch_now(self) -> None:
        try:
            problem = self._take(await self._fetch())
        finally:
            self._fetching = None
        self._tell(problem)

    def _take(self, answer: Answer | str) -> str | None:
        keys = keys_in(answer)
        if isinstance(keys, str) or isinstance(answer, str):
            return str(keys)
        seconds = _USUAL_SECONDS if answer.max_age is None else float(answer.max_age)
        self._keys, self._fetched = keys, self._monotonic()
        self._old_at = self._fetched + min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS)
        return None


class TokenLogins:
    """Logs in whoever has a token that the issuer has signed. `clock` gives aware times."""

    def __init__(self, keys: IssuerKeys, rules: TokenRules, clock: Callable[[], datetime]) -> None:
        self._keys = keys
        self._rules = rules
        self._clock = clock

    async def check(self, token: str) -> str | TokenFault | None:
        """The login, or what is wrong with the token; None: that cannot be said now."""
        id = key_id(token)
        if isinstance(id, TokenFault):
            return id
        keys = await self._keys.having(id)
        return None if keys is None else check_token(token, keys, self._rules, self._clock())

    async def close(self) -> None:
        """Give up what is under way."""
        await self._keys.close()
