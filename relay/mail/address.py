"""Mailboxes and domains as SMTP writes them, parsed from octets and kept as they came.

RFC 5321 section 4.1.2 (grammar), RFC 6531 section 3.3 (UTF-8), RFC 5891 (A-labels).
Comments, encoded words and source routes are no part of an envelope address and are refused, never "understood".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import idna

# RFC 5321 section 4.1.2: Dot-string and Quoted-string; UTF-8 beyond ASCII where RFC 6531 allows it.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010FFFF]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*\Z")
_QUOTED_STRING = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010FFFF]|\\[\x20-\x7e])*"\Z')
_QUOTED_PAIR = re.compile(r"\\(.)")
# Underscores occur in real host names; DNS allows them, so do we.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_\-]{0,61}[a-z0-9_])?\Z")
_LITERAL = re.compile(r"\[(?:(IPv6):)?([0-9A-Fa-f:.]+)\]\Z", re.IGNORECASE)

MAX_LOCAL_OCTETS = 64  # RFC 5321 section 4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321 section 4.5.3.1.2


class AddressError(ValueError):
    """An address that RFC 5321 does not allow; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox.

    `text` is what the client sent, to the octet. `local` is the local part as written, quotes included. `domain` is
    for looking up and comparing: lower-case A-labels, `[192.0.2.1]` or `[IPv6:2001:db8::1]` for a literal, and empty
    only for the bare `postmaster` (RFC 5321 section 4.1.1.3).
    """

    local: str
    domain: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def plain_local(self) -> str:
        """The local part without its quotes and backslashes, which are a way to write it and no part of it.

        For comparing: `"alice"@example.org` and `"ali\\ce"@example.org` are alice@example.org. RFC 5321 section 4.1.2.
        """
        return _QUOTED_PAIR.sub(r"\1", self.local[1:-1]) if self.local.startswith('"') else self.local

    @property
    def key(self) -> tuple[str, str]:
        """What tells mailboxes apart: case counts in a local part, as far as a relay can know. RFC 5321 section 2.4."""
        return self.local, self.domain

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a host with SMTPUTF8 can take it: a non-ASCII domain has an A-label form, a local part not."""
        return not self.local.isascii()

    @property
    def wire(self) -> bytes:
        """The octets for MAIL FROM or RCPT TO: as given, but with A-labels where only the domain is not ASCII."""
        if self.text.isascii() or self.needs_smtputf8:
            return self.text.encode()
        return f"{self.local}@{self.domain}".encode()

    @property
    def literal(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The IP address when the domain is an address literal, otherwise None."""
        return _literal_address(self.domain) if self.domain.startswith("[") else None


def once_each(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """Each mailbox once, in the order and spelling in which it came first."""
    found: dict[tuple[str, str], Address] = {}
    for address in addresses:
        found.setdefault(address.key, address)
    return tuple(found.values())


@lru_cache(maxsize=1024)  # only what is a domain is kept, so nothing long
def parse_domain(text: str) -> str:
    """Return `text` as lower-case A-labels without a final dot, or a normalised address literal.

    Raises AddressError, saying what is wrong, for anything that is neither.
    """
    if text.startswith("["):
        address = _literal_address(text)
        if address is None:
            raise AddressError(f"{text!r} is not an address literal")
        return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
    ascii_text = text.lower()
    if not text.isascii():
        try:
            ascii_text = idna.encode(text, uts46=True).decode("ascii").lower()
        except idna.IDNAError as error:
            raise AddressError(f"the domain {text!r} is not a valid internationalised name: {error}") from None
    if len(ascii_text) > MAX_DOMAIN_OCTETS:
        raise AddressError("the domain is longer than 255 octets")
    for label in ascii_text.split("."):
        if not _LABEL.match(label):
            raise AddressError(f"{text!r} is not a domain name")
    return ascii_text


def parse_address(octets: bytes) -> Address:
    """Parse one mailbox, without angle brackets, from the octets of a MAIL or RCPT command.

    Raises AddressError, saying what is wrong, for anything RFC 5321 section 4.1.2 (with RFC 6531) does not allow.
    Percent signs and exclamation marks are ordinary characters of a local part; nothing is routed by them.
    """
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise AddressError("the address is not valid UTF-8") from None
    if text.lower() == "postmaster":
        return Address(text, "", text)
    if text.startswith("@"):  # RFC 5321 appendix C
        raise AddressError("a source route is not taken, give the address alone")
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("the address has no @ and domain")
    if len(local.encode()) > MAX_LOCAL_OCTETS:
        raise AddressError("the local part is longer than 64 octets")
    if not (_DOT_STRING.match(local) or _QUOTED_STRING.match(local)):
        raise AddressError(f"the local part {local!r} is neither a dot-string nor a quoted string")
    return Address(local, parse_domain(domain), text)


def _literal_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """RFC 5321 section 4.1.3: IPv4 without a tag, IPv6 with one."""
    found = _LITERAL.match(text)
    if found is None:
        return None
    try:
        return ipaddress.IPv6Address(found[2]) if found[1] else ipaddress.IPv4Address(found[2])
    except ValueError:
        return None
