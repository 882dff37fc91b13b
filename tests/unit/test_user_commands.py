"""`relay user`: who is added, changed, shown and taken out, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import relay
from relay.submission.users_file import read_users

BEFORE_SCRAM = "bob:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$SqlVijFGiPG+935vDSGEsA\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def run(path: Path, *words: str, typed: str = "secret\n") -> Result:
    return CliRunner().invoke(relay, ["user", *words, "--file", str(path)], input=typed)


def test_the_life_of_a_user(path: Path) -> None:
    assert run(path, "add", "alice").output == f"alice is in {path}\n"
    first = path.read_text()
    assert "secret" not in first
    assert run(path, "list").output == "alice: SCRAM-SHA-256 PLAIN LOGIN\n"
    assert run(path, "passwd", "alice", typed="new\n").output == f"alice has a new password in {path}\n"
    assert path.read_text() != first
    assert run(path, "remove", "alice").output == f"alice is no longer in {path}\n"
    assert run(path, "list").output == ""


def test_the_list_says_who_keeps_scram_from_the_others(path: Path) -> None:
    path.write_text(BEFORE_SCRAM)
    assert run(path, "list").output == "bob: PLAIN LOGIN\n"
    run(path, "add", "alice")
    shown = run(path, "list")
    assert shown.stdout == "bob: PLAIN LOGIN\nalice: SCRAM-SHA-256 PLAIN LOGIN\n"
    assert shown.stderr == "SCRAM-SHA-256 is on offer once all have it: `relay user passwd NAME`\n"


MISTAKES = [
    (["add", "bob"], "secret\n", "relay: there is a user bob already: `relay user passwd` gives a new password\n"),
    (["passwd", "alice"], "secret\n", "relay: there is no user alice: `relay user add` makes one\n"),
    (["remove", "alice"], "", "relay: there is no user alice\n"),
    (["add", "a:b"], "secret\n", "relay: 'a:b' cannot be a user name: it needs printable characters, no colon, "),
    (["add", "alice"], "\n", "relay: the password must not be empty\n"),
    (["add", "alice"], "", "relay: the password must not be empty\n"),
]


@pytest.mark.parametrize(("words", "typed", "problem"), MISTAKES)
def test_mistakes(words: list[str], typed: str, problem: str, path: Path) -> None:
    path.write_text(BEFORE_SCRAM)
    done = run(path, *words, typed=typed)
    assert done.exit_code == 2
    assert done.stderr.startswith(problem)
    assert path.read_text() == BEFORE_SCRAM


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    assert run(tmp_path, "list").stderr == f"{tmp_path}: cannot be read: Is a directory\n"
    assert run(tmp_path / "none", "list").stderr == f"{tmp_path / 'none'}: cannot be read: No such file or directory\n"
    gone = tmp_path / "none" / "users"
    assert run(gone, "add", "alice").stderr == f"{gone}: cannot be written: No such file or directory\n"
    (tmp_path / "bad").write_text("x\n")
    assert run(tmp_path / "bad", "list").stderr == f"relay: {tmp_path / 'bad'}, line 1: not of the form name:hash\n"


def test_the_file_of_the_settings(tmp_path: Path, path: Path) -> None:
    settings = tmp_path / "relay.toml"
    settings.write_text(f'[submission]\nusers_file = "{path}"\nplaintext_login_on_loopback = true\n')
    done = CliRunner().invoke(relay, ["user", "add", "alice", "--config", str(settings)], input="secret\n")
    assert done.output == f"alice is in {path}\n"
    assert list(read_users(path)[1]) == ["alice"]
    settings.write_text("")
    done = CliRunner().invoke(relay, ["user", "list", "--config", str(settings)])
    assert done.output == "relay: submission.users_file is not set; name the file with --file\n"
    assert done.exit_code == 2


def test_no_command_takes_a_password_as_an_argument(path: Path) -> None:
    """It would be in the history of the shell, and for all to see in the list of processes."""
    for word in ("add", "passwd"):
        done = run(path, word, "alice", "secret")
        assert done.exit_code == 2
        assert "unexpected extra argument" in done.output
