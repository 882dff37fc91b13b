"""Every setting there is: its name, type, default and one line of documentation. Values only; `config` loads them.

A new setting is a field here, with a `description`; `relay config example` follows from it, and a test asks for its row
in docs/config.md. Nothing here reads a file or asks whether one exists.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

from pydantic import Field

from relay.client_settings import ClientSettings
from relay.limit_settings import DestinationSettings
from relay.mail.duration import format_duration
from relay.override_settings import OverrideSettings
from relay.policy.clients import ANY, EVERY_USER, TRUSTED_NETWORKS, Clients, Grant
from relay.policy.exposure import is_the_world, open_to_the_world
from relay.policy.limits import DestinationLimits
from relay.policy.memory import MemoryRules, OnTlsLoss
from relay.policy.override import Overrides
from relay.policy.routing import Routes
from relay.policy.source import Source, Sources
from relay.retry_settings import RetrySettings
from relay.route_settings import RouteSettings, place
from relay.setting_types import (
    COUNT_LIMIT,
    Duration,
    Fallback,
    HostName,
    HostPort,
    Ipv4,
    Ipv6,
    Listen,
    Nameserver,
    NextHop,
    OptionalMailbox,
    OptionalPath,
    OwnName,
    Port,
    PublicAddress,
    Section,
    Written,
    format_size,
)
from relay.signing_settings import AlignmentSettings, DkimKeySettings, DkimSettings, signs_for
from relay.source_settings import SourceSettings
from relay.submission_settings import (
    ListenerSettings,
    ListenerTls,
    LoginSettings,
    LongLines,
    SendmailSettings,
    SubmissionSettings,
)
from relay.tlsrpt_settings import TlsrptSettings

__all__ = [
    "AdminSettings",
    "AlignmentSettings",
    "ClientSettings",
    "DeliverySettings",
    "DestinationSettings",
    "DkimKeySettings",
    "DkimSettings",
    "DnsSettings",
    "HostPort",
    "ListenerSettings",
    "ListenerTls",
    "LoginSettings",
    "LongLines",
    "MtaStsSettings",
    "NoticeSettings",
    "OverrideSettings",
    "QueueSettings",
    "RetrySettings",
    "RouteSettings",
    "Section",
    "SendmailSettings",
    "Settings",
    "SourceSettings",
    "SubmissionSettings",
    "TlsSettings",
    "TlsrptSettings",
    "TrustAd",
    "Written",
    "format_duration",
    "format_size",
]


class TrustAd(Enum):
    """Whether the resolver's word on DNSSEC is believed."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


SHORT_NAME, SHORT_TLS_NAME = "submission", "submission-tls"  # what the listeners of [submission] are called
API_LISTENER = "api"  # where mail comes in that POST /v1/messages takes


class QueueSettings(Section):
    """Where mail rests, and for how long it is remembered."""

    path: OptionalPath = Field(
        default=None,
        description="the one writable folder; empty: $RELAY_STATE, else relay in $XDG_STATE_HOME or ~/.local/state",
    )
    history: Duration = Field(default=timedelta(days=7), description="how long delivered and failed mail is remembered")


class DnsSettings(Section):
    """Whom to ask, and whether to believe its word on DNSSEC."""

    nameservers: tuple[Nameserver, ...] = Field(
        default=(), description="address[:port] of resolvers; empty: the system's"
    )
    trust_ad: TrustAd = Field(
        default=TrustAd.AUTO,
        description="believe the AD bit: auto (named or loopback resolvers that pass the self-test), yes, no",
    )
    self_test_signed: HostName = Field(default="iana.org", description="a signed name: the resolver must say AD for it")
    self_test_bogus: HostName = Field(
        default="dnssec-failed.org", description="a wrongly signed name: it must be refused"
    )
    timeout: Duration = Field(
        default=timedelta(seconds=10), description="how long one question may take, retries included"
    )


class TlsSettings(Section):
    """Authorities for policy hosts and for MX hosts whose policy asks for them."""

    ca_file: OptionalPath = Field(default=None, description="PEM file of authorities trusted beside the system's")


class DeliverySettings(Section):
    """Mail out."""

    port: Port = Field(default=25, description="port of MX hosts")
    next_hop: NextHop = Field(
        default=None, description="host:port that takes all mail that no `[[route]]` takes; empty: none"
    )
    fallback: Fallback = Field(
        default=None, description="host:port or a route for mail that can't be delivered directly; empty: none"
    )
    fallback_after: int = Field(
        default=3, ge=1, le=1000, strict=True, description="attempts after which such mail goes to the fallback"
    )
    allow_private_addresses: bool = Field(
        default=False, strict=True, description="connect to MX and policy hosts on loopback or private networks"
    )
    source_ipv4: Ipv4 = Field(default="", description="address to send from over IPv4; empty: the system chooses")
    source_ipv6: Ipv6 = Field(default="", description="address to send from over IPv6; empty: the system chooses")
    public_addresses: tuple[PublicAddress, ...] = Field(
        default=(),
        description="addresses that other hosts see us with, where they are not our own (NAT, containers); "
        "empty: those that we send from",
    )
    dane_insecure_mx: bool = Field(
        default=True, strict=True, description="keep to the TLSA records of a signed host that an unsigned MX names"
    )
    concurrency: int = Field(default=200, ge=1, le=COUNT_LIMIT, strict=True, description="most deliveries at once")
    concurrency_per_destination: int = Field(
        default=20, ge=1, le=COUNT_LIMIT, strict=True, description="most deliveries at once to one destination"
    )


class MtaStsSettings(Section):
    """MTA-STS policies."""

    port: Port = Field(default=443, description="port of policy hosts")


