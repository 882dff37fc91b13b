"""Addresses in From fields: what is read is what readers of mail see, and what they might see otherwise is refused."""

from __future__ import annotations

import contextlib
import time
from email.headerregistry import AddressHeader
from email.policy import default

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.mail.address import AddressError
from relay.mail.mailboxes import MAX_MAILBOXES, MAX_OCTETS, parse_mailboxes

# Value -> addresses, names
GOOD: dict[str, tuple[list[str], list[str]]] = {
    "a@b.test": (["a@b.test"], []),
    " \t a@b.test \t ": (["a@b.test"], []),
    "<a@b.test>": (["a@b.test"], []),
    "< a@b.test >": (["a@b.test"], []),
    "Alice <a@b.test>": (["a@b.test"], ["Alice"]),
    "Alice B. C-D <a@b.test>": (["a@b.test"], ["Alice B. C-D"]),
    '"B, Alice" <a@b.test>': (["a@b.test"], ["B, Alice"]),
    r'"a \"quoted\" \\ one" <a@b.test>': (["a@b.test"], [r'a "quoted" \ one']),
    '"" <a@b.test>': (["a@b.test"], []),
    "Jürgen <jü@exämple.test>": (["jü@exämple.test"], ["Jürgen"]),
    "a@b.test (Alice)": (["a@b.test"], ["Alice"]),
    "(x (y) z) Alice (w) <a@b.test> (v)": (["a@b.test"], ["x (y) z", "w", "v", "Alice"]),
    r"(a \) b) a@b.test": (["a@b.test"], ["a ) b"]),
    "a@b.test,c@d.test , E <e@f.test>": (["a@b.test", "c@d.test", "e@f.test"], ["E"]),
    "Alice\r\n <a@b.test>,\r\n\tc@d.test": (["a@b.test", "c@d.test"], ["Alice"]),
    "Team: a@b.test, C <c@d.test>;": (["a@b.test", "c@d.test"], ["Team", "C"]),
    "Team:;": ([], ["Team"]),
    "Team: ; , a@b.test": (["a@b.test"], ["Team"]),
    '"a b"@c.test': (['"a b"@c.test'], []),
    r'"a\"@x.test> b"@c.test': ([r'"a\"@x.test> b"@c.test'], []),
    "a@[192.0.2.1]": (["a@[192.0.2.1]"], []),
    "a+b=c/d@e.test": (["a+b=c/d@e.test"], []),
    "=?utf-8?q?J=C3=BCrgen?= <a@b.test>": (["a@b.test"], ["=?utf-8?q?J=C3=BCrgen?="]),
}


@pytest.mark.parametrize("value", GOOD)
def test_good(value: str) -> None:
    found = parse_mailboxes(value.encode())
    assert ([address.text for address in found.addresses], list(found.names)) == GOOD[value]


BAD = {
    "": "without an address",
    "  ": "without an address",
    "Alice": "without an address",
    "root": "without an address",
    ". <a@b.test>": "begins with a dot",
    ".a@b.test": "begins with a dot",
    "<>": "without an address",
    "Alice <>": "without an address",
    "Alice <root>": "without an address",
    "a@": "is not a domain name",
    "@b.test": "source route",
    "a@b..test": "is not a domain name",
    "a@b.test.": "is not a domain name",
    "a..b@c.test": "neither a dot-string",
    "a@b@c.test": "neither a dot-string",
    "a@b.test c@d.test": "no , where",
    "a@b.test <c@d.test>": "no , where",
    "Alice <a@b.test> <c@d.test>": "no , where",
    "Alice <a@b.test> c@d.test": "no , where",
    "<a@b.test": "no > where",
    "a@b.test>": "no , where",
    "<<a@b.test>>": "without an address",
    "<a@b.test, c@d.test>": "no > where",
    "Alice, Bob <a@b.test>": "without an address",
    "a@b.test,": "without an address",
    ",a@b.test": "without an address",
    "a@b.test,,c@d.test": "without an address",
    "a@b.test; c@d.test": "no , where",
    "<@x.test:a@b.test>": "source route",
    "<@x.test,@y.test:a@b.test>": "source route",
    "a (x) @b.test": "without an address",
    "a @b.test": "without an address",
    "a@ b.test": "is not a domain name",
    "a@(x)b.test": "is not a domain name",
    "a. b@c.test": "without an address",
    'a."b"@c.test': "neither a dot-string",
    '"a"b@c.test': "neither a dot-string",
    '"a" "b"@c.test': "without an address",
    '"a <a@b.test>': "cannot stand there",
    "(a a@b.test": "a comment does not end",
    "a) a@b.test": "cannot stand there",
    "[x] <a@b.test>": "without an address",
    r"a\@evil.test@b.test": "cannot stand there",
    "Team: Sub: a@b.test;;": "without an address",
    "Team: a@b.test": "no , where",
    "Team: a@b.test,;": "empty member",
    ": a@b.test;": "without an address",
    "a@b.test\0": "control character",
    "a@b.test\r": "control character",
    "a\x0b@b.test": "control character",
    "a@b.test\x85": "control character",
    "a@b.test\u2028": "control character",
    "x\u202ey <a@b.test>": "turns text round",
    "=?utf-8?q?evil=40evil.test?=": "without an address",
    # https://www.mailsploit.com: the local part shows as somebody else, and the rest behind a NUL or a line end
    "=?utf-8?b?cG90dXNAd2hpdGVob3VzZS5nb3YA?=@b.test": "encoded word",
    '"=?utf-8?q?evil=40evil.test=00?="@b.test': "encoded word",
    "<=?utf-8?q?evil=40evil.test=0A=00?=@b.test>": "encoded word",
    ", ".join(["a@b.test"] * (MAX_MAILBOXES + 1)): "more than 100",
    "x" * MAX_OCTETS + "@b.test": "longer than 32 KiB",
}


