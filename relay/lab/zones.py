"""A DNS server on loopback that answers from zone text as a validating, recursive resolver would.

Each zone is signed, unsigned or broken (`Security`); the server plays the resolver in front of such zones, so it sets
AD, follows CNAMEs and hides bogus data itself. There are no keys: it never claims signatures that do not exist, and
it is no place to test a validator. Faults can be put on single questions. It must not be used outside the lab.

RFC 1034 section 4.3.2 and RFC 4592 (finding an answer), RFC 2308 (negative answers), RFC 4035 section 3.2 (AD, CD),
RFC 6891 (EDNS), RFC 7766 (TCP), RFC 8020 (empty non-terminals), RFC 8914 (extended errors).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.node
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone

from relay.lab.listener import Listener
from relay.settings import HostPort

_PAYLOAD = 1232  # what we say we take over UDP; the client's own figure decides what it gets
_CHAIN_LIMIT = 12  # names in one chain of CNAMEs; Unbound gives up after 11 as well
_LOG_LIMIT, _PORT_ATTEMPTS = 100_000, 20
# We have no keys and signatures to show, and saying with AD set that there are none would be a lie.
_NO_KEYS = (dns.rdatatype.DS, dns.rdatatype.DNSKEY, dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.NSEC3)

Faults = Mapping[tuple[str, str], "Fault | Slow"]


class Security(Enum):
    """What DNSSEC validation says of a zone."""

    SIGNED = "signed"  # answers are authentic: AD
    UNSIGNED = "unsigned"  # provably without signatures: answers without AD
    BOGUS = "bogus"  # signatures do not hold: SERVFAIL, unless the client checks by itself (CD)


class Fault(Enum):
    """How a question goes wrong. A fault on a name also strikes those who get there by a CNAME."""

    SERVFAIL = "servfail"
    BOGUS = "bogus"  # as in a zone whose signatures do not hold
    REFUSED = "refused"
    NXDOMAIN = "nxdomain"  # as if the name did not exist, with all that belongs to such an answer
    TIMEOUT = "timeout"  # no answer at all
    TRUNCATED = "truncated"  # every answer over UDP is cut (TC); over TCP all is well


@dataclass(frozen=True, slots=True)
class Slow:
    """A fault too: the right answer, but only after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone: its records in master-file syntax, names relative to the zone, and its DNSSEC state.

    `ttl` (seconds) holds where the text gives none. SOA and NS are added when the text has none. Lines for names that
    lie outside the zone are passed over.
    """

    records: str = ""
    security: Security = Security.SIGNED
    ttl: int = 5


@dataclass(frozen=True, slots=True)
class Question:
    """One question that was asked: the name in lower case without the final dot, and the type, such as `TLSA`."""

    name: str
    rdtype: str


@dataclass(slots=True)
class _Loaded:
    """A zone as it is answered from."""

    origin: dns.name.Name
    data: dns.zone.Zone
    security: Security

    @property
    def soa(self) -> dns.rdataset.Rdataset:
        return self.data.find_rdataset(self.origin, dns.rdatatype.SOA)


@dataclass(slots=True)
class _Resolution:
    """What is known at the end of a chain of CNAMEs, and the weakest security of its links."""

    rcode: dns.rcode.Rcode
    answer: list[dns.rrset.RRset]
    authority: list[dns.rrset.RRset]
    security: Security = Security.SIGNED
    silent: bool = False
    delay_seconds: float = 0.0


class Zones:
    """The server. `zones` maps zone names to zones, `faults` maps (name, type) to faults; see `set_fault`.

    Names outside all zones do not exist, as the root zone, signed and empty, says; a zone named `.` replaces it.
    Everything can be changed while the server runs. Raises dns.exception.DNSException for zone text with errors.
    """

    def __init__(self, zones: Mapping[str, Zone], faults: Faults | None = None) -> None:
        self.asked: deque[Question] = deque(maxlen=_LOG_LIMIT)
        self._zones: dict[dns.name.Name, _Loaded] = {}
        self._faults: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], Fault | Slow] = {}
        self._listener = Listener(self._serve_tcp)
        self._udp: asyncio.DatagramTransport | None = None
        for name, zone in {".": Zone(), **zones}.items():
            self.set(name, zone)
        for (name, rdtype), fault in (faults or {}).items():
            self.set_fault(name, rdtype, fault)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> HostPort:
        """Answer over UDP and TCP on one port (0: the kernel chooses it). Returns the address.

        Raises OSError when the address cannot be had.
        """
        for attempt in range(_PORT_ATTEMPTS):
            address = await self._listener.start(host, port)
            try:
                self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Udp(self), local_addr=(address.host, address.port)
                )
            except OSError:  # a stranger has the same port on UDP: let the kernel choose again
                await self._listener.stop()
                if port or attempt == _PORT_ATTEMPTS - 1:
                    raise
            else:
                break
        return address

    async def stop(self) -> None:
        """Stop answering and end all connections. The zones stay, and `start` works again. Can be repeated."""
        if self._udp is not None:
            self._udp.abort()
            self._udp = None
        await self._listener.stop()

    def set(self, name: str, zone: Zone) -> None:
        """Put `zone` at `name`, in place of what was there. Raises dns.exception.DNSException for text with errors."""
        origin = dns.name.from_text(name)
        self._zones[origin] = _Loaded(origin, _load(origin, zone), zone.security)

    def remove(self, name: str) -> None:
        """Take the zone `name` away; for `.`, bring back the empty one. Raises KeyError when there is none."""
        del self._zones[dns.name.from_text(name)]
        if name == ".":
            self.set(name, Zone())

    def set_security(self, name: str, security: Security) -> None:
        """Change the DNSSEC state of the zone `name`. Raises KeyError when there is none."""
        self._zones[dns.name.from_text(name)].security = security

    def replace(self, name: str, rdtype: str, *records: str) -> None:
        """Put `records` (the data only, such as `10 mx.good.test.`) in place of those of this name and type.

        `name` is absolute and lies in one of the zones; names in the data are relative to that zone. No records: the
        old ones are removed. The TTL stays, or becomes the zone's. Raises dns.exception.DNSException for bad data.
        """
        owner, kind = dns.name.from_text(name), dns.rdatatype.from_text(rdtype)
        zone = self._zone_of(owner)
        ttl = (zone.data.get_rdataset(owner, kind) or zone.soa).ttl
        data = [dns.rdata.from_text("IN", kind, record, origin=zone.origin, relativize=False) for record in records]
        zone.data.delete_rdataset(owner, kind)
        if data:
            zone.data.replace_rdataset(owner, dns.rdataset.from_rdata_list(ttl, data))

    def set_fault(self, name: str, rdtype: str, fault: Fault | Slow | None) -> None:
        """Let questions for `name` and `rdtype` (`ANY`: all types) go wrong, in or outside a zone. None: no longer."""
        key = (dns.name.from_text(name), dns.rdatatype.from_text(rdtype))
        self._faults.pop(key, None)
        if fault is not None:
            self._faults[key] = fault

    def _fault(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Fault | Slow | None:
        return self._faults.get((name, rdtype)) or self._faults.get((name, dns.rdatatype.ANY))

    def _zone_of(self, name: dns.name.Name) -> _Loaded:
        """The zone with the longest name that `name` is in."""
        while name not in self._zones:
            name = name.parent()
        return self._zones[name]

    def _exists(self, zone: dns.zone.Zone, name: dns.name.Name) -> bool:
        """Whether `name`, which is in `zone`, has records or has a name with records below it. RFC 8020 section 2."""
        below = (owner for names in (zone.nodes, self._zones) for owner in names if len(owner) > len(name))
        return name in zone.nodes or any(owner.is_subdomain(name) for owner in below)

    def _node(self, zone: dns.zone.Zone, name: dns.name.Name) -> dns.node.Node | None:
        """The records at `name`, wildcards included; None: no such name."""
        if self._exists(zone, name):
            return zone.get_node(name) or zone.node_factory()
        encloser = name.parent()
        while not self._exists(zone, encloser):
            encloser = encloser.parent()
        return zone.get_node(dns.name.Name((b"*", *encloser.labels)))  # RFC 4592 section 3.3.1: the source of synthesis

    def _resolve(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> _Resolution:
        """Follow `name` to its end."""
        result = _Resolution(dns.rcode.NOERROR, [], [])
        for _ in range(_CHAIN_LIMIT):
            loaded, fault = self._zone_of(name), self._fault(name, rdtype)
            result.security = _weaker(result.security, Security.BOGUS if fault is Fault.BOGUS else loaded.security)
            if isinstance(fault, Slow):
                result.delay_seconds += fault.seconds
            if fault is Fault.TIMEOUT:
                result.silent = True
            if fault in (Fault.SERVFAIL, Fault.REFUSED, Fault.TIMEOUT):
                return _failed(result, dns.rcode.REFUSED if fault is Fault.REFUSED else dns.rcode.SERVFAIL)
            node = None if fault is Fault.NXDOMAIN else self._node(loaded.data, name)
            found = node and node.get_rdataset(dns.rdataclass.IN, rdtype)
            alias = node and node.get_rdataset(dns.rdataclass.IN, dns.rdatatype.CNAME)
            if found or not alias:
                _finish(result, loaded, name, node, found or None)
                return result
            result.answer.append(_rrset(name, alias))
            name = alias[0].target
        return _failed(result, dns.rcode.SERVFAIL)

    def answer(self, octets: bytes, *, tcp: bool) -> tuple[float, bytes | None]:
        """How one packet is answered: the delay in seconds and the octets; None: not at all.

        Raises ValueError for octets that are no DNS question.
        """
        try:
            query = dns.message.from_wire(octets)
            response = dns.message.make_response(query, recursion_available=True)
        except (dns.exception.DNSException, ValueError) as error:
            raise ValueError(f"not a DNS question: {error}") from None
        if query.edns >= 0:
            response.use_edns(0, query.ednsflags & dns.flags.DO, _PAYLOAD)  # RFC 3225 section 3: DO is copied
        response.flags |= query.flags & dns.flags.CD  # RFC 4035 section 3.2.2
        refusal = _refusal(query)
        if refusal is not None:
            response.set_rcode(refusal)
            return 0.0, response.to_wire()
        question = query.question[0]
        self.asked.append(
            Question(question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype))
        )
        result = self._resolve(question.name, question.rdtype)
        if result.silent:
            return result.delay_seconds, None
        _fill(response, query, result)
        cut = not tcp and self._fault(question.name, question.rdtype) is Fault.TRUNCATED
        return result.delay_seconds, _to_wire(response, 65535 if tcp else _room(query), cut)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 7766 section 6.2.1: many questions on one connection. One that is no DNS ends it."""
        while True:
            length = int.from_bytes(await reader.readexactly(2))
            try:
                delay, octets = self.answer(await reader.readexactly(length), tcp=True)
            except ValueError:
                return
            await asyncio.sleep(delay)
            if octets is not None:
                writer.write(len(octets).to_bytes(2) + octets)
                await writer.drain()


