"""The mail with a TLS report, read by Python's own parser: RFC 8460 section 5.3."""

from __future__ import annotations

import email
import email.policy
import gzip
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from email.message import EmailMessage

import pytest

from relay.mail.address import parse_address
from relay.mail.message import InlineBody, MessageId, Notify, SmtpUtf8, TlsDemand
from relay.tlsrpt.letter import Counts, Enclosed, Postmark, Submitter, letter

JSON = {"organization-name": "Example", "report-id": "2026-11-25.a1"}
REPORT = Enclosed(
    id="2026-11-25.a1",
    domain="b.test",
    day=date(2026, 11, 25),
    counts=(Counts("tlsa", "mx.b.test", 1200, 3), Counts("sts", "b.test", 0, 17)),
    file_name="a.test!b.test!1764028800!1764115199!a1.json.gz",
    octets=gzip.compress(json.dumps(JSON).encode() + b" " * 300),
)
SUBMITTER = Submitter(parse_address(b"reports@a.test"), "Example Inc.", "tls@a.test")
TO = parse_address(b"rua@c.test")
POSTMARK = Postmark(MessageId(77), datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC), "mail.a.test")
LONGEST = ".".join(["x" * 63] * 3 + ["y" * 50, "test"])


def octets_of(report: Enclosed = REPORT, submitter: Submitter = SUBMITTER, to: bytes = b"rua@c.test") -> bytes:
    body = letter(report, submitter, parse_address(to), POSTMARK).body
    assert isinstance(body, InlineBody)
    return body.octets


def read(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert [part.defects for part in message.walk()] == [[]] * 3
    return message


def test_the_header() -> None:
    message = read(octets_of())
    assert {name: str(value) for name, value in message.items()} == {
        "From": "reports@a.test",
        "To": "rua@c.test",
        "Subject": "Report Domain: b.test Submitter: a.test Report-ID: <2026-11-25.a1@a.test>",
        "TLS-Report-Domain": "b.test",
        "TLS-Report-Submitter": "a.test",
        "Date": "Thu, 26 Nov 2026 01:02:03 +0000",
        "Message-ID": f"<{MessageId(77)}@mail.a.test>",
        "TLS-Required": "No",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
        "Content-Type": f'multipart/report; report-type="tlsrpt"; boundary="relay-{MessageId(77)}"',
    }
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "tlsrpt"


def test_the_parts() -> None:
    words, attached = read(octets_of()).iter_parts()
    assert words.get_content_type() == "text/plain"
    text = words.get_content()
    for said in (
        "Example Inc.",
        "b.test",
        "2026-11-25",
        "tlsa (mx.b.test): 1200 succeeded, 3 failed",
        "sts (b.test): 0 succeeded, 17 failed",
        "ask tls@a.test",
    ):
        assert said in text
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert attached.get_content_disposition() == "attachment"
    assert attached.get_filename() == REPORT.file_name
    assert json.loads(gzip.decompress(attached.get_content())) == JSON


def test_the_envelope() -> None:
    message = letter(REPORT, SUBMITTER, TO, POSTMARK)
    assert message.envelope.sender == SUBMITTER.sender
    assert message.envelope.recipients == (TO,)
    assert [asked.notify for asked in message.envelope.asked] == [Notify.NEVER]
    assert message.demand is TlsDemand.WAIVED
    assert message.report
    assert message.priority < 0
    assert message.origin is None and message.login is None
    assert (message.smtputf8, message.eight_bit) == (SmtpUtf8.UNASKED, False)


def test_a_report_id_that_has_a_domain_is_left_as_it_is() -> None:
    assert "Report-ID: <x@mail.a.test>" in read(octets_of(replace(REPORT, id="x@mail.a.test")))["Subject"]


@pytest.mark.parametrize(
    ("report", "submitter", "to"),
    [
        (REPORT, SUBMITTER, b"rua@c.test"),
        (replace(REPORT, domain=LONGEST, file_name=f"{LONGEST}!{LONGEST}!1!2!a.json.gz"), SUBMITTER, b"rua@c.test"),
        (REPORT, Submitter(parse_address(b"r@" + LONGEST.encode()), "x" * 2000, "c" * 2000), b"rua@c.test"),
        (REPORT, replace(SUBMITTER, organization="Bäckerei\r\nBcc: x@y.test\r\n\r\n", contact=""), b"rua@c.test"),
        (REPORT, SUBMITTER, "rua@bücher.test".encode()),
        (REPORT, SUBMITTER, "jürg@c.test".encode()),
    ],
)
def test_what_is_long_or_odd(report: Enclosed, submitter: Submitter, to: bytes) -> None:
    octets = octets_of(report, submitter, to)
    assert max(map(len, octets.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1
    assert octets.replace(b"\r\n", b"").count(b"\n") == octets.replace(b"\r\n", b"").count(b"\r") == 0
    message = read(octets)
    assert message["Bcc"] is None
    assert message["TLS-Report-Domain"] == report.domain
    assert " ".join(str(message["Subject"]).split()) == (
        f"Report Domain: {report.domain} Submitter: {submitter.sender.domain} "
        f"Report-ID: <{report.id}@{submitter.sender.domain}>"
    )
    _, attached = message.iter_parts()
    assert attached.get_filename() == report.file_name


def test_addresses_in_utf8() -> None:
    assert octets_of(to="rua@bücher.test".encode()).isascii()  # its domain has an ASCII form
    message = letter(REPORT, SUBMITTER, parse_address("jürg@c.test".encode()), POSTMARK)
    assert (message.smtputf8, message.eight_bit) == (SmtpUtf8.NEEDED, True)
    sender = replace(SUBMITTER, sender=parse_address("jürg@a.test".encode()))
    assert letter(REPORT, sender, TO, POSTMARK).smtputf8 is SmtpUtf8.NEEDED
