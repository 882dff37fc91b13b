"""Links between the pages lead somewhere, and the commands that they mention exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from relay.cli import relay
from relay.lab.command import lab
from relay.posting.arguments import Order, parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_COMMANDS = [*PAGES, *sorted((ROOT / "deploy").iterdir())]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def without_code(text: str) -> str:
    """The text of a page without code blocks and what is in backticks."""
    return re.sub(r"^```.*?^```$|^    .*?$|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)


def code_lines(text: str) -> Iterator[str]:
    """Each line of code: in blocks between fences, in blocks that are indented, in backticks."""
    for block in re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"^    (.*)$", prose, re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


def targets(page: Path) -> list[str]:
    return re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", without_code(page.read_text()))


def anchors(page: Path) -> list[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@each_page
def test_every_link_leads_to_a_file_that_is_there(page: Path) -> None:
    for target in targets(page):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        leads_to = (page.parent / file).resolve() if file else page
        assert leads_to.exists() and leads_to.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(leads_to), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, to_do = {ROOT / "docs" / "adr"}, [ROOT / "README.md"]
    while to_do:
        page = to_do.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        to_do += [(page.parent / target.partition("#")[0]).resolve() for target in targets(page) if "://" not in target]
    assert [page for page in PAGES if page not in reached and page.parent.name != "adr"] == []


# `relay` as a command is followed by a word or an option; as a name (of a user, a unit, an image, a folder) it is not.
_COMMAND = re.compile(r"(?:^|(?<=[\s`\"=])|(?<=bin/))relay((?: +(?!relay\b)[^\s|&;>#`\"]+)+)")
_NAMED_RELAY = re.compile(r"(-u|--user|-g|--name|-o|-t|systemctl \S+( --now)?|docker \w+) relay\b")


def commands(line: str) -> Iterator[list[str]]:
    """The words after `relay` in a line of code, or after each `relay` of a pipe."""
    for found in _COMMAND.finditer(_NAMED_RELAY.sub("", line)):
        words = found[1].split()
        if re.fullmatch(r"--?[a-z-]+|[a-z][a-z-]*", words[0]):
            yield words


def wrong_words(words: list[str]) -> list[str]:
    """Sub-commands and options that the command line of Relay does not have."""
    command: click.Command = relay
    path = list(words)
    while isinstance(command, click.Group) and path and not path[0].startswith("-"):
        word = path.pop(0).rstrip(".,:)")
        if word not in command.commands:
            return [word]
        if word == "sendmail":  # its options are not click's
            return [] if isinstance(parse(path), Order) else path
        command = lab if command.commands[word].name == "lab" else command.commands[word]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    return [word for word in path if word.startswith("-") and len(word) > 1 and word not in options]


def test_commands_are_found_and_mistakes_in_them_too() -> None:
    """The search itself, lest it find nothing and all be well."""
    text = "`relay nosuch` relay prose `runuser -u relay -- /opt/relay/bin/relay queue lost`\n```sh\n"
    text += "systemctl stop relay\nrelay config chk FILE && relay lab --only x --nosuch\n"
    text += "docker exec relay relay queue list --jsn\nuseradd --home-dir /srv/relay --shell /x relay\n```\n"
    text += "    chown -R relay:relay /srv; relay run --config F\n"
    found = [words for line in code_lines(text) for words in commands(line)]
    assert sorted(map(wrong_words, found)) == [[], ["--jsn"], ["--nosuch"], ["chk"], ["lost"], ["nosuch"]]


def test_the_pages_mention_commands() -> None:
    mentioned = [words for page in PAGES for line in code_lines(page.read_text()) for words in commands(line)]
    assert {words[0] for words in mentioned} >= {"run", "config", "queue", "user", "lab"}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_that_a_page_mentions_exists(page: Path) -> None:
    text = page.read_text()
    for line in code_lines(text) if page.suffix == ".md" else re.findall(r"`.+?`|^ExecStart=.*", text, re.MULTILINE):
        for words in commands(line):
            assert wrong_words(words) == [], line
