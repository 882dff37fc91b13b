"""DNS behind three answers: records, a certain "no", or a failure.

`secure` means validated by DNSSEC: the resolver said so (AD), and it is trusted to say so. Every question asks for
DNSSEC, because a resolver that is not asked says nothing and DANE would be off without a sound. Names are absolute;
there is no search list. A "no" is only believed from a server that could know; all doubt is a failure, which callers
must take as "try later".

It must not validate signatures itself, and never uses data that failed validation.

RFC 2308 (negative answers), RFC 4035 section 3.2.3 and RFC 6840 section 5.7 (AD), RFC 9520 (remembering failures).
"""

from __future__ import annotations

import asyncio
import ipaddress
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
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from relay.lookup import exchange
from relay.lookup.inflight import InFlight
from relay.lookup.servers import Problem, Question, absolute_name, ask_servers, name_text, system_nameservers
from relay.policy.tlsa import TlsaRecord
from relay.settings import DnsSettings, HostPort, TrustAd

T = TypeVar("T")

_FAILURE_SECONDS = 5.0  # how long a failure is remembered, against storms of retries
_LONGEST_SECONDS = 3600  # the same for answers, whatever their TTL: the resolver has a cache too, this is for bursts
_CACHE_SIZE = 20_000
_RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class MxRecord:
    """An MX record. `exchange` is in lower case, without the final dot; `.` is the root."""

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
    """Nothing is known; `reason` is a clause for a person. `bogus`: DNSSEC validation of the answer failed."""

    reason: str
    bogus: bool = False


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
        self.tested = False  # with an answer: until then doubt must not switch DANE off
        self._configured = tuple(nameservers)
        self._resolv_conf = resolv_conf
        self._servers = self._configured or system_nameservers(resolv_conf)
        self._timeout_seconds = timeout.total_seconds()
        self._monotonic = monotonic
        self._cache: OrderedDict[_Key, _Kept] = OrderedDict()
        self._questions: InFlight[_Key, _Kept] = InFlight()

    @property
    def servers(self) -> tuple[HostPort, ...]:
        """Whom it asks."""
        return self._servers

    async def a(self, name: str) -> Answer[str] | NotFound | LookupFailed:
        """The IPv4 addresses of `name`."""
        return await self._look_up(name, dns.rdatatype.A)

    async def aaaa(self, name: str) -> Answer[str] | NotFound | LookupFailed:
        """The IPv6 addresses of `name`."""
        return await self._look_up(name, dns.rdatatype.AAAA)

    async def cname(self, name: str) -> Answer[str] | NotFound | LookupFailed:
        """What `name` itself is an alias of; the alias is not followed."""
        return await self._look_up(name, dns.rdatatype.CNAME)

    async def mx(self, name: str) -> Answer[MxRecord] | NotFound | LookupFailed:
        """The MX records of `name`."""
        return await self._look_up(name, dns.rdatatype.MX)

    async def txt(self, name: str) -> Answer[bytes] | NotFound | LookupFailed:
        """The TXT records of `name`, the strings of each joined."""
        return await self._look_up(name, dns.rdatatype.TXT)

    async def tlsa(self, name: str) -> Answer[TlsaRecord] | NotFound | LookupFailed:
        """The TLSA records of `name`, such as `_25._tcp.mx.example.org`."""
        return await self._look_up(name, dns.rdatatype.TLSA)

    async def ptr(self, address: str) -> Answer[str] | NotFound | LookupFailed:
        """The names that an IP address is said to have. RFC 1035 section 3.5, RFC 3596 section 2.5."""
        return await self._look_up(ipaddress.ip_address(address).reverse_pointer, dns.rdatatype.PTR)

    async def assess(self, settings: DnsSettings) -> tuple[bool, str]:
        """Find out whether the servers' word on DNSSEC can be believed; set `trusted`; say so, and why.

        `auto` needs servers that the settings name or that are on loopback, every one of which says AD for a signed
        name and refuses a wrongly signed one. A test that cannot be done (no network, a resolver that is starting)
        leaves `trusted` as it was, and at first True: otherwise whoever can stop the test's packets switches DANE off.
        A server that does not say AD is not affected, and one that does only makes the requirement stricter.
        """
        servers = self._configured or system_nameservers(self._resolv_conf)
        if servers != self._servers:
            self._servers, self.trusted, self.tested = servers, False, False
            self._cache.clear()
        found, sentence = await self._judge(settings)
        if found is None and self.tested:
            return self.trusted, f"{sentence}; the resolver stays {'trusted' if self.trusted else 'untrusted'}"
        if found is None:
            self.trusted = True
            return True, f"{sentence}; the resolver is believed until it can be"
        self.tested = True
        if found and not self.trusted:
            self._cache.clear()  # answers from before may lack AD
        self.trusted = found
        return found, sentence

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
            if not self._configured and not ipaddress.ip_address(server.host).is_loopback:
                return False, f"the DNS server {server} is not on this machine, and not named in dns.nameservers"
        for server in self._servers:
            found, sentence = await self._test(server, settings)
            if not found:
                return found, sentence
        servers = ", ".join(map(str, self._servers))
        return True, f"{servers} vouches for {settings.self_test_signed} and refuses {settings.self_test_bogus}"

    async def _test(self, server: HostPort, settings: DnsSettings) -> tuple[bool | None, str]:
        """The self-test of one server, both ways; None: it could not be done."""
        questions = [
            Question(absolute_name(name), dns.rdatatype.A)
            for name in (settings.self_test_signed, settings.self_test_bogus)
        ]
        signed, bogus = await asyncio.gather(
            *(ask_servers((server,), question, self._timeout_seconds) for question in questions)
        )
        if not isinstance(signed, Problem) and not signed.flags & dns.flags.AD:
            return False, f"the DNS server {server} does not vouch for the signed name {settings.self_test_signed}"
        if not isinstance(bogus, Problem):
            return False, f"the DNS server {server} accepts the wrongly signed name {settings.self_test_bogus}"
        if isinstance(signed, Problem):
            return None, f"{server} could not be tested: {signed.sentence(questions[0])}"
        if bogus not in (Problem.BOGUS, Problem.SERVFAIL):
            return None, f"{server} could not be tested: {bogus.sentence(questions[1])}"
        return True, ""

    async def _look_up(self, name: str, rdtype: dns.rdatatype.RdataType) -> _Found:
        key = (name, rdtype)
        kept = self._cache.get(key)
        if kept is None or kept.expires <= self._monotonic():
            kept = await self._questions.run(key, lambda: self._ask(key))
        else:
            self._cache.move_to_end(key)
        return kept.believed if self.trusted else kept.doubted

    async def _ask(self, key: _Key) -> _Kept:
        name, rdtype = key
        try:
            question = Question(absolute_name(name), rdtype)
        except (dns.exception.DNSException, UnicodeError):  # no such name can exist
            return self._keep(key, NotFound(Missing.NXDOMAIN, False, name, _LONGEST_SECONDS))
        if not self._servers:  # the network may have come up since
            self._servers = system_nameservers(self._resolv_conf)
        result = await ask_servers(self._servers, question, self._timeout_seconds)
        if isinstance(result, Problem):
            return self._keep(key, LookupFailed(result.sentence(question), bogus=result is Problem.BOGUS))
        return self._keep(key, _read(result, question))

    def _keep(self, key: _Key, found: _Found) -> _Kept:
        """Remember a result. Trust is applied when it is read, as it may be withdrawn meanwhile."""
        if isinstance(found, LookupFailed):
            kept = _Kept(found, found, self._monotonic() + _FAILURE_SECONDS)
        else:
            expires = self._monotonic() + min(found.ttl, _LONGEST_SECONDS)
            kept = _Kept(found, replace(found, secure=False), expires)
        self._cache[key] = kept
        self._cache.move_to_end(key)
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)
        return kept


