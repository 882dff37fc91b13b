"""What becomes of a header section, and which authors it may name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import Address, parse_address
from relay.mail.header import Header
from relay.mail.status import Reply
from relay.policy.clients import Grant, Headers
from relay.submission.prepare import Treatment, prepare

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
SENDER = parse_address(b"Sender@Example.Test")
MESSAGE_ID = b"Message-ID: <id@relay.example.test>\r\n"
DATE = b"Date: Wed, 04 Mar 2026 05:06:07 +0000\r\n"
FROM = b"From: Sender@Example.Test\r\n"
WHOLE = b"From: a@b.test\r\nDate: Tue, 03 Mar 2026 00:00:00 +0100\r\nMessage-Id: <x@y>\r\n"


def treated(
    octets: bytes,
    headers: Headers = Headers.FIX,
    sender: Address | None = SENDER,
    may_name: Callable[[Address], bool] | None = None,
) -> bytes | str:
    """The header, or the text of the refusal."""
    done = prepare(octets, Treatment(headers, sender, "id@relay.example.test", NOW, may_name))
    if isinstance(done, Reply):
        return done.text
    assert done.count(b"from") == Header(done.octets).count(b"from")  # it is that of its octets
    return done.octets


FIXED: dict[bytes, bytes] = {
    b"": MESSAGE_ID + DATE + FROM,
    b"Subject: x\r\n": MESSAGE_ID + DATE + FROM + b"Subject: x\r\n",
    WHOLE: WHOLE,
    b"from:a@b.test\r\n": MESSAGE_ID + DATE + b"from:a@b.test\r\n",
    b"FROM : root\r\nDATE: now\r\n": MESSAGE_ID + b"FROM : root\r\nDATE: now\r\n",  # what is there is not judged
    b"Message-ID: x\r\nFrom: a\r\n": DATE + b"Message-ID: x\r\nFrom: a\r\n",
    WHOLE + b"Bcc: c@d.test\r\nTo: x\r\n": WHOLE + b"To: x\r\n",
    b"Bcc: c@d.test,\r\n e@f.test\r\n" + WHOLE + b"BCC:\r\nResent-Bcc: g\r\n\th\r\n": WHOLE,
    b"Return-Path: <x@y>\r\n" + WHOLE: WHOLE,
    WHOLE + b"X: odd   \r\n\t folding\r\n \r\nx-BCC:\xff\r\n": WHOLE
    + b"X: odd   \r\n\t folding\r\n \r\nx-BCC:\xff\r\n",
    WHOLE + b"Date: twice\r\n": WHOLE + b"Date: twice\r\n",
    WHOLE + b"Sender: x\r\nSender: y\r\n": WHOLE + b"Sender: x\r\nSender: y\r\n",
    b"Resent-From: x\r\nResent-Date: y\r\nResent-Message-ID: z\r\n": (
        MESSAGE_ID + DATE + FROM + b"Resent-From: x\r\nResent-Date: y\r\nResent-Message-ID: z\r\n"
    ),
}


@pytest.mark.parametrize("octets", FIXED)
def test_fixed(octets: bytes) -> None:
    assert treated(octets) == FIXED[octets]


def test_a_from_is_made_of_the_sender_as_it_is_on_the_wire() -> None:
    senders = {
        "ü@exämple.test": "ü@exämple.test",
        "u@exämple.test": "u@xn--exmple-cua.test",
        '"a b"@c.test': '"a b"@c.test',
        "a@[192.0.2.1]": "a@[192.0.2.1]",
    }
    for sender, expected in senders.items():
        found = treated(b"", sender=parse_address(sender.encode()))
        assert found == MESSAGE_ID + DATE + b"From: " + expected.encode() + b"\r\n"


def test_what_cannot_be_fixed() -> None:
    two = "5.6.0 The message has 2 From fields, one is allowed"
    assert treated(WHOLE + b"From: c@d.test\r\n") == f"554 {two}"
    assert treated(WHOLE + b"from : a@b.test\r\n") == f"554 {two}"
    assert treated(WHOLE + b"From: c@d.test\r\n", Headers.REFUSE) == f"554 {two}"


def test_mail_of_nobody_is_from_the_machine() -> None:
    found = treated(b"Subject: x\r\n", sender=None)
    assert isinstance(found, bytes)
    assert b"\r\nFrom: MAILER-DAEMON@relay.example.test\r\nSubject: x\r\n" in found, found
    assert treated(WHOLE, sender=None) == WHOLE


FORM = "554 5.6.0 The From field has no address, or not in the form that RFC 5322 asks for"
DATE_FORM = "554 5.6.0 The Date field has no date in the form that RFC 5322 asks for"
JUDGED: dict[bytes, bytes | str] = {
    WHOLE: WHOLE,
    WHOLE + b"Bcc: c\r\nTo: d\r\n": WHOLE + b"To: d\r\n",
    b"": "554 5.6.0 The message has no From field",
    b"From: a@b.test\r\n": "554 5.6.0 The message has no Date field",
    b"From: a@b.test\r\n" + DATE: "554 5.6.0 The message has no Message-ID field",
    MESSAGE_ID + DATE: "554 5.6.0 The message has no From field",
    MESSAGE_ID + DATE + b"From:\r\n": FORM,
    MESSAGE_ID + DATE + b"From: root\r\n": FORM,
    MESSAGE_ID + DATE + b"From: undisclosed:;\r\n": FORM,
    MESSAGE_ID + DATE + b"From: a@b.test c@d.test\r\n": FORM,
    MESSAGE_ID + DATE + b"From: a@b.test, C <c@d.test>\r\n": MESSAGE_ID + DATE + b"From: a@b.test, C <c@d.test>\r\n",
    MESSAGE_ID + FROM + b"Date: now\r\n": DATE_FORM,
    MESSAGE_ID + FROM + b"Date:\r\n": DATE_FORM,
    MESSAGE_ID + FROM + DATE + DATE: "554 5.6.0 The message has 2 Date fields, one is allowed",
}


@pytest.mark.parametrize("octets", JUDGED)
def test_judged(octets: bytes) -> None:
    assert treated(octets, Headers.REFUSE) == JUDGED[octets]


@pytest.mark.parametrize("octets", [b"", b"Bcc: a\r\n", b"From: a\r\nFrom: b\r\nReturn-Path: c\r\n \r\nhello\r\n"])
def test_left(octets: bytes) -> None:
    assert treated(octets, Headers.LEAVE) == octets


# For a client with header_from = ["good.test", "me@also.test"]: fields besides Date and Message-ID -> what is wrong
GOOD_FROM = b"From: a@good.test\r\n"
STRANGE = "evil@evil.test is not an address that you may use"
LOCAL = "From: an address has something in its local part that looks like the end of it"
AUTHORS: dict[bytes, str | None] = {
    GOOD_FROM: None,
    b'From: A <a@GOOD.test>, "x, y" <me@also.test>\r\n': None,
    b"From: Team: a@good.test, b@good.test;\r\n": None,
    b"From: a@good.test\r\nSender: b@good.test\r\nResent-From: c@good.test\r\nResent-From: d@good.test\r\n": None,
    b"From: a@good.test\r\nReply-To: evil@evil.test\r\nTo: evil@evil.test\r\n": None,
    b"From: =?utf-8?q?J=C3=BCrgen?= <a@good.test>\r\n": None,
    b'From: "a@good.test" <a@good.test>\r\n': None,
    b"From: A\r\n <a@good.test>\r\n": None,
    b"From: evil@evil.test\r\n": f"From: {STRANGE}",
    b"From: other@also.test\r\n": "From: other@also.test is not an address that you may use",
    b"From: a@sub.good.test\r\n": "From: a@sub.good.test is not an address that you may use",
    b"from :evil@evil.test\r\n": f"From: {STRANGE}",
    b"FROM: a@good.test, evil@evil.test\r\n": f"From: {STRANGE}",
    b"From: Team: a@good.test, evil@evil.test;\r\n": f"From: {STRANGE}",
    b"From: evil@evil.test (a@good.test)\r\n": f"From: {STRANGE}",
    b'From: "a@good.test" <evil@evil.test>\r\n': f"From: {STRANGE}",
    b'From: "evil@evil.test" <a@good.test>\r\n': f"From: {STRANGE}",
    b"From: (evil@evil.test) a@good.test\r\n": f"From: {STRANGE}",
    b"From: =?utf-8?q?evil=40evil=2Etest?= <a@good.test>\r\n": f"From: {STRANGE}",
    b"From: =?utf-8?q?=3Cevil=40evil.test=3E=2C?= <a@good.test>\r\n": f"From: {STRANGE}",
    b'From: "@evil.test" <a@good.test>\r\n': "From: a name has @evil.test in it, which looks like an address",
    b"From: =?utf-8?q?evil=40evil=2Etest?=@good.test\r\n": "From: an address has an encoded word in it",
    b"From: =?utf-8?q?x=00?= <a@good.test>\r\n": "From: it has a control character, or one that turns text round",
    b"From: <@evil.test:a@good.test>\r\n": "From: a source route is not taken, give the address alone",
    b"From: evil@evil.test <a@good.test>\r\n": "From: there is no , where it should be",
    b"From: a@good.test garbage\r\n": "From: there is no , where it should be",
    b'From: "a.b"@good.test\r\n': None,
    b'From: "evil@evil.test"@good.test\r\n': LOCAL,
    b'From: <"evil@evil.test>,"@good.test>\r\n': LOCAL,
    b'From: "a b"@good.test\r\n': LOCAL,
    "From: evil＠evil.test@good.test\r\n".encode(): LOCAL,
    "From: a\u202eb@good.test\r\n".encode(): "From: it has a control character, or one that turns text round",
    b"From: evil\r\n": "From: it names something without an address",
    b"From:\r\n": "From: it names something without an address",
    b"From: undisclosed:;\r\n": "From: it names no address",
    b"From: a@good.test\xff\r\n": "From: it is not valid UTF-8",
    b'From: "evil@evil.test\r\n \r\n " <a@good.test>\r\n': "From: it has an empty line in it",
    b"From: a@good.test\r\n \r\n": "From: it has an empty line in it",
    GOOD_FROM + b"Sender: evil@evil.test\r\n": f"Sender: {STRANGE}",
    GOOD_FROM + b"Resent-From: a@good.test\r\nRESENT-FROM: evil@evil.test\r\n": f"Resent-From: {STRANGE}",
    GOOD_FROM + b"Subject: x\r\n \r\nSender: evil@evil.test\r\n": f"Sender: {STRANGE}",  # looks like a body
    GOOD_FROM + b"X: a\x0bFrom: evil@evil.test\r\n": "the header has a control character",
    GOOD_FROM + b"X: a\x1b[2J\r\n": "the header has a control character",
    GOOD_FROM + b"X: " + b"a" * 995 + b"From: evil@evil.test\r\n": "the header has a line of more than 998 octets",
    GOOD_FROM + b"Sender: a@good.test\r\n" * 2: "the message has too many Sender or Resent-From fields",
    GOOD_FROM + b"Resent-From: a@good.test\r\n" * 21: "the message has too many Sender or Resent-From fields",
    # What only shows as a From field, or is none any more, is not one here either.
    GOOD_FROM + b"X-From: evil@evil.test\r\nSubject: x\r\n From: evil@evil.test\r\n": None,
}
RESTRICTED = Grant("x", header_from=("good.test", "me@also.test"))


@pytest.mark.parametrize("headers", Headers)
@pytest.mark.parametrize("fields", AUTHORS, ids=lambda fields: repr(fields[:50]))
def test_authors(fields: bytes, headers: Headers) -> None:
    found = treated(
        MESSAGE_ID + DATE + fields, headers, may_name=lambda address: RESTRICTED.allows_author(address, None)
    )
    problem = AUTHORS[fields]
    if problem is None:
        assert found == MESSAGE_ID + DATE + fields
    elif headers is Headers.REFUSE and found == FORM:
        assert treated(MESSAGE_ID + DATE + fields, Headers.REFUSE) == FORM  # no matter who sends it
    else:
        assert found == f"550 5.7.1 Author not allowed: {problem}"


def test_the_number_of_from_fields_where_authors_are_restricted() -> None:
    def may(address: Address) -> bool:
        return address.domain == "good.test"

    for octets, number in ((b"Subject: x\r\n", "no"), (GOOD_FROM * 2, "2")):
        text = f"550 5.7.1 Author not allowed: the message has {number} From fields, it must have one"
        assert treated(octets, Headers.LEAVE, may_name=may) == text
    # A From that we made ourselves is checked too.
    assert treated(b"", may_name=may) == (
        "550 5.7.1 Author not allowed: From: Sender@Example.Test is not an address that you may use"
    )
    assert treated(b"", sender=parse_address(b"a@good.test"), may_name=may) == (
        MESSAGE_ID + DATE + b"From: a@good.test\r\n"
    )


LINES = st.lists(
    st.sampled_from(
        [
            b"From: a@good.test\r\n",
            b"From : evil@evil.test\r\n",
            b"from:\r\n evil@evil.test\r\n",
            b"Sender: a@good.test\r\n",
            b"Sender:evil@evil.test\r\n",
            b"Resent-From: (x) evil@evil.test\r\n",
            b"Bcc: c@d.test\r\n",
            b"Subject: x\r\n",
            b" From: evil@evil.test\r\n",
            b" \r\n",
            b"\t<evil@evil.test>\r\n",
            b" , b@good.test\r\n",
        ]
    ),
    max_size=8,
).map(lambda lines: b"To: x\r\n" + b"".join(lines))


@given(LINES, st.sampled_from(Headers))
@example(b"To: x\r\nFrom: a@good.test\r\n \r\n , b@good.test\r\n", Headers.LEAVE)
def test_python_shows_no_author_but_those_allowed(octets: bytes, headers: Headers) -> None:
    found = treated(octets, headers, may_name=lambda address: RESTRICTED.allows_author(address, None))
    if isinstance(found, str):
        return
    message = message_from_bytes(found + b"\r\nFrom: body@evil.test\r\n", policy=default)
    authors = [
        (address.username, address.domain)
        for name in ("From", "Sender", "Resent-From")
        for value in message.get_all(name, [])
        for address in (value.addresses if hasattr(value, "addresses") else [value.address])
    ]
    assert authors
    assert {domain for _, domain in authors} == {"good.test"}
