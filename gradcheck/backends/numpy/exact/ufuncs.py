"""Rules for NumPy's and SciPy's ufuncs."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from gradcheck.backends.numpy.exact.array import UFUNC_RULES, shadow_of
from gradcheck.exact import build
from gradcheck.exact.build import (
    add,
    bilinear,
    choose,
    divide,
    exp,
    log,
    make_scalar,
    multiply,
    node_of,
    power,
    raise_to,
    subtract,
)
from gradcheck.exact.constants import Constant
from gradcheck.exact.formulas import FORMULAS, HALF, HALF_PI, Formula, atan
from gradcheck.exact.graph import Node

Rule = Callable[..., Node]
# Names of formulas that NumPy or SciPy calls otherwise.
OTHER_NAMES = {
    "negative": "neg",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "expit": "sigmoid",
    "gammaln": "lgamma",
    "psi": "digamma",
}
# Functions that are constant between jumps.
STEPS = ("sign", "floor", "ceil", "rint", "trunc", "floor_divide", "heaviside")
ROOT_OF_HALF = make_scalar(Constant(Fraction(1), Fraction(1, 2)))


def _make_rule(formula: Formula) -> Rule:
    return lambda _, x: formula(x)


def _make_exp(base: int) -> Rule:
    def rule(_: Any, x: Any) -> Node:
        vanishes = np.isneginf(shadow_of(x))
        return exp(x, base, vanishes if bool(vanishes.any()) else None)

    return rule


def _make_extremum(sign: int) -> Rule:
    def rule(_: Any, a: Any, b: Any) -> Node:
        first, second = np.asarray(shadow_of(a)), np.asarray(shadow_of(b))
        return choose(sign * first >= sign * second, a, b, np.asarray(first == second))

    return rule


def _take_sign(result: Any, x: Any, _: Any = None) -> Node:
    """Make the number or its negative, as the result shows."""
    shadow = np.asarray(shadow_of(x))
    return choose(np.asarray(result == shadow), x, subtract(0, x), np.asarray(shadow == 0))


def _take_remainder(result: Any, a: Any, b: Any) -> Node:
    return subtract(a, multiply(b, node_of(np.rint((shadow_of(a) - result) / shadow_of(b)))))


def _take_angle(result: Any, a: Any, b: Any) -> Node:
    """Make the angle of a point, an arc tangent but for half turns."""
    half_turns = np.rint((result - np.arctan(np.asarray(shadow_of(a)) / shadow_of(b))) / np.pi)
    return add(atan(divide(a, b)), multiply(node_of(half_turns * 2), HALF_PI))


def _take_xlogy(_: Any, x: Any, y: Any) -> Node:
    """Make x log(y), which is zero where x is."""
    return multiply(x, log(choose(np.asarray(shadow_of(x) == 0), 1, y)))


UFUNC_RULES.update(
    {
        **{name: _make_rule(formula) for name, formula in FORMULAS.items()},
        **{name: _make_rule(FORMULAS[formula]) for name, formula in OTHER_NAMES.items()},
        **dict.fromkeys(STEPS, lambda result, *_: node_of(np.asarray(result))),
        **dict.fromkeys(("positive", "conjugate"), _make_rule(node_of)),
        **dict.fromkeys(("absolute", "fabs", "copysign"), _take_sign),
        **dict.fromkeys(("maximum", "fmax"), _make_extremum(1)),
        **dict.fromkeys(("minimum", "fmin"), _make_extremum(-1)),
        **dict.fromkeys(("remainder", "fmod"), _take_remainder),
        **dict.fromkeys(("power", "float_power"), lambda _, a, b: raise_to(a, b)),
        "exp": _make_exp(0),
        "exp2": _make_exp(2),
        "add": lambda _, a, b: add(a, b),
        "subtract": lambda _, a, b: subtract(a, b),
        "multiply": lambda _, a, b: multiply(a, b),
        "divide": lambda _, a, b: divide(a, b),
        "matmul": lambda result, a, b: bilinear(a, b, np.matmul, np.shape(result)),
        "hypot": lambda _, a, b: power(add(power(a, 2), power(b, 2)), Fraction(1, 2)),
        "arctan2": _take_angle,
        "logaddexp": lambda _, a, b: log(add(exp(a), exp(b))),
        "xlogy": _take_xlogy,
        "ndtr": lambda _, x: multiply(HALF, add(1, FORMULAS["erf"](multiply(x, ROOT_OF_HALF)))),
        "log_expit": lambda _, x: log(FORMULAS["sigmoid"](x)),
        "logit": lambda _, x: subtract(log(x), log(subtract(1, x))),
        "vecdot": lambda result, a, b: build.linear([multiply(a, b)], lambda arrays: arrays[0].sum(-1), np.shape(result)),
    }
)
