"""The usual functions of one number as nodes of exact graphs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from gradcheck.exact.build import Operand, add, divide, exp, function, log, make_scalar, multiply, power, subtract
from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import F64, Node

Formula = Callable[[Operand], Node]

INVERSE_ROOT = Fraction(-1, 2)
HALF = make_scalar(Fraction(1, 2))
HALF_PI = make_scalar(Constant(Fraction(1, 2), half_powers_of_pi=2))
TWO_BY_ROOT_OF_PI = make_scalar(Constant(Fraction(2), half_powers_of_pi=-1))
HALF_ROOT_OF_PI = make_scalar(Constant(Fraction(1, 2), half_powers_of_pi=1))


def divide_by_log(base: int, x: Operand) -> Node:
    """Make the logarithm of an operand to an integer base."""
    return multiply(log(x), make_scalar(Constant(Fraction(1), logarithm=-base)))


def tanh(x: Operand) -> Node:
    """Make the hyperbolic tangent, in exponentials."""
    return subtract(1, divide(2, add(exp(multiply(x, 2)), 1)))


def sigmoid(x: Operand) -> Node:
    """Make the logistic function, in exponentials."""
    return power(add(1, exp(subtract(0, x))), -1)


def _sinh(x: Operand) -> Node:
    return multiply(HALF, subtract(exp(x), exp(subtract(0, x))))


def _cosh(x: Operand) -> Node:
    return multiply(HALF, add(exp(x), exp(subtract(0, x))))


def _half_tangent(x: Operand) -> Node:
    """Make tan(x / 2), of which sine, cosine and tangent are rational functions."""
    return function("sin and cos", x, lambda x: np.tan(x / 2), lambda _, t: multiply(HALF, add(1, multiply(t, t))), -1)


def _sin(x: Operand) -> Node:
    t = _half_tangent(x)
    return divide(multiply(2, t), add(1, multiply(t, t)))


def _cos(x: Operand) -> Node:
    square = power(_half_tangent(x), 2)
    return divide(subtract(1, square), add(1, square))


def _tan(x: Operand) -> Node:
    t = _half_tangent(x)
    return divide(multiply(2, t), subtract(1, multiply(t, t)))


def _quadratic(one: int, sign: int, exponent: Fraction | int) -> Callable[[Node, Node], Node]:
    """Make the derivative `(one + sign * x^2) ^ exponent`."""
    return lambda x, _: power(add(one, multiply(x, x), sign), exponent)


def _asin(x: Operand) -> Node:
    return function("asin", x, np.arcsin, _quadratic(1, -1, INVERSE_ROOT), -1)


def atan(x: Operand) -> Node:
    """Make the arc tangent."""
    return function("atan", x, np.arctan, _quadratic(1, 1, -1), -1)


def _erf(x: Operand) -> Node:
    return function("erf", x, _each(math.erf), lambda x, _: multiply(TWO_BY_ROOT_OF_PI, exp(subtract(0, multiply(x, x)))), -1)


def _erfinv(x: Operand) -> Node:
    derivative = lambda _, y: multiply(HALF_ROOT_OF_PI, exp(multiply(y, y)))  # noqa: E731
    return function("erfinv", x, partial(_evaluate_special, "erfinv"), derivative, -1)


def polygamma(order: int, x: Operand) -> Node:
    """Make a derivative of digamma."""
    evaluate = partial(_evaluate_special, "polygamma", order)
    return function(f"polygamma {order}", x, evaluate, lambda x, _: polygamma(order + 1, x))


def _each(f: Callable[[float], float]) -> Callable[[F64], F64]:
    return np.vectorize(f, otypes=[np.float64])


def _evaluate_special(name: str, *args: F64 | int) -> F64:
    """Evaluate a function that NumPy does not have: by SciPy, or without it by PyTorch, whose program then asks for it."""
    if find_spec("scipy"):
        return np.asarray(getattr(import_module("scipy.special"), name)(*args), np.float64)
    torch = import_module("torch")
    numbers = [torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) else x for x in args]
    return np.asarray(getattr(torch.special, name)(*numbers).numpy(), np.float64)


FORMULAS: dict[str, Formula] = {
    "neg": lambda x: subtract(0, x),
    "reciprocal": lambda x: power(x, -1),
    "square": lambda x: power(x, 2),
    "sqrt": lambda x: power(x, Fraction(1, 2)),
    "rsqrt": lambda x: power(x, INVERSE_ROOT),
    "cbrt": lambda x: power(x, Fraction(1, 3)),
    "exp": exp,
    "exp2": lambda x: exp(x, 2),
    "expm1": lambda x: subtract(exp(x), 1),
    "log": log,
    "log1p": lambda x: log(add(1, x)),
    "log2": partial(divide_by_log, 2),
    "log10": partial(divide_by_log, 10),
    "tanh": tanh,
    "sigmoid": sigmoid,
    "sinh": _sinh,
    "cosh": _cosh,
    "erf": _erf,
    "erfc": lambda x: subtract(1, _erf(x)),
    "erfinv": _erfinv,
    "sin": _sin,
    "cos": _cos,
    "tan": _tan,
    "asin": _asin,
    "acos": lambda x: subtract(HALF_PI, _asin(x)),
    "atan": atan,
    "asinh": lambda x: function("asinh", x, np.arcsinh, _quadratic(1, 1, INVERSE_ROOT), -1),
    "acosh": lambda x: function("acosh", x, np.arccosh, _quadratic(-1, 1, INVERSE_ROOT)),
    "atanh": lambda x: function("atanh", x, np.arctanh, _quadratic(1, -1, -1), -1),
    "lgamma": lambda x: function("lgamma", x, _each(math.lgamma), lambda x, _: polygamma(0, x)),
    "digamma": partial(polygamma, 0),
}
