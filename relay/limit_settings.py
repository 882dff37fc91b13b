"""One table [[destination]] of the settings file: how much some destinations are given, and how fast."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from relay.override_settings import domain_pattern
from relay.policy.limits import LimitEntry
from relay.policy.routing import ANY, PREFIX
from relay.setting_types import OptionalCount, Section, Written, route_name


def _destination(value: object) -> str:
    if value == ANY:
        return ANY
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return domain_pattern(value)
    return PREFIX + route_name(value.removeprefix(PREFIX))


Destination = Annotated[str, BeforeValidator(_destination), Written("destination")]


class DestinationSettings(Section):
    """Limits for some destinations; any number of these tables."""

    destinations: tuple[Destination, ...] = Field(
        description="recipient domains; `.example.org` is everything below example.org; `route:NAME` is all mail that "
        "goes by that route; `*` is every destination",
    )
    at_once: OptionalCount = Field(
        default=None, description="most deliveries at once; empty: delivery.concurrency_per_destination"
    )
    messages_per_minute: OptionalCount = Field(
        default=None, description="most messages begun in a minute; empty: as many as there are"
    )
    recipients_per_message: OptionalCount = Field(
        default=None, description="most recipients in one transaction; empty: as many as the host takes"
    )

    @model_validator(mode="after")
    def _limits_something(self) -> DestinationSettings:
        if not self.destinations:
            raise ValueError("needs destinations: whom it is for")
        if self.at_once is self.messages_per_minute is self.recipients_per_message is None:
            raise ValueError("needs at_once, messages_per_minute or recipients_per_message: what is limited")
        return self

    def value(self) -> LimitEntry:
        """The limits as they are looked up."""
        return LimitEntry(
            destinations=self.destinations,
            at_once=self.at_once,
            per_minute=self.messages_per_minute,
            recipients=self.recipients_per_message,
        )
