"""Words of others in a line of ours."""

import pytest

from relay.ndr.text import one_line, sentence


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no such user", "no such user"),
        (" a\tb\r\n\r\nc ", "a b c"),
        ("a\x00\x1b[31m\x7f\x85b", "a [31m b"),
        ("a\u2028b\u2029c\u202ed\u2066e\u200ff", "a b c d e f"),
        ("a\ud800b", "a b"),
        ("Grüße aus 例え", "Grüße aus 例え"),
        ("\r\n", ""),
        ("x" * 1000, "x" * 1000),
        ("\n" + "x" * 1001 + "\n" * 40_000, "x" * 1000 + " [...]"),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_a_sentence_has_no_full_stop() -> None:
    assert sentence("It is over.\r\n") == "It is over"
