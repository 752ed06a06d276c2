"""Rules for PyTorch's arithmetic and its functions of single numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch

from gradcheck.backends.torch.exact import nodes
from gradcheck.backends.torch.exact.linear import Rule
from gradcheck.backends.torch.exact.nodes import (
    Operand,
    Traced,
    add,
    divide,
    exp,
    function,
    log,
    make_constants,
    make_scalar,
    multiply,
    node_of,
    power,
    raise_to,
    shadow_of,
    subtract,
)
from gradcheck.exact.constants import Constant, read_constant
from gradcheck.exact.graph import Node

Formula = Callable[[Operand | Node], Node]

INVERSE_ROOT = Fraction(-1, 2)
HALF = make_scalar(Fraction(1, 2))
HALF_PI = make_scalar(Constant(Fraction(1, 2), half_powers_of_pi=2))
TWO_BY_ROOT_OF_PI = make_scalar(Constant(Fraction(2), half_powers_of_pi=-1))
HALF_ROOT_OF_PI = make_scalar(Constant(Fraction(1, 2), half_powers_of_pi=1))


def _scale(b: Operand, alpha: float) -> Operand | Node:
    return b if alpha == 1 else multiply(b, alpha)


def translate_add(_o: Any, _r: Any, a: Operand, b: Operand, *, alpha: float = 1) -> Node:
    """Translate `a + alpha * b`."""
    return add(a, _scale(b, alpha))


def translate_sub(_o: Any, _r: Any, a: Operand, b: Operand, *, alpha: float = 1) -> Node:
    """Translate `a - alpha * b`."""
    return subtract(a, _scale(b, alpha))


def translate_rsub(_o: Any, _r: Any, a: Operand, b: Operand, alpha: float = 1) -> Node:
    """Translate `b - alpha * a`."""
    return subtract(b, _scale(a, alpha))


def translate_mul(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
    """Translate a product."""
    return multiply(a, b)


def translate_div(_o: Any, result: torch.Tensor, a: Operand, b: Operand, *, rounding_mode: str | None = None) -> Node:
    """Translate a quotient; one that is rounded is constant between its jumps."""
    return divide(a, b) if rounding_mode is None else make_constants(result)


def translate_remainder(_o: Any, result: torch.Tensor, a: Operand, b: Operand) -> Node:
    """Translate the remainder of a division."""
    quotient = torch.round((shadow_of(a) - result) / shadow_of(b))
    return subtract(a, multiply(b, make_constants(quotient)))


def translate_fraction(_o: Any, result: torch.Tensor, x: Traced) -> Node:
    """Translate the part of a number behind the point."""
    return subtract(x, make_constants(torch.round(x.shadow - result)))


def translate_pow(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
    """Translate a power."""
    return raise_to(a, b)


def translate_step(_o: Any, result: torch.Tensor, *_: Any, **__: Any) -> Node:
    """Translate a function that is constant between its jumps."""
    return make_constants(result)


def translate_dropout(_o: Any, result: Any, x: Traced, p: float, train: bool | None = True) -> list[Node | None]:
    """Translate dropout, whose mask is known."""
    if not train:
        return [node_of(x), None]
    scale = 1 / (1 - read_constant(p).rational) if p < 1 else Fraction(1)
    mask = make_constants(result[1].to(torch.float64))
    return [multiply(x, multiply(mask, make_scalar(scale))), None]


def translate_exp(base: int) -> Rule:
    """Make the rule of an exponential to an integer base; 0 stands for e."""

    def rule(_o: Any, _r: Any, x: Traced) -> Node:
        vanishes = torch.isneginf(x.shadow)
        return exp(x, base, vanishes.numpy(force=True) if bool(vanishes.any()) else None)

    return rule


def translate_log(base: int) -> Rule:
    """Make the rule of a logarithm to an integer base."""
    return lambda _o, _r, x: multiply(log(x), make_scalar(Constant(Fraction(1), logarithm=-base)))


def _tanh(x: Operand | Node) -> Node:
    return subtract(1, divide(2, add(exp(multiply(x, 2)), 1)))


def _sigmoid(x: Operand | Node) -> Node:
    return power(add(1, exp(subtract(0, x))), -1)


def _sinh(x: Operand | Node) -> Node:
    return multiply(HALF, subtract(exp(x), exp(subtract(0, x))))


def _cosh(x: Operand | Node) -> Node:
    return multiply(HALF, add(exp(x), exp(subtract(0, x))))


def _erf(x: Operand | Node) -> Node:
    return function("erf", x, torch.erf, lambda x, _: multiply(TWO_BY_ROOT_OF_PI, exp(subtract(0, multiply(x, x)))), -1)


def _erfinv(x: Operand | Node) -> Node:
    return function("erfinv", x, torch.erfinv, lambda _, y: multiply(HALF_ROOT_OF_PI, exp(multiply(y, y))), -1)


def _half_tangent(x: Operand | Node) -> Node:
    """Make tan(x / 2), of which sine, cosine and tangent are rational functions."""
    return function("sin and cos", x, lambda x: torch.tan(x / 2), lambda _, t: multiply(HALF, add(1, multiply(t, t))), -1)


def _sin(x: Operand | Node) -> Node:
    t = _half_tangent(x)
    return divide(multiply(2, t), add(1, multiply(t, t)))


def _cos(x: Operand | Node) -> Node:
    square = power(_half_tangent(x), 2)
    return divide(subtract(1, square), add(1, square))


def _tan(x: Operand | Node) -> Node:
    t = _half_tangent(x)
    return divide(multiply(2, t), subtract(1, multiply(t, t)))


def _quadratic(one: int, sign: int, exponent: Fraction | int) -> Callable[[Node, Node], Node]:
    """Make the derivative `(one + sign * x^2) ^ exponent`."""
    return lambda x, _: power(add(one, multiply(x, x), sign), exponent)


def _asin(x: Operand | Node) -> Node:
    return function("asin", x, torch.asin, _quadratic(1, -1, INVERSE_ROOT), -1)


def _atan(x: Operand | Node) -> Node:
    return function("atan", x, torch.atan, _quadratic(1, 1, -1), -1)


def translate_atan2(_o: Any, result: torch.Tensor, a: Operand, b: Operand) -> Node:
    """Translate the angle of a point, which is an arc tangent but for half turns."""
    half_turns = torch.round((result - torch.atan(torch.as_tensor(shadow_of(a) / shadow_of(b)))) / torch.pi)
    return add(_atan(divide(a, b)), multiply(make_constants(half_turns * 2), HALF_PI))


def translate_hypot(_o: Any, _r: Any, a: Operand, b: Operand) -> Node:
    """Translate the length of a vector of two numbers."""
    return power(add(power(a, 2), power(b, 2)), Fraction(1, 2))


def _insert_axes(x: Traced, axes: list[int]) -> Node:
    shape = list(x.shadow.shape)
    for axis in axes:
        shape.insert(axis, 1)
    return nodes.move(x, lambda t: t.reshape(shape))


def translate_trilinear(_o: Any, result: torch.Tensor, *args: Any) -> Node:
    """Translate the sum of products of three tensors, each expanded along axes of its own."""
    factors, axes, summed = args[:3], args[3:6], args[6]
    product = node_of(1)
    for factor, dims in zip(factors, axes, strict=True):
        product = multiply(product, _insert_axes(factor, sorted(dims)))
    axes_summed = tuple(summed)
    return nodes.linear([product], lambda arrays: arrays[0].sum(axes_summed), tuple(result.shape))


def _polygamma(order: int, x: Operand | Node) -> Node:
    return function(f"polygamma {order}", x, lambda x: torch.polygamma(order, x), lambda x, _: _polygamma(order + 1, x))


def translate_polygamma(_o: Any, _r: Any, first: Any, second: Any) -> Node:
    """Translate a derivative of digamma, whose order comes first or second."""
    return _polygamma(first, second) if isinstance(first, int) else _polygamma(int(shadow_of(second)), first)


FORMULAS: dict[str, Formula] = {
    "neg": lambda x: subtract(0, x),
    "reciprocal": lambda x: power(x, -1),
    "square": lambda x: power(x, 2),
    "sqrt": lambda x: power(x, Fraction(1, 2)),
    "rsqrt": lambda x: power(x, INVERSE_ROOT),
    "cbrt": lambda x: power(x, Fraction(1, 3)),
    "expm1": lambda x: subtract(exp(x), 1),
    "log": log,
    "log1p": lambda x: log(add(1, x)),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "sinh": _sinh,
    "cosh": _cosh,
    "erf": _erf,
    "erfc": lambda x: subtract(1, _erf(x)),
    "erfinv": _erfinv,
    "erf_inv": _erfinv,
    "sin": _sin,
    "cos": _cos,
    "tan": _tan,
    "asin": _asin,
    "acos": lambda x: subtract(HALF_PI, _asin(x)),
    "atan": _atan,
    "asinh": lambda x: function("asinh", x, torch.asinh, _quadratic(1, 1, INVERSE_ROOT), -1),
    "acosh": lambda x: function("acosh", x, torch.acosh, _quadratic(-1, 1, INVERSE_ROOT)),
    "atanh": lambda x: function("atanh", x, torch.atanh, _quadratic(1, -1, -1), -1),
    "lgamma": lambda x: function("lgamma", x, torch.lgamma, lambda x, _: _polygamma(0, x)),
    "digamma": lambda x: _polygamma(0, x),
    **dict.fromkeys(("convert_element_type", "_to_copy"), node_of),
}


def make_rule(formula: Formula) -> Rule:
    """Make the rule of a function of one number."""
    return lambda _o, _r, x, *_, **__: formula(x)
