"""The strict reader of notices sees what is wrong with one: each is a good notice with one thing changed."""

from __future__ import annotations

import pytest
from dsn_parser import DsnError, parse_dsn
from notice_case import Case

from relay.mail.message import InlineBody
from relay.ndr.due import Kind

FAULTS = {
    "bare LF": (b"\r\nMIME-Version", b"\nMIME-Version"),
    "no To": (b"To: <s@a.test>", b"To: <>"),
    "wrong status class": (b"Status: 5.1.1", b"Status: 4.1.1"),
    "status without three numbers": (b"Status: 5.1.1", b"Status: 5.1"),
    "unknown action": (b"Action: failed", b"Action: broken"),
    "order": (b"Action: failed\r\nStatus: 5.1.1", b"Status: 5.1.1\r\nAction: failed"),
    "date in the wrong group": (b"X-Relay-Queue-ID", b"Last-Attempt-Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nX-Relay"),
    "no blank line between groups": (b"\r\n\r\nFinal-Recipient", b"\r\nFinal-Recipient"),
    "no address type": (b"rfc822; bob", b"bob"),
    "8-bit report": (b"550 5.1.1 who?", "550 5.1.1 wér?".encode()),
    "date without a zone": (b"Arrival-Date: Thu, 01 Jan 2026 12:00:00 +0000", b"Arrival-Date: Thu, 01 Jan 2026 12:00"),
    "will retry, and failed": (
        b"Last-Attempt-Date",
        b"Will-Retry-Until: Thu, 01 Jan 2026 12:00:00 +0000\r\nLast-Attempt-Date",
    ),
    "header part with a body": (b"Message-ID: <m1@a.test>\r\n\r\n--", b"Message-ID: <m1@a.test>\r\n\r\nbody\r\n--"),
    "mislabelled": (b"text/rfc822-headers", b"message/rfc822"),
    "a fourth part": (b"--\r\n", b"\r\nContent-Type: text/plain\r\n\r\nx\r\n--relay-0000000000007--\r\n"),
    "long line": (b"550 5.1.1 who?", b"550 5.1.1 " + b"x" * 999),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reader_sees(fault: str) -> None:
    good, bad = FAULTS[fault]
    message = Case(Kind.FAILURE).compose()
    assert isinstance(message.body, InlineBody)
    octets = message.body.octets
    at = octets.rindex(good)
    with pytest.raises(DsnError):
        parse_dsn(octets[:at] + bad + octets[at + len(good) :])
