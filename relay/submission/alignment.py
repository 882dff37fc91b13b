"""Whether mail that comes in will pass DMARC, beside the session: nothing waits for DNS unless it may be refused.

What DNS says is kept for each pair of From domain and envelope domain, so a message costs a look into a dictionary.
Clients name these domains, strangers to us: there are a thousand pairs, four lookups at a time, and 50 under way; what
is more is not looked at. RFC 9989, RFC 7372 (the code).
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from relay.events import AlignmentWarning, DefectFound, Emit
from relay.lookup.alignment import Asked
from relay.mail.address import Address
from relay.mail.header import Header
from relay.mail.status import Reply
from relay.policy.alignment import WARNED, Alignment, Facts, Kind, is_aligned, judge
from relay.policy.dmarc import Dmarc, DmarcUnknown, NoDmarc
from relay.policy.routing import PREFIX, Routes
from relay.signing.authors import domains_of
from relay.submission import replies

MAX_PAIRS = 1000
MAX_UNDER_WAY = 50
AT_ONCE = 4
KEPT_SECONDS = 3600.0
KEPT_IN_DOUBT_SECONDS = 300.0  # and what is wrong too: somebody is about to mend it
WARN_AGAIN_SECONDS = 3600.0
PATIENCE_SECONDS = 10.0  # of a client whose message may be refused
_MOST_SIGNATURES = 10
_MOST_REMEDIES = 4
# RFC 6376 §3.5: a tag of a list, with white space anywhere around it.
_SIGNER = re.compile(rb"(?:\A|;)\s*d\s*=\s*([A-Za-z0-9._\-]{1,253})\s*(?:;|\Z)")

_Pair = tuple[str, str | None, bool]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What counts of one message. `recipients`: any of them may go over a smart host."""

    header: Header
    sender: Address | None
    recipients: tuple[Address, ...]
    login: str | None


@dataclass(slots=True)
class _Kept:
    """What is known of a pair, without the records, which may be large. Times: seconds of the monotonic clock."""

    domain: str
    envelope: str
    dmarc: Dmarc | NoDmarc | DmarcUnknown
    found: Alignment
    expires: float
    warn_after: float = float("-inf")