class _Udp(asyncio.DatagramProtocol):
    """One question in a packet, one answer in a packet; what is no question is ignored."""

    def __init__(self, zones: Zones) -> None:
        self._zones = zones

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        try:
            delay, octets = self._zones.answer(data, tcp=False)
        except ValueError:
            return
        if octets is not None and delay:
            asyncio.get_running_loop().call_later(delay, self._send, octets, addr)
        elif octets is not None:
            self._send(octets, addr)

    def _send(self, octets: bytes, addr: tuple[str | int, ...]) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(octets, addr)


def _load(origin: dns.name.Name, zone: Zone) -> dns.zone.Zone:
    """Parse the zone text, and add the SOA and NS that every zone has."""
    text = f"$TTL {zone.ttl}\n{zone.records}\n"
    data = dns.zone.from_text(text, origin=origin, relativize=False, check_origin=False)
    soa = f"ns.invalid. hostmaster.invalid. 1 3600 600 86400 {zone.ttl}"  # the last: how long a "no" is kept
    for rdtype, record in (("SOA", soa), ("NS", "ns.invalid.")):
        if data.get_rdataset(origin, rdtype) is None:
            data.replace_rdataset(origin, dns.rdataset.from_text("IN", rdtype, zone.ttl, record))
    return data


def _weaker(one: Security, other: Security) -> Security:
    """What a chain is worth that needs both."""
    for worst in (Security.BOGUS, Security.UNSIGNED):
        if worst in (one, other):
            return worst
    return Security.SIGNED


