"""TLS reports: the section [tlsrpt] of the settings file. RFC 8460."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from relay.setting_types import Duration, OptionalMailbox, Section, Written

LONGEST_NAME = 100
MOST_SPREAD = timedelta(days=1)  # more would run into what is too late to be told


def _name(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of text")
    if len(value.strip()) > LONGEST_NAME:
        raise ValueError(f"must have at most {LONGEST_NAME} characters")
    return value.strip()


def _spread(value: timedelta) -> timedelta:
    if value > MOST_SPREAD:
        raise ValueError("must be at most 1d: the next day's reports are due by then")
    return value


OptionalName = Annotated[str, AfterValidator(_name), Written("text")]


class TlsrptSettings(Section):
    """What domains are told of TLS with them, once a day."""

    organization: OptionalName = Field(
        default="", description="who reports, such as Example Inc.; empty: nothing is counted and nobody is told"
    )
    contact: OptionalMailbox = Field(default=None, description="whom receivers of reports may ask; needed for reports")
    sender: OptionalMailbox = Field(
        default=None, description="who sends reports by mail, in a domain with a `[[dkim_key]]`; empty: `contact`"
    )
    spread: Annotated[Duration, AfterValidator(_spread)] = Field(
        default=timedelta(hours=4),
        description="reports of a day go out in the course of this time after its end (UTC); at most 1d",
    )

    @property
    def report_domain(self) -> str | None:
        """The domain that sends reports by mail, and signs them; None: there are no reports."""
        sender = self.sender or self.contact
        return sender.domain if self.organization and sender is not None else None
