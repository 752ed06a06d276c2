"""The product of a claim that an exact graph must reproduce, if the program can have such a graph at all."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck.backends.flat import EPS, F64
from gradcheck.backends.program import Claim, Program
from gradcheck.exact.graph import NotAvailable


def choose_product(program: Program, claim: Claim) -> Callable[[F64, F64], F64]:
    """Return (point, cotangents or tangents) -> products of a claim in float64.

    Raises:
        NotAvailable: if the program is none of real numbers in float64 on the CPU.
    """
    if any(leaf.width != 1 for leaf in (*program.leaves, *program.outputs)):
        raise NotAvailable("complex numbers")
    if program.device not in ("", "cpu"):
        raise NotAvailable(f"arrays on {program.device}")
    if program.eps > EPS["float64"]:
        raise NotAvailable("the target does not compute in float64")
    product = (claim.twin or claim.vjp) if claim.method == "reverse" else (claim.twin_jvp or claim.jvp)
    assert product is not None
    return product
