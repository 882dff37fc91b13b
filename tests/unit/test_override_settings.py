"""[[override]]: what is taken, what it becomes, and what is said of mistakes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from relay.config import ConfigError, load
from relay.policy.observed import TlsVersion
from relay.policy.override import Override, OverrideLevel, OverrideMode
from relay.settings import Settings

GOOD: dict[str, Any] = {
    "domains": ["example.org"],
    "level": "encrypt",
    "reason": "contract 17",
    "owner": "ops@example.com",
    "until": date(2027, 3, 31),
}


def take(**changes: object) -> Override:
    given = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    (one,) = Settings.model_validate({"override": [given]}).override
    return one.value()


def test_a_whole_one() -> None:
    assert take(
        domains=["Bücher.Example", ".example.org"],
        hosts=["MX.example.org", ".hop.example", "192.0.2.5", "[2001:DB8::5]"],
        level="verify",
        mode="replace",
        minimum_tls="1.3",
        names=["gateway.example.org"],
    ) == Override(
        ("xn--bcher-kva.example", ".example.org"),
        ("mx.example.org", ".hop.example", "192.0.2.5", "2001:db8::5"),
        OverrideLevel.VERIFY,
        OverrideMode.REPLACE,
        "contract 17",
        "ops@example.com",
        datetime(2027, 4, 1, tzinfo=UTC),
        TlsVersion.TLS_1_3,
        ("gateway.example.org",),
    )


@pytest.mark.parametrize(
    ("written", "end"),
    [
        (date(2027, 3, 31), datetime(2027, 4, 1, tzinfo=UTC)),
        ("2027-03-31", datetime(2027, 4, 1, tzinfo=UTC)),
        (datetime(2027, 3, 31, 18, tzinfo=UTC), datetime(2027, 3, 31, 18, tzinfo=UTC)),
        ("2027-03-31T20:00:00+02:00", datetime(2027, 3, 31, 18, tzinfo=UTC)),
    ],
)
def test_until(written: object, end: datetime) -> None:
    """A date holds to its end."""
    assert take(until=written).until == end


@pytest.mark.parametrize("written", ["AB" * 32, "sha256:" + "ab" * 32, "SHA256:" + ":".join(["Ab"] * 32)])
def test_fingerprints(written: str) -> None:
    assert take(level="fingerprint", fingerprints=[written]).fingerprints == (b"\xab" * 32,)


FITS = [
    {"level": "none", "mode": "replace"},
    {"level": "opportunistic", "mode": "replace"},
    {"level": "dane", "mode": "replace"},
    {"level": "dane-only"},
    {"level": "opportunistic", "minimum_tls": "1.3"},
    {"level": "dane", "minimum_tls": "1.2"},
    {"level": "encrypt", "mode": "replace", "minimum_tls": "1.0"},
    {"level": "dane", "mode": "replace", "minimum_tls": "1.2"},
    {"domains": None, "hosts": ["mx.example.org"]},
]


@pytest.mark.parametrize("changes", FITS, ids=str)
def test_what_fits_together(changes: dict[str, object]) -> None:
    assert take(**changes)


MISTAKES = [
    ({"domains": None}, ": needs domains or hosts: whom it is for"),
    ({"domains": ["a b"]}, ".domains[0]: 'a b' is not a host name such as mail.example.org (got \"a b\")"),
    ({"domains": ["192.0.2.1"]}, ".domains[0]: must be a host name such as mail.example.org, not an address"),
    ({"domains": [1]}, ".domains[0]: must be text such as example.org or .example.org (got 1)"),
    ({"level": None}, ".level: is missing"),
    ({"level": "dane_only"}, ".level: must be 'none', 'opportunistic', 'encrypt', 'verify', 'dane', 'dane-only'"),
    ({"mode": "add"}, ".mode: must be 'raise' or 'replace' (got \"add\")"),
    ({"reason": None}, ".reason: is missing"),
    ({"owner": " "}, '.owner: must be one line of text, and not empty (got " ")'),
    ({"reason": "two\nlines"}, ".reason: must be one line of text"),
    ({"until": None}, ".until: is missing"),
    ({"until": "for ever"}, ".until: must be a date such as 2027-03-31, the last day on which it is in force"),
    ({"until": "9999-12-31"}, ".until: is too far away"),
    ({"until": "2027-03-31T18:00:00"}, ".until: a time needs its zone: 2027-03-31T18:00:00Z"),
    ({"minimum_tls": 1.2}, '.minimum_tls: must be "1.0", "1.1", "1.2" or "1.3" (got 1.2)'),
    ({"level": "none"}, ": the level none adds nothing to what is published"),
    ({"level": "none", "minimum_tls": "1.3"}, ": the level none adds nothing to what is published"),
    ({"level": "opportunistic"}, ": the level opportunistic adds nothing to what is published"),
    ({"level": "dane"}, ": the level dane adds nothing to what is published"),
    ({"minimum_tls": "1.1"}, ": minimum_tls below 1.2 adds nothing"),
    ({"level": "none", "mode": "replace", "minimum_tls": "1.2"}, ": minimum_tls counts where TLS is asked for"),
    ({"level": "verify", "mode": "replace", "minimum_tls": "1.1"}, ": minimum_tls below 1.2 goes with encrypt and"),
    ({"level": "fingerprint"}, ": the level fingerprint and the list fingerprints need each other"),
    ({"fingerprints": ["ab" * 32]}, ": the level fingerprint and the list fingerprints need each other"),
    ({"level": "fingerprint", "fingerprints": ["ab"]}, ".fingerprints[0]: must be a SHA-256 fingerprint: 64 hex"),
    ({"names": ["a.test"]}, ": names are for the level verify"),
    ({"level": "verify", "names": [".a.test"]}, ": names are whole host names"),
    ({"unknown": 1}, ".unknown: unknown setting; known here: domains, hosts, level"),
]


def in_file(*overrides: dict[str, object]) -> str:
    def written(value: object) -> str:
        return repr(value).replace("'", '"') if not isinstance(value, date) else value.isoformat()

    return "".join(
        "[[override]]\n" + "".join(f"{key} = {written(value)}\n" for key, value in one.items() if value is not None)
        for one in overrides
    )


@pytest.mark.parametrize(("changes", "told"), MISTAKES, ids=[told for _, told in MISTAKES])
def test_mistakes_are_told_with_their_place(changes: dict[str, object], told: str, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(
        in_file({**GOOD, "domains": ["other.example"]}, {**GOOD, **changes}).replace("two\nlines", r"two\nlines")
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}: override[1]{told}")


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"domains": ["EXAMPLE.org"]}, "the domain example.org is there twice: only one could hold"),
        ({"domains": None, "hosts": ["mx.example.net"]}, "the host mx.example.net is there twice: only one could hold"),
    ],
)
def test_two_for_one_destination(second: dict[str, object], told: str, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(in_file({**GOOD, "hosts": ["mx.example.net"]}, {**GOOD, **second}))
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert caught.value.problems == (f"{file}: override: {told}",)
