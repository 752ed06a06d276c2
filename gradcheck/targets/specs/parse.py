"""Input specs as text, for the command line: `normal(batch, 3)`, `[1.0, 2.0]`, `{'w': normal(3)}`, `0.5`."""

from __future__ import annotations

import ast
import difflib
from typing import Any

from gradcheck.errors import SpecError
from gradcheck.targets.specs.sizes import is_size
from gradcheck.targets.specs.spec import CONSTRUCTORS, array


def parse(text: str) -> Any:
    """Read a spec: a constructor call, a plain Python literal, or a list, tuple or dict of these.

    A nested list of numbers with a decimal point among them is an array; integers alone stay a plain list (a shape, say).

    Raises:
        SpecError: with a caret under the place that cannot be read.
    """
    if not text.strip():
        raise SpecError("empty: expected a spec such as normal(4, 3)")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise SpecError(_pointing(text.strip(), (error.offset or 1) - 1, f"cannot be read: {error.msg}")) from None
    except ValueError as error:
        raise SpecError(f"{text!r} cannot be read: {error}") from None
    return _value(tree.body, text.strip())


def literal(text: str) -> Any:
    """Read a plain Python value, as a constructor takes it.

    Raises:
        SpecError: where it is none.
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError):
        raise SpecError("expected a plain value: a number, a string, True, False, None, or a list, tuple or dict") from None


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.UnaryOp() | ast.BinOp():
            return _plain(node, text)
        case ast.Call():
            return _call(node, text)
        case ast.List() | ast.Tuple():
            return _sequence(node, text)
        case ast.Dict():
            return {_key(k, node, text): _value(v, text) for k, v in zip(node.keys, node.values, strict=True)}
        case ast.Name():
            raise SpecError(_pointing(text, node, _unknown(node.id, "a spec needs parentheses, as in normal(3)")))
    raise SpecError(_pointing(text, node, "expected a spec such as normal(4, 3), a number, a string, a list or a dict"))


def _plain(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise SpecError(
            _pointing(text, node, "expected a spec such as normal(4, 3), a number, a string, a list or a dict")
        ) from None


def _sequence(node: ast.List | ast.Tuple, text: str) -> Any:
    """A nested list of numbers, at least one of them with a decimal point, is one array; anything else a pytree."""
    try:
        numbers = ast.literal_eval(node)
    except (ValueError, TypeError):
        numbers = None
    if numbers is not None and _is_float_array(numbers):
        try:
            return array(numbers)
        except SpecError as error:
            raise SpecError(_pointing(text, node, str(error))) from None
    items = [_value(item, text) for item in node.elts]
    return items if isinstance(node, ast.List) else tuple(items)


def _key(node: ast.expr | None, parent: ast.Dict, text: str) -> Any:
    try:
        return ast.literal_eval(node or parent.keys)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise SpecError(_pointing(text, node or parent, "expected a string or number as key")) from None


def _call(node: ast.Call, text: str) -> Any:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in CONSTRUCTORS:
        raise SpecError(_pointing(text, node, _unknown(name, f"known: {', '.join(CONSTRUCTORS)}")))
    args = [_argument(a, text) for a in node.args]
    kwargs = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise SpecError(_pointing(text, keyword, "** cannot be used here"))
        if keyword.arg in kwargs:
            raise SpecError(_pointing(text, keyword, f"{keyword.arg}= is given twice"))
        kwargs[keyword.arg] = _argument(keyword.value, text)
    try:
        return CONSTRUCTORS[name](*args, **kwargs)
    except (TypeError, OverflowError, SpecError) as error:
        raise SpecError(_pointing(text, node, str(error))) from None


def _argument(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name | ast.BinOp) and is_size(ast.unparse(node)):
        return ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise SpecError(_pointing(text, node, "expected a number, a name or a literal list")) from None


def _is_float_array(items: list[Any]) -> bool:
    flat = list(_numbers(items))
    return (
        bool(flat)
        and all(isinstance(x, int | float | complex) and not isinstance(x, bool) for x in flat)
        and any(isinstance(x, float | complex) for x in flat)
    )


def _numbers(items: Any) -> Any:
    for item in items:
        yield from _numbers(item) if isinstance(item, list | tuple) else (item,)


def _unknown(name: str, otherwise: str) -> str:
    near = difflib.get_close_matches(name, CONSTRUCTORS, 1)
    return f"unknown spec {name!r}; did you mean {near[0]}(...)?" if near and near[0] != name else f"{name!r}: {otherwise}"


def _pointing(text: str, place: ast.AST | int, message: str) -> str:
    """The message, the line it is about, and a caret under the place (a node, or a column)."""
    row = getattr(place, "lineno", 1) - 1
    line = text.splitlines()[row] if text else ""
    column = place if isinstance(place, int) else len(line.encode()[: getattr(place, "col_offset", 0)].decode(errors="ignore"))
    return f"{message}\n    {line}\n    {' ' * max(column, 0)}^"
