"""Settings of logins that do not go together, and those that do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.contradictions import contradictions, unusable_files
from relay.settings import Settings

TLS = {"tls_certificate": Path("/c"), "tls_key": Path("/k")}
TOKENS = {"jwks": "https://id.example.org/keys", "issuer": "https://id.example.org/", "audience": "relay"}
OVER_TLS = "needs submission.tls_certificate: passwords are taken over TLS only"

CASES: list[tuple[dict[str, Any], dict[str, Any], list[tuple[str, str]]]] = [
    ({}, {}, []),
    (TLS, TOKENS, []),
    (TLS, {"url": "https://login.example.org/", "url_token_file": Path("/t")}, []),
    ({**TLS, "users_file": Path("/u"), "client_ca_file": Path("/ca")}, {}, []),
    ({"users_file": Path("/u")}, {}, [("submission.users_file", OVER_TLS)]),
    ({}, {"url": "https://login.example.org/"}, [("login.url", OVER_TLS)]),
    ({}, TOKENS, [("login.jwks", OVER_TLS)]),
    ({"users_file": Path("/u"), "plaintext_login_on_loopback": True}, {**TOKENS, "url": "http://[::1]:80/"}, []),
    (
        {"client_ca_file": Path("/ca"), "plaintext_login_on_loopback": True},
        {},
        [("submission.client_ca_file", "needs submission.tls_certificate: there is no TLS")],
    ),
    (TLS, {"url_token_file": Path("/t")}, [("login.url_token_file", "needs login.url, for which it is")]),
    (
        TLS,
        {**TOKENS, "issuer": ""},
        [("login.jwks", "needs login.issuer: tokens for others, or of others, would be good here")],
    ),
    (
        TLS,
        {**TOKENS, "audience": ""},
        [("login.jwks", "needs login.audience: tokens for others, or of others, would be good here")],
    ),
]


@pytest.mark.parametrize(("submission", "login", "expected"), CASES, ids=range(len(CASES)))
def test_what_goes_together(submission: dict[str, Any], login: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    settings = Settings.model_validate({"submission": submission, "login": login})
    assert [(".".join(names[0]), what) for names, what in contradictions(settings)] == expected


def test_a_table_for_certificates_needs_an_authority_for_them() -> None:
    client = {"name": "hosts", "certificates": ["host.example.org"]}
    found = list(contradictions(Settings.model_validate({"submission": TLS, "client": [client]})))
    assert [(names[0], what) for names, what in found] == [
        (
            ("", "client"),
            "the client hosts: certificates need submission.client_ca_file, or nobody is asked for one",
        )
    ]
    submission = {**TLS, "client_ca_file": Path("/ca")}
    assert not list(contradictions(Settings.model_validate({"submission": submission, "client": [client]})))


def test_files_that_cannot_be_read() -> None:
    settings = Settings.model_validate(
        {
            "submission": {"client_ca_file": Path("/none/ca"), "users_file": Path("/none/users")},
            "login": {"url": "https://login.example.org/", "url_token_file": Path("/none/token")},
        }
    )
    assert list(unusable_files(settings)) == [
        (
            (("submission", "users_file"),),
            "/none/users cannot be read: No such file or directory; `relay user add NAME --file /none/users` makes it",
        ),
        ((("submission", "client_ca_file"),), "/none/ca cannot be read: No such file or directory"),
        ((("login", "url_token_file"),), "/none/token cannot be read: No such file or directory"),
    ]


def test_a_token_file_without_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    settings = Settings.model_validate({"login": {"url": "https://login.example.org/", "url_token_file": file}})
    file.write_text("s3cret\n")
    assert list(unusable_files(settings)) == []
    file.write_text("my secret")
    assert list(unusable_files(settings)) == [((("login", "url_token_file"),), f"{file} does not hold a token")]


URLS = [
    ("https://login.example.org/check?x=1", True),
    ("http://127.0.0.1:8080/check", True),
    ("http://localhost/check", True),
    ("http://login.example.org/check", False),
    ("http://127.0.0.1.example.org/", False),
    ("http://127.0.0.1@example.org/", False),
    ("http://localhost@example.org/", False),
    ("https://user:password@login.example.org/", False),
    ("ftp://login.example.org/", False),
    ("login.example.org", False),
]


@pytest.mark.parametrize(("url", "good"), URLS)
def test_passwords_go_over_https_or_stay_on_this_machine(url: str, good: bool) -> None:
    for key in ("url", "jwks"):
        try:
            Settings.model_validate({"login": {key: url}})
            taken = True
        except ValueError:
            taken = False
        assert taken is good
