"""What tells other domains of TLS with them, built from the settings: counts, their store, and the sending of reports.

`app` runs it. Without `tlsrpt.organization` nothing is counted, and there is no file.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from relay.delivery.tools import Count
from relay.events import DefectFound, Emit, TlsReportsFailed, TlsReportsUnsigned
from relay.guard import AddressGuard
from relay.lookup.resolver import Resolver
from relay.mail.message import MessageId, NewMessage
from relay.policy.tls_report import Tally
from relay.queue.store import Earlier
from relay.settings import Settings
from relay.tls import https_context_unverified
from relay.tlsrpt.counts import Counts
from relay.tlsrpt.letter import Submitter
from relay.tlsrpt.outgoing import Desk, Outgoing
from relay.tlsrpt.post import Poster
from relay.tlsrpt.report import Reporter
from relay.tlsrpt.schedule import Schedule
from relay.tlsrpt.sender import ReportSender, Tools
from relay.tlsrpt.store import ReportStore, ReportStoreError

_EVERY_SECONDS = 2.0  # a look at the store, which costs nothing where nothing is due
_REST_SECONDS = 60.0  # after the store could not be used


def reporter(settings: Settings) -> Reporter | None:
    """Who reports; None: nobody does."""
    given = settings.tlsrpt
    if given.report_domain is None or given.contact is None:
        return None
    return Reporter(given.organization, str(given.contact), given.report_domain)


def mailer(settings: Settings) -> Submitter | None:
    """Who sends reports by mail; None: nobody does, or no [[dkim_key]] signs for its domain (RFC 8460 section 3)."""
    given, us = settings.tlsrpt, reporter(settings)
    sender = given.sender or given.contact
    if us is None or sender is None or settings.unsigned_reports is not None:
        return None
    return Submitter(sender, us.organization, us.contact)


@dataclass(frozen=True, slots=True)
class Ways:
    """What reports need to go out. `web`: for HTTPS; `put` and `earlier`: see `relay.tlsrpt.outgoing.Desk`."""

    resolver: Resolver
    guard: AddressGuard
    web: ssl.SSLContext
    hostname: str
    new_id: Callable[[], MessageId]
    put: Callable[[Collection[NewMessage]], Awaitable[None]]
    earlier: Callable[[str, str], Awaitable[Earlier | None]]


class Reporting:
    """Of one running Relay. `show` is told of each session that is counted, for the metrics."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        clock: Callable[[], datetime],
        emit: Emit,
        show: Callable[[Tally], None],
    ) -> None:
        self._clock = clock
        self._emit = emit
        self._store = ReportStore(folder, lambda reason: emit(TlsReportsFailed(reason)))
        self._counts = Counts(self._store, emit, show)
        self._is_on = bool(settings.tlsrpt.organization)
        self._settings = settings

    @property
    def count(self) -> Count | None:
        """What delivery tells of its sessions; None: nobody wants to know."""
        return self._count if self._is_on else None

    def _count(self, tallies: Sequence[Tally]) -> None:
        self._counts.add(tallies, self._clock())

    async def open(self) -> None:
        """Open the file in the folder, which must be there. One that cannot be used is told of, and tried again."""
        if self._is_on:
            try:
                await self._store.open()
            except ReportStoreError as error:
                self._emit(TlsReportsFailed(str(error)))

    async def close(self) -> None:
        """Write down what is in memory alone."""
        if self._is_on:
            await self._counts.write()
            await self._store.close()

    async def tidy(self) -> None:
        """Forget what is too old. To be called again and again."""
        if self._is_on:
            with suppress(ReportStoreError):  # whoever counts tells of it
                await self._store.tidy(self._clock())

    async def send(self, ways: Ways) -> None:
        """Tell domains of days that have ended, and of what is asked for, for ever. Returns where reports are off."""
        us, by_mail = reporter(self._settings), mailer(self._settings)
        if us is None:
            return
        if by_mail is None:
            self._emit(TlsReportsUnsigned(us.domain))
        sender, outgoing = self._sender(ways, us), self._outgoing(ways, us, by_mail)
        async with asyncio.TaskGroup() as group:
            for work in (sender.tell_due, sender.tell_asked, outgoing.send_due):
                group.create_task(self._again(work))

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        works = True
        while True:
            try:
                await work()
                works = True
            except ReportStoreError as error:
                if works:  # once is enough
                    self._emit(TlsReportsFailed(f"{error}; reports wait until it can"))
                works = False
            except Exception as error:  # noqa: BLE001  reported, and mail goes on: it needs no reports
                self._emit(DefectFound("TLS reports", repr(error)))
                works = False
            await asyncio.sleep(_EVERY_SECONDS if works else _REST_SECONDS)

    def _sender(self, ways: Ways, us: Reporter) -> ReportSender:
        return ReportSender(
            Tools(
                store=self._store,
                resolver=ways.resolver,
                reporter=us,
                schedule=Schedule(self._settings.tlsrpt.spread, us.domain),
                unique=lambda: str(ways.new_id()),
                clock=self._clock,
                emit=self._emit,
                flush=self._counts.write,
            )
        )

    def _outgoing(self, ways: Ways, us: Reporter, by_mail: Submitter | None) -> Outgoing:
        poster = Poster(ways.resolver, ways.guard, ways.web, https_context_unverified())
        return Outgoing(
            Desk(
                store=self._store,
                put=ways.put,
                earlier=ways.earlier,
                post=poster.post,
                reporter=us,
                mailer=by_mail,
                hostname=ways.hostname,
                new_id=ways.new_id,
                clock=self._clock,
                emit=self._emit,
            )
        )
