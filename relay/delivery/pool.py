"""Keeps idle sessions for the next message to the same host.

It decides nothing: whoever takes a session judges it again by what the message at hand requires.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay.delivery.smtp import OpenSession

MAX_IDLE = 20  # for one key
IDLE_SECONDS = 60.0
MAX_MESSAGES = 1000  # over one session


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What sessions must have in common to stand in for each other.

    `asked`: what was asked of the handshake. `source`: the address that we called from (empty: the system chose it),
    `hostname`: what we said in EHLO, `login`: under which name, and on which route, we logged in.
    """

    host: str
    address: str
    port: int
    asked: str
    source: str = ""
    hostname: str = ""
    login: str = ""


class SessionPool:
    """Idle sessions by key. One that idles too long, has carried enough messages or is one too many is closed."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._idle: dict[SessionKey, dict[OpenSession, asyncio.TimerHandle]] = {}  # the one used last comes last

    def take(self, key: SessionKey) -> OpenSession | None:
        """The idle session that was used last, the pool's no more; None when there is none of use."""
        idle = self._idle.get(key)
        while idle:
            session, timer = idle.popitem()
            timer.cancel()
            if not idle:
                del self._idle[key]
            if session.reusable():
                return session
            session.close()  # the host has hung up, or said something: 421, it was idle too long
        return None

    def give(self, key: SessionKey, session: OpenSession) -> None:
        """Hand in a session after use. It is the pool's from here on, to keep or to close."""
        idle = self._idle.get(key, {})
        if not session.reusable() or session.messages >= MAX_MESSAGES or len(idle) >= MAX_IDLE:
            session.close()
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._expire, key, session)
        self._idle.setdefault(key, idle)[session] = timer

    async def close_all(self) -> None:
        """Say goodbye on all idle sessions and wait for the answers."""
        everything, self._idle = self._idle, {}
        for idle in everything.values():
            for timer in idle.values():
                timer.cancel()
        await asyncio.gather(*(session.quit() for idle in everything.values() for session in idle))

    def _expire(self, key: SessionKey, session: OpenSession) -> None:
        idle = self._idle[key]
        del idle[session]
        if not idle:
            del self._idle[key]
        session.close()
