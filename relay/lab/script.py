"""How a sink behaves: values only, which `lab.sink` plays."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from relay.lab.smtp import Answer


class Stage(Enum):
    """A point of the session: just before the sink would give this answer."""

    CONNECT = "connect"  # the greeting
    EHLO = "ehlo"  # the reply to EHLO in clear text
    STARTTLS = "starttls"  # the reply to STARTTLS
    HANDSHAKE = "handshake"  # the TLS handshake, when 220 has been said
    TLS_EHLO = "tls-ehlo"  # the reply to EHLO inside TLS
    AUTH = "auth"  # the last reply to AUTH
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BDAT = "bdat"  # the reply to a part of the message that is not the last one
    BODY = "body"  # no answer is due: some of the content has come, the rest has not been read
    FINAL_DOT = "final-dot"  # the reply to the content; by then the message is kept, as if the reply were only lost
    QUIT = "quit"


class How(Enum):
    """What a `Break` does in place of the answer."""

    CLOSE = "close"
    RESET = "reset"  # RST in place of FIN
    STALL = "stall"  # nothing more is said until the client leaves
    GARBAGE = "garbage"  # octets that are neither SMTP nor TLS, then the end


@dataclass(frozen=True, slots=True)
class Break:
    """The session breaks at `stage`: the first `times` times that it is reached, or always (None)."""

    stage: Stage
    how: How = How.CLOSE
    times: int | None = None


@dataclass(frozen=True, slots=True)
class SinkScript:
    """How a sink behaves. The default is the happy day, but without TLS, for which it needs a certificate.

    `context` makes STARTTLS offered; `contexts` maps names (SNI, lower case) to contexts whose certificate is shown in
    its place (TLS versions stay those of `context`; a context with `contexts` is for one sink). `extensions` are
    keywords for EHLO, `tls_extensions` those said only inside TLS; what goes with no keyword is refused. `name` is how
    the host greets.

    The rest are answers. The first use gets the first answer, the second the second, and so on; past the last one, the
    last is given again: `("550 5.1.1 no",)` always refuses, `("451 4.7.1 later", "250 2.0.0 ok")` is greylisting.
    Empty: the ordinary answer. `rcpt` goes by address, in lower case, and each address counts for itself; `*` is for
    those not named. An answer 421 also ends the session. STARTTLS is offered with `starttls` answers alone, too; octets
    such as `b"220 go\\r\\n250 and more\\r\\n"` inject clear text before the handshake.

    `users` (names with passwords or tokens) makes the host want a login before MAIL; which mechanisms it has is for an
    `AUTH` among `tls_extensions` to say. `auth` is answered when a login is over, right or wrong.
    """

    context: ssl.SSLContext | None = None
    contexts: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    name: str = "mx.lab.test"
    extensions: tuple[str, ...] = (
        "PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 52428800", "ENHANCEDSTATUSCODES", "DSN",
    )  # fmt: skip
    tls_extensions: tuple[str, ...] = ("REQUIRETLS",)  # RFC 8689 section 2: only inside TLS
    max_recipients: int = 1000  # in one transaction; 452 4.5.3 for more
    breaks: tuple[Break, ...] = ()
    greeting: tuple[Answer, ...] = ()
    ehlo: tuple[Answer, ...] = ()
    starttls: tuple[Answer, ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    auth: tuple[Answer, ...] = ()
    mail: tuple[Answer, ...] = ()
    rcpt: Mapping[str, tuple[Answer, ...]] = field(default_factory=dict)
    data: tuple[Answer, ...] = ()
    bdat: tuple[Answer, ...] = ()  # to parts of a message but the last one, whose answer is `final_dot`
    final_dot: tuple[Answer, ...] = ()
