"""Where mail from the command line goes, and how that server is spoken to: from the settings. Pure.

The rule for TLS: a certificate is verified where a password is sent and where TLS is asked for, except on this machine,
whose certificate names it as others call it. docs/sendmail.md.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from relay.setting_types import HostPort
from relay.settings import ListenerSettings, Settings
from relay.submission_settings import ListenerTls


@dataclass(frozen=True, slots=True)
class Server:
    """A server to hand mail to. `helo`: our name. `ca_file`: more authorities. `here`: it is on this machine."""

    address: HostPort
    tls: ListenerTls
    helo: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    here: bool = False

    @property
    def must_have_tls(self) -> bool:
        """Whether nothing may be said without TLS."""
        return self.tls in (ListenerTls.REQUIRED, ListenerTls.IMPLICIT) or (bool(self.user) and not self.here)

    @property
    def verified(self) -> bool:
        """Whether its certificate must be good, and name it."""
        return self.must_have_tls and not self.here


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and no other."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def own_listener(settings: Settings) -> tuple[HostPort, ListenerTls] | None:
    """The first listener of this relay that a program on this machine can speak SMTP with; None: there is none.

    Not one of no fixed port, nor one that would wait for the PROXY protocol from here.
    """
    for listener in settings.listeners:
        for place in listener.listen:
            if isinstance(place, HostPort) and place.port and not _wants_proxy(listener, from_here(place)):
                return from_here(place), listener.tls
    return None


def from_here(address: HostPort) -> HostPort:
    """Where to connect to reach a listener on this machine."""
    host = ipaddress.ip_address(address.host)
    loopback = "::1" if host.version == 6 else "127.0.0.1"
    return HostPort(host=loopback if host.is_unspecified else address.host, port=address.port)


def _wants_proxy(listener: ListenerSettings, address: HostPort) -> bool:
    """Who connects to an address of its own machine comes from that address."""
    return any(ipaddress.ip_address(address.host) in network for network in listener.proxy_from)
