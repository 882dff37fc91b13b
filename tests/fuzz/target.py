"""What is fuzzed: a parser, what must hold for whatever it is given, and the inputs to start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Mutate = Callable[[Random, bytes], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    `check` gives it some octets, raises when something is wrong with what comes back, and otherwise says whether they
    were accepted. `seeds` are good and odd inputs; `mutate` makes another input of one. `inputs`: how many it gets
    unless told otherwise, a million where that takes some minutes.
    """

    name: str
    check: Callable[[bytes], bool]
    seeds: tuple[bytes, ...]
    mutate: Mutate
    inputs: int = 1_000_000
