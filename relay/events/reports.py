"""What happens with TLS reports of ours. RFC 8460."""

from __future__ import annotations

from dataclasses import dataclass

from relay.events.event import Event


@dataclass(frozen=True, slots=True)
class TlsReportSent(Event):
    """A TLS report went out: by `https`, or as `mail` into the queue. `detail`: what was odd about it."""

    name = "tls-report-sent"
    domain: str
    day: str
    report: str
    transport: str
    to: str
    detail: str


@dataclass(frozen=True, slots=True)
class TlsReportGivenUp(Event):
    """A domain, or one of the places it names, is not told of a day. `report`: none was made, if there is none."""

    name = "tls-report-given-up"
    level = "warning"
    domain: str
    day: str
    report: str | None
    transport: str
    to: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class TlsReportsUnwanted(Event):
    """So many domains were looked up that want no TLS reports; what was counted of them is forgotten."""

    name = "tls-reports-unwanted"
    domains: int


@dataclass(frozen=True, slots=True)
class TlsReportsUnsigned(Event):
    """No [[dkim_key]] signs for the domain that reports come from: they go by HTTPS alone."""

    name = "tls-reports-unsigned"
    level = "warning"
    domain: str


@dataclass(frozen=True, slots=True)
class TlsReportsFailed(Event):
    """The file of TLS reports is damaged, or cannot be read or written, or what it has room for was counted."""

    name = "tls-reports-failed"
    level = "error"
    reason: str
