"""TLS reports: the section [tlsrpt] of the settings file. RFC 8460."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from relay.setting_types import Duration, OptionalMailbox, Section


class TlsrptSettings(Section):
    """What domains are told of TLS with them, once a day."""

    organization: str = Field(
        default="", description="who reports, such as Example Inc.; empty: nothing is counted and nobody is told"
    )
    contact: OptionalMailbox = Field(default=None, description="whom receivers of reports may ask; needed for reports")
    sender: OptionalMailbox = Field(
        default=None, description="who sends reports by mail, in a domain with a `[[dkim_key]]`; empty: `contact`"
    )
    spread: Duration = Field(
        default=timedelta(hours=4), description="reports of a day go out in the course of this time after its end (UTC)"
    )

    @property
    def report_domain(self) -> str | None:
        """The domain that sends reports by mail, and signs them; None: there are no reports."""
        sender = self.sender or self.contact
        return sender.domain if self.organization and sender is not None else None
