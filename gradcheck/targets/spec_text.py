"""Input specs as text, for the command line: `normal(batch, 3)`, `[1.0, 2.0]`, `{'w': normal(3)}`, `0.5`."""

from __future__ import annotations

import ast
import difflib
from typing import Any

from gradcheck.errors import SpecError
from gradcheck.targets.sizes import is_size
from gradcheck.targets.specs import CONSTRUCTORS, array


def parse(text: str) -> Any:
    """Read a spec: a constructor call, a plain Python literal, or a list, tuple or dict of these.

    A nested list of numbers with a decimal point among them is an array; integers alone stay a plain list (a shape, say).

    Raises:
        SpecError: with a caret under the place that cannot be read.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise SpecError(_pointing(text.strip(), (error.offset or 1) - 1, f"cannot be read: {error.msg}")) from None
    except ValueError as error:
        raise SpecError(f"{text!r} cannot be read: {error}") from None
    return _value(tree.body, text.strip())


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() | complex() as number)):
            return -number
        case ast.Call():
            return _call(node, text)
        case ast.List() | ast.Tuple():
            items = [_value(item, text) for item in node.elts]
            return array(items) if _is_float_array(items) else (items if isinstance(node, ast.List) else tuple(items))
        case ast.Dict():
            return {_key(k, node, text): _value(v, text) for k, v in zip(node.keys, node.values, strict=True)}
        case ast.Name():
            raise SpecError(_pointing(text, node.col_offset, _unknown(node.id, "a spec needs parentheses, as in normal(3)")))
    raise SpecError(
        _pointing(text, node.col_offset, "expected a spec such as normal(4, 3), a number, a string, a list or a dict")
    )


def _key(node: ast.expr | None, parent: ast.Dict, text: str) -> Any:
    if not isinstance(node, ast.Constant):
        raise SpecError(_pointing(text, (node or parent).col_offset, "expected a string or number as key"))
    return node.value


def _call(node: ast.Call, text: str) -> Any:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in CONSTRUCTORS:
        raise SpecError(_pointing(text, node.col_offset, _unknown(name, f"known: {', '.join(CONSTRUCTORS)}")))
    args = [_argument(a, text) for a in node.args]
    kwargs = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise SpecError(_pointing(text, keyword.col_offset, "** cannot be used here"))
        kwargs[keyword.arg] = _argument(keyword.value, text)
    try:
        return CONSTRUCTORS[name](*args, **kwargs)
    except (TypeError, SpecError) as error:
        raise SpecError(_pointing(text, node.col_offset, str(error))) from None


def _argument(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name | ast.BinOp) and is_size(ast.unparse(node)):
        return ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise SpecError(_pointing(text, node.col_offset, "expected a number, a name or a literal list")) from None


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


def _pointing(text: str, column: int, message: str) -> str:
    return f"{message}\n    {text}\n    {' ' * max(column, 0)}^"
