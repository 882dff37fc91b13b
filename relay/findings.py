"""What `relay check` says of what was looked at: facts in, findings out, each with what to do about it.

Nothing here looks at anything; that is `relay.check`. A finding is a failure when the service does not start, or no
mail comes in or goes out, until it is mended; a warning when some of it suffers.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from relay.finding import EXPIRES_SOON, Finding, fail, ok, warn
from relay.mail.duration import utc
from relay.policy.certificate import CertificateSyntaxError, validity
from relay.policy.chain import EXPIRED, Roots, Trust, check_chain, name_fault
from relay.policy.override import Override
from relay.policy.words import of_end
from relay.settings import DnsSettings, HostPort, TrustAd
from relay.show import count

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)  # no clock of this program can rightly show less
_ROOM_IS_SCARCE = 16  # times what is kept for delivering
_MIB = 1 << 20
_ISSUE = "have it issued by an authority that clients trust, and put the authority's own certificates behind it"
_OWN_RESOLVER = "run a validating resolver on this machine and name it in dns.nameservers: docs/install.md"


def settings_read(file: Path | None) -> Finding:
    """That they could be read was seen before anything else."""
    return ok("settings", str(file) if file is not None else "from the environment; no settings file is named")


def clock(now: datetime) -> Finding:
    """Certificates and retries are judged by it."""
    text = utc(now)
    if now < EARLIEST:
        return fail("clock", f"{text} is long past", "set the clock, and let a time service (chrony) keep it")
    return ok("clock", text)


# Our name


@dataclass(frozen=True, slots=True)
class Address:
    """One address of our name. `refusal`: why nobody can reach it; `names`: what it is called; None: not known."""

    text: str
    refusal: str | None
    names: tuple[str, ...] | None


def odd_name(hostname: str) -> Finding | None:
    """What is wrong with our name before anybody is asked."""
    remedy = "set hostname to the full name that this machine's address resolves to"
    if hostname.startswith("["):
        return warn("name", f"{hostname} is an address; many servers refuse one in EHLO", remedy)
    if "." not in hostname:
        return warn("name", f"{hostname} is not a full name; many servers refuse such a one in EHLO", remedy)
    return None


def name_unknown(hostname: str, reason: str) -> Finding:
    """The addresses of our name could not be found out."""
    return warn("name", f"the address of {hostname} is not known: {reason}", "see whether the resolver answers")


def name(hostname: str, addresses: Sequence[Address]) -> list[Finding]:
    """Our name and its addresses."""
    if not addresses:
        remedy = "publish an A record for it, or set hostname to another name"
        return [warn("name", f"{hostname} has no address; many servers refuse such a name in EHLO", remedy)]
    hidden = [one for one in addresses if one.refusal is not None]
    if len(hidden) == len(addresses):
        shown = "; ".join(str(one.refusal) for one in hidden)
        return [warn("name", f"{hostname}: {shown}", "set hostname to the name of the address that mail leaves from")]
    texts = ", ".join(one.text for one in addresses)
    return [ok("name", f"{hostname} is {texts}"), *(_back(hostname, one) for one in addresses if one.refusal is None)]


def _back(hostname: str, address: Address) -> Finding:
    """Many servers refuse mail from an address without a name, or with one that leads elsewhere."""
    if address.names is None:
        return warn("name", f"what {address.text} is called is not known", "see whether the resolver answers")
    if hostname in address.names:
        return ok("name", f"{address.text} is {hostname}")
    found = ", ".join(address.names) or "nothing"
    remedy = f"let the provider of the address set its PTR record to {hostname}, if mail leaves from there"
    return warn("name", f"{address.text} is called {found}; many servers refuse mail from it", remedy)


# DNS


def resolvers(answers: Sequence[tuple[HostPort, str | None]]) -> list[Finding]:
    """Each DNS server, and why it gave no answer; None: it did."""
    if not answers:
        return [fail("dns", "there is no DNS server", "name one in dns.nameservers or in /etc/resolv.conf")]
    silent = all(problem is not None for _, problem in answers)
    judge = fail if silent else warn
    remedy = "see that it runs and lets this machine ask, or take it out of dns.nameservers"
    return [
        ok("dns", f"{server} answers") if problem is None else judge("dns", f"{server}: {problem}", remedy)
        for server, problem in answers
    ]


@dataclass(frozen=True, slots=True)
class DnssecSeen:
    """What the self-test came to. `tested`: it could be made. `doubt`: what is wrong with a trust that was ordered."""

    servers: tuple[HostPort, ...]
    trusted: bool
    tested: bool
    reason: str
    doubt: str | None = None


def dnssec(settings: DnsSettings, seen: DnssecSeen) -> Finding:
    """Whether DANE is on."""
    if not seen.trusted:
        return warn("dnssec", f"DANE is off: {seen.reason}", _turn_on(settings, seen.servers))
    if not seen.tested:
        remedy = "see that the resolver reaches the Internet, or name other domains in dns.self_test_signed and _bogus"
        return warn("dnssec", f"DANE is on, but {seen.reason}", remedy)
    if seen.doubt is not None:
        return warn("dnssec", seen.doubt, f"{_OWN_RESOLVER}; and leave dns.trust_ad at auto")
    return ok("dnssec", f"DANE is on: {seen.reason}")


def _turn_on(settings: DnsSettings, servers: Sequence[HostPort]) -> str:
    if settings.trust_ad is TrustAd.NO:
        return "set dns.trust_ad to auto, with a validating resolver on this machine in dns.nameservers"
    if servers and (settings.nameservers or all(ip_address(server.host).is_loopback for server in servers)):
        return (
            f"turn validation on in the resolver (deploy/unbound.conf does); "
            f"`dig +dnssec {settings.self_test_signed}` must show the flag ad"
        )
    return f"{_OWN_RESOLVER}; one on another machine only where the network between is yours alone"


# The queue


@dataclass(frozen=True, slots=True)
class FolderSeen:
    """The queue folder. `parent` is the nearest folder that is there: the folder itself, or one above it."""

    path: Path
    parent: Path
    is_folder: bool
    writable: bool  # of `parent`
    free: int  # octets on the disk
    reserve: int  # of them kept for delivering


def folder(seen: FolderSeen) -> list[Finding]:
    """The folder and the room on its disk."""
    remedy = "run this as the user of the service; if it is, give that user the folder (chown), or set queue.path"
    made = "the unit's StateDirectory makes it when the service starts; else make it, for the service's user"
    if not seen.is_folder:
        return [fail("queue", f"{seen.parent} is not a folder", "set queue.path to a folder")]
    if not seen.writable:
        if seen.parent != seen.path:
            return [fail("queue", f"{seen.path} cannot be made: {seen.parent} cannot be written", made)]
        return [fail("queue", f"{seen.path} cannot be written", remedy)]
    text = "can be written" if seen.parent == seen.path else "does not exist yet; it is made when the service starts"
    return [ok("queue", f"{seen.path} {text}"), _room(seen)]


def _room(seen: FolderSeen) -> Finding:
    text, remedy = f"{seen.free // _MIB} MiB are free on the disk of the queue", "make room on that disk"
    if seen.free < seen.reserve:
        return fail("queue", f"{text}: no new mail is taken", remedy)
    if seen.free < _ROOM_IS_SCARCE * seen.reserve:
        return warn("queue", f"{text}; below {seen.reserve // _MIB} MiB no new mail is taken", remedy)
    return ok("queue", text)


def service(pid: int | str | None) -> Finding:
    """The service that holds the folder: its process id, None when there is none, or why that cannot be seen."""
    if isinstance(pid, str):
        return warn("service", f"whether it runs cannot be seen: {pid}", "run this as the user of the service")
    return ok("service", "does not run" if pid is None else f"runs, as process {pid or 'that has just begun'}")


def schema(versions: tuple[int, int] | str) -> Finding:
    """The version of the queue (0: none yet) and the one that this Relay writes, or why it cannot be used."""
    if isinstance(versions, str):
        remedy = "install the version of Relay that wrote it, or bring the queue back from a copy: docs/queue.md"
        return fail("queue", versions, remedy)
    found, newest = versions
    if found == 0:
        return ok("queue", f"no mail was ever queued here; schema {newest} is written")
    if found < newest:
        return ok("queue", f"schema {found}, which the service converts to {newest} when it starts")
    return ok("queue", f"schema {found}")


def holding(held: int, rules: int) -> list[Finding]:
    """What operators keep back: `held` recipients, and new mail by so many hold rules. Nothing: no finding."""
    found = []
    if held:
        text = f"{count(held, 'recipient')} on hold"
        found.append(
            warn("queue", text, "`relay queue list --state held` shows them, `relay queue release` lets them go")
        )
    if rules:
        text = f"new mail is put on hold by {count(rules, 'hold rule')}"
        found.append(warn("queue", text, "`relay queue hold-rule list` shows them; remove those that are over"))
    return found


# Files


def authorities(trusted: Roots | str) -> Finding:
    """The trusted authorities, or why there are none."""
    if isinstance(trusted, str):
        remedy = "mend tls.ca_file, and install the system's authorities (package ca-certificates)"
        return fail("authorities", trusted, remedy)
    return ok("authorities", f"{len(trusted.certificates)} are trusted")


def certificate(chain: Sequence[bytes], hostname: str, trust: Trust) -> list[Finding]:
    """What clients will think of the service's certificate: `chain` in DER, leaf first."""
    subject, renew = "certificate", "renew it; Relay takes the new files within a minute"
    leaf = chain[0]
    try:
        begins, ends = validity(leaf)
    except CertificateSyntaxError as error:
        return [fail(subject, f"it cannot be read: {error}", "have it issued anew")]
    if trust.now > ends:
        return [fail(subject, f"it expired on {ends:%Y-%m-%d}: clients refuse it", renew)]
    if trust.now < begins:
        return [fail(subject, f"it is not valid before {begins:%Y-%m-%d}", "wait, or set the clock")]
    found = []
    if ends - trust.now < EXPIRES_SOON:
        found.append(warn(subject, f"it expires on {ends:%Y-%m-%d}", renew))
    wrong_name = name_fault(leaf, hostname)
    if wrong_name is not None:
        remedy = f"have one issued for {hostname}, unless clients use one of those names"
        found.append(warn(subject, wrong_name.text, remedy))
    fault = check_chain(tuple(chain), trust)
    if fault is not None:
        remedy = renew if fault.code == EXPIRED else _ISSUE
        found.append(warn(subject, f"clients that check it may refuse it: {fault.text}", remedy))
    return found or [ok(subject, f"it is for {hostname} and good until {ends:%Y-%m-%d}")]


