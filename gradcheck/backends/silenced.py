"""A program with some of its output numbers put to zero."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gradcheck.backends.program import F64, Claim, Program

    Map = Callable[[F64], F64]
    Product = Callable[[F64, F64], F64]


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
