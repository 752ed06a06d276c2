"""Input specs as text, for the command line: `normal(batch, 3)`, `[1.0, 2.0]`, `{'w': normal(3)}`, `0.5`."""

from __future__ import annotations

import ast
import difflib
from typing import Any

from gradcheck.errors import SpecError
from gradcheck.targets.specs.sizes import is_size
from gradcheck.targets.specs.spec import CONSTRUCTORS, array


def parse_spec(text: str) -> Any:
    """Parse a spec: a constructor call, a plain Python literal, or a list, tuple or dict of these.

    A nested list of numbers, at least one of them with a decimal point, is an array. Integers alone stay a plain list, which
    may be a shape.

    Raises:
        SpecError: if the text cannot be parsed; the message has a caret under the place.
    """
    if not text.strip():
        raise SpecError("empty: expected a spec such as normal(4, 3)")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise SpecError(_point_at(text.strip(), (error.offset or 1) - 1, f"cannot be read: {error.msg}")) from None
    except ValueError as error:
        raise SpecError(f"{text!r} cannot be read: {error}") from None
    return _parse_node(tree.body, text.strip())


def parse_literal(text: str) -> Any:
    """Parse a plain Python value, such as an argument of a constructor.

    Raises:
        SpecError: if the text is no plain value.
    """
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError):
        raise SpecError("expected a plain value: a number, a string, True, False, None, or a list, tuple or dict") from None


def is_constructor_call(text: str) -> bool:
    """Whether a text calls the constructor of a spec, as `normal(4, 3)` does."""
    return text.strip().partition("(")[0] in CONSTRUCTORS and "(" in text


def _parse_node(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.UnaryOp() | ast.BinOp():
            return _parse_number(node, text)
        case ast.Call():
            return _parse_call(node, text)
        case ast.List() | ast.Tuple():
            return _parse_sequence(node, text)
        case ast.Dict():
            return {_parse_key(k, node, text): _parse_node(v, text) for k, v in zip(node.keys, node.values, strict=True)}
        case ast.Name():
            raise SpecError(_point_at(text, node, _message_about_unknown(node.id, "a spec needs parentheses, as in normal(3)")))
    raise SpecError(_point_at(text, node, "expected a spec such as normal(4, 3), a number, a string, a list or a dict"))


def _parse_number(node: ast.expr, text: str) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise SpecError(
            _point_at(text, node, "expected a spec such as normal(4, 3), a number, a string, a list or a dict")
        ) from None


def _parse_sequence(node: ast.List | ast.Tuple, text: str) -> Any:
    """Parse a nested list of numbers with a decimal point among them to one array, and any other list to a pytree."""
    try:
        numbers = ast.literal_eval(node)
    except (ValueError, TypeError):
        numbers = None
    if numbers is not None and _is_float_array(numbers):
        try:
            return array(numbers)
        except SpecError as error:
            raise SpecError(_point_at(text, node, str(error))) from None
    items = [_parse_node(item, text) for item in node.elts]
    return items if isinstance(node, ast.List) else tuple(items)


def _parse_key(node: ast.expr | None, parent: ast.Dict, text: str) -> Any:
    try:
        return ast.literal_eval(node or parent.keys)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise SpecError(_point_at(text, node or parent, "expected a string or number as key")) from None


def _parse_call(node: ast.Call, text: str) -> Any:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in CONSTRUCTORS:
        raise SpecError(_point_at(text, node, _message_about_unknown(name, f"known: {', '.join(CONSTRUCTORS)}")))
    args = [_parse_argument(a, text) for a in node.args]
    kwargs = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise SpecError(_point_at(text, keyword, "** cannot be used here"))
        if keyword.arg in kwargs:
            raise SpecError(_point_at(text, keyword, f"{keyword.arg}= is given twice"))
        kwargs[keyword.arg] = _parse_argument(keyword.value, text)
    try:
        return CONSTRUCTORS[name](*args, **kwargs)
    except (TypeError, OverflowError, SpecError) as error:
        raise SpecError(_point_at(text, node, str(error))) from None


def _parse_argument(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Name | ast.BinOp) and is_size(ast.unparse(node)):
        return ast.unparse(node)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise SpecError(_point_at(text, node, "expected a number, a name or a literal list")) from None


def _is_float_array(items: list[Any]) -> bool:
    flat = list(_flatten_list(items))
    return (
        bool(flat)
        and all(isinstance(x, int | float | complex) and not isinstance(x, bool) for x in flat)
        and any(isinstance(x, float | complex) for x in flat)
    )


def _flatten_list(items: Any) -> Any:
    for item in items:
        yield from _flatten_list(item) if isinstance(item, list | tuple) else (item,)


def _message_about_unknown(name: str, otherwise: str) -> str:
    near = difflib.get_close_matches(name, CONSTRUCTORS, 1)
    return f"unknown spec {name!r}; did you mean {near[0]}(...)?" if near and near[0] != name else f"{name!r}: {otherwise}"


def _point_at(text: str, place: ast.AST | int, message: str) -> str:
    """Return the message, the line of the text, and a caret under the place, which is a node or a column."""
    row = getattr(place, "lineno", 1) - 1
    line = text.splitlines()[row] if text else ""
    column = place if isinstance(place, int) else len(line.encode()[: getattr(place, "col_offset", 0)].decode(errors="ignore"))
    return f"{message}\n    {line}\n    {' ' * max(column, 0)}^"
