"""docs/tls-policy.md lists what the code knows: the facts with what follows from them, and the levels of overrides."""

from __future__ import annotations

import re
from pathlib import Path

from relay.policy.override import OverrideLevel
from relay.policy.tls_failure import CONSEQUENCES, TlsFailure

PAGE = (Path(__file__).parents[2] / "docs" / "tls-policy.md").read_text()
NEVER_OPPORTUNISTIC = (TlsFailure.TLSA_MISMATCH, TlsFailure.TLSA_MISSING, TlsFailure.FINGERPRINT)


def rows(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in re.findall(r"^\| `.*$", section, re.M)]


def test_every_fact_with_its_consequence() -> None:
    def without(failure: TlsFailure) -> str:
        if failure in NEVER_OPPORTUNISTIC:
            return "not asked"
        return "clear text" if CONSEQUENCES[failure].clear_text else "the session is used"

    assert rows("How TLS fails") == [
        [failure.value, str(CONSEQUENCES[failure].status), without(failure), CONSEQUENCES[failure].result.value]
        for failure in TlsFailure
    ]


def test_every_level() -> None:
    assert [row[0] for row in rows("Overrides")] == [level.value for level in OverrideLevel]
