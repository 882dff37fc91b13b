"""What MAIL and RCPT ask for in delivery reports. RFC 3461 section 4, RFC 6533 section 3."""

from __future__ import annotations

import ipaddress

import pytest

from relay.mail.address import parse_address
from relay.mail.message import MessageDsn, Notify, RecipientDsn, Ret
from relay.mail.status import Reply
from relay.policy.clients import Grant, Peer
from relay.settings import HostPort, ListenerSettings
from relay.submission import replies
from relay.submission.receive import Transaction
from relay.submission.received import Client
from relay.submission.verbs import Mail, Rcpt, parse_mail, parse_rcpt

LISTENER = ListenerSettings(name="x", listen=(HostPort(host="127.0.0.1", port=0),))
CLIENT = Client(Peer(ipaddress.ip_address("192.0.2.1"), "x"), "client.test", True, None, LISTENER, Grant("x"))
ALL = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY

MAIL: dict[str, MessageDsn | str] = {
    "": MessageDsn(),
    " RET=FULL": MessageDsn(Ret.FULL),
    " RET=HDRS": MessageDsn(Ret.HDRS),
    " ret=hdrs": MessageDsn(Ret.HDRS),
    " RET=Full ENVID=QQ314159": MessageDsn(Ret.FULL, "QQ314159"),
    " EnvId=a+2Bb+20c+3D": MessageDsn(None, "a+2Bb+20c+3D"),  # as it came
    f" ENVID={'x' * 100}": MessageDsn(None, "x" * 100),
    " RET=FULL SIZE=10 BODY=8BITMIME SMTPUTF8": MessageDsn(Ret.FULL),
    " RET": "RET takes FULL or HDRS",
    " RET=": "Syntax error in parameters",
    " RET=ALL": "RET takes FULL or HDRS",
    " RET=FULL,HDRS": "RET takes FULL or HDRS",
    " RET=FULLY": "RET takes FULL or HDRS",
    " RET=FULL RET=FULL": "RET was given twice",
    " ENVID": "ENVID takes an identifier of at most 100 characters",
    f" ENVID={'x' * 101}": "ENVID takes an identifier of at most 100 characters",
    " ENVID=a=b": "Syntax error in parameters",
    " ENVID=a+2b": "ENVID is not xtext (RFC 3461 section 4)",
    " ENVID=a+": "ENVID is not xtext (RFC 3461 section 4)",
    " ENVID=a+0D+0AX:1": "ENVID stands for characters that are not printable ASCII",
    " ENVID=\u00f6": "ENVID takes an identifier of at most 100 characters",
    " ENVID=x envid=x": "ENVID was given twice",
}


@pytest.mark.parametrize("tail", MAIL)
def test_mail(tail: str) -> None:
    expected = MAIL[tail]
    answer = parse_mail(f"FROM:<a@example.test>{tail}".encode(), True, 1000)
    if isinstance(expected, str):
        assert isinstance(answer, Reply)
        assert answer.text == f"501 5.5.4 {expected}"
    else:
        assert isinstance(answer, Mail)
        assert answer.dsn == expected


RCPT: dict[str, RecipientDsn | str] = {
    "": RecipientDsn(),
    " NOTIFY=NEVER": RecipientDsn(Notify.NEVER),
    " notify=never": RecipientDsn(Notify.NEVER),
    " NOTIFY=SUCCESS": RecipientDsn(Notify.SUCCESS),
    " NOTIFY=failure,Delay": RecipientDsn(Notify.FAILURE | Notify.DELAY),
    " NOTIFY=DELAY,SUCCESS,FAILURE": RecipientDsn(ALL),
    " ORCPT=rfc822;bob@example.test": RecipientDsn(None, "rfc822;bob@example.test"),
    " ORCPT=RFC822;bob+2Btag@example.test NOTIFY=SUCCESS": RecipientDsn(
        Notify.SUCCESS, "RFC822;bob+2Btag@example.test"
    ),
    " ORCPT=x400;/g+3Dx": RecipientDsn(None, "x400;/g+3Dx"),
    " ORCPT=rfc822;;": RecipientDsn(None, "rfc822;;"),
    r" ORCPT=utf-8;j\x{F6}rg@example.test": RecipientDsn(None, r"utf-8;j\x{F6}rg@example.test"),
    # So Postfix passes on such a recipient: no RFC has it, and its mail would bounce.
    " ORCPT=rfc822;j+C3+B6rg+2B@example.test": RecipientDsn(None, r"utf-8;j\x{F6}rg\x{2B}@example.test"),
    " ORCPT=rfc822;j+F6rg@example.test": "ORCPT stands for characters that are not printable ASCII",  # no UTF-8
    " ORCPT=rfc822;j+C2+85rg@example.test": "ORCPT stands for characters that are not printable ASCII",
    " ORCPT=x400;j+C3+B6rg": "ORCPT stands for characters that are not printable ASCII",
    f" ORCPT=rfc822;{'x' * 493}": RecipientDsn(None, f"rfc822;{'x' * 493}"),
    f" ORCPT=rfc822;{'x' * 494}": "ORCPT is longer than 500 characters",
    " NOTIFY": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=NEVER,SUCCESS": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=SUCCESS,NEVER": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=SUCCESS,": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=,SUCCESS": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=ALL": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=SUCCESS;DELAY": "NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY with commas between them",
    " NOTIFY=SUCCESS,success": "NOTIFY names something twice",
    " NOTIFY=DELAY,FAILURE,DELAY": "NOTIFY names something twice",
    " NOTIFY=DELAY NOTIFY=DELAY": "NOTIFY was given twice",
    " ORCPT": "ORCPT takes a type of address, a semicolon and an address in xtext",
    " ORCPT=bob@example.test": "ORCPT takes a type of address, a semicolon and an address in xtext",
    " ORCPT=;bob@example.test": "ORCPT takes a type of address, a semicolon and an address in xtext",
    " ORCPT=rfc822;": "ORCPT takes a type of address, a semicolon and an address in xtext",
    " ORCPT=rfc.822;bob": "ORCPT takes a type of address, a semicolon and an address in xtext",  # an atom has no dot
    " ORCPT=rfc822;a=b": "Syntax error in parameters",
    " ORCPT=rfc822;a+2bb": "ORCPT is not xtext (RFC 3461 section 4)",
    " ORCPT=rfc822;a+0AX:1": "ORCPT stands for characters that are not printable ASCII",
    " ORCPT=rfc822;j\u00f6rg@example.test": "ORCPT is not xtext (RFC 3461 section 4)",
    " ORCPT=utf-8;a+2B@example.test": "ORCPT is not an address in the form of RFC 6533 section 3",
    " ORCPT=utf-8;j\u00f6rg@example.test": "ORCPT is not ASCII and SMTPUTF8 was not given",
    " ORCPT=rfc822;a ORCPT=rfc822;a": "ORCPT was given twice",
}


