"""The settings of [retry]: for each cause when to try again and when to give up. Values only."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from relay.mail.outcome import Cause
from relay.policy.retry import OnUnknown, Schedule, Schedules
from relay.setting_types import Duration, OptionalDuration, Section

_MINUTE = timedelta(minutes=1)
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


def _one_or_many(value: object) -> object:
    """A single duration is a list of one; the empty text is none."""
    if value in ("", None):
        return ()
    return (value,) if isinstance(value, str) else value


def _waits(why: str, *waits: timedelta) -> Any:
    return Field(default=waits, description=f"{why}: waits between attempts; empty: retry.schedule")


def _life(why: str, life: timedelta | None = None) -> Any:
    return Field(default=life, description=f"{why}: age at which mail is given up; empty: retry.expire")


class RetrySettings(Section):
    """When to try again, and when to give up: in general, and by what keeps the mail."""

    schedule: tuple[Duration, ...] = Field(
        default=(5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR),
        min_length=1,
        description="waits between attempts; the last one repeats",
    )
    expire: Duration = Field(
        default=5 * _DAY, description="age at which the sender is told that it failed; no mail is kept longer"
    )
    delay_notice: Annotated[tuple[Duration, ...], BeforeValidator(_one_or_many)] = Field(
        default=(4 * _HOUR,), description="ages at which the sender is told that it is late; empty: never"
    )
    expire_held: bool = Field(
        default=True,
        strict=True,
        description="mail on hold is given up at its age too; false: it waits for you for ever",
    )
    unknown: OnUnknown = Field(
        default=OnUnknown.RETRY,
        description="what is done when the reply to the whole message was lost, and it may have arrived: "
        "retry (it may come twice), hold (you decide), fail (the sender is told, and decides)",
    )

    greylisting_schedule: tuple[Duration, ...] = _waits(
        "greylisted", 5 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR
    )
    greylisting_expire: OptionalDuration = _life("greylisted")
    throttling_schedule: tuple[Duration, ...] = _waits(
        "too much for the host", 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 40 * _MINUTE, _HOUR, 2 * _HOUR
    )
    throttling_expire: OptionalDuration = _life("too much for the host")
    outage_schedule: tuple[Duration, ...] = _waits(
        "no host works",
        *(5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 30 * _MINUTE, _HOUR, _HOUR, 2 * _HOUR, 4 * _HOUR),
    )
    outage_expire: OptionalDuration = _life("no host works")
    dns_schedule: tuple[Duration, ...] = _waits(
        "DNS has no answer", _MINUTE, 5 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR
    )
    dns_expire: OptionalDuration = _life("DNS has no answer")
    tls_policy_schedule: tuple[Duration, ...] = _waits(
        "the required TLS is not there", 15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR
    )
    tls_policy_expire: OptionalDuration = _life("the required TLS is not there", 2 * _DAY)
    reputation_schedule: tuple[Duration, ...] = _waits("taken for spam", 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR)
    reputation_expire: OptionalDuration = _life("taken for spam", 2 * _DAY)
    mailbox_full_schedule: tuple[Duration, ...] = _waits("the mailbox is full", _HOUR, 2 * _HOUR, 4 * _HOUR)
    mailbox_full_expire: OptionalDuration = _life("the mailbox is full", 3 * _DAY)
    login_schedule: tuple[Duration, ...] = _waits(
        "the login is refused", 5 * _MINUTE, 10 * _MINUTE, 15 * _MINUTE, 30 * _MINUTE
    )
    login_expire: OptionalDuration = _life("the login is refused")
    local_schedule: tuple[Duration, ...] = _waits(
        "this machine is short of something", _MINUTE, 2 * _MINUTE, 5 * _MINUTE
    )
    local_expire: OptionalDuration = _life("this machine is short of something")
    unknown_schedule: tuple[Duration, ...] = _waits("it may have arrived", 15 * _MINUTE, _HOUR, 4 * _HOUR)
    unknown_expire: OptionalDuration = _life("it may have arrived")

    @property
    def schedules(self) -> Schedules:
        """The settings as the decision takes them."""
        return Schedules(
            Schedule(self.schedule, self.expire),
            {cause: self._of(cause) for cause in Cause if cause is not Cause.OTHER},
            tuple(sorted(self.delay_notice)),
            self.unknown,
            self.expire_held,
        )

    def _of(self, cause: Cause) -> Schedule:
        """What is set for a cause, and the general value where that is empty."""
        name = cause.value.replace("-", "_")
        delays, expire = getattr(self, f"{name}_schedule"), getattr(self, f"{name}_expire")
        return Schedule(
            delays or self.schedule,
            expire or self.expire,
            f"retry.{name}_schedule" if delays else "retry.schedule",
            f"retry.{name}_expire" if expire else "retry.expire",
        )
