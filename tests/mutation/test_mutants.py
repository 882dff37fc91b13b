"""What is changed in a module, and that a mutant is noticed just when a test looks at what it changes."""

from __future__ import annotations

from pathlib import Path

import mutate
import pytest
from mutants import mutants

CHANGES = {
    "if a < b: pass": ["a < b -> True", "a < b -> False", "a < b -> a <= b", "a < b -> a >= b"],
    "while a: pass": ["a -> True", "a -> False"],
    "x = a is None": [
        *("a is None -> True", "a is None -> False", "a is None -> a is not None"),
    ],
    "x = a in (1, b)": [
        *("a in (1, b) -> True", "a in (1, b) -> False", "a in (1, b) -> a not in (1, b)"),
        *("(1, b) -> (b,)", "(1, b) -> (1,)", "1 -> 2", "1 -> 0"),
    ],
    "f(a and b)": ["a and b -> True", "a and b -> False", "a and b -> a or b", "a and b -> b", "a and b -> a"],
    "f(a or b or c)": [
        *("a or b or c -> True", "a or b or c -> False", "a or b or c -> a and b and c"),
        *("a or b or c -> b or c", "a or b or c -> a or c", "a or b or c -> a or b"),
    ],
    "f(not a)": ["not a -> True", "not a -> False", "not a -> a"],
    "[a for a in b if c]": ["c -> True", "c -> False"],
    "f(a if b else c)": ["b -> True", "b -> False"],
    "x = True": ["True -> False"],
    "x = 0.5": ["0.5 -> 1.5", "0.5 -> -0.5"],
    "x = a + b": ["a + b -> a - b"],
    "x = a | b": [],
    "min(a)": ["min(a) -> max(a)"],
    "any(a)": ["any(a) -> all(a)"],
    "replace(a, b=c, d=e)": ["replace(a, b=c, d=e) -> replace(a, d=e)", "replace(a, b=c, d=e) -> replace(a, b=c)"],
    "def f():\n    return a": ["return a -> return None"],
    "def f():\n    return": [],
    "def f():\n    return False": ["False -> True"],
    "for a in b:\n    continue": ["continue -> break"],
    "for a in b:\n    break": ["break -> continue"],
    "match a:\n    case 'b' if c: pass": ["c -> True", "c -> False"],
    "match a:\n    case 'b': pass\n    case _: pass": [
        *("case 'b': -> case 'b' if False:", "case 'b': -> case _ if True:", "case _: -> case _ if False:"),
    ],
    "x = {a, b}": ["{a, b} -> {b}", "{a, b} -> {a}"],
    "x = {a: b, c: d}": ["a: ... -> (nothing)", "c: ... -> (nothing)"],
    "x = (a, b)": ["(a, b) -> (b,)", "(a, b) -> (a,)"],
    "x, y = (a, b)": [],
    "try: pass\nexcept (A, B): pass": ["(A, B) -> (B,)", "(A, B) -> (A,)"],
    "'text'": [],
    "@f(a=1)\ndef f(a: 1) -> 1: pass": [],
    "x: 1": [],
}


@pytest.mark.parametrize(("source", "changes"), CHANGES.items())
def test_changes(source: str, changes: list[str]) -> None:
    assert [f"{mutant.before} -> {mutant.after}" for mutant in mutants(source, "m.py")] == changes


def test_a_mutant_differs_in_one_place_which_it_names() -> None:
    source = "x = 1\ny = x < 1\n"
    found = []
    for mutant in mutants(source, "m.py"):
        names: dict[str, object] = {}
        exec(mutant.code, names)
        found.append((mutant.line, names["x"], names["y"]))
    assert found == [
        *((1, 2, False), (1, 0, True)),
        *((2, 1, True), (2, 1, False), (2, 1, True), (2, 1, True)),  # True, False, <=, >=
        *((2, 1, True), (2, 1, False)),
    ]


TESTS = {
    "sees all": ("assert [is_adult(age) for age in (17, 18, 19)] == [False, True, True]", []),
    "does not see the boundary": (
        "assert is_adult(30) is True and is_adult(3) is False",
        ["age >= 18 -> age > 18", "18 -> 19", "18 -> 17"],
    ),
}


@pytest.mark.parametrize(("assertion", "left"), TESTS.values(), ids=TESTS)
def test_what_is_left(tmp_path: Path, assertion: str, left: list[str]) -> None:
    """A module and its test elsewhere, run as those of relay/policy are."""
    module, test = tmp_path / "ages.py", tmp_path / "test_ages.py"
    module.write_text("def is_adult(age):\n    return age >= 18\n")
    test.write_text(f"from relay.policy.ages import is_adult\n\ndef test_it():\n    {assertion}\n")
    results = list(mutate.tried(module, tmp_path))
    assert len(results) == 7
    assert [f"{mutant.before} -> {mutant.after}" for mutant, caught in results if not caught] == left


def test_tests_that_fail_anyway_or_see_another_module_tell_nothing(tmp_path: Path) -> None:
    module, test = tmp_path / "ages.py", tmp_path / "test_ages.py"
    module.write_text("LIMIT = 18\n")
    for text in ("def test_it():\n    assert False\n", "def test_it():\n    pass\n", ""):
        test.write_text(text)
        with pytest.raises(RuntimeError):
            list(mutate.tried(module, tmp_path))