@pytest.mark.parametrize("value", BAD, ids=lambda value: value[:40])
def test_bad(value: str) -> None:
    with pytest.raises(AddressError, match=BAD[value]):
        parse_mailboxes(value.encode())


def test_what_is_no_utf8_is_bad() -> None:
    with pytest.raises(AddressError, match="not valid UTF-8"):
        parse_mailboxes(b"J\xfcrgen <a@b.test>")


# Names of <a@b.test> -> the addresses that a reader sees in them
IN_NAMES: dict[str, list[str]] = {
    "Alice": [],
    '"evil@evil.test"': ["evil@evil.test"],
    "\"'evil@evil.test'\"": ["evil@evil.test"],
    '"CEO (evil@evil.test), and x@y.test."': ["evil@evil.test", "x@y.test"],
    "(evil@evil.test)": ["evil@evil.test"],
    '"evil@evil.test <"': ["evil@evil.test"],
    '"@evil.test"': ["@evil.test"],
    '"a@b@evil.test"': ["a@b@evil.test"],
    '"Tom @ home"': [],
    '"Tom @ Home Inc. of Rome"': [],
    '"evil@ evil.test"': ["evil@evil.test"],
    '"evil @\tevil.test"': ["evil@evil.test"],
    '"evil@evil .test"': ["evil@evil.test"],
    '"evil@" evil.test': ["evil@evil.test"],
    '"evil@evil" .test': ["evil@evil.test"],
    '"tom@home"': [],
    "=?utf-8?q?evil=40evil.test?=": ["evil@evil.test"],
    "=?UTF-8?B?ZXZpbEBldmlsLnRlc3Q=?=": ["evil@evil.test"],
    "=?UTF-8?B?ZXZpbEBldmlsLnRlc3Q?=": ["evil@evil.test"],  # readers do not miss the padding
    "=?utf-8*en?q?evil=40evil.test?=": ["evil@evil.test"],
    "=?utf-8?q?evil?= =?utf-8?q?=40evil.test?=": ["evil@evil.test"],
    "=?utf-8?q?evil?=\r\n =?utf-8?q?=40evil.test?=": ["evil@evil.test"],
    '"=?utf-8?q?evil=40evil.test?="': ["evil@evil.test"],  # in quotes it means itself, but many decode it
    '"=?utf-8?q?evil=40 evil.test?= evil@=?utf-8?q?evil.test?="': ["evil@evil.test", "evil@evil.test"],
    "(=?utf-8?q?evil=40evil.test?=)": ["evil@evil.test"],
    "=?utf-8?q?evil=40evil.test=3E=2C?=": ["evil@evil.test"],
    "=?utf-7?q?evil+AEA-evil.test?=": ["evil@evil.test"],
    "evil＠evil．test": ["evil@evil.test"],
    '"evil@evil。test"': ["evil@evil.test"],
    '"evil@\u200aevil.test"': ["evil@evil.test"],
    '"evil@\u200bevil.test"': ["evil@\u200bevil.test"],
    "=?utf-8?q?J=C3=BCrgen_M=2E?=": [],
    "=?iso-8859-1?q?J=FCrgen?=": [],
    "=?gb2312?b?1cXI/Q==?=": [],
    '"a =? b"': [],
    "=?utf-8?b?=?=": [],
}


