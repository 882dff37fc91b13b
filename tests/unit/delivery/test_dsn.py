"""Delivery reports that a sender asked for, as parameters."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery import dsn
from relay.mail.message import MessageDsn, Notify, RecipientDsn, Ret

MESSAGES = [
    (None, b""),
    (MessageDsn(), b""),
    (MessageDsn(Ret.FULL), b" RET=FULL"),
    (MessageDsn(None, "a+2Bb"), b" ENVID=a+2Bb"),
    (MessageDsn(Ret.HDRS, "x"), b" RET=HDRS ENVID=x"),
]


@pytest.mark.parametrize(("asked", "expected"), MESSAGES)
def test_message(asked: MessageDsn | None, expected: bytes) -> None:
    assert dsn.of_message(asked) == expected


BOB = b"bob@b.test"
RECIPIENTS = [
    (RecipientDsn(), BOB, True, b""),
    (RecipientDsn(Notify.NEVER), BOB, True, b" NOTIFY=NEVER"),
    (RecipientDsn(Notify.SUCCESS), BOB, True, b" NOTIFY=SUCCESS ORCPT=rfc822;bob@b.test"),
    (RecipientDsn(Notify.DELAY | Notify.FAILURE), BOB, True, b" NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob@b.test"),
    # RFC 3461 section 4: what is no xtext is written in hexadecimal
    (RecipientDsn(Notify.DELAY), b'"a b+c=d"@b.test', True, b' NOTIFY=DELAY ORCPT=rfc822;"a+20b+2Bc+3Dd"@b.test'),
    (RecipientDsn(Notify.DELAY), "b\xe4@b.test".encode(), True, b" NOTIFY=DELAY"),
    (RecipientDsn(None, "RFC822;Bob@B.test"), BOB, False, b" ORCPT=RFC822;Bob@B.test"),
    (RecipientDsn(Notify.NEVER, "rfc822;a@b"), BOB, False, b" NOTIFY=NEVER ORCPT=rfc822;a@b"),
    (RecipientDsn(None, "utf-8;b\xe4@b.test"), BOB, True, " ORCPT=utf-8;b\xe4@b.test".encode()),
    (RecipientDsn(None, "utf-8;b\xe4\U0001f600@b.test"), BOB, False, rb" ORCPT=utf-8;b\x{E4}\x{1F600}@b.test"),
    (RecipientDsn(None, r"utf-8;a\x{20}b@b.test"), BOB, False, rb" ORCPT=utf-8;a\x{20}b@b.test"),
]


@pytest.mark.parametrize(("asked", "address", "smtputf8", "expected"), RECIPIENTS)
def test_recipient(asked: RecipientDsn, address: bytes, smtputf8: bool, expected: bytes) -> None:
    assert dsn.of_recipient(asked, address, smtputf8) == expected


@given(st.text(max_size=20), st.booleans())
def test_no_value_adds_a_parameter_or_a_line(value: str, smtputf8: bool) -> None:
    """Whatever is in the queue: it raises, or gives one parameter without a control character."""
    for in_message in (True, False):
        try:
            if in_message:
                octets = dsn.of_message(MessageDsn(None, value))
            else:
                octets = dsn.of_recipient(RecipientDsn(None, value), b"b@b.test", smtputf8)
        except ValueError:
            continue
        assert octets.count(b" ") == 1
        assert not re.search(rb"[\x00-\x1f\x7f]", octets)
