"""Sends the reports of the outbox to each place that a domain has named: into the queue as mail, or by HTTPS.

Each place has a state of its own, on disk before and after every attempt. A report that is in the queue already is
not put there again, whatever crashed in between; by HTTPS one may arrive twice, with the same report-id.
RFC 8460 sections 3, 5.3, 5.4 and 5.5.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from relay.events import Emit, TlsReportGivenUp, TlsReportSent
from relay.mail.message import MessageId, NewMessage, Once
from relay.policy.tlsrpt_record import HttpsTo, MailTo, parse_rua
from relay.queue.store import Earlier, StoreUnavailable
from relay.tlsrpt.letter import Counts, Enclosed, Postmark, Submitter, letter
from relay.tlsrpt.outbox import Due, GivenUp, Later, Outcome, Sent
from relay.tlsrpt.post import NotPosted, Posted
from relay.tlsrpt.report import Reporter, file_name
from relay.tlsrpt.schedule import again
from relay.tlsrpt.store import ReportStore

AT_ONCE = 8  # deliveries
LEASE = timedelta(minutes=10)  # more than the longest attempt takes
_OWNER = "tlsrpt"  # of keys in the queue; those of the API's callers have a colon in them


@dataclass(frozen=True, slots=True)
class Desk:
    """What it takes to send reports. `mailer` None: mail could not be signed, so none goes (RFC 8460 section 3).

    `put` stores messages in the queue, on disk on return, and `earlier` tells what came with a key before; both raise
    StoreUnavailable.
    """

    store: ReportStore
    put: Callable[[Collection[NewMessage]], Awaitable[None]]
    earlier: Callable[[str, str], Awaitable[Earlier | None]]
    post: Callable[[HttpsTo, bytes], Awaitable[Posted | NotPosted]]
    reporter: Reporter
    mailer: Submitter | None
    hostname: str
    new_id: Callable[[], MessageId]
    clock: Callable[[], datetime]
    emit: Emit


class Outgoing:
    """The outbox's way out."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def send_due(self) -> None:
        """Send what is due, some at a time, until nothing is. Raises ReportStoreError, and may be called again then."""
        due = await self._desk.store.next_due()
        if due is None or due > self._desk.clock():
            return  # as nearly always
        ends = await asyncio.gather(*(self._send_in_turn() for _ in range(AT_ONCE)), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end

    async def _send_in_turn(self) -> None:
        """One after the other, so that a host that does not answer is waited for by nobody but its own turn."""
        desk = self._desk
        while claimed := await desk.store.claim(desk.clock(), LEASE, 1):
            await self._send(claimed[0])

    async def _send(self, due: Due) -> None:
        desk = self._desk
        place = parse_rua(due.uri)
        match place:
            case MailTo():
                transport, outcome = "mail", await self._mail(due, place)
            case HttpsTo():
                transport, outcome = "https", await self._post(due, place)
            case _:
                transport, outcome = "none", GivenUp(place)
        if await desk.store.settle(due, outcome, desk.clock()):
            self._tell(due, transport, outcome)

    def _tell(self, due: Due, transport: str, outcome: Outcome) -> None:
        about = (due.domain, due.day.isoformat(), due.id, transport, due.uri)
        match outcome:
            case Sent():
                self._desk.emit(TlsReportSent(*about, outcome.words))
            case GivenUp():
                self._desk.emit(TlsReportGivenUp(*about, outcome.words))
            case Later():
                pass

    async def _mail(self, due: Due, place: MailTo) -> Outcome:
        desk = self._desk
        if desk.mailer is None:
            return GivenUp(f"mail from {desk.reporter.domain} cannot be signed: no [[dkim_key]] is for it")
        key = f"{due.id} {due.uri}"
        try:
            earlier = await desk.earlier(_OWNER, key)
            if earlier is not None:
                return Sent(f"queued as {earlier.id}")
            postmark = Postmark(desk.new_id(), desk.clock(), desk.hostname, Once(_OWNER, key, b""))
            await desk.put((letter(_enclosed(due, desk.reporter), desk.mailer, place.address, postmark),))
        except StoreUnavailable as error:
            return self._later(due, f"the queue cannot take it: {error}")
        return Sent(f"queued as {postmark.id}")

    async def _post(self, due: Due, place: HttpsTo) -> Outcome:
        result = await self._desk.post(place, due.octets)
        if isinstance(result, NotPosted):
            return self._later(due, result.reason)
        odd = "" if result.certificate_fault is None else f", though {result.certificate_fault}"
        return Sent(f"{place.host} answered {result.status}{odd}")

    def _later(self, due: Due, why: str) -> Outcome:
        until = again(due.made, due.attempts, self._desk.clock())
        return GivenUp(why) if until is None else Later(until, why)


def _enclosed(due: Due, reporter: Reporter) -> Enclosed:
    """The report as its letter speaks of it; what it counts is read from its own text, which is all that is kept."""
    return Enclosed(
        id=due.id,
        domain=due.domain,
        day=due.day,
        counts=tuple(map(_counts, json.loads(gzip.decompress(due.octets))["policies"])),
        file_name=file_name(due.id, due.day, due.domain, reporter),
        octets=due.octets,
    )


def _counts(one: dict[str, Any]) -> Counts:
    policy, summary = one["policy"], one["summary"]
    return Counts(
        policy["policy-type"],
        policy["policy-domain"],
        summary["total-successful-session-count"],
        summary["total-failure-session-count"],
    )