class TlsMemorySettings(Section):
    """Hosts that had TLS and have none now, where no policy demands it."""

    on_loss: OnTlsLoss = Field(
        default=OnTlsLoss.WARN,
        description="what is done then: off (nothing), warn (in the log), defer (mail waits, then goes with a warning)",
    )
    after: Duration = Field(
        default=timedelta(days=7), description="how long a host must have had TLS before its loss counts"
    )
    defer_for: Duration = Field(
        default=timedelta(days=1), description="how long mail waits for TLS to come back when on_loss is defer"
    )

    @property
    def rules(self) -> MemoryRules:
        """The settings as the decision takes them."""
        return MemoryRules(self.on_loss, self.after, self.defer_for)


class NoticeSettings(Section):
    """What is told of mail besides what its sender is told."""

    postmaster: OptionalMailbox = Field(
        default=None,
        description="who is told of a bounce that cannot be delivered, and gets mail to `<postmaster>`; "
        "empty: the log alone, and nobody",
    )


class AdminSettings(Section):
    """Health, metrics and the API, for your own machines."""

    listen: tuple[Listen, ...] = Field(
        default=(), description="where health, metrics and the API are answered, over plain HTTP; empty: nowhere"
    )
    tokens_file: OptionalPath = Field(
        default=None, description="file of the API's tokens, written by `relay admin token`; empty: no API"
    )


class Settings(Section):
    """All settings."""

    hostname: OwnName = Field(
        default="", description="our name in EHLO, Received and bounces; empty: the machine's full name"
    )
    submission: SubmissionSettings = SubmissionSettings()
    login: LoginSettings = LoginSettings()
    sendmail: SendmailSettings = SendmailSettings()
    queue: QueueSettings = QueueSettings()
    dns: DnsSettings = DnsSettings()
    tls: TlsSettings = TlsSettings()
    delivery: DeliverySettings = DeliverySettings()
    mta_sts: MtaStsSettings = MtaStsSettings()
    tls_memory: TlsMemorySettings = TlsMemorySettings()
    retry: RetrySettings = RetrySettings()
    notices: NoticeSettings = NoticeSettings()
    dkim: DkimSettings = DkimSettings()
    alignment: AlignmentSettings = AlignmentSettings()
    tlsrpt: TlsrptSettings = TlsrptSettings()
    admin: AdminSettings = AdminSettings()
    listener: tuple[ListenerSettings, ...] = Field(default=(), description="places to take mail, with their rules")
    client: tuple[ClientSettings, ...] = Field(default=(), description="who may send, as whom, to whom, how much")
    route: tuple[RouteSettings, ...] = Field(default=(), description="ways for some mail")
    destination: tuple[DestinationSettings, ...] = Field(default=(), description="limits for some destinations")
    override: tuple[OverrideSettings, ...] = Field(default=(), description="local rules on TLS for some destinations")
    source: tuple[SourceSettings, ...] = Field(default=(), description="addresses to send from, by sender domain")
    dkim_key: tuple[DkimKeySettings, ...] = Field(default=(), description="keys that sign mail, by From domain")

    def sources(self, hostname: str) -> Sources:
        """The addresses to send from as a delivery takes them. `hostname`: our name, which the setting may not have."""
        given = self.delivery
        default = Source(given.source_ipv4, given.source_ipv6, hostname)
        return Sources(default, (source.value(hostname) for source in self.source))

    @property
    def listeners(self) -> tuple[ListenerSettings, ...]:
        """All places where mail is taken: those of [submission], then the tables."""
        short = (
            (SHORT_NAME, self.submission.listen, ListenerTls.STARTTLS),
            (SHORT_TLS_NAME, self.submission.listen_tls, ListenerTls.IMPLICIT),
        )
        given = [ListenerSettings(name=name, listen=places, tls=tls) for name, places, tls in short if places]
        return (*given, *self.listener)

    @property
    def clients(self) -> Clients:
        """Who may do what: the tables, then trusted_networks, then, unless a table speaks of users, all of them."""
        grants = [table.value() for table in self.client]
        grants.append(Grant(TRUSTED_NETWORKS, networks=self.submission.trusted_networks))
        if not any(table.users for table in self.client):
            grants.append(Grant(EVERY_USER, users=(ANY,)))
        return Clients(grants)

    @property
    def exposures(self) -> tuple[tuple[str, str], ...]:
        """What makes it an open relay: the setting, and the network from where anybody can send to anyone."""
        tables = {table.name: f"[[client]] {table.name}" for table in self.client}
        found = [
            (tables.get(grant.name, "submission.trusted_networks"), str(network))
            for grant, network in open_to_the_world(self.clients.grants)
        ]
        for listener in self.listener:
            who = f"proxy_from of [[listener]] {listener.name}"  # it may say that it speaks for a trusted address
            found += [(who, str(network)) for network in listener.proxy_from if is_the_world(network)]
        return tuple(found)

    @property
    def unsigned_reports(self) -> str | None:
        """The domain that TLS reports come from, where no [[dkim_key]] signs for it: then none goes by mail."""
        domain = self.tlsrpt.report_domain
        return None if domain is None or signs_for(self.dkim_key, domain) else domain

    @property
    def overrides(self) -> Overrides:
        """The overrides as the decision takes them."""
        return Overrides(override.value() for override in self.override)

    @property
    def limits(self) -> DestinationLimits:
        """What each destination may be given."""
        return DestinationLimits(
            self.delivery.concurrency_per_destination, (destination.value() for destination in self.destination)
        )

    @property
    def routes(self) -> Routes:
        """The routes as the decision takes them."""
        given, fallback = self.delivery, self.delivery.fallback
        return Routes(
            tuple(route.value() for route in self.route),
            None if given.next_hop is None else place(given.next_hop),
            place(fallback) if isinstance(fallback, HostPort) else fallback,
            given.fallback_after,
        )