@pytest.mark.parametrize("name", IN_NAMES)
def test_addresses_in_names(name: str) -> None:
    found = parse_mailboxes(f"{name} <a@b.test>".encode())
    assert [address.text for address in found.addresses] == ["a@b.test"]
    assert list(found.addresses_in_names()) == IN_NAMES[name]


HIDING = [
    "=?utf-8?q?evil=00?=",
    "=?utf-8?q?evil=0A?=",
    "=?utf-8?q?x=E2=80=AEy?=",  # turns the direction of what follows
    "=?x-unknown?q?evil?=",
    "=?idna?q?xn--a?=",
    "=?unicode_escape?q?evil?=",
    "=?utf-8?q?=FF?=",
    "=?utf-8?b?A?=",
]


@pytest.mark.parametrize("name", HIDING)
def test_names_that_hide_something(name: str) -> None:
    found = parse_mailboxes(f"{name} <a@b.test>".encode())
    with pytest.raises(AddressError):
        list(found.addresses_in_names())


BITS = [
    "a",
    "b@c.test",
    "evil@x.test",
    "Al Ice",
    "ü",
    '"q"',
    "<b@c.test>",
    "=?utf-8?q?x?=",
    "=?utf-8?q?evil=40x.test?=",
]
SPECIALS = st.lists(st.sampled_from([*BITS, *'@<>,:;."\\()[] \t', "\r\n "]), max_size=12).map("".join)


@given(SPECIALS)
@example("a@evil.test (b@good.test)")
@example('"a@good.test" <b@evil.test>')
@example("(<b@c.test>)evil@x.test")
@example('"<b@c.test>," <evil@x.test>')
@example('a:b@c.test,"x" <evil@x.test>;')
def test_python_sees_the_same_addresses(value: str) -> None:
    """What it makes of what we refuse is no matter."""
    try:
        found = [address.text for address in parse_mailboxes(value.encode()).addresses]
    except AddressError:
        return
    try:
        parsed = default.header_factory("From", value.replace("\r\n", ""))
    except AttributeError:
        return  # it falls over a group without members
    assert isinstance(parsed, AddressHeader)
    shown = [
        f"{one.username}@{one.domain}".replace('"', "").replace("\\", "") for one in parsed.addresses if one.domain
    ]
    assert shown == [one.replace('"', "").replace("\\", "") for one in found]


@given(st.text(max_size=80) | SPECIALS)
def test_nothing_but_address_errors(value: str) -> None:
    with contextlib.suppress(AddressError):
        list(parse_mailboxes(value.encode("utf-8", "surrogatepass")).addresses_in_names())


LONG = 30_000


@pytest.mark.parametrize(
    "value",
    [
        "(" * LONG,
        "(" * (LONG // 2) + ")" * (LONG // 2) + "a@b.test",
        '"' + "\\" * LONG,
        '"' + "a" * LONG + '" <a@b.test>',
        "a" * LONG + " <a@b.test>",
        "a " * (LONG // 2) + "<a@b.test>",
        "=?" * (LONG // 2) + "<a@b.test>",
        "=?utf-8?q?" * (LONG // 10) + "<a@b.test>",
        "=?utf-8?q?x?= " * (LONG // 14) + "<a@b.test>",
        "=?utf-8*" + "*" * LONG + " <a@b.test>",
        '"' + "a@" * (LONG // 2) + '" <a@b.test>',
        '"' + "a@b.test " * (LONG // 9) + '" <a@b.test>',
        "<" * LONG,
        "a:" * (LONG // 2),
        "a@b.test," * (LONG // 9),
        "a." * (LONG // 2) + "@b.test",
    ],
    ids=lambda value: value[:12],
)
def test_no_value_takes_long(value: str) -> None:
    start = time.process_time()
    try:
        for _ in parse_mailboxes(value.encode()).addresses_in_names():
            pass
    except AddressError:
        pass
    assert time.process_time() - start < 1
