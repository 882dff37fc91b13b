"""What `relay check` says of who can send mail in, and how: facts in, findings out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from relay.finding import EXPIRES_SOON, Finding, fail, ok, warn
from relay.policy.certificate import CertificateSyntaxError, validity
from relay.policy.clients import ANY, TOKEN
from relay.setting_types import HostPort
from relay.settings import ListenerSettings, ListenerTls, Settings

_IMPLICIT_PORT = 465
_STARTTLS_PORTS = (25, 587)


def exposures(settings: Settings) -> list[Finding]:
    """Settings that make it an open relay, and proxies that are clients too."""
    remedy = "name your own networks alone, or let clients log in: docs/clients.md"
    found = [
        fail("open relay", f"{setting} has {network}: whoever is there can send to anyone, without a login", remedy)
        for setting, network in settings.exposures
    ]
    return [*found, *_proxies(settings)]


def _proxies(settings: Settings) -> Iterator[Finding]:
    """A proxy has no rights where it must say for whom it speaks; elsewhere it is a client as others are."""
    elsewhere = [one for one in settings.listeners if not one.proxy_from]
    for listener in settings.listener:
        for network in listener.proxy_from:
            for grant in settings.clients.grants:
                trusted = any(network.version == one.version and network.overlaps(one) for one in grant.networks)
                open_at = [one.name for one in elsewhere if not grant.listeners or one.name in grant.listeners]
                if trusted and open_at and not network.is_loopback:
                    text = f"the proxy {network} of the listener {listener.name} is in the networks of {grant.name}: "
                    text += f"at {', '.join(open_at)} it may send, and with it whoever is behind it"
                    yield warn("proxies", text, f"add it to proxy_from of {open_at[0]}, or take it out of the networks")


def ports(listeners: Collection[ListenerSettings]) -> list[Finding]:
    """Ports at which clients expect another TLS than they will find."""
    found = []
    for listener in listeners:
        implicit = listener.tls is ListenerTls.IMPLICIT
        for place in listener.listen:
            if not isinstance(place, HostPort):
                continue
            if place.port == _IMPLICIT_PORT and not implicit:
                text = f"{place} has no TLS from the first octet, and clients expect that of port 465: they will hang"
                remedy = 'put it into submission.listen_tls, or set tls = "implicit" for its [[listener]]'
                found.append(warn("listeners", text, remedy))
            if place.port in _STARTTLS_PORTS and implicit:
                text = f"{place} has TLS from the first octet, and clients expect STARTTLS of port {place.port}"
                found.append(warn("listeners", text, "take port 465 for it"))
    return found


def unknown_users(settings: Settings, users: Collection[str] | None, senders: Collection[str]) -> list[Finding]:
    """Tables for users that are nowhere. `users`: those of the users file, None when there is none; `senders`: the
    names of the API's tokens that may send.
    """
    found = []
    elsewhere = settings.login.url or settings.login.jwks or settings.submission.client_ca_file
    for table in settings.client:
        for name in table.users:
            token = name.removeprefix(TOKEN)
            if token != name:
                if token not in senders:
                    text = f"the table {table.name} is for the token {token}, and none of that name may send"
                    found.append(warn("clients", text, f"`relay admin token {token} --scope send`, or mend the name"))
            elif users is None and not elsewhere and not senders:
                text = f"the table {table.name} is for users, and nobody can log in"
                found.append(warn("clients", text, "set submission.users_file, login.url or login.jwks"))
            elif users is not None and not elsewhere and name != ANY and name not in users:
                text = f"the table {table.name} is for the user {name}, who is not in the users file"
                found.append(warn("clients", text, f"`relay user add {name}`, or mend the name"))
    return found


def client_authorities(authorities: Collection[bytes], now: datetime) -> Iterator[Finding]:
    """Those of submission.client_ca_file, in DER, that have expired or soon will: their clients cannot connect."""
    for der in authorities:
        try:
            _, ends = validity(der)
        except CertificateSyntaxError:
            continue  # OpenSSL has taken it
        if ends < now + EXPIRES_SOON:
            verb = "expires" if ends > now else "expired"
            text = f"an authority of submission.client_ca_file {verb} on {ends:%Y-%m-%d}: "
            text += "from then on what it has signed breaks the handshake"
            yield warn("client certificates", text, "put its successor into the file, then renew the certificates")


def login_source(setting: str, problem: str | None) -> Finding:
    """Whether what the setting names can be asked."""
    if problem is None:
        return ok("logins", f"{setting} answers")
    return fail("logins", f"{setting}: {problem}", "until it answers nobody can log in with it (454 4.7.0)")
