"""docs/changelog.md tells of this version, and what to do when upgrading to each one."""

import re
from pathlib import Path

from relay import __version__

PAGE = Path(__file__).parents[2] / "docs" / "changelog.md"


def sections() -> dict[str, list[str]]:
    """The headings below each version, newest version first."""
    found: dict[str, list[str]] = {}
    for level, title in re.findall(r"^(##|###) (.+)$", PAGE.read_text(), re.MULTILINE):
        if level == "##":
            assert title not in found
            found[title] = []
        else:
            found[list(found)[-1]].append(title)
    return found


def test_this_version_is_the_first_of_the_page() -> None:
    assert next(iter(sections())) == __version__


def test_versions_go_down() -> None:
    versions = [tuple(map(int, title.split("."))) for title in sections()]
    assert versions == sorted(versions, reverse=True)


def test_each_version_has_its_sections_in_order() -> None:
    order = ["Added", "Changed", "Fixed", "Security", "Known limits", "What to do when upgrading"]
    for version, titles in sections().items():
        assert titles == [title for title in order if title in titles], version
        assert titles[-1] == order[-1] and len(titles) > 1, version
