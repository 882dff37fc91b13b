"""The addresses of a header field: RFC 5322 and what old programs write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.listed import listed


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a@example.org", ["a@example.org"]),
        (" a@example.org,\r\n\tb@example.org ,, c@example.org", ["a@example.org", "b@example.org", "c@example.org"]),
        ('A B <a@example.org>, "x, y" <b@example.org>', ["a@example.org", "b@example.org"]),
        ('"<not@example.org>" <a@example.org>', ["a@example.org"]),
        ("root (Cron Daemon)", ["root"]),
        ("a@example.org (one, (two) \\) three), b@example.org", ["a@example.org", "b@example.org"]),
        ("team: a@example.org, b@example.org;, c@example.org", ["a@example.org", "b@example.org", "c@example.org"]),
        ("undisclosed-recipients:;", []),
        ("<@one.example,@two.example:a@example.org>", ["a@example.org"]),
        ("a @ example . org", ["a@example.org"]),
        ('"a b"@example.org', ['"a b"@example.org']),
        ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
        ("=?utf-8?q?J=C3=B6rg?= <j@example.org>", ["j@example.org"]),
        ("Jörg <jörg@example.org>", ["jörg@example.org"]),
        ("John Doe", ["John Doe"]),  # no address, and nobody is told mail that is not for him
        ("John Doe, a@example.org", ["John Doe", "a@example.org"]),
        ("a@example.org <b@example.org>", ["b@example.org"]),
        ("<a@example.org> trailing", ["a@example.org"]),
        ("<a@example.org", ["a@example.org"]),
        ('"open <a@example.org>', ['"open <a@example.org>']),
        ("(open <a@example.org>", []),
        ("<>", []),
        ("", []),
    ],
)
def test_what_is_found(value: str, found: list[str]) -> None:
    assert [one.octets.decode() for one in listed(value.encode())] == found


def test_where_a_bare_name_ends() -> None:
    value = b"root (Cron Daemon), <www-data>, A <a@example.org>"
    bare = [one for one in listed(value) if one.is_bare]
    assert [value[: one.end] for one in bare] == [b"root", b"root (Cron Daemon), <www-data"]


@given(st.text(alphabet='ab@.,:;<>()[]"\\ \t\r\n', max_size=40))
def test_anything_ends(text: str) -> None:
    value = text.encode()
    for one in listed(value):
        assert 0 < one.end <= len(value)
        assert one.octets
