"""The arguments of MAIL and RCPT, parsed from octets: path, parameters, and what they may hold. Pure.

RFC 5321 section 4.1.2 (grammar), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8), RFC 4954 section 5
(AUTH=), RFC 8689 section 2 (REQUIRETLS), RFC 3461 section 4 and RFC 6533 section 3 (RET, ENVID, NOTIFY, ORCPT); what
speaks of times is read in `timing`.
Values stay as the client wrote them; nothing is upper-cased, decoded or "understood".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay.mail.address import Address, AddressError, parse_address
from relay.mail.message import NOTHING_ASKED, MessageDsn, Notify, RecipientDsn, Ret
from relay.mail.status import Reply
from relay.mail.xtext import decode_utf8_address, decode_xtext, encode_utf8_address, utf8_in_xtext
from relay.submission import replies, timing
from relay.submission.timing import NO_WISH, Wish

# A path may hold > and spaces, but only inside the quotes of a local part. Blanks after the colon are common.
_PATH = re.compile(rb'[ \t]*<((?:[^"<> \t]|"(?:[^"\\]|\\.)*")*)>(?:[ \t]+(.*))?\Z')
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^= \t]+))?\Z")  # RFC 5321 §4.1.2: esmtp-param


@dataclass(frozen=True, slots=True)
class Value:
    """What the value of a parameter must look like, as a pattern and in words. No pattern: there must be none."""

    form: re.Pattern[bytes] | None
    words: str


_NO_VALUE = Value(None, "no value")
# Keyword -> its value. An extension adds its row here.
Parameters = Mapping[bytes, Value]
MAIL_PARAMETERS: Parameters = {
    b"SIZE": Value(re.compile(rb"[0-9]{1,20}"), "a number of octets"),  # RFC 1870 §6.1
    # RFC 6152 §2: taken, but the message itself is looked at
    b"BODY": Value(re.compile(rb"7BIT|8BITMIME", re.IGNORECASE), "7BIT or 8BITMIME"),
    b"SMTPUTF8": _NO_VALUE,  # RFC 6531 §3.4
    b"AUTH": Value(re.compile(rb"[!-~]+"), "an address in xtext"),  # RFC 4954 §5: taken, and not believed
    b"REQUIRETLS": _NO_VALUE,  # RFC 8689 §2
    b"RET": Value(re.compile(rb"FULL|HDRS", re.IGNORECASE), "FULL or HDRS"),  # RFC 3461 §4.3
    b"ENVID": Value(re.compile(rb"[!-~]{1,100}"), "an identifier of at most 100 characters"),  # RFC 3461 §4.4
    b"HOLDFOR": Value(timing.HOLDFOR, "a number of seconds from 1 to 999999999"),  # RFC 4865 §3
    b"HOLDUNTIL": Value(timing.HOLDUNTIL, "a time in UTC such as 2030-01-01T12:00:00Z"),
    b"BY": Value(timing.BY, "seconds, a semicolon, N or R, and perhaps T"),  # RFC 2852 §4
    b"MT-PRIORITY": Value(timing.PRIORITY, "a number from -9 to 9"),  # RFC 6710 §3
}
RCPT_PARAMETERS: Parameters = {
    b"NOTIFY": Value(  # RFC 3461 §4.1
        re.compile(rb"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE),
        "NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    ),
    b"ORCPT": Value(  # RFC 3461 §4.2: an atom, then xtext; RFC 6533 §3: not only ASCII
        re.compile(rb"[A-Za-z0-9!#$%&'*+/?^_`{|}~-]+;[!-~\x80-\xff]+"),
        "a type of address, a semicolon and an address in xtext",
    ),
}
_NONE: Parameters = {}  # after HELO there are no extensions
_MAX_ORCPT = 500  # characters; RFC 3461 §4.2
_NO_DSN = MessageDsn()


@dataclass(frozen=True, slots=True)
class Mail:
    """What MAIL said. `sender` None is the null sender."""

    sender: Address | None
    smtputf8: bool
    requiretls: bool = False
    dsn: MessageDsn = _NO_DSN
    wish: Wish = NO_WISH


@dataclass(frozen=True, slots=True)
class Rcpt:
    """What RCPT said."""

    recipient: Address
    dsn: RecipientDsn = NOTHING_ASKED


def parse_mail(argument: bytes, extended: bool, max_size: int) -> Mail | Reply:
    """Read what follows `MAIL `. `extended`: the client said EHLO. Returns the refusal when it is not to be taken."""
    split = _split(b"FROM:", argument)
    if split is None:
        return replies.MAIL_SYNTAX
    path, rest = split
    given = parse_parameters(rest, MAIL_PARAMETERS if extended else _NONE)
    if isinstance(given, Reply):
        return given
    if not given:
        sender = _sender(path, smtputf8=False)
        return sender if isinstance(sender, Reply) else Mail(sender, smtputf8=False)
    if int(given.get(b"SIZE") or 0) > max_size:
        return replies.TOO_BIG  # RFC 1870 §6.1
    dsn = _message_dsn(given)
    if isinstance(dsn, Reply):
        return dsn
    wish = timing.read_wish(given)
    if isinstance(wish, Reply):
        return wish
    smtputf8, requiretls = b"SMTPUTF8" in given, b"REQUIRETLS" in given
    sender = _sender(path, smtputf8)
    return sender if isinstance(sender, Reply) else Mail(sender, smtputf8, requiretls, dsn, wish)


def _sender(path: bytes, smtputf8: bool) -> Address | Reply | None:
    """None: the null sender."""
    if path == b"":
        return None
    if not path.isascii() and not smtputf8:
        return replies.NEEDS_SMTPUTF8  # RFC 6531 §3.5
    try:
        sender = parse_address(path)
    except AddressError as error:
        return replies.bad_sender(str(error))
    return sender if sender.domain != "" else replies.bad_sender("the address has no @ and domain")


def parse_rcpt(argument: bytes, extended: bool, smtputf8: bool, postmaster: Address | None = None) -> Rcpt | Reply:
    """Read what follows `RCPT `. `smtputf8`: MAIL allowed it. Returns the refusal when it is not to be taken.

    `postmaster` is the mailbox that the bare postmaster stands for, if there is one.
    """
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
    if recipient.domain == "":  # the bare postmaster, RFC 5321 §4.5.1
        if postmaster is None:
            return replies.NO_LOCAL_MAILBOXES
        if postmaster.needs_smtputf8 and not smtputf8:
            return replies.NEEDS_SMTPUTF8
        recipient = postmaster
    if not given:
        return Rcpt(recipient)
    dsn = _recipient_dsn(given, smtputf8)
    return dsn if isinstance(dsn, Reply) else Rcpt(recipient, dsn)


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
        if keyword in given:
            return replies.bad_parameter(f"{keyword.decode()} was given twice")
        form = known[keyword].form
        fits = value is None if form is None else value is not None and form.fullmatch(value) is not None
        if not fits:
            return replies.bad_parameter(f"{keyword.decode()} takes {known[keyword].words}")
        given[keyword] = value
    return given


def _message_dsn(given: Mapping[bytes, bytes | None]) -> MessageDsn | Reply:
    """RFC 3461 sections 4.3 and 4.4."""
    ret, envid = given.get(b"RET"), given.get(b"ENVID")
    if ret is None and envid is None:
        return _NO_DSN
    if envid is not None:
        try:
            decode_xtext(envid.decode())
        except ValueError as error:
            return replies.bad_parameter(f"ENVID {error}")
    return MessageDsn(Ret(ret.decode().upper()) if ret else None, envid.decode() if envid else None)


def _recipient_dsn(given: Mapping[bytes, bytes | None], smtputf8: bool) -> RecipientDsn | Reply:
    """RFC 3461 sections 4.1 and 4.2, RFC 6533 section 3."""
    notify = None
    said = given.get(b"NOTIFY")
    if said is not None:
        words = said.decode().upper().split(",")
        if len(set(words)) < len(words):
            return replies.bad_parameter("NOTIFY names something twice")
        notify = Notify.NEVER
        for word in words:
            notify |= Notify[word]
    octets = given.get(b"ORCPT")
    if octets is None:
        return RecipientDsn(notify)
    try:
        orcpt = _orcpt(octets.decode(), smtputf8)
    except UnicodeDecodeError:
        return replies.bad_parameter("ORCPT is not valid UTF-8")
    except ValueError as error:
        return replies.bad_parameter(f"ORCPT {error}")
    return RecipientDsn(notify, orcpt)


def _orcpt(orcpt: str, smtputf8: bool) -> str:
    """The value of ORCPT as it is kept. Raises ValueError when it is not to be taken, saying why."""
    kind, _, address = orcpt.partition(";")
    if len(orcpt) > _MAX_ORCPT:
        raise ValueError("is longer than 500 characters")
    if kind.lower() == "rfc822" and (spelt := utf8_in_xtext(address)) is not None:
        return f"utf-8;{encode_utf8_address(spelt)}"
    if kind.lower() != "utf-8":
        decode_xtext(address)
        return orcpt
    if not address.isascii() and not smtputf8:
        raise ValueError("is not ASCII and SMTPUTF8 was not given")  # RFC 6533 §3: the 7-bit form, then
    decode_utf8_address(address)
    return orcpt


def _split(keyword: bytes, argument: bytes) -> tuple[bytes, bytes] | None:
    """The path without its brackets, and what follows it; None when it is not of that form."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    found = _PATH.match(argument, len(keyword))
    return None if found is None else (found[1], found[2] or b"")
