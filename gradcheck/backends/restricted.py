"""A program with some of its leaves held fast: what is left to look at where the others are confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from gradcheck.backends.program import F64, Claim, Leaf, Program, layout_leaves

APIECE = 2**22  # input numbers from which on cotangents are asked for one by one: their rows are as long as all inputs


def restricted(program: Program, kept: Sequence[Leaf]) -> Program:
    """The program as a function of some of its leaves alone; the others stay at the primal.

    What combines it with other functions (`composed`, `stepped`, `complex_step`) is left out.
    """
    leaves = layout_leaves([leaf.path for leaf in kept], [leaf.shape for leaf in kept], [leaf.dtype for leaf in kept])
    spans = [(leaf.span, old.span) for leaf, old in zip(leaves, kept, strict=True)]

    def widened(numbers: F64, rest: F64) -> F64:
        """Numbers of the kept leaves (..., n) among the rest, (N,)."""
        found = np.broadcast_to(rest, (*numbers.shape[:-1], rest.size)).copy()
        for new, old in spans:
            found[..., old] = numbers[..., new]
        return found

    def narrowed(numbers: F64) -> F64:
        return np.concatenate([numbers[..., old] for _, old in spans], axis=-1)

    nothing, along, many = np.zeros(program.point.size), program.along, program.many

    def pulled(vjp: Callable[[F64, F64], F64] | None) -> Callable[[F64, F64], F64] | None:
        if vjp is None:
            return None

        def rows(at: F64, cotangents: F64) -> F64:
            whole = widened(at, program.point)
            if program.point.size > APIECE:
                return np.concatenate([narrowed(vjp(whole, v[None])) for v in cotangents])
            return narrowed(vjp(whole, cotangents))

        return rows

    def pushed(jvp: Callable[[F64, F64], F64] | None) -> Callable[[F64, F64], F64] | None:
        return jvp and (lambda at, tangents: jvp(widened(at, program.point), widened(tangents, nothing)))

    def claim(of: Claim) -> Claim:
        vjps = pulled(of.vjp), pulled(of.twin)
        return replace(of, vjp=vjps[0], twin=vjps[1], jvp=pushed(of.jvp), twin_jvp=pushed(of.twin_jvp))

    native = program.native
    return replace(
        program,
        leaves=leaves,
        point=narrowed(program.point),
        evaluate=lambda at: program.evaluate(widened(at, program.point)),
        along=along and (lambda tangent: along(widened(tangent, nothing))),
        many=many and (lambda points: many(widened(points, program.point))),
        native=native and (lambda at: native(widened(at, program.point))),
        claims=tuple(claim(c) for c in program.claims),
        composed=None,
        stepped=None,
        complex_step=None,
    )
