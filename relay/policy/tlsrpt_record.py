"""The TLSRPT record: where a domain wants its TLS reports. RFC 8460 section 3. Pure.

Octets of a stranger in, values out; nothing raises. What is understood no one way is taken for no record, so that
nobody gets reports who has not asked for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from relay.mail.address import Address, AddressError, parse_address, parse_domain

MOST_URIS = 10  # of one record that are looked at
MAX_URI_OCTETS = 2000
_MOST_WORDS = 200  # characters about one of them, which may repeat what a stranger wrote
LABELS = "_smtp._tls"  # before the domain

# RFC 8460 §3: tlsrpt-record. The version is case-sensitive, and white space stands only round delimiters.
_START = re.compile(rb"v=TLSRPTv1[ \t]*(?:;|\Z)")
_URI = re.compile(r"[\x21-\x7e]+\Z")
_DMARC_SIZE = re.compile(r"![0-9]+[kmgt]?\Z", re.IGNORECASE)  # RFC 7489 §6.2: what people copy from their DMARC record
_WEB = re.compile(  # RFC 3986 appendix A
    r"https://(?P<host>[a-z0-9._\-]+)(?::(?P<port>[0-9]{0,5}))?(?:[/?][a-z0-9\-._~:/?@!$&'()*+,;=%\[\]]*)?\Z",
    re.IGNORECASE,
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")  # a host whose last label reads so is an address to some


@dataclass(frozen=True, slots=True)
class MailTo:
    """A mailbox that wants reports. `uri` is as the record has it."""

    uri: str
    address: Address


@dataclass(frozen=True, slots=True)
class HttpsTo:
    """A web address that takes reports by POST. `host` in A-labels: a name, never an IP address."""

    uri: str
    host: str


Rua = MailTo | HttpsTo


@dataclass(frozen=True, slots=True)
class TlsrptRecord:
    """Where reports go, each place once. `ignored`: what is wrong with the other URIs, a sentence each."""

    places: tuple[Rua, ...]
    ignored: tuple[str, ...] = ()


def parse_tlsrpt(texts: tuple[bytes, ...]) -> TlsrptRecord | str:
    """The record among the TXT records of `_smtp._tls.DOMAIN`, or a clause that says why there is none that counts.

    `texts`: the strings of each TXT record, joined. Records that do not begin with `v=TLSRPTv1` are ignored; if the
    number left is not one, the domain does not take reports.
    """
    candidates = [text for text in texts if _START.match(text)]
    if not candidates:
        return "it has no TLSRPT record"
    if len(candidates) > 1:
        return f"it has {len(candidates)} TLSRPT records"
    values = _rua_values(candidates[0])
    if not values:
        return "its TLSRPT record names no rua"
    places: dict[str, Rua] = {}
    ignored: list[str] = []
    for number, text in enumerate(values[:MOST_URIS], 1):
        found = parse_rua(text)
        if isinstance(found, str):
            ignored.append(f"rua {number}: {found[:_MOST_WORDS]}")
        else:
            places.setdefault(_same(found), found)
    if not places:
        return f"its TLSRPT record has no rua that a report can be sent to ({'; '.join(ignored)})"
    if len(values) > MOST_URIS:
        ignored.append(f"only the first {MOST_URIS} of {len(values)} rua are looked at")
    return TlsrptRecord(tuple(places.values()), tuple(ignored))


def parse_rua(text: str) -> Rua | str:
    """What one URI of a record names, or a clause that says what is wrong with it."""
    if not _URI.match(text) or len(text) > MAX_URI_OCTETS:
        return "not a URI"
    if _BAD_ESCAPE.search(text):
        return "a percent sign that is no escape"
    scheme, colon, rest = text.partition(":")
    match scheme.lower() if colon else "":
        case "mailto":
            return _mailbox(text, rest)
        case "https":
            return _web_address(text)
        case _:
            return "neither mailto: nor https:"


def _rua_values(record: bytes) -> list[str]:
    """The URIs of all rua fields. Other fields are for those who know them (RFC 8460 §3: extensions)."""
    values = []
    for octets in record.split(b";")[1:]:
        name, equals, value = octets.strip(b" \t").partition(b"=")
        if equals and name == b"rua":
            values += [uri.strip(" \t") for uri in value.decode("latin-1").split(",")]
    return values


def _mailbox(uri: str, rest: str) -> MailTo | str:
    """RFC 6068 section 2: one address; header fields (`?subject=`) are not for strangers to set, and are ignored."""
    written = _DMARC_SIZE.sub("", rest.partition("?")[0])
    try:
        address = parse_address(unquote_to_bytes(written))
    except AddressError as error:
        return str(error)
    if not address.domain or address.literal is not None:
        return "a mailbox without a domain name"
    return MailTo(uri, address)


def _web_address(uri: str) -> HttpsTo | str:
    """RFC 9110 section 4.2.2. No IP address: it would be connected to without a look by the resolver's guard."""
    found = _WEB.match(uri)
    if found is None or int(found["port"] or 443) not in range(1, 65536):
        return "not a web address (with a host's name, no user, no fragment)"
    host = found["host"].removesuffix(".")
    if _NUMBER.match(host.rpartition(".")[2].lower()):
        return "an IP address in place of a host's name"
    try:
        return HttpsTo(uri, parse_domain(host))
    except AddressError:
        return "not a web address (its host has no proper name)"


def _same(place: Rua) -> str:
    """What tells places apart."""
    return place.uri if isinstance(place, HttpsTo) else "@".join(place.address.key)
