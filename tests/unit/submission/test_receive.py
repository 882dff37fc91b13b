"""What is noted with a message of what its envelope and its header say."""

from __future__ import annotations

import pytest

from relay.mail.address import parse_address
from relay.mail.header import Header
from relay.mail.message import SmtpUtf8
from relay.submission.receive import Transaction, _smtputf8
from relay.submission.verbs import Mail

HEADERS = {"ASCII": b"Subject: x\r\n\r\n", "UTF-8": "Subject: ä\r\n\r\n".encode(), "body": "\r\nä\r\n".encode()}
ADDRESSES = {
    "sender": (parse_address("ä@example.test".encode()), "rcpt@example.test", SmtpUtf8.NEEDED),
    "recipient": (parse_address(b"a@example.test"), "ö@example.test", SmtpUtf8.NEEDED),
    "a domain has an ASCII form": (parse_address("a@exämple.test".encode()), "b@exämple.test", SmtpUtf8.ASKED),
    "null sender": (None, "b@example.test", SmtpUtf8.ASKED),
    "ASCII": (parse_address(b"a@example.test"), "b@example.test", SmtpUtf8.ASKED),
}


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("header", HEADERS)
def test_what_needs_smtputf8(name: str, header: str) -> None:
    sender, recipient, expected = ADDRESSES[name]
    address = parse_address(recipient.encode())
    found = Header(HEADERS[header].partition(b"\r\n")[0] + b"\r\n")
    for asked in (False, True):
        transaction = Transaction(Mail(sender, asked))
        transaction.recipients[address.local, address.domain] = address
        wanted = SmtpUtf8.NEEDED if header == "UTF-8" else expected
        assert _smtputf8(transaction, found) is (wanted if asked else SmtpUtf8.UNASKED)
