"""[[destination]]: what is taken, what it becomes, and what is said of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from relay.config import ConfigError, load
from relay.policy.limits import Limit, LimitEntry
from relay.settings import Settings

GOOD: dict[str, Any] = {"destinations": ["example.org"], "at_once": 2}


def take(**changes: object) -> LimitEntry:
    given = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (one,) = Settings.model_validate({"destination": [given]}).destination
    return one.value()


def test_a_whole_one() -> None:
    assert take(
        destinations=["Bücher.Example", ".Example.org", "route:smart-host", "*"],
        messages_per_minute=30,
        recipients_per_message=1_000_000,
    ) == LimitEntry(("xn--bcher-kva.example", ".example.org", "route:smart-host", "*"), 2, 30, 1_000_000)


@pytest.mark.parametrize("key", ["at_once", "messages_per_minute", "recipients_per_message"])
@pytest.mark.parametrize("empty", ["", None])
def test_one_limit_is_enough(key: str, empty: str | None) -> None:
    others = dict.fromkeys(("at_once", "messages_per_minute", "recipients_per_message"), empty)
    found = take(**{**others, key: 1})
    assert sorted((found.at_once or 0, found.per_minute or 0, found.recipients or 0)) == [0, 0, 1]


def test_the_settings_give_the_limits() -> None:
    settings = Settings.model_validate(
        {
            "delivery": {"concurrency_per_destination": 9},
            "destination": [GOOD, {"destinations": ["*"], "messages_per_minute": 60}],
        }
    )
    assert settings.limits.of("example.org") == Limit(2, 60)
    assert settings.limits.of("other.example") == Limit(9, 60)
    assert Settings().limits.of("example.org") == Limit(20)


COUNT = "must be a whole number from 1 to 1000000"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"destinations": []}, "destination[0]: needs destinations: whom it is for"),
        ({"destinations": None}, "destination[0].destinations: is missing"),
        (
            {"destinations": ["a b"]},
            "destination[0].destinations[0]: 'a b' is not a host name such as mail.example.org (got \"a b\")",
        ),
        (
            {"destinations": [7]},
            "destination[0].destinations[0]: must be text such as example.org or .example.org (got 7)",
        ),
        *(
            (
                {"destinations": ["example.org", name]},
                "destination[0].destinations[1]: must be a name of lower-case letters, digits and hyphens,"
                f' such as smart-host (got "{name}")',
            )
            for name in ("route:", "route:Smart", "route:*", "route:a b")
        ),
        ({"at_once": 0}, f"destination[0].at_once: {COUNT} (got 0)"),
        ({"at_once": 1_000_001}, f"destination[0].at_once: {COUNT} (got 1000001)"),
        ({"at_once": True}, f"destination[0].at_once: {COUNT} (got true)"),
        ({"messages_per_minute": "10"}, f'destination[0].messages_per_minute: {COUNT} (got "10")'),
        ({"recipients_per_message": 1.5}, f"destination[0].recipients_per_message: {COUNT} (got 1.5)"),
        (
            {"at_once": None},
            "destination[0]: needs at_once, messages_per_minute or recipients_per_message: what is limited",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    given = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    file = tmp_path / "relay.toml"
    file.write_text("[[destination]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in given.items()))
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert caught.value.problems == (f"{file}: {fault}",)


def test_nothing_unknown() -> None:
    with pytest.raises(ValidationError):
        take(rate=5)


@pytest.mark.parametrize(
    ("more", "names", "unknown"),
    [
        ("", "route:smart", "smart"),
        ('[[route]]\nname = "smart"\nrecipient_domains = ["*"]\nhosts = ["a.example"]', "route:smart", None),
        ("", "route:next-hop", "next-hop"),
        ('[delivery]\nnext_hop = "a.example:25"', "route:next-hop", None),
        ('[delivery]\nfallback = "a.example:25"', "route:fallback", None),
        ('[delivery]\nnext_hop = "a.example:25"', "route:fallback", "fallback"),
    ],
)
def test_the_route_must_be_there(more: str, names: str, unknown: str | None, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(f'{more}\n[[destination]]\ndestinations = ["example.org", "{names}"]\nat_once = 1\n')
    if unknown is None:
        load(file, {})
        return
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert caught.value.problems == (f"{file}: destination: there is no [[route]] with the name {unknown}",)
