"""The vjp of one cotangent as a function of the inputs: its derivative is the second derivative of a JAX target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.flat import gradient_leaves
from gradcheck.backends.jax import derivatives
from gradcheck.backends.jax.arrays import (
    at_point,
    numbers,
    turned,
    x64,
)
from gradcheck.backends.jax.derivatives import Traced
from gradcheck.backends.program import Program, Unavailable
from gradcheck.errors import DerivativeError

if TYPE_CHECKING:
    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Claim


def program(first: Program, native: Traced, twin: Traced | None, cotangent: F64) -> Program:
    """The program of x -> J(x)^T v, whose outputs are the gradients `∂output/∂x`.

    Args:
        native, twin: what `first` is made of.
        cotangent: v, (M,).

    Raises:
        Unavailable: where it cannot be differentiated, and says so.
    """
    own, wide = gradient(native, cotangent), gradient(twin, cotangent) if twin else None
    evaluate, claims = derivatives.values(wide or own), derivatives.claims(own, wide)
    _differentiated(claims, first.point)
    return Program(
        framework=first.framework,
        shapes=first.shapes,
        name=first.name,
        leaves=first.leaves,
        outputs=own.bound.outputs,
        point=first.point,
        value=evaluate(first.point),
        evaluate=evaluate,
        many=derivatives.many(wide or own),
        native=derivatives.values(own) if wide else None,
        eps=first.eps,
        claims=claims,
        by_cotangent=lambda at, u: by_cotangent(native, cotangent, at, u),
    )


def gradient(traced: Traced, cotangent: F64) -> Traced:
    """The gradients J(x)^T v as the outputs, for a fixed cotangent v (M,)."""
    outputs, pulled = gradient_leaves(traced.bound.leaves), derivatives.pullback(traced.outputs, traced.bound)

    def gradients(moving: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        given = [jnp.asarray(v) for v in at_point(cotangent, traced.bound.outputs, wide=traced.wide)]
        return pulled([*moving, *given], still)[len(given) :]

    return replace(traced, outputs=gradients, bound=replace(traced.bound, kept=tuple(range(len(outputs))), outputs=outputs))


def by_cotangent(traced: Traced, cotangent: F64, point: F64, u: F64) -> F64:
    """The derivative of the gradients with respect to v, transposed: from a tangent (N,) to (M,), J(x) times the tangent."""
    bound = traced.bound
    pulled = derivatives.pullback(traced.outputs, bound)
    with x64(traced.bits64):
        moving, given, tangents = (
            [jnp.array(x) for x in at_point(flat, leaves, wide=traced.wide)]
            for flat, leaves in ((point, bound.leaves), (cotangent, bound.outputs), (u, bound.leaves))
        )
        _, back = jax.vjp(lambda *vs: pulled([*moving, *vs], traced.still)[len(vs) :], *given)
        return numbers([turned(g) for g in back([turned(x) for x in tangents])])


def _differentiated(claims: Sequence[Claim], point: F64) -> None:
    """Differentiate the gradients once, at the primal.

    Raises:
        Unavailable: where that raises in every mode.
    """
    refused = []
    for claim in claims:
        try:
            if claim.vjp is not None:
                claim.vjp(point, np.ones((1, point.size)))
            elif claim.jvp is not None:
                claim.jvp(point, np.ones((1, point.size)))
        except (Unavailable, DerivativeError) as error:
            refused.append(f"{error}\n{getattr(error, 'frames', '')}".rstrip())
    if len(refused) == len(claims):
        raise Unavailable(refused[0])
