"""[tlsrpt]: what is taken, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import relay
from relay.config import ConfigError, load_without_files
from relay.settings import Settings


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "relay.toml"
    file.write_text(f"[tlsrpt]\n{text}")
    return load_without_files(file, {})


def test_who_reports(tmp_path: Path) -> None:
    found = read(tmp_path, 'organization = " Bücher & Co. "\ncontact = "tls@Example.org"').tlsrpt
    assert (found.organization, str(found.contact)) == ("Bücher & Co.", "tls@Example.org")


def test_a_contact_alone_is_no_mistake(tmp_path: Path) -> None:
    """Reports are switched off with one setting."""
    assert read(tmp_path, 'contact = "tls@example.org"').tlsrpt.organization == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('organization = "a"', "tlsrpt.organization: needs tlsrpt.contact beside it"),
        ('organization = "a\\nb"\ncontact = "a@example.org"', "tlsrpt.organization: must be one line of text"),
        (f'organization = "{"a" * 101}"\ncontact = "a@example.org"', "tlsrpt.organization: must have at most 100"),
        ('contact = "nobody"', "tlsrpt.contact: "),
        ('spread = "3d"', 'tlsrpt.spread: must be at most 1d: the next day\'s reports are due by then (got "3d")'),
    ],
)
def test_mistakes(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]


ON = 'organization = "a"\ncontact = "tls@mail.s.test"\n'
SIGNED = '[[dkim_key]]\ndomain = "s.test"\nselector = "k"\nkey_file = "/k.pem"\n'


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ('contact = "tls@s.test"', None),  # no reports
        (ON, "mail.s.test"),
        (f"{ON}{SIGNED}", "mail.s.test"),
        (f"{ON}{SIGNED}subdomains = true", None),
        (f'{ON}sender = "r@S.test"\n{SIGNED}', None),
        (f'{ON}sender = "r@notes.test"\n{SIGNED}subdomains = true', "notes.test"),
    ],
)
def test_whether_reports_by_mail_are_signed(tmp_path: Path, text: str, domain: str | None) -> None:
    assert read(tmp_path, text).unsigned_reports == domain


def test_config_check_warns_of_reports_that_are_not_signed(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(f"[tlsrpt]\n{ON}")
    found = CliRunner().invoke(relay, ["config", "check", str(tmp_path / "relay.toml")])
    assert found.exit_code == 0
    assert "WARNING: no [[dkim_key]] signs mail from mail.s.test: TLS reports go by HTTPS alone" in found.output
