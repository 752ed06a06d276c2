"""Views of a program: the same target with fewer inputs, with some outputs set to zero, or with entries in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import F64, Leaf, lay_out_leaves
from gradcheck.backends.program import Capabilities, Claim, Program
from gradcheck.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A function of a point, (N,) -> (M,), and a vjp or jvp: (point, cotangents or tangents) -> rows.
Evaluate = Callable[[F64], F64]
Product = Callable[[F64, F64], F64]

# Numbers from which on a vector is long: then vjps are evaluated one by one, and memory is released in between.
LONG_INPUT = 2**22


def restrict_to_methods(program: Program, methods: Sequence[str] | None) -> Program:
    """Return the program with the claims of some methods, and the complex step only if it is among them; None: with all.

    Raises:
        InputError: if no claim is left.
    """
    if methods is None:
        return program
    claims = tuple(claim for claim in program.claims if claim.method in methods)
    if not claims:
        available = ", ".join(claim.method for claim in program.claims)
        raise InputError(f"methods={', '.join(methods)}: none of them is claimed; the target has {available}")
    view = replace(program, claims=claims)
    return view if "complex-step" in methods else view.with_capabilities(complex_step=None)


def restrict_to_leaves(program: Program, chosen: Sequence[Leaf]) -> Program:
    """Return the program as a function of some of its leaves; the others stay at the primal.

    Capabilities that combine the target with other functions are left out.
    """
    leaves = lay_out_leaves([leaf.path for leaf in chosen], [leaf.shape for leaf in chosen], [leaf.dtype for leaf in chosen])
    spans = [(leaf.span, original.span) for leaf, original in zip(leaves, chosen, strict=True)]

    def embed(numbers: F64, rest: F64) -> F64:
        """Numbers of the chosen leaves (..., n) among the rest, (N,)."""
        whole = np.broadcast_to(rest, (*numbers.shape[:-1], rest.size)).copy()
        for new, original in spans:
            whole[..., original] = numbers[..., new]
        return whole

    def select(numbers: F64) -> F64:
        return np.concatenate([numbers[..., original] for _, original in spans], axis=-1)

    def restrict_vjp(vjp: Product | None) -> Product | None:
        if vjp is None:
            return None

        def rows(at: F64, cotangents: F64) -> F64:
            whole = embed(at, program.point)
            if program.point.size > LONG_INPUT:
                return np.concatenate([select(vjp(whole, v[None])) for v in cotangents])
            return select(vjp(whole, cotangents))

        return rows

    def restrict_jvp(jvp: Product | None) -> Product | None:
        return jvp and (lambda at, tangents: jvp(embed(at, program.point), embed(tangents, zeros)))

    zeros, capabilities = np.zeros(program.point.size), program.capabilities
    along, many, native = capabilities.evaluate_along, capabilities.evaluate_many, capabilities.evaluate_native
    return replace(
        program,
        leaves=leaves,
        point=select(program.point),
        evaluate=lambda at: program.evaluate(embed(at, program.point)),
        claims=tuple(_with_products(claim, restrict_vjp, restrict_jvp) for claim in program.claims),
        capabilities=replace(
            capabilities,
            evaluate_along=along and (lambda tangent: along(embed(tangent, zeros))),
            evaluate_many=many and (lambda points: many(embed(points, program.point))),
            evaluate_native=native and (lambda at: native(embed(at, program.point))),
            complex_step=None,
            vjp_of_combination=None,
            optimizer_step=None,
        ),
    )


def rearrange(
    program: Program, like: Program, input_positions: NDArray[np.intp], output_positions: NDArray[np.intp]
) -> Program:
    """Return a program with the leaves and outputs of another one.

    Args:
        program: the program to rearrange.
        like: gives the leaves and outputs of the result.
        input_positions: for each input number of `like` its position in `program`, (N,).
        output_positions: for each output number of `like` its position in `program`, (M,).
    """

    def place(at: F64) -> F64:
        """Numbers of the result's inputs, (..., N), in the order of the program's."""
        placed = np.empty(at.shape)
        placed[..., input_positions] = at
        return placed

    def rearrange_values(function: Evaluate | None) -> Evaluate | None:
        return function and (lambda at: function(place(at))[output_positions])

    def rearrange_vjp(vjp: Product | None) -> Product | None:
        def rows(at: F64, cotangents: F64) -> F64:
            program_cotangents = np.zeros((len(cotangents), program.value.size))
            program_cotangents[:, output_positions] = cotangents
            return vjp(place(at), program_cotangents)[:, input_positions]  # type: ignore[misc]

        return vjp and rows

    capabilities, evaluate = program.capabilities, program.evaluate
    complex_step = capabilities.complex_step
    return replace(
        program,
        leaves=like.leaves,
        outputs=like.outputs,
        point=program.point[input_positions],
        value=program.value[output_positions],
        evaluate=lambda at: evaluate(place(at))[output_positions],
        claims=tuple(_with_products(claim, rearrange_vjp, lambda _: None) for claim in program.claims if claim.vjp is not None),
        capabilities=replace(
            capabilities,
            evaluate_along=None,
            evaluate_many=None,
            evaluate_native=rearrange_values(capabilities.evaluate_native),
            complex_step=complex_step and (lambda at, tangent: complex_step(place(at), place(tangent))[output_positions]),
            vjp_of_combination=None,
            optimizer_step=None,
            gradient_program=None,
        ),
        value_rounding=None,
    )


def zero_outputs(program: Program, zeroed: NDArray[np.bool_]) -> Program:
    """Return the program in which some of the outputs (M,) are zero, and so are their derivatives."""
    remain = ~zeroed

    def mask_values(function: Evaluate | None) -> Evaluate | None:
        return function and (lambda at: np.where(remain, function(at), 0.0))

    def mask_vjp(vjp: Product | None) -> Product | None:
        return vjp and (lambda at, cotangents: vjp(at, np.where(remain, cotangents, 0.0)))

    def mask_jvp(jvp: Product | None) -> Product | None:
        return jvp and (lambda at, tangents: np.where(remain, jvp(at, tangents), 0.0))

    evaluate = program.evaluate
    return replace(
        program,
        value=np.where(remain, program.value, 0.0),
        evaluate=lambda at: np.where(remain, evaluate(at), 0.0),
        claims=tuple(_with_products(claim, mask_vjp, mask_jvp) for claim in program.claims),
        capabilities=Capabilities(
            evaluate_native=mask_values(program.capabilities.evaluate_native),
            without_tf32=program.capabilities.without_tf32,
        ),
    )


def _with_products(
    claim: Claim, change_vjp: Callable[[Product | None], Product | None], change_jvp: Callable[[Product | None], Product | None]
) -> Claim:
    """Return a claim with its vjps and jvps changed, in its own precision and in that of its twin."""
    return replace(
        claim,
        vjp=change_vjp(claim.vjp),
        twin=change_vjp(claim.twin),
        jvp=change_jvp(claim.jvp),
        twin_jvp=change_jvp(claim.twin_jvp),
    )
