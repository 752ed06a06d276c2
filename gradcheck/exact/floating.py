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
from gradcheck.exact.identity import Identity

# Of a leaf with more entries than this, the derivative is computed for so many, or for fewer if the graph is large.
# Nodes times entries are at most the second number, in about a second.
MAX_ENTRIES, MAX_WORK = 256, 200_000


def differentiate(identity: Identity, leaves: Sequence[F64], vectors: Sequence[F64], number: int) -> tuple[F64, F64]:
    """Return a claim and the derivative, each as a flat array: on a leaf, or in forward mode on the outputs.

    Of many entries of a leaf, some are drawn; for the others the derivative is the claim.

    Args:
        identity: the program and its claims.
        leaves: the numbers of every leaf.
        vectors: those of every cotangent, or in forward mode of every leaf's tangent.
        number: of the leaf.
    """
    given = identity.tangents or identity.cotangents
    inputs: dict[Node, F64] = dict(zip([*identity.leaves, *given], [*leaves, *vectors], strict=True))
    push = linearise(identity.outputs, inputs)
    leaf, claims = identity.leaves[number], identity.claims if identity.tangents else identity.claims[number : number + 1]
    shapes = [x.shape for x in (identity.outputs if identity.tangents else [leaf])]
    pairs = zip(claims, shapes, strict=True)
    gradient = _flatten([np.zeros(shape) if c is None else evaluate([c], inputs)[0] for c, shape in pairs])
    if identity.tangents:
        return gradient, _flatten(push(dict(zip(identity.leaves, vectors, strict=True))))
    cotangent, size = _flatten(vectors), gradient.size
    derivative, count = gradient.copy(), len(list_ancestors(identity.outputs, lambda _: False, lambda n: n.arguments))
    most = min(MAX_ENTRIES, 1 + MAX_WORK // count)
    for i in range(size) if size <= most else np.random.default_rng(0).choice(size, most, replace=False):
        derivative[i] = cotangent @ _flatten(push({leaf: np.eye(1, size, i).reshape(leaf.shape)}))
    return gradient, derivative


def _flatten(arrays: Sequence[F64]) -> F64:
    return np.concatenate([np.ravel(array) for array in arrays])


def evaluate(outputs: Sequence[Node], inputs: Mapping[Node, F64]) -> list[F64]:
    """Evaluate nodes in floating point.

    Args:
        outputs: the nodes.
        inputs: the value of every input.
    """
    known: dict[Node, F64] = {node: np.asarray(value, np.float64) for node, value in inputs.items()}
    _evaluate_all(outputs, known)
    return [known[node] for node in outputs]


def _evaluate_all(outputs: Sequence[Node], known: dict[Node, F64]) -> None:
    with np.errstate(all="ignore"):
        for node in list_ancestors(outputs, known.__contains__, lambda n: n.arguments):
            known[node] = np.asarray(FORMULAS[type(node)](node, *(known[argument] for argument in node.arguments)))


def linearise(outputs: Sequence[Node], inputs: Mapping[Node, F64]) -> Callable[[Mapping[Node, F64]], list[F64]]:
    """Return the derivative of nodes in floating point: the tangent of every input -> those of the nodes.

    Args:
        outputs: the nodes.
        inputs: the value of every input.
    """
    known: dict[Node, F64] = {node: np.asarray(value, np.float64) for node, value in inputs.items()}
    nodes = [node for node in list_ancestors(outputs, known.__contains__, lambda n: n.arguments) if node.varies]
    derivatives = {
        node: node.derivative(node.arguments[0], node) for node in nodes if isinstance(node, Function) and node.derivative
    }
    _evaluate_all([*outputs, *derivatives.values()], known)
    slopes: dict[Node, F64] = {node: known[derivative] for node, derivative in derivatives.items()}

    def push(tangents: Mapping[Node, F64]) -> list[F64]:
        moved = dict(tangents)
        with np.errstate(all="ignore"):
            for node in nodes:
                parts = [moved.get(argument, np.zeros(argument.shape)) for argument in node.arguments]
                moved[node] = _push(node, [known[a] for a in node.arguments], parts, known[node], slopes.get(node))
        return [moved.get(node, np.zeros(node.shape)) for node in outputs]

    return push


def _push(node: Node, values: list[F64], parts: list[F64], value: F64, slope: F64 | None) -> F64:
    """Return the tangent of a node from those of its arguments."""
    if isinstance(node, Product | Bilinear):
        product = FORMULAS[type(node)]
        return np.asarray(product(node, parts[0], values[1]) + product(node, values[0], parts[1]))
    if isinstance(node, PowerOfArray):
        (a, b), (da, db) = values, parts
        return np.asarray(b * np.power(a, b - 1) * da + np.where(db == 0, 0.0, value * np.log(a) * db))
    if isinstance(node, Power):
        slope = float(node.exponent) * np.power(values[0], float(node.exponent - 1))
    elif isinstance(node, Exp):
        slope = value * (math.log(node.base) if node.base else 1.0)
    elif isinstance(node, Log):
        slope = 1 / values[0]
    elif isinstance(node, Undefined):
        slope = np.ones(node.shape)
    if slope is None:  # it is linear
        return np.broadcast_to(FORMULAS[type(node)](node, *parts), node.shape)
    return np.asarray(slope * parts[0])


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
