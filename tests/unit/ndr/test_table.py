"""Every kind of notice, read back by a strict reader of RFC 3464 (tests/wire/dsn_parser.py)."""

from __future__ import annotations

from dataclasses import replace
from email.header import decode_header, make_header
from email.utils import format_datetime

import pytest
from notice_case import (
    ARRIVED,
    DONE,
    DOWN,
    EXPIRED,
    GREY,
    HEADER,
    LITERAL,
    MESSAGE,
    NEXT,
    NO_CODE,
    NO_TLS,
    NO_USER,
    NOW,
    NULL_MX,
    UNTIL,
    UTF8_HEADER,
    Case,
    read,
)

from relay.mail.message import InlineBody, MessageDsn, MessageId, Notify, RecipientDsn, Ret, TlsDemand
from relay.mail.outcome import Dropped, Outcome
from relay.mail.status import Kind as Class
from relay.mail.status import Reply, Status
from relay.ndr.due import FULL_LIMIT, Kind
from relay.ndr.returned import HEADER_LIMIT

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
        words=("because it was sent with the demand for TLS all the way",),
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
        words=("wants to be asked again later", "451 4.7.1 grey"),
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
        unsaid=("your message", "Who can mend it"),
        subject="Undeliverable bounce to bob@b.test",
        returned=HEADER,
    ),
    "undeliverable bounce with RET=FULL": Case(UNDELIVERABLE, to="postmaster@a.test", dsn=FULL, returned=HEADER),
    "undeliverable bounce that is confidential": Case(
        UNDELIVERABLE,
        to="postmaster@a.test",
        demand=TlsDemand.REQUIRED,
        words=("what identifies the message",),
        unsaid=("your message",),
        returned=b"Message-ID: <m1@a.test>\r\n",
    ),
}


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


@pytest.mark.parametrize(
    ("to", "final", "original"),
    [
        (JOERG, "utf-8; käthe\\x{2B}x@b.test", "utf-8; käthe@c.test"),
        ("s@a.test", "utf-8; k\\x{E4}the\\x{2B}x@b.test", "utf-8; k\\x{E4}the@c.test"),
    ],
)
def test_utf8_is_written_as_it_is_for_those_who_can_read_it(to: str, final: str, original: str) -> None:
    body = replace(CASES["sender in UTF-8"], to=to).compose().body
    assert isinstance(body, InlineBody)
    fields = f"Original-Recipient: {original}\r\nFinal-Recipient: {final}\r\n"
    assert fields.encode() in body.octets


def test_a_long_header_is_cut_at_the_end_of_a_line() -> None:
    dsn = read(Case(FAILURE, original=b"X: y\r\n" * 20000 + b"\r\n").compose())
    assert HEADER_LIMIT - 6 < len(dsn.returned) <= HEADER_LIMIT
    assert dsn.returned.endswith(b"X: y\r\n")


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
    ("kind", "outcome"),
    [
        (FAILURE, DONE),
        (DELAY, DONE),
        (RELAYED, DOWN),
        (RELAYED, NO_USER),
        (UNDELIVERABLE, DONE),
        (RELAYED, Dropped("a route discards it")),
    ],
)
def test_no_notice_speaks_of_what_did_not_happen(kind: Kind, outcome: Outcome) -> None:
    with pytest.raises(TypeError):
        Case(kind, (outcome,)).compose()