def users(count: int | str) -> Finding:
    """How many there are in the users file, or what is wrong with it."""
    if isinstance(count, str):
        return fail("users", count, "mend the line, or let `relay user add` write the file")
    if count == 0:
        return warn("users", "the users file is empty: nobody can log in", "`relay user add NAME`")
    return ok("users", f"{count} may log in")


def open_files(allowed: int | None, wanted: int) -> Finding:
    """The most files that a process may have open here (None: no limit), and how many the settings ask for."""
    if allowed is not None and allowed < wanted:
        remedy = "raise LimitNOFILE in the unit (or ulimit -n), or lower submission.max_connections"
        return warn("open files", f"{allowed} are allowed here, the settings may need {wanted}", remedy)
    return ok("open files", f"{'any number' if allowed is None else allowed} may be open, {wanted} may be needed")


# Ports


def bindable(address: HostPort, error: OSError | None) -> Finding:
    """Whether a listener can have its address while the service does not run."""
    if error is None:
        return ok("listeners", f"{address} is free")
    text = error.strerror or str(error)
    match error.errno:
        case errno.EACCES:
            remedy = "nothing, if the service is started with the right to low ports (AmbientCapabilities in the unit)"
            return warn("listeners", f"{text}, for this user", remedy)
        case errno.EADDRINUSE:
            remedy = f"another program has it (`ss -ltnp 'sport = :{address.port}'`): stop that, or choose another"
        case _:
            remedy = "choose an address that this machine has (`ip address`)"
    return fail("listeners", text, remedy)


