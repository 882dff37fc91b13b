"""Whether SPF lets an address send for a domain: the walk through the records. RFC 7208 sections 4 and 5.

The grammar and the macros are in `relay.policy.spf`. A stranger writes the records, so all is bounded: ten terms that
ask DNS, ten names for each MX or PTR, two questions without an answer, 16 KiB of records, and the caller's time limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

from relay.lookup.resolver import Answer, LookupFailed, MxRecord, NotFound, Resolver
from relay.policy.spf import (
    BadSpf,
    Directive,
    IpAddress,
    Macros,
    Mechanism,
    Spf,
    SpfRecord,
    SpfResult,
    can_be_checked,
    expand,
    letters,
    quoted,
    same_network,
    select_record,
)

MAX_TERMS = 10  # that ask DNS; RFC 7208 section 4.6.4
MAX_VOID = 2  # questions without an answer, the same section
MAX_NAMES = 10  # of one MX or PTR, the same section
MAX_OCTETS = 16 * 1024  # of all records together: whoever writes more makes work, and a receiver may do it

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who says to send: the local part and domain of MAIL FROM, and the name in EHLO. RFC 7208 section 2.4.

    For the null sender it is postmaster at the name in EHLO.
    """

    local: str
    domain: str
    helo: str


async def check_host(resolver: Resolver, address: str, identity: Identity) -> Spf:
    """What SPF of `identity.domain` says of mail from `address`. Never raises; the caller limits the time."""
    client = ip_address(address)
    check = _Check(resolver, getattr(client, "ipv4_mapped", None) or client, identity)  # RFC 7208 section 5
    try:
        result, reason = await check.of(identity.domain)
    except _Ended as ended:
        result, reason = ended.result, ended.reason
    return Spf(result, identity.domain, reason, check.record, check.by_mailbox)


