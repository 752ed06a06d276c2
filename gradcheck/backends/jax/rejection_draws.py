"""Inputs that parametrise a draw by rejection: JAX differentiates Gamma, Beta, Dirichlet and t samples implicitly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
from jax.extend.core import Var, jaxprs_in_params

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.jax.derivatives import TracedTarget

DRAW = "random_gamma"  # the primitive of all these draws, which takes a key and the shape parameter


def mark_rejection_draws(target: TracedTarget, point: F64) -> tuple[Leaf, ...]:
    """Mark the leaves on which a target depends through a draw by rejection; none if it cannot be traced."""
    leaves = target.binding.leaves
    try:
        with target.computing():
            jaxpr = jax.make_jaxpr(target.jitted)(target.leaves_at(point), target.constants).jaxpr
    except Exception:
        return leaves
    parameters = _find_parameters(jaxpr)
    return tuple(replace(leaf, drawn_by_rejection=var in parameters) for leaf, var in zip(leaves, jaxpr.invars, strict=False))


def _find_parameters(jaxpr: Any, outputs: frozenset[int] = frozenset()) -> set[Var]:
    """Find the variables of a jaxpr on which the parameter of a draw depends.

    Args:
        outputs: positions of the outputs that lead to such a parameter outside.
    """
    parameters = {jaxpr.outvars[i] for i in outputs if isinstance(jaxpr.outvars[i], Var)}
    for equation in reversed(jaxpr.eqns):
        inputs = equation.invars
        if equation.primitive.name == DRAW:
            inputs = equation.invars[1:]
        elif parameters.isdisjoint(equation.outvars):
            marked = [_find_inner_inputs(equation, inner, len(inputs)) for inner in jaxprs_in_params(equation.params)]
            inputs = [var for i, var in enumerate(inputs) if any(i in positions for positions in marked)]
        parameters.update(var for var in inputs if isinstance(var, Var))
    return parameters


def _find_inner_inputs(equation: Any, inner: Any, inputs: int) -> set[int]:
    """Find the positions of an equation's inputs that are parameters of draws in a jaxpr inside it.

    The inputs of the inner jaxpr are the last ones of the equation; a branch of `cond` has none for the predicate. What a
    `scan` carries comes back as an input of its next iteration.
    """
    carried = range(equation.params.get("num_carry", 0)) if equation.primitive.name == "scan" else range(0)
    first_carried, outputs = equation.params.get("num_consts", 0), frozenset[int]()
    while True:
        parameters = _find_parameters(inner, outputs)
        grown = outputs | {k for k in carried if inner.invars[first_carried + k] in parameters}
        if grown == outputs:
            break
        outputs = grown
    offset = inputs - len(inner.invars)
    if offset < 0:
        return set(range(inputs)) if parameters else set()
    return {offset + i for i, var in enumerate(inner.invars) if var in parameters}
