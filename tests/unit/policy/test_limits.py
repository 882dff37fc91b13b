"""Which limits a destination has."""

from __future__ import annotations

import pytest

from relay.policy.limits import DestinationLimits, Limit, LimitEntry

ENTRIES = (
    LimitEntry(("example.org",), per_minute=10),
    LimitEntry((".example.org", "example.org"), at_once=2, per_minute=99),
    LimitEntry(("route:smart",), at_once=7, recipients=1),
    LimitEntry(("example.net", "*"), recipients=50),
)


@pytest.mark.parametrize(
    ("destination", "limit"),
    [
        ("example.org", Limit(2, 10, 50)),
        ("a.example.org", Limit(2, 99, 50)),
        ("a.b.example.org", Limit(2, 99, 50)),
        ("notexample.org", Limit(20, None, 50)),
        ("example.org.test", Limit(20, None, 50)),
        ("route:smart", Limit(7, None, 1)),
        ("smart", Limit(20, None, 50)),
        ("example.net", Limit(20, None, 50)),
        ("[192.0.2.1]", Limit(20, None, 50)),
        ("", Limit(20, None, 50)),
    ],
)
def test_for_each_limit_the_first_entry_that_sets_it_counts(destination: str, limit: Limit) -> None:
    assert DestinationLimits(20, ENTRIES).of(destination) == limit


def test_without_entries() -> None:
    limits = DestinationLimits(20)
    assert limits.of("example.org") == limits.plain == Limit(20)
