"""A message from its parts: what a reader takes out again is what went in, and nothing breaks out of its place."""

from __future__ import annotations

import email
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import AddressError
from relay.mail.letter import Attachment, Letter, LetterError, Mailbox, read_mailbox, write

NOW = datetime(2026, 3, 4, 5, 6, 7, 8, tzinfo=UTC)
ME = read_mailbox("me@example.org")
PLAIN = Letter(ME, NOW, "1@example.org", subject="Hi", text="hello\n")
PNG = Attachment("a.png", "image/png", b"\x89PNG\r\n\x1a\n\0", "pic")
PDF = Attachment("Rechnung für März.pdf", "application/pdf", b"%PDF\0" * 40)


def read(letter: Letter) -> EmailMessage:
    octets = write(letter)
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert octets.partition(b"\r\n\r\n")[2].isascii()
    message = email.message_from_bytes(octets, policy=SMTP)
    assert isinstance(message, EmailMessage)
    return message


def shape(message: Any) -> Any:
    kind = message.get_content_type()
    return (kind, [shape(part) for part in message.iter_parts()]) if message.is_multipart() else kind


def test_a_plain_letter() -> None:
    assert write(replace(PLAIN, to=(read_mailbox("A B <a@example.org>"), read_mailbox("b@example.org")))) == (
        b"From: me@example.org\r\n"
        b"To: A B <a@example.org>,\r\n b@example.org\r\n"
        b"Subject: Hi\r\n"
        b"Date: Wed, 04 Mar 2026 05:06:07 +0000\r\n"
        b"Message-ID: <1@example.org>\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"MIME-Version: 1.0\r\n\r\nhello\r\n"
    )


@pytest.mark.parametrize(
    ("letter", "wanted"),
    [
        (PLAIN, "text/plain"),
        (replace(PLAIN, text=None), "text/plain"),
        (replace(PLAIN, text=None, html="<p>x"), "text/html"),
        (replace(PLAIN, html="<p>x"), ("multipart/alternative", ["text/plain", "text/html"])),
        (replace(PLAIN, attachments=(PDF,)), ("multipart/mixed", ["text/plain", "application/pdf"])),
        (replace(PLAIN, attachments=(PNG,)), ("multipart/mixed", ["text/plain", "image/png"])),
        (
            replace(PLAIN, text=None, html="<img src='cid:pic'>", attachments=(PNG,)),
            ("multipart/related", ["text/html", "image/png"]),
        ),
        (
            replace(PLAIN, html="<img src='cid:pic'>", attachments=(PNG, PDF)),
            (
                "multipart/mixed",
                [
                    ("multipart/alternative", ["text/plain", ("multipart/related", ["text/html", "image/png"])]),
                    "application/pdf",
                ],
            ),
        ),
    ],
)
def test_its_shape(letter: Letter, wanted: Any) -> None:
    assert shape(read(letter)) == wanted


def test_what_went_in_comes_out() -> None:
    text = "grüße\r\nan\ralle\n\n" + "x" * 3000 + "\n.\nFrom here\n"
    letter = replace(PLAIN, text=text, html="<p>ü", subject="Grüße " * 30, attachments=(PNG, PDF))
    message = read(letter)
    assert message["Subject"] == "Grüße " * 30
    body = message.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == text.replace("\r\n", "\n").replace("\r", "\n")
    (pdf,) = message.iter_attachments()
    assert (pdf.get_filename(), pdf.get_content()) == (PDF.name, PDF.octets)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("a@example.org", "", "a@example.org"),
        (" <a@example.org> ", "", "a@example.org"),
        ("A B <a@example.org>", "A B", "a@example.org"),
        ('"B, A" <a@example.org>', "B, A", "a@example.org"),
        ("B, A <a@example.org>", "B, A", "a@example.org"),
        ("Jörg <jörg@exämple.org>", "Jörg", "jörg@exämple.org"),
    ],
)
def test_a_mailbox(text: str, name: str, address: str) -> None:
    found = read_mailbox(text)
    assert (found.name, found.address.text) == (name, address)
    message = read(replace(PLAIN, to=(found,)))
    if found.address.local.isascii():
        (there,) = message["To"].addresses
        assert (there.display_name, there.domain) == (name, found.address.domain)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "postmaster", "a@b, c@d", "A <a@b> c", "a@b\r\nBcc: c@d", "<a@b><c@d>", "A\n<a@b>", "a b@c", "A <>"),
        pytest.param("a" + " " * 1_000_000 + "<", id="in no time"),
    ],
)
def test_what_is_no_mailbox(text: str) -> None:
    with pytest.raises(AddressError):
        read_mailbox(text)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"author": Mailbox("x\r\nBcc: a@b", ME.address)}, "from"),
        ({"subject": "x\r\nBcc: a@b"}, "subject"),
        ({"subject": "x\u2028y"}, "subject"),
        ({"subject": "x" * 32769}, "subject"),
        ({"headers": (("X-A", "x" * 32769),)}, "headers.X-A"),
        ({"headers": (("X-A", "x\nBcc: y"),)}, "headers.X-A"),
        ({"headers": (("X A", "x"),)}, "headers"),
        ({"headers": (("X:A", "x"),)}, "headers"),
        ({"headers": (("bcc", "x"),)}, "headers.bcc"),
        ({"headers": (("FROM", "x"),)}, "headers.FROM"),
        ({"headers": (("Content-Type", "x"),)}, "headers.Content-Type"),
        ({"text": "a\0b"}, "text"),
        ({"html": "\ud800"}, "html"),
        ({"attachments": (replace(PDF, name="a\r\nb"),)}, "attachments"),
        ({"attachments": (replace(PDF, name=""),)}, "attachments"),
        ({"attachments": (replace(PDF, type="pdf"),)}, "attachments"),
        ({"attachments": (replace(PDF, type="text/x\r\nX: y"),)}, "attachments"),
        ({"attachments": (replace(PDF, type="message/rfc822"),)}, "attachments"),
        ({"html": "x", "attachments": (replace(PNG, cid="a>b"),)}, "attachments"),
    ],
)
def test_nothing_breaks_out_of_its_place(change: dict[str, Any], part: str) -> None:
    with pytest.raises(LetterError) as caught:
        write(replace(PLAIN, **change))
    assert caught.value.part == part


def test_fields_of_the_author_stay_whole() -> None:
    link = f"<https://example.org/{'u' * 300}>"
    message = read(replace(PLAIN, headers=(("List-Unsubscribe", link), ("Date", "d"), ("Message-ID", "<own@x>"))))
    assert message["List-Unsubscribe"].strip() == link
    assert len(message.get_all("Date", [])) == 1
    assert message.get_all("Message-ID") == ["<own@x>"]


@given(name=st.text(max_size=40), subject=st.text(max_size=120), text=st.text(max_size=300))
def test_anything_is_a_letter_or_a_mistake(name: str, subject: str, text: str) -> None:
    letter = replace(PLAIN, to=(Mailbox(name, ME.address),), subject=subject, text=text)
    try:
        octets = write(letter)
    except LetterError:
        return
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    names = [line.partition(b":")[0] for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n") if line[:1] != b" "]
    assert set(names) <= {
        b"From",
        b"To",
        b"Subject",
        b"Date",
        b"Message-ID",
        b"MIME-Version",
        b"Content-Type",
        b"Content-Transfer-Encoding",
    }
