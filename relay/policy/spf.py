"""SPF: the grammar of a record, its macros, and which addresses a term names. RFC 7208. Pure.

Octets and values in, values out. DNS is asked in `relay.lookup.spf`, which walks the terms.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from urllib.parse import quote

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_RECORD_OCTETS = 8 * 1024  # RFC 7208 section 3.4 wants 450; more is work that a stranger makes for us
MAX_DOMAIN = 253  # characters of a name that a macro gives; RFC 7208 section 7.3
_VERSION = b"v=spf1"
_MOST_SHOWN = 100  # characters of a term
_MOST_DIGITS = 4  # of a number of parts: no value has so many

# RFC 7208 §7.1 and §12. In a domain-spec the letters c, r and t have no place (§7.2).
_DELIMITERS = r"[.\-+,/_=]"
# Nothing may match in two ways: a record that almost keeps to the grammar would take time without end.
_EXPAND = rf"%\{{[slodiphvSLODIPHV][0-9]*[rR]?{_DELIMITERS}*\}}|%%|%_|%-"
_LITERAL = r"[\x21-\x24\x26-\x7e]"
_TOP_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?\Z")
_MACRO_STRING = re.compile(rf"(?:{_EXPAND}|{_LITERAL})*\Z")
_ANY_MACRO_STRING = re.compile(rf"(?:{_EXPAND}|%\{{[crtCRT][0-9]*[rR]?{_DELIMITERS}*\}}|{_LITERAL})*\Z")
_MACRO = re.compile(rf"%(?:\{{([slodiphvSLODIPHV])([0-9]*)([rR]?)({_DELIMITERS}*)\}}|([%_\-]))")
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9\-_.]*)=(.*)\Z")
_MECHANISM = re.compile(r"([+\-?~]?)([A-Za-z0-9]+)(.*)\Z")
_IP4_LENGTH = re.compile(r"/(0|[1-9][0-9]?)\Z")
_IP6_LENGTH = re.compile(r"//(0|[1-9][0-9]{0,2})\Z")
_IP4_NETWORK = re.compile(r"([0-9.]+)(?:/(0|[1-9][0-9]?))?\Z")
_IP6_NETWORK = re.compile(r"([0-9A-Fa-f:.]+)(?:/(0|[1-9][0-9]{0,2}))?\Z")


class SpfResult(Enum):
    """What SPF says of a host that sends for a domain. RFC 7208 section 2.6."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    NONE = "none"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


QUALIFIERS = {"": SpfResult.PASS, "+": SpfResult.PASS, "-": SpfResult.FAIL, "~": SpfResult.SOFTFAIL}
QUALIFIERS["?"] = SpfResult.NEUTRAL


class Mechanism(Enum):
    """The mechanisms. RFC 7208 section 5."""

    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Directive:
    """One mechanism and the result it gives. `text` is as it was written.

    `domain`: the domain-spec, macros unexpanded; empty: the domain that is being checked. `network`: of ip4 and ip6.
    `length4`, `length6`: how many bits of an address count.
    """

    result: SpfResult
    mechanism: Mechanism
    text: str
    domain: str = ""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    length4: int = 32
    length6: int = 128


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """A record that keeps to the grammar. `redirect` is a domain-spec; empty: there is none."""

    text: str
    directives: tuple[Directive, ...]
    redirect: str = ""


@dataclass(frozen=True, slots=True)
class BadSpf:
    """A record, or records, of which nothing can be said; `reason` is a clause for a person.

    `result`: what it gives; one that is only too long for us may be good for others.
    """

    reason: str
    result: SpfResult = SpfResult.PERMERROR


@dataclass(frozen=True, slots=True)
class Spf:
    """What SPF says of one address; `reason` is a clause for a person, `record` that of `domain`.

    `by_mailbox`: it depends on the local part of the sender.
    """

    result: SpfResult
    domain: str
    reason: str
    record: str | None = None
    by_mailbox: bool = False


@dataclass(frozen=True, slots=True)
class Macros:
    """What macros stand for. `domain` is the one being checked; `validated` a name of the client that is proven."""

    local: str
    sender_domain: str
    helo: str
    address: IpAddress
    domain: str
    validated: str = "unknown"


