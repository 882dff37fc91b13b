"""The answer to EHLO."""

from __future__ import annotations

import pytest

from relay.delivery.capabilities import Capabilities, Limits
from relay.mail.status import Reply

ANSWERS = [
    (["mx.test"], Capabilities()),
    (["mx.test greets you", "PIPELINING"], Capabilities(pipelining=True)),
    (["PIPELINING", "HELP"], Capabilities()),  # the first line is the greeting, whatever it looks like
    (["mx.test", "pipelining", "8BitMime", "Size 10"], Capabilities(pipelining=True, eight_bit_mime=True, size=10)),
    (["mx.test", "SIZE"], Capabilities(size=0)),
    (["mx.test", "SIZE 0"], Capabilities(size=0)),
    (["mx.test", "SIZE 52428800"], Capabilities(size=52428800)),
    (["mx.test", "SIZE ten"], Capabilities(size=0)),
    (["mx.test", "SIZE -1"], Capabilities(size=0)),
    (["mx.test", "SIZE ١٠"], Capabilities(size=0)),
    (["mx.test", "SIZE " + "9" * 5000], Capabilities(size=0)),
    (["mx.test", "SIZE 10", "SIZE 20"], Capabilities(size=10)),
    (["mx.test", "XPIPELINING", "8BITMIME-NOT", "STARTTLSX"], Capabilities()),
    (["mx.test", "", " ", "STARTTLS "], Capabilities(starttls=True)),
    (
        ["mx.test", "SMTPUTF8", "REQUIRETLS", "CHUNKING", "ENHANCEDSTATUSCODES"],
        Capabilities(smtputf8=True, requiretls=True, chunking=True, enhanced_codes=True),
    ),
    (["mx.test", "dsn", "Chunking"], Capabilities(dsn=True, chunking=True)),
    (["mx.test", "DELIVERBY", "mt-priority MIXER"], Capabilities(deliver_by=0, mt_priority=True)),
    (["mx.test", "deliverby 240"], Capabilities(deliver_by=240)),
    (["mx.test", "DELIVERBY 240,x=1"], Capabilities(deliver_by=240)),
    (["mx.test", "DELIVERBY ,x", "MT-PRIORITYS"], Capabilities(deliver_by=0)),
    (["mx.test", "DELIVERBY 1000000000"], Capabilities(deliver_by=0)),
    (
        ["mx.test", "LIMITS MAILMAX=3 RCPTMAX=100 RCPTDOMAINMAX=1"],
        Capabilities(limits=Limits(mails=3, rcpts=100, domains=1)),
    ),
    (["mx.test", "limits rcptmax=5 SIZEMAX=7 HURRY"], Capabilities(limits=Limits(rcpts=5))),
    (["mx.test", "LIMITS RCPTMAX=5 RCPTMAX=9 RCPTMAX=2"], Capabilities(limits=Limits(rcpts=2))),
    (["mx.test", "LIMITS"], Capabilities()),
    *[
        (["mx.test", f"LIMITS MAILMAX={value} RCPTMAX=7"], Capabilities(limits=Limits(rcpts=7)))
        for value in ("", "0", "000", "-1", "1000000", "x", "1e3", "1=2", "²", "١", "9" * 5000)
    ],
]


@pytest.mark.parametrize(("lines", "expected"), ANSWERS)
def test_answers(lines: list[str], expected: Capabilities) -> None:
    assert Capabilities.of(Reply.of(250, tuple(lines))) == expected
