"""Each kind of value: what is taken, what it becomes, what is refused and with which words."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relay.mail.address import parse_address
from relay.policy.memory import OnTlsLoss
from relay.settings import HostPort, Section, Settings, TrustAd, format_duration, format_size


def take(section: str, key: str, value: object) -> Any:
    settings = Settings.model_validate({section: {key: value}} if section else {key: value})
    return getattr(getattr(settings, section) if section else settings, key)


def refusal(section: str, key: str, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        take(section, key, value)
    return str(caught.value)


def at(host: str, port: int) -> HostPort:
    return HostPort(host=host, port=port)


GOOD: list[tuple[str, str, object, object]] = [
    ("submission", "listen", ["127.0.0.1:2525"], (at("127.0.0.1", 2525),)),
    ("submission", "listen", ["[::1]:25", "0.0.0.0:0"], (at("::1", 25), at("0.0.0.0", 0))),
    ("submission", "listen", ["[2001:DB8:0::1]:25"], (at("2001:db8::1", 25),)),
    ("submission", "listen", [], ()),
    ("submission", "trusted_networks", ["192.0.2.7"], (ipaddress.ip_network("192.0.2.7/32"),)),
    ("submission", "trusted_networks", ["2001:db8::/32"], (ipaddress.ip_network("2001:db8::/32"),)),
    ("submission", "trusted_networks", [], ()),
    ("submission", "max_message_size", 1024, 1024),
    ("submission", "max_message_size", "50M", 50 << 20),
    ("submission", "max_message_size", "2 gb", 2 << 30),
    ("submission", "max_message_size", "64k", 64 << 10),
    ("submission", "max_message_size", "100000", 100000),
    ("submission", "tls_key", "", None),
    ("submission", "tls_key", "key.pem", Path("key.pem")),
    ("submission", "timeout", "90s", timedelta(seconds=90)),
    ("submission", "timeout", "5 m", timedelta(minutes=5)),
    ("dns", "nameservers", ["127.0.0.1"], (at("127.0.0.1", 53),)),
    (
        "dns",
        "nameservers",
        ["::1", "[::1]:5353", "192.0.2.1:54"],
        (at("::1", 53), at("::1", 5353), at("192.0.2.1", 54)),
    ),
    ("dns", "trust_ad", "yes", TrustAd.YES),
    ("tls_memory", "on_loss", "off", OnTlsLoss.OFF),
    ("tls_memory", "on_loss", "warn", OnTlsLoss.WARN),
    ("tls_memory", "on_loss", "defer", OnTlsLoss.DEFER),
    ("dns", "self_test_signed", "IANA.org.", "iana.org"),
    ("notices", "postmaster", "", None),
    ("notices", "postmaster", "Post@Example.ORG", parse_address(b"Post@Example.ORG")),
    ("notices", "postmaster", "jörg@bücher.example", parse_address("jörg@bücher.example".encode())),
    ("delivery", "next_hop", "", None),
    ("delivery", "next_hop", "Smart.Example.ORG.:587", at("smart.example.org", 587)),
    ("delivery", "next_hop", "mail_1.example.org:25", at("mail_1.example.org", 25)),
    ("delivery", "next_hop", "[2001:db8::1]:25", at("2001:db8::1", 25)),
    ("delivery", "next_hop", "192.0.2.1:25", at("192.0.2.1", 25)),
    ("delivery", "next_hop", "münchen.example:25", at("xn--mnchen-3ya.example", 25)),
    ("delivery", "fallback", "", None),
    ("delivery", "fallback", "backup-2", "backup-2"),
    ("delivery", "fallback", "Backup.example.ORG:587", at("backup.example.org", 587)),
    ("delivery", "fallback", "[2001:db8::1]:25", at("2001:db8::1", 25)),
    ("delivery", "allow_private_addresses", True, True),
    ("retry", "schedule", ["1s"], (timedelta(seconds=1),)),
    ("retry", "delay_notice", "", ()),
    ("retry", "delay_notice", [], ()),
    ("retry", "delay_notice", "4h", (timedelta(hours=4),)),
    ("retry", "delay_notice", ["4h", "1d"], (timedelta(hours=4), timedelta(days=1))),
    ("retry", "dns_schedule", [], ()),
    ("retry", "dns_expire", "", None),
    ("retry", "expire", "2w", timedelta(days=14)),
    ("", "hostname", "", ""),
    ("", "hostname", "Mail.Example.ORG.", "mail.example.org"),
    ("", "hostname", "mail.münchen.example", "mail.xn--mnchen-3ya.example"),
    ("", "hostname", "mailhost", "mailhost"),
    ("", "hostname", "[192.0.2.1]", "[192.0.2.1]"),
    ("", "hostname", "[ipv6:2001:DB8::1]", "[IPv6:2001:db8::1]"),
]


@pytest.mark.parametrize(("section", "key", "value", "expected"), GOOD, ids=lambda case: repr(case)[:40])
def test_taken(section: str, key: str, value: object, expected: object) -> None:
    assert take(section, key, value) == expected


HOST_PORT = "must be host:port"
BAD: list[tuple[str, str, object, str]] = [
    ("submission", "listen", "127.0.0.1:2525", "valid tuple"),
    ("submission", "listen", ["2525"], HOST_PORT),
    ("submission", "listen", [2525], "must be text such as"),
    ("submission", "listen", ["127.0.0.1"], HOST_PORT),
    ("submission", "listen", [":2525"], HOST_PORT),
    ("submission", "listen", ["::1:2525"], HOST_PORT),
    ("submission", "listen", ["127.0.0.1:"], HOST_PORT),
    ("submission", "listen", ["127.0.0.1:-1"], HOST_PORT),
    ("submission", "listen", ["127.0.0.1:25 "], HOST_PORT),
    ("submission", "listen", ["127.0.0.1:٢٥"], HOST_PORT),
    ("submission", "listen", ["127.0.0.1:99999"], "the port must be from 0 to 65535"),
    ("submission", "listen", ["127.0.0.1:" + "9" * 5000], HOST_PORT),
    ("submission", "listen", ["localhost:25"], "'localhost' is not an IP address; write 127.0.0.1 or [::1]"),
    ("submission", "listen", ["256.0.0.1:25"], "'256.0.0.1' is not an IP address"),
    ("submission", "listen", ["[127.0.0.1]:25"], "only an IPv6 address is written in brackets"),
    ("submission", "listen", ["127.0.0.1\0:25"], "is not an IP address"),
    ("submission", "trusted_networks", ["192.0.2.1/24"], "the network is 192.0.2.0/24"),
    ("submission", "trusted_networks", ["2001:db8::1/32"], "the network is 2001:db8::/32"),
    ("submission", "trusted_networks", ["192.0.2.0/33"], "must be a network such as"),
    ("submission", "trusted_networks", ["example.org"], "must be a network such as"),
    ("submission", "trusted_networks", [""], "must be a network such as"),
    ("submission", "trusted_networks", [5], "must be text such as 192.0.2.0/24"),
    ("submission", "max_message_size", "10X", "a number with k, M or G"),
    ("submission", "max_message_size", "1.5M", "a number with k, M or G"),
    ("submission", "max_message_size", True, "a number with k, M or G"),
    ("submission", "max_message_size", 1e6, "a number with k, M or G"),
    ("submission", "max_message_size", -1, "must be from 1k to 100G"),
    ("submission", "max_message_size", 0, "must be from 1k to 100G"),
    ("submission", "max_message_size", 10**30, "must be from 1k to 100G"),
    ("submission", "max_message_size", "101G", "must be from 1k to 100G"),
    ("submission", "max_message_size", "9" * 5000, "a number with k, M or G"),
    ("submission", "max_recipients", 99, "greater than or equal to 100"),
    ("submission", "max_recipients", "1000", "valid integer"),
    ("submission", "max_recipients", 1000.0, "valid integer"),
    ("submission", "max_connections", True, "valid integer"),
    ("submission", "max_connections", 0, "greater than or equal to 1"),
    ("submission", "max_connections", 10**30, "less than or equal to"),
    ("submission", "tls_key", 5, "must be a path"),
    ("submission", "tls_key", "a\0b", "must not have a NUL in it"),
    ("submission", "tls_key", "~no-such-user-here/key", "there is no such home folder"),
    ("submission", "timeout", "5 min", "must be a number and a unit"),
    ("submission", "timeout", "-1h", "must be a number and a unit"),
    ("submission", "timeout", "1.5h", "must be a number and a unit"),
    ("submission", "timeout", "1h30m", "must be a number and a unit"),
    ("submission", "timeout", "", "must be a number and a unit"),
    ("submission", "timeout", "5m\n", "must be a number and a unit"),
    ("submission", "timeout", 300, "must be a number and a unit"),
    ("submission", "timeout", "0s", "must be longer than zero"),
    ("submission", "timeout", "999999999d", "must be at most 3660d"),
    ("submission", "timeout", "9" * 5000 + "s", "must be a number and a unit"),
    ("notices", "postmaster", 5, "must be text such as postmaster@example.org"),
    ("notices", "postmaster", "postmaster", "must be an address with a domain"),
    ("notices", "postmaster", "post master@example.org", "is neither a dot-string nor a quoted string"),
    ("notices", "postmaster", "Post <p@example.org>", "must be an address such as postmaster@example.org: "),
    ("notices", "postmaster", "\ud800@example.org", "the address is not valid UTF-8"),
    ("dns", "nameservers", ["127.0.0.1:0"], "the port must be from 1 to 65535"),
    ("dns", "nameservers", ["dns.example:53"], "'dns.example' is not an IP address"),
    ("dns", "trust_ad", True, "'auto', 'yes' or 'no'"),
    ("tls_memory", "on_loss", "refuse", "'off', 'warn' or 'defer'"),
    ("tls_memory", "after", "0d", "longer than zero"),
    ("dns", "self_test_signed", "", "is not a host name"),
    ("dns", "self_test_signed", "192.0.2.1", "not an address"),
    ("delivery", "port", 0, "greater than or equal to 1"),
    ("delivery", "port", 65536, "less than or equal to 65535"),
    ("delivery", "port", "25", "valid integer"),
    ("delivery", "next_hop", "smart.example.org", HOST_PORT),
    ("delivery", "next_hop", "smart.example.org:0", "the port must be from 1 to 65535"),
    ("delivery", "next_hop", "[smart.example.org]:25", "only an IPv6 address is written in brackets"),
    ("delivery", "next_hop", "smart example:25", "is not a host name"),
    ("delivery", "next_hop", "smart..example:25", "is not a host name"),
    ("delivery", "next_hop", "192.0.2:25", "neither a host name nor an IP address"),
    ("delivery", "next_hop", "[::g]:25", "neither a host name nor an IP address"),
    ("delivery", "next_hop", "0.0.0.0:25", "no host can be reached at 0.0.0.0"),
    ("delivery", "next_hop", "[ff02::1]:25", "no host can be reached at ff02::1"),
    ("delivery", "next_hop", 25, "must be text"),
    ("delivery", "next_hop", "smart\udcff.example:25", "is not a host name"),
    ("delivery", "fallback", "Backup", "must be a name of lower-case letters, digits and hyphens"),
    ("delivery", "fallback", "smart.example.org", "must be a name of lower-case letters, digits and hyphens"),
    ("delivery", "fallback", "smart.example.org:0", "the port must be from 1 to 65535"),
    ("delivery", "fallback", 25, "must be text"),
    ("delivery", "fallback_after", 0, "greater than or equal to 1"),
    ("delivery", "allow_private_addresses", "yes", "valid boolean"),
    ("delivery", "allow_private_addresses", 1, "valid boolean"),
    ("retry", "schedule", [], "at least 1 item"),
    ("retry", "schedule", ["5m", "0s"], "must be longer than zero"),
    ("retry", "delay_notice", "0h", "must be longer than zero"),
    ("", "hostname", "mail host", "is not a host name"),
    ("", "hostname", "mail_host.example.org", "must not have an underscore"),
    ("", "hostname", "mail.example.org..", "is not a host name"),
    ("", "hostname", ".", "is not a host name"),
    ("", "hostname", "-mail.example.org", "is not a host name"),
    ("", "hostname", "mail.example.org\0", "is not a host name"),
    ("", "hostname", "mail.example.org\r\nEVIL", "is not a host name"),
    ("", "hostname", "a" * 64 + ".example", "is not a host name"),
    ("", "hostname", "192.0.2.1", "not an address"),
    ("", "hostname", "[192.0.2]", "is not a host name"),
    ("", "hostname", "mail\udcff.example", "is not a host name"),
    ("", "hostname", 5, "valid string"),
]


@pytest.mark.parametrize(("section", "key", "value", "words"), BAD, ids=lambda case: repr(case)[:40])
def test_refused(section: str, key: str, value: object, words: str) -> None:
    assert words in refusal(section, key, value)


EVERY_KEY = [
    (section, key)
    for section, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    for key in field.annotation.model_fields
]

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.text("0123456789.:[]-_ smhd"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(place=st.sampled_from(EVERY_KEY), value=ANYTHING)
def test_anything_is_a_setting_or_a_validation_error(place: tuple[str, str], value: object) -> None:
    section, key = place
    try:
        settings = Settings.model_validate({section: {key: value}})
    except ValidationError:
        return
    again = Settings.model_validate(settings.model_dump(mode="json"))
    assert again == settings


@given(st.text(st.characters(), max_size=20) | st.text("abc.-_[]:1", max_size=20))
def test_a_hostname_that_is_taken_stays_as_it_is(text: str) -> None:
    try:
        name = Settings(hostname=text).hostname
    except ValidationError:
        return
    assert Settings(hostname=name).hostname == name
    assert name.isascii() and name.isprintable() and " " not in name


@given(st.integers(1, 3660 * 86400))
def test_a_duration_comes_back_from_its_text(seconds: int) -> None:
    assert take("submission", "timeout", format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@given(st.integers(1 << 10, 100 << 30))
def test_a_size_comes_back_from_its_text(octets: int) -> None:
    assert take("submission", "max_message_size", format_size(octets)) == octets


def test_the_defaults_are_valid_and_come_back_from_their_text() -> None:
    assert Settings.model_validate(Settings().model_dump(mode="json")) == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().hostname = "x.example"
