"""RFC 7208 sections 4.5, 4.6, 7 and 12: which record counts, its grammar, its macros. The suite is in tests/wire."""

from __future__ import annotations

import time
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.spf import (
    MAX_DOMAIN,
    MAX_RECORD_OCTETS,
    BadSpf,
    Directive,
    Macros,
    Mechanism,
    SpfRecord,
    SpfResult,
    can_be_checked,
    expand,
    letters,
    parse_record,
    same_network,
    select_record,
)

IPV4 = Macros("strong-bad", "email.example.com", "mx.example.org", ip_address("192.0.2.3"), "email.example.com")
IPV6 = Macros("strong-bad", "email.example.com", "mx.example.org", ip_address("2001:db8::cb01"), "email.example.com")


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([], None),
        ([b"v=spf10 -all", b"v=spf2.0/pra -all", b" v=spf1 -all", b"x v=spf1"], None),
        ([b"other", b"v=spf1"], "v=spf1"),
        ([b"V=SPF1 ~all"], "V=SPF1 ~all"),
        ([b"v=spf1 a  mx   -all  "], "v=spf1 a  mx   -all  "),
    ],
)
def test_which_record_counts(records: list[bytes], text: str | None) -> None:
    found = select_record(records)
    assert (found.text if isinstance(found, SpfRecord) else found) == text


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([b"v=spf1 -all", b"v=spf1"], "there are 2 SPF records, one is allowed"),
        ([b"v=spf1 \xff"], "the record has octets that are not ASCII"),
        ([b"v=spf1 a:" + b"a" * 200], f"'a:{'a' * 98}...' has a mistake in it"),
        ([b"v=spf1 ip:192.0.2.1"], "'ip:192.0.2.1' is no term of SPF"),
        ([b"v=spf1 ip4:192.0.2.1/33"], "'ip4:192.0.2.1/33' has a mistake in it"),
        ([b"v=spf1 redirect=a.example redirect=b.example"], "redirect is there twice"),
        ([b"v=spf1 redirect=example"], "'redirect=example' names no possible domain"),
        ([b"v=spf1 x=%"], "the modifier 'x' has a mistake in its value"),
    ],
)
def test_what_is_wrong(records: list[bytes], reason: str) -> None:
    assert select_record(records) == BadSpf(reason)


def test_a_record_that_is_too_long_for_us_may_be_good_for_others() -> None:
    found = select_record([b"v=spf1 " + b"a " * MAX_RECORD_OCTETS])
    assert found == BadSpf(f"the record is longer than {MAX_RECORD_OCTETS} octets", SpfResult.TEMPERROR)


@pytest.mark.parametrize(
    "term",
    [
        *("all:a", "all/8", "include", "include:", "include:a", "include:a.example/8", "exists", "exists:a"),
        *("a:", "a:a", "a:.", "a:a.example/33", "a:a.example//129", "a/08", "a//", "a:a.1", "a:a.-b", "a:a.b-"),
        *("ip4", "ip4:", "ip4:1.2.3", "ip4:1.2.3.4/", "ip4:::1", "ip6:1.2.3.4", "ip6:1::/129", "ip6:1::/01"),
        *("a:%{c}.example.com", "a:%{d0}", "a:%{d", "a:%{d1r2}", "a:%d", "a:%{d}.", "a:%{}", "ptr:", "--all", "=a"),
        *("a\t", "a:a.example\x00", "1=a", "a:%{d000}"),
    ],
)
def test_terms_that_are_refused(term: str) -> None:
    assert isinstance(parse_record(f"v=spf1 {term}".encode()), BadSpf)


@pytest.mark.parametrize(
    "term",
    [
        *("ALL", "?a", "a/0", "a//0", "a/24//64", "a:a.example/24//64", "a:_a.example.", "mx:%{d}", "a:x/y.example"),
        *("ptr", "ptr:a.example", "exists:%{ir}.%{v}._spf.%{d2}", "ip6:::1", "ip6:::ffff:192.0.2.1/96", "a:a.1-1"),
        *("exp=%{d}", "x.y-z_1=", "x=%{c}", "redirect=%{d999999999999999999999}", "a:a%%", "a:%{L+-}.example"),
    ],
)
def test_terms_that_are_taken(term: str) -> None:
    assert isinstance(parse_record(f"v=spf1 {term}".encode()), SpfRecord)


