"""Addresses as an operator writes them: what is read, what fits, and that SQL says the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.address import Address, parse_address
from relay.queue.pattern import AddressPattern, parse_domain_pattern, parse_pattern


def address(text: str) -> Address | None:
    return None if text == "<>" else parse_address(text.encode())


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("jo@example.org", "jo@example.org", True),
        ("JO@Example.ORG", "jo@example.org", True),
        ("jo@example.org", "Jo@EXAMPLE.org", True),
        ("jo@example.org", "joe@example.org", False),
        ("jo@example.org", "jo@sub.example.org", False),
        ("jo@example.org", "jo@example.org.test", False),
        ("jo_@example.org", "joe@example.org", False),  # no wildcard of SQL
        ("jo%@example.org", "joe@example.org", False),
        ("@example.org", "anybody@example.org", True),
        ("@example.org", "anybody@sub.example.org", False),
        ("@bücher.example", "jo@xn--bcher-kva.example", True),
        ("@xn--bcher-kva.example", "jo@BÜCHER.example", True),
        ("@[192.0.2.1]", "jo@[192.0.2.1]", True),
        ("*@*.example.org", "jo@sub.example.org", True),
        ("*@*.example.org", "jo@example.org", False),
        ("@*", "jo@example.org", True),
        ("@*", "<>", False),
        ("jo*@example.org", "jo+list@example.org", True),
        ("jo*@example.org", "list+jo@example.org", False),
        ("*+jo@example.org", "list+jo@example.org", True),
        ("*x@example.org", '"ax@y"@example.org', False),  # an @ that is part of the local part
        ("*@y*@example.org", '"ax@y"@example.org', True),
        ('"a@b"@example.org', '"a@b"@example.org', True),
        ("b?@example.org", "bo@example.org", False),
        ("<>", "<>", True),
        ("<>", "jo@example.org", False),
        ("jo@example.org", "<>", False),
        ("postmaster", "Postmaster", True),
        ("Postmaster", "postmaster@example.org", False),
        ("postmaster@example.org", "postmaster", False),
        ("post*@*", "postmaster", True),
    ],
)
def test_what_fits(pattern: str, text: str, fits: bool) -> None:
    found = parse_pattern(pattern)
    assert found.matches(address(text)) is fits
    assert by_sql(found, address(text)) is fits


@pytest.mark.parametrize(
    "text", ["", "jo", "example.org", "jo@", "jo@exa mple", "a b@example.org", "@" + "x" * 400, "@"]
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be an address|is no |more than"):
        parse_pattern(text)


@pytest.mark.parametrize("text", ["", "jo@example.org", "exa mple", "*@example.org", "x..y"])
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(ValueError, match="is no domain"):
        parse_domain_pattern(text)


LOCALS = st.sampled_from(["jo", "JO", "joe", "a+b", "100%", "x_y", '"a@b"', '"x\\\\y"', "é", "*"])
DOMAINS = st.sampled_from(
    ["example.org", "sub.example.org", "xn--bcher-kva.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"]
)
ADDRESSES = st.one_of(
    st.none(),
    st.builds(lambda local, domain: parse_address(f"{local}@{domain}".encode()), LOCALS, DOMAINS),
    st.just(parse_address(b"postmaster")),
)
PIECES = st.text(alphabet='jJoeE*@%_\\"+.ab', min_size=1, max_size=4)
PATTERNS = st.one_of(
    st.just(AddressPattern(null=True)),
    st.builds(
        AddressPattern, st.none() | LOCALS | PIECES, st.none() | DOMAINS | st.sampled_from(["*.example.org", "*"])
    ),
)


@given(PATTERNS, ADDRESSES)
def test_sql_says_what_the_pattern_says(pattern: AddressPattern, one: Address | None) -> None:
    assert by_sql(pattern, one) is pattern.matches(one)


@given(PATTERNS)
def test_what_is_shown_is_read_as_the_same(pattern: AddressPattern) -> None:
    try:
        again = parse_pattern(str(pattern))
    except ValueError:
        return  # of pieces that no operator could have typed
    assert parse_pattern(str(again)) == again


def by_sql(pattern: AddressPattern, one: Address | None) -> bool:
    sql, values = pattern.condition("a", "d")
    with closing(sqlite3.connect(":memory:")) as connection:
        row = (None, None) if one is None else (one.text, one.domain)
        found = connection.execute(f"SELECT 1 FROM (SELECT ? AS a, ? AS d) WHERE {sql}", (*row, *values))
        return found.fetchone() is not None
