"""One target under atheris: libFuzzer chooses the inputs by the branches that they reach. Started by `./fuzz --guided`.

usage: guided.py TARGET INPUTS SEED
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any


def main(name: str, inputs: int, seed: int) -> None:
    """Does not return: libFuzzer ends the process, with another code than 0 when something was found."""
    atheris: Any = importlib.import_module("atheris")  # no dependency of the tests: it has no wheels for all machines
    with atheris.instrument_imports(include=["relay"]):
        target = importlib.import_module("targets").TARGETS[name]

    def check(octets: bytes) -> None:
        try:
            target.check(octets)
        except BaseException:
            print(f"{name}: an input went wrong:\n{octets!r}", flush=True)
            raise

    def mutate(octets: bytes, most: int, chance: int) -> bytes:
        changed: bytes = target.mutate(Random(chance), octets) if chance % 2 else atheris.Mutate(octets, most)
        return changed[:most]

    with tempfile.TemporaryDirectory() as folder:
        for number, octets in enumerate(target.seeds):
            (Path(folder) / str(number)).write_bytes(octets)
        options = [f"-runs={inputs}", f"-seed={seed}", "-max_len=4096", "-verbosity=0", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", folder], check, custom_mutator=mutate)
        print(name, flush=True)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
