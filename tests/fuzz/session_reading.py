"""How a command line reads, written from the RFCs: what is a line, the argument of MAIL and RCPT, what logs in."""

from __future__ import annotations

import base64
import re

USER, PASSWORD = "user", "pencil"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def is_sound(line: bytes) -> bool:
    """Whether it is a command line at all."""
    return line.endswith(b"\r\n") and not _CONTROL.search(line[:-2])


def is_login(asked: list[bytes]) -> bool:
    """RFC 4616 and the old LOGIN: whether this is how the one user logs in."""
    try:
        answers = [base64.b64decode(answer, validate=True).decode() for answer in asked[1:]]
    except ValueError:
        return False
    if asked[0] == b"PLAIN":
        return len(answers) == 1 and answers[0] in (f"\0{USER}\0{PASSWORD}", f"{USER}\0{USER}\0{PASSWORD}")
    return asked[0] == b"LOGIN" and answers == [USER, PASSWORD]


def read_argument(argument: bytes, keyword: bytes) -> tuple[bytes, list[bytes]] | None:
    """RFC 5321 section 4.1.2: the path in angle brackets, where quotes hide brackets and blanks, then words."""
    if argument[: len(keyword)].upper() != keyword:
        return None
    rest = argument[len(keyword) :].lstrip(b" \t")
    if rest[:1] != b"<":
        return None
    at, quoted = 1, False
    while at < len(rest) and (quoted or rest[at : at + 1] != b">"):
        octet = rest[at : at + 1]
        if quoted and octet == b"\\":
            at += 1
        elif octet == b'"':
            quoted = not quoted
        elif not quoted and octet in b"< \t":
            return None
        at += 1
    if at >= len(rest):
        return None
    after = rest[at + 1 :]
    if after and after[:1] not in b" \t":
        return None
    return rest[1:at], after.split()
