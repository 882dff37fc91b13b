"""Every kind of notice, read back by a strict reader of RFC 3464 (tests/wire/dsn_parser.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from email.utils import format_datetime

import pytest
from dsn_parser import Dsn, DsnError, parse_dsn
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import AddressError, parse_address
from relay.mail.message import (
    Claim,
    InlineBody,
    MessageDsn,
    MessageId,
    NewMessage,
    Notify,
    Recipient,
    RecipientDsn,
    Ret,
    SmtpUtf8,
    TlsDemand,
)
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind as Class
from relay.mail.status import Reply, Status
from relay.ndr.due import FULL_LIMIT, Due, Kind, Stamp, returns_whole
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
        )

    @property
    def due(self) -> Due:
        outcomes = [*self.outcomes, *[self.outcomes[-1]] * (len(self.recipients) - len(self.outcomes))]
        states = {Delivered: State.DELIVERED, Deferred: State.DEFERRED, Failed: State.FAILED}
        settled = tuple(
            SettledRecipient(
                Recipient(number, parse_address(text.encode()), self.attempts, self.notices - 1, self.asked),
                State.HELD if self.held else states[type(outcome)],
                outcome,
                NEXT if isinstance(outcome, Deferred) and self.tried and not self.held else None,
                self.notices,
                expires=self.expires,
            )
            for number, (text, outcome) in enumerate(zip(self.recipients, outcomes, strict=True))
        )
        return Due(self.kind, parse_address(self.to.encode()), settled)

    def compose(self) -> NewMessage:
        return compose(self.due, self.about, self.original, replace(STAMP, tried=self.tried))


FULL = MessageDsn(Ret.FULL)
JOERG = "jörg@a.test"
BIG = HEADER + b"\r\n" + b"x" * 70 + b"\r\n"
FAILURE, DELAY, RELAYED, UNDELIVERABLE = Kind.FAILURE, Kind.DELAY, Kind.RELAYED, Kind.UNDELIVERABLE
SUCCESS = RecipientDsn(Notify.SUCCESS)
GLOBAL = "message/global-delivery-status"

CASES = {
    "failure": Case(
        FAILURE,
        fields={
            "Original-Recipient": None,
            "Final-Recipient": "rfc822; bob@b.test",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 550 5.1.1 who?",
            "Last-Attempt-Date": format_datetime(NOW),
            "Will-Retry-Until": None,
        },
        message={
            "Original-Envelope-Id": None,
            "Reporting-MTA": "dns; relay.example.org",
            "Arrival-Date": format_datetime(ARRIVED),
            "X-Relay-Queue-ID": str(MessageId(5)),
        },
        words=("bob@b.test", "will not be tried again", "550 5.1.1 who?", "check the address", "the header of your"),
        subject="Undeliverable: your message to bob@b.test",
        returned=HEADER,
    ),
    "reply without an enhanced code": Case(
        FAILURE, (NO_CODE,), fields={"Status": "5.0.0", "Diagnostic-Code": "smtp; 554 no"}, words=("Code: 554 5.0.0",)
    ),
    "our own refusal": Case(
        FAILURE,
        (NO_TLS,),
        fields={
            "Status": "5.7.4",
            "Diagnostic-Code": f"x-relay; 551 5.7.4 {NO_TLS.reason}",
        },
        words=("Code: 551 5.7.4",),
    ),
    "no host": Case(FAILURE, (NULL_MX,), fields={"Remote-MTA": None, "Status": "5.1.10"}),
    "host without a name": Case(FAILURE, (LITERAL,), fields={"Remote-MTA": "dns; [192.0.2.1]"}),
    "expired": Case(
        FAILURE,
        (EXPIRED,),
        fields={"Status": "5.7.1", "Diagnostic-Code": "smtp; 451 4.7.1 grey"},
        words=("It was tried 3 times, until its time ran out at Tue, 06 Jan 2026", "451 4.7.1 grey"),
    ),
    "never tried": Case(
        FAILURE,
        (replace(NULL_MX, expired=True),),
        attempts=0,
        tried=False,
        fields={"Last-Attempt-Date": None},
        words=("It was never tried, until its time ran out at Tue, 06 Jan 2026",),
    ),
    "expired between two attempts": Case(
        FAILURE, (EXPIRED,), tried=False, fields={"Last-Attempt-Date": None}, words=("It was tried 3 times",)
    ),
    "expired after one attempt": Case(FAILURE, (EXPIRED,), attempts=1, words=("It was tried once, until its time",)),
    "two recipients": Case(
        FAILURE,
        (NO_USER, NO_TLS),
        recipients=("bob@b.test", "eve@b.test"),
        fields={"Final-Recipient": "rfc822; eve@b.test", "Status": "5.7.4"},
        words=("bob@b.test", "eve@b.test"),
        subject="Undeliverable: your message to 2 recipients",
    ),
    "a hundred recipients": Case(
        FAILURE,
        recipients=[f"r{number}@b.test" for number in range(100)],
        fields={"Final-Recipient": "rfc822; r99@b.test"},
        subject="Undeliverable: your message to 100 recipients",
    ),
    "quoted local part": Case(
        FAILURE, recipients=('"a  b;\\" c"@b.test',), fields={"Final-Recipient": 'rfc822; "a  b;\\" c"@b.test'}
    ),
    "address literal": Case(
        FAILURE,
        recipients=("bob@[IPv6:2001:db8::1]",),
        fields={"Final-Recipient": "rfc822; bob@[IPv6:2001:db8::1]"},
    ),
    "domain not ASCII": Case(
        FAILURE,
        recipients=("bob@bücher.test",),
        fields={"Final-Recipient": "rfc822; bob@xn--bcher-kva.test"},
        words=("bob@bücher.test",),
        subject="Undeliverable: your message to bob@bücher.test",
    ),
    "local part not ASCII": Case(
        FAILURE, recipients=("j+ö@b.test",), fields={"Final-Recipient": "utf-8; j+ö@b.test"}, words=("j+ö@b.test",)
    ),
    "longest address": Case(FAILURE, recipients=("ö" * 32 + "@" + ".".join(["x" * 60] * 4),)),
    "sender with an address literal": Case(FAILURE, to="s@[192.0.2.7]"),
    "sender with a quoted local part": Case(FAILURE, to='"s s"@a.test'),
    "sender with a domain not ASCII": Case(FAILURE, to="s@bücher.test"),
    "envelope id": Case(FAILURE, dsn=MessageDsn(None, "QQ+2B1+20x"), message={"Original-Envelope-Id": "QQ+1 x"}),
    "original recipient": Case(
        FAILURE,
        asked=RecipientDsn(None, "rfc822;list+2Bbob@c.test"),
        fields={"Original-Recipient": "rfc822; list+bob@c.test", "Final-Recipient": "rfc822; bob@b.test"},
    ),
    "original recipient of another type": Case(
        FAILURE,
        asked=RecipientDsn(None, "X400;/g+3Dbob/s+3Db+20c/"),
        fields={"Original-Recipient": "X400; /g=bob/s=b c/"},
    ),
    "original recipient in UTF-8": Case(
        FAILURE,
        asked=RecipientDsn(None, r"utf-8;j\x{F6}rg\x{2B}x@c.test"),
        fields={"Original-Recipient": "utf-8; jörg+x@c.test"},
    ),
    "original recipient as it was, for a 7-bit reader": Case(
        FAILURE, asked=RecipientDsn(None, "utf-8;jörg@c.test"), fields={"Original-Recipient": "utf-8; jörg@c.test"}
    ),
    "original recipient that cannot be folded": Case(
        FAILURE, asked=RecipientDsn(None, f"utf-8;{'ö' * 247}"), fields={"Original-Recipient": None}
    ),
    "RET=HDRS": Case(FAILURE, dsn=MessageDsn(Ret.HDRS), returned=HEADER, words=("the header of your message.",)),
    "RET=FULL": Case(
        FAILURE,
        dsn=FULL,
        returned=MESSAGE,
        types=("message/delivery-status", "message/rfc822"),
        words=("technical report and your message.",),
    ),
    "RET=FULL, 8 bit": Case(
        FAILURE,
        dsn=FULL,
        original=HEADER + b"\r\nGr\xfc\xdfe\r\n",
        returned=HEADER + b"\r\nGr\xfc\xdfe\r\n",
        types=("message/delivery-status", "message/rfc822"),
    ),
    "RET=FULL, a message without a body": Case(
        FAILURE,
        dsn=FULL,
        original=HEADER + b"\r\n",
        returned=HEADER + b"\r\n",
        types=("message/delivery-status", "message/rfc822"),
    ),
    "RET=FULL, too large": Case(
        FAILURE, dsn=FULL, size=FULL_LIMIT + 1, returned=HEADER, words=("because it is larger than 1 MiB",)
    ),
    "RET=FULL, not all of it could be read": Case(
        FAILURE, dsn=FULL, size=len(MESSAGE) + 1, returned=HEADER, words=("could not be put into this one unchanged",)
    ),
    "RET=FULL, a line too long": Case(
        FAILURE,
        dsn=FULL,
        original=HEADER + b"\r\n" + b"x" * 999 + b"\r\n",
        returned=HEADER,
        words=("could not be put into this one unchanged",),
    ),
    "RET=FULL, a header that is no UTF-8": Case(
        FAILURE, dsn=FULL, original=b"Subject: Gr\xfc\xdfe\r\n\r\nx\r\n", returned=b"Subject: Gr\xfc\xdfe\r\n"
    ),
    "RET=FULL, a UTF-8 header for a 7-bit reader": Case(
        FAILURE,
        dsn=FULL,
        original=UTF8_HEADER + b"\r\nx = y \r\n",
        returned=UTF8_HEADER + b"\r\nx = y \r\n",
        types=("message/delivery-status", "message/global"),
    ),
    "REQUIRETLS": Case(
        FAILURE,
        (NO_TLS,),
        demand=TlsDemand.REQUIRED,
        returned=b"Message-ID: <m1@a.test>\r\n",
        words=("because you sent it with the demand for TLS all the way",),
    ),
    "REQUIRETLS and RET=FULL": Case(
        FAILURE, dsn=FULL, demand=TlsDemand.REQUIRED, returned=b"Message-ID: <m1@a.test>\r\n"
    ),
    "header not ASCII for a 7-bit reader": Case(FAILURE, original=UTF8_HEADER + b"\r\nx\r\n", returned=UTF8_HEADER),
    "header in another charset": Case(
        FAILURE, to=JOERG, original=b"Subject: Gr\xfc\xdfe\r\n\r\nx\r\n", returned=b"Subject: Gr\xfc\xdfe\r\n"
    ),
    "sender in UTF-8, all else ASCII": Case(FAILURE, to=JOERG, returned=HEADER),
    "sender in UTF-8": Case(
        FAILURE,
        to=JOERG,
        recipients=("käthe+x@b.test",),
        original=UTF8_HEADER + b"\r\nx\r\n",
        asked=RecipientDsn(None, r"utf-8;k\x{E4}the@c.test"),
        fields={"Final-Recipient": "utf-8; käthe+x@b.test", "Original-Recipient": "utf-8; käthe@c.test"},
        returned=UTF8_HEADER,
        types=(GLOBAL, "message/global-headers"),
    ),
    "sender in UTF-8, RET=FULL": Case(
        FAILURE,
        to=JOERG,
        dsn=FULL,
        recipients=("käthe@b.test",),
        original=UTF8_HEADER + "\r\nGrüße\r\n".encode(),
        returned=UTF8_HEADER + "\r\nGrüße\r\n".encode(),
        types=(GLOBAL, "message/global"),
    ),
    "words not ASCII for a 7-bit reader": Case(
        FAILURE,
        (replace(NO_USER, reply=Reply.of(550, ("5.1.1 kein Empfänger",))),),
        fields={"Diagnostic-Code": "smtp; 550 5.1.1 kein Empf?nger"},
        words=("kein Empfänger",),
    ),
    "words not ASCII for a UTF-8 reader": Case(
        FAILURE,
        (replace(NO_USER, reply=Reply.of(550, ("5.1.1 kein Empfänger",))),),
        to=JOERG,
        fields={"Diagnostic-Code": "smtp; 550 5.1.1 kein Empfänger"},
        types=(GLOBAL, "text/rfc822-headers"),
    ),
    "a long reply": Case(
        FAILURE,
        (replace(NO_USER, reply=Reply.of(550, ("5.1.1 " + "x" * 3000, "and so on " * 300))),),
    ),
    "a reply that wants to break out": Case(
        FAILURE,
        (
            replace(
                NO_USER,
                reply=Reply.of(550, ("5.1.1 no\r\nStatus: 2.0.0\r\n\r\nX: y", "\x00\x1b[31m\u2028\ud800")),
            ),
        ),
        fields={"Status": "5.1.1", "Diagnostic-Code": "smtp; 550 5.1.1 no Status: 2.0.0 X: y  [31m"},
    ),
    "delay": Case(
        DELAY,
        (DOWN,),
        fields={
            "Action": "delayed",
            "Status": "4.4.1",
            "Will-Retry-Until": format_datetime(UNTIL),
            "Diagnostic-Code": "x-relay; 4.4.1 mx.b.test [192.0.2.1]: connection refused",
        },
        words=(
            "has not been delivered",
            "You need do nothing",
            "What does not work yet: connecting to the mail host.",
            f"The next try is at {format_datetime(NEXT)}. We give up at {format_datetime(UNTIL)}.",
        ),
        unsaid=("still not",),
        subject="Delayed: your message to bob@b.test",
    ),
    "delay, the second notice": Case(DELAY, (DOWN,), notices=2, words=("has still not been delivered",)),
    "delay of what is on hold": Case(
        DELAY,
        (DOWN,),
        held=True,
        expires=None,
        fields={"Will-Retry-Until": None},
        words=("on hold until the administrators of this server release it.",),
        unsaid=("The next try", "We give up"),
    ),
    "delay, seen between two attempts": Case(
        DELAY,
        (DOWN,),
        tried=False,
        fields={"Last-Attempt-Date": None, "Will-Retry-Until": format_datetime(UNTIL)},
        words=("We give up at Tue, 06 Jan 2026",),
        unsaid=("The next try",),
    ),
    "delay by the host's word": Case(
        DELAY,
        (GREY,),
        fields={"Status": "4.7.1", "Diagnostic-Code": "smtp; 451 4.7.1 grey"},
        words=("wants to take the message later", "451 4.7.1 grey"),
    ),
    "delay never gives back the whole": Case(DELAY, (DOWN,), dsn=FULL, returned=HEADER, unsaid=("not the whole",)),
    "delay for two": Case(DELAY, (DOWN, GREY), recipients=("bob@b.test", "eve@b.test"), fields={"Status": "4.7.1"}),
    "relayed": Case(
        RELAYED,
        (DONE,),
        asked=SUCCESS,
        fields={
            "Action": "relayed",
            "Status": "2.0.0",
            "Remote-MTA": "dns; mx.b.test",
            "Diagnostic-Code": "smtp; 250 2.0.0 kept",
            "Last-Attempt-Date": format_datetime(NOW),
        },
        words=("Handed on to: mx.b.test", "does not report on delivery", "Code: 2.0.0"),
        unsaid=("Who can mend it",),
        subject="Handed on: your message to bob@b.test",
        returned=HEADER,
    ),
    "relayed never gives back the whole": Case(RELAYED, (DONE,), asked=SUCCESS, dsn=FULL, returned=HEADER),
    "relayed with ENVID and ORCPT": Case(
        RELAYED,
        (DONE,),
        asked=RecipientDsn(Notify.SUCCESS, "rfc822;bobby@b.test"),
        dsn=MessageDsn(None, "QQ1"),
        fields={"Original-Recipient": "rfc822; bobby@b.test"},
        message={"Original-Envelope-Id": "QQ1"},
    ),
    "undeliverable bounce": Case(
        UNDELIVERABLE,
        to="postmaster@a.test",
        fields={"Action": "failed", "Status": "5.1.1"},
        words=("has no sender to write to", "Nobody but you is told", "the header of the message"),
        unsaid=("your message",),
        subject="Undeliverable bounce to bob@b.test",
        returned=HEADER,
    ),
    "undeliverable bounce with RET=FULL": Case(UNDELIVERABLE, to="postmaster@a.test", dsn=FULL, returned=HEADER),
    "undeliverable bounce that is confidential": Case(
        UNDELIVERABLE, to="postmaster@a.test", demand=TlsDemand.REQUIRED, returned=b"Message-ID: <m1@a.test>\r\n"
    ),
}


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


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    case = CASES[name]
    message = case.compose()
    dsn = read(message)
    for wanted, found in ((case.fields, dsn.recipients[-1]), (case.message, dsn.message)):
        assert {key: found.get(key) for key in wanted} == wanted
    assert len(dsn.recipients) == len(case.recipients)
    assert (dsn.report_type, dsn.returned_type) == case.types
    for words in case.words:
        assert words in dsn.words
    for words in case.unsaid:
        assert words not in dsn.words
    if case.subject is not None:
        assert str(make_header(decode_header(dsn.header["subject"]))) == case.subject
    if case.returned is not None:
        assert dsn.returned == case.returned
    assert (message.demand is TlsDemand.REQUIRED) is (case.demand is TlsDemand.REQUIRED)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40


def test_the_status_comes_from_the_outcome_not_from_the_digits_of_a_reply() -> None:
    """A peer's defect: DSN status from reply digits, and the header part mislabelled."""
    outcome = replace(NO_USER, status=Status(Class.PERMANENT, 2, 2), reply=Reply.of(552, ("5.2.2 full",)))
    dsn = read(Case(FAILURE, (outcome,)).compose())
    assert dsn.recipients[0]["Status"] == "5.2.2"
    assert (dsn.returned_type, dsn.returned) == ("text/rfc822-headers", HEADER)


