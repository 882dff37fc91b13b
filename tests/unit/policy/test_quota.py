"""What is counted of a client's mail, how the day slides, and who counts together."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import parse_address
from relay.policy.clients import Grant, Peer, Quota
from relay.policy.quota import (
    DAY,
    SLOT,
    Bucket,
    Count,
    Limit,
    Over,
    Spent,
    account_of,
    over,
    recipient_key,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_the_day_slides() -> None:
    spent = Spent().plus(Count(3, 1), NOW).plus(Count(2, 2), NOW + 6 * SLOT)
    assert spent.in_day(NOW) == Count(5, 3)
    assert spent.in_day(NOW + DAY - SECOND) == Count(5, 3)
    assert spent.in_day(NOW + DAY + SLOT) == Count(2, 2)
    assert spent.in_day(NOW + DAY + 7 * SLOT) == Count(0, 0)


def test_what_is_too_old_is_not_kept() -> None:
    spent = Spent()
    for number in range(1000):
        spent = spent.plus(Count(1, 1), NOW + number * SLOT)
    assert len(spent.slots) == DAY / SLOT + 1


def test_a_clock_that_was_wrong_closes_nothing_for_ever() -> None:
    spent = Spent().plus(Count(5, 5), NOW + 400 * DAY)
    assert spent.in_day(NOW) == Count(0, 0)
    assert Spent().plus(Count(5, 5), NOW + SLOT).in_day(NOW) == Count(5, 5)  # nor does a small jump open it


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 5)), max_size=30), st.integers(0, 300_000))
def test_no_day_has_more_than_was_sent_in_it_and_a_slot(sent: list[tuple[int, int]], look: int) -> None:
    """Against the list of all that was sent: never less than the day, never more than a day and a slot."""
    spent = Spent()
    for second, many in sorted(sent):
        spent = spent.plus(Count(many), NOW + second * SECOND)
    look = max([look, *(second for second, _ in sent)])
    counted = spent.in_day(NOW + look * SECOND).recipients
    day = sum(many for second, many in sent if look - second < DAY / SECOND)
    longer = sum(many for second, many in sent if look - second < (DAY + SLOT) / SECOND)
    assert day <= counted <= longer


# quota, sent, more -> what is in the way
RECIPIENTS, NEW = Quota(recipients_per_day=5), Quota(new_recipients_per_day=2)
CASES = [
    (Quota(), Count(10**6, 10**6), Count(1, 1), None),
    (RECIPIENTS, Count(4, 4), Count(1, 1), None),
    (RECIPIENTS, Count(5, 0), Count(1, 0), Over(Limit.RECIPIENTS, 5)),
    (NEW, Count(100, 1), Count(1, 1), None),
    (NEW, Count(100, 2), Count(1, 1), Over(Limit.NEW_RECIPIENTS, 2)),
    (NEW, Count(100, 2), Count(1, 0), None),  # to those who are known mail goes on
    (Quota(None, 5, 2), Count(5, 2), Count(1, 1), Over(Limit.RECIPIENTS, 5)),
]


@pytest.mark.parametrize(("quota", "sent", "more", "expected"), CASES)
def test_what_goes_within_a_quota(quota: Quota, sent: Count, more: Count, expected: Over | None) -> None:
    assert over(quota, sent, more) == expected


def test_a_bucket_fills_in_a_minute_and_holds_no_more() -> None:
    bucket = Bucket(0.0, NOW)
    assert bucket.filled(60, NOW + SECOND).tokens == pytest.approx(1)
    assert bucket.filled(60, NOW + 60 * SECOND).tokens == 60
    assert bucket.filled(60, NOW + DAY).tokens == 60
    back = bucket.filled(60, NOW - DAY)
    assert back.tokens == 0
    assert back.filled(60, NOW - DAY + SECOND).tokens == pytest.approx(1)


PLAIN, BY_CERTIFICATE = Grant("x"), Grant("x", certificates=("mx.a.test",))
V6 = "2001:db8:1:2::"
# two clients -> do they count together
TOGETHER = [
    (("192.0.2.1", None), ("192.0.2.1", None), True),
    (("192.0.2.1", None), ("192.0.2.2", None), False),
    ((f"{V6}1", None), (f"{V6}ffff:1", None), True),
    ((f"{V6}1", None), ("2001:db8:1:3::1", None), False),
    (("192.0.2.1", "alice"), ("198.51.100.7", "alice"), True),
    (("192.0.2.1", "alice"), ("192.0.2.1", "Alice"), True),
    (("192.0.2.1", "straße"), ("192.0.2.1", "STRASSE"), True),
    (("192.0.2.1", "alice"), ("192.0.2.1", "bob"), False),
    (("192.0.2.1", "alice"), ("192.0.2.1", None), False),
    (("192.0.2.1", "192.0.2.1"), ("192.0.2.1", None), False),
    (("192.0.2.1", "a" * 300 + "1"), ("192.0.2.1", "a" * 300 + "2"), False),
    (("192.0.2.1", "a\nb"), ("192.0.2.1", "a\rb"), False),
    (("192.0.2.1", "\udc80"), ("192.0.2.1", "\udc81"), False),
]


@pytest.mark.parametrize(("one", "other", "together"), TOGETHER)
def test_who_counts_together(one: tuple[str, str | None], other: tuple[str, str | None], together: bool) -> None:
    names = [account_of(PLAIN, Peer(ipaddress.ip_address(ip), "l", (), login)) for ip, login in (one, other)]
    assert (names[0] == names[1]) is together
    assert all(name.isprintable() and len(name) < 300 for name in names)


def test_a_certificate_counts_where_it_is_what_the_table_is_for() -> None:
    address = ipaddress.ip_address("192.0.2.1")
    names = ("other.test", "MX.a.test")
    assert account_of(BY_CERTIFICATE, Peer(address, "l", names)) == "x, certificate mx.a.test"
    assert account_of(Grant("x", certificates=("*",)), Peer(address, "l", names)) == "x, certificate other.test"
    assert account_of(PLAIN, Peer(address, "l", names)) == "x, address 192.0.2.1"
    assert account_of(BY_CERTIFICATE, Peer(address, "l", names, "alice")) == "x, user alice"


def test_each_table_counts_for_itself() -> None:
    peer = Peer(ipaddress.ip_address("192.0.2.1"), "l", (), "alice")
    assert account_of(Grant("x"), peer) != account_of(Grant("y"), peer)


def test_recipients_are_remembered_by_mailbox_and_account() -> None:
    def key(address: str, account: str = "x") -> str:
        return recipient_key(account, parse_address(address.encode()))

    assert key("a@b.test") == key("A@B.TEST") == key('"a"@b.test') == key('"\\a"@b.test')
    assert len({key("a@b.test"), key("c@b.test"), key("a@c.test"), key("a@b.test", "y")}) == 4
    assert "b.test" not in key("a@b.test")
