"""One question to one DNS server: over UDP, and again over TCP when the answer did not fit.

It knows nothing of what an answer means, of caches or of other servers: that is `relay.lookup.resolver`. Sockets are
connected and have a new random port for each question, so that the kernel drops what comes from elsewhere and reports
a closed port at once.

RFC 1035 section 4.2 (UDP, TCP), RFC 5452 section 9 (what makes a packet an answer), RFC 6891 (EDNS), RFC 7766 (TCP).
"""

from __future__ import annotations

import asyncio
import socket
import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.wire

from relay.settings import HostPort

PAYLOAD = 1232  # octets of UDP that pass everywhere without fragments (DNS flag day 2020)
OPAQUE_TLSA = dns.rdatatype.RdataType(65400)  # a type for private use, see _with_opaque_tlsa
_LARGEST = 65535  # octets of a packet
_HEADER = 12  # octets, RFC 1035 section 4.1.1
_TC = 0x02  # in the third of them


class MalformedAnswer(Exception):  # noqa: N818  (the name says it)
    """The server answered our question with something that is no DNS message."""


def make_query(name: dns.name.Name, rdtype: dns.rdatatype.RdataType, *, checking: bool = True) -> dns.message.Message:
    """A question with a random id that asks for DNSSEC (DO); `checking` False: without validation (CD)."""
    query = dns.message.make_query(name, rdtype, use_edns=0, want_dnssec=True, payload=PAYLOAD)
    if not checking:
        query.flags |= dns.flags.CD  # RFC 4035 §3.2.2
    return query


async def ask(server: HostPort, query: dns.message.Message) -> dns.message.Message:
    """The answer of `server` to `query`. Waits for as long as the caller lets it.

    Raises OSError (TimeoutError among them) when the server cannot be reached, and MalformedAnswer.
    """
    answer = await _ask_udp(server, query)
    if answer.flags & dns.flags.TC:
        return await _ask_tcp(server, query)
    return answer


async def _ask_udp(server: HostPort, query: dns.message.Message) -> dns.message.Message:
    """A plain socket and no transport: one that is given up while it is being made would not be put away (uvloop)."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.setblocking(False)
        connection.connect((server.host, server.port))
        connection.send(query.to_wire())
        while True:  # packets that are no answer are ignored
            answer = _parse(query, await loop.sock_recv(connection, _LARGEST))
            if answer is not None:
                return answer


async def _ask_tcp(server: HostPort, query: dns.message.Message) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        octets = query.to_wire()
        writer.write(len(octets).to_bytes(2) + octets)  # RFC 1035 §4.2.2
        length = int.from_bytes(await reader.readexactly(2))
        answer = _parse(query, await reader.readexactly(length))
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the DNS server closed the connection") from None
    finally:
        writer.transport.abort()
    if answer is None or answer.flags & dns.flags.TC:
        raise MalformedAnswer("the answer over TCP is cut, or to another question")
    return answer


def _parse(query: dns.message.Message, octets: bytes) -> dns.message.Message | None:
    """The answer to `query` in `octets`; None when they are something else. Raises MalformedAnswer.

    Of an answer that was cut (TC) only the header and the question are read: a record may have been cut in two.
    TLSA records come as records of the type OPAQUE_TLSA.
    """
    if len(octets) < _HEADER or octets[:2] != query.id.to_bytes(2):
        return None  # RFC 5452 §9.1: a wrong id is a forgery or a latecomer
    cut = bool(octets[2] & _TC)
    try:
        if query.question[0].rdtype == dns.rdatatype.TLSA and not cut:
            octets = _with_opaque_tlsa(octets)
        answer = dns.message.from_wire(octets, ignore_trailing=True, question_only=cut)
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        raise MalformedAnswer(f"the answer is no DNS message: {type(error).__name__}") from None
    return answer if query.is_response(answer) else None


def _with_opaque_tlsa(octets: bytes) -> bytes:
    """The message with the type number of the TLSA records in its answer section changed.

    dnspython takes a message for broken when one TLSA record in it has a digest of the wrong length. But such a
    record is only unusable (RFC 7672 §2.2), and the others count; as records of an unknown type all come through.
    Raises dns.exception.FormError.
    """
    changed = bytearray(octets)
    parser = dns.wire.Parser(octets)
    _, _, questions, answers, _, _ = parser.get_struct("!HHHHHH")
    for _ in range(questions):
        parser.get_name(decompress=True)
        parser.get_struct("!HH")
    for _ in range(answers):
        parser.get_name(decompress=True)
        start = parser.current
        rdtype, _, _, length = parser.get_struct("!HHIH")
        parser.get_bytes(length)
        if rdtype == dns.rdatatype.TLSA:
            changed[start : start + 2] = OPAQUE_TLSA.to_bytes(2)
    return bytes(changed)
