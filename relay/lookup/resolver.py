"""DNS behind three answers: records, a certain "no", or a failure. dnspython does the packets.

`secure` means validated by DNSSEC: the resolver said so (AD), and it is trusted to say so. Every question asks for
DNSSEC, because a resolver that is not asked says nothing and DANE would be off without a sound. Names are absolute;
there is no search list. A "no" is only believed from a server that could know; all doubt is a failure, which callers
must take as "try later".

It must not validate signatures itself, and never uses data that failed validation.

RFC 2308 (negative answers), RFC 4035 section 3.2.3 and RFC 6840 section 5.7 (AD), RFC 8914 (extended errors).
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from relay.lookup.exchange import MalformedAnswer, ask, make_query
from relay.lookup.inflight import InFlight
from relay.policy.tlsa import TlsaRecord
from relay.settings import DnsSettings, HostPort, TrustAd

T = TypeVar("T")

_FIRST_WAIT_SECONDS = 2.0  # for one server's answer, then twice that, and so on
_FAILURE_SECONDS = 5.0  # how long a failure is remembered, against storms of retries (RFC 9520 §3.2)
_LONGEST_TTL_SECONDS = 3600  # the resolver caches too; this one is for bursts
_CACHE_SIZE = 20_000
# RFC 8914 §4: the extended errors that say "DNSSEC validation failed".
_BOGUS_CODES = frozenset({1, 2, 5, 6, 7, 8, 9, 10, 11, 12})
_RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class MxRecord:
    """An MX record: `exchange` in lower case without the final dot, as DNS presents it; `.` for the root."""

    preference: int
    exchange: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """Records were found, at `canonical` after CNAMEs. `ttl` in seconds, as received.

    `secure`: the whole chain, from the name asked to the records, was validated.
    """

    records: tuple[T, ...]
    secure: bool
    canonical: str
    ttl: int


class Missing(Enum):
    """What there is not: the name, or records of this type at it."""

    NXDOMAIN = "no such name"
    NODATA = "no such records"


@dataclass(frozen=True, slots=True)
class NotFound:
    """DNS says for sure that there are no such records, at `canonical` after CNAMEs. `ttl` in seconds."""

    kind: Missing
    secure: bool
    canonical: str
    ttl: int


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """Nothing is known. `bogus`: there is an answer, but DNSSEC validation failed. `reason` is a clause for a person."""

    reason: str
    bogus: bool = False


class Problem(Enum):
    """Why one server gave no answer that can be used; with the words for it."""

    SILENT = "the DNS lookup of {} timed out"
    UNREACHABLE = "no DNS server could be reached to look up {}"
    SERVFAIL = "DNS reported a failure (SERVFAIL) for {}"
    BOGUS = "the DNS answer for {} failed DNSSEC validation"
    REFUSED = "the DNS server refused to look up {}"
    MALFORMED = "the DNS server gave an unusable answer for {}"
    NO_SERVER = "there is no DNS server to look up {}"


@dataclass(frozen=True, slots=True)
class _Question:
    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType

    def __str__(self) -> str:
        return f"{_text(self.name)} ({self.rdtype.name})"


_Found = Answer[Any] | NotFound | LookupFailed
_Key = tuple[str, dns.rdatatype.RdataType]


@dataclass(frozen=True, slots=True)
class _Kept:
    """A result as it reads when the resolver's AD is believed, and when it is not."""

    believed: _Found
    doubted: _Found
    expires: float


