"""One table [[route]] of the settings file: which mail it takes, and where that goes."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from relay.override_settings import Fingerprint, domain_pattern
from relay.policy.override import OverrideLevel
from relay.policy.routing import ANY, NULL_SENDER, RESERVED_NAMES, Direct, Discard, Entry, Hop, Place, Reject, Way
from relay.setting_types import HostPort, OptionalPath, RouteHost, Section, Written, is_address, route_name

_LONGEST_MESSAGE = 400  # characters; RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets
_PROVING = (OverrideLevel.VERIFY, OverrideLevel.DANE_ONLY, OverrideLevel.FINGERPRINT)
_OF_NAMES = (OverrideLevel.VERIFY, OverrideLevel.DANE, OverrideLevel.DANE_ONLY)


class Action(Enum):
    """What becomes of the mail that a route takes."""

    DELIVER = "deliver"
    DIRECT = "direct"
    DISCARD = "discard"
    REJECT = "reject"


def _own_name(value: object) -> str:
    if value in RESERVED_NAMES:
        raise ValueError("is a name that Relay uses itself")
    return route_name(value)


def _recipients(value: object) -> str:
    return ANY if value == ANY else domain_pattern(value)


def _senders(value: object) -> str:
    return NULL_SENDER if value == NULL_SENDER else _recipients(value)


def _level(value: object) -> OverrideLevel | None:
    if value is None or value == "" or isinstance(value, OverrideLevel):
        return value or None  # type: ignore[return-value]
    try:
        return OverrideLevel(value)
    except ValueError:
        raise ValueError(f"must be {', '.join(level.value for level in OverrideLevel)}") from None


def _message(value: str) -> str:
    if value and not (value.isascii() and value.isprintable() and value.strip() == value):
        raise ValueError("must be one line of ASCII text")
    if len(value) > _LONGEST_MESSAGE:
        raise ValueError(f"must have at most {_LONGEST_MESSAGE} characters")
    return value


def _login(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be the name of a user, or *")
    return value


def _user(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line of text")
    return value


RecipientPattern = Annotated[str, BeforeValidator(_recipients), Written("domain")]
SenderPattern = Annotated[str, BeforeValidator(_senders), Written("domain")]
RouteName = Annotated[str, BeforeValidator(_own_name), Written("name")]
OptionalLevel = Annotated[
    OverrideLevel | None,
    BeforeValidator(_level),
    PlainSerializer(lambda value: "" if value is None else value.value, return_type=str),
    Written(", ".join(level.value for level in OverrideLevel)),
]


def place(host: HostPort) -> Place:
    """The same as the decision takes it."""
    return Place(host.host, host.port)


class RouteSettings(Section):
    """A way for some mail; any number of these tables. Mail takes the first, in the order of the file, that fits it."""

    name: RouteName = Field(description="how the log and the queue call it")
    recipient_domains: tuple[RecipientPattern, ...] = Field(
        default=(), description="for mail to these; `.example.org` is everything below example.org, `*` everything"
    )
    sender_domains: tuple[SenderPattern, ...] = Field(
        default=(), description="for mail from these envelope senders; `<>` is the null sender, `*` every sender"
    )
    logins: tuple[Annotated[str, AfterValidator(_login)], ...] = Field(
        default=(), description="for mail of clients that logged in as one of these; `*` is every client that logged in"
    )
    action: Action = Field(
        default=Action.DELIVER,
        description="deliver: to `hosts`; direct: to the mail hosts of the recipient's domain; discard; reject",
    )
    hosts: tuple[RouteHost, ...] = Field(
        default=(), description="where the mail goes, in the order of trying; without a port it is 25"
    )
    mx: bool = Field(default=False, strict=True, description="`hosts` is one name, and its MX records say where")
    tls: OptionalLevel = Field(
        default=None, description="what hosts must prove beside what they publish; empty: verify where there is a user"
    )
    fingerprints: tuple[Fingerprint, ...] = Field(
        default=(), description="for fingerprint: SHA-256 of the host's certificate or of its public key, in hex"
    )
    user: Annotated[str, AfterValidator(_user)] = Field(
        default="", description="log in under this name; never on a session that has not proven who the host is"
    )
    password_file: OptionalPath = Field(default=None, description="file with the password, and nothing else")
    token_file: OptionalPath = Field(default=None, description="file with an OAuth 2 access token, read at each login")
    message: Annotated[str, AfterValidator(_message)] = Field(
        default="", description="for reject: what the client, or the sender, is told"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> RouteSettings:
        for find in _FAULTS:
            fault = find(self)
            if fault is not None:
                raise ValueError(fault)
        return self

    @property
    def takes_some(self) -> bool:
        """Whether it takes any mail by itself."""
        return bool(self.recipient_domains or self.sender_domains or self.logins)

    @property
    def takes_all(self) -> bool:
        """Whether no mail gets past it."""
        lists = (self.recipient_domains, self.sender_domains)
        return self.takes_some and not self.logins and all(not given or ANY in given for given in lists)

    def value(self) -> Entry:
        """The route as the decision takes it."""
        # Sets, since lists of domains may be long and each recipient is looked up.
        lists = map(frozenset, (self.recipient_domains, self.sender_domains, self.logins))
        return Entry(self.name, self._way(), *lists)

    def _way(self) -> Way:
        match self.action:
            case Action.DIRECT:
                return Direct()
            case Action.DISCARD:
                return Discard(self.name)
            case Action.REJECT:
                return Reject(self.name, self.message)
            case Action.DELIVER:
                level = self.tls or (OverrideLevel.VERIFY if self.user else None)
                places = tuple(place(host) for host in self.hosts)
                return Hop(self.name, places, self.mx, level, self.fingerprints, self.user or None)


def _fault_of_action(given: RouteSettings) -> str | None:
    if given.action is Action.DELIVER and not given.hosts:
        return "needs hosts: where the mail goes"
    if given.action is not Action.DELIVER:
        of_hosts = ("hosts", "mx", "tls", "fingerprints", "user", "password_file", "token_file")
        extra = [name for name in of_hosts if getattr(given, name)]
        if extra:
            return f"{' and '.join(extra)}: only for the action deliver, not for {given.action.value}"
    if (given.action is Action.REJECT) != bool(given.message):
        return "the action reject and the message need each other"
    return None


def _fault_of_hosts(given: RouteSettings) -> str | None:
    if len(set(given.hosts)) < len(given.hosts):
        return "a host is there twice"
    if given.mx and (len(given.hosts) != 1 or is_address(given.hosts[0].host)):
        return "mx goes with one name in hosts, whose MX records are looked up"
    return None


def _fault_of_tls(given: RouteSettings) -> str | None:
    if (given.tls is OverrideLevel.FINGERPRINT) != bool(given.fingerprints):
        return "the level fingerprint and the list fingerprints need each other"
    address = next((host.host for host in given.hosts if is_address(host.host)), None)
    wanted = given.tls or (OverrideLevel.VERIFY if given.user else None)
    if wanted in _OF_NAMES and address is not None:
        return f"{wanted.value} is about the name of a host, and {address} has none: name it, or use fingerprint"
    return None


def _fault_of_login(given: RouteSettings) -> str | None:
    secrets = [name for name in ("password_file", "token_file") if getattr(given, name) is not None]
    if len(secrets) > 1:
        return "needs one of password_file and token_file, not both"
    if secrets and not given.user:
        return f"{secrets[0]} needs user: who logs in"
    if given.user and not secrets:
        return "user needs password_file or token_file"
    if given.user and given.tls is not None and given.tls not in _PROVING:
        return f"a password goes to a proven host only: tls verify, dane-only or fingerprint, not {given.tls.value}"
    if given.user and given.mx:
        return "user needs hosts that are named here, and mx lets DNS name them"
    return None


_FAULTS = (_fault_of_action, _fault_of_hosts, _fault_of_login, _fault_of_tls)
