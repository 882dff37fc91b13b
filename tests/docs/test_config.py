"""docs/config.md is what the code says, and what any page says of settings is so.

`python tests/docs/test_config.py` writes the tables of docs/config.md anew.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ValidationError

from relay.cli import relay
from relay.config import ConfigError, Reference, load, load_without_files, reference, table_reference
from relay.queue.database import FILE_NAME
from relay.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "config.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DEPLOYED = [ROOT / "Dockerfile", *sorted((ROOT / "deploy").iterdir())]
GENERATED_FROM = "\nThis part is made from the code.\n"
BESIDES = {"RELAY_STATE", "RELAY_CONFIG"}
EXAMPLES = {
    "client": "[clients](clients.md)",
    "destination": "[pace](pace.md)",
    "dkim_key": "[dkim](dkim.md)",
    "listener": "[listeners](listeners.md)",
    "override": "[tls-policy](tls-policy.md#overrides)",
    "route": "[routes](routes.md)",
    "source": "[sources](sources.md)",
}
WRONG_ON_PURPOSE = "mta_sts.prot"  # among the mistakes that docs/config.md shows


def wanted_tables() -> str:
    """All settings, as the page shall show them."""
    text = ""
    for section, entries in groupby(reference(), lambda entry: entry.section):
        about = _section(section).__doc__ if section else "In front of the first section."
        text += f"\n### {f'[{section}]' if section else 'hostname'}\n\n{about}\n\n"
        text += "| setting | allowed | default | what it is |\n|---|---|---|---|\n"
        text += "".join(map(_row, entries))
    for section, entries in groupby(table_reference(), lambda entry: entry.section):
        about = f"{_table(section).__doc__} {EXAMPLES[section]} has examples."
        text += f"\n### [[{section}]]\n\n{about}\n\n| setting | allowed | default | what it is |\n|---|---|---|---|\n"
        text += "".join(map(_table_row, entries))
    return text


def _table(name: str) -> type[BaseModel]:
    kind = get_args(Settings.model_fields[name].annotation)[0]
    assert isinstance(kind, type) and issubclass(kind, BaseModel)
    return kind


def _table_row(entry: Reference) -> str:
    default = f"`{entry.default}`" if entry.default else "must be given"
    return f"| `{entry.key}` | {entry.type} | {default} | {entry.description} |\n"


def _row(entry: Reference) -> str:
    cells = [f"`{entry.name}`", _allowed(entry), f"`{entry.default}`", entry.description]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _allowed(entry: Reference) -> str:
    """The type, the limits, and whether it may be empty."""
    limits = {}
    for limit in _section(entry.section).model_fields[entry.key].metadata:
        for name in ("ge", "le", "min_length"):
            if hasattr(limit, name):
                limits[name] = getattr(limit, name)
    text = entry.type
    if "ge" in limits and text != "port":
        text += f", {limits['ge']} to {limits['le']}"
    if "min_length" in limits:
        text += ", not empty"
    return f"{text}, or empty" if _is_valid(entry, "") and not text.endswith("or empty") else text


def _section(name: str) -> type[BaseModel]:
    section = Settings.model_fields[name].annotation if name else Settings
    assert isinstance(section, type) and issubclass(section, BaseModel)
    return section


def _is_valid(entry: Reference, value: object) -> bool:
    try:
        Settings.model_validate({entry.section: {entry.key: value}} if entry.section else {entry.key: value})
    except ValidationError:
        return False
    return True


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_shows_every_setting_as_it_is() -> None:
    _, generated_from, tables = PAGE.read_text().partition(GENERATED_FROM)
    assert generated_from
    assert tables.splitlines() == wanted_tables().splitlines(), "python tests/docs/test_config.py writes it anew"


def test_the_tables_leave_no_setting_out() -> None:
    """Against a mistake in this file: the names come from the defaults here, not from `reference`."""
    defaults: dict[str, Any] = Settings().model_dump()
    sections = defaults.keys() - {"hostname", *EXAMPLES}
    names = {"hostname"} | {f"{section}.{key}" for section in sections for key in defaults[section]}
    tables = PAGE.read_text().partition(GENERATED_FROM)[2].partition("### [[")[0]
    shown = re.findall(r"^\| `([a-z0-9_.]+)` \|", tables, re.MULTILINE)
    assert len(shown) == len(names) and set(shown) == names


def test_every_way_of_writing_a_value_is_explained_and_its_examples_are_right() -> None:
    ways = dict(re.findall(r"^\| ([A-Za-z][^|`]*) \| (`[^|]*`) \|", PAGE.read_text(), re.MULTILINE))
    for entry in reference():
        way = entry.type.removeprefix("list of ")
        if way.startswith("whole number"):
            way = "whole number"
        if way not in ways and ", " in way:  # the type lists its values
            assert all(_is_valid(entry, value) for value in way.split(", "))
            continue
        for example in re.findall(r"`([^`]+)`", ways[way]):
            value = tomllib.loads(f"x = {example}")["x"]
            given = [value] if entry.type.startswith("list of ") else value
            assert _is_valid(entry, given), f"{entry.name} = {example}"


@pytest.mark.parametrize(
    ("entry", "value", "valid"),
    [
        ("retry.expire", "3660d", True),
        ("retry.expire", "3661d", False),
        ("retry.expire", "0s", False),
        ("submission.max_message_size", "1k", True),
        ("submission.max_message_size", 1023, False),
        ("submission.max_message_size", "100G", True),
        ("submission.max_message_size", "101G", False),
        ("delivery.port", 0, False),
        ("delivery.port", 65536, False),
    ],
)
def test_the_limits_that_the_page_names_are_those_of_the_code(entry: str, value: object, valid: bool) -> None:
    assert _is_valid(next(one for one in reference() if one.name == entry), value) is valid


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_settings_file_on_a_page_can_be_used(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        if "prot = " in text:  # the one with the mistakes
            continue
        (tmp_path / "relay.toml").write_text(text)
        assert load_without_files(tmp_path / "relay.toml", {}) != Settings()


def test_the_mistakes_are_told_as_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = [text for text in blocks(PAGE, "toml") if "prot = " in text]
    (output,) = blocks(PAGE, "text")
    Path("relay.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("relay.toml"), {})
    assert output.splitlines() == list(caught.value.problems)
    for command in (["config", "check", "relay.toml"], ["run", "--config", "relay.toml"]):
        with pytest.raises(ConfigError):  # relay.cli.main makes this exit code 2, see test_deploy
            CliRunner().invoke(relay, command, catch_exceptions=False)


def test_the_environment_works_as_the_page_shows() -> None:
    (text,) = blocks(PAGE, "sh")
    environ = dict(line.split("=", 1) for line in shlex.split(text))
    assert len(environ) == len(text.splitlines())
    for variable, value in environ.items():
        assert load(None, {variable: value}) != Settings(), variable
    settings = load(None, environ)
    assert [len(settings.submission.listen), len(settings.submission.trusted_networks)] == [2, 2]
    assert settings.retry.delay_notice == ()


def test_the_printed_example_can_be_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("RELAY_")]:
        monkeypatch.delenv(variable)
    printed = CliRunner().invoke(relay, ["config", "example"]).output
    file = tmp_path / "relay.toml"
    file.write_text(printed)
    assert load(file, {}) == Settings()
    check = CliRunner().invoke(relay, ["config", "check", str(file)])
    assert (check.exit_code, check.output) == (0, f"{file}: no mistakes found\n")
    file.write_text(re.sub(r"^#(?! )", "", printed, flags=re.MULTILINE))
    assert tomllib.loads(file.read_text()) | {name: [] for name in EXAMPLES} == _as_written(Settings())
    assert load(file, {}) == Settings()


def _as_written(settings: Settings) -> dict[str, Any]:
    written: dict[str, Any] = settings.model_dump(mode="json")
    return written


def named_settings(text: str) -> Iterator[str]:
    """`section.name` inside backticks and code blocks; file names are none."""
    sections = "|".join(sorted({entry.section for entry in reference()} - {""}))
    for code in re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL):
        for found in re.finditer(rf"(?<![\w./-])({sections})\.([A-Za-z_]\w*)(?![\w./(])", code):
            if found[0] != FILE_NAME and not found[0].endswith((".py", ".md", ".sqlite3", ".toml", ".service")):
                yield found[0]


def test_named_settings_are_found() -> None:
    """The search itself, lest it find nothing and all be well."""
    text = "`a.b` `dns.wrong` dns.prose `relay/tls.py` `tls.py` `relay.queue.store` ` queue.path`\n```\nretry.x\n```"
    assert list(named_settings(text)) == ["dns.wrong", "queue.path", "retry.x"]
    assert sum(len(list(named_settings(page.read_text()))) for page in PAGES) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = {entry.name for entry in reference()} | ({WRONG_ON_PURPOSE} if page == PAGE else set())
    assert [name for name in named_settings(page.read_text()) if name not in known] == []


@pytest.mark.parametrize("page", [*PAGES, *DEPLOYED], ids=lambda page: page.name)
def test_every_variable_that_a_page_names_exists(page: Path) -> None:
    known = {entry.variable for entry in reference()} | BESIDES
    named = re.findall(r"\bRELAY_[A-Za-z]\w*", page.read_text())
    assert [name for name in named if name not in known] == []


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(GENERATED_FROM)[0] + GENERATED_FROM + wanted_tables())
