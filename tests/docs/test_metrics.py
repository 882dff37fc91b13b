"""docs/metrics.md lists every metric, its type, its labels and what it means: compared with the code.

`python tests/docs/test_metrics.py` writes the table anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from relay.admin.metrics import Metrics
from relay.events import DkimKeyMatches

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HEADING = "| metric | type | labels | meaning |\n|---|---|---|---|\n"


def families() -> list[Metric]:
    metrics = Metrics()
    # its labels are those of the settings: nothing shows them before a key was compared
    metrics.counting(lambda _: None)(DkimKeyMatches("example.org", "relay1", None))
    return sorted(text_string_to_metric_families(metrics.text().decode()), key=lambda family: family.name)


def shown_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def row(family: Metric) -> str:
    labels: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            labels.setdefault(label, {})[value] = None
    text = "; ".join(f"`{label}`: {', '.join(f'`{value}`' for value in values)}" for label, values in labels.items())
    return f"| `{shown_name(family)}` | {family.type} | {text or 'none'} | {family.documentation} |\n"


def wanted() -> str:
    return "".join(map(row, families()))


def test_the_page_lists_every_metric_as_it_is() -> None:
    _, heading, table = PAGE.read_text().partition(HEADING)
    assert heading
    assert table.splitlines() == wanted().splitlines(), "python tests/docs/test_metrics.py writes it anew"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    known = set(map(shown_name, families()))
    named = set(re.findall(r"\brelay_[a-z_]+\b", page.read_text()))
    assert named <= known
    assert page != PAGE or named == known


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text().partition(HEADING)[0] + HEADING + wanted())