def select_record(records: Iterable[bytes]) -> SpfRecord | BadSpf | None:
    """The one SPF record among TXT records; None when there is none. RFC 7208 section 4.5."""
    found = [one for one in records if one[:6].lower() == _VERSION and one[6:7] in (b"", b" ")]
    if not found:
        return None
    if len(found) > 1:
        return BadSpf(f"there are {len(found)} SPF records, one is allowed")
    return parse_record(found[0])


@lru_cache(maxsize=16)  # each of our addresses is looked for in the same records
def parse_record(octets: bytes) -> SpfRecord | BadSpf:
    """Read a record that begins with its version. All of it is looked at, as RFC 7208 section 4.6 has it."""
    if len(octets) > MAX_RECORD_OCTETS:
        return BadSpf(f"the record is longer than {MAX_RECORD_OCTETS} octets", SpfResult.TEMPERROR)
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError:
        return BadSpf("the record has octets that are not ASCII")
    directives: list[Directive] = []
    modifiers: dict[str, str] = {}
    for term in text[len(_VERSION) :].split(" "):
        modifier = _MODIFIER.match(term)
        if modifier is not None:
            name = modifier[1].lower()
            problem = _modifier_problem(name, modifier[2], modifiers)
            if problem is not None:
                return BadSpf(problem)
            modifiers[name] = modifier[2]
        elif term:
            directive = _directive(term)
            if isinstance(directive, BadSpf):
                return directive
            directives.append(directive)
    return SpfRecord(text, tuple(directives), modifiers.get("redirect", ""))


def expand(spec: str, macros: Macros) -> str:
    """The name that a domain-spec stands for, cut at the left to what DNS takes. RFC 7208 section 7."""
    if "%" not in spec:
        return spec.removesuffix(".")
    name = _MACRO.sub(lambda found: _expanded(found, macros), spec)
    if len(name) > MAX_DOMAIN:
        name = name[-MAX_DOMAIN - 1 :].partition(".")[2]
    return name.removesuffix(".")


def quoted(term: str) -> str:
    """A term for a person, cut to what fits a line."""
    return repr(term if len(term) <= _MOST_SHOWN else f"{term[:_MOST_SHOWN]}...")


def letters(spec: str) -> frozenset[str]:
    """The macro letters in a domain-spec, in lower case."""
    return frozenset(found[1].lower() for found in _MACRO.finditer(spec) if found[1]) if "%" in spec else frozenset()


def same_network(directive: Directive, one: IpAddress, other: IpAddress) -> bool:
    """Whether two addresses of one family have the bits in common that the directive asks for."""
    if one.version != other.version:
        return False
    length = directive.length4 if one.version == 4 else directive.length6
    return int(one) >> (one.max_prefixlen - length) == int(other) >> (other.max_prefixlen - length)


def can_be_checked(domain: str) -> bool:
    """Whether it is a name of several labels, as DNS has them: of others SPF says nothing. RFC 7208 section 4.3."""
    labels = domain.removesuffix(".").split(".")
    return len(domain) <= MAX_DOMAIN + 1 and len(labels) > 1 and all(1 <= len(label) <= 63 for label in labels)


def _modifier_problem(name: str, value: str, known: dict[str, str]) -> str | None:
    if name not in ("redirect", "exp"):
        return None if _ANY_MACRO_STRING.match(value) else f"the modifier {quoted(name)} has a mistake in its value"
    if name in known:
        return f"{name} is there twice"
    return None if _is_domain_spec(value) else f"{quoted(f'{name}={value}')} names no possible domain"


