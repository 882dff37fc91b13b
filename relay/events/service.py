"""What happens to the service itself: its files, its queue, and what operators do."""

from __future__ import annotations

from dataclasses import dataclass

from relay.events.event import Event


@dataclass(frozen=True, slots=True)
class ServiceStarted(Event):
    """The service takes and delivers mail from now on."""

    name = "service-started"
    version: str
    hostname: str
    queue: str


@dataclass(frozen=True, slots=True)
class ServiceStopped(Event):
    """The service has put everything away and ends."""

    name = "service-stopped"


@dataclass(frozen=True, slots=True)
class OpenRelay(Event):
    """Whoever is in `network` can send to anyone, says `setting`: this is an open relay, and will be listed as one."""

    name = "open-relay"
    level = "error"
    setting: str
    network: str


@dataclass(frozen=True, slots=True)
class FewFiles(Event):
    """The system allows fewer open files than the settings ask for; above that, clients and deliveries must wait."""

    name = "few-files"
    level = "warning"
    allowed: int
    wanted: int


@dataclass(frozen=True, slots=True)
class CertificateRenewed(Event):
    """The files of the certificate have changed; clients are shown the new one from now on."""

    name = "certificate-renewed"


@dataclass(frozen=True, slots=True)
class CertificateRefused(Event):
    """The files of the certificate have changed and cannot be used; the old one stays in force."""

    name = "certificate-refused"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class FileRefused(Event):
    """A file of users, tokens or a DKIM key has changed and cannot be used; what it said before stays in force."""

    name = "file-refused"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class ListenerStarted(Event):
    """Mail is taken at this address. `tls`: starttls, required, implicit or none."""

    name = "listener-started"
    listener: str
    address: str
    tls: str


@dataclass(frozen=True, slots=True)
class AdminStarted(Event):
    """Health and metrics are answered at this address."""

    name = "admin-started"
    address: str


@dataclass(frozen=True, slots=True)
class DnssecTrust(Event):
    """Whether the resolver's word on DNSSEC is believed, and why; without it DANE is off."""

    name = "dnssec-trust"
    trusted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class QueueAction(Event):
    """An operator has acted on the queue through the API. `who`: the token's name. `recipients`: that were changed."""

    name = "queue-action"
    who: str
    action: str
    filter: str
    recipients: int
    under_way: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class AdminRefused(Event):
    """Somebody asked the API without a token that is known, or for more than the token is good for."""

    name = "admin-refused"
    level = "warning"
    client: str
    request: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The queue could not be written or read; nothing was lost, and it is tried again."""

    name = "store-failed"
    level = "error"
    reason: str


@dataclass(frozen=True, slots=True)
class DefectFound(Event):
    """A programming error was met; the message concerned stays in the queue. Please report it."""

    name = "defect-found"
    level = "error"
    where: str
    error: str