class Resolver:
    """Asks `nameservers` (none given: those of `resolv_conf`), and remembers what they said for its TTL.

    `timeout` limits one lookup, retries included. `trusted` says whether the servers' word on DNSSEC is believed;
    it is False until `assess` finds otherwise. `monotonic` gives seconds for the cache.
    """

    def __init__(
        self,
        nameservers: Sequence[HostPort],
        timeout: timedelta,
        resolv_conf: Path = _RESOLV_CONF,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trusted = False
        self._configured = tuple(nameservers)
        self._resolv_conf = resolv_conf
        self._servers = self._configured or system_nameservers(resolv_conf)
        self._timeout = timeout.total_seconds()
        self._monotonic = monotonic
        self._cache: OrderedDict[_Key, _Kept] = OrderedDict()
        self._questions: InFlight[_Key, _Kept] = InFlight()

    async def a(self, name: str) -> Answer[str] | NotFound | LookupFailed:
        """The IPv4 addresses of `name`."""
        return await self._look_up((name, dns.rdatatype.A))

    async def aaaa(self, name: str) -> Answer[str] | NotFound | LookupFailed:
        """The IPv6 addresses of `name`."""
        return await self._look_up((name, dns.rdatatype.AAAA))

    async def cname(self, name: str) -> Answer[str] | NotFound | LookupFailed:
        """What `name` itself is an alias of; the alias is not followed."""
        return await self._look_up((name, dns.rdatatype.CNAME))

    async def mx(self, name: str) -> Answer[MxRecord] | NotFound | LookupFailed:
        """The MX records of `name`."""
        return await self._look_up((name, dns.rdatatype.MX))

    async def txt(self, name: str) -> Answer[bytes] | NotFound | LookupFailed:
        """The TXT records of `name`, the strings of each joined."""
        return await self._look_up((name, dns.rdatatype.TXT))

    async def tlsa(self, name: str) -> Answer[TlsaRecord] | NotFound | LookupFailed:
        """The TLSA records of `name`, such as `_25._tcp.mx.example.org`."""
        return await self._look_up((name, dns.rdatatype.TLSA))

    async def assess(self, settings: DnsSettings) -> tuple[bool, str]:
        """Find out whether the servers' word on DNSSEC can be believed; set `trusted`; say so, and why.

        `auto` needs servers on loopback, every one of which says AD for a signed name and refuses a wrongly signed
        one. A test that cannot be done (no network) leaves `trusted` as it was: otherwise whoever can stop the
        test's packets switches DANE off.
        """
        servers = self._configured or system_nameservers(self._resolv_conf)
        if servers != self._servers:
            self._servers, self.trusted = servers, False
            self._cache.clear()
        found, sentence = await self._judge(settings)
        if found is None:
            sentence += f"; it stays {'trusted' if self.trusted else 'untrusted'}"
        elif found and not self.trusted:
            self._cache.clear()  # answers from before may lack AD
        self.trusted = self.trusted if found is None else found
        return self.trusted, sentence

    async def close(self) -> None:
        """Give up all lookups that run."""
        await self._questions.close()

    async def _judge(self, settings: DnsSettings) -> tuple[bool | None, str]:
        """None: it could not be found out."""
        if settings.trust_ad is not TrustAd.AUTO:
            return settings.trust_ad is TrustAd.YES, f"dns.trust_ad is {settings.trust_ad.value}"
        if not self._servers:
            return False, f"there is no DNS server: none is set, and {self._resolv_conf} names none"
        for server in self._servers:
            if not ipaddress.ip_address(server.host).is_loopback:
                return False, f"the DNS server {server} is not on this machine, so its word may be forged on the way"
        for server in self._servers:
            found, sentence = await self._test(server, settings)
            if not found:
                return found, sentence
        servers = ", ".join(map(str, self._servers))
        return True, f"{servers} validates: {settings.self_test_signed} is signed, {settings.self_test_bogus} refused"

    async def _test(self, server: HostPort, settings: DnsSettings) -> tuple[bool | None, str]:
        """The self-test of one server, both ways; None: it could not be done."""
        signed, bogus = await asyncio.gather(
            self._ask_patiently(server, _Question(_name(settings.self_test_signed), dns.rdatatype.A)),
            self._ask_patiently(server, _Question(_name(settings.self_test_bogus), dns.rdatatype.A)),
        )
        if not isinstance(signed, Problem) and not signed.flags & dns.flags.AD:
            return False, f"the DNS server {server} does not say that {settings.self_test_signed} is signed"
        if not isinstance(bogus, Problem):
            return False, f"the DNS server {server} takes the wrongly signed {settings.self_test_bogus} for good"
        for name, result in ((settings.self_test_signed, signed), (settings.self_test_bogus, bogus)):
            if isinstance(result, Problem) and (result is not Problem.BOGUS and result is not Problem.SERVFAIL):
                return None, f"the self-test could not be done: {result.value.format(name)}"
        if isinstance(signed, Problem):
            return None, f"the self-test could not be done: {signed.value.format(settings.self_test_signed)}"
        return True, ""

    async def _ask_patiently(self, server: HostPort, question: _Question) -> dns.message.Message | Problem:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask_server(server, question, self._timeout)
        except TimeoutError:
            return Problem.SILENT

    async def _look_up(self, key: _Key) -> Any:
        kept = self._cache.get(key)
        if kept is None or kept.expires <= self._monotonic():
            kept = await self._questions.run(key, lambda: self._look_up_now(key))
        else:
            self._cache.move_to_end(key)
        return kept.believed if self.trusted else kept.doubted

    async def _look_up_now(self, key: _Key) -> _Kept:
        name, rdtype = key
        try:
            question = _Question(_name(name), rdtype)
        except dns.exception.DNSException:
            found: _Found = NotFound(Missing.NXDOMAIN, False, name, _LONGEST_TTL_SECONDS)  # no such name can exist
        else:
            result = await self._ask_servers(question)
            if isinstance(result, Problem):
                found = LookupFailed(result.value.format(question), result is Problem.BOGUS)
            else:
                found = _read(result, question)
        return self._keep(key, found)

    def _keep(self, key: _Key, found: _Found) -> _Kept:
        seconds = _FAILURE_SECONDS if isinstance(found, LookupFailed) else min(found.ttl, _LONGEST_TTL_SECONDS)
        doubted = found if isinstance(found, LookupFailed) or not found.secure else replace(found, secure=False)
        kept = _Kept(found, doubted, self._monotonic() + seconds)
        self._cache[key] = kept
        self._cache.move_to_end(key)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return kept

    async def _ask_servers(self, question: _Question) -> dns.message.Message | Problem:
        """Ask one server after the other, and again while there is time and any of them is only slow."""
        if not self._servers:
            self._servers = self._configured or system_nameservers(self._resolv_conf)
        problem = Problem.SILENT if self._servers else Problem.NO_SERVER
        try:
            async with asyncio.timeout(self._timeout):
                for wait in itertools.accumulate(itertools.repeat(_FIRST_WAIT_SECONDS), lambda last, _: last * 2):
                    silent = False
                    for server in self._servers:
                        result = await self._ask_server(server, question, wait)
                        if not isinstance(result, Problem) or result is Problem.BOGUS:
                            return result  # a server that does not validate must not overrule one that does
                        silent = silent or result is Problem.SILENT
                        problem = result if result is not Problem.SILENT else problem
                    if not silent:
                        break
        except TimeoutError:
            pass
        return problem

    async def _ask_server(
        self, server: HostPort, question: _Question, wait_seconds: float
    ) -> dns.message.Message | Problem:
        try:
            async with asyncio.timeout(wait_seconds):
                response = await ask(server, make_query(question.name, question.rdtype))
        except TimeoutError:
            return Problem.SILENT
        except OSError:
            return Problem.UNREACHABLE
        except MalformedAnswer:
            return Problem.MALFORMED
        match response.rcode():
            case dns.rcode.NOERROR | dns.rcode.NXDOMAIN:
                return response
            case dns.rcode.SERVFAIL:
                bogus = _says_bogus(response) or await self._answers_unchecked(server, question, wait_seconds)
                return Problem.BOGUS if bogus else Problem.SERVFAIL
            case _:
                return Problem.REFUSED

    async def _answers_unchecked(self, server: HostPort, question: _Question, wait_seconds: float) -> bool:
        """Whether there is an answer when validation is left out (CD): then it is validation that failed.

        For resolvers without extended errors. The answer itself is looked at no further.
        """
        try:
            async with asyncio.timeout(wait_seconds):
                response = await ask(server, make_query(question.name, question.rdtype, checking=False))
        except (OSError, MalformedAnswer):
            return False
        return response.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def system_nameservers(resolv_conf: Path) -> tuple[HostPort, ...]:
    """The addresses in the `nameserver` lines of `resolv_conf`; lines with mistakes are skipped, no file is no server."""
    try:
        text = resolv_conf.read_text(errors="replace")
    except OSError:
        return ()
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and _is_address(words[1]):
            servers.append(HostPort(host=words[1], port=53))
    return tuple(servers)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _name(text: str) -> dns.name.Name:
    """An absolute name, no character of it special. Raises DNSException when it cannot be one (too long, empty label)."""
    return dns.name.Name([*(label.encode() for label in text.removesuffix(".").split(".")), b""])


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _says_bogus(response: dns.message.Message) -> bool:
    return any(error.code in _BOGUS_CODES for error in response.extended_errors())


def _read(response: dns.message.Message, question: _Question) -> _Found:
    """What a NOERROR or NXDOMAIN response says; `secure` is the plain AD bit."""
    secure = bool(response.flags & dns.flags.AD)
    unusable = LookupFailed(Problem.MALFORMED.value.format(question))
    if not isinstance(response, dns.message.QueryMessage):
        return unusable
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException:  # a loop of CNAMEs, or records of a name that does not exist
        return unusable
    canonical = _text(chain.canonical_name)
    if chain.answer is not None:
        return Answer(_records(chain.answer), secure, canonical, chain.minimum_ttl)
    if not _may_say_no(response):
        return unusable
    kind = Missing.NXDOMAIN if response.rcode() == dns.rcode.NXDOMAIN else Missing.NODATA
    return NotFound(kind, secure, canonical, chain.minimum_ttl)


def _may_say_no(response: dns.message.Message) -> bool:
    """Whether a response without records is a "no": a referral or a server that does not recurse only looks like one."""
    if not response.flags & (dns.flags.RA | dns.flags.AA):
        return False
    kinds = {rrset.rdtype for rrset in response.authority}
    return dns.rdatatype.SOA in kinds or dns.rdatatype.NS not in kinds  # RFC 2308 §2.2: NODATA and referrals


def _records(rrset: dns.rrset.RRset) -> tuple[Any, ...]:
    match rrset.rdtype:
        case dns.rdatatype.MX:
            return tuple(MxRecord(record.preference, _text(record.exchange)) for record in rrset)
        case dns.rdatatype.TXT:
            return tuple(b"".join(record.strings) for record in rrset)
        case dns.rdatatype.TLSA:
            return tuple(TlsaRecord(record.usage, record.selector, record.mtype, record.cert) for record in rrset)
        case dns.rdatatype.CNAME:
            return tuple(_text(record.target) for record in rrset)
        case _:
            return tuple(record.address for record in rrset)
