"""How many logins may fail from where, and what does not help an attacker."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from relay.submission.failed_logins import NETWORK_SHARE, WINDOW_SECONDS, FailedLogins, network_of

A, NEIGHBOUR, STRANGER = ip_address("192.0.2.1"), ip_address("192.0.2.254"), ip_address("192.0.3.1")


def test_one_address() -> None:
    logins = FailedLogins(3)
    assert [logins.failed(A, 0.0) for _ in range(2)] == [None, None]
    assert not logins.are_too_many(A, 0.0)
    assert logins.failed(A, 100.0) == A
    assert logins.are_too_many(A, 100.0)
    assert not logins.are_too_many(NEIGHBOUR, 100.0)
    assert logins.are_too_many(A, WINDOW_SECONDS - 1)
    assert not logins.are_too_many(A, WINDOW_SECONDS)
    assert logins.failed(A, WINDOW_SECONDS) is None  # from one again


def test_a_success_takes_back_what_the_address_has_had() -> None:
    logins = FailedLogins(2)
    logins.failed(A, 0.0)
    logins.succeeded(A)
    assert logins.failed(A, 0.0) is None
    assert logins.failed(A, 0.0) == A


def test_a_good_account_does_not_buy_guesses_without_end() -> None:
    logins = FailedLogins(3)
    guesses = 0
    while not logins.are_too_many(A, 0.0):
        logins.failed(A, 0.0)
        logins.succeeded(A)
        guesses += 1
    assert guesses == 3 * NETWORK_SHARE


def test_a_network() -> None:
    logins = FailedLogins(2)
    full = [logins.failed(address, 0.0) for address in itertools.islice(IPv4Network("192.0.2.0/24"), 2 * NETWORK_SHARE)]
    assert full[-1] == ip_network("192.0.2.0/24")
    assert full[:-1] == [None] * (2 * NETWORK_SHARE - 1)
    assert logins.are_too_many(NEIGHBOUR, 0.0)
    assert not logins.are_too_many(STRANGER, 0.0)


def test_an_ipv6_network_has_64_bits() -> None:
    one, other = ip_address("2001:db8::1"), ip_address("2001:db8::ffff:ffff:ffff:ffff")
    assert network_of(one) == network_of(other) == ip_network("2001:db8::/64")
    assert network_of(ip_address("2001:db8:0:1::1")) != network_of(one)


def test_memory_is_bounded_and_the_count_that_ends_first_goes() -> None:
    logins = FailedLogins(2, most_kept=3)
    for number in range(4):
        logins.failed(ip_address(f"10.0.{number}.1"), float(number))
    assert [len(counts._counts) for counts in (logins._addresses, logins._networks)] == [3, 3]
    assert logins.failed(ip_address("10.0.3.1"), 4.0) == ip_address("10.0.3.1")
    assert logins.failed(ip_address("10.0.0.1"), 4.0) is None  # forgotten


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=14))  # too few for the network's limit
def test_one_address_against_a_model(acts: list[tuple[bool, int]]) -> None:
    """Failures count from the first since the last success, for 15 minutes."""
    logins, now, first, count = FailedLogins(3), 0.0, 0.0, 0
    for success, passed in acts:
        now += passed
        count = 0 if count and now >= first + WINDOW_SECONDS else count
        assert logins.are_too_many(A, now) is (count >= 3)
        if success:
            logins.succeeded(A)
            count = 0
        else:
            first = first if count else now
            count += 1
            assert logins.failed(A, now) == (A if count == 3 else None)


def test_rank() -> None:
    """Networks from which somebody has logged in come first, then those with the fewest failures."""
    failed = FailedLogins(10, most_kept=2)
    here, neighbour, there, afar = (ip_address(f"192.0.{net}.{host}") for net, host in ((2, 1), (2, 9), (3, 1), (4, 1)))
    assert failed.rank(here, 0) == 0
    failed.failed(here, 0)
    failed.failed(neighbour, 0)
    assert (failed.rank(here, 1), failed.rank(neighbour, 1), failed.rank(there, 1)) == (2, 2, 0)
    assert failed.rank(here, WINDOW_SECONDS + 1) == 0
    failed.succeeded(neighbour)
    assert (failed.rank(here, 1), failed.rank(there, 1)) == (-1, 0)
    failed.succeeded(there)
    failed.succeeded(afar)  # as many as are kept
    assert (failed.rank(here, 1), failed.rank(there, 1), failed.rank(afar, 1)) == (2, -1, -1)
