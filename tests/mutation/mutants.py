"""The mutants of a module: each is the module with one condition, number or outcome changed.

Types, decorators and texts are left alone. The same source gives the same mutants in the same order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from types import CodeType
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,  # the other way round is a union of types, mostly
}
_FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LEFT_ALONE = ("annotation", "returns", "decorator_list")


@dataclass(frozen=True, slots=True)
class Mutant:
    """Where the change is, what was there and what is there now; and the changed module, compiled."""

    line: int
    before: str
    after: str
    code: CodeType


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node hangs in the tree; `index` where there are several."""

    parent: ast.AST
    field: str
    index: int | None

    def get(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants(source: str, filename: str) -> Iterator[Mutant]:
    """Every mutant of the module `source`, from its first line to its last. Raises SyntaxError."""
    tree = ast.parse(source)
    for place in list(_places(tree)):
        node = place.get()
        line = getattr(node, "lineno", 0) or node.pattern.lineno
        for changed in _variants(place, node):
            place.put(changed)
            code = compile(ast.fix_missing_locations(tree), filename, "exec")
            place.put(node)
            if isinstance(node, ast.Dict) and isinstance(changed, ast.Dict):  # some are long
                key = next(key for key in node.keys if key is not None and key not in changed.keys)
                yield Mutant(key.lineno, f"{_text(key)}: ...", "(nothing)", code)
            else:
                yield Mutant(line, _text(node), _text(changed), code)


def _places(tree: ast.AST) -> Iterator[_Place]:
    for field, value in ast.iter_fields(tree):
        if field in _LEFT_ALONE:
            continue
        for index, node in enumerate(value) if isinstance(value, list) else ((None, value),):
            if isinstance(node, ast.AST):
                if isinstance(node, ast.expr | ast.stmt | ast.match_case | ast.ExceptHandler):
                    yield _Place(tree, field, index)
                yield from _places(node)


def _text(node: ast.AST) -> str:
    return ast.unparse(node).strip().partition("\n")[0]


def _variants(place: _Place, node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of `node`."""
    if _is_condition(place, node):
        yield ast.Constant(True)
        yield ast.Constant(False)
    match node:
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()) | ast.BinOp():
            yield from _of_operation(node)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as number):
            yield ast.Constant(number + 1)
            yield ast.Constant(number - 1)
        case ast.Call():
            yield from _of_call(node)
        case ast.Return(value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.match_case(guard=None):
            yield ast.match_case(node.pattern, ast.Constant(False), node.body)
            if node is not place.parent.cases[-1]:  # type: ignore[attr-defined]
                yield ast.match_case(ast.MatchAs(), ast.Constant(True), node.body)
        case ast.Set() | ast.Tuple() if isinstance(node, ast.Set) or _is_a_choice(place):
            yield from (_without(node, index, "elts") for index in range(len(node.elts)))
        case ast.Dict():
            yield from (_without(node, index, "keys", "values") for index in range(len(node.keys)))


def _is_condition(place: _Place, node: ast.AST) -> bool:
    """Whether `node` is asked for yes or no, and is no part of a bigger condition, which gets mutants for its parts."""
    if isinstance(place.parent, ast.BoolOp) or _is_not(place.parent):
        return False
    asked = place.field in ("test", "ifs", "guard") and not isinstance(node, ast.Constant)
    return asked or isinstance(node, ast.Compare | ast.BoolOp) or _is_not(node)


def _is_not(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_a_choice(place: _Place) -> bool:
    """Whether a tuple here says what something may be: `x in (1, 2)`, `except (A, B)`, `_NUMBERS = (1, 2)`."""
    parent = place.parent
    return isinstance(parent, ast.Compare | ast.ExceptHandler) or (
        isinstance(parent, ast.Assign) and isinstance(parent.targets[0], ast.Name)
    )


def _of_operation(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left, ops, comparators):
            for index, operator in enumerate(ops):
                for other in _COMPARISONS[type(operator)]:
                    yield ast.Compare(left, [*ops[:index], other(), *ops[index + 1 :]], comparators)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            for index in range(len(values)):
                rest = [*values[:index], *values[index + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.BinOp(left, operator, right) if type(operator) in _OPERATORS:
            yield ast.BinOp(left, _OPERATORS[type(operator)](), right)


def _of_call(call: ast.Call) -> Iterator[ast.AST]:
    if isinstance(call.func, ast.Name) and call.func.id in _FUNCTIONS:
        yield ast.Call(ast.Name(_FUNCTIONS[call.func.id], ast.Load()), call.args, call.keywords)
    yield from (_without(call, index, "keywords") for index in range(len(call.keywords)))


def _without(node: ast.AST, index: int, *fields: str) -> ast.AST:
    shorter = copy(node)
    for field in fields:
        value = getattr(node, field)
        setattr(shorter, field, [*value[:index], *value[index + 1 :]])
    return shorter