def inherited(name: str) -> Finding:
    """A listener whose socket systemd opens: its unit says where, and our settings do not."""
    return ok("listeners", f"systemd opens the socket {name}: `systemctl list-sockets` shows where")


def answering(address: HostPort, problem: str | None) -> Finding:
    """Whether the service that runs answers there."""
    if problem is None:
        return ok("listeners", f"the service answers at {address}")
    remedy = "restart the service if its settings have changed since it started; else see its log"
    return fail("listeners", f"{address}: {problem}", remedy)


@dataclass(frozen=True, slots=True)
class Called:
    """A mail host that was called. `answered` at these addresses; `problems`: what happened at others."""

    host: HostPort
    answered: tuple[str, ...]
    problems: tuple[str, ...]


def reach(subject: str, hosts: Sequence[Called], remedy: str) -> list[Finding]:
    """Whether mail hosts can be reached: one that does is enough to show that the way is open."""
    nobody = not any(host.answered for host in hosts)
    found = []
    for host in hosts:
        problems = "; ".join(host.problems)
        if not host.answered:
            found.append((fail if nobody else warn)(subject, f"{host.host}: {problems}", remedy))
        elif host.problems:
            text = f"{host.host} answers at {', '.join(host.answered)}, but: {problems}"
            found.append(warn(subject, text, "see whether this machine has a way to that kind of address (IPv6)"))
        else:
            found.append(ok(subject, f"{host.host} answers at {', '.join(host.answered)}"))
    return found


