"""The expression of `-k`: words joined by `and`, `or`, `not` and parentheses, which the name of a case matches."""

from __future__ import annotations

import ast
import re

from gradcheck.errors import UsageError


def matches_keyword(name: str, keyword: str | None) -> bool:
    """Return whether a case's name matches an expression of words joined by `and`, `or`, `not`.

    Raises:
        UsageError: if the expression cannot be parsed.
    """
    if not keyword:
        return True
    words = re.findall(r"[^\s()\[]*\[.*?\]+|[()]|[^\s()]+", keyword)  # what is in [] is one word
    operators = ("and", "or", "not", "(", ")")
    parts = [word if word in operators else str(word.lower() in name.lower()) for word in words]
    try:
        return bool(_evaluate_expression(" ".join(parts)))
    except SyntaxError:
        raise UsageError(f"-k {keyword!r}: expected words joined by and, or, not, as in 'mse and not module'") from None


def _evaluate_expression(expression: str) -> bool:
    """Evaluate an expression of True, False, `and`, `or`, `not` and parentheses.

    Raises:
        SyntaxError: if it is no such expression.
    """

    def value(node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=bool() as truth):
                return truth
            case ast.UnaryOp(op=ast.Not()):
                return not value(node.operand)
            case ast.BoolOp():
                combine = all if isinstance(node.op, ast.And) else any
                return combine(value(operand) for operand in node.values)
        raise SyntaxError

    return value(ast.parse(expression, mode="eval").body)
