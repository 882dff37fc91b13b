"""What a submission server may make of a message's header (RFC 6409 section 8), line by line."""

from __future__ import annotations

import re

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:")
_ADDED = (
    (b"message-id", rb"Message-ID: <[!-~]+@relay\.test>\r\n"),
    (b"date", rb"Date: Wed, 04 Mar 2026 05:06:07 \+0000\r\n"),
    (b"from", rb"From: [^\r\n]+@[^\r\n]+\r\n"),
)


def _read(content: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """The fields, by name, and the lines that follow them, each with its CRLF."""
    lines = [line + b"\r\n" for line in content.split(b"\r\n")[:-1]]
    if lines and lines[0].startswith((b"From ", b">From ")) and not _FIELD.match(lines[0]):
        del lines[0]  # what programs leave there that read a mailbox file
    fields: list[tuple[bytes, bytes]] = []
    for number, line in enumerate(lines):
        found = _FIELD.match(line)
        if found is not None:
            fields.append((found[1].lower(), line))
        elif line.startswith((b" ", b"\t")) and fields:
            fields[-1] = fields[-1][0], fields[-1][1] + line
        else:
            return fields, lines[number:]
    return fields, []


def has_one_author(content: bytes) -> bool:
    """Whether there is one From field, or none, so that one can be made."""
    return sum(name == b"from" for name, _ in _read(content)[0]) <= 1


def is_made_right(content: bytes, stored: bytes) -> bool:
    """Whether that is what may be stored: fields in front that were missing, without Bcc and Return-Path, no more."""
    fields, rest = _read(content)
    kept = [(name, field) for name, field in fields if name not in (b"bcc", b"resent-bcc", b"return-path")]
    names = {name for name, _ in kept}
    added = b"".join(form for name, form in _ADDED if name not in names)
    if not rest or rest[0] != b"\r\n":
        rest = [b"\r\n", *rest]  # the header ends where a line is no field, or with the message
    left = b"".join(field for _, field in kept) + b"".join(rest)
    return re.fullmatch(added + re.escape(left), stored) is not None
