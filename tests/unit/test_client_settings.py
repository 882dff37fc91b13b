"""[[client]] in the settings: what is read, and what is refused with a hint."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from relay.settings import ClientSettings


def client(**keys: Any) -> ClientSettings:
    return ClientSettings.model_validate({"name": "x", "users": ["*"], **keys})


READ = [
    ("a@B.test", "a@b.test"),
    ('"a"@b.test', "a@b.test"),
    ('"a b"@b.test', "a b@b.test"),
    ("Bücher.test", "xn--bcher-kva.test"),
    ("a@bücher.test", "a@xn--bcher-kva.test"),
    (".B.test", ".b.test"),
    ("*", "*"),
]


@pytest.mark.parametrize(("written", "expected"), READ)
def test_patterns(written: str, expected: str) -> None:
    table = client(senders=[written], header_from=[written], recipients=[written])
    assert (table.senders, table.header_from, table.recipients) == ((expected,),) * 3


def test_patterns_of_the_user() -> None:
    assert client(senders=["<>", "{user}", "{user}@Bücher.test"]).senders == (
        "<>",
        "{user}",
        "{user}@xn--bcher-kva.test",
    )
    assert client(header_from=["{user}", "{user}@b.test"]).header_from == ("{user}", "{user}@b.test")


REFUSED = [
    ("senders", "*@b.test", "all addresses of a domain are b.test"),
    ("recipients", "*@b.test", "all addresses of a domain are b.test"),
    ("senders", "news-{user}@b.test", "where it stands for nothing"),
    ("recipients", "{user}@b.test", "where it stands for nothing"),
    ("senders", "{user}@.b.test", "host name|domain"),
    ("recipients", "<>", "in senders alone"),
    ("header_from", "<>", "in senders alone"),
    ("senders", "a@b@c.test", "is no address"),
    ("senders", "@b.test", "of a domain are example.org"),
    ("senders", "*.b.test", "below a domain are .example.org"),
    ("senders", "{login}@b.test", "the login is {user}"),
    ("recipients", "{name}@b.test", "the login is {user}"),
    ("recipients", "", "host name|domain"),
    ("users", "", "must be the name of a user"),
    ("certificates", " ", "must be a name in a certificate"),
    ("messages_per_minute", 0, "at least 1|must be"),
]


@pytest.mark.parametrize(("key", "value", "words"), REFUSED)
def test_what_is_refused(key: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        client(**{key: value if isinstance(value, int) else [value]})
