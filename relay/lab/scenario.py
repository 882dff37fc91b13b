"""What one scenario of the lab is: what a domain publishes, how its hosts behave, and what must become of its mail.

The default of everything is the happy day; a scenario names only what differs, and a `Phase` only what changes later.
Values only; `lab.world` builds them and `lab.play` plays them. Texts may hold `{domain}` (the scenario's),
`{elsewhere}` (where hosts of other owners are) and `{port}` (of mail hosts), those of an override also `{certificate}`
and `{key}` (SHA-256 of what the first host shows at first), those of `Tlsrpt` also `{mailbox}` and `{endpoint}`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, fields, replace
from enum import Enum

from relay.lab.certs import Leaf
from relay.lab.script import SinkScript
from relay.lab.site import SitePage
from relay.lab.zones import Faults, Security
from relay.policy.override import OverrideLevel, OverrideMode
from relay.policy.sts import StsMode
from relay.route_settings import Action


class Of(Enum):
    """Which certificate of a host's chain a TLSA record speaks of."""

    LEAF = "the host's own"
    ISSUER = "the intermediate that issued it"
    ROOT = "the root, which hosts do not send"


@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record for a host. `key`: the `Host.key` whose certificate it is of; 0: of the one that is in use.

    `data` (hexadecimal) stands in place of what the rest says.
    """

    usage: int = 3
    selector: int = 1
    matching_type: int = 1
    of: Of = Of.LEAF
    key: int = 0
    data: str = ""


@dataclass(frozen=True, slots=True)
class Host:
    """An MX host, `LABEL.DOMAIN`; the label `@` is the domain itself.

    `names`: what its certificate names, if not its own name; another `key` is another certificate with another key.
    `zone`: the host is not the domain's but at `LABEL.{elsewhere}`, a zone of its own with this security. `alias`: the
    MX record names this label, a CNAME that leads to the host, with `alias_tlsa` as its TLSA records. `newest`: the
    newest TLS that it speaks.
    """

    label: str = "mx"
    preference: int = 10
    leaf: Leaf | None = Leaf.GOOD  # None: no certificate, so no STARTTLS
    names: tuple[str, ...] = ()
    key: int = 1
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    tlsa: tuple[Tlsa, ...] = ()
    zone: Security | None = None
    alias: str = ""
    alias_tlsa: tuple[Tlsa, ...] = ()
    up: bool = True
    script: SinkScript = field(default_factory=SinkScript)


@dataclass(frozen=True, slots=True)
class Sts:
    """An MTA-STS policy: the TXT records, where `{id}` is `id`, and the host that serves it, if it does.

    `text` is the policy file, in place of the one that follows from `mode`, `mx` and `max_age`. `leaf` and `names` are
    of the policy host's certificate, `page` is how it answers, all but its text and certificate.
    """

    mode: StsMode = StsMode.ENFORCE
    mx: tuple[str, ...] = ("mx.{domain}",)
    id: str = "1"
    max_age: int = 2592000
    txt: tuple[str, ...] = ("v=STSv1; id={id};",)
    text: str | None = None
    leaf: Leaf = Leaf.GOOD
    names: tuple[str, ...] = ()
    page: SitePage = field(default_factory=lambda: SitePage(""))


@dataclass(frozen=True, slots=True)
class Tlsrpt:
    """Where the domain wants TLS reports: the TXT records at `_smtp._tls`, and how its HTTPS endpoint answers.

    `{mailbox}` is a `mailto:` URI of a mailbox of the lab, `{endpoint}` the `https:` URI of the endpoint, which has a
    certificate of this kind (`leaf`) and answers with `statuses` one after the other, the last one from then on.
    """

    txt: tuple[str, ...] = ("v=TLSRPTv1; rua={mailbox}",)
    statuses: tuple[int, ...] = (201,)
    leaf: Leaf = Leaf.GOOD


@dataclass(frozen=True, slots=True)
class Override:
    """An `[[override]]` table of the settings. `hosts` stand in place of `domains`, which is the scenario's own.

    `last_day` is counted from the day on which the lab begins: -1 has ended, 2 ends between the passages of time `1d`
    and `7d`.
    """

    level: OverrideLevel
    mode: OverrideMode = OverrideMode.RAISE
    domains: tuple[str, ...] = ("{domain}",)
    hosts: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    minimum_tls: str = ""
    last_day: int = 30


@dataclass(frozen=True, slots=True)
class Route:
    """A `[[route]]` table of the settings, for mail to the scenario's domain. Hosts have the port of all mail hosts.

    `user` logs in with the password `lab.world.ROUTE_PASSWORD`.
    """

    hosts: tuple[str, ...] = ()
    tls: OverrideLevel | None = None
    mx: bool = False
    action: Action = Action.DELIVER
    user: str = ""


@dataclass(frozen=True, slots=True)
class Phase:
    """What is different from some time on; None: it stays as it was. `to`: a further mail goes to these, then."""

    hosts: tuple[Host, ...] | None = None
    sts: Sts | None = None
    security: Security | None = None
    mx_records: tuple[str, ...] | None = None
    records: tuple[str, ...] | None = None
    faults: Faults | None = None
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expected:
    """What must become of the mail.

    `journeys`: for each recipient its state and status after the first attempt, as `state x.y.z`, and each other one
    that follows, with the time after which it was seen: `20m: state x.y.z` (see `lab.play.PASSAGES`). `tls`: how the
    last attempt's session was protected. `told`: the code in the notice to the sender. `logged`: the warnings about
    the domain (see `lab.play.Recorder`) that must be in the log; there must be no other. `reported`: what the domain
    was told in TLS reports, as `tlsa mx validation-failure x2`: policy type, policy domain where it is another (and
    relative to it), result, number of sessions; `https:` in front of it: it was posted; `day 2:`: it is of that day.
    """

    journeys: tuple[tuple[str, ...], ...]
    tls: str
    told: str | None = None
    logged: frozenset[str] = frozenset()
    reported: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One domain, `NAME.test`, and the mail to it.

    `mx_records` stand in place of those that `hosts` would have; `records` are further lines of the zone; `faults` are
    as of `lab.zones`, with names relative to the domain. `overrides` and `route` are in Relay's settings all the time.
    `then[0]` holds from before the first passage of time on (see `lab.play.PASSAGES`), `then[1]` from before the
    second, and so on.
    """

    name: str
    publishes: str
    expected: Expected
    hosts: tuple[Host, ...] = (Host(),)
    sts: Sts | None = None
    security: Security = Security.UNSIGNED
    tlsrpt: Tlsrpt | None = None
    mx_records: tuple[str, ...] | None = None
    records: tuple[str, ...] = ()
    faults: Faults = field(default_factory=dict)
    exists: bool = True
    recipients: tuple[str, ...] = ("bob",)
    mail_options: tuple[str, ...] = ()  # beside BODY=8BITMIME
    header: str = ""  # lines of the message's header, each with its CRLF
    overrides: tuple[Override, ...] = ()
    route: Route | None = None
    then: tuple[Phase, ...] = ()

    @property
    def domain(self) -> str:
        """The recipients' domain."""
        return f"{self.name}.test"

    @property
    def mails(self) -> tuple[tuple[str, ...], ...]:
        """The recipients of the mail that is sent at first, and then in each phase; nobody: none is sent."""
        return (self.recipients, *(phase.to for phase in self.then))

    def at(self, step: int) -> Scenario:
        """The scenario as it is after `step` phases."""
        now = self
        for phase in self.then[:step]:
            names = [one.name for one in fields(phase) if one.name != "to"]
            now = replace(now, **{name: getattr(phase, name) for name in names if getattr(phase, name) is not None})
        return now


def delivered(tls: str, *logged: str) -> Expected:
    """Delivered by the first attempt."""
    return Expected((("delivered 2.0.0",),), tls, logged=frozenset(logged))


def refused(detail: str, basic: int = 551) -> Expected:
    """Deferred until it expires, then returned to the sender with the same subject and detail."""
    return Expected(((f"deferred 4.{detail}", f"7d: failed 5.{detail}"),), "none", f"{basic} 5.{detail}")


def failed(code: str, tls: str = "none") -> Expected:
    """Failed by the first attempt, with this code in the notice."""
    return Expected(((f"failed {code.rsplit(maxsplit=1)[-1]}",),), tls, code)


def healed(detail: str, tls: str, *logged: str, when: str = "20m") -> Expected:
    """Deferred at first, and then delivered."""
    return Expected(((f"deferred 4.{detail}", f"{when}: delivered 2.0.0"),), tls, logged=frozenset(logged))


def each(*mails: Expected) -> Expected:
    """One mail after another, a recipient each."""
    journeys = tuple(journey for mail in mails for journey in mail.journeys)
    told = next((mail.told for mail in mails if mail.told is not None), None)
    return Expected(journeys, mails[-1].tls, told, frozenset().union(*(mail.logged for mail in mails)))
