"""[[dkim_key]]: what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import ConfigError, load

PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvSECRETSECRET\n-----END PRIVATE KEY-----\n"


def problems(tmp_path: Path, selector: str = "s1", key_file: str = "/nonexistent/k.pem") -> tuple[str, ...]:
    file = tmp_path / "relay.toml"
    text = f'[[dkim_key]]\ndomain = "example.org"\nselector = "{selector}"\nkey_file = """{key_file}"""\n'
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    return tuple(one.removeprefix(f"{file}: ") for one in caught.value.problems)


@pytest.mark.parametrize("text", [PEM, PEM.replace("\n", " ")], ids=["lines", "line"])
def test_a_key_in_place_of_a_file_is_not_printed(text: str, tmp_path: Path) -> None:
    assert problems(tmp_path, key_file=text) == (
        "dkim_key[0].key_file: must name a file: a key itself does not belong into the settings (got a key)",
    )


@pytest.mark.parametrize("selector", ["a b", "", "x" * 64, "s1._domainkey.example.org", "a..b"])
def test_selectors(selector: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, selector=selector)
    said = 'must be a selector such as relay1, without the "._domainkey." of its record (got "'
    assert found.startswith(f"dkim_key[0].selector: {said}")


def test_a_missing_file_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    assert problems(tmp_path) == (
        "dkim_key: the key s1 of example.org: key_file: /nonexistent/k.pem cannot be read: No such file or directory; "
        "`relay dkim keygen --domain example.org --selector s1 --out /nonexistent/k.pem` makes it",
    )
