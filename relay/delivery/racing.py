"""Connects to the first of a host's addresses that answers, IPv6 and IPv4 raced: a dead family costs little.

In the spirit of RFC 8305 section 5, but with one call of a family at a time: a host that is merely far away does not
get connections that nobody uses. Only TCP is raced. Nothing is remembered.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from relay.delivery.opening import ConnectFailed, Target, dial
from relay.policy.source import Source

_Call = asyncio.Task[socket.socket | ConnectFailed]

STAGGER_SECONDS = 0.25  # RFC 8305 §5: the recommended delay before the next address


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection on which nothing has been said; whoever has it is to close it, or to hand it to `open_session`."""

    target: Target
    socket: socket.socket


@dataclass(frozen=True, slots=True)
class Race:
    """How it ended. `failed`: the addresses that could not be reached, in the order in which that was known."""

    winner: Connected | None
    failed: tuple[tuple[Target, ConnectFailed], ...] = ()

    @property
    def tried(self) -> tuple[Target, ...]:
        """All that were called to the end: those that failed, then the winner."""
        return (*(target for target, _ in self.failed), *(() if self.winner is None else (self.winner.target,)))


async def race(
    targets: Sequence[Target], source: Source, seconds: float, stagger_seconds: float = STAGGER_SECONDS
) -> Race:
    """Connect to one of `targets`, which are addresses of one host: to those of IPv6 first, else in their order.

    `seconds` is the limit for each address. While one address has not answered for `stagger_seconds`, the next of the
    other family is tried beside it; when one fails, the next follows at once. Those that lose are closed, nothing
    having been said on them.
    """
    waiting = _alternating(targets)
    running: dict[_Call, Target] = {}
    failed: list[tuple[Target, ConnectFailed]] = []
    try:
        while True:
            following = _following(waiting, running)
            if following is not None:
                waiting.remove(following)
                running[asyncio.create_task(dial(following, source, seconds))] = following
            if not running:
                return Race(None, tuple(failed))
            timeout = stagger_seconds if waiting else None
            done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for call in [one for one in running if one in done]:
                result, target = call.result(), running.pop(call)
                if not isinstance(result, ConnectFailed):
                    return Race(Connected(target, result), tuple(failed))
                failed.append((target, result))
    finally:
        await _give_up(running)


def _following(waiting: Sequence[Target], running: Mapping[_Call, Target]) -> Target | None:
    """The first that waits and is of a family of which none is being called."""
    families = {one.is_ipv6 for one in running.values()}
    return next((one for one in waiting if one.is_ipv6 not in families), None)


def _alternating(targets: Sequence[Target]) -> list[Target]:
    """IPv6, IPv4, IPv6 and so on. RFC 8305 section 4."""
    families = [[one for one in targets if one.is_ipv6], [one for one in targets if not one.is_ipv6]]
    return [one for pair in zip_longest(*families) for one in pair if one is not None]


async def _give_up(losers: Mapping[_Call, Target]) -> None:
    for task in losers:
        task.cancel()
    if losers:
        await asyncio.wait(losers)
    for task in losers:
        if not task.cancelled() and task.exception() is None:
            result = task.result()
            if isinstance(result, socket.socket):  # it came up in the same moment as the winner
                result.close()