def _directive(term: str) -> Directive | BadSpf:
    found = _MECHANISM.match(term)
    try:
        mechanism = Mechanism(found[2].lower()) if found is not None else None
    except ValueError:
        mechanism = None
    if found is None or mechanism is None:
        return BadSpf(f"{quoted(term)} is no term of SPF")
    result, rest = QUALIFIERS[found[1]], found[3]
    bad = BadSpf(f"{quoted(term)} has a mistake in it")
    match mechanism:
        case Mechanism.ALL:
            return bad if rest else Directive(result, mechanism, term)
        case Mechanism.IP4 | Mechanism.IP6:
            network = _network(mechanism, rest)
            return bad if network is None else Directive(result, mechanism, term, network=network)
        case Mechanism.A | Mechanism.MX:
            return _with_lengths(Directive(result, mechanism, term), rest) or bad
        case _:
            spec = rest[1:] if rest.startswith(":") else ""
            if rest == "" and mechanism is Mechanism.PTR:
                return Directive(result, mechanism, term)
            return Directive(result, mechanism, term, spec) if _is_domain_spec(spec) else bad


def _with_lengths(directive: Directive, rest: str) -> Directive | None:
    """The directive with `[:domain-spec][/length][//length]`; None when that is wrong."""
    length6 = _IP6_LENGTH.search(rest)
    if length6 is not None:
        rest = rest[: length6.start()]
    length4 = _IP4_LENGTH.search(rest)
    if length4 is not None:
        rest = rest[: length4.start()]
    bits4, bits6 = int(length4[1]) if length4 else 32, int(length6[1]) if length6 else 128
    if bits4 > 32 or bits6 > 128:
        return None
    if rest and not (rest.startswith(":") and _is_domain_spec(rest[1:])):
        return None
    return Directive(directive.result, directive.mechanism, directive.text, rest[1:], length4=bits4, length6=bits6)


def _network(mechanism: Mechanism, rest: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    grammar = _IP4_NETWORK if mechanism is Mechanism.IP4 else _IP6_NETWORK
    found = grammar.match(rest[1:]) if rest.startswith(":") else None
    if found is None:
        return None
    try:
        if mechanism is Mechanism.IP4:
            return ipaddress.IPv4Network((found[1], int(found[2] or 32)), strict=False)
        return ipaddress.IPv6Network((found[1], int(found[2] or 128)), strict=False)
    except ValueError:
        return None


def _is_domain_spec(text: str) -> bool:
    """RFC 7208 section 7.1: macros and letters, and at the end a macro or a dot and a top label."""
    if not _MACRO_STRING.match(text) or any(_is_zero(found[2]) for found in _MACRO.finditer(text)):
        return False
    if not (text[-1:].isalnum() or text.endswith(".")):
        return _ends_in_macro(text)
    _, dot, top = text.removesuffix(".").rpartition(".")
    return bool(dot and _TOP_LABEL.match(top) and not top.isdigit())


def _is_zero(digits: str | None) -> bool:
    """Whether a macro keeps no part of its value, which is a mistake. The digits may be many more than a number has."""
    return bool(digits) and not (digits or "").strip("0")


def _ends_in_macro(text: str) -> bool:
    end = 0
    for macro in _MACRO.finditer(text):
        end = macro.end()
    return end == len(text) > 0


def _expanded(found: re.Match[str], macros: Macros) -> str:
    if found[5]:
        return {"%": "%", "_": " ", "-": "%20"}[found[5]]
    value = _value(found[1].lower(), macros)
    parts = re.split(f"[{re.escape(found[4])}]", value) if found[4] else value.split(".")
    if found[3]:
        parts.reverse()
    if found[2]:
        parts = parts[-int(found[2].lstrip("0")[:_MOST_DIGITS]) :]
    text = ".".join(parts)
    return quote(text, safe="") if found[1].isupper() else text


def _value(letter: str, macros: Macros) -> str:
    match letter:
        case "s":
            return f"{macros.local}@{macros.sender_domain}"
        case "l":
            return macros.local
        case "o":
            return macros.sender_domain
        case "d":
            return macros.domain
        case "h":
            return macros.helo
        case "p":
            return macros.validated
        case "v":
            return "in-addr" if macros.address.version == 4 else "ip6"
        case _:
            return _dotted(macros.address)


def _dotted(address: IpAddress) -> str:
    """RFC 7208 section 7.3: IPv6 as nibbles."""
    return str(address) if address.version == 4 else ".".join(address.exploded.replace(":", ""))
