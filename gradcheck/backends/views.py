"""A program with some of its leaves held fast: what is left to look at where the others are confirmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import F64, Leaf, layout_leaves
from gradcheck.backends.program import Claim, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.backends.flat import F64
    from gradcheck.backends.program import Claim, Program

    Map = Callable[[F64], F64]
    Product = Callable[[F64, F64], F64]

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


def _rearranged(program: Program, found: Program, inside: NDArray[np.intp], outside: NDArray[np.intp]) -> Program:
    """A program with its input numbers in another order, and some of its output numbers alone."""

    def point(at: F64) -> F64:
        moved = np.empty(at.shape)
        moved[..., inside] = at
        return moved

    def evaluated(function: Callable[[F64], F64] | None) -> Callable[[F64], F64] | None:
        return function and (lambda at: function(point(at))[outside])

    def pulled(vjp: Callable[[F64, F64], F64] | None) -> Callable[[F64, F64], F64] | None:
        def rows(at: F64, cotangents: F64) -> F64:
            whole = np.zeros((len(cotangents), found.value.size))
            whole[:, outside] = cotangents
            return vjp(point(at), whole)[:, inside]  # type: ignore[misc]

        return vjp and rows

    def claim(of: Claim) -> Claim:
        return replace(of, vjp=pulled(of.vjp), twin=pulled(of.twin), jvp=None, twin_jvp=None)

    evaluate, stepped = evaluated(found.evaluate), found.complex_step
    assert evaluate is not None
    return replace(
        found,
        leaves=program.leaves,
        point=found.point[inside],
        outputs=program.outputs,
        value=found.value[outside],
        evaluate=evaluate,
        native=evaluated(found.native),
        complex_step=stepped and (lambda at, tangent: stepped(point(at), point(tangent))[outside]),
        claims=tuple(claim(c) for c in found.claims if c.vjp is not None),
        along=None,
        many=None,
        composed=None,
        stepped=None,
        second=None,
        rounding=None,
    )


def silenced(program: Program, which: NDArray[np.bool_]) -> Program:
    """The program in which some of the outputs (M,) are zero, and so are their derivatives.

    What looks at them by themselves (`along`, `many`, `composed`, `complex_step`, `layer`, `second`) is left out.
    """
    kept = ~which

    def claim(of: Claim) -> Claim:
        vjps = [_pulled(vjp, kept) for vjp in (of.vjp, of.twin)]
        jvps = [_pushed(jvp, kept) for jvp in (of.jvp, of.twin_jvp)]
        return replace(of, vjp=vjps[0], twin=vjps[1], jvp=jvps[0], twin_jvp=jvps[1])

    native = program.native
    return replace(
        program,
        value=np.where(kept, program.value, 0.0),
        evaluate=_mapped(program.evaluate, kept),
        native=native and _mapped(native, kept),
        claims=tuple(claim(c) for c in program.claims),
        along=None,
        many=None,
        composed=None,
        complex_step=None,
        layer=None,
        second=None,
    )


def _mapped(function: Map, kept: NDArray[np.bool_]) -> Map:
    return lambda at: np.where(kept, function(at), 0.0)


def _pulled(vjp: Product | None, kept: NDArray[np.bool_]) -> Product | None:
    return vjp and (lambda at, cotangents: vjp(at, np.where(kept, cotangents, 0.0)))


def _pushed(jvp: Product | None, kept: NDArray[np.bool_]) -> Product | None:
    return jvp and (lambda at, tangents: np.where(kept, jvp(at, tangents), 0.0))
