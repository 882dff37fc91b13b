"""The transcript of a session: bounded, in order, without the message."""

from __future__ import annotations

from itertools import count

from relay.delivery.transcript import MAX_ENTRIES, MAX_OPENING, Transcript
from relay.mail.status import Reply


def transcript() -> Transcript:
    ticks = count()
    return Transcript(lambda: next(ticks) / 1000)


def test_a_whole_session() -> None:
    told = transcript()
    told.received(Reply.of(220, ("mx.test hello",)))
    told.sent(b"EHLO relay.test\r\n")
    told.received(Reply.of(250, ("mx.test", "SIZE 1000", "STARTTLS")))
    told.happened("TLS 1.3, TLS_AES_256_GCM_SHA384, SNI mx.test")
    told.begin_message()
    told.sent(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n")
    told.received(Reply.of(354, ("go",)))
    told.sent_body(1000)
    told.sent_body(234)
    told.received(Reply.of(451, ("4.3.0 \x1b[31mlater",)))
    assert told.lines() == (
        "  0.001 < 220 mx.test hello",
        "  0.002 > EHLO relay.test",
        "  0.003 < 250-mx.test",
        "  0.003 < 250-SIZE 1000",
        "  0.003 < 250 STARTTLS",
        "  0.004 * TLS 1.3, TLS_AES_256_GCM_SHA384, SNI mx.test",
        "  0.005 > MAIL FROM:<a@a.test>",
        "  0.005 > RCPT TO:<b@b.test>",
        "  0.005 > DATA",
        "  0.006 < 354 go",
        "  0.008 * (the message, 1234 octets)",
        "  0.007 < 451 4.3.0 ?[31mlater",
    )


def test_another_message_over_the_same_session() -> None:
    told = transcript()
    told.received(Reply.of(220, ("hello",)))
    for number in (1, 2):
        told.begin_message()
        told.sent(b"MAIL FROM:<%d@a.test>\r\n" % number)
    assert [line[8:] for line in told.lines()] == ["< 220 hello", "> MAIL FROM:<2@a.test>"]


def test_it_is_bounded() -> None:
    told = transcript()
    for number in range(1000):
        told.happened(f"opening {number}")
    told.begin_message()
    for number in range(1000):
        told.sent(b"%d" % number)
    told.sent(b"RCPT TO:<x@a.test>\r\n" * 100_000)
    told.sent(b"x" * 5000 + b"\r\n")
    lines = [line[8:] for line in told.lines()]
    assert lines[: MAX_OPENING + 1] == [*(f"* opening {number}" for number in range(MAX_OPENING)), "> 0"]
    assert any(line.endswith("more)") for line in told.lines())
    assert lines[-1].endswith("xxx...")
    assert len(lines) < MAX_OPENING + MAX_ENTRIES + 200
    assert max(map(len, lines)) < 310
