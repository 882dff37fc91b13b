"""What one setting alone cannot show: settings that do not go together, and files they name that cannot be read.

Only `config` asks. Values come in checked one by one; what is found goes out as pairs: the settings concerned (the one
to blame first), and what is wrong. Nothing is raised.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

from relay.delivery.credentials import Login, Unreadable
from relay.files import read_word
from relay.mail.outcome import Cause
from relay.policy.clients import EVERY_USER, TRUSTED_NETWORKS, USER
from relay.policy.memory import OnTlsLoss
from relay.policy.routing import FALLBACK, NEXT_HOP, PREFIX
from relay.posting.place import is_loopback
from relay.route_settings import Action
from relay.setting_types import Inherited
from relay.settings import (
    API_LISTENER,
    SHORT_NAME,
    SHORT_TLS_NAME,
    DkimKeySettings,
    HostPort,
    ListenerTls,
    RouteSettings,
    Settings,
    format_duration,
)
from relay.signing.keys import UnusableKey, load_key, with_remedy

CLIENT = ("", "client")
Name = tuple[str, str]  # section and key; the section of `hostname` is the empty text
Finding = tuple[tuple[Name, ...], str]

LISTEN, LISTEN_TLS, LISTENER = ("submission", "listen"), ("submission", "listen_tls"), ("", "listener")
_MADE_BY = {("submission", "users_file"): "user add NAME", ("admin", "tokens_file"): "admin token NAME"}
RESERVED_NAMES = (SHORT_NAME, SHORT_TLS_NAME, API_LISTENER)


def contradictions(settings: Settings) -> Iterator[Finding]:
    """Settings that do not go together."""
    yield from _certificate_amiss(settings)
    yield from _logins_amiss(settings)
    yield from _listeners_amiss(settings)
    yield from _clients_amiss(settings)
    yield from _certificates_not_asked_for(settings)
    yield from _addresses_twice(settings)
    yield from _overrides_twice(settings)
    yield from _sources_twice(settings)
    yield from _keys_twice(settings)
    own = [place for listener in settings.listeners for place in listener.listen if isinstance(place, HostPort)]
    for blamed, who, hop in _named_places(settings):
        if any(_same_place(hop, address, settings.hostname) for address in own):
            what = f"{who}{hop} is this relay itself: mail would go in a circle"
            yield (blamed, LISTEN, LISTEN_TLS, LISTENER, ("", "hostname")), what
    yield from _routes_amiss(settings)
    yield from _limits_of_no_route(settings)
    yield from _kept_back_too_long(settings)
    yield from _login_of_sendmail(settings)
    yield from _reports_of_nobody(settings)


def _certificate_amiss(settings: Settings) -> Iterator[Finding]:
    """Half a certificate, or none where one is needed."""
    given = settings.submission
    certificate, key = ("submission", "tls_certificate"), ("submission", "tls_key")
    if given.tls_certificate and not given.tls_key:
        yield (certificate, key), "needs submission.tls_key beside it"
    if given.tls_key and not given.tls_certificate:
        yield (key, certificate), "needs submission.tls_certificate beside it"
    if given.tls_certificate:
        return
    if given.listen_tls:
        yield (LISTEN_TLS, certificate), "needs submission.tls_certificate and submission.tls_key"
    for listener in settings.listener:
        if listener.tls in (ListenerTls.REQUIRED, ListenerTls.IMPLICIT):
            what = f"tls = {listener.tls.value} needs submission.tls_certificate and submission.tls_key"
            yield (LISTENER, certificate), f"the listener {listener.name}: {what}"


def _listeners_amiss(settings: Settings) -> Iterator[Finding]:
    """No listener at all, two of one name, one where nobody can do what it says, and one that is named and is not."""
    if not settings.listeners:
        what = "is empty, like submission.listen_tls, and there is no [[listener]]: no mail would be taken"
        yield (LISTEN, LISTEN_TLS), what
    names = set(RESERVED_NAMES)
    for listener in settings.listener:
        if listener.name in RESERVED_NAMES:
            yield (LISTENER,), f"the name {listener.name} is taken, by [submission] or the API: choose another"
        elif listener.name in names:
            yield (LISTENER,), f"the name {listener.name} is there twice"
        names.add(listener.name)
        asks_for_auth = listener.auth and "auth" in listener.model_fields_set
        without_tls = listener.tls is ListenerTls.NONE and not settings.submission.plaintext_login_on_loopback
        if asks_for_auth and without_tls:
            what = "auth = true, but with tls = none nobody can log in: that needs TLS"
            yield (LISTENER,), f"the listener {listener.name}: {what}"
    known = {API_LISTENER, *(listener.name for listener in settings.listeners)}
    for client in settings.client:
        for name in client.listeners:
            if name not in known:
                yield (CLIENT, LISTENER), f"the client {client.name}: there is no listener {name}"


def _clients_amiss(settings: Settings) -> Iterator[Finding]:
    """Two tables of one name, one that no client gets to, and a `{user}` where nobody has logged in."""
    names = {TRUSTED_NETWORKS, EVERY_USER}
    for number, client in enumerate(settings.client):
        if client.name in (TRUSTED_NETWORKS, EVERY_USER):
            yield (CLIENT,), f"the name {client.name} is for what [submission] says: choose another"
        elif client.name in names:
            yield (CLIENT,), f"the name {client.name} is there twice"
        names.add(client.name)
        before = next((one for one in settings.client[:number] if one.value().covers(client.value())), None)
        if before is not None:
            yield (CLIENT,), f"no client gets to {client.name}: {before.name}, before it, is for all of them"
        if not client.users and any(USER in pattern for pattern in (*client.senders, *client.header_from)):
            what = f"{USER} is the name of who logged in: set users too"
            yield (CLIENT,), f"the client {client.name}: {what}"


def _certificates_not_asked_for(settings: Settings) -> Iterator[Finding]:
    """Tables for certificates that no listener of theirs asks for."""
    asking = {one.name for one in settings.listeners if one.ask_certificate and one.tls is not ListenerTls.NONE}
    for client in settings.client:
        theirs = asking.intersection(client.listeners) if client.listeners else asking
        if client.certificates and settings.submission.client_ca_file and not theirs:
            what = "certificates, but no listener of it asks for one: see ask_certificate and tls"
            yield (CLIENT, LISTENER), f"the client {client.name}: {what}"


def _addresses_twice(settings: Settings) -> Iterator[Finding]:
    """One place, two listeners: only one of them could have it."""
    seen: set[str] = set()
    given, admin = settings.submission, ("admin", "listen")
    places: list[tuple[Name, Iterable[HostPort | Inherited]]] = [(LISTEN, given.listen), (LISTEN_TLS, given.listen_tls)]
    places += [(LISTENER, listener.listen) for listener in settings.listener]
    places.append((admin, settings.admin.listen))
    taken = {str(address) for _, addresses in places for address in addresses}
    for name, addresses in places:
        for address in addresses:
            if isinstance(address, HostPort) and not address.port:
                continue
            blamed, wider = (name, LISTEN, LISTEN_TLS, LISTENER, admin), _all_addresses(address)
            if str(address) in seen:
                yield blamed, f"{address} is there twice"
            elif wider in taken and wider != str(address):
                yield blamed, f"{address} is a part of {wider}, which is there too: both cannot be had"
            seen.add(str(address))


def _all_addresses(place: HostPort | Inherited) -> str:
    """The place that takes the port of all addresses of the kind, and so of this one."""
    if isinstance(place, Inherited):
        return ""
    return f"[::]:{place.port}" if ":" in place.host else f"0.0.0.0:{place.port}"


def _login_of_sendmail(settings: Settings) -> Iterator[Finding]:
    """A login that cannot be made. Whether the password can be read is for who sends, not for the service."""
    given = settings.sendmail
    user, password = ("sendmail", "user"), ("sendmail", "password_file")
    if given.user and given.password_file is None:
        yield (user, password), "needs sendmail.password_file beside it"
    if given.password_file is not None and not given.user:
        yield (password, user), "needs sendmail.user beside it"
    if given.user and given.tls is ListenerTls.NONE and given.server is not None and not is_loopback(given.server.host):
        yield (("sendmail", "tls"), user), "must not be none: a password is not sent to another machine without TLS"


def _logins_amiss(settings: Settings) -> Iterator[Finding]:
    """Ways to log in that nobody could take, and tokens that anybody could."""
    given, login = settings.submission, settings.login
    certificate = ("submission", "tls_certificate")
    in_clear_text = ("submission", "plaintext_login_on_loopback")
    ways = {
        ("submission", "users_file"): given.users_file,
        ("login", "url"): login.url,
        ("login", "jwks"): login.jwks,
    }
    for name, value in ways.items():
        if value and not given.tls_certificate and not given.plaintext_login_on_loopback:
            what = "needs submission.tls_certificate: passwords are taken over TLS only"
            yield (name, certificate, in_clear_text), what
    if given.client_ca_file and not given.tls_certificate:
        yield (("submission", "client_ca_file"), certificate), "needs submission.tls_certificate: there is no TLS"
    for client in settings.client:
        if client.certificates and not given.client_ca_file:
            what = f"the client {client.name}: certificates need submission.client_ca_file, or nobody is asked for one"
            yield (("", "client"), ("submission", "client_ca_file")), what
    if login.url_token_file and not login.url:
        yield (("login", "url_token_file"), ("login", "url")), "needs login.url, for which it is"
    for key in ("issuer", "audience"):
        if getattr(login, key) and not login.jwks:
            yield (("login", key), ("login", "jwks")), "needs login.jwks: without it no tokens are taken"
        if login.jwks and not getattr(login, key):
            what = f"needs login.{key}: tokens for others, or of others, would be good here"
            yield (("login", "jwks"), ("login", key)), what


def _kept_back_too_long(settings: Settings) -> Iterator[Finding]:
    """RFC 3207 section 6: mail that waits for lost TLS must go out in the end, and not come back."""
    memory, limit = settings.tls_memory, settings.retry.schedules.of(Cause.TLS_POLICY)
    if memory.on_loss is OnTlsLoss.DEFER and memory.defer_for >= limit.expire:
        names = (
            ("tls_memory", "defer_for"),
            ("tls_memory", "on_loss"),
            ("retry", "tls_policy_expire"),
            ("retry", "expire"),
        )
        yield (
            names,
            f"must be shorter than {limit.expire_named} ({format_duration(limit.expire)}): "
            "mail would come back, not just wait",
        )


def _reports_of_nobody(settings: Settings) -> Iterator[Finding]:
    """TLS reports whose readers can ask nobody. RFC 8460 section 4.4 wants an address in each."""
    organization, contact = ("tlsrpt", "organization"), ("tlsrpt", "contact")
    if settings.tlsrpt.organization and settings.tlsrpt.contact is None:
        yield (organization, contact), "needs tlsrpt.contact beside it: readers of reports must have somebody to ask"


def _overrides_twice(settings: Settings) -> Iterator[Finding]:
    """Two overrides for one destination: only one of them could hold."""
    seen: set[tuple[str, str]] = set()
    for override in settings.override:
        for key in [*(("domain", one) for one in override.domains), *(("host", one) for one in override.hosts)]:
            if key in seen:
                yield (("", "override"),), f"the {' '.join(key)} is there twice: only one could hold"
            seen.add(key)


def _sources_twice(settings: Settings) -> Iterator[Finding]:
    """Two sources for one sender domain: only one of them could hold."""
    seen: set[str] = set()
    for source in settings.source:
        for domain in source.sender_domains:
            if domain in seen:
                yield (("", "source"),), f"the sender domain {domain} is there twice: only one could hold"
            seen.add(domain)


def _keys_twice(settings: Settings) -> Iterator[Finding]:
    """Two keys with one DNS record, which has room for one."""
    seen: set[tuple[str, str]] = set()
    for key in settings.dkim_key:
        if (key.domain, key.selector) in seen:
            what = f"the selector {key.selector} of {key.domain} is there twice: one DNS record has one key"
            yield (("", "dkim_key"),), what
        seen.add((key.domain, key.selector))


def _named_places(settings: Settings) -> Iterator[tuple[Name, str, HostPort]]:
    """Every place that the operator sends mail to: the setting, the route in words, and the place."""
    for key in ("next_hop", "fallback"):
        hop = getattr(settings.delivery, key)
        if isinstance(hop, HostPort):
            yield ("delivery", key), "", hop
    for route in settings.route:
        for hop in () if route.mx else route.hosts:
            yield ("", "route"), f"the route {route.name}: ", hop


def _routes_amiss(settings: Settings) -> Iterator[Finding]:
    """Two routes of one name, one that no mail gets to, and a fallback that is none."""
    names: set[str] = set()
    all_taken = None
    for route in settings.route:
        if route.name in names:
            yield (("", "route"),), f"the name {route.name} is there twice"
        elif all_taken is not None and route.takes_some:
            yield (("", "route"),), f"no mail gets to the route {route.name}: {all_taken}, before it, takes all"
        names.add(route.name)
        all_taken = route.name if all_taken is None and route.takes_all else all_taken
    if all_taken is not None and settings.delivery.next_hop is not None:
        yield (("delivery", "next_hop"), ("", "route")), f"no mail gets to it: the route {all_taken} takes all"
    fallback = settings.delivery.fallback
    blamed, next_hop, routes = ("delivery", "fallback"), ("delivery", "next_hop"), ("", "route")
    if isinstance(fallback, str):
        found = next((route for route in settings.route if route.name == fallback), None)
        if found is None:
            yield (blamed, routes), f"there is no [[route]] with the name {fallback}"
        elif found.action is not Action.DELIVER:
            yield (blamed, routes), f"the route {fallback} does not deliver: its action is {found.action.value}"
    none_goes_directly = settings.delivery.next_hop and all(one.action is not Action.DIRECT for one in settings.route)
    if fallback is not None and none_goes_directly:
        yield (blamed, next_hop, routes), "is for mail that goes directly, and delivery.next_hop takes all mail"


def _limits_of_no_route(settings: Settings) -> Iterator[Finding]:
    """Limits for a route that there is not."""
    known = {route.name for route in settings.route}
    known |= {NEXT_HOP} if settings.delivery.next_hop else set()
    known |= {FALLBACK} if isinstance(settings.delivery.fallback, HostPort) else set()
    for one in settings.destination:
        for name in one.destinations:
            if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known:
                yield (("", "destination"), ("", "route")), f"there is no [[route]] with the name {name[len(PREFIX) :]}"


def _same_place(hop: HostPort, listener: HostPort, hostname: str) -> bool:
    """Whether a connection to `hop` reaches our own listener, as far as the settings tell."""
    if hop.port != listener.port:
        return False
    if hop.host in (listener.host, hostname):
        return True
    address = ip_address(listener.host)
    try:
        to_loopback = ip_address(hop.host).is_loopback
    except ValueError:
        to_loopback = hop.host == "localhost"
        return to_loopback and (address.is_unspecified or address.is_loopback)
    return to_loopback and address.is_unspecified


def unusable_files(settings: Settings) -> Iterator[Finding]:
    """Files that the settings name and that cannot be read, and a folder that is none."""
    folder = settings.queue.path
    try:
        if folder is not None and not stat.S_ISDIR(folder.stat().st_mode):
            yield (("queue", "path"),), f"{folder} is not a folder"
    except FileNotFoundError:
        pass  # it will be made
    except OSError as error:
        yield (("queue", "path"),), f"{folder} cannot be used: {error.strerror}"
    submission = settings.submission
    files = {
        ("submission", "tls_certificate"): submission.tls_certificate,
        ("submission", "tls_key"): submission.tls_key,
        ("submission", "users_file"): submission.users_file,
        ("submission", "client_ca_file"): submission.client_ca_file,
        ("login", "url_token_file"): settings.login.url_token_file,
        ("tls", "ca_file"): settings.tls.ca_file,
        ("admin", "tokens_file"): settings.admin.tokens_file,
    }
    token = ("login", "url_token_file")
    for name, path in files.items():
        fault = None if path is None else _fault_of_file(path) or (_fault_of_token(path) if name == token else None)
        if fault is not None:
            missing = fault.endswith(os.strerror(errno.ENOENT)) and name in _MADE_BY
            yield (name,), f"{fault}; `relay {_MADE_BY[name]} --file {path}` makes it" if missing else fault
    for route in settings.route:
        path = route.password_file or route.token_file
        fault = None if path is None else _fault_of_file(path) or _fault_of_secret(route)
        if fault is not None:
            yield (("", "route"),), f"the route {route.name}: {fault}"
    for key in settings.dkim_key:
        fault = _fault_of_file(key.key_file) or _fault_of_key(key)
        if fault is not None:
            yield (("", "dkim_key"),), f"the key {key.selector} of {key.domain}: key_file: {with_remedy(fault, key)}"


def _fault_of_token(path: Path) -> str | None:
    try:
        read_word(path)
    except (OSError, ValueError) as error:
        return str(error)
    return None


def _fault_of_secret(route: RouteSettings) -> str | None:
    found = Login(route.user, f"[[route]] {route.name}", route.password_file, route.token_file).read()
    return found.reason if isinstance(found, Unreadable) else None


def _fault_of_key(given: DkimKeySettings) -> str | None:
    found = load_key(given)
    return found.reason if isinstance(found, UnusableKey) else None


def _fault_of_file(path: Path) -> str | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{path} is not a file"
        path.open("rb").close()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None
