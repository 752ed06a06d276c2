"""A target bound to one draw of its inputs: all that evidence and checks may ask of it, in float64 vectors.

A backend flattens the differentiable inputs into one vector x of N numbers and the differentiable outputs into one vector of
M numbers; an entry of a complex leaf is two numbers, its real and its imaginary part. A gradient with respect to a complex
entry a + ib is then (dL/da, dL/db), which read as a complex number is PyTorch's convention (the conjugate Wirtinger
derivative, twice).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.backends.flat import F64, HALF, Leaf

if TYPE_CHECKING:
    from gradcheck.backends.layer_view import Layer

TWIN_AGREES = 1e-3  # relative; a twin further off is another function (a branch on dtype, another random draw)
COMPLEX_STEP = 1e-200  # no subtraction, so no round-off: small enough for any x, though derivatives below 1e-124 underflow


Member = tuple[Callable[..., Any] | None, tuple[float, ...]]  # of a combination: a function, and a factor for each leaf
Composed = Callable[[F64, Sequence[Member], Callable[..., Any], F64, frozenset[str]], F64]


class Unavailable(Exception):  # noqa: N818 - not an error: a method that cannot be used on this target
    """A method of computing derivatives does not apply to this target; the message says why."""


@dataclass(frozen=True)
class Claim:
    """A derivative that is to be proved, by one method.

    Attributes:
        method: 'analytic', 'reverse' or 'forward'.
        eps: relative spacing of floats in the dtype that the claim is made in.
        vjp: (point (N,), cotangents (C, M)) -> (C, N).
        jvp: (point (N,), tangents (K, N)) -> (K, M).
        twin: the same vjp, or `twin_jvp` the same jvp, computed in the precision of the evaluation, where that is higher.
        plain: the same vjp as a plain implementation in the claim's dtype would compute it, in half precision.
        optional: may be unavailable without that being the user's fault.
        linear: its vjp is linear in the cotangent by construction, being made of a gradient or a Jacobian.
        derived: made from the function's code by tracing; where it disagrees, the tracing is at fault.
    """

    method: str
    eps: float
    vjp: Callable[[F64, F64], F64] | None = None
    jvp: Callable[[F64, F64], F64] | None = None
    twin: Callable[[F64, F64], F64] | None = None
    twin_jvp: Callable[[F64, F64], F64] | None = None
    plain: Callable[[F64, F64], F64] | None = None
    optional: bool = False
    linear: bool = False
    derived: bool = False


@dataclass(frozen=True)
class Program:
    """A target bound to one draw of its inputs.

    Attributes:
        leaves, outputs: the differentiable inputs and outputs.
        point: the primal, (N,).
        value: the outputs there, (M,).
        evaluate: (N,) -> (M,); may raise, and may return another size, off the primal.
        eps: relative spacing of floats in the precision that `evaluate` computes in.
        along: from a tangent to t -> outputs at point + t tangent, one array a leaf that is to be used at once: the same as
            `evaluate`, without the copies. None where a backend has no such way.
        many: (points (B, N)) -> (B, M), all at once; raises Unavailable. None where a backend has no such way.
        native: the same in the target's own dtype, where `evaluate` computes in a higher one; `plain`: as a plain
            implementation in that dtype would, where it is half precision.
        claims: what is to be proved.
        shapes: of every array among the inputs and outputs, with its path.
        name: of the target, for messages; `fn`: what the backend calls.
        composed: (point, members, combine, cotangent (M,), methods that may be used) -> (N,): automatic differentiation of a
            combination of functions of the same inputs. A member is (function, one factor for each leaf); None stands for the
            target. `combine` makes one output of as many as there are members. Raises Unavailable.
        stepped: (optimizer, point, gradient (N,), learning rate) -> (N,): where a step of an optimiser leads.
        differentiated: () -> the outputs at the primal, (M,), as they come out beside a derivative, by the name of what takes
            it: a custom rule computes them by itself. None where a backend has no such rules.
        exactly: the context in which the claims are computed without TF32; None where that is not used.
        complex_step: (point, tangent) -> derivative along the tangent (M,); raises Unavailable.
        notes: remarks for the report; details: those for who asks for more.
        mutated: paths of the arrays that the last evaluation changed in place.
        layer: what the contracts of a custom layer are tried on; None where the framework has none.
        rounding: what rounding may do to each output at most, (M,), where the outputs are known to be right to so much.
        second: from a cotangent (M,) to the program of its vjp, whose outputs are the gradients with respect to the leaves;
            raises Unavailable. None where there is no vjp that could be differentiated.
        by_cotangent: of the program of a vjp: (point, tangent (N,)) -> what its derivative with respect to the cotangent makes
            of the tangent, in terms of the outputs that the cotangent is for.
    """

    framework: str
    leaves: tuple[Leaf, ...]
    outputs: tuple[Leaf, ...]
    point: F64
    value: F64
    evaluate: Callable[[F64], F64]
    eps: float
    claims: tuple[Claim, ...]
    along: Callable[[F64], Callable[[float], list[F64]]] | None = None
    many: Callable[[F64], F64] | None = None
    native: Callable[[F64], F64] | None = None
    plain: Callable[[F64], F64] | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    name: str = ""
    fn: Callable[..., Any] | None = None
    composed: Composed | None = None
    stepped: Callable[[Callable[..., Any], F64, F64, float], F64] | None = None
    exactly: Callable[[], AbstractContextManager[None]] | None = None
    complex_step: Callable[[F64, F64], F64] | None = None
    differentiated: Callable[[], Mapping[str, F64]] | None = None
    notes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    mutated: Callable[[], list[str]] = field(default=list)
    layer: Layer | None = None
    rounding: F64 | None = None
    second: Callable[[F64], Program] | None = None
    by_cotangent: Callable[[F64, F64], F64] | None = None

    @property
    def half(self) -> bool:
        """Whether it is in half precision, and has a twin: then its accuracy is judged apart from its formula."""
        return self.native is not None and any(leaf.dtype in HALF for leaf in self.leaves)


def same_function(value: F64, again: F64, eps: float) -> bool:
    """Whether a twin in float64 gave the value of the function itself, as far as a dtype of relative spacing `eps` can tell."""
    if again.shape != value.shape:
        return False
    finite = np.isfinite(value) & np.isfinite(again)
    scale = np.max(np.abs(value), initial=0.0, where=finite)
    return not np.any(np.abs(again[finite] - value[finite]) > max(TWIN_AGREES, 8 * eps) * scale)


def wider(value: F64, again: F64 | None) -> F64:
    """The value as a twin in float64 returns it, if there is one; what overflows in the target's own dtype stays infinite."""
    return value if again is None else np.where(np.isfinite(value), again, value)
