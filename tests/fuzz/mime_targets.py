"""8-bit messages made 7-bit, held against what Python's own mail parser reads in them before and after."""

from __future__ import annotations

import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from random import Random
from zlib import crc32

from mutation import by_octets
from target import Target

from relay.mail.downgrade import Converter, Plan, Planner, Unconvertible

_LINE_END = re.compile(rb"\r\n|\r|\n")
Leaf = tuple[str, bytes]  # type, content


def _check_downgrade(octets: bytes) -> bool:
    chance = Random(crc32(octets))
    if chance.random() < 0.9:  # most of the others are refused for their line ends
        octets = _LINE_END.sub(b"\r\n", octets + b"\n")
    plan, converted = _convert([octets])
    assert _convert(list(_chunks(octets, chance))) == (plan, converted), "in other chunks it is another message"
    if isinstance(plan, Unconvertible):
        assert plan.reason.isascii() and plan.reason.isprintable()
        return False
    assert converted.isascii(), "8-bit octets are left"
    assert not converted.replace(b"\r\n", b"").translate(None, bytes(set(range(256)) - {10, 13})), "line ends"
    longest = max(map(len, octets.split(b"\r\n")))
    assert max(map(len, converted.split(b"\r\n"))) <= max(longest, 76), "a line is longer than before"
    assert _convert([converted]) == (Plan(), converted), "something is left to do"
    assert not octets.isascii() or plan.is_empty or b"8bit" in octets.lower() or b"binary" in octets.lower()
    before, after = _leaves(octets), _leaves(converted)
    assert before == after, f"{before} became {after}"
    return True


def _convert(chunks: list[bytes]) -> tuple[Plan | Unconvertible, bytes]:
    planner = Planner()
    for chunk in chunks:
        planner.feed(chunk)
    plan = planner.end()
    if isinstance(plan, Unconvertible):
        return plan, b""
    converter = Converter(plan)
    return plan, b"".join(map(converter.feed, chunks)) + converter.end()


def _chunks(octets: bytes, chance: Random) -> Iterator[bytes]:
    at = 0
    while at < len(octets):
        size = chance.choice((1, 1, 2, 3, 7, 40, 500))
        yield octets[at : at + size]
        at += size


def _leaves(octets: bytes) -> list[Leaf]:
    message = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(octets)
    leaves = [
        (part.get_content_type(), bytes(part.get_payload(decode=True)))
        for part in message.walk()
        if not part.is_multipart()
    ]
    # Where a last delimiter is missing, a line end at the end of the message may be read as a part of it.
    return [*leaves[:-1], *((kind, content.rstrip(b"\r\n")) for kind, content in leaves[-1:])]


def _crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


DOWNGRADE = Target(
    "downgrade",
    _check_downgrade,
    (
        _crlf("Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
              "Content-Transfer-Encoding: 8bit\n\nGrüße \n.\nFrom x\n" + "ä" * 500 + "\n"),
        _crlf("Subject: x\n\nü\n"),
        _crlf('Content-Type: multipart/mixed (c); boundary="b"\n\nä\n--b\n\nü\n--b\nContent-Type: image/png\n'
              "Content-Transfer-Encoding: binary\n\nß\n\n--b--\nö\n"),
        _crlf("Content-Type: multipart/alternative; boundary=bb\n\n--bb\nContent-Type: multipart/related;\n"
              " boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n\nx\n--b--\n--bb\nContent-Type: message/rfc822\n\n"
              "Subject: y\nContent-Transfer-Encoding: 8bit\n\nä = b\n--bb--\n"),
        _crlf("Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: z\n\nß\n--d\nContent-Type: text/x\n\nü\n"
              "--d--\n"),
        _crlf("Content-Type: multipart/signed; boundary=s\n\n--s\n\nx\n--s--\n"),
        _crlf("Content-Transfer-Encoding: base64\n\nYWJj\n"),
        _crlf("Content-Transfer-Encoding: quoted-printable\n\na=3D=\n=\nb\n"),
    ),
    by_octets((
        b"\r\n", b"\r\n\r\n", b"--b", b"--bb", b"--", b"\r\n--b\r\n", b"\r\n--b--\r\n", b"\r\n--bb\r\n", b"\xe9",
        b"\xff", b" \r\n", b"\t\r\n", b"\r\n.", b"\r\nFrom ", b"=", b"x" * 75, b'"', b"(", b")", b"\\", b"; ",
        b"Content-Type: ", b"boundary=", b"boundary=b", b"multipart/mixed", b"message/rfc822", b"text/plain",
        b"application/x", b"message/partial", b"Content-Transfer-Encoding: 8bit\r\n", b"base64", b"quoted-printable",
        b"Content-Transfer-Encoding: binary\r\n", b"MIME-Version: 1.0\r\n",
        b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n",
    )),
    inputs=300_000,
)  # fmt: skip
