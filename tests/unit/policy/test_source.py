"""Which source mail of a sender has, and what it is called."""

from __future__ import annotations

import pytest

from relay.policy.source import Source, Sources

DEFAULT = Source("192.0.2.1", "2001:db8::1", "relay.test")
WHOLE = Source("192.0.2.2", "", "a.test", ("a.example", "b.example"))
BELOW = Source("", "2001:db8::3", "relay.test", (".example", "c.example"))
DEEPER = Source("192.0.2.4", "", "d.test", (".a.example",))
SOURCES = Sources(DEFAULT, (BELOW, WHOLE, DEEPER))


@pytest.mark.parametrize(
    ("domain", "source"),
    [
        ("a.example", WHOLE),
        ("b.example", WHOLE),
        ("c.example", BELOW),
        ("x.b.example", BELOW),
        ("x.a.example", DEEPER),
        ("y.x.a.example", DEEPER),
        ("example", DEFAULT),
        ("a.example.net", DEFAULT),
        ("[192.0.2.7]", DEFAULT),
        (None, DEFAULT),
    ],
)
def test_the_nearest_one(domain: str | None, source: Source) -> None:
    assert SOURCES.choose(domain) == source


def test_without_entries() -> None:
    assert Sources(DEFAULT).choose("a.example") == DEFAULT


@pytest.mark.parametrize(
    ("source", "towards", "address", "setting"),
    [
        (DEFAULT, "198.51.100.1", "192.0.2.1", "delivery.source_ipv4"),
        (DEFAULT, "2001:db8::9", "2001:db8::1", "delivery.source_ipv6"),
        (WHOLE, "198.51.100.1", "192.0.2.2", "ipv4 of [[source]] for a.example, b.example"),
        (WHOLE, "2001:db8::9", "", "ipv6 of [[source]] for a.example, b.example"),
        (Source(), "198.51.100.1", "", "delivery.source_ipv4"),
    ],
)
def test_each_family_has_its_own(source: Source, towards: str, address: str, setting: str) -> None:
    assert (source.address(towards), source.setting(towards)) == (address, setting)


def test_what_is_given() -> None:
    assert SOURCES.all == (DEFAULT, BELOW, WHOLE, DEEPER)
    settings = ("delivery.source_ipv4", "delivery.source_ipv6")
    assert DEFAULT.addresses == tuple(zip(("192.0.2.1", "2001:db8::1"), settings, strict=True))
    assert BELOW.addresses == (("2001:db8::3", "ipv6 of [[source]] for .example, c.example"),)
