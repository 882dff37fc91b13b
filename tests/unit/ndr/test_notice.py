"""Notices to the sender: parsed back by the standard library and by RFC 3464's rules."""

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage

import pytest

from relay.mail.address import parse_address
from relay.mail.message import Claim, InlineBody, MessageId, NewMessage, Recipient, SmtpUtf8, TlsDemand
from relay.mail.outcome import Cause, Deferred, Delivered, Failed, Outcome, State, TlsUsed
from relay.mail.status import Kind, Reply, Status
from relay.ndr.due import Due, Stamp
from relay.ndr.due import Kind as Notice
from relay.ndr.notice import compose
from relay.policy.retry import SettledRecipient

ARRIVED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
UNTIL = ARRIVED + timedelta(days=5)
STAMP = Stamp(MessageId(7), UNTIL, "relay.example.org")
HEADER = b"From: <s@a.test>\r\nSubject: original\r\nMessage-ID: <m1@a.test>\r\n"
NO_USER = Failed(
    Status(Kind.PERMANENT, 1, 1),
    "mx.b.test refused the message for good",
    "mx.b.test",
    Reply.of(550, ("5.1.1 no such user", "5.1.1 really not")),
)
NO_TLS = Failed(
    Status(Kind.PERMANENT, 7, 4), "the MTA-STS policy demands TLS, but mx.b.test does not offer STARTTLS", "mx.b.test"
)
NULL_MX = Failed(Status(Kind.PERMANENT, 1, 10), "b.test takes no mail at all (null MX)")
DOWN = Deferred(Status(Kind.TEMPORARY, 4, 1), "mx.b.test [192.0.2.1]: connection refused", "mx.b.test")


def claim(sender: bytes | None = b"s@a.test", message_id: str | None = "m1@a.test") -> Claim:
    return Claim(
        id=MessageId(5),
        sender=parse_address(sender) if sender is not None else None,
        destination="b.test",
        recipients=(),
        body=InlineBody(b""),
        arrived=ARRIVED,
        lease=1,
        lease_until=ARRIVED,
        message_id=message_id,
    )


def settled(outcome: Outcome, address: bytes = b"bob@b.test", index: int = 0) -> SettledRecipient:
    state = State.DEFERRED if isinstance(outcome, Deferred) else State.FAILED
    return SettledRecipient(Recipient(index, parse_address(address), 3), state, outcome, None, 1, expires=UNTIL)


def notice(
    *recipients: SettledRecipient, kind: Notice = Notice.FAILURE, of: Claim | None = None, header: bytes = HEADER
) -> NewMessage:
    about = of or claim()
    assert about.sender is not None
    return compose(Due(kind, about.sender, recipients), about, header, STAMP)


def parse(message: NewMessage) -> EmailMessage:
    assert isinstance(message.body, InlineBody)
    octets = message.body.octets
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert max(len(line) for line in octets.split(b"\r\n")) <= 998  # RFC 5322 §2.1.1
    parsed = email.message_from_bytes(octets, policy=email.policy.SMTPUTF8)
    assert isinstance(parsed, EmailMessage)
    assert not parsed.defects
    return parsed


def report(message: NewMessage) -> list[EmailMessage]:
    """The blocks of message/delivery-status: the message's, then one for each recipient."""
    parsed = parse(message)
    assert parsed.get_content_type() == "multipart/report"
    assert parsed["Content-Type"].params["report-type"] == "delivery-status"
    types = [part.get_content_type() for part in parsed.iter_parts()]
    assert types == ["text/plain", "message/delivery-status", "text/rfc822-headers"]
    blocks = list(parsed.iter_parts())[1].get_payload()
    assert isinstance(blocks, list)
    return blocks  # type: ignore[return-value]


def letter(message: NewMessage) -> str:
    text = next(iter(parse(message).iter_parts())).get_content()
    return " ".join(text.split())


