"""DNS: whole answers of a server, and single TLSA records, which are the zone owner's octets."""

from __future__ import annotations

import hashlib
from random import Random

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from certificate_targets import CHAINS, NAME, ROOT, known_certificate
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from make_certificates import AT
from mutation import by_elements, by_octets
from target import Target

from relay.lookup.exchange import MalformedAnswer, _parse, make_query
from relay.lookup.resolver import Answer, LookupFailed, MxRecord, NotFound, _read, _tlsa_record
from relay.lookup.servers import Question
from relay.policy.certificate import public_key
from relay.policy.tlsa import TlsaRecord, UnusableTlsa, UsableTlsa, matching_record, usable

_GOOD = CHAINS["good"]


def _check_tlsa(octets: bytes) -> bool:
    """The data of a record, and a good chain to hold it against."""
    record = _tlsa_record(octets)
    assert len(octets) < 3 or str(record) == f"{octets[0]} {octets[1]} {octets[2]} {octets[3:].hex()}"
    good = usable(record)
    expected = _is_usable(octets)
    assert expected is None or good is expected, f"usable: {good}"
    if not good:
        UnusableTlsa(NAME, (record,))
        return False
    found = matching_record(UsableTlsa(NAME, (NAME,), (record,)), _GOOD, AT)
    assert isinstance(found, TlsaRecord) or found.isprintable()
    matched = isinstance(found, TlsaRecord)
    if record.usage == 3:
        assert matched is (record.data == _selected(_GOOD[0], record.selector, record.matching_type))
    elif matched:
        assert _speaks_of_an_authority(record), "a stranger is an authority"
    return True


def _is_usable(octets: bytes) -> bool | None:
    """RFC 7672 section 3.1: by usage, selector, matching type and length; None when nobody but we can tell."""
    if len(octets) < 3 or octets[0] not in (2, 3) or octets[1] not in (0, 1) or octets[2] not in (0, 1, 2):
        return False
    data = octets[3:]
    if octets[2]:
        return len(data) == 32 * octets[2]
    if octets[1] == 0:
        return True if known_certificate(data) is not None else None
    try:
        load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return True


