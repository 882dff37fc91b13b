"""The domains that a From field names: whose keys sign. Pure.

RFC 5322 section 3.6.2 where the field keeps to it (relay/mail/mailboxes.py). What does not, such as a name with a comma
or octets of Latin-1, is common all the same, and whoever evaluates DMARC looks for a domain in it: so do we. Nothing
but the choice of keys hangs on it. Who may name which author is decided at submission, and there nothing is guessed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from itertools import islice

from relay.mail.address import AddressError, parse_domain
from relay.mail.mailboxes import MAX_MAILBOXES, MAX_OCTETS, parse_mailboxes

_DOMAIN = rb"@[ \t\r\n]*([\w-]+(?:\.[\w-]+)*)"
_IN_BRACKETS = re.compile(_DOMAIN + rb"\.?[ \t\r\n]*>")
_ANYWHERE = re.compile(_DOMAIN)


def domains_of(value: bytes) -> tuple[str, ...] | str:
    """The domains, each once, in lower-case A-labels; or why there is none, in words. `value`: what is behind From:."""
    return _usual_domains_of(value) if len(value) <= 998 else _domains_of(value)


def _domains_of(value: bytes) -> tuple[str, ...] | str:
    try:
        return tuple(dict.fromkeys(address.domain for address in parse_mailboxes(value).addresses))
    except AddressError as error:
        return _likely(value) or str(error)


def _likely(value: bytes) -> tuple[str, ...]:
    """Of addresses in angle brackets, if there are such, else of whatever looks like an address."""
    value = value[:MAX_OCTETS]
    domains = _found(_IN_BRACKETS, value) or _found(_ANYWHERE, value)
    return tuple(dict.fromkeys(domains))


def _found(pattern: re.Pattern[bytes], value: bytes) -> list[str]:
    domains = []
    for match in islice(pattern.finditer(value), MAX_MAILBOXES):
        with suppress(AddressError):
            domains.append(parse_domain(match[1].decode()))
    return domains


_usual_domains_of = lru_cache(maxsize=1024)(_domains_of)  # few write most of the mail
