"""The arguments of MAIL and RCPT, parsed from octets: path, parameters, and what they may hold. Pure.

RFC 5321 section 4.1.2 (grammar), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 4954 section 5
(AUTH=), RFC 8689 section 2 (REQUIRETLS).
Values stay as the client wrote them; nothing is upper-cased, decoded or "understood".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay.mail.address import Address, AddressError, parse_address
from relay.mail.status import Reply
from relay.submission import replies

# A path may hold > and spaces, but only inside the quotes of a local part. Blanks after the colon are common.
_PATH = re.compile(rb'[ \t]*<((?:[^"<> \t]|"(?:[^"\\]|\\.)*")*)>(?:[ \t]+(.*))?\Z')
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^= \t]+))?\Z")  # RFC 5321 §4.1.2: esmtp-param

# Keyword -> what its value must look like; None: it takes no value. An extension adds its row here.
Parameters = Mapping[bytes, re.Pattern[bytes] | None]
MAIL_PARAMETERS: Parameters = {
    b"SIZE": re.compile(rb"[0-9]{1,20}"),  # RFC 1870 §6.1
    b"BODY": re.compile(rb"7BIT|8BITMIME", re.IGNORECASE),  # RFC 6152 §2: taken, but the message itself is looked at
    b"SMTPUTF8": None,  # RFC 6531 §3.4
    b"AUTH": re.compile(rb"[!-~]+"),  # RFC 4954 §5: taken, and not believed
    b"REQUIRETLS": None,  # RFC 8689 §2
}
RCPT_PARAMETERS: Parameters = {}
_NONE: Parameters = {}  # after HELO there are no extensions


@dataclass(frozen=True, slots=True)
class Mail:
    """What MAIL said. `sender` None is the null sender."""

    sender: Address | None
    smtputf8: bool
    requiretls: bool = False


def parse_mail(argument: bytes, extended: bool, max_size: int) -> Mail | Reply:
    """Read what follows `MAIL `. `extended`: the client said EHLO. Returns the refusal when it is not to be taken."""
    split = _split(b"FROM:", argument)
    if split is None:
        return replies.MAIL_SYNTAX
    path, rest = split
    given = parse_parameters(rest, MAIL_PARAMETERS if extended else _NONE)
    if isinstance(given, Reply):
        return given
    if int(given.get(b"SIZE") or 0) > max_size:
        return replies.TOO_BIG  # RFC 1870 §6.1
    smtputf8, requiretls = b"SMTPUTF8" in given, b"REQUIRETLS" in given
    if path == b"":
        return Mail(None, smtputf8, requiretls)
    if not path.isascii() and not smtputf8:
        return replies.NEEDS_SMTPUTF8  # RFC 6531 §3.5
    try:
        sender = parse_address(path)
    except AddressError as error:
        return replies.bad_sender(str(error))
    if sender.domain == "":
        return replies.bad_sender("the address has no @ and domain")
    return Mail(sender, smtputf8, requiretls)


def parse_rcpt(argument: bytes, extended: bool, smtputf8: bool) -> Address | Reply:
    """Read what follows `RCPT `. `smtputf8`: MAIL allowed it. Returns the refusal when it is not to be taken."""
    split = _split(b"TO:", argument)
    if split is None:
        return replies.RCPT_SYNTAX
    path, rest = split
    given = parse_parameters(rest, RCPT_PARAMETERS if extended else _NONE)
    if isinstance(given, Reply):
        return given
    if path == b"":
        return replies.NULL_RECIPIENT
    if not path.isascii() and not smtputf8:
        return replies.NEEDS_SMTPUTF8
    try:
        recipient = parse_address(path)
    except AddressError as error:
        return replies.bad_recipient(str(error))
    if recipient.domain == "":
        return replies.NO_LOCAL_MAILBOXES  # the bare postmaster: we deliver nothing here
    return recipient


def parse_parameters(octets: bytes, known: Parameters) -> dict[bytes, bytes | None] | Reply:
    """Keyword (upper-case) -> value (as written, None without one). Returns the refusal when one is not allowed."""
    given: dict[bytes, bytes | None] = {}
    for word in octets.split():
        found = _PARAMETER.match(word)
        if found is None:
            return replies.PARAMETER_SYNTAX
        keyword, value = found[1].upper(), found[2]
        if keyword not in known:
            return replies.UNKNOWN_PARAMETER
        form = known[keyword]
        fits = value is None if form is None else value is not None and form.fullmatch(value) is not None
        if not fits or keyword in given:
            return replies.PARAMETER_SYNTAX
        given[keyword] = value
    return given


def _split(keyword: bytes, argument: bytes) -> tuple[bytes, bytes] | None:
    """The path without its brackets, and what follows it; None when it is not of that form."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    found = _PATH.match(argument, len(keyword))
    return None if found is None else (found[1], found[2] or b"")
