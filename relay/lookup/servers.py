"""Asking several DNS servers in turn until one gives an answer that can be used, or time is up.

Which servers there are, what counts as an answer, and how a failed DNSSEC validation is told from other failures.
What the answer says is read in `relay.lookup.resolver`. RFC 8914 (extended errors), RFC 4035 section 3.2.2 (CD).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from relay.lookup.exchange import MalformedAnswer, ask, make_query
from relay.settings import HostPort

_FIRST_WAIT_SECONDS = 2.0  # for one server's answer; twice as long in each further round
# RFC 8914 §4: the extended errors that say "DNSSEC validation failed".
_BOGUS_CODES = frozenset({1, 2, 5, 6, 7, 8, 9, 10, 11, 12})


class Problem(Enum):
    """Why there is no answer that can be used; the value is the sentence for it."""

    SILENT = "the DNS lookup of {} timed out"
    UNREACHABLE = "no DNS server could be reached to look up {}"
    SERVFAIL = "DNS reported a failure (SERVFAIL) for {}"
    BOGUS = "the DNS answer for {} failed DNSSEC validation"
    REFUSED = "the DNS server refused to look up {}"
    MALFORMED = "the DNS server gave an unusable answer for {}"
    NO_SERVER = "there is no DNS server to look up {}"

    def sentence(self, about: object) -> str:
        """The problem with `about`, as a clause for a person."""
        return self.value.format(about)


@dataclass(frozen=True, slots=True)
class Question:
    """An absolute name and a record type. Prints as `example.org (MX)`."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType

    def __str__(self) -> str:
        return f"{name_text(self.name)} ({self.rdtype.name})"


def absolute_name(text: str) -> dns.name.Name:
    """The name with the labels between the dots of `text`; no other character is special.

    Raises dns.exception.DNSException or UnicodeError when no such name can be: a label is empty or too long, the
    whole is, or it is not ASCII.
    """
    return dns.name.Name([*(label.encode("ascii") for label in text.removesuffix(".").split(".")), b""])


def name_text(name: dns.name.Name) -> str:
    """In lower case, without the final dot; the root is `.`."""
    return name.to_text(omit_final_dot=True).lower()


def system_nameservers(resolv_conf: Path) -> tuple[HostPort, ...]:
    """The addresses in the `nameserver` lines of `resolv_conf`. Bad lines are skipped; no file means no servers."""
    try:
        text = resolv_conf.read_text(errors="replace")
    except OSError:
        return ()
    lines = (line.split() for line in text.splitlines())
    return tuple(
        HostPort(host=words[1], port=53)
        for words in lines
        if len(words) > 1 and words[0] == "nameserver" and _is_address(words[1])
    )


async def ask_servers(
    servers: Sequence[HostPort], question: Question, timeout_seconds: float
) -> dns.message.Message | Problem:
    """The first usable answer (NOERROR or NXDOMAIN), or the last problem met.

    A failed validation is final: a server that does not validate must not overrule one that does. Other failures
    are left to the next server, and silence to another round.
    """
    problem = Problem.SILENT if servers else Problem.NO_SERVER
    wait_seconds = _FIRST_WAIT_SECONDS
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                silent = False
                for server in servers:
                    result = await _ask_server(server, question, wait_seconds)
                    if not isinstance(result, Problem) or result is Problem.BOGUS:
                        return result
                    silent = silent or result is Problem.SILENT
                    problem = result
                if not silent:
                    return problem
                wait_seconds *= 2
    except TimeoutError:
        return problem


async def _ask_server(server: HostPort, question: Question, wait_seconds: float) -> dns.message.Message | Problem:
    try:
        async with asyncio.timeout(wait_seconds):
            response = await ask(server, make_query(question.name, question.rdtype))
            bogus = response.rcode() == dns.rcode.SERVFAIL and await _is_bogus(server, question, response)
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
            return Problem.BOGUS if bogus else Problem.SERVFAIL
        case _:
            return Problem.REFUSED


async def _is_bogus(server: HostPort, question: Question, servfail: dns.message.Message) -> bool:
    """Whether it was validation that failed: the server says so, or there is an answer when validation is left out.

    The second is for servers without extended errors; that answer is looked at no further.
    """
    if any(error.code in _BOGUS_CODES for error in servfail.extended_errors()):
        return True
    unchecked = await ask(server, make_query(question.name, question.rdtype, checking=False))
    return unchecked.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
