"""docs/dkim.md lists the fields that are signed: compared with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.signing.fields import OVERSIGNED, WHEN_THERE

PAGE = (Path(__file__).parents[2] / "docs" / "dkim.md").read_text()


@pytest.mark.parametrize(
    ("beginning", "names"),
    [("Signed once more than they are there, [^:]*", OVERSIGNED), ("Signed when there, [^:]*", WHEN_THERE)],
    ids=["once more", "when there"],
)
def test_the_page_lists_the_fields_that_are_signed(beginning: str, names: tuple[bytes, ...]) -> None:
    found = re.search(rf"^{beginning}: ([^.]*)\.$", PAGE, re.MULTILINE)
    assert found is not None
    assert re.split(r",\s+", found[1].lower()) == [name.decode() for name in names]
