"""Whatever octets come back: an answer to our question, nothing, or our error."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from hypothesis import given
from hypothesis import strategies as st

from relay.lookup.exchange import OPAQUE_TLSA, MalformedAnswer, _parse, make_query
from relay.lookup.resolver import Answer, LookupFailed, NotFound, _read
from relay.lookup.servers import Question

NAME = dns.name.from_text("mx.example.org.")
TYPES = [dns.rdatatype.MX, dns.rdatatype.TXT, dns.rdatatype.TLSA, dns.rdatatype.A, dns.rdatatype.AAAA]
RECORDS = {
    dns.rdatatype.MX: "10 a.example.org.",
    dns.rdatatype.TXT: '"x" "y"',
    dns.rdatatype.TLSA: "3 1 1 " + "ab" * 32,
    dns.rdatatype.A: "192.0.2.1",
    dns.rdatatype.AAAA: "2001:db8::1",
}


def sound_answer(query: dns.message.Message) -> bytes:
    rdtype = query.question[0].rdtype
    response = dns.message.make_response(query, recursion_available=True)
    response.flags |= dns.flags.AD
    response.answer = [
        dns.rrset.from_text(NAME, 60, "IN", "CNAME", "b.example.org."),
        dns.rrset.from_text("b.example.org.", 60, "IN", rdtype, RECORDS[rdtype]),
    ]
    return response.to_wire()


def look_at(query: dns.message.Message, octets: bytes) -> object:
    try:
        answer = _parse(query, octets)
    except MalformedAnswer:
        return None
    if answer is None:
        return None
    question = query.question[0]
    found = _read(answer, Question(question.name, question.rdtype))
    assert isinstance(found, Answer | NotFound | LookupFailed)
    return found


@given(st.sampled_from(TYPES), st.binary(max_size=300))
def test_any_octets(rdtype: dns.rdatatype.RdataType, octets: bytes) -> None:
    query = make_query(NAME, rdtype)
    look_at(query, octets)
    look_at(query, query.id.to_bytes(2) + b"\x81\x80" + octets)


@given(
    st.sampled_from(TYPES),
    st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4),
    st.integers(0, 150),
)
def test_a_damaged_answer(rdtype: dns.rdatatype.RdataType, changes: list[tuple[int, int]], length: int) -> None:
    query = make_query(NAME, rdtype)
    octets = bytearray(sound_answer(query))
    for place, value in changes:
        octets[place % len(octets)] = value
    look_at(query, bytes(octets))
    look_at(query, bytes(octets[: len(octets) - length]))


def test_an_answer_that_is_not_damaged() -> None:
    for rdtype in TYPES:
        query = make_query(NAME, rdtype)
        found = look_at(query, sound_answer(query))
        assert isinstance(found, Answer)
        assert (len(found.records), found.secure, found.canonical) == (1, True, "b.example.org")


def test_records_of_the_type_that_stands_for_tlsa_answer_no_other_question() -> None:
    """A fuzzed answer to MX had one, and came out as an answer full of TLSA records."""
    for rdtype in TYPES:
        query = make_query(NAME, rdtype)
        response = dns.message.make_response(query, recursion_available=True)
        response.answer = [dns.rrset.from_text(NAME, 60, "IN", OPAQUE_TLSA, r"\# 4 03010100")]
        found = look_at(query, response.to_wire())
        assert isinstance(found, NotFound) is (rdtype != dns.rdatatype.TLSA), rdtype
