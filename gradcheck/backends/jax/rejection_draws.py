"""Inputs that parametrise a draw by rejection: JAX differentiates Gamma, Beta, Dirichlet and t samples implicitly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
from jax._src.core import Var, jaxprs_in_params

from gradcheck.backends.jax.arrays import use_x64

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64, Leaf
    from gradcheck.backends.jax.derivatives import TracedTarget

DRAW = "random_gamma"  # the primitive of all these draws, which takes a key and the shape parameter


def mark_rejection_draws(target: TracedTarget, point: F64) -> tuple[Leaf, ...]:
    """Mark the leaves on which a target depends through a draw by rejection; none if it cannot be traced."""
    leaves = target.binding.leaves
    try:
        with use_x64(target.bits64):
            jaxpr = jax.make_jaxpr(target.jitted)(target.leaves_at(point), target.constants).jaxpr
    except Exception:
        return leaves
    parameters = _find_parameters(jaxpr)
    return tuple(replace(leaf, drawn_by_rejection=var in parameters) for leaf, var in zip(leaves, jaxpr.invars, strict=False))


def _find_parameters(jaxpr: Any) -> set[Var]:
    """Find the variables of a jaxpr on which the parameter of a draw depends."""
    parameters = set[Var]()
    for equation in reversed(jaxpr.eqns):
        inputs = equation.invars
        if equation.primitive.name == DRAW:
            inputs = equation.invars[1:]
        elif parameters.isdisjoint(equation.outvars):
            inner = [(sub.invars, _find_parameters(sub)) for sub in jaxprs_in_params(equation.params)]
            inputs = [
                var
                for sub_inputs, found in inner
                for i, var in enumerate(inputs)
                if found and (len(sub_inputs) != len(inputs) or sub_inputs[i] in found)
            ]
        parameters.update(var for var in inputs if isinstance(var, Var))
    return parameters