def test_a_failure_notice_names_everything() -> None:
    message = notice(settled(NO_USER))
    assert message.envelope.sender is None
    assert [str(address) for address in message.envelope.recipients] == ["s@a.test"]
    parsed = parse(message)
    assert parsed["To"] == "s@a.test"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["In-Reply-To"] == "<m1@a.test>"
    assert parsed["Message-ID"] == f"<{MessageId(7)}@relay.example.org>"
    whole, bob = report(message)
    assert whole["Reporting-MTA"] == "dns; relay.example.org"
    assert email.utils.parsedate_to_datetime(whole["Arrival-Date"]) == ARRIVED
    assert bob["Final-Recipient"] == "rfc822; bob@b.test"
    assert bob["Action"] == "failed"
    assert bob["Status"] == "5.1.1"
    assert bob["Remote-MTA"] == "dns; mx.b.test"
    assert bob["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user 5.1.1 really not"
    assert email.utils.parsedate_to_datetime(bob["Last-Attempt-Date"]) == STAMP.now
    assert "Will-Retry-Until" not in bob
    text = letter(message)
    for words in ("bob@b.test", "550 5.1.1 no such user", "mx.b.test", "check the address", "Code: 550 5.1.1"):
        assert words in text


@pytest.mark.parametrize(
    ("status", "basic"), [((7, 4), 551), ((7, 5), 551), ((7, 6), 551), ((4, 8), 551), ((1, 10), 556), ((4, 1), 550)]
)
def test_our_own_refusals_carry_their_code(status: tuple[int, int], basic: int) -> None:
    outcome = Failed(Status(Kind.PERMANENT, *status), "we saw this", "mx.b.test")
    message = notice(settled(outcome))
    code = f"{basic} 5.{status[0]}.{status[1]}"
    assert report(message)[1]["Diagnostic-Code"] == f"x-relay; {code} we saw this"
    assert f"Code: {code}" in letter(message)


def test_a_tls_refusal_says_who_can_mend_it() -> None:
    text = letter(notice(settled(NO_TLS)))
    assert "the MTA-STS policy demands TLS, but mx.b.test does not offer STARTTLS." in text
    assert "Who can mend it: the administrators of the recipient's domain" in text


def test_a_host_that_was_never_reached_is_not_named() -> None:
    _, bob = report(notice(settled(NULL_MX)))
    assert "Remote-MTA" not in bob
    assert bob["Status"] == "5.1.10"


def test_an_expired_remote_answer_keeps_the_remote_words() -> None:
    expired = Failed(
        Status(Kind.PERMANENT, 7, 1),
        "mx.b.test asks us to come again later",
        "mx.b.test",
        Reply.of(451, ("4.7.1 grey",)),
    )
    message = notice(settled(expired))
    _, bob = report(message)
    assert (bob["Status"], bob["Diagnostic-Code"]) == ("5.7.1", "smtp; 451 4.7.1 grey")


def test_a_delay_notice_says_until_when() -> None:
    message = notice(settled(DOWN), kind=Notice.DELAY)
    _, bob = report(message)
    assert (bob["Action"], bob["Status"]) == ("delayed", "4.4.1")
    assert email.utils.parsedate_to_datetime(bob["Will-Retry-Until"]) == UNTIL
    assert "You need do nothing" in letter(message)


def test_whoever_sent_what_may_have_arrived_is_to_ask_before_sending_it_again() -> None:
    lost = Failed(Status(Kind.PERMANENT, 4, 2), "mx.b.test hung up; it may have arrived all the same", "mx.b.test")
    text = letter(notice(replace(settled(lost), cause=Cause.UNKNOWN)))
    assert "please ask before you send it again" in " ".join(text.split())
    assert "Who can mend it" not in text


def test_one_notice_for_all_that_failed() -> None:
    message = notice(settled(NO_USER), settled(NO_TLS, b"eve@b.test", 1))
    _, *people = report(message)
    assert [block["Final-Recipient"] for block in people] == ["rfc822; bob@b.test", "rfc822; eve@b.test"]
    assert "2 recipients" in parse(message)["Subject"]


def test_a_delivered_recipient_is_never_reported_as_failed() -> None:
    done = Delivered(Status(Kind.SUCCESS, 0, 0), Reply.of(250, ("ok",)), "mx", TlsUsed.NONE)
    with pytest.raises(TypeError):
        notice(settled(done))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        HEADER,
        b"Subject: j\xc3\xb6rg\r\n",
        b"Subject: \xff\xfe\r\n",
        b"X-Long: " + b"x" * 5000 + b"\r\n",
        b"X: y\r\n" * 20000,
        b"Subject: =\r\nX: \t \r\n",
    ],
)
def test_the_original_header_comes_back(header: bytes) -> None:
    part = list(parse(notice(settled(NO_USER), header=header)).iter_parts())[2]
    returned = part.get_payload(decode=True)
    assert isinstance(returned, bytes)
    returned = returned.replace(b"\r\n", b"\n")
    expected = header.replace(b"\r\n", b"\n")
    if len(header) > 65536:
        assert expected.startswith(returned.rstrip(b"\n"))
        assert len(returned) > 50000
    else:
        assert returned.rstrip(b"\n") == expected.rstrip(b"\n")