def _selected(certificate: bytes, selector: int, matching_type: int) -> bytes:
    """RFC 6698 section 2.1."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    octets = certificate if selector == 0 else key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return (octets, hashlib.sha256(octets).digest(), hashlib.sha512(octets).digest())[matching_type]


def _speaks_of_an_authority(record: TlsaRecord) -> bool:
    """Whether it is about a certificate that was sent above the leaf, or has the key of one that belongs there."""
    authorities = (*_GOOD[1:], ROOT)
    if record.matching_type:
        return any(record.data == _selected(one, record.selector, record.matching_type) for one in _GOOD[1:])
    key = load_der_public_key(public_key(record.data) if record.selector == 0 else record.data)
    return any(key == x509.load_der_x509_certificate(one).public_key() for one in authorities)


def _records() -> tuple[bytes, ...]:
    made = [
        bytes((usage, selector, matching_type)) + _selected(one, selector, matching_type)
        for usage, certificates in ((3, _GOOD[:1]), (2, (*_GOOD[1:], ROOT)))
        for one in certificates
        for selector in (0, 1)
        for matching_type in (0, 1, 2)
    ]
    return (*made, b"", b"\x03\x01", b"\x00\x01\x01" + b"x" * 32, b"\x01\x01\x01" + b"x" * 32, b"\x03\x01\x03xyz")


_by_octets = by_octets((b"\x00", b"\x01", b"\x02", b"\x03", b"\x30\x00", b"\x05\x00", b"x" * 32))
_by_elements = by_elements((b"\x30\x00", b"\x05\x00"), (*_GOOD, ROOT))


def _mutate_tlsa(random: Random, octets: bytes) -> bytes:
    if len(octets) > 80 and random.random() < 0.7:
        return octets[:3] + _by_elements(random, octets[3:])
    return _by_octets(random, octets)


_OWNER = dns.name.from_text("mx.example.org.")
_TYPES = {
    dns.rdatatype.A: str,
    dns.rdatatype.AAAA: str,
    dns.rdatatype.MX: MxRecord,
    dns.rdatatype.TXT: bytes,
    dns.rdatatype.TLSA: TlsaRecord,
    dns.rdatatype.CNAME: str,
}
_QUERIES = tuple(make_query(_OWNER, rdtype) for rdtype in _TYPES)
for _query in _QUERIES:
    _query.id = 0


def _check_answer(octets: bytes) -> bool:
    """The first octet chooses the question; the others are the answer."""
    if not octets:
        return False
    query = _QUERIES[octets[0] % len(_QUERIES)]
    try:
        answer = _parse(query, octets[1:])
    except MalformedAnswer as error:
        assert str(error).isprintable()
        return False
    if answer is None:
        return False
    answer.extended_errors()
    rdtype = query.question[0].rdtype
    found = _read(answer, Question(_OWNER, rdtype))
    match found:
        case Answer(records, secure, canonical, ttl):
            assert records and all(isinstance(record, _TYPES[rdtype]) for record in records)
            assert ttl >= 0 and canonical
        case NotFound(_, secure, _, ttl):
            assert ttl >= 0
            assert answer.flags & (dns.flags.RA | dns.flags.AA), "a no from a server that cannot know"
        case LookupFailed(reason):
            assert reason.isprintable()
            return False
    assert secure is bool(octets[4] & 0x20), "secure, and AD is not set"  # RFC 4035 section 3.2.3
    return True


def _answers() -> tuple[bytes, ...]:
    texts = {
        dns.rdatatype.A: ("192.0.2.1", "192.0.2.2"),
        dns.rdatatype.AAAA: ("2001:db8::1",),
        dns.rdatatype.MX: ("10 a.example.org.", "0 ."),
        dns.rdatatype.TXT: ('"v=STSv1; " "id=1"',),
        dns.rdatatype.TLSA: ("3 1 1 " + "ab" * 32, "2 0 2 " + "cd" * 64),
    }
    made = []
    for number, query in enumerate(_QUERIES):
        rdtype = query.question[0].rdtype
        for alias in (False, True):
            response = dns.message.make_response(query, recursion_available=True)
            response.flags |= dns.flags.AD
            end = "b.example.org." if alias else "mx.example.org."
            if alias or rdtype is dns.rdatatype.CNAME:
                response.answer.append(dns.rrset.from_text(_OWNER, 60, "IN", "CNAME", "b.example.org."))
            if rdtype in texts:
                response.answer.append(dns.rrset.from_text(end, 60, "IN", rdtype, *texts[rdtype]))
            made.append(bytes((number,)) + response.to_wire())
        no = dns.message.make_response(query, recursion_available=True)
        no.set_rcode(dns.rcode.NXDOMAIN if number % 2 else dns.rcode.NOERROR)
        no.authority.append(dns.rrset.from_text("example.org.", 60, "IN", "SOA", "a. b. 1 2 3 4 5"))
        made.append(bytes((number,)) + no.to_wire())
    failed = dns.message.make_response(_QUERIES[0])
    failed.set_rcode(dns.rcode.SERVFAIL)
    failed.use_edns(0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "bogus")])
    return (*made, b"\x00" + failed.to_wire())


_mutate_octets = by_octets((
    b"\xc0\x0c", b"\xc0\x00", b"\xff\xff", b"\x00\x00", b"\x00\x01\x00\x01", b"\x00\x05\x00\x01", b"\x00\x29",
    b"\x00\x0f", b"\x00\x34", b"\x00\x30", b"\x00\x2e", b"\xff\x78", b"\x3f", b"\x01\xff", b"\x80\x00\x00\x00",
    b"\x02mx\x07example\x03org\x00",
))  # fmt: skip


def _mutate_answer(random: Random, octets: bytes) -> bytes:
    """Mostly behind the header and the question, or it is no answer at all."""
    kept = random.choice((0, 4, 13, 13, 33, 33))
    return octets[:kept] + _mutate_octets(random, octets[kept:])


TLSA = Target("tlsa", _check_tlsa, _records(), _mutate_tlsa)
ANSWER = Target("dns-answer", _check_answer, _answers(), _mutate_answer)