def overrides(entries: Sequence[Override], now: datetime) -> list[Finding]:
    """Overrides that have ended, or will within two weeks."""
    found = []
    for one in entries:
        whom = f"{', '.join(one.keys)} ({one.level.value}, by {one.owner})"
        if one.until <= now:
            text = f"{whom} was in force until {of_end(one.until)}, and is no longer"
            found.append(warn("overrides", text, "take it out of the settings, or give it a later `until`"))
        elif one.until <= now + EXPIRES_SOON:
            text = f"{whom} is in force until {of_end(one.until)}"
            found.append(warn("overrides", text, "see whether it is needed any longer: from then on it has no effect"))
    current = sum(now < one.until for one in entries)
    return found or [ok("overrides", f"{current} in force" if entries else "there are none")]


def memories(damaged: Sequence[Path]) -> Finding:
    """Files of what Relay remembers that were damaged once and moved aside."""
    if not damaged:
        return ok("memory", "no file was damaged")
    text = f"moved aside, since damaged: {', '.join(map(str, damaged))}; what was in them is learned anew"
    return warn("memory", text, "look at the disk (`dmesg`, SMART); then delete what was moved aside")


def tls_reports(domain: str, *, signed: bool) -> Finding:
    """Reports by mail must be signed (RFC 8460 section 3). `domain`: of their sender."""
    if signed:
        return ok("tls reports", f"come from {domain}, signed")
    remedy = (
        f"make a key for {domain} with `relay dkim keygen`, or set tlsrpt.sender to an address whose domain has one"
    )
    return warn("tls reports", f"go by HTTPS alone: no [[dkim_key]] signs mail from {domain}", remedy)
