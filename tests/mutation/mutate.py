"""The command `./mutate`: changes one condition of `relay/policy` after another, and says which no test notices.

Each mutant gets a process of its own, forked from this one, which has the libraries loaded already. There the mutant is
imported in place of its module, and the unit tests of the folder run: those of the module first, then all others.
Properties (Hypothesis) are left out, for what they find is a matter of chance: a mutant counts as caught when a case
that stands in a test catches it, so the score is the same each time.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis.strategies  # noqa: F401
import OpenSSL.crypto  # noqa: F401  (loaded here, once, as are all of these that the tests need)
import pytest
import pytest_asyncio.plugin  # noqa: F401
from mutants import Mutant, mutants

import relay.lab.certs
import relay.mail.message  # noqa: F401

ROOT = Path(__file__).parents[2]
_MODULES = ROOT / "relay" / "policy"
_TESTS = ROOT / "tests" / "unit" / "policy"
_OPTIONS = (
    *("-x", "-q", "-m", "not hypothesis", "--assert=plain"),
    *(f"-pno:{plugin}" for plugin in ("randomly", "cacheprovider", "unraisableexception", "threadexception")),
)
_CPU_SECONDS, _MEMORY = 30, 2 << 30  # the tests take 4 seconds; a mutant that needs more than this goes round for ever
_NOT_RUN = 100
_TESTED_BY = {"requirement": "verdict"}  # where it is not the file of the module's own name


class _InPlaceOf(importlib.abc.MetaPathFinder):
    """Finds the module `name` before all others do, and lets it be `code`."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self._name = name
        self._loader = _Loader(name, str(path))
        self._loader.code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._loader.path, loader=self._loader)

    def was_used(self) -> bool:
        """Whether the module that the tests have had is this one."""
        module = sys.modules.get(self._name)
        return module is not None and module.__spec__ is not None and module.__spec__.loader is self._loader


class _Loader(SourceFileLoader):
    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


def _passes(path: Path, code: CodeType, tests: Sequence[Path]) -> bool:
    """Whether these tests pass with `code` as the module at `path`. Raises RuntimeError when they did not see it."""
    child = os.fork()
    if child == 0:
        status = _NOT_RUN
        try:
            status = _in_child(path, code, tests)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED, _NOT_RUN):
        raise RuntimeError(f"the tests {[test.name for test in tests]} tell nothing of {path.name}: {status}")
    return status == pytest.ExitCode.OK


def _in_child(path: Path, code: CodeType, tests: Sequence[Path]) -> int:
    name = f"relay.policy.{path.stem}"
    if name in sys.modules:
        return _NOT_RUN
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    finder = _InPlaceOf(name, path, code)
    sys.meta_path.insert(0, finder)
    status = pytest.main([*_OPTIONS, *map(str, tests)])
    if status == pytest.ExitCode.OK and not finder.was_used():
        return _NOT_RUN
    return int(status)


def tried(path: Path, tests: Path) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant of the module at `path`, and whether a test in the folder `tests` has caught it.

    Raises RuntimeError when the tests do not pass with the module as it is.
    """
    source = path.read_text()
    everything = sorted(tests.glob("test_*.py"))
    own = [test for test in everything if test.stem == f"test_{_TESTED_BY.get(path.stem, path.stem)}"]
    stages = [own, everything] if own else [everything]
    if not _passes(path, compile(source, str(path), "exec"), everything):
        raise RuntimeError(f"the tests of {path.name} do not pass as they are")
    for mutant in mutants(source, str(path)):
        yield mutant, not all(_passes(path, mutant.code, stage) for stage in stages)


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 1 when a mutant is left."""
    names = [path.stem for path in sorted(_MODULES.glob("[!_]*.py"))]
    parser = argparse.ArgumentParser(prog="mutate", description="Change relay/policy and see which tests notice.")
    parser.add_argument("module", nargs="*", help=f"which modules: {', '.join(names)}; none named: all")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.module if name not in names]
    if unknown:
        parser.error(f"no such module: {', '.join(unknown)}")
    made = left = 0
    for name in given.module or names:
        path = _MODULES / f"{name}.py"
        count = missed = 0
        for mutant, caught in tried(path, _TESTS):
            count += 1
            if not caught:
                missed += 1
                print(f"  {path.relative_to(ROOT)}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
        print(f"{name:12} {count:>5} mutants, {count - missed:>5} caught, {missed:>3} left", flush=True)
        made, left = made + count, left + missed
    print(f"all          {made:>5} mutants, {made - left:>5} caught, {left:>3} left: {(made - left) / made:.1%}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
