"""The verbs of one SMTP session: what they need, what they answer, and what they leave behind.

RFC 5321 section 4.1 (commands), RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 2920 (pipelining). Only what is honoured is
offered. Nothing is decided here about who may send (`access`) or whether a message is good (`receive`).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import timedelta

from relay.events import DefectFound, SubmissionRefused
from relay.mail.status import Kind, Reply
from relay.settings import SubmissionSettings
from relay.submission import replies
from relay.submission.access import IPAddress, client_address, may_relay
from relay.submission.auth import MAX_LINE_OCTETS, MECHANISMS, Authenticator, Talk
from relay.submission.front import Front
from relay.submission.receive import Client, Receiver, Transaction
from relay.submission.stream import LANDING_OCTETS, Gone, Stream
from relay.submission.verbs import parse_mail, parse_rcpt

_MAX_COMMAND = 2048  # octets; RFC 5321 §4.5.3.1.4 asks for 512, and each extension for more
_MAX_ERRORS = 20
_MAX_FAILED_LOGINS = 3
# A web page can make a browser in a trusted network send us lines of its choice. A browser begins with one of these.
_WEB_VERBS = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "PATCH", "DELETE", "TRACE", "PRI"})
_NOT_IMPLEMENTED = frozenset({"EXPN", "TURN", "ETRN", "SEND", "SOML", "SAML", "BDAT", "ATRN"})
_PROTOCOL_ERRORS = frozenset({500, 501, 502, 503, 504})


@dataclass(slots=True, eq=False)
class Shared:
    """What the sessions of one server have in common. `tls` may be replaced while they run."""

    settings: SubmissionSettings
    hostname: str
    front: Front
    receiver: Receiver
    tls: ssl.SSLContext | None
    authenticator: Authenticator | None
    stopping: bool = False
    sessions: set[Session] = field(default_factory=set)
    landing: memoryview = field(default_factory=lambda: memoryview(bytearray(LANDING_OCTETS)))


class Session(Stream):
    """One client, from greeting to goodbye. `implicit`: TLS comes before the greeting."""

    def __init__(self, shared: Shared, implicit: bool) -> None:
        super().__init__(shared.hostname, shared.settings.timeout, shared.landing)
        self._shared = shared
        self._implicit = implicit
        self._peer: IPAddress
        self._helo: str | None = None
        self._extended = False
        self._login: str | None = None
        self._transaction: Transaction | None = None
        self._errors = 0
        self._failed_logins = 0
        self._at_command = False  # nothing under way: we wait for the next command
