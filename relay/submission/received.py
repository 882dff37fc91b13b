"""Our trace header: who gave us the message, how, and when. RFC 5321 section 4.4. Pure.

RFC 3848 and RFC 6531 section 4.3 (`with`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from relay.mail.address import AddressError, parse_domain
from relay.policy.clients import Grant, Peer
from relay.settings import ListenerSettings

_MAX_LINE = 77
_HELO_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")


@dataclass(frozen=True, slots=True)
class Client:
    """Who is sending, as far as we know. `helo` is what it called itself, `tls` version and cipher."""

    peer: Peer
    helo: str
    extended: bool
    tls: tuple[str, str] | None
    listener: ListenerSettings
    grant: Grant
    protocol: str | None = None  # other than SMTP


def received_line(client: Client, hostname: str, smtputf8: bool, id: str, now: datetime, priority: int = 0) -> bytes:
    """Our trace header, folded, with its CRLF. RFC 5321 section 4.4, RFC 6710 section 4.1."""
    if client.listener.hide_client:
        words = [f"Received: by {hostname}"]
    else:
        literal = f"[IPv6:{client.peer.address}]" if client.peer.address.version == 6 else f"[{client.peer.address}]"
        words = ["Received: from", _host(client.helo), f"({literal})", f"by {hostname}"]
    words.append(f"with {_protocol(client, smtputf8)}")
    if client.tls is not None:
        words.append(f"({client.tls[0]} {client.tls[1]})")
    words.append(f"id {id} priority {priority};" if priority else f"id {id};")
    words += [_date(now.replace(microsecond=0))]
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= _MAX_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(f"\t{word}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


@lru_cache(maxsize=4)
def _date(now: datetime) -> str:
    return format_datetime(now)


@lru_cache(maxsize=1024)
def _host(helo: str) -> str:
    """The client's name for itself, as a domain if it is one; otherwise without what could break out of its place."""
    try:
        return parse_domain(helo)
    except AddressError:
        return "".join(letter if letter in _HELO_CHARACTERS else "?" for letter in helo[:255]) or "unknown"


def _protocol(client: Client, smtputf8: bool) -> str:
    """RFC 3848, RFC 6531 section 4.3: what was spoken, with S for TLS and A for AUTH."""
    if client.protocol is not None:
        return client.protocol
    if not client.extended:
        return "SMTP"
    return f"{'UTF8SMTP' if smtputf8 else 'ESMTP'}{'S' if client.tls else ''}{'A' if client.peer.login else ''}"