def test_the_date_of_the_last_attempt_stands_with_its_recipient() -> None:
    """A peer's defect: Last-Attempt-Date in the group of the message."""
    dsn = read(Case(DELAY, (DOWN,), recipients=("bob@b.test", "eve@b.test")).compose())
    assert "Last-Attempt-Date" not in dsn.message
    assert all("Last-Attempt-Date" in group for group in dsn.recipients)


def test_the_notice_is_addressed_and_names_the_failing_address() -> None:
    """A peer's defect: `To` empty, and the failing address not named."""
    dsn = read(Case(FAILURE).compose())
    assert dsn.header["to"] == "<s@a.test>"
    for place in (dsn.header["subject"], dsn.words, dsn.recipients[0]["Final-Recipient"]):
        assert "bob@b.test" in place


@pytest.mark.parametrize(
    ("kind", "outcome"), [(FAILURE, DONE), (DELAY, DONE), (RELAYED, DOWN), (RELAYED, NO_USER), (UNDELIVERABLE, DONE)]
)
def test_no_notice_speaks_of_what_did_not_happen(kind: Kind, outcome: Outcome) -> None:
    with pytest.raises(TypeError):
        Case(kind, (outcome,)).compose()


MESSES = st.text(max_size=60) | st.lists(
    st.sampled_from(["\r\n", "Status: 2.0.0", "\x00", "ö", "\u2028", "x" * 1000, " ", "--relay-", ".", "=", "\ud800"])
).map("".join)


