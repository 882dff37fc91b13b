"""One table [[client]] of the settings file: who may send, as whom, to whom, and how much."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from relay.mail.address import AddressError, parse_address
from relay.override_settings import domain_pattern
from relay.policy.clients import ANY, NULL_SENDER, USER, Grant, Headers, LineEnds, Quota
from relay.setting_types import Network, OptionalCount, OptionalSize, Section, Written, host_name, route_name

_BRACES = re.compile(r"\{[a-z_]+\}\Z")
Choice = TypeVar("Choice", bound=Enum)


def optional(kind: type[Choice]) -> BeforeValidator:
    """One of the words of `kind`, or empty."""

    def read(value: object) -> Choice | None:
        if value is None or value == "" or isinstance(value, kind):
            return value or None  # type: ignore[return-value]
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"must be {' or '.join(str(one.value) for one in kind)}, or empty") from None

    return BeforeValidator(read)


def _mailboxes(value: object) -> str:
    """An address, a domain, `.domain`, or `*`."""
    if value == ANY:
        return ANY
    if value == NULL_SENDER:
        raise ValueError("the null sender can stand in senders alone")
    if isinstance(value, str) and value.startswith(("@", "*.")):
        what = "below a domain are .example.org" if value.startswith("*.") else "of a domain are example.org"
        raise ValueError(f"all addresses {what}, in this form")
    if not isinstance(value, str) or "@" not in value:
        return domain_pattern(value)
    try:
        address = parse_address(value.encode("utf-8", "surrogatepass"))
    except AddressError as error:
        raise ValueError(f"is no address: {error}") from None
    if ANY in address.local:
        raise ValueError(f"has a * that stands for nothing: all addresses of a domain are {address.domain}")
    if USER in address.local:
        raise ValueError(f"has {USER} where it stands for nothing: senders may be {USER} or {USER}@example.org")
    if _BRACES.match(address.local):
        raise ValueError(f"the login is {USER}, and nothing else stands for something")
    return f"{address.plain_local}@{address.domain}"


def _senders(value: object) -> str:
    """As `_mailboxes`, with the login in place of a local part or of the whole."""
    if value == USER:
        return USER
    if isinstance(value, str) and value.startswith(f"{USER}@"):
        return f"{USER}@{host_name(value.removeprefix(f'{USER}@'))}"
    return _mailboxes(value)


def _envelope_senders(value: object) -> str:
    return NULL_SENDER if value == NULL_SENDER else _senders(value)


def _user(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be the name of a user, or *")
    return value


def _certificate(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a name in a certificate, such as mail.example.org, or *")
    return value.lower()


Mailboxes = Annotated[str, BeforeValidator(_mailboxes), Written("address or domain")]
Senders = Annotated[str, BeforeValidator(_senders), Written("address or domain")]
EnvelopeSenders = Annotated[str, BeforeValidator(_envelope_senders), Written("address or domain")]
_word = PlainSerializer(lambda value: "" if value is None else value.value, return_type=str)
OptionalHeaders = Annotated[Headers | None, optional(Headers), _word, Written("fix, refuse, leave, or empty")]
OptionalLineEnds = Annotated[LineEnds | None, optional(LineEnds), _word, Written("refuse, normalise, or empty")]


class ClientSettings(Section):
    """What some clients may do; any number of these tables. The first that fits a client, in their order, holds."""

    name: Annotated[str, BeforeValidator(route_name), Written("name")] = Field(description="how the log calls it")
    networks: tuple[Network, ...] = Field(default=(), description="for clients with an address in one of these")
    users: tuple[Annotated[str, AfterValidator(_user)], ...] = Field(
        default=(), description="for clients that logged in as one of these; `*` is every client that logged in"
    )
    certificates: tuple[Annotated[str, AfterValidator(_certificate)], ...] = Field(
        default=(),
        description="for clients whose certificate, verified by submission.client_ca_file, has one of these names",
    )
    listeners: tuple[str, ...] = Field(default=(), description="only at these `[[listener]]`; empty: at all")
    senders: tuple[EnvelopeSenders, ...] = Field(
        default=(),
        description="envelope senders they may use; `<>` is the null sender, `{user}` the login; empty: any",
    )
    header_from: tuple[Senders, ...] = Field(
        default=(), description="addresses that From, Sender and Resent-From may name, `{user}` too; empty: any"
    )
    recipients: tuple[Mailboxes, ...] = Field(default=(), description="whom they may send to; empty: anyone")
    max_message_size: OptionalSize = Field(default=None, description="largest message; empty: as for all")
    messages_per_minute: OptionalCount = Field(default=None, description="most messages in a minute; empty: any number")
    recipients_per_day: OptionalCount = Field(
        default=None, description="most recipients in 24 hours, over all messages; empty: any number"
    )
    new_recipients_per_day: OptionalCount = Field(
        default=None, description="most recipients in 24 hours that they never sent to before; empty: any number"
    )
    headers: OptionalHeaders = Field(
        default=None, description="as `[[listener]]` has it, for these clients; empty: as the listener"
    )
    line_ends: OptionalLineEnds = Field(
        default=None,
        description="a bare CR, LF or NUL in a message: refuse it, or normalise to CRLF; empty: refuse",
    )

    @model_validator(mode="after")
    def _is_for_somebody(self) -> ClientSettings:
        if not (self.networks or self.users or self.certificates):
            raise ValueError("needs networks, users or certificates: whom it is for")
        return self

    def value(self) -> Grant:
        """The table as it is looked up."""
        return Grant(
            name=self.name,
            networks=self.networks,
            users=self.users,
            certificates=self.certificates,
            listeners=self.listeners,
            senders=self.senders,
            header_from=self.header_from,
            recipients=self.recipients,
            max_message_size=self.max_message_size,
            quota=Quota(self.messages_per_minute, self.recipients_per_day, self.new_recipients_per_day),
            headers=self.headers,
            line_ends=self.line_ends,
        )
