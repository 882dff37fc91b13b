"""The command `./fuzz`: gives each parser a great many broken inputs, and stops at the first that it gets wrong.

The same seed, number of inputs and target give the same inputs. What was found is printed as a Python literal, to
become a case of the parser's unit tests.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from target import Target
from targets import TARGETS

_KEPT = 300  # inputs that were accepted, to go on from
_KEEP_SHARE = 0.05
_KEPT_OCTETS = 1000  # or they would grow longer and longer


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that a parser got wrong: the how manieth it was, the octets and what went wrong."""

    number: int
    octets: bytes
    error: Exception


@dataclass(frozen=True, slots=True)
class Done:
    """Every input was dealt with rightly; so many of them were accepted by the parser."""

    accepted: int


def run(target: Target, inputs: int, seed: int) -> Done | Finding:
    """Try `inputs` inputs: first the seeds as they are, then changed ones. `seed` decides what they are."""
    chance = random.Random(f"{seed} {target.name}")
    pool = list(target.seeds)
    accepted = 0
    for number in range(inputs):
        fresh = number < len(target.seeds)
        octets = target.seeds[number] if fresh else target.mutate(chance, chance.choice(pool))
        try:
            good = target.check(octets)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what we look for)
            return Finding(number, octets, error)
        accepted += good
        if good and not fresh and len(octets) <= _KEPT_OCTETS and chance.random() < _KEEP_SHARE:
            if len(pool) < len(target.seeds) + _KEPT:
                pool.append(octets)
            else:
                pool[chance.randrange(len(target.seeds), len(pool))] = octets
    return Done(accepted)


def _report(target: Target, inputs: int, seed: int) -> bool:
    """Run one target and say how it went. Returns whether all was well."""
    began = time.perf_counter()
    result = run(target, inputs, seed)
    seconds = time.perf_counter() - began
    if isinstance(result, Done):
        share = result.accepted / inputs
        rate = inputs / seconds
        print(f"{target.name:14} {inputs:>9} inputs, {share:4.0%} accepted, {rate:>8.0f} a second: nothing", flush=True)
        return True
    traceback.print_exception(result.error)
    print(f"{target.name}: input {result.number} of seed {seed} went wrong:\n{result.octets!r}", flush=True)
    return False


def _guided(target: Target, inputs: int, seed: int) -> bool:
    """The same under atheris, in a process of its own, since it ends the process that it runs in."""
    command = [sys.executable, str(Path(__file__).with_name("guided.py")), target.name, str(inputs), str(seed)]
    return subprocess.run(command, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Throw broken input at Relay's parsers.")
    parser.add_argument("target", nargs="*", help=f"which parsers: {', '.join(TARGETS)}; none named: all")
    parser.add_argument("--inputs", type=int, metavar="N", help="how many for each; default: what the target says")
    parser.add_argument("--seed", type=int, metavar="S", help="for the same inputs again; default: a new one")
    parser.add_argument("--guided", action="store_true", help="let atheris, which must be installed, choose the inputs")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.target if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1, 2**31)
    print(f"seed {seed}", flush=True)
    report = _guided if given.guided else _report
    chosen = [TARGETS[name] for name in given.target] or list(TARGETS.values())
    results = [report(target, given.inputs or target.inputs, seed) for target in chosen]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
