"""What one scenario of the lab is: what a domain publishes, how its hosts behave, and what must become of its mail.

The default of everything is the happy day; a scenario names only what differs. Values only; `lab.world` plays them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.lab.certs import Leaf
from relay.lab.sink import SinkScript
from relay.lab.zones import Security
from relay.policy.sts import StsMode


@dataclass(frozen=True, slots=True)
class Tlsa:
    """A TLSA record for a host. `of_this_host` False: the digest of some other certificate."""

    usage: int = 3
    selector: int = 1
    matching_type: int = 1
    of_this_host: bool = True


@dataclass(frozen=True, slots=True)
class Host:
    """An MX host. `names`: what its certificate names, if not its own name. `tls_max_1_1`: it speaks no newer TLS."""

    label: str = "mx"
    preference: int = 10
    leaf: Leaf | None = Leaf.GOOD  # None: no certificate, so no STARTTLS
    names: tuple[str, ...] = ()
    tls_max_1_1: bool = False
    tlsa: tuple[Tlsa, ...] = ()
    script: SinkScript = field(default_factory=SinkScript)


@dataclass(frozen=True, slots=True)
class Sts:
    """An MTA-STS policy and the host that serves it. `{domain}` in `mx` stands for the scenario's domain."""

    mode: StsMode = StsMode.ENFORCE
    mx: tuple[str, ...] = ("mx.{domain}",)
    status: int = 200
    redirect: bool = False
    leaf: Leaf = Leaf.GOOD


@dataclass(frozen=True, slots=True)
class Scenario:
    """One domain, `NAME.test`, and the mail to it.

    `expected` is the journey of each recipient: its state and status after each attempt, as `state x.y.z`, without
    repetitions; `tls` how the last attempt's session was protected; `told` the code in the notice to the sender.
    """

    name: str
    publishes: str
    expected: tuple[tuple[str, ...], ...]
    tls: str
    told: str | None = None
    hosts: tuple[Host, ...] = (Host(),)
    sts: Sts | None = None
    security: Security = Security.UNSIGNED
    mx_records: tuple[str, ...] | None = None  # in place of those of `hosts`
    exists: bool = True
    recipients: tuple[str, ...] = ("bob",)
    mail_options: tuple[str, ...] = ()  # beside BODY=8BITMIME
    header: str = ""  # lines of the message's header, each with its CRLF

    @property
    def domain(self) -> str:
        """The recipients' domain."""
        return f"{self.name}.test"


def delivered(status: str = "2.0.0") -> tuple[tuple[str, ...], ...]:
    """Delivered by the first attempt."""
    return ((f"delivered {status}",),)


def refused(subject_detail: str) -> tuple[tuple[str, ...], ...]:
    """Deferred until it expires, then returned to the sender with the same subject and detail."""
    return ((f"deferred 4.{subject_detail}", f"failed 5.{subject_detail}"),)


def failed(status: str) -> tuple[tuple[str, ...], ...]:
    """Failed by the first attempt."""
    return ((f"failed {status}",),)
