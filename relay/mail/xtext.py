"""The two encodings of DSN parameters, both ways: xtext and the 7-bit form of a UTF-8 address. Pure.

RFC 3461 section 4 (xtext), RFC 6533 section 3 (utf-8-addr-xtext, utf-8-addr-unitext).
"""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_PRINTABLE = re.compile(r"[ -~]*\Z")
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_QUOTED = re.compile(r"(?:[!-*,-<>-\[\]-~\u00A0-\U0010FFFF]|\\x\{[0-9A-Fa-f]{2,6}\})+\Z")
_PLAIN = re.compile(r"[!-*,-<>-\[\]-~]")  # RFC 6533 §3: QCHAR
_PLAIN_UTF8 = re.compile(r"[!-*,-<>-\[\]-~\u00A0-\U0010FFFF]")  # QUCHAR
_EMBEDDED_ASCII = frozenset(" +=\\")


def decode_xtext(text: str) -> str:
    """What `text` stands for. Raises ValueError when it is no xtext, or stands for more than printable ASCII."""
    if not _XTEXT.match(text):
        raise ValueError("is not xtext (RFC 3461 section 4)")
    decoded = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), text)
    if not _PRINTABLE.match(decoded):
        raise ValueError("stands for characters that are not printable ASCII")
    return decoded


def encode_xtext(text: str) -> str:
    """The xtext for `text`, which has nothing but printable ASCII."""
    return "".join(c if c not in "+= " else f"+{ord(c):02X}" for c in text)


def utf8_in_xtext(text: str) -> str | None:
    """The address that is not ASCII and that `text` spells octet by octet; None when it is none, or not in UTF-8.

    No RFC allows it: RFC 6533 section 3 has a form of its own. It is how Postfix passes on such a recipient.
    """
    if not _XTEXT.match(text):
        return None
    octets = _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1")
    try:
        decoded = octets.decode()
    except UnicodeDecodeError:
        return None
    return decoded if decoded.isprintable() and not decoded.isascii() else None


def decode_utf8_address(text: str) -> str:
    """The address that a utf-8-addr-xtext or -unitext stands for. Raises ValueError when it is neither."""
    if not _QUOTED.match(text):
        raise ValueError("is not an address in the form of RFC 6533 section 3")
    return _EMBEDDED.sub(_embedded, text)


def encode_utf8_address(address: str, *, seven_bit: bool = True) -> str:
    """The utf-8-addr-xtext for `address`: ASCII without blanks, `+` or `=`; else the utf-8-addr-unitext."""
    plain = _PLAIN if seven_bit else _PLAIN_UTF8
    return "".join(c if plain.match(c) else f"\\x{{{ord(c):02X}}}" for c in address)


def _embedded(found: re.Match[str]) -> str:
    point = int(found[1], 16)
    padded = len(found[1]) > 2 and found[1].startswith("0")
    surrogate = 0xD800 <= point <= 0xDFFF
    # RFC 6533 §3 allows control characters too; no mailbox has any, and they would break out of our header fields.
    control = point < 0xA0 and chr(point) not in _EMBEDDED_ASCII
    if padded or surrogate or control or point > 0x10FFFF:
        raise ValueError(f"has {found[0]}, which stands for no character that is to be written so")
    return chr(point)
