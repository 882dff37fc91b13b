"""For the tests of notices: a notice to be written, from a few words, and what must be read in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from dsn_parser import Dsn, parse_dsn

from relay.mail.address import parse_address
from relay.mail.message import (
    Claim,
    DeliverBy,
    InlineBody,
    MessageDsn,
    MessageId,
    NewMessage,
    Notify,
    Recipient,
    RecipientDsn,
    SmtpUtf8,
    TlsDemand,
)
from relay.mail.outcome import Cause, Deferred, Delivered, Dropped, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind as Class
from relay.mail.status import Reply, Status
from relay.ndr.due import Due, Kind, Stamp
from relay.ndr.notice import compose
from relay.policy.retry import SettledRecipient

ARRIVED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
NOW = ARRIVED + timedelta(hours=4)
NEXT = NOW + timedelta(minutes=30)
UNTIL = ARRIVED + timedelta(days=5)
STAMP = Stamp(MessageId(7), NOW, "relay.example.org")
HEADER = b"From: <s@a.test>\r\nSubject: original\r\nMessage-ID: <m1@a.test>\r\n"
MESSAGE = HEADER + b"\r\nHello,\r\n.\r\n..and so on\r\n"
UTF8_HEADER = "From: <jörg@a.test>\r\nSubject: Grüße\r\nMessage-ID: <m1@a.test>\r\n".encode()

NO_USER = Failed(
    Status(Class.PERMANENT, 1, 1), "mx.b.test refused the message for good", "mx.b.test", Reply.of(550, ("5.1.1 who?",))
)
NO_CODE = replace(NO_USER, status=Status(Class.PERMANENT, 0, 0), reply=Reply.of(554, ("no",)))
NO_TLS = Failed(
    Status(Class.PERMANENT, 7, 4), "the MTA-STS policy demands TLS, but mx.b.test does not offer STARTTLS", "mx.b.test"
)
NULL_MX = Failed(Status(Class.PERMANENT, 1, 10), "b.test takes no mail at all (null MX)")
EXPIRED = Failed(
    Status(Class.PERMANENT, 7, 1),
    "mx.b.test asks us to come again later",
    "mx.b.test",
    Reply.of(451, ("4.7.1 grey",)),
    expired=True,
)
DOWN = Deferred(Status(Class.TEMPORARY, 4, 1), "mx.b.test [192.0.2.1]: connection refused", "mx.b.test")
GREY = Deferred(
    Status(Class.TEMPORARY, 7, 1),
    "mx.b.test asks us to come again later",
    "mx.b.test",
    Reply.of(451, ("4.7.1 grey",)),
    cause=Cause.GREYLISTING,
)
DONE = Delivered(Status(Class.SUCCESS, 0, 0), Reply.of(250, ("2.0.0 kept",)), "mx.b.test", TlsUsed.VERIFIED)
LITERAL = replace(NO_USER, host="[192.0.2.1]")

NOTHING, NO_DSN = RecipientDsn(), MessageDsn()


@dataclass(frozen=True)
class Case:
    """A notice to be written, and what must be read in it: fields of the report, words of the letter, what goes back.

    `fields` are of the last recipient, `message` of the whole; None: not there.
    """

    kind: Kind
    outcomes: Sequence[Outcome] = (NO_USER,)
    to: str = "s@a.test"
    recipients: Sequence[str] = ("bob@b.test",)
    asked: RecipientDsn = NOTHING
    dsn: MessageDsn = NO_DSN
    original: bytes = MESSAGE
    size: int | None = None
    demand: TlsDemand = TlsDemand.DEFAULT
    attempts: int = 3
    tried: bool = True
    expires: datetime | None = UNTIL
    held: bool = False
    notices: int = 1
    overdue: bool = False
    release: datetime | None = None
    release_asked: str | None = None
    deliver_by: DeliverBy | None = None
    fields: dict[str, str | None] = field(default_factory=dict)
    message: dict[str, str | None] = field(default_factory=dict)
    words: Sequence[str] = ()
    unsaid: Sequence[str] = ()
    subject: str | None = None
    returned: bytes | None = None
    types: tuple[str, str] = ("message/delivery-status", "text/rfc822-headers")

    @property
    def about(self) -> Claim:
        size = len(self.original) if self.size is None else self.size
        return Claim(
            id=MessageId(5),
            sender=None if self.kind is Kind.UNDELIVERABLE else parse_address(self.to.encode()),
            destination="b.test",
            recipients=(),
            body=InlineBody(b"x" * size),
            arrived=ARRIVED,
            lease=1,
            lease_until=ARRIVED,
            message_id="m1@a.test",
            demand=self.demand,
            dsn=self.dsn,
            release=self.release,
            release_asked=self.release_asked,
            deliver_by=self.deliver_by,
        )

    @property
    def due(self) -> Due:
        outcomes = [*self.outcomes, *[self.outcomes[-1]] * (len(self.recipients) - len(self.outcomes))]
        states = {Dropped: State.DROPPED, Delivered: State.DELIVERED, Deferred: State.DEFERRED, Failed: State.FAILED}
        settled = tuple(
            SettledRecipient(
                Recipient(number, parse_address(text.encode()), self.attempts, self.notices - 1, self.asked),
                State.HELD if self.held else states[type(outcome)],
                outcome,
                NEXT if isinstance(outcome, Deferred) and self.tried and not self.held else None,
                self.notices,
                expires=self.expires,
                overdue=self.overdue,
            )
            for number, (text, outcome) in enumerate(zip(self.recipients, outcomes, strict=True))
        )
        return Due(self.kind, parse_address(self.to.encode()), settled)

    def compose(self) -> NewMessage:
        return compose(self.due, self.about, self.original, replace(STAMP, tried=self.tried))


def read(message: NewMessage) -> Dsn:
    assert isinstance(message.body, InlineBody)
    dsn = parse_dsn(message.body.octets)
    (to,) = message.envelope.recipients
    assert message.envelope.sender is None
    assert message.envelope.dsn == (RecipientDsn(Notify.NEVER),)
    assert message.eight_bit is not message.body.octets.isascii()
    assert (message.smtputf8 is SmtpUtf8.NEEDED) is to.needs_smtputf8
    assert dsn.utf8 is to.needs_smtputf8
    assert dsn.header["to"] == f"<{to.local}@{to.domain}>"
    return dsn
