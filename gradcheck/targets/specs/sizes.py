"""Sizes of dimensions: integers, names, and sums and products of these, as in `n + 1`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

from gradcheck.errors import SpecError
from gradcheck.seeds import make_generator

DEFAULT_RANGE = (2, 5)  # sizes that a name may stand for without a range from the user, both included
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def is_size(text: str) -> bool:
    """Whether a text is a size: a name, an integer, or these joined by + - * //."""
    try:
        return _is_size_node(ast.parse(text, mode="eval").body)
    except SyntaxError:
        return False


def _is_size_node(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int()) | ast.Name():
            return True
        case ast.BinOp():
            return type(node.op) in _OPERATORS and _is_size_node(node.left) and _is_size_node(node.right)
    return False


def collect_names(text: str) -> set[str]:
    """Return the names in a size."""
    return {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}


def evaluate_size(text: str, size_of: Callable[[str], int]) -> int:
    """Return the size that a text stands for, where `size_of` gives the size of a name.

    Raises:
        SpecError: if the text is no size, or the size is negative.
    """
    try:
        value = _evaluate_node(ast.parse(text, mode="eval").body, size_of)
    except ZeroDivisionError:
        raise SpecError(f"size {text!r} divides by zero: give the names other sizes with --dim") from None
    except (SyntaxError, KeyError):
        raise SpecError(f"size {text!r}: expected an integer, a name, or these joined by + - * //") from None
    if value < 0:
        raise SpecError(f"size {text!r} is {value}: expected at least 0; give the names larger sizes with --dim")
    return value


def _evaluate_node(node: ast.expr, size_of: Callable[[str], int]) -> int:
    match node:
        case ast.Constant(value=bool()):
            raise KeyError
        case ast.Constant(value=int() as number):
            return number
        case ast.Name():
            return size_of(node.id)
        case ast.BinOp():
            return _OPERATORS[type(node.op)](_evaluate_node(node.left, size_of), _evaluate_node(node.right, size_of))
    raise KeyError


class Sizes(dict[str, int]):
    """Sizes of one trial by name, each drawn at first use from the user's range, else from DEFAULT_RANGE."""

    def __init__(self, ranges: Mapping[str, tuple[int, int]], seed: int, *labels: object) -> None:
        super().__init__()
        self._ranges, self._seed, self._labels = ranges, seed, labels

    def __missing__(self, name: str) -> int:
        low, high = self._ranges.get(name, DEFAULT_RANGE)
        self[name] = int(make_generator(self._seed, *self._labels, "dim", name).integers(low, high + 1))
        return self[name]
