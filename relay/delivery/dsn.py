"""Delivery reports that a sender asked for, as parameters of MAIL and RCPT. Pure.

RFC 3461 sections 4 and 5.2.1: what the client asked for goes on as it came, and nothing that it did not ask for.
"""

from __future__ import annotations

import re

from relay.mail.message import MessageDsn, RecipientDsn

_NOT_IN_A_VALUE = re.compile(r"[\x00-\x20\x7f]")
_NOT_XTEXT = re.compile(rb"[^!-*,-<>-~]")  # RFC 3461 §4: printable, but for the plus and the equals sign


def of_message(asked: MessageDsn | None) -> bytes:
    """The parameters of MAIL: ` RET=HDRS ENVID=...`. Raises ValueError for a control character or a space."""
    if asked is None:
        return b""
    ret = b"" if asked.ret is None else b" RET=" + asked.ret.value.encode()
    return ret if asked.envid is None else ret + b" ENVID=" + _checked(asked.envid).encode()


def of_recipient(asked: RecipientDsn, address: bytes, smtputf8: bool) -> bytes:
    """The parameters of RCPT for `address`. Raises ValueError for a control character or a space.

    `smtputf8`: the host offers it.
    """
    parameters = b"" if asked.notify is None else b" NOTIFY=" + ",".join(asked.notify.words).encode()
    if asked.orcpt is not None:
        orcpt = _checked(asked.orcpt)
        return parameters + b" ORCPT=" + (orcpt.encode() if smtputf8 else _seven_bit(orcpt))
    if asked.notify and address.isascii():
        # RFC 3461 §5.2.1 (d): may be added, and tells the sender of whom a report speaks after an alias or a list.
        parameters += b" ORCPT=rfc822;" + _NOT_XTEXT.sub(lambda found: b"+%02X" % found[0][0], address)
    return parameters


def _checked(value: str) -> str:
    if _NOT_IN_A_VALUE.search(value):
        raise ValueError(f"a control character or a space in {value!r}")
    return value


def _seven_bit(orcpt: str) -> bytes:
    """RFC 6533 §3: to a host without SMTPUTF8 an address of the type utf-8 goes in its form for 7 bits."""
    return "".join(one if one.isascii() else f"\\x{{{ord(one):X}}}" for one in orcpt).encode()