def _read(response: dns.message.Message, question: Question) -> _Found:
    """What a NOERROR or NXDOMAIN response says; `secure` is the plain AD bit."""
    unusable = LookupFailed(Problem.MALFORMED.sentence(question))
    if not isinstance(response, dns.message.QueryMessage):
        return unusable
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException:  # a loop of CNAMEs, or records of a name that does not exist
        return unusable
    secure, canonical = bool(response.flags & dns.flags.AD), name_text(chain.canonical_name)
    rrset = chain.answer
    if question.rdtype == dns.rdatatype.TLSA:
        rrset = response.get_rrset(response.answer, chain.canonical_name, dns.rdataclass.IN, exchange.OPAQUE_TLSA)
    if rrset is not None:
        return Answer(_records(rrset), secure, canonical, min(chain.minimum_ttl, rrset.ttl))
    if not _may_say_no(response):
        return unusable
    kind = Missing.NXDOMAIN if response.rcode() == dns.rcode.NXDOMAIN else Missing.NODATA
    return NotFound(kind, secure, canonical, chain.minimum_ttl)


def _may_say_no(response: dns.message.Message) -> bool:
    """Whether a response without records is a "no". Referrals, and servers that do not recurse, only seem to say it."""
    if not response.flags & (dns.flags.RA | dns.flags.AA):
        return False
    kinds = {rrset.rdtype for rrset in response.authority}
    return dns.rdatatype.SOA in kinds or dns.rdatatype.NS not in kinds  # RFC 2308 §2.2: NODATA and referrals


def _records(rrset: dns.rrset.RRset) -> tuple[Any, ...]:
    match rrset.rdtype:
        case dns.rdatatype.MX:
            return tuple(MxRecord(record.preference, name_text(record.exchange)) for record in rrset)
        case dns.rdatatype.TXT:
            return tuple(b"".join(record.strings) for record in rrset)
        case exchange.OPAQUE_TLSA:
            return tuple(_tlsa_record(record.data) for record in rrset)
        case dns.rdatatype.CNAME | dns.rdatatype.PTR:
            return tuple(name_text(record.target) for record in rrset)
        case _:
            return tuple(record.address for record in rrset)


def _tlsa_record(data: bytes) -> TlsaRecord:
    """RFC 6698 §2.1. What a record is too short for becomes 255, which nothing can use."""
    usage, selector, matching_type = data[:3].ljust(3, b"\xff")
    return TlsaRecord(usage, selector, matching_type, data[3:])
