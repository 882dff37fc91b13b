"""What tells other domains of TLS with them, built from the settings: counts, and the store that keeps them.

`app` runs it. Without `tlsrpt.organization` nothing is counted, and there is no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from relay.delivery.tools import Count
from relay.events import Emit, TlsReportsFailed
from relay.policy.tls_report import Tally
from relay.settings import Settings
from relay.tlsrpt.counts import Counts
from relay.tlsrpt.report import Reporter
from relay.tlsrpt.store import ReportStore, ReportStoreError


def reporter(settings: Settings) -> Reporter | None:
    """Who reports; None: nobody does."""
    given = settings.tlsrpt
    if not given.organization or given.contact is None:
        return None
    return Reporter(given.organization, str(given.contact), (given.sender or given.contact).domain)


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
            await self._counts.close()
            await self._store.close()

    async def tidy(self) -> None:
        """Forget what is too old. To be called again and again."""
        if self._is_on:
            with suppress(ReportStoreError):  # whoever counts tells of it
                await self._store.tidy(self._clock())
