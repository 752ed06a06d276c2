"""What the exact traces of all frameworks share: what they refuse, how they are compared with the program, the identity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.backends.flat import EPS, F64
from gradcheck.exact.graph import Input, Node, NotAvailable
from gradcheck.exact.identity import Equality, Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck.backends.flat_call import Binding
    from gradcheck.backends.program import Claim, Program

# How far the traced graph may differ from the program, relative to the largest number: rounding in another order.
MAX_DIFFERENCE = 1e-12
# And relative to the rounding that shows where the inputs move a little, up to an absolute bound: a kink moves more.
RATIO_TO_ROUNDING, NUDGE, MAX_ROUNDING = 64.0, 2.0**-48, 1e-9
# The graph is compared with the program this far away too, relative to each input: less far where it may change its branch.
SHIFT, SHIFT_ON_BRANCH = 2.0**-7, 1e-6
# A derivative in lower precision may differ from its float64 twin by this many units in the last place of its largest number.
MAX_NATIVE_ULPS = 32.0
RULE_DIFFERS = "the exact graph does not compute what the program computes"
TRACE_HOLDS_HERE = "the traced graph holds for these inputs only: the code reads values of its tensors"
NATIVE_DIFFERS = "in {} the derivative by hand computes other numbers than in float64"


def refuse_unusual(binding: Binding, program: Program) -> None:
    """Raise NotAvailable for programs that have no exact meaning."""
    if program.framework != "torch" and any(leaf.width != 1 for leaf in (*binding.leaves, *binding.outputs)):
        raise NotAvailable("complex numbers")
    if program.device not in ("", "cpu"):
        raise NotAvailable(f"tensors on {program.device}")
    if program.eps > EPS["float64"]:
        raise NotAvailable("the target does not compute in float64")


def choose_product(claim: Claim) -> Callable[[F64, F64], F64]:
    """Return the vjp of a claim, or its jvp if that is what it claims, in the precision of the evaluation."""
    product = (claim.twin_jvp or claim.jvp) if claim.vjp is None else (claim.twin or claim.vjp)
    assert product is not None
    return product


def require_same_in_own_dtype(claim: Claim, program: Program, vector: F64, product: Callable[[F64, F64], F64]) -> None:
    """Raise NotAvailable if a derivative by hand computes something else in its own precision than `product` does."""
    native = claim.jvp if claim.vjp is None else claim.vjp
    if claim.eps <= EPS["float64"] or not claim.direct_calls or native is None:
        return
    computed, expected = (function(program.point, vector[None])[0] for function in (native, product))
    if np.any(np.abs(computed - expected) > MAX_NATIVE_ULPS * claim.eps * np.max(np.abs(expected), initial=0.0)):
        raise NotAvailable(NATIVE_DIFFERS.format(program.leaves[0].dtype))


def draw_shifted_point(program: Program, draw: np.random.Generator, *, has_branches: bool) -> F64:
    """Draw a point at which the graph is compared with the program again, (N,)."""
    return program.point * (1 + (SHIFT_ON_BRANCH if has_branches else SHIFT) * draw.standard_normal(program.point.size))


def measure_rounding(program: Program, product: Callable[[F64], F64], draw: np.random.Generator) -> tuple[float, float]:
    """Return the rounding of the values and of a derivative, which shows where the inputs move by a few units of theirs."""
    moved = [program.point * (1 + NUDGE * draw.uniform(-1.0, 1.0, program.point.size)) for _ in range(2)]

    def measure(function: Callable[[F64], F64]) -> float:
        here = function(program.point)
        sizes = [np.max(np.nan_to_num(np.abs(function(at) - here)), initial=0.0) for at in moved]
        return float(min(RATIO_TO_ROUNDING * max(sizes), MAX_ROUNDING))

    return measure(program.evaluate), measure(product)


def require_equal(computed: F64, expected: F64, message: str, rounding: float) -> None:
    """Raise NotAvailable unless two arrays are equal, but for rounding, whose measured part is given."""
    with np.errstate(all="ignore"):
        apart = np.abs(computed - expected) > rounding + MAX_DIFFERENCE * np.max(np.abs(expected), initial=1e-300)
    if np.any(apart & (computed != expected)):
        raise NotAvailable(message)


def make_identity(
    nodes: Sequence[Node | None],
    inputs: Sequence[Input],
    binding: Binding,
    equalities: Sequence[Equality],
    *,
    forward: bool,
) -> Identity:
    """Make the identity of traced outputs and derivatives.

    Args:
        nodes: the outputs, and behind them the derivatives.
        inputs: the leaves, and behind them the cotangents, or in forward mode the tangents.
        binding: of the call.
        equalities: numbers that a branch depends on.
        forward: whether the derivatives are those of the outputs.
    """
    leaves, vectors = tuple(inputs[: len(binding.leaves)]), tuple(inputs[len(binding.leaves) :])
    outputs = tuple(node for node in nodes[: len(binding.outputs)] if node is not None)
    claims = tuple(nodes[len(binding.outputs) :])
    if not forward:
        return Identity(leaves, vectors, outputs, claims, equalities=tuple(equalities))
    return Identity(leaves, tuple(Input(node.shape) for node in outputs), outputs, claims, vectors, tuple(equalities))