def _failed(result: _Resolution, rcode: dns.rcode.Rcode) -> _Resolution:
    """The same, with nothing found."""
    return _Resolution(rcode, [], [], result.security, result.silent, result.delay_seconds)


def _finish(
    result: _Resolution,
    zone: _Loaded,
    name: dns.name.Name,
    node: dns.node.Node | None,
    found: dns.rdataset.Rdataset | None,
) -> None:
    """Add the end of the chain: the records, or the zone's SOA as RFC 2308 section 2 has it for a "no"."""
    if found is not None:
        result.answer.append(_rrset(name, found))
        return
    result.authority.append(_rrset(zone.origin, zone.soa))
    if node is None:
        result.rcode = dns.rcode.NXDOMAIN  # RFC 6604 section 3: the rcode is that of the end of the chain


def _rrset(name: dns.name.Name, records: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    """The records under this owner name: for wildcards, the name that was asked."""
    return dns.rrset.from_rdata_list(name, records.ttl, list(records))


def _refusal(query: dns.message.Message) -> dns.rcode.Rcode | None:
    """The rcode for questions that no resolver answers, or that this one cannot answer honestly; None: go on."""
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    if query.edns > 0:
        return dns.rcode.BADVERS  # RFC 6891 section 6.1.3
    question = query.question[0]
    if question.rdclass != dns.rdataclass.IN:
        return dns.rcode.REFUSED
    if dns.rdatatype.is_metatype(question.rdtype) or question.rdtype in _NO_KEYS:
        return dns.rcode.NOTIMP
    return None


def _fill(response: dns.message.Message, query: dns.message.Message, result: _Resolution) -> None:
    """Put the result into the response, as far as its security and the client's flags allow."""
    if result.security is Security.BOGUS and not query.flags & dns.flags.CD:
        response.set_rcode(dns.rcode.SERVFAIL)  # RFC 4035 section 5.5
        if query.edns >= 0:
            bogus = dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "the lab broke this zone")
            response.use_edns(0, response.ednsflags, _PAYLOAD, options=[bogus])
        return
    response.set_rcode(result.rcode)
    response.answer, response.authority = result.answer, result.authority
    understands = query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO  # RFC 6840 section 5.7
    found_out = result.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
    if understands and found_out and result.security is Security.SIGNED:
        response.flags |= dns.flags.AD


def _room(query: dns.message.Message) -> int:
    """How many octets fit in one UDP packet. RFC 6891 section 6.2.3: less than 512 means 512; no EDNS, too."""
    return max(512, query.payload) if query.edns >= 0 else 512


def _to_wire(response: dns.message.Message, room: int, cut: bool) -> bytes:
    """The octets; without records and with TC when they do not fit, or when they are to be cut."""
    if not cut:
        try:
            return response.to_wire(max_size=room)
        except dns.exception.TooBig:
            pass
    response.answer, response.authority = [], []
    response.flags |= dns.flags.TC
    return response.to_wire(max_size=room)
