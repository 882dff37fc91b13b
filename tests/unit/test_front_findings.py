"""What `relay check` says of who can send mail in: one row for each thing that can be seen."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from relay import front_findings
from relay.finding import Level
from relay.lab.certs import LabCa
from relay.settings import Settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
WARN, FAIL = Level.WARN, Level.FAIL
PROXIED = {"name": "public", "listen": ["192.0.2.1:587"], "proxy_from": ["192.0.2.100/32"]}
TRUSTED = {"listen": ["192.0.2.1:25"], "trusted_networks": ["192.0.2.0/24"]}


def settings(**given: Any) -> Settings:
    return Settings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, []),
        (
            {"submission": {"trusted_networks": ["::/0"]}},
            [("open relay", FAIL, "submission.trusted_networks has ::/0")],
        ),
        (
            {"submission": TRUSTED, "listener": [PROXIED]},
            [
                (
                    "proxies",
                    WARN,
                    "192.0.2.100/32 of the listener public is in the networks of trusted-networks",
                )
            ],
        ),
        ({"submission": {**TRUSTED, "listen": []}, "listener": [PROXIED]}, []),  # it must say for whom, everywhere
        ({"submission": {**TRUSTED, "trusted_networks": ["192.0.2.8/32"]}, "listener": [PROXIED]}, []),
        ({"listener": [{**PROXIED, "proxy_from": ["127.0.0.1/32"]}]}, []),  # this machine is trusted by default
        (
            {
                "submission": {**TRUSTED, "trusted_networks": []},
                "listener": [PROXIED],
                "client": [{"name": "c", "networks": ["192.0.2.0/24"], "listeners": ["public"]}],
            },
            [],
        ),
    ],
)
def test_who_is_let_in_by_address(given: dict[str, Any], found: list[tuple[str, Level, str]]) -> None:
    said = front_findings.exposures(settings(**given))
    assert [(one.subject, one.level) for one in said] == [(subject, level) for subject, level, _ in found]
    assert all(words in one.text for one, (_, _, words) in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"listen": ["127.0.0.1:465"]}, ["127.0.0.1:465 has no TLS from the first octet"]),
        ({"listen_tls": ["127.0.0.1:587", "[::1]:25"]}, ["expect STARTTLS of port 587", "expect STARTTLS of port 25"]),
        ({"listen": ["127.0.0.1:587", "127.0.0.1:25", "127.0.0.1:2525"], "listen_tls": ["127.0.0.1:465"]}, []),
    ],
)
def test_ports_of_another_kind(given: dict[str, Any], words: list[str]) -> None:
    given = {"listen": [], **given}
    said = front_findings.ports(settings(submission=given).listeners)
    assert [one.level for one in said] == [WARN] * len(words)
    assert all(text in one.text for one, text in zip(said, words, strict=True))


@pytest.mark.parametrize(
    ("wanted", "users", "words"),
    [
        (["*", "alice", "token:web"], {"alice"}, []),
        (["*"], set(), []),  # that the file is empty is said elsewhere
        (["alice"], set(), ["the user alice, who is not in the users file"]),
        (["token:wbe"], None, ["the token wbe, and none of that name may send"]),
    ],
)
def test_users_who_are_nowhere(wanted: list[str], users: set[str] | None, words: list[str]) -> None:
    table = {"name": "c", "users": wanted}
    said = front_findings.unknown_users(settings(client=[table]), users, {"web"})
    assert [one.level for one in said] == [WARN] * len(words)
    assert all(text in one.text for one, text in zip(said, words, strict=True))


@pytest.mark.parametrize(
    ("senders", "login", "many"), [((), {}, 1), (("web",), {}, 0), ((), {"url": "http://[::1]"}, 0)]
)
def test_nobody_can_log_in(senders: tuple[str, ...], login: dict[str, str], many: int) -> None:
    said = front_findings.unknown_users(settings(client=[{"name": "c", "users": ["*"]}], login=login), None, senders)
    assert len(said) == many
    assert all("nobody can log in" in one.text for one in said)


@pytest.mark.parametrize(
    ("later", "words"),
    [(timedelta(0), []), (timedelta(days=3640), ["expires on"]), (timedelta(days=5000), ["expired on"])],
)
def test_authorities_of_clients(later: timedelta, words: list[str]) -> None:
    der = ssl.PEM_cert_to_DER_cert(LabCa.make(NOW).pem.decode())
    said = list(front_findings.client_authorities((der,), NOW + later))
    assert [one.level for one in said] == [WARN] * len(words)
    assert all(text in one.text for one, text in zip(said, words, strict=True))
