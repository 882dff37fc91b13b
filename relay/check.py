"""The doctor: looks at all that the service needs, and at nothing that settings or the caller do not name.

Each check is a function from a `Scene` to findings, listed in CHECKS; what its facts mean is said in `relay.findings`.
It sends no mail, writes nothing, and calls only what the settings and `--connect` name.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from relay import findings, front_findings
from relay.admin.tokens import Tokens
from relay.app import wanted_files
from relay.delivery.credentials import Login
from relay.delivery.wire import wording
from relay.disk_table import aside
from relay.dkim_check import look_at_keys
from relay.dmarc_check import look_at_domains
from relay.finding import Finding, fail, ok, warn
from relay.findings import Address, DnssecSeen, FolderSeen
from relay.guard import AddressGuard
from relay.health import greeting_problem, where_to_ask
from relay.listen import bound_socket
from relay.lookup import sts_cache, tls_memory
from relay.lookup.destination import find_addresses
from relay.lookup.resolver import Answer, LookupFailed, NotFound, Resolver
from relay.mail.address import parse_domain
from relay.policy.chain import Roots, Trust
from relay.policy.mx import MxHost
from relay.policy.routing import NEXT_HOP
from relay.posting.place import from_here
from relay.queue import visitor
from relay.queue.folder import holder
from relay.queue.room import room
from relay.queue.store import QueueError, StoreUnavailable
from relay.reach_check import call, mail_hosts
from relay.setting_types import Inherited
from relay.settings import DeliverySettings, HostPort, Settings, TrustAd
from relay.submission import quota, sources
from relay.submission.users import Users
from relay.tls import certificates_in, https_context, load_roots, server_contexts

OWN_GREETING_SECONDS = 5.0
_OPEN_PORT_25 = "let the provider or firewall open port 25 outwards, or send through delivery.next_hop"


@dataclass(frozen=True, slots=True)
class Scene:
    """What the checks look at. `connect`: a host, or a domain whose mail hosts are called too."""

    settings: Settings
    folder: Path
    hostname: str
    now: datetime
    connect: HostPort | str | None
    service: int | str | None  # its process id, None when it does not run, or why that cannot be seen
    roots: Roots | str  # or why there are none
    resolver: Resolver
    guard: AddressGuard


def parse_target(text: str, port: int) -> HostPort | str:
    """What `--connect` names: a host with a port (`port` for a bare address), or a domain. Raises ValueError."""
    try:
        try:
            return HostPort(host=str(ip_address(text.strip("[]"))), port=port)
        except ValueError:
            pass
        if ":" in text:
            return DeliverySettings.model_validate({"next_hop": text}).next_hop or ""
        return parse_domain(text.removesuffix("."))
    except ValueError:
        raise ValueError(f"{text!r} is neither a domain nor a host with a port, such as mail.example.org:25") from None


async def look(
    settings: Settings, folder: Path, hostname: str, now: datetime, connect: HostPort | str | None = None
) -> tuple[Finding, ...]:
    """All findings, in the order of CHECKS. `now` is aware UTC, `connect` what `parse_target` gave."""
    resolver = Resolver(settings.dns.nameservers, settings.dns.timeout)
    guard = AddressGuard(settings.delivery.allow_private_addresses)
    at = Scene(settings, folder, hostname, now, connect, _service(folder), _roots(settings), resolver, guard)
    try:
        results = await asyncio.gather(*(check(at) for check in CHECKS))
    finally:
        await resolver.close()
    return tuple(finding for found in results for finding in found)


def _service(folder: Path) -> int | str | None:
    try:
        return holder(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"


def _roots(settings: Settings) -> Roots | str:
    try:
        return Roots(load_roots(settings.tls.ca_file))
    except OSError as error:
        return f"{error.filename} cannot be read: {wording(error)}"
    except ValueError as error:
        return str(error)


async def _clock(at: Scene) -> list[Finding]:
    return [findings.clock(at.now)]


async def _name(at: Scene) -> list[Finding]:
    odd = findings.odd_name(at.hostname)
    if odd is not None:
        return [odd]
    found = await find_addresses(at.resolver, MxHost(at.hostname))
    if isinstance(found, LookupFailed):
        return [findings.name_unknown(at.hostname, found.reason)]
    if isinstance(found, NotFound):
        return findings.name(at.hostname, ())
    return findings.name(at.hostname, await asyncio.gather(*(_address(at, text) for text in found.addresses)))


async def _address(at: Scene, text: str) -> Address:
    refusal = at.guard.refusal(text)
    called = await at.resolver.ptr(text) if refusal is None else None
    names = called.records if isinstance(called, Answer) else () if isinstance(called, NotFound) else None
    return Address(text, refusal, names)


async def _resolvers(at: Scene) -> list[Finding]:
    return findings.resolvers(await asyncio.gather(*(_asked(at, server) for server in at.resolver.servers)))


async def _asked(at: Scene, server: HostPort) -> tuple[HostPort, str | None]:
    resolver = Resolver((server,), at.settings.dns.timeout)
    try:
        found = await resolver.a(at.settings.dns.self_test_signed)
    finally:
        await resolver.close()
    return server, found.reason if isinstance(found, LookupFailed) else None


async def _dnssec(at: Scene) -> list[Finding]:
    settings = at.settings.dns
    resolver = Resolver(settings.nameservers, settings.timeout)  # not the one whose trust others read meanwhile
    try:
        trusted, reason = await resolver.assess(settings)
        doubt = await _doubt(resolver, at) if settings.trust_ad is TrustAd.YES else None
        return [findings.dnssec(settings, DnssecSeen(resolver.servers, trusted, resolver.tested, reason, doubt))]
    finally:
        await resolver.close()


async def _doubt(resolver: Resolver, at: Scene) -> str | None:
    """Where the settings say that AD is to be believed, nobody has tested whether it is ever said."""
    settings = at.settings.dns
    signed, bogus = await asyncio.gather(resolver.a(settings.self_test_signed), resolver.a(settings.self_test_bogus))
    if isinstance(signed, Answer) and not signed.secure:
        name = settings.self_test_signed
        return f"DANE is off: dns.trust_ad is yes, but the resolver does not vouch for the signed name {name}"
    if isinstance(bogus, Answer):
        name = settings.self_test_bogus
        return f"DANE can be deceived: dns.trust_ad is yes, but the resolver accepts the wrongly signed name {name}"
    return None


async def _queue(at: Scene) -> list[Finding]:
    seen = _look_at_folder(at.folder)
    found = findings.folder(seen)
    if seen.parent == seen.path and seen.is_folder and seen.writable:  # else that is the thing to mend
        try:
            versions = visitor.schema(at.folder)
            found.append(findings.schema(versions))
            if versions[0] == versions[1]:
                with closing(visitor.open_reader(at.folder)) as reader:
                    found += findings.holding(reader.depth(at.now).held, len(reader.hold_rules()))
        except (QueueError, StoreUnavailable) as error:
            found.append(findings.schema(str(error)))
    return [*found, findings.service(at.service)]


def _look_at_folder(path: Path) -> FolderSeen:
    parent = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
    if not parent.is_dir():
        return FolderSeen(path, parent, is_folder=False, writable=False, free=0, reserve=0)
    free, reserve = room(parent)
    return FolderSeen(path, parent, True, os.access(parent, os.W_OK | os.X_OK), free, reserve)


async def _memories(at: Scene) -> list[Finding]:
    moved = [aside(at.folder / name) for name in (sts_cache.FILE_NAME, tls_memory.FILE_NAME, *quota.FILE_NAMES)]
    return [findings.memories([path for path in moved if path.exists()])]


async def _overrides(at: Scene) -> list[Finding]:
    return findings.overrides(at.settings.overrides.entries, at.now)


async def _authorities(at: Scene) -> list[Finding]:
    return [findings.authorities(at.roots)]


async def _certificate(at: Scene) -> list[Finding]:
    given = at.settings.submission
    file, key = given.tls_certificate, given.tls_key
    if file is None or key is None:
        return [ok("certificate", "none is set: clients have neither TLS nor passwords")]
    try:
        server_contexts(file, key, given.client_ca_file)
        chain = certificates_in(file)
        authorities = certificates_in(given.client_ca_file) if given.client_ca_file is not None else ()
    except (OSError, ValueError) as error:
        remedy = "mend the files that submission.tls_certificate, tls_key and client_ca_file name; "
        remedy += "the service's user must read them"
        return [fail("certificate", str(error), remedy)]
    if isinstance(at.roots, str):
        return []  # a failure already
    found = findings.certificate(chain, at.hostname, Trust(at.roots, at.now))
    return [*found, *front_findings.client_authorities(authorities, at.now)]


async def _exposures(at: Scene) -> list[Finding]:
    return front_findings.exposures(at.settings)


async def _users(at: Scene) -> list[Finding]:
    settings = at.settings
    file, tokens_file = settings.submission.users_file, settings.admin.tokens_file
    try:
        users = Users.load(file) if file is not None else None
        senders = Tokens.load(tokens_file).senders if tokens_file is not None else frozenset()
    except OSError as error:
        return [findings.users(f"{error.filename}: cannot be read: {error.strerror}")]
    except ValueError as error:
        return [findings.users(str(error))]
    names = None if users is None else users.names
    counted = [] if names is None else [findings.users(len(names))]
    return [*counted, *front_findings.unknown_users(settings, names, senders)]


async def _logins(at: Scene) -> list[Finding]:
    if isinstance(at.roots, str):
        return []  # a failure already
    context = https_context(load_roots(at.settings.tls.ca_file))
    return [front_findings.login_source(*one) for one in await sources.problems(at.settings.login, context)]


async def _dkim(at: Scene) -> list[Finding]:
    return await look_at_keys(at.settings, at.resolver)


async def _dmarc(at: Scene) -> list[Finding]:
    return await look_at_domains(at.settings, at.hostname, at.now)


async def _reports(at: Scene) -> list[Finding]:
    domain = at.settings.tlsrpt.report_domain
    return [] if domain is None else [findings.tls_reports(domain, signed=at.settings.unsigned_reports is None)]


async def _open_files(at: Scene) -> list[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [findings.open_files(None if most == resource.RLIM_INFINITY else most, wanted_files(at.settings))]


async def _listeners(at: Scene) -> list[Finding]:
    places = [place for listener in at.settings.listeners for place in listener.listen]
    found = [findings.inherited(place.name) for place in places if isinstance(place, Inherited)]
    found += front_findings.ports(at.settings.listeners)
    admin = at.settings.admin.listen
    if isinstance(at.service, int):
        asked = [
            *((one.place, greeting_problem(one, OWN_GREETING_SECONDS)) for one in where_to_ask(at.settings)),
            *((from_here(place), _connect_problem(from_here(place))) for place in admin if place.port),
        ]
        problems = await asyncio.gather(*(problem for _, problem in asked))
        found += [findings.answering(place, problem) for (place, _), problem in zip(asked, problems, strict=True)]
    else:
        ours = [*(place for place in places if isinstance(place, HostPort)), *admin]
        found += [findings.bindable(address, _bind_problem(address)) for address in ours]
    return found


async def _connect_problem(address: HostPort) -> str | None:
    try:
        async with asyncio.timeout(OWN_GREETING_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
    except TimeoutError:
        return f"no connection within {OWN_GREETING_SECONDS:g} s"
    except OSError as error:
        return wording(error)
    return None


def _bind_problem(address: HostPort) -> OSError | None:
    try:
        bound_socket(address).close()
    except OSError as error:
        return error
    return None


async def _sources(at: Scene) -> list[Finding]:
    """Every address that the settings send mail from."""
    found = []
    for address, setting in (one for source in at.settings.sources(at.hostname).all for one in source.addresses):
        problem = _bind_problem(HostPort(host=address, port=0))
        if problem is None:
            found.append(ok("sources", f"{setting} is {address}"))
        else:
            why = f"{setting} is {address}, and mail cannot go out from there: {problem.strerror or problem}"
            found.append(fail("sources", why, "choose an address that this machine has (`ip address`)"))
    return found


async def _routes(at: Scene) -> list[Finding]:
    """Every host that the settings send mail to, with the MX hosts of a name where they say so."""
    found = []
    for hop in at.settings.routes.hops:
        subject = "next hop" if hop.name == NEXT_HOP else f"route {hop.name}"
        hosts: list[HostPort] | str = [HostPort(host=place.host, port=place.port) for place in hop.places]
        if hop.mx:
            hosts = await mail_hosts(at.resolver, hop.places[0].host, hop.places[0].port)
        remedy = "see that the settings are right and that it lets this machine in"
        if isinstance(hosts, str):
            found.append(fail(subject, hosts, remedy))
        else:
            found += findings.reach(subject, await call(at.resolver, at.guard, hosts), remedy)
    for route in at.settings.route:
        login = Login(route.user, route.name, route.password_file, route.token_file)
        for path in login.readable_by_others():
            text = f"every user of this machine can read the secret in {path}"
            found.append(warn(f"route {route.name}", text, f"chmod o= {path}"))
    return found


async def _connect(at: Scene) -> list[Finding]:
    if at.connect is None:
        return []
    hosts = (
        [at.connect]
        if isinstance(at.connect, HostPort)
        else await mail_hosts(at.resolver, at.connect, at.settings.delivery.port)
    )
    if isinstance(hosts, str):
        return [fail("port 25", hosts, "name a domain that takes mail, or see whether the resolver answers")]
    return findings.reach("port 25", await call(at.resolver, at.guard, hosts), _OPEN_PORT_25)


CHECKS: tuple[Callable[[Scene], Awaitable[list[Finding]]], ...] = (
    _clock,
    _name,
    _resolvers,
    _dnssec,
    _authorities,
    _queue,
    _memories,
    _overrides,
    _exposures,
    _certificate,
    _users,
    _logins,
    _dkim,
    _dmarc,
    _reports,
    _open_files,
    _listeners,
    _sources,
    _routes,
    _connect,
)
