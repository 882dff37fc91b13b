"""Mail in: the sections [submission], [login] and [sendmail] of the settings file, and one table [[listener]]."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from relay.policy.clients import Headers
from relay.setting_types import (
    COUNT_LIMIT,
    Duration,
    HostPort,
    Listen,
    ListenerAddress,
    Network,
    NextHop,
    OptionalCount,
    OptionalDuration,
    OptionalPath,
    Section,
    Size,
    Written,
    route_name,
)

_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[^/?#@\s:\[\]]+)(?::[0-9]{1,5})?(?:[/?][^\s#]*)?\Z")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class ListenerTls(Enum):
    """When a client may, or must, speak TLS."""

    STARTTLS = "starttls"
    REQUIRED = "required"
    IMPLICIT = "implicit"
    NONE = "none"


class LongLines(Enum):
    """What becomes of a message with a line of more than 998 octets. RFC 5322 section 2.1.1."""

    PASS = "pass"  # noqa: S105  (no password)
    REFUSE = "refuse"


def _url(value: str) -> str:
    found = _URL.match(value) if value else None
    if value and found is None:
        raise ValueError("must be a URL such as https://login.example.org/check")
    if found is not None and found[1] == "http" and found[2] not in _LOOPBACK:
        raise ValueError("must begin with https:// unless it is on this machine")
    return value


Url = Annotated[str, AfterValidator(_url), Written("URL")]


class SubmissionSettings(Section):
    """Mail in: who may connect where, and who may send."""

    listen: tuple[Listen, ...] = Field(
        default=(HostPort(host="127.0.0.1", port=2525),),
        description="where mail is taken, with STARTTLS when a certificate is set",
    )
    listen_tls: tuple[Listen, ...] = Field(default=(), description="where mail is taken with TLS from the first octet")
    trusted_networks: tuple[Network, ...] = Field(
        default=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        description="clients in these networks may send to anyone without a password, unless a `[[client]]` fits them",
    )
    tls_certificate: OptionalPath = Field(default=None, description="PEM file with the certificate and its chain")
    tls_key: OptionalPath = Field(default=None, description="PEM file with the certificate's private key")
    client_ca_file: OptionalPath = Field(
        default=None, description="PEM file of authorities whose client certificates count; empty: none is asked for"
    )
    users_file: OptionalPath = Field(
        default=None, description="file of users and their hashed passwords, written by `relay user add`"
    )
    max_message_size: Size = Field(default=50 * (1 << 20), description="largest message taken: octets, or with k, M, G")
    max_recipients: int = Field(
        default=1000, ge=100, le=COUNT_LIMIT, strict=True, description="most recipients of one message"
    )
    max_connections: int = Field(
        default=1000,
        ge=1,
        le=COUNT_LIMIT,
        strict=True,
        description="most clients at once; one more gets 421, and so does a stranger when a quarter is left",
    )
    max_connections_per_address: OptionalCount = Field(
        default=50, description="most clients at once from one address that may not send without a login; empty: any"
    )
    connections_per_minute: OptionalCount = Field(
        default=300, description="most new clients in a minute from such an address; empty: any number"
    )
    max_failed_logins: int = Field(
        default=10,
        ge=1,
        le=COUNT_LIMIT,
        strict=True,
        description="failed logins from one address in 15 minutes after which none is tried; 5 times as many from its "
        "network (/24, IPv6 /64)",
    )
    tarpit: OptionalDuration = Field(
        default=timedelta(seconds=1),
        description="how long the answer to a mistake waits, times the mistakes so far, ten at most; empty: not",
    )
    timeout: Duration = Field(default=timedelta(minutes=5), description="how long a silent client is kept")
    plaintext_login_on_loopback: bool = Field(
        default=False, strict=True, description="take passwords without TLS from clients on this very machine"
    )
    long_lines: LongLines = Field(
        default=LongLines.PASS, description="what becomes of a message with a line of more than 998 octets"
    )
    check_sender_domain: bool = Field(
        default=False, strict=True, description="refuse envelope senders whose domain could get no bounce"
    )
    check_recipient_domain: bool = Field(
        default=False, strict=True, description="refuse recipients whose domain does not exist or takes no mail"
    )
    max_hold: OptionalDuration = Field(
        default=timedelta(days=30), description="how long a client may have its mail held (FUTURERELEASE); empty: not"
    )


class LoginSettings(Section):
    """Who may log in besides the users of submission.users_file."""

    url: Url = Field(default="", description="asked, by POST, whether a name and a password are good; empty: nobody is")
    url_token_file: OptionalPath = Field(default=None, description="file with the bearer token for it; empty: none")
    jwks: Url = Field(
        default="", description="where the keys are that access tokens are signed with (OAuth); empty: no tokens"
    )
    issuer: str = Field(default="", description="what an access token must name as its issuer")
    audience: str = Field(default="", description="what an access token must name as its audience")
    name_claim: str = Field(default="email", min_length=1, description="the claim of a token that is the login")


class SendmailSettings(Section):
    """Where mail goes that is sent from the command line of this machine."""

    server: NextHop = Field(default=None, description="host:port to submit to; empty: this relay's first listener")
    tls: ListenerTls = Field(default=ListenerTls.STARTTLS, description="how `server` is spoken to")
    user: str = Field(default="", description="who logs in there; empty: nobody")
    password_file: OptionalPath = Field(default=None, description="file with the password")
    ca_file: OptionalPath = Field(default=None, description="PEM file of authorities besides the system's")


class ListenerSettings(Section):
    """A place to take mail, with rules of its own; any number of these tables."""

    name: Annotated[str, BeforeValidator(route_name), Written("name")] = Field(
        description="how the log and `[[client]]` call it"
    )
    listen: tuple[ListenerAddress, ...] = Field(description="addresses, or sockets that systemd opens")
    tls: ListenerTls = Field(
        default=ListenerTls.STARTTLS,
        description="starttls: on offer; required: no mail before it; implicit: from the first octet; none: never",
    )
    auth: bool = Field(default=True, strict=True, description="let clients log in")
    ask_certificate: bool = Field(
        default=True, strict=True, description="ask for a client certificate when submission.client_ca_file is set"
    )
    proxy_from: tuple[Network, ...] = Field(
        default=(), description="proxies: clients from here must begin with the PROXY protocol (version 1 or 2)"
    )
    headers: Headers = Field(
        default=Headers.FIX,
        description="a missing Date, Message-ID or From: fix adds them and takes Bcc out, refuse refuses and takes Bcc "
        "out, leave changes nothing",
    )
    hide_client: bool = Field(default=False, strict=True, description="leave the client out of our Received line")

    @model_validator(mode="after")
    def _is_somewhere(self) -> ListenerSettings:
        if not self.listen:
            raise ValueError("needs listen: where mail is taken")
        return self
