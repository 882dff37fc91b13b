"""SMTP, from both sides: replies of a server, the arguments of MAIL and RCPT, and the addresses in them."""

from __future__ import annotations

import ipaddress
from random import Random
from zlib import crc32

from mutation import by_octets
from session_reading import read_argument
from target import Target

from relay.delivery.capabilities import Capabilities
from relay.delivery.replies import MAX_REPLY_LINES, MAX_REPLY_OCTETS, ReplyError, ReplyReader
from relay.mail.address import Address, AddressError, parse_address, parse_domain
from relay.mail.status import Kind, Reply
from relay.submission import replies
from relay.submission.verbs import Mail, Rcpt, parse_mail, parse_rcpt

_ATOM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=?^_`{|}~"
_LABEL = "abcdefghijklmnopqrstuvwxyz0123456789_"
_MAX_SIZE = 10_000_000
_CONTROLS = bytes((*range(9), *range(10, 32), 127))  # a line with one never comes as far as the verbs

Read = tuple[list[Reply], bool]  # replies, and whether it ended in an error


def _check_reply(octets: bytes) -> bool:
    at_once = _read([octets])
    chance = Random(crc32(octets))
    pieces, at = [], 0
    while at < len(octets):
        size = chance.choice((1, 1, 2, 3, 7, 40, 500))
        pieces.append(octets[at : at + size])
        at += size
    assert _read(pieces) == at_once, "in pieces it is another reply"
    expected = _replies(octets)
    assert ([(reply.code, len(reply.lines)) for reply in at_once[0]], at_once[1]) == expected
    for reply in at_once[0]:
        assert all(line.isprintable() for line in reply.lines), "words that are not fit for a log"
        assert reply.status.kind is {2: Kind.SUCCESS, 3: Kind.SUCCESS, 4: Kind.TEMPORARY}.get(
            reply.code // 100, Kind.PERMANENT
        )
        first = reply.lines[0].split(" ")[0]
        assert (reply.status.subject, reply.status.detail) == _enhanced(first), f"the status of {first!r}"
        Capabilities.of(reply)
    return bool(at_once[0])


def _read(pieces: list[bytes]) -> Read:
    reader = ReplyReader()
    found: list[Reply] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (reply := reader.next()) is not None:
                found.append(reply)
    except ReplyError as error:
        assert str(error).isprintable(), "words that are not fit for a log"
        return found, True
    return found, False


def _replies(octets: bytes) -> tuple[list[tuple[int, int]], bool]:
    """RFC 5321 section 4.2: codes and numbers of lines, and whether something stands there that is no reply."""
    found: list[tuple[int, int]] = []
    code, count, size = b"", 0, 0
    *lines, rest = octets.split(b"\n")
    for line in lines:
        text, size = line.removesuffix(b"\r"), size + len(line) + 1
        good = text[:1] in (b"2", b"3", b"4", b"5") and text[1:3].isdigit() and len(text) >= 3
        if size > MAX_REPLY_OCTETS or not good or text[3:4] not in (b"", b" ", b"-") or (count and text[:3] != code):
            return found, True
        code, count = text[:3], count + 1
        if text[3:4] != b"-":
            found.append((int(code), count))
            count, size = 0, 0
        elif count == MAX_REPLY_LINES:
            return found, True
    return found, size + len(rest) > MAX_REPLY_OCTETS


def _enhanced(word: str) -> tuple[int, int]:
    """RFC 3463 section 2: class, subject and detail, the last two of one to three digits; 0.0 for anything else."""
    parts = word.split(".")
    digits = all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts)
    if len(parts) != 3 or not digits or parts[0] not in ("2", "4", "5"):
        return 0, 0
    return int(parts[1]), int(parts[2])


def _check_address(octets: bytes) -> bool:
    try:
        address = parse_address(octets)
    except AddressError as error:
        assert not _is_plain_address(octets), f"refused, and it should not be: {error}"
        replies.wire(replies.bad_recipient(str(error)))
        return False
    assert str(address).encode() == octets
    assert not octets.isascii() or _is_plain_address(octets), "accepted, and it should not be"
    if address.domain == "":
        assert octets.lower() == b"postmaster"
        return True
    assert address.domain.isascii() and parse_domain(address.domain) == address.domain, "another domain the second time"
    assert (address.literal is not None) == address.domain.startswith("[")
    # What we send to the next host must be understood there as the same address, and as nothing else.
    again = parse_rcpt(b"TO:<" + address.wire + b">", extended=True, smtputf8=True)
    assert isinstance(again, Rcpt), f"not to be sent on: {again}"
    assert (again.recipient.local, again.recipient.domain) == (address.local, address.domain), (
        "sent on, it is another address"
    )
    return True


def _is_plain_address(octets: bytes) -> bool:
    """RFC 5321 section 4.1.2, for addresses in ASCII."""
    if not octets.isascii():
        return False
    text = octets.decode()
    if text.lower() == "postmaster":
        return True
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64:
        return False
    return (_is_dot_string(local) or _is_quoted_string(local)) and (_is_domain(domain.lower()) or _is_literal(domain))


def _is_dot_string(local: str) -> bool:
    return all(atom and set(atom) <= set(_ATOM) for atom in local.split("."))


def _is_quoted_string(local: str) -> bool:
    if len(local) < 2 or local[0] != '"' or local[-1] != '"':
        return False
    rest = iter(local[1:-1])
    for character in rest:
        if character == '"' or not " " <= character <= "~":
            return False
        if character == "\\" and not " " <= next(rest, "\n") <= "~":
            return False
    return True


def _is_domain(domain: str) -> bool:
    labels = domain.split(".")
    return len(domain) <= 255 and all(
        1 <= len(label) <= 63 and set(label) <= set(_LABEL + "-") and label[0] != "-" and label[-1] != "-"
        for label in labels
    )


def _is_literal(domain: str) -> bool:
    if domain[:1] != "[" or domain[-1:] != "]":
        return False
    inside = domain[1:-1]
    try:
        if inside.lower().startswith("ipv6:"):
            return "%" not in inside and bool(ipaddress.IPv6Address(inside[5:]).version)
        return bool(ipaddress.IPv4Address(inside).version)
    except ValueError:
        return False


def _check_verbs(octets: bytes) -> bool:
    """The first octet chooses the verb and what was said before."""
    choice, argument = (octets[0], octets[1:].translate(None, _CONTROLS)) if octets else (0, b"")
    extended, smtputf8 = bool(choice & 2), bool(choice & 4)
    if choice & 1:
        rcpt = parse_rcpt(argument, extended, smtputf8)
        mailbox: Address | None = None if isinstance(rcpt, Reply) else rcpt.recipient
        refusal, wanted = (rcpt if isinstance(rcpt, Reply) else None), b"TO:"
    else:
        mail = parse_mail(argument, extended, _MAX_SIZE)
        mailbox = mail.sender if isinstance(mail, Mail) else None
        refusal, wanted = (mail if isinstance(mail, Reply) else None), b"FROM:"
        smtputf8 = isinstance(mail, Mail) and mail.smtputf8
    expected = read_argument(argument, wanted)
    if refusal is not None:
        _check_refusal(refusal, well_formed=expected is not None)
        return False
    assert expected is not None, "accepted, and it should not be"
    path, words = expected
    assert extended or not words, "parameters after HELO"
    assert len({word.partition(b"=")[0].upper() for word in words}) == len(words), "a parameter twice"
    assert (mailbox.text.encode() if mailbox is not None else b"") == path
    assert path.isascii() or smtputf8, "an address that is not ASCII without SMTPUTF8"
    return True


def _check_refusal(refusal: Reply, *, well_formed: bool) -> None:
    line = replies.wire(refusal)
    assert len(line) <= 512 and line.count(b"\r\n") == 1 and line[:-2].decode("ascii").isprintable()
    assert refusal.status.kind is Kind.PERMANENT
    if refusal in (replies.MAIL_SYNTAX, replies.RCPT_SYNTAX):
        assert not well_formed, "refused for a form that it has"


REPLY = Target(
    "reply",
    _check_reply,
    (
        b"220 mx.example.org ESMTP\r\n",
        b"250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-STARTTLS\r\n250 REQUIRETLS\r\n",
        b"250 2.1.0 ok\r\n550 5.1.1 no\r\n354 go on\r\n250 2.0.0 queued\r\n",
        b"421\r\n",
        b"451-4.7.1 gr\xc3\xbcn\n451 4.7.1 b\xe9\tx\n",
        b"250-x\r\n" * (MAX_REPLY_LINES - 1) + b"250 end\r\n",
        b"250-" + b"x" * 3000 + b"\r\n250 ok\r\n",
    ),
    by_octets((
        b"250", b"250-", b"250 ", b"550 5.7.1 ", b"354 ", b"199 ", b"600 ", b"2.0.0 ", b"4.999.999 ", b"\r\n", b"\n",
        b"\r", b"250-SIZE 99999999999999999999\r\n", "2.\u0661.\u0662 ".encode(), "\u0662\u0665\u0660 ".encode(),
        b"\x00", b"\x1b[31m", "\u2028".encode(), b"250-" + b"y" * 1000 + b"\r\n",
    )),
)  # fmt: skip
ADDRESS = Target(
    "address",
    _check_address,
    (
        b"user@example.org",
        b"first.last+tag@Mail.Example.ORG",
        b'"a b\\"c@<>"@example.org',
        b"user@[192.0.2.1]",
        b"user@[IPv6:2001:db8::1]",
        b"postmaster",
        "j\u00f6rg@b\u00fccher.example".encode(),
        "user@\u4f8b\u3048.\u30c6\u30b9\u30c8".encode(),
        b"a_b@x_y.example",
        b"user@" + b".".join([b"a" * 63] * 3) + b".example",
    ),
    by_octets((
        b"@", b".", b"..", b'"', b'\\"', b"\\", b"<", b">", b"[", b"]", b"[IPv6:", b"::", b"192.0.2.1", b"%eth0", b"-",
        b"xn--", b"xn--a", b"xn--bcher-kva", b"\r\n", b" ", b"\t", b"(c)", b"a" * 64, b"_", b"postmaster",
        "\u00fc".encode(), "\u05d0".encode(), "\u0661".encode(), "\u200d".encode(), "\u0375".encode(),
        "\u30fb".encode(),
    )),
)  # fmt: skip
VERBS = Target(
    "verbs",
    _check_verbs,
    (
        b"\x02FROM:<user@example.org> SIZE=1000 BODY=8BITMIME REQUIRETLS",
        b"\x02FROM:<> SMTPUTF8 AUTH=<>",
        b"\x00FROM:<user@example.org>",
        "\x02FROM: <j\u00f6rg@example.org> SMTPUTF8".encode(),
        b'\x03TO:<"a> b"@example.org>',
        "\x07TO:<j\u00f6rg@example.org>".encode(),
        b"\x01TO:<postmaster>",
        b"\x03to:\t<a@[192.0.2.1]> ",
        b"\x02FROM:<user@example.org> RET=HDRS ENVID=QQ+2B314159",
        b"\x03TO:<user@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;user+2Btag@example.org",
        "\x07TO:<user@example.org> ORCPT=utf-8;j\u00f6rg\\x{2B}@example.org".encode(),
    ),
    by_octets((
        b"\x00", b"\x01", b"\x02", b"\x03", b"\x06", b"\x07", b"FROM:", b"TO:", b"<", b">", b"<>", b'"', b"\\", b" ",
        b"\t", b"@", b"=", b" SIZE=1", b" SIZE=99999999999999999999", b" SIZE=", b" BODY=7bit", b" SMTPUTF8",
        b" REQUIRETLS", b" AUTH=<>", b" X=Y", b"<@a,@b:c@d>", "\u00e9".encode(), b"user@example.org", b"\x0b", b"\x1c",
        b" NOTIFY=NEVER", b",SUCCESS", b" ORCPT=rfc822;", b" ORCPT=utf-8;", b"+0A", b"\\x{", b"}", b" RET=", b" ENVID=",
    )),
)  # fmt: skip