@st.composite
def addresses(draw: st.DrawFn) -> str:
    local = draw(st.text(max_size=20) | st.from_regex(r'"([ -~]|ö){0,20}"', fullmatch=True) | st.just("a+b=c"))
    domain = draw(st.sampled_from(["b.test", "bücher.test", "[192.0.2.1]", "x" * 63 + ".test", "例え.テスト"]))
    text = f"{local}@{domain}"
    try:
        parse_address(text.encode())
    except (AddressError, UnicodeEncodeError):
        return f"bob@{domain}"
    return text


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(Kind))
    reply = draw(st.none() | st.lists(MESSES, min_size=1, max_size=3).map(tuple))
    words, detail = draw(MESSES), draw(st.integers(0, 999))
    code = {FAILURE: 550, UNDELIVERABLE: 554, DELAY: 451, RELAYED: 250}[kind]
    outcome: Outcome
    if kind is RELAYED:
        outcome = replace(DONE, reply=Reply.of(code, reply or ("ok",)))
    elif kind is DELAY:
        status = Status(Class.TEMPORARY, 4, detail)
        outcome = Deferred(status, words, "mx.b.test", Reply.of(code, reply) if reply else None)
    else:
        expired = draw(st.booleans())
        status = Status(Class.PERMANENT, 4, detail)
        outcome = Failed(status, words, None, Reply.of(code, reply) if reply else None, expired=expired)
    orcpt = draw(st.none() | MESSES | st.sampled_from(["rfc822;a+2Bb@c", r"utf-8;\x{F6}@c", ";x", "rfc822;+20"]))
    return Case(
        kind,
        (outcome,),
        to=draw(addresses()),
        recipients=draw(st.lists(addresses(), min_size=1, max_size=3)),
        asked=RecipientDsn(None, orcpt),
        dsn=MessageDsn(
            draw(st.sampled_from([None, *Ret])), draw(st.none() | MESSES.filter(lambda text: len(text) <= 100))
        ),
        original=draw(originals()),
        demand=draw(st.sampled_from(TlsDemand)),
    )


