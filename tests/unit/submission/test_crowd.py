"""Who is let in, by number, address and pace; and that nothing of it grows for ever."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest

from relay.mail.status import Reply
from relay.policy.clients import source_of
from relay.submission.crowd import Crowd, News, Rate, Seat
from relay.submission.replies import TOO_FAST, TOO_MANY_CONNECTIONS, TOO_MANY_FROM_ADDRESS

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def seat(found: Seat | Reply) -> Seat:
    assert isinstance(found, Seat)
    return found


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", IPv4Address("192.0.2.1")),
        ("2001:db8:1:2:3:4:5:6", IPv6Network("2001:db8:1:2::/64")),
        ("2001:db8:1:2::", IPv6Network("2001:db8:1:2::/64")),
    ],
)
def test_sources(address: str, source: object) -> None:
    assert source_of(ip_address(address)) == source


def test_a_quarter_is_for_those_we_trust() -> None:
    crowd = Crowd(8, None, None)
    for _ in range(6):
        seat(crowd.enter(HERE, False, 0))
    assert crowd.enter(HERE, False, 0) is TOO_MANY_CONNECTIONS
    last = [seat(crowd.enter(THERE, True, 0)) for _ in range(2)][-1]
    assert crowd.enter(THERE, True, 0) is TOO_MANY_CONNECTIONS
    crowd.leave(last)
    crowd.leave(last)  # once is enough
    assert len(crowd) == 7
    assert crowd.enter(HERE, False, 0) is TOO_MANY_CONNECTIONS
    seat(crowd.enter(THERE, True, 0))


def test_each_source_of_strangers_has_its_share() -> None:
    crowd = Crowd(100, 2, None)
    first, _ = (seat(crowd.enter(IPv6Address(f"2001:db8::{n}"), False, 0)) for n in (1, 2))
    assert crowd.enter(IPv6Address("2001:db8::3"), False, 0) is TOO_MANY_FROM_ADDRESS
    seat(crowd.enter(IPv6Address("2001:db8:0:1::3"), False, 0))
    seat(crowd.enter(HERE, False, 0))
    for _ in range(5):
        seat(crowd.enter(IPv6Address("2001:db8::3"), True, 0))
    crowd.leave(first)
    seat(crowd.enter(IPv6Address("2001:db8::3"), False, 0))


def test_pace() -> None:
    crowd = Crowd(100, None, 3)

    def enters(address: IPv4Address, now: float, trusted: bool = False) -> bool:
        found = crowd.enter(address, trusted, now)
        if isinstance(found, Seat):
            crowd.leave(found)  # who comes and goes is counted all the same
        else:
            assert found is TOO_FAST
        return isinstance(found, Seat)

    assert [enters(HERE, now) for now in (0, 1, 2, 3, 19)] == [True, True, True, False, False]
    assert enters(THERE, 19)
    assert all(enters(HERE, 19, trusted=True) for _ in range(10))
    # One for each 20 seconds from then on; who was refused has lost nothing by asking.
    assert [enters(HERE, now) for now in (20.1, 20.2, 39, 41, 1000, 1000, 1000, 1000)] == [
        *(True, False, False, True),
        *(True, True, True, False),
    ]


def test_pace_is_kept_of_so_many_sources() -> None:
    rate = Rate(2, remembered=100)
    for number in range(1000):
        assert rate.allows(source_of(IPv6Address(number << 64)), 0.0)
        assert len(rate) <= 100
    latest = source_of(IPv6Address(999 << 64))
    assert rate.allows(latest, 0.0)
    assert not rate.allows(latest, 0.0)
    for number in range(100):  # what has no meaning any more goes by itself
        rate.allows(source_of(IPv4Address(number)), 100.0)
    assert len(rate) == 100
    for now in range(60):
        rate.allows(HERE, 1000.0 + 30 * now)
    assert len(rate) == 1


def test_counts_of_sources_go_with_the_clients() -> None:
    crowd = Crowd(10_000, 1, None)
    seats = [seat(crowd.enter(IPv6Address(number << 64), False, 0)) for number in range(1000)]
    for one in seats:
        crowd.leave(one)
    assert len(crowd) == 0
    assert crowd.sources == 0


def test_news() -> None:
    news = News(2)
    assert [news.tell(now) for now in (0, 1, 2, 3, 59)] == [0, 0, None, None, None]
    assert [news.tell(now) for now in (61, 62, 63)] == [3, 0, None]
    assert news.tell(1000) == 1