@pytest.mark.parametrize(
    ("address", "typed"),
    [
        (b'"a b"@b.test', 'rfc822; "a b"@b.test'),
        ("bob@bücher.test".encode(), "rfc822; bob@xn--bcher-kva.test"),
        ("jörg@b.test".encode(), r"utf-8; j\x{F6}rg@b.test"),
        ("j+ö@b.test".encode(), r"utf-8; j\x{2B}\x{F6}@b.test"),
    ],
)
def test_addresses_are_typed(address: bytes, typed: str) -> None:
    message = notice(settled(NO_USER, address))
    assert report(message)[1]["Final-Recipient"] == typed


def test_a_sender_in_utf8_gets_a_utf8_message() -> None:
    message = notice(settled(NO_USER), of=claim(sender="jörg@a.test".encode()))
    assert message.smtputf8 is SmtpUtf8.NEEDED
    assert message.eight_bit
    assert "jörg@a.test" in parse(message)["To"]


@pytest.mark.parametrize("words", ["café\r\nX-Injected: yes", "tab\there", "x" * 3000, "\x00\x1b[31m", "a " * 2000])
def test_the_remote_words_can_do_no_harm(words: str) -> None:
    outcome = Failed(Status(Kind.PERMANENT, 0, 0), "refused", "mx.b.test", Reply.of(554, (words,)))
    message = notice(settled(outcome))
    blocks = report(message)
    assert len(blocks) == 2
    assert "X-Injected" not in blocks[1]
    assert blocks[1]["Diagnostic-Code"].startswith("smtp; 554")


@pytest.mark.parametrize("message_id", [None, "a b", "a>\r\nX: y", "ü@a.test", "x" * 400])
def test_an_odd_message_id_is_left_out(message_id: str | None) -> None:
    parsed = parse(notice(settled(NO_USER), of=claim(message_id=message_id)))
    assert "In-Reply-To" not in parsed
    assert "X" not in parsed


def test_a_notice_of_expiry_says_that_it_was_tried() -> None:
    last = Failed(Status(Kind.PERMANENT, 4, 1), DOWN.reason, DOWN.host, expired=True)
    letter = parse(notice(settled(last))).as_string()
    assert "It was tried 3 times, until its time ran out at Tue, 06 Jan 2026 12:00:00 +0000." in " ".join(
        letter.split()
    )
    assert "time ran out" not in parse(notice(settled(NULL_MX))).as_string()


def test_of_confidential_mail_only_what_recognises_it_goes_back() -> None:
    """RFC 8689 section 5."""
    kept = b"Date: Thu,\r\n 1 Jan 2026 12:00:00 +0000\r\n", b"MESSAGE-ID: <m1@a.test>\r\n"
    header = b"Subject: the secret\r\n" + kept[0] + b"X-Date: 1\r\n" + kept[1]
    message = notice(settled(NO_TLS), of=replace(claim(), demand=TlsDemand.REQUIRED), header=header)
    assert message.demand is TlsDemand.REQUIRED
    returned = list(parse(message).iter_parts())[2].get_payload()
    assert str(returned).encode() == b"".join(kept)
    assert b"secret" in octets_of(notice(settled(NO_TLS), header=header))


def octets_of(message: NewMessage) -> bytes:
    assert isinstance(message.body, InlineBody)
    return message.body.octets
