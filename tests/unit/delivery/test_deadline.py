"""What a host is told of the time by which mail is to be there. RFC 2852 section 4.1.4."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from relay.delivery.capabilities import Capabilities
from relay.delivery.deadline import by_value, is_traced, kept_back, with_delay
from relay.mail.address import parse_address
from relay.mail.message import Claim, DeliverBy, InlineBody, MessageId, Notify, Recipient, RecipientDsn

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
KNOWS, WANTS_240, DOES_NOT = Capabilities(deliver_by=0), Capabilities(deliver_by=240), Capabilities()


def claim(seconds: float | None, mode: str = "N") -> Claim:
    return Claim(
        id=MessageId(1),
        sender=parse_address(b"s@a.test"),
        destination="b.test",
        recipients=(Recipient(0, parse_address(b"r@b.test"), 1),),
        body=InlineBody(b""),
        arrived=NOW,
        lease=1,
        lease_until=NOW,
        deliver_by=None if seconds is None else DeliverBy.of(NOW + timedelta(seconds=seconds), mode),
    )


@pytest.mark.parametrize(
    ("seconds", "mode", "can", "value"),
    [
        (98, "R", KNOWS, "98;R"),
        (98.9, "RT", KNOWS, "98;RT"),  # never more than there is
        (240, "R", WANTS_240, "240;R"),
        (98, "N", WANTS_240, "98;N"),
        (0, "NT", KNOWS, "0;NT"),
        (-0.1, "N", KNOWS, "-1;N"),
        (-7200, "N", KNOWS, "-7200;N"),
        (2e9, "N", KNOWS, "999999999;N"),
        (-2e9, "N", KNOWS, "-999999999;N"),
        (98, "N", DOES_NOT, None),
        (None, "N", KNOWS, None),
    ],
)
def test_the_seconds_that_are_left(seconds: float | None, mode: str, can: Capabilities, value: str | None) -> None:
    assert by_value(claim(seconds, mode), can, NOW) == value


@pytest.mark.parametrize(
    ("seconds", "mode", "can", "words"),
    [
        (98, "R", KNOWS, None),
        (98, "R", WANTS_240, "mx takes mail that has 240 seconds left or more (DELIVERBY), and this has 98"),
        (240.5, "RT", WANTS_240, None),
        (
            98,
            "R",
            DOES_NOT,
            "mx does not take mail with a time by which it comes back (DELIVERBY), as its sender asked",
        ),
        (98, "N", DOES_NOT, None),
        (-98, "N", WANTS_240, None),
        (0, "R", WANTS_240, None),  # it is late, which is another matter
        (None, "N", DOES_NOT, None),
    ],
)
def test_what_comes_back_goes_only_where_that_is_known(
    seconds: float | None, mode: str, can: Capabilities, words: str | None
) -> None:
    failed = kept_back(claim(seconds, mode), can, "mx", NOW)
    assert (None if failed is None else (str(failed.status), failed.reason)) == (words and ("5.3.3", words))


@pytest.mark.parametrize(
    ("seconds", "mode", "can", "traced"),
    [
        (60, "N", DOES_NOT, True),
        (0, "N", DOES_NOT, False),  # it is late already, and that was told
        (60, "N", KNOWS, False),
        (60, "NT", KNOWS, True),
        (-60, "NT", DOES_NOT, True),
        (60, "RT", KNOWS, True),
        (60, "R", KNOWS, False),
        (None, "N", DOES_NOT, False),
    ],
)
def test_when_the_sender_hears_of_the_next_host(
    seconds: float | None, mode: str, can: Capabilities, traced: bool
) -> None:
    assert is_traced(claim(seconds, mode), can, NOW) is traced


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        (None, Notify.FAILURE | Notify.DELAY),
        (Notify.NEVER, Notify.NEVER),
        (Notify.SUCCESS, Notify.SUCCESS | Notify.DELAY),
        (Notify.FAILURE | Notify.DELAY, Notify.FAILURE | Notify.DELAY),
    ],
)
def test_a_host_that_does_not_know_the_time_is_to_report_delays(asked: Notify | None, passed: Notify) -> None:
    assert with_delay(RecipientDsn(asked, "rfc822;x@b.test")) == RecipientDsn(passed, "rfc822;x@b.test")