class _Ended(Exception):  # noqa: N818  (it is no error of ours)
    """The check ends here, however deep it is: no result of an inner record can change that."""

    def __init__(self, result: SpfResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class _Check:
    """One check: what it has cost so far, and what it has found out about the address."""

    def __init__(self, resolver: Resolver, address: IpAddress, identity: Identity) -> None:
        self.record: str | None = None  # of the domain that was asked for
        self.by_mailbox = False
        self._resolver = resolver
        self._address = address
        self._identity = identity
        self._terms = 0
        self._void = 0
        self._octets = 0
        self._names: tuple[str, ...] | None = None  # of the address, proven

    async def of(self, domain: str, *, first: bool = True) -> tuple[SpfResult, str]:
        """The result and the reason for it, for one domain."""
        if not can_be_checked(domain):
            return SpfResult.NONE, f"{domain} cannot have an SPF record"
        record = await self._record(domain)
        if record is None:
            return SpfResult.NONE, f"{domain} has no SPF record"
        if first:
            self.record = record.text
        for directive in record.directives:
            if await self._matches(directive, domain):
                return directive.result, f"{quoted(directive.text)} of {domain} matches"
        if record.redirect:
            return await self._redirected(record.redirect, domain)
        return SpfResult.NEUTRAL, f"no term of the record of {domain} matches"

    async def _record(self, domain: str) -> SpfRecord | None:
        found = await self._resolver.txt(domain)
        match found:
            case LookupFailed():
                raise _Ended(SpfResult.TEMPERROR, found.reason)
            case NotFound():
                return None
            case Answer():
                record = select_record(found.records)
                if isinstance(record, BadSpf):
                    raise _Ended(record.result, f"the SPF record of {domain}: {record.reason}")
                self._octets += 0 if record is None else len(record.text)
                if self._octets > MAX_OCTETS:
                    raise _Ended(SpfResult.TEMPERROR, f"the SPF records have more than {MAX_OCTETS} octets together")
                return record

    async def _redirected(self, spec: str, domain: str) -> tuple[SpfResult, str]:
        self._count_term(f"redirect={spec}")
        target = await self._expand(spec, domain)
        result, reason = await self.of(target, first=False)
        if result is SpfResult.NONE:
            raise _Ended(SpfResult.PERMERROR, f"redirect of {domain}: {reason}")
        return result, reason

    async def _matches(self, directive: Directive, domain: str) -> bool:
        match directive.mechanism:
            case Mechanism.ALL:
                return True
            case Mechanism.IP4 | Mechanism.IP6:
                return directive.network is not None and self._address in directive.network
        self._count_term(directive.text)
        target = await self._expand(directive.domain, domain) if directive.domain else domain
        match directive.mechanism:
            case Mechanism.INCLUDE:
                return await self._includes(target, domain)
            case Mechanism.A:
                return await self._is_among(directive, target)
            case Mechanism.MX:
                return await self._is_mail_host(directive, target)
            case Mechanism.EXISTS:
                return bool(self._known(await self._resolver.a(target)))
            case _:
                return any(_is_below(name, target) for name in await self._proven_names(counted=True))

    async def _includes(self, target: str, domain: str) -> bool:
        """RFC 7208 section 5.2."""
        result, reason = await self.of(target, first=False)
        if result is SpfResult.NONE:
            raise _Ended(SpfResult.PERMERROR, f"include of {domain}: {reason}")
        return result is SpfResult.PASS

    async def _is_among(self, directive: Directive, name: str) -> bool:
        return any(same_network(directive, self._address, one) for one in await self._addresses(name))

    async def _is_mail_host(self, directive: Directive, name: str) -> bool:
        """RFC 7208 section 5.4."""
        hosts: tuple[MxRecord, ...] = self._known(await self._resolver.mx(name))
        if len(hosts) > MAX_NAMES:
            raise _Ended(SpfResult.PERMERROR, f"{name} has more than {MAX_NAMES} MX records")
        for host in sorted(hosts, key=lambda one: one.preference):
            if await self._is_among(directive, host.exchange):
                return True
        return False

    async def _addresses(self, name: str) -> list[IpAddress]:
        """Those of the family that counts."""
        ask = self._resolver.a if self._address.version == 4 else self._resolver.aaaa
        return [ip_address(one) for one in self._known(await ask(name))]

    async def _proven_names(self, *, counted: bool) -> tuple[str, ...]:
        """The names of the address that lead back to it. RFC 7208 section 5.5: what fails here is only no name."""
        if self._names is None:
            found = await self._resolver.ptr(str(self._address))
            if counted and isinstance(found, NotFound):
                self._count_void()
            names = found.records[:MAX_NAMES] if isinstance(found, Answer) else ()
            ask = self._resolver.a if self._address.version == 4 else self._resolver.aaaa
            proven = []
            for name in names:
                back = await ask(name)
                if isinstance(back, Answer) and self._address in map(ip_address, back.records):
                    proven.append(name)
            self._names = tuple(proven)
        return self._names

    async def _expand(self, spec: str, domain: str) -> str:
        used = letters(spec)
        if used & {"l", "s"}:
            self.by_mailbox = True
        validated = "unknown"
        if "p" in used:
            validated = _best_name(await self._proven_names(counted=False), domain)
        who = self._identity
        return expand(spec, Macros(who.local, who.domain, who.helo, self._address, domain, validated))

    def _count_term(self, text: str) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise _Ended(SpfResult.PERMERROR, f"more than {MAX_TERMS} terms ask DNS, {quoted(text)} is one too many")

    def _count_void(self) -> None:
        self._void += 1
        if self._void > MAX_VOID:
            raise _Ended(SpfResult.PERMERROR, f"more than {MAX_VOID} names that it asks for do not exist")

    def _known(self, found: Answer[T] | NotFound | LookupFailed) -> tuple[T, ...]:
        """The records, or none; RFC 7208 section 5: a failure ends the check."""
        if isinstance(found, LookupFailed):
            raise _Ended(SpfResult.TEMPERROR, found.reason)
        if isinstance(found, NotFound):
            self._count_void()
            return ()
        return found.records


def _is_below(name: str, domain: str) -> bool:
    name, domain = name.lower(), domain.lower()
    return name == domain or name.endswith(f".{domain}")


def _best_name(names: tuple[str, ...], domain: str) -> str:
    """RFC 7208 section 7.3: the domain itself, else one below it, else any."""
    below = [name for name in names if _is_below(name, domain)]
    return next((one for one in below if one == domain), (below or names or ("unknown",))[0])
