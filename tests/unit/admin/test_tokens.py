"""The tokens file: what is written, read and refused, and which text is a token."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.admin.tokens import Scope, Tokens, add_token
from relay.cli import relay
from relay.config import ConfigError, load

HASH = hashlib.sha256(b"relay_x").hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_token_is_found_by_its_text_alone(path: Path) -> None:
    reader, writer = add_token(path, "grafana", Scope.READ), add_token(path, "ops", Scope.WRITE)
    assert reader not in path.read_text() and len(reader) > 40
    assert path.stat().st_mode & 0o777 == 0o600
    tokens = Tokens.load(path)
    found = tokens.find(reader)
    assert found is not None and (found.name, found.scope) == ("grafana", Scope.READ)
    found = tokens.find(writer)
    assert found is not None and (found.name, found.scope) == ("ops", Scope.WRITE)
    for text in ("", reader[:-1], reader + "x", "grafana", hashlib.sha256(reader.encode()).hexdigest(), "\udcff"):
        assert tokens.find(text) is None


def test_a_new_token_takes_the_place_of_the_old_one(path: Path) -> None:
    path.write_text("# who may use the API\n")
    old = add_token(path, "ops", Scope.WRITE)
    tokens = Tokens.load(path)
    new = add_token(path, "ops", Scope.READ)
    assert tokens.find(old) is not None
    assert tokens.refresh() is None
    found = tokens.find(new)
    assert tokens.find(old) is None and found is not None and found.scope is Scope.READ
    assert path.read_text().startswith("# who may use the API\n") and path.read_text().count("\n") == 2


def test_a_mistake_in_a_changed_file_is_told_once_and_the_old_one_stays(path: Path) -> None:
    text = add_token(path, "ops", Scope.WRITE)
    tokens = Tokens.load(path)
    path.write_text("nonsense\n")
    assert tokens.refresh() == f"{path}, line 1: not of the form name:scope:hash, as `relay admin token` writes it"
    assert tokens.refresh() is None
    assert tokens.find(text) is not None


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("ops", "line 1: not of the form"),
        (f"ops:write:{HASH[:-1]}", "line 1: not of the form"),
        (f"ops:write:{HASH.upper()}", "line 1: not of the form"),
        (f"a b:write:{HASH}", "line 1: not of the form"),
        (f"ops:admin:{HASH}", "the scope must be read, write or send, not 'admin'"),
        (f"ops:read:{HASH}\n\nops:write:{HASH}", "line 3: the token 'ops' is there twice"),
    ],
)
def test_what_is_no_tokens_file(path: Path, lines: str, problem: str) -> None:
    path.write_text(lines)
    with pytest.raises(ValueError, match=problem):
        Tokens.load(path)
    with pytest.raises(ValueError, match=problem):
        add_token(path, "new", Scope.READ)
    assert path.read_text() == lines


@pytest.mark.parametrize("name", ["", "a:b", "a b", "-x", "x" * 65, "é"])
def test_names_that_cannot_be(path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a token"):
        add_token(path, name, Scope.READ)
    assert not path.exists()


def test_the_command_prints_a_token_and_keeps_its_hash(path: Path) -> None:
    made = CliRunner().invoke(relay, ["admin", "token", "grafana", "--scope", "read", "--file", str(path)])
    assert made.exit_code == 0
    found = Tokens.load(path).find(made.output.strip())
    assert found is not None and (found.name, found.scope) == ("grafana", Scope.READ)
    wrong = CliRunner().invoke(relay, ["admin", "token", "a b", "--file", str(path)])
    assert (wrong.exit_code, wrong.output[:40]) == (2, "relay: 'a b' cannot be the name of a tok")
    nowhere = CliRunner().invoke(relay, ["admin", "token", "ops"])
    assert nowhere.output == "relay: admin.tokens_file is not set; name the file with --file\n"


def test_a_mistake_in_the_file_is_a_mistake_in_the_settings(path: Path, tmp_path: Path) -> None:
    path.write_text("nonsense\n")
    settings = tmp_path / "relay.toml"
    settings.write_text(f'[admin]\ntokens_file = "{path}"\n')
    found = CliRunner().invoke(relay, ["config", "check", str(settings)])
    assert (found.exit_code, "line 1: not of the form" in found.output) == (2, True)
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load(settings, {})