@pytest.mark.parametrize(
    ("spec", "macros", "name"),
    [  # RFC 7208 section 7.4
        ("%{s}", IPV4, "strong-bad@email.example.com"),
        ("%{o}", IPV4, "email.example.com"),
        ("%{d4}", IPV4, "email.example.com"),
        ("%{d2}", IPV4, "example.com"),
        ("%{d1}", IPV4, "com"),
        ("%{dr}", IPV4, "com.example.email"),
        ("%{d2r}", IPV4, "example.email"),
        ("%{l-}", IPV4, "strong.bad"),
        ("%{lr-}", IPV4, "bad.strong"),
        ("%{l1r-}", IPV4, "strong"),
        ("%{ir}.%{v}._spf.%{d2}", IPV4, "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", IPV4, "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        (
            "%{ir}.%{v}._spf.%{d2}",
            IPV6,
            "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com",
        ),
        ("%{p}.%{h}", IPV4, "unknown.mx.example.org"),
        ("%{S}", IPV4, "strong-bad%40email.example.com"),
        ("a%%b%_c%-.example.com", IPV4, "a%b c%20.example.com"),
        ("%{d99999999999999999999}", IPV4, "email.example.com"),
        ("plain.example.com.", IPV4, "plain.example.com"),
    ],
)
def test_macros(spec: str, macros: Macros, name: str) -> None:
    assert expand(spec, macros) == name


def test_a_long_name_loses_labels_at_its_left() -> None:
    name = expand("%{d}." * 5000 + "example.org", IPV4)
    assert len(name) <= MAX_DOMAIN and name.endswith(".email.example.com.example.org")
    assert len(expand("%{l}" * 5000, IPV4)) <= MAX_DOMAIN


def test_the_letters_of_a_domain() -> None:
    assert letters("%{Lr-}.%{d2}.%%{s}") == {"l", "d"}
    assert letters("example.org") == frozenset()


def test_addresses_of_one_network() -> None:
    record = parse_record(b"v=spf1 a/24//64")
    assert isinstance(record, SpfRecord)
    (directive,) = record.directives
    assert same_network(directive, ip_address("192.0.2.1"), ip_address("192.0.2.255"))
    assert not same_network(directive, ip_address("192.0.2.1"), ip_address("192.0.3.1"))
    assert same_network(directive, ip_address("2001:db8::1"), ip_address("2001:db8::ffff"))
    assert not same_network(directive, ip_address("192.0.2.1"), ip_address("2001:db8::1"))


@pytest.mark.parametrize(
    ("domain", "can"),
    [
        ("example.org", True),
        ("example.org.", True),
        ("a" * 63 + ".org", True),
        ("a" * 64 + ".org", False),
        ("org", False),
        ("", False),
        ("a..org", False),
        ("a." * 127 + "org", False),
    ],
)
def test_names_that_spf_speaks_of(domain: str, can: bool) -> None:
    assert can_be_checked(domain) is can


TERMS = st.sampled_from(
    [
        "a",
        "mx:",
        "%{d",
        "}",
        "%",
        "/24",
        "//64",
        "ip4:",
        "1.2.3.4",
        "include:",
        ".example",
        " ",
        "=",
        "-",
        "r",
        "0",
        "9",
    ]
)


@given(st.one_of(st.binary(max_size=200), st.lists(TERMS, max_size=20).map(lambda parts: "".join(parts).encode())))
def test_any_octets(octets: bytes) -> None:
    found = select_record([b"v=spf1 " + octets])
    assert isinstance(found, SpfRecord | BadSpf)
    if isinstance(found, SpfRecord):
        for spec in [*(directive.domain for directive in found.directives), found.redirect]:
            assert len(expand(spec, IPV6)) <= max(MAX_DOMAIN, len(spec))


@pytest.mark.parametrize(
    "term",
    [
        *("a:" + "a" * 8000 + "!", "a:." + "a" * 7000 + "!", "a:" + "%{d}" * 2000 + "!", "a:%{d" + "1" * 7000),
        *(
            "a:%{d" + "1" * 7000 + "}",
            "x" * 8000 + "=%",
            "a:" + "/1" * 4000,
            "ip6:" + ":" * 8000,
            "a:" + "%{l+}" * 1500,
            "exists:" + "%{d}" * 1500 + "%z",
            "x=" + "%{c}%{d1}" * 800 + "%",
        ),
    ],
)
def test_no_record_takes_long(term: str) -> None:
    """Each of these takes a few milliseconds; with a regular expression that goes back again and again, minutes."""

    before = time.process_time()
    found = parse_record(f"v=spf1 {term}".encode())
    if isinstance(found, SpfRecord):
        expand(found.directives[0].domain, IPV6)
    assert time.process_time() - before < 0.25


def test_what_a_term_becomes() -> None:
    record = parse_record(b"v=spf1 ~a:a.example/24 ip6:2001:db8::1/32")
    assert isinstance(record, SpfRecord)
    host, network = record.directives
    assert isinstance(host, Directive)
    assert (host.result.value, host.mechanism, host.domain, host.length4, host.length6) == (
        "softfail",
        Mechanism.A,
        "a.example",
        24,
        128,
    )
    assert str(network.network) == "2001:db8::/32"