@st.composite
def originals(draw: st.DrawFn) -> bytes:
    value = st.binary(max_size=60).map(lambda octets: octets.translate(None, b"\r\n\0"))
    fields = draw(st.lists(value, max_size=4))
    lines = draw(st.lists(value | st.just(b"y" * 2000) | st.just("Grüße".encode()), max_size=4))
    return (
        b"".join(b"X: %b\r\n" % one for one in fields) + b"Date: x\r\n\r\n" + b"".join(b"%b\r\n" % one for one in lines)
    )


@given(cases())
def test_whatever_it_is_about_a_strict_reader_takes_it(case: Case) -> None:
    dsn = read(case.compose())
    assert [group["Final-Recipient"].partition("; ")[2] for group in dsn.recipients] == [
        f"{address.local}@{address.domain}" for address in (parse_address(text.encode()) for text in case.recipients)
    ]
    if returns_whole(case.kind, case.about) and dsn.returned_type in ("message/rfc822", "message/global"):
        assert dsn.returned == case.original
    elif case.demand is not TlsDemand.REQUIRED:
        assert dsn.returned == case.original.partition(b"\r\n\r\n")[0] + b"\r\n"


# The reader itself: what it must not take. Each is a good notice with one thing changed.
FAULTS = {
    "bare LF": (b"\r\nMIME-Version", b"\nMIME-Version"),
    "no To": (b"To: <s@a.test>", b"To: <>"),
    "wrong status class": (b"Status: 5.1.1", b"Status: 4.1.1"),
    "status without three numbers": (b"Status: 5.1.1", b"Status: 5.1"),
    "unknown action": (b"Action: failed", b"Action: broken"),
    "order": (b"Action: failed\r\nStatus: 5.1.1", b"Status: 5.1.1\r\nAction: failed"),
    "date in the wrong group": (b"X-Relay-Queue-ID", b"Last-Attempt-Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nX-Relay"),
    "no blank line between groups": (b"\r\n\r\nFinal-Recipient", b"\r\nFinal-Recipient"),
    "no address type": (b"rfc822; bob", b"bob"),
    "8-bit report": (b"550 5.1.1 who?", "550 5.1.1 wér?".encode()),
    "date without a zone": (b"Arrival-Date: Thu, 01 Jan 2026 12:00:00 +0000", b"Arrival-Date: Thu, 01 Jan 2026 12:00"),
    "will retry, and failed": (
        b"Last-Attempt-Date",
        b"Will-Retry-Until: Thu, 01 Jan 2026 12:00:00 +0000\r\nLast-Attempt-Date",
    ),
    "header part with a body": (b"Message-ID: <m1@a.test>\r\n\r\n--", b"Message-ID: <m1@a.test>\r\n\r\nbody\r\n--"),
    "mislabelled": (b"text/rfc822-headers", b"message/rfc822"),
    "a fourth part": (b"--\r\n", b"\r\nContent-Type: text/plain\r\n\r\nx\r\n--relay-0000000000007--\r\n"),
    "long line": (b"550 5.1.1 who?", b"550 5.1.1 " + b"x" * 999),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reader_sees(fault: str) -> None:
    good, bad = FAULTS[fault]
    message = CASES["failure"].compose()
    assert isinstance(message.body, InlineBody)
    octets = message.body.octets
    at = octets.rindex(good)
    with pytest.raises(DsnError):
        parse_dsn(octets[:at] + bad + octets[at + len(good) :])
