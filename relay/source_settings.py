"""One table [[source]] of the settings file: from which addresses the mail of some senders goes out."""

from __future__ import annotations

from pydantic import Field, model_validator

from relay.override_settings import DomainPattern
from relay.policy.source import Source
from relay.setting_types import Ipv4, Ipv6, OwnName, Section


class SourceSettings(Section):
    """Addresses to send from for the mail of some senders; any number of these tables."""

    sender_domains: tuple[DomainPattern, ...] = Field(
        min_length=1, description="domains of envelope senders; `.example.org` is everything below example.org"
    )
    ipv4: Ipv4 = Field(default="", description="address to send from over IPv4; empty: the system chooses")
    ipv6: Ipv6 = Field(default="", description="address to send from over IPv6; empty: the system chooses")
    hostname: OwnName = Field(
        default="", description="our name in EHLO for this mail; empty: `hostname` as for all other mail"
    )

    @model_validator(mode="after")
    def _says_something(self) -> SourceSettings:
        if not self.model_fields_set & {"ipv4", "ipv6", "hostname"}:
            raise ValueError("needs ipv4, ipv6 or hostname")
        return self

    def value(self, hostname: str) -> Source:
        """The source as a delivery takes it. `hostname`: our name for all other mail."""
        return Source(self.ipv4, self.ipv6, self.hostname or hostname, self.sender_domains)
