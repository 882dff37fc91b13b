"""A message on its way in: its header, its authors and its lines, held against Python's `email` and our own client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from random import Random
from zlib import crc32

from mutation import by_octets
from target import Target

from relay.delivery.dots import DotStuffer
from relay.mail.address import AddressError, parse_address, parse_domain
from relay.policy.clients import Grant, Headers, LineEnds
from relay.submission import replies
from relay.submission.content import Content, Rules
from relay.submission.data import PlainReader
from relay.submission.prepare import Treatment

_SENDER = parse_address(b"a@good.test")
_NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_RESTRICTED = Grant("x", header_from=("good.test",))
_AUTHORS = ("From", "Sender", "Resent-From")


def _check(octets: bytes) -> bool:
    """The first octet says what holds: what becomes of the header, of line ends, and whether authors are restricted."""
    choice, message = octets[0] if octets else 0, octets[1:]
    headers, line_ends = list(Headers)[choice % 3], list(LineEnds)[choice // 3 % 2]
    restricted = bool(choice // 6 % 2)
    may_name = (lambda address: _RESTRICTED.allows_author(address, None)) if restricted else None
    rules = Rules(100_000, line_ends, False, Treatment(headers, _SENDER, "id@relay.test", _NOW, may_name))
    content, stored = _through(rules, [message])
    chance = Random(crc32(octets))
    again, in_pieces = _through(rules, list(_pieces(chance, message)))
    assert (again.problem is None) == (content.problem is None), "in pieces it is judged in another way"
    if content.problem is not None:
        assert replies.wire(content.problem).isascii()
        assert replies.printable(content.problem.text) == content.problem.text, "words that are not fit for a log"
        return False
    assert in_pieces == stored, "in pieces it is another message"
    assert again.header.octets == content.header.octets
    assert content.eight_bit == (not stored.isascii())
    _leaves_as_one(stored)
    if headers is Headers.LEAVE and line_ends is LineEnds.REFUSE:
        assert stored in (message, message + b"\r\n")
    shown = message_from_bytes(stored, _class=EmailMessage, policy=default)
    if headers is not Headers.LEAVE:
        assert "Bcc" not in shown
        assert "Resent-Bcc" not in shown
        assert content.header.count(b"from") == 1
    if restricted:
        assert _domains(shown) == {"good.test"}, "Python shows another author"
    return True


def _through(rules: Rules, pieces: list[bytes]) -> tuple[Content, bytes]:
    reader, content = PlainReader(), Content(rules)
    stored = b"".join(content.feed(reader.feed(piece)) for piece in pieces)
    return content, stored + content.feed(reader.end()) + content.end()


def _pieces(chance: Random, message: bytes) -> Iterator[bytes]:
    while message:
        size = chance.choice((1, 1, 2, 3, 7, 40, 500))
        yield message[:size]
        message = message[size:]


def _leaves_as_one(stored: bytes) -> None:
    stuffer = DotStuffer()
    wire = b"\r\n" + stuffer.stuff(stored) + stuffer.end()
    assert wire.count(b"\r\n") == wire.count(b"\r") == wire.count(b"\n"), "a bare CR or LF goes out"
    assert b"\0" not in wire, "a NUL goes out"
    assert wire.index(b"\r\n.\r\n") == len(wire) - 5, "a message that ends too early goes out"


def _domains(shown: EmailMessage) -> set[str]:
    found: set[str] = set()
    for name in _AUTHORS:
        try:
            values = shown.get_all(name, [])
            for value in values:
                addresses = value.addresses if hasattr(value, "addresses") else (value.address,)
                found |= {_domain(one.domain) for one in addresses if one is not None and one.domain}
        except (AttributeError, TypeError, IndexError):
            found.add("good.test")  # it falls over what it cannot read, such as a group without members
    return found


def _domain(text: str) -> str:
    """As we compare it; what is not ASCII comes with surrogates."""
    try:
        return parse_domain(text.encode("utf-8", "surrogateescape").decode())
    except (AddressError, UnicodeDecodeError):
        return text


_HEADER = b"From: A <a@good.test>\r\nTo: b@c.test\r\nDate: Wed, 04 Mar 2026 05:06:07 +0000\r\nMessage-ID: <x@y>\r\n"
_FROMS = (
    b'"B, A" <a@good.test>, "=?utf-8?q?J=C3=BC?=" <b@good.test>',
    b"Team: a@good.test, B <b@good.test>;",
    b"a@good.test (A (B) C)",
    b"a@evil.test",
    b'"a@good.test" <a@evil.test>',
    b"<@x.test:a@good.test>",
)
MESSAGE = Target(
    "message",
    _check,
    (
        *(bytes([choice]) + _HEADER + b"Bcc: d@e.test\r\n\r\nbody\r\n.\r\n" for choice in range(12)),
        *(
            bytes([6 + at]) + _HEADER.replace(b"A <a@good.test>", value) + b"\r\nx\r\n"
            for at, value in enumerate(_FROMS)
        ),
        b"\x06" + b"Sender: a@good.test\r\nResent-From: b@good.test\r\n" + _HEADER + b"\r\nx\r\n",
        b"\x00From x@y\r\nhello\r\n",
        b"\x03a: b\n\nc\rd\0\r\n.\r\n",
    ),
    by_octets(
        (
            *(
                b"\r\n",
                b"\r\n\r\n",
                b"\r\n ",
                b"\r\n \r\n",
                b"\r\n.\r\n",
                b"\n.\n",
                b"\r",
                b"\n",
                b"\0",
                b".",
                b"\r\n\t",
            ),
            *(
                b"From: ",
                b"\r\nFrom: a@evil.test",
                b"\r\nFrom : ",
                b"Sender:",
                b"\r\nResent-From: a@evil.test",
                b"Bcc:",
            ),
            *(
                b"<a@evil.test>",
                b"a@evil.test",
                b"@",
                b"<",
                b">",
                b",",
                b";",
                b":",
                b'"',
                b"\\",
                b"(",
                b")",
                b"[",
                b"]",
            ),
            *(
                b"=?utf-8?q?evil=40evil.test?=",
                b"=?utf-8?b?ZXZpbEBldmlsLnRlc3Q=?=",
                b"=?utf-8?q?",
                b"?=",
                b"\x0b",
                b"\x85",
            ),
        )
    ),
    300_000,
)
