"""What is queued, and the piece of it that one attempt takes out.

A message is stored once, with a row for each recipient. An attempt works on a `Claim`: the recipients of one message
that go to the same place. `Body` says where the octets are; only `relay.queue` writes or reads them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, Flag, IntEnum
from pathlib import Path
from typing import Final

from relay.mail.address import Address
from relay.mail.outcome import Deferred

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
ID_LENGTH = 13


class TlsDemand(Enum):
    """What the sender asked of TLS for this message. RFC 8689."""

    DEFAULT = "default"
    REQUIRED = "required"
    WAIVED = "waived"


class SmtpUtf8(IntEnum):
    """Whether a message is to go out with SMTPUTF8. RFC 6531 section 3.4.

    Many clients ask for it always; what does not need it goes without (RFC 6531 section 3.4).
    """

    UNASKED = 0
    ASKED = 1  # by the client, and not needed: not passed on
    NEEDED = 2  # an address or the header is not ASCII


class Notify(Flag):
    """Of what the sender wants to hear, for one recipient. RFC 3461 section 4.1."""

    NEVER = 0
    SUCCESS = 1
    FAILURE = 2
    DELAY = 4

    @property
    def words(self) -> tuple[str, ...]:
        """As at RCPT: NEVER, or some of SUCCESS, FAILURE and DELAY."""
        named = (("SUCCESS", Notify.SUCCESS), ("FAILURE", Notify.FAILURE), ("DELAY", Notify.DELAY))
        return tuple(word for word, event in named if event in self) or ("NEVER",)


_UNSAID = Notify.FAILURE | Notify.DELAY  # what counts where nothing was said


class Ret(Enum):
    """How much of the message a failure notice gives back. RFC 3461 section 4.3."""

    FULL = "FULL"
    HDRS = "HDRS"


@dataclass(frozen=True, slots=True)
class RecipientDsn:
    """What the client asked for at RCPT. `orcpt` is as it was sent, type and xtext: `rfc822;bob@example.org`."""

    notify: Notify | None = None  # None: not said
    orcpt: str | None = None

    def wants(self, event: Notify) -> bool:
        """Whether the sender is to be told of `event`. RFC 3461 section 4.1: unasked, of failure and delay."""
        if self.notify is None:
            return event is not Notify.SUCCESS
        return bool(self.notify & event)

    def union(self, other: RecipientDsn) -> RecipientDsn:
        """What both ask for together; `orcpt` is the first that there is."""
        unsaid = self.notify is None and other.notify is None
        return RecipientDsn(None if unsaid else self._events | other._events, self.orcpt or other.orcpt)

    @property
    def _events(self) -> Notify:
        return _UNSAID if self.notify is None else self.notify


NOTHING_ASKED: Final = RecipientDsn()


@dataclass(frozen=True, slots=True)
class MessageDsn:
    """What the client asked for at MAIL. `envid` is as it was sent, in xtext."""

    ret: Ret | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """Until when a message is to be delivered, as the client asked. RFC 2852 section 4.

    `returns`: after that it comes back (mode R); else its sender hears that it is late, and it is tried on (mode N).
    `trace`: the sender is to hear of it when it is handed on.
    """

    time: datetime
    returns: bool = False
    trace: bool = False

    @property
    def mode(self) -> str:
        """As in BY, behind the seconds: N, NT, R or RT."""
        return f"{'R' if self.returns else 'N'}{'T' * self.trace}"

    @staticmethod
    def of(time: datetime, mode: str) -> DeliverBy:
        """From the time and what `mode` gave."""
        return DeliverBy(time, "R" in mode, "T" in mode)

    def seconds_left(self, now: datetime) -> int:
        """Whole seconds from `now` on; not above zero when the time is over."""
        return math.floor((self.time - now).total_seconds())


@dataclass(frozen=True, slots=True, order=True)
class MessageId:
    """A queue id: 63 bits that grow with time, written in 13 characters of base 32."""

    number: int

    def __post_init__(self) -> None:
        if not 0 < self.number < 1 << 63:
            raise ValueError(f"queue id out of range: {self.number}")

    def __str__(self) -> str:
        number = self.number
        return _BASE32[number >> 60] + "".join([_PAIRS[number >> shift & 1023] for shift in (50, 40, 30, 20, 10, 0)])

    @staticmethod
    def make(now: datetime, random_bits: int) -> MessageId:
        """A new id from the time (to the millisecond) and the low 20 bits of `random_bits`."""
        return MessageId(int(now.timestamp() * 1000) << 20 | random_bits & 0xFFFFF)

    @staticmethod
    def parse(text: str) -> MessageId:
        """Read what `str` wrote. Raises ValueError for anything else."""
        number = 0
        if len(text) != ID_LENGTH:
            raise ValueError(f"{text!r} is not a queue id")
        for character in text.lower():
            number = number << 5 | _BASE32.index(character)
        return MessageId(number)


@dataclass(frozen=True, slots=True)
class InlineBody:
    """A small message, header and all, in memory. `crc`: the CRC-32 that was stored with it; None: none was."""

    octets: bytes
    crc: int | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        """Length in octets."""
        return len(self.octets)


@dataclass(frozen=True, slots=True)
class FileBody:
    """A large message in a file of the queue folder. `crc`: CRC-32 of its octets; None: an older version wrote it."""

    path: Path
    size: int
    crc: int | None = field(default=None, compare=False)


Body = InlineBody | FileBody


@dataclass(frozen=True, slots=True)
class Envelope:
    """Sender (None: the null sender `<>`) and recipients, as the client gave them.

    `dsn` has an entry for each recipient, or none at all when nothing was asked for.
    """

    sender: Address | None
    recipients: tuple[Address, ...]
    dsn: tuple[RecipientDsn, ...] = ()

    @property
    def asked(self) -> tuple[RecipientDsn, ...]:
        """What was asked for, for each recipient."""
        return self.dsn or (NOTHING_ASKED,) * len(self.recipients)


@dataclass(frozen=True, slots=True)
class Once:
    """A key of a sender's, under which a message is stored once. `request`: digest of what was asked with it."""

    owner: str
    key: str
    request: bytes


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from: the client's address, the listener, and the `[[client]]` that let it in."""

    client: str
    listener: str
    allowed_by: str


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message ready to be stored. `body` is final: nothing changes an octet of it from here on.

    `release`: it is not tried before, as its sender asked; `release_asked`: in which words, as Future-Release-Request
    has them (RFC 4865 section 5.1.2), when they were others than the time. `priority`: from -9 to 9 (RFC 6710).
    `report`: a TLS report of ours (RFC 8460): what its sessions show is not counted, it is not tried for longer than
    such reports live, and nobody hears what became of it.
    """

    id: MessageId
    envelope: Envelope
    body: Body
    arrived: datetime
    message_id: str | None = None  # the header's, without angle brackets
    eight_bit: bool = False  # some octet is over 127: needs 8BITMIME (RFC 6152)
    smtputf8: SmtpUtf8 = SmtpUtf8.UNASKED
    demand: TlsDemand = TlsDemand.DEFAULT
    dsn: MessageDsn = MessageDsn()
    login: str | None = None  # under which the client sent it
    notice: str | None = None  # of a notice of ours: which kind, such as failure
    release: datetime | None = None
    release_asked: str | None = None
    priority: int = 0
    deliver_by: DeliverBy | None = None
    once: Once | None = None
    origin: Origin | None = None  # None: it is ours
    report: bool = False

    @property
    def due(self) -> datetime:
        """When it is to be tried first."""
        return first_due(self.arrived, self.release)


def first_due(arrived: datetime, release: datetime | None) -> datetime:
    """When a message is to be tried first. A time of release in the past holds nothing up."""
    return arrived if release is None else max(arrived, release)


def utc_date_time(time: datetime) -> str:
    """RFC 3339, in UTC, to the second: 2030-01-01T12:00:00Z."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a claim. `index` is its place in the envelope; `attempts` counts this attempt too.

    `delay_notices`: how many the sender has had. `last`: what the attempt before this one came to, if there was one.
    """

    index: int
    address: Address
    attempts: int
    delay_notices: int = 0
    dsn: RecipientDsn = NOTHING_ASKED
    last: Deferred | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """One message, one destination, its open recipients: what one attempt works on.

    The attempt has been counted and written down, and until `lease_until` nobody else gets these recipients.
    """

    id: MessageId
    sender: Address | None
    destination: str  # where they go: their common domain (Address.domain), or the name of the route that takes them
    recipients: tuple[Recipient, ...]
    body: Body
    arrived: datetime
    lease: int  # which lease this is; a settle with an older one changes nothing
    lease_until: datetime
    message_id: str | None = None
    eight_bit: bool = False
    smtputf8: SmtpUtf8 = SmtpUtf8.UNASKED
    demand: TlsDemand = TlsDemand.DEFAULT
    dsn: MessageDsn = MessageDsn()
    login: str | None = None
    release: datetime | None = None
    release_asked: str | None = None
    priority: int = 0
    deliver_by: DeliverBy | None = None
    report: bool = False  # as NewMessage.report

    @property
    def due(self) -> datetime:
        """When it was to be tried first: its life is counted from then on."""
        return first_due(self.arrived, self.release)

    @property
    def release_request(self) -> str | None:
        """What its sender asked with HOLDFOR or HOLDUNTIL, as a report has it. RFC 4865 section 5.1.2."""
        return self.release_asked or (None if self.release is None else f"until;{utc_date_time(self.release)}")
