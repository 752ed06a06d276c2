"""The vjp of one cotangent as a function of the inputs: its derivative is the second derivative of a JAX target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.flat import F64, make_gradient_leaves
from gradcheck.backends.jax import derivatives
from gradcheck.backends.jax.arrays import arrays_at, concatenate_flat, conjugate
from gradcheck.backends.jax.derivatives import TracedTarget
from gradcheck.backends.program import Capabilities, Claim, Program, Unavailable, trace_on_demand
from gradcheck.errors import DerivativeError


def make_gradient_program(first: Program, native: TracedTarget, twin: TracedTarget | None, cotangent: F64) -> Program:
    """Make the program of x -> J(x)^T v, whose outputs are the gradients `∂output/∂x`.

    Args:
        native: the target in its own dtype.
        twin: the target with 64 bits, if it has a twin.
        cotangent: v, (M,).

    Raises:
        Unavailable: if the gradients cannot be differentiated; the message says why.
    """
    native_gradient, twin_gradient = trace_gradient(native, cotangent), trace_gradient(twin, cotangent) if twin else None
    evaluate, claims = (
        derivatives.make_evaluate(twin_gradient or native_gradient),
        derivatives.make_claims(native_gradient, twin_gradient),
    )
    _require_differentiable(claims, first.point)
    program = Program(
        framework=first.framework,
        shapes=first.shapes,
        name=first.name,
        leaves=first.leaves,
        outputs=native_gradient.binding.outputs,
        point=first.point,
        value=evaluate(first.point),
        evaluate=evaluate,
        eps=first.eps,
        claims=claims,
        capabilities=Capabilities(
            evaluate_many=derivatives.make_batched_evaluate(twin_gradient or native_gradient),
            evaluate_native=derivatives.make_evaluate(native_gradient) if twin_gradient else None,
            cotangent_jvp=lambda at, u: differentiate_by_cotangent(native, cotangent, at, u),
        ),
    )
    return program.with_capabilities(
        trace_exactly=trace_on_demand("jax", program=program, target=twin_gradient or native_gradient),
        gradient_program=lambda v: make_gradient_program(program, native_gradient, twin_gradient, v),
    )


def trace_gradient(target: TracedTarget, cotangent: F64) -> TracedTarget:
    """Make the function whose outputs are the gradients J(x)^T v, for a fixed cotangent v (M,)."""
    outputs, pullback = make_gradient_leaves(target.binding.leaves), derivatives.build_pullback(target.outputs, target.binding)

    def gradients(moving: Sequence[Any], constants: Sequence[Any]) -> list[Any]:
        cotangents = [jnp.asarray(v) for v in arrays_at(cotangent, target.binding.outputs, twin=target.is_twin)]
        return pullback([*moving, *cotangents], constants)[len(cotangents) :]

    return replace(
        target, outputs=gradients, binding=replace(target.binding, output_places=tuple(range(len(outputs))), outputs=outputs)
    )


def differentiate_by_cotangent(target: TracedTarget, cotangent: F64, point: F64, u: F64) -> F64:
    """Apply the transposed derivative of the gradients with respect to v to a tangent u (N,): J(x) u, (M,)."""
    binding = target.binding
    pullback = derivatives.build_pullback(target.outputs, binding)
    with target.computing():
        moving, cotangents, tangents = (
            [jnp.array(x) for x in arrays_at(flat, leaves, twin=target.is_twin)]
            for flat, leaves in ((point, binding.leaves), (cotangent, binding.outputs), (u, binding.leaves))
        )
        _, back = jax.vjp(lambda *vs: pullback([*moving, *vs], target.constants)[len(vs) :], *cotangents)
        return concatenate_flat([conjugate(g) for g in back([conjugate(x) for x in tangents])])


def _require_differentiable(claims: Sequence[Claim], point: F64) -> None:
    """Differentiate the gradients once, at the primal.

    Raises:
        Unavailable: if that raises in every mode.
    """
    refusals = []
    for claim in claims:
        try:
            if claim.vjp is not None:
                claim.vjp(point, np.ones((1, point.size)))
            elif claim.jvp is not None:
                claim.jvp(point, np.ones((1, point.size)))
        except (Unavailable, DerivativeError) as error:
            refusals.append(f"{error}\n{getattr(error, 'frames', '')}".rstrip())
    if len(refusals) == len(claims):
        raise Unavailable(refusals[0])
