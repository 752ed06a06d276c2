"""The values of a graph in floating point: what its nodes mean must be what the program computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradcheck.exact.arithmetic import list_ancestors
from gradcheck.exact.constants import Constant
from gradcheck.exact.graph import (
    F64,
    Bilinear,
    Constants,
    Exp,
    Function,
    Linear,
    Log,
    Node,
    Power,
    PowerOfArray,
    Product,
    Sum,
    Undefined,
)


def evaluate(outputs: Sequence[Node], inputs: Mapping[Node, F64]) -> list[F64]:
    """Evaluate nodes in floating point.

    Args:
        outputs: the nodes.
        inputs: the value of every input.
    """
    known: dict[Node, F64] = {node: np.asarray(value, np.float64) for node, value in inputs.items()}
    with np.errstate(all="ignore"):
        for node in list_ancestors(outputs, known.__contains__, lambda n: n.arguments):
            known[node] = np.asarray(FORMULAS[type(node)](node, *(known[argument] for argument in node.arguments)))
    return [known[node] for node in outputs]


def _value_of_constant(constant: Constant) -> float:
    log = math.log(abs(constant.logarithm)) if constant.logarithm else 1.0
    root = math.sqrt(constant.radicand) * math.pi ** (constant.half_powers_of_pi / 2)
    return float(constant.rational) * float(root) * (log if constant.logarithm >= 0 else 1 / log)


def _value_of_constants(node: Constants) -> F64:
    assert node.places is not None
    return np.array([_value_of_constant(constant) for constant in node.distinct])[node.places].reshape(node.shape)


def _value_of_exp(node: Exp, x: F64) -> F64:
    result = np.power(float(node.base), x) if node.base else np.exp(x)
    return result if node.vanishes is None else np.where(node.vanishes, 0.0, result)


def _value_of_function(node: Function, x: F64) -> F64:
    assert node.evaluate is not None
    return node.evaluate(x)


def _value_of_undefined(node: Undefined, x: F64) -> F64:
    assert node.where is not None
    assert node.floats is not None
    return np.where(node.where, node.floats, x)


FORMULAS: dict[type[Node], Callable[..., Any]] = {
    Constants: _value_of_constants,
    Sum: lambda node, a, b: a + node.sign * b,
    Product: lambda _, a, b: a * b,
    Linear: lambda node, *values: node.apply(values),
    Bilinear: lambda node, a, b: node.apply(np.array(a), np.array(b)),
    Power: lambda node, x: np.power(x, float(node.exponent)),
    PowerOfArray: lambda _, a, b: np.power(a, b),
    Exp: _value_of_exp,
    Log: lambda _, x: np.log(x),
    Function: _value_of_function,
    Undefined: _value_of_undefined,
}