class AlignmentWatch:
    """For one relay. `find` asks DNS; `count` is told of each message; `monotonic` gives seconds.

    `refuse`: `refusal` is to be asked before a message is taken; otherwise `note` is told after it.
    """

    def __init__(
        self,
        find: Callable[[Asked], Awaitable[Facts]],
        routes: Routes,
        emit: Emit,
        count: Callable[[Kind], None],
        monotonic: Callable[[], float],
        *,
        refuse: bool,
    ) -> None:
        self.refuse = refuse
        self._find = find
        self._routes = routes
        self._emit = emit
        self._count = count
        self._monotonic = monotonic
        self._kept: OrderedDict[_Pair, _Kept] = OrderedDict()
        self._looks: dict[_Pair, asyncio.Task[_Kept | None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def note(self, message: Submitted) -> None:
        """A message was taken. Nothing is waited for."""
        asked = self._asked(message)
        if asked is None:
            self._count(Kind.UNKNOWN)
            return
        kept = self._fresh(asked)
        if kept is not None:
            self._tell(kept, message)
            return
        look = self._look(asked)
        if look is None:
            self._count(Kind.UNKNOWN)
        else:
            # The header is held no longer than needed: what counts of it is small.
            look.add_done_callback(partial(self._looked, signers(message.header), message.login))

    async def refusal(self, message: Submitted) -> Reply | None:
        """Why a message is refused: it is certain that it will not pass, and that receivers are asked to mind."""
        asked = self._asked(message)
        kept = None if asked is None else self._fresh(asked)
        if kept is None and asked is not None:
            look = self._look(asked)
            if look is not None:
                await asyncio.wait([look], timeout=PATIENCE_SECONDS)
                kept = look.result() if look.done() and not look.cancelled() else None
        if kept is None:
            self._count(Kind.UNKNOWN)
            return None
        kind = self._tell(kept, message)
        if kind is not Kind.FAILS or not kept.found.certain_loss or not isinstance(kept.dmarc, Dmarc):
            return None
        return replies.would_fail_dmarc(kept.domain, kept.dmarc.request.value, kept.found.reason)

    async def close(self) -> None:
        """Give up all lookups that run."""
        running = tuple(self._looks.values())
        for look in running:
            look.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _asked(self, message: Submitted) -> Asked | None:
        """None: there is no one domain in From."""
        values = message.header.values(b"from")
        domain = author_domain(values[0]) if len(values) == 1 else None
        return None if domain is None else Asked(domain, message.sender, self._over_a_smart_host(message))

    def _over_a_smart_host(self, message: Submitted) -> bool:
        if not self._routes.hops:
            return False
        sender, login = message.sender, message.login
        return all(self._routes.destination(sender, login, one).startswith(PREFIX) for one in message.recipients)

    def _fresh(self, asked: Asked) -> _Kept | None:
        pair = _pair(asked)
        kept = self._kept.get(pair)
        if kept is None or kept.expires <= self._monotonic():
            return None
        self._kept.move_to_end(pair)
        return kept

    def _look(self, asked: Asked) -> asyncio.Task[_Kept | None] | None:
        """The lookup that runs for this pair; None: too many run."""
        pair = _pair(asked)
        look = self._looks.get(pair)
        if look is None:
            if len(self._looks) >= MAX_UNDER_WAY:
                return None
            look = asyncio.get_running_loop().create_task(self._find_out(asked))
            self._looks[pair] = look
            look.add_done_callback(lambda _: self._looks.pop(pair))
        return look

    async def _find_out(self, asked: Asked) -> _Kept | None:
        try:
            async with self._turns:
                facts = await self._find(asked)
            found = judge(facts)
        except Exception as error:  # noqa: BLE001  it is ours, and no message waits for it
            self._emit(DefectFound("alignment", repr(error)))
            return None
        pair, now = _pair(asked), self._monotonic()
        good = found.kind in (Kind.PASSES, Kind.NO_POLICY)
        kept = _kept(facts, found, now + (KEPT_SECONDS if good else KEPT_IN_DOUBT_SECONDS))
        before = self._kept.pop(pair, None)
        if before is not None:
            kept.warn_after = before.warn_after
        self._kept[pair] = kept
        if len(self._kept) > MAX_PAIRS:
            self._kept.popitem(last=False)
        return kept

    def _looked(self, signed_by: tuple[str, ...], login: str | None, look: asyncio.Task[_Kept | None]) -> None:
        kept = None if look.cancelled() else look.result()
        if kept is None:
            self._count(Kind.UNKNOWN)
        else:
            self._tell_of(kept, signed_by, login)

    def _tell(self, kept: _Kept, message: Submitted) -> Kind:
        doubtful = kept.found.kind is not Kind.PASSES  # else nobody cares who signed it
        return self._tell_of(kept, signers(message.header) if doubtful else (), message.login)

    def _tell_of(self, kept: _Kept, signed_by: tuple[str, ...], login: str | None) -> Kind:
        """Count a message, and warn if it is time to. Returns what becomes of it."""
        found = kept.found
        kind = found.kind
        if kind is not Kind.PASSES and _signed(kept, signed_by):
            kind = Kind.SIGNED_BY_SENDER
        self._count(kind)
        if kind in WARNED and self._monotonic() >= kept.warn_after:
            kept.warn_after = self._monotonic() + WARN_AGAIN_SECONDS
            self._emit(
                AlignmentWarning(
                    from_domain=kept.domain,
                    sender_domain=kept.envelope,
                    verdict=kind.value,
                    policy=kept.dmarc.request.value if isinstance(kept.dmarc, Dmarc) else None,
                    reason=found.reason,
                    remedy="; or ".join(found.remedies),
                    login=login,
                )
            )
        return kind


def signers(header: Header) -> tuple[str, ...]:
    """The domains whose signatures a message came with; whether these hold is for receivers to find out."""
    found = (_SIGNER.search(value) for value in header.values(b"dkim-signature")[:_MOST_SIGNATURES])
    return tuple(match[1].decode().lower().removesuffix(".") for match in found if match is not None)


def author_domain(value: bytes) -> str | None:
    """The one domain that a From field names; None when there is none, or several: those DMARC leaves alone.

    RFC 9989 section 5.3.1.
    """
    domains = domains_of(value)
    domain = domains[0] if isinstance(domains, tuple) and len(domains) == 1 else ""
    return None if not domain or domain.startswith("[") else domain


def _kept(facts: Facts, found: Alignment, expires: float) -> _Kept:
    dmarc = facts.dmarc
    if isinstance(dmarc, Dmarc):
        dmarc = replace(dmarc, record=replace(dmarc.record, text=""))
    words = replace(
        found,
        reason=replies.printable(found.reason),
        remedies=tuple([replies.printable(remedy) for remedy in found.remedies[:_MOST_REMEDIES]]),
    )
    return _Kept(facts.domain, facts.envelope, dmarc, words, expires)


def _signed(kept: _Kept, signed_by: tuple[str, ...]) -> bool:
    dmarc = kept.dmarc
    if isinstance(dmarc, DmarcUnknown):
        return kept.domain in signed_by
    return any(is_aligned(dmarc, domain) for domain in signed_by)


def _pair(asked: Asked) -> _Pair:
    return asked.domain, None if asked.sender is None else asked.sender.domain, asked.smart_host
