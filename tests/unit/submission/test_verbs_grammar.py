"""The arguments of MAIL and RCPT: what is taken, and the code of what is not. No form of address is understood."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import Address
from relay.mail.status import Reply
from relay.submission.verbs import MAIL_PARAMETERS, Mail, Rcpt, Value, parse_mail, parse_parameters, parse_rcpt

MAX_SIZE = 1000

# Octets -> local part, domain
PATHS: dict[bytes, tuple[str, str]] = {
    b"<a@example.test>": ("a", "example.test"),
    b" \t<a@example.test>": ("a", "example.test"),
    b"<A.b@EXAMPLE.Test>": ("A.b", "example.test"),
    b"<a+b=c%d!e/f@example.test>": ("a+b=c%d!e/f", "example.test"),
    b"<relay!a@example.test>": ("relay!a", "example.test"),
    b'<"a b"@example.test>': ('"a b"', "example.test"),
    b'<"a>b<c"@example.test>': ('"a>b<c"', "example.test"),
    b'<"a\\"> SIZE=9999 \\"b"@example.test>': ('"a\\"> SIZE=9999 \\"b"', "example.test"),
    b'<"a@b"@example.test>': ('"a@b"', "example.test"),
    b'<""@example.test>': ('""', "example.test"),
    b"<a@[192.0.2.1]>": ("a", "[192.0.2.1]"),
    b"<a@[ipv6:2001:DB8:0::1]>": ("a", "[IPv6:2001:db8::1]"),
    b"<a@xn--exmple-cua.test>": ("a", "xn--exmple-cua.test"),
    b"<a@a_b.example.test>": ("a", "a_b.example.test"),
    b"<=?utf-8?q?a?=@example.test>": ("=?utf-8?q?a?=", "example.test"),
    b"<-@example.test>": ("-", "example.test"),
    b"<" + b"x" * 64 + b"@example.test>": ("x" * 64, "example.test"),
}

NO_PATHS = [
    b"",
    b" ",
    b"a@example.test",
    b"<a@example.test",
    b"a@example.test>",
    b"<<a@example.test>>",
    b"<a@example.test>>",
    b"<a@example.test><b@example.test>",
    b"<a@example.test>X",
    b"<a@example.test>;",
    b"< a@example.test>",
    b"<a@example.test >",
    b"<a b@example.test>",
    b'<"a@example.test>',
    b'<a"@example.test>',
    b'<"a\\"@example.test>',
    b"Name <a@example.test>",
    b'"Name" <a@example.test>',
    b"\x0b<a@example.test>",
    b"<a@example.test>\n",
    b"<a@example.test>\x0bSIZE=1",
]

# Paths of the right form with an address that is none.
NO_ADDRESSES = [
    b"<a>",
    b"<a@>",
    b"<@example.test>",
    b"<@>",
    b"<a@b@example.test>",
    b"<@relay.test:a@example.test>",
    b"<@relay.test,@other.test:a@example.test>",
    b"<a@example..test>",
    b"<a@.example.test>",
    b"<a@example.test.>",
    b"<.a@example.test>",
    b"<a.@example.test>",
    b"<a..b@example.test>",
    b"<a@-example.test>",
    b"<a@exa mple.test>".replace(b" ", b"\x01"),
    b"<a@example.test\0.evil.test>",
    b"<a\r\nRCPT@example.test>",
    b"<a(comment)@example.test>",
    b"<a@(comment)example.test>",
    b"<a,b@example.test>",
    b"<a:b@example.test>",
    b"<a;b@example.test>",
    b"<a@[192.0.2.256]>",
    b"<a@[192.0.2.1>",
    b"<a@192.0.2.1]>",
    b"<a@[2001:db8::1]>",
    b"<a@[IPv6:192.0.2.1]>",
    b"<a@[IPv6:fe80::1%eth0]>",
    b"<a@[x400:tag]>",
    b"<a@[]>",
    b'<"a"b@example.test>',
    b'<"a\x01"@example.test>',
    b"<" + b"x" * 65 + b"@example.test>",
    b"<a@" + b"x" * 64 + b".test>",
    b"<a@" + b".".join([b"d" * 60] * 5) + b">",
]
NOT_ASCII = [b"<\xc3\xa4@example.test>", b"<a@ex\xc3\xa4mple.test>", b"<\xff@example.test>", b"<a@\xe2\x80\xae.test>"]


def code(answer: Mail | Rcpt | Reply | dict[bytes, bytes | None]) -> str:
    """Code and enhanced code of a refusal."""
    assert isinstance(answer, Reply), answer
    return f"{answer.code} {answer.status}"


@pytest.mark.parametrize("path", PATHS)
def test_good_paths(path: bytes) -> None:
    expected = Address(*PATHS[path], path.strip(b" \t")[1:-1].decode())
    assert parse_mail(b"FROM:" + path, True, MAX_SIZE) == Mail(expected, False)
    assert parse_mail(b"from:" + path, False, MAX_SIZE) == Mail(expected, False)
    assert parse_mail(b"From:" + path + b" SIZE=7 \t SMTPUTF8", True, MAX_SIZE) == Mail(expected, True)
    assert parse_rcpt(b"TO:" + path, True, False) == Rcpt(expected)
    assert parse_rcpt(b"to:" + path, False, False) == Rcpt(expected)


@pytest.mark.parametrize("path", NO_PATHS)
def test_no_paths(path: bytes) -> None:
    assert code(parse_mail(b"FROM:" + path, True, MAX_SIZE)) == "501 5.5.4"
    assert code(parse_rcpt(b"TO:" + path, True, True)) == "501 5.5.4"


@pytest.mark.parametrize("path", NO_ADDRESSES)
def test_no_addresses(path: bytes) -> None:
    assert code(parse_mail(b"FROM:" + path, True, MAX_SIZE)) == "553 5.1.7"
    assert code(parse_rcpt(b"TO:" + path, True, True)) == "553 5.1.3"


@pytest.mark.parametrize("path", NOT_ASCII)
def test_addresses_that_need_smtputf8(path: bytes) -> None:
    assert code(parse_mail(b"FROM:" + path, True, MAX_SIZE)) == "553 5.6.7"
    assert code(parse_rcpt(b"TO:" + path, True, False)) == "553 5.6.7"


def test_addresses_with_smtputf8() -> None:
    mail = parse_mail("FROM:<ä@exämple.test> SMTPUTF8".encode(), True, MAX_SIZE)
    assert mail == Mail(Address("ä", "xn--exmple-cua.test", "ä@exämple.test"), True)
    assert parse_rcpt("TO:<ö@exämple.test>".encode(), True, True) == Rcpt(
        Address("ö", "xn--exmple-cua.test", "ö@exämple.test")
    )
    for path in (b"<\xff@example.test>", b"<a@\xe2\x80\xae.test>", b"<a@\xc3\xa4\xc2\xad..test>", b"<a@\xed\xa0\x80>"):
        assert code(parse_mail(b"FROM:" + path + b" SMTPUTF8", True, MAX_SIZE)) == "553 5.1.7"
        assert code(parse_rcpt(b"TO:" + path, True, True)) == "553 5.1.3"


@pytest.mark.parametrize(
    "argument", [b"", b"FROM", b"FROM <a@b.test>", b"FROM :<a@b.test>", b"TO:<a@b.test>", b"FRO:<>"]
)
def test_no_mail_keyword(argument: bytes) -> None:
    assert code(parse_mail(argument, True, MAX_SIZE)) == "501 5.5.4"


@pytest.mark.parametrize("argument", [b"", b"TO", b"TO <a@b.test>", b"TO :<a@b.test>", b"FROM:<a@b.test>", b"T:<>"])
def test_no_rcpt_keyword(argument: bytes) -> None:
    assert code(parse_rcpt(argument, True, False)) == "501 5.5.4"


def test_null_sender_and_null_recipient() -> None:
    assert parse_mail(b"FROM:<>", True, MAX_SIZE) == Mail(None, False)
    assert parse_mail(b"FROM:<> SMTPUTF8", True, MAX_SIZE) == Mail(None, True)
    assert code(parse_rcpt(b"TO:<>", True, False)) == "501 5.1.3"


@pytest.mark.parametrize("name", [b"postmaster", b"Postmaster", b"POSTMASTER"])
def test_postmaster_without_a_domain(name: bytes) -> None:
    assert code(parse_mail(b"FROM:<" + name + b">", True, MAX_SIZE)) == "553 5.1.7"
    assert code(parse_rcpt(b"TO:<" + name + b">", True, False)) == "550 5.1.1"


# What follows the path -> code of the refusal, None when it is taken
MAIL_TAILS = {
    b"": None,
    b" ": None,
    b" SIZE=0": None,
    b" SIZE=1000": None,
    b" SIZE=00000000000000001000": None,
    b" SIZE=1001": "552 5.3.4",
    b" SIZE=99999999999999999999": "552 5.3.4",
    b" SIZE=1001 SIZE=1": "501 5.5.4",
    b" SIZE=1001 X=FULL": "555 5.5.4",
    b" SIZE=-1": "501 5.5.4",
    b" SIZE=+1": "501 5.5.4",
    b" SIZE=1_0": "501 5.5.4",
    b" SIZE=0x10": "501 5.5.4",
    b" SIZE=\xd9\xa1": "501 5.5.4",  # a digit, but an Arabic one
    b"\tBODY=8BITMIME": None,
    b" body=7bit": None,
    b" BODY=8BITMIMEX": "501 5.5.4",
    b" BODY=BINARYMIME": "501 5.5.4",
    b" BODY=7BIT BODY=7BIT": "501 5.5.4",
    b" SMTPUTF8 smtputf8": "501 5.5.4",
    b" SMTPUTF8=": "501 5.5.4",
    b" AUTH=<>": None,
    b" AUTH=a+3Db": None,
    b" AUTH=a=b": "501 5.5.4",
    b" AUTH=\xc3\xa4": "501 5.5.4",
    b" X": "555 5.5.4",
    b" X=1": "555 5.5.4",
    b" MT-PRIORITY=3": None,
    b" MT-PRIORITIES=3": "555 5.5.4",
    b" -X": "501 5.5.4",
    b" =": "501 5.5.4",
    b" X=": "501 5.5.4",
    b" <b@example.test>": "501 5.5.4",
    b" S\xc4\xb1ZE=1": "501 5.5.4",  # dotless i: nothing upper-cases it to SIZE
}


@pytest.mark.parametrize("tail", MAIL_TAILS)
def test_mail_parameters(tail: bytes) -> None:
    answer = parse_mail(b"FROM:<a@example.test>" + tail, True, MAX_SIZE)
    if MAIL_TAILS[tail] is None:
        assert isinstance(answer, Mail)
    else:
        assert code(answer) == MAIL_TAILS[tail]


RCPT_TAILS = {
    b" ": None,
    b" X": "555 5.5.4",
    b" SIZE=1": "555 5.5.4",
    b" =": "501 5.5.4",
}


@pytest.mark.parametrize("tail", RCPT_TAILS)
def test_rcpt_parameters(tail: bytes) -> None:
    answer = parse_rcpt(b"TO:<a@example.test>" + tail, True, False)
    if RCPT_TAILS[tail] is None:
        assert isinstance(answer, Rcpt)
    else:
        assert code(answer) == RCPT_TAILS[tail]


@pytest.mark.parametrize("tail", [b" SIZE=1", b" BODY=7BIT", b" SMTPUTF8", b" AUTH=<>", b" X"])
def test_no_parameters_after_helo(tail: bytes) -> None:
    assert code(parse_mail(b"FROM:<a@example.test>" + tail, False, MAX_SIZE)) == "555 5.5.4"
    assert code(parse_rcpt(b"TO:<a@example.test>" + tail, False, False)) == "555 5.5.4"


KNOWN = {b"WORD": Value(None, "no value"), b"NUMBER": Value(re.compile(rb"[0-9]+"), "a number")}
PARAMETERS: dict[bytes, dict[bytes, bytes | None] | str] = {
    b"": {},
    b"  ": {},
    b"WORD": {b"WORD": None},
    b" word  Number=12 ": {b"WORD": None, b"NUMBER": b"12"},
    b"WORD=x": "501 5.5.4",
    b"NUMBER": "501 5.5.4",
    b"NUMBER=x": "501 5.5.4",
    b"NUMBER=1x": "501 5.5.4",
    b"WORD word": "501 5.5.4",
    b"OTHER": "555 5.5.4",
    b"WORD OTHER=1": "555 5.5.4",
    b"WORD=": "501 5.5.4",
    b"WO_RD": "501 5.5.4",
}


@pytest.mark.parametrize("octets", PARAMETERS)
def test_parse_parameters(octets: bytes) -> None:
    expected = PARAMETERS[octets]
    answer = parse_parameters(octets, KNOWN)
    assert (code(answer) if isinstance(expected, str) else answer) == expected


def test_an_empty_table_knows_nothing() -> None:
    assert parse_parameters(b"", {}) == {}
    assert code(parse_parameters(b"SIZE=1", {})) == "555 5.5.4"


WORDS = 'FROM: TO: < > @ " \\ a . test [ ] IPv6: ::1 xn-- ä \u200d ا = SIZE=1 SMTPUTF8 -'.encode().split()
BITS = st.lists(st.sampled_from([*WORDS, b" ", b"\t", b"\xff", b"\0", b"\r\n"]), max_size=14).map(b"".join)


@given(st.binary(max_size=60) | BITS, st.booleans(), st.booleans())
@example(b"<a@xn--\xc3\xa4>", True, True)
@example(b"<a@xn--a>", True, True)
def test_a_value_or_a_reply(argument: bytes, extended: bool, smtputf8: bool) -> None:
    for octets in (argument, b"FROM:" + argument, b"FROM:<a@" + argument + b"> SMTPUTF8"):
        mail = parse_mail(octets, extended, MAX_SIZE)
        assert isinstance(mail, Mail | Reply)
        if isinstance(mail, Mail) and mail.sender is not None:
            assert mail.sender.text.encode() in octets
            assert mail.smtputf8 or mail.sender.text.isascii()
    for octets in (argument, b"TO:" + argument, b"TO:<a@" + argument + b">"):
        rcpt = parse_rcpt(octets, extended, smtputf8)
        assert isinstance(rcpt, Rcpt | Reply)
        if isinstance(rcpt, Rcpt):
            recipient = rcpt.recipient
            assert recipient.text.encode() in octets
            assert recipient.domain
            assert smtputf8 or recipient.text.isascii()
            # Nothing an address can say becomes a second line, or leaves the brackets unquoted, where we send it on.
            assert not re.search(rb"[\x00-\x1f\x7f]", recipient.wire)
    given_parameters = parse_parameters(argument, MAIL_PARAMETERS)
    assert isinstance(given_parameters, dict | Reply)
    if isinstance(given_parameters, dict):
        assert set(given_parameters) <= set(MAIL_PARAMETERS)