@pytest.mark.parametrize("tail", RCPT)
def test_rcpt(tail: str) -> None:
    expected = RCPT[tail]
    answer = parse_rcpt(f"TO:<b@example.test>{tail}".encode(), True, False)
    if isinstance(expected, str):
        assert isinstance(answer, Reply)
        assert answer.text == f"501 5.5.4 {expected}"
        assert len(replies.wire(answer)) <= 512
    else:
        assert isinstance(answer, Rcpt)
        assert answer.dsn == expected


def test_orcpt_in_utf8_after_smtputf8_only() -> None:
    argument = "TO:<b@example.test> ORCPT=utf-8;j\u00f6rg@example.test".encode()
    answer = parse_rcpt(argument, True, True)
    assert isinstance(answer, Rcpt)
    assert answer.dsn.orcpt == "utf-8;j\u00f6rg@example.test"
    broken = parse_rcpt(b"TO:<b@example.test> ORCPT=utf-8;j\xf6rg@example.test", True, True)
    assert isinstance(broken, Reply)
    assert broken.text == "501 5.5.4 ORCPT is not valid UTF-8"


@pytest.mark.parametrize("tail", [b" RET=FULL", b" ENVID=x", b" NOTIFY=NEVER", b" ORCPT=rfc822;b@example.test"])
def test_nothing_of_it_after_helo(tail: bytes) -> None:
    for answer in (parse_mail(b"FROM:<>" + tail, False, 1000), parse_rcpt(b"TO:<b@example.test>" + tail, False, False)):
        assert isinstance(answer, Reply)
        assert answer.text.startswith("555 5.5.4 ")


def asked(*given: tuple[str, RecipientDsn]) -> tuple[RecipientDsn, ...]:
    transaction = Transaction(Mail(None, False))
    for text, dsn in given:
        address = parse_address(text.encode())
        transaction.add(Rcpt(address, dsn))
    return transaction.envelope.dsn


def test_nothing_asked_is_nothing_kept() -> None:
    nothing = RecipientDsn()
    assert asked(("a@x.test", nothing), ("b@x.test", nothing), ("a@x.test", nothing)) == ()


FIRST, SECOND = "rfc822;first@x.test", "rfc822;second@x.test"


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        (RecipientDsn(Notify.SUCCESS), RecipientDsn(Notify.DELAY), RecipientDsn(Notify.SUCCESS | Notify.DELAY)),
        (RecipientDsn(Notify.NEVER), RecipientDsn(Notify.FAILURE), RecipientDsn(Notify.FAILURE)),
        (RecipientDsn(Notify.NEVER), RecipientDsn(Notify.NEVER), RecipientDsn(Notify.NEVER)),
        (RecipientDsn(Notify.NEVER), RecipientDsn(), RecipientDsn(Notify.FAILURE | Notify.DELAY)),  # the default counts
        (RecipientDsn(), RecipientDsn(Notify.SUCCESS), RecipientDsn(ALL)),
        (RecipientDsn(None, FIRST), RecipientDsn(None, SECOND), RecipientDsn(None, FIRST)),
        (RecipientDsn(), RecipientDsn(None, SECOND), RecipientDsn(None, SECOND)),
        (RecipientDsn(Notify.DELAY, FIRST), RecipientDsn(), RecipientDsn(Notify.FAILURE | Notify.DELAY, FIRST)),
    ],
)
def test_an_address_given_twice(one: RecipientDsn, two: RecipientDsn, together: RecipientDsn) -> None:
    kept = asked(("a@x.test", one), ("b@x.test", RecipientDsn()), ("a@X.test", two))
    assert kept == (together, RecipientDsn())
