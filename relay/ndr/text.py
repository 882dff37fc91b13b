"""Words of others, made fit to stand in a letter or a header field."""

from __future__ import annotations

import re

# Control characters, line ends, those that turn the direction of text, and lone surrogates.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
# Characters. A reply may have 32 KiB, and a message a thousand recipients.
_LONGEST = 1000


def one_line(text: str) -> str:
    """`text` without what does not belong in a line of text: each run of it is a blank. What is very long is cut."""
    line = _UNFIT.sub(" ", text).strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} [...]"


def sentence(text: str) -> str:
    """The same without a full stop, for a place that sets its own."""
    return one_line(text).rstrip(".")
