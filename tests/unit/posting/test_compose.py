"""What a program wrote on standard input becomes a message: recipients, header, line ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.posting.compose import Author, DataError, Draft, Wish, compose

NOW = datetime(2026, 3, 4, 5, 6, 7, 89, tzinfo=UTC)
AUTHOR = Author("alice", "box.example.org", "Alice Smith")
TO = Wish(None, ("to@example.org",), extract=False, dot_ends=False)
FROM_HEADER = Wish(None, (), extract=True, dot_ends=False)
WHOLE = "From: a@example.org\nDate: d\nMessage-ID: <m@x>\n"


def made(text: str | bytes, wish: Wish = TO, author: Author = AUTHOR) -> Draft:
    octets = text if isinstance(text, bytes) else text.encode()
    return compose(octets, wish, author, NOW, "unique")


def recipients(text: str, wish: Wish = FROM_HEADER) -> list[str]:
    return [address.text for address in made(text, wish).recipients]


def test_a_whole_message_stays_as_it_is() -> None:
    octets = b"From: a@example.org\r\nTo: b@example.org\r\nDate: d\r\nMessage-ID: <m@x>\r\n\r\nHi\r\n"
    for ends in (b"\r\n", b"\n"):
        draft = made(octets.replace(b"\r\n", ends))
        assert draft.octets == octets
        assert str(draft.sender) == "alice@box.example.org"


def test_text_alone_gets_a_header() -> None:
    assert made("hello\nworld").octets.decode() == (
        "From: Alice Smith <alice@box.example.org>\r\n"
        "Date: Wed, 04 Mar 2026 05:06:07 +0000\r\n"
        "Message-ID: <unique@box.example.org>\r\n"
        "\r\nhello\r\nworld\r\n"
    )


@pytest.mark.parametrize(
    ("name", "sender", "line"),
    [
        ("", None, "From: alice@box.example.org"),
        ("Alice Smith", None, "From: Alice Smith <alice@box.example.org>"),
        ("Smith, Alice", None, 'From: "Smith, Alice" <alice@box.example.org>'),
        ("Jörg", None, "From: =?utf-8?b?SsO2cmc=?= <alice@box.example.org>"),
        ("x\r\nBcc: y@z", None, 'From: "x  Bcc: y@z" <alice@box.example.org>'),
        ("", "me@example.org", "From: me@example.org"),
        ("", "", "From: alice@box.example.org"),
        ("", "jörg@example.org", "From: jörg@example.org"),
    ],
)
def test_a_missing_from(name: str, sender: str | None, line: str) -> None:
    draft = made("Subject: x\n\n", replace(TO, sender=sender), replace(AUTHOR, full_name=name))
    assert line in draft.octets.decode().split("\r\n")


@pytest.mark.parametrize(
    ("sender", "envelope"),
    [
        (None, "alice@box.example.org"),
        ("", "None"),
        ("root", "root@box.example.org"),
        ("me@example.org", "me@example.org"),
        ("Me <me@example.org>", "me@example.org"),
    ],
)
def test_the_envelope_sender(sender: str | None, envelope: str) -> None:
    assert str(made("x", replace(TO, sender=sender)).sender) == envelope


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("To: a@example.org, B <b@example.org>\nCc: c@example.org\nBcc: d@example.org", "abcd"),
        ("To: a@example.org\nTo: b@example.org", "ab"),
        ("to : a@example.org,\n b@example.org", "ab"),
        ("To: a@example.org\nBcc:\n d@example.org", "ad"),
        ("To: a@example.org\nResent-To: r@example.org\nResent-Bcc: s@example.org", "rs"),
        ("To: a@example.org, A <a@EXAMPLE.org>", "a"),
        ("X-To: x@example.org\nTo: a@example.org", "a"),
        ("To: a@example.org\n\nTo: b@example.org", "a"),
        ("Bcc: undisclosed: a@example.org, b@example.org;", "ab"),
    ],
)
def test_recipients_of_the_header(header: str, found: str) -> None:
    assert recipients(f"{header}\n\n") == [f"{letter}@example.org" for letter in found]


def test_arguments_are_added_to_them_and_come_first() -> None:
    wish = replace(FROM_HEADER, recipients=("x@example.org, y@example.org", "z@example.org"))
    assert recipients("To: a@example.org, z@example.org\n\n", wish) == [
        "x@example.org",
        "y@example.org",
        "z@example.org",
        "a@example.org",
    ]


def test_without_t_the_header_names_nobody() -> None:
    assert recipients("To: a@example.org\n\n", TO) == ["to@example.org"]


@pytest.mark.parametrize("wish", [TO, FROM_HEADER])
def test_what_is_nobody_elses_business_goes(wish: Wish) -> None:
    text = (
        WHOLE + "To: a@example.org\nBcc: b@example.org,\n\tc@example.org\nReturn-Path: <x>\nSubject: s\n\nBcc: text\n"
    )
    assert made(text, wish).octets.decode() == (WHOLE + "To: a@example.org\nSubject: s\n\nBcc: text\n").replace(
        "\n", "\r\n"
    )


def test_names_without_a_domain_get_that_of_the_machine() -> None:
    text = 'From: root (Cron Daemon)\nTo: root, A <a@example.org>,\n  "B" <bob>\nReply-To: John Doe\n\n'
    draft = made(text, replace(FROM_HEADER, sender="root"))
    assert draft.octets.decode().startswith(
        "From: root@box.example.org (Cron Daemon)\r\n"
        'To: root@box.example.org, A <a@example.org>,\r\n  "B" <bob@box.example.org>\r\n'
        "Reply-To: John Doe\r\n"
    )
    assert [str(one) for one in draft.recipients] == ["root@box.example.org", "a@example.org", "bob@box.example.org"]


@pytest.mark.parametrize(
    ("octets", "body"),
    [
        (b"a\nb\r\nc\r\r\nd", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"10%\r20%\rdone\n", b"10%\r\n20%\r\ndone\r\n"),
        (b"a\n\n", b"a\r\n\r\n"),
        (b"", b""),
        (b"a\n.\nb\n", b"a\r\n.\r\nb\r\n"),
    ],
)
def test_line_ends(octets: bytes, body: bytes) -> None:
    assert made(WHOLE.encode() + b"\n" + octets).octets.partition(b"\r\n\r\n")[2] == body


def test_a_dot_ends_the_message_where_it_was_not_told_otherwise() -> None:
    text = WHOLE + "\na\n..\n.\nb\n"
    assert made(text, replace(TO, dot_ends=True)).octets.endswith(b"\r\n\r\na\r\n..\r\n")


def test_a_bare_cr_makes_no_field() -> None:
    draft = made(WHOLE + "To: a@example.org\nSubject: x\rBcc: evil@example.org\n\n", FROM_HEADER)
    assert [str(one) for one in draft.recipients] == ["a@example.org"]
    assert b"Subject: x Bcc: evil@example.org\r\n" in draft.octets


def test_the_lines_of_a_mailbox_file_go() -> None:
    for first in ("From alice Wed Mar  4 05:06:07 2026\n", ">From x\n>From y\n"):
        assert made(first + WHOLE + "\nFrom here\n").octets == (WHOLE + "\nFrom here\n").replace("\n", "\r\n").encode()


def test_what_is_sent_again_gets_its_own_fields() -> None:
    text = made(WHOLE + "Resent-To: r@example.org\n\n", FROM_HEADER).octets.decode()
    assert "Resent-From: Alice Smith <alice@box.example.org>\r\nResent-Date: Wed" in text
    assert "Resent-Message-ID: <uniquer@box.example.org>\r\n" in text


@pytest.mark.parametrize(
    ("header", "to", "needs"),
    [
        ("Subject: x", "to@example.org", False),
        ("Subject: ö", "to@example.org", True),
        ("Subject: x", "tö@example.org", True),
        ("Subject: x", "to@exämple.org", False),
    ],
)
def test_smtputf8_only_where_it_is_needed(header: str, to: str, needs: bool) -> None:
    assert made(f"{header}\n\nbödy", replace(TO, recipients=(to,))).needs_smtputf8 is needs


def test_a_header_of_another_encoding_is_passed_on() -> None:
    draft = made(b"Subject: \xf6\n\n")
    assert b"Subject: \xf6\r\n" in draft.octets
    assert not draft.needs_smtputf8


@pytest.mark.parametrize(
    ("text", "wish", "problem"),
    [
        ("x", FROM_HEADER, "no recipients: give them as arguments, or in the header with -t"),
        ("To: John Doe\n\n", FROM_HEADER, "'John Doe': the local part 'John Doe' is neither"),
        ("x", replace(TO, recipients=("a@b@c",)), "'a@b@c': the local part 'a@b' is neither"),
        ("x", replace(TO, recipients=("",)), "an address is empty"),
        ("x", replace(TO, sender="a@-x!"), "sender 'a@-x!': '-x!' is not a domain name"),
        ("x", replace(TO, recipients=("\udcff@x",)), "the address is not valid UTF-8"),
    ],
)
def test_what_cannot_be_sent(text: str, wish: Wish, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        made(text, wish)
    assert problem in str(caught.value)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_whatever_comes_the_lines_are_lines(octets: bytes, extract: bool, dot_ends: bool) -> None:
    try:
        draft = made(octets, Wish(None, ("to@example.org",), extract, dot_ends))
    except DataError:
        return
    assert draft.octets.count(b"\r") == draft.octets.count(b"\n") == draft.octets.count(b"\r\n")
    assert b"\r\n\r\n" in draft.octets
