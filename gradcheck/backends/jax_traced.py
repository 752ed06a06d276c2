"""A JAX target as functions of arrays: its outputs, their vjp and their jvp, in its own dtype or with 64 bits.

Raises where JAX has no such mode for what the target is made of: `Unavailable`. What the user's own rule raises is a
`DerivativeError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.jax_arrays import at_point, copied, narrowed, numbers, turned, widened, x64
from gradcheck.backends.jax_called import leaves_with, standing
from gradcheck.backends.jax_compiled import Function, compiled, eager
from gradcheck.backends.program import EPS, F64, Claim, Unavailable
from gradcheck.errors import DerivativeError
from gradcheck.tracebacks import one_line, user_frames
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.calls import Binding

NO_MODE = (  # how JAX says that it has a function's derivative in the other mode alone
    "can't apply forward-mode",
    "Reverse-mode differentiation does not work for lax.while_loop",
    "Transpose rule (for reverse-mode differentiation)",
)


@dataclass(frozen=True)
class Traced:
    """The differentiable outputs as a function of the differentiable leaves.

    Attributes:
        outputs: (arrays of the differentiable leaves, arrays that stand still) -> the differentiable outputs.
        still: the arrays among the other leaves; they are traced, too.
        bits64: whether JAX computes with 64 bits.
        wide: whether this is the twin, whose floating arrays are all float64.
    """

    outputs: Function
    still: tuple[Any, ...]
    bound: Binding
    bits64: bool
    wide: bool = False

    @property
    def eps(self) -> float:
        """Relative spacing of floats in the dullest dtype of the leaves."""
        return EPS["float64"] if self.wide else max(EPS[leaf.dtype] for leaf in self.bound.leaves)


def traced(run: Callable[..., Any], bound: Binding, *, bits64: bool, wide: bool = False) -> Traced:
    """A target's kept outputs as a function.

    Args:
        run: every leaf of the call -> what the target returns.
    """

    def outputs(moving: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        found = flatten(run(leaves_with(bound, moving, still, wide=wide))).leaves
        return [jnp.asarray(found[i]) for i in bound.kept]

    others = [bound.call.leaves[i] for i in standing(bound)]
    with x64(bits64):
        still = tuple(widened(x) if wide else narrowed(x, bits64=bits64) for x in others)
    return Traced(outputs, still, bound, bits64, wide)


def values(traced: Traced, *, plainly: bool = False) -> Callable[[F64], F64]:
    """From a point (N,) to the outputs there, (M,)."""
    run = traced.outputs if plainly else compiled(traced.outputs)

    def evaluate(point: F64) -> F64:
        moving = at_point(point, traced.bound.leaves, wide=traced.wide)
        with x64(traced.bits64):
            found = eager(run, moving, traced.still) if plainly else run(moving, traced.still)
        return numbers(found)

    return evaluate


def dtypes(traced: Traced, point: F64) -> list[str]:
    """The names of the outputs' dtypes."""
    moving = at_point(point, traced.bound.leaves, wide=traced.wide)
    with x64(traced.bits64):
        return [x.dtype.name for x in compiled(traced.outputs)(moving, traced.still)]


def many(traced: Traced) -> Callable[[F64], F64]:
    """From points (B, N) to the outputs there, (B, M), through `jax.vmap`; raises Unavailable where that does not apply."""

    def mapped(moving: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        return jax.vmap(lambda *one: traced.outputs(one, still))(*moving)  # type: ignore[no-any-return]

    run = jax.jit(mapped)

    def outputs(points: F64) -> F64:
        rows = [at_point(point, traced.bound.leaves, wide=traced.wide) for point in points]
        try:
            with x64(traced.bits64):
                found = run([np.stack(parts) for parts in zip(*rows, strict=True)], traced.still)
        except Exception as error:
            raise Unavailable(one_line(error, 100)) from None
        return np.stack([numbers(row) for row in zip(*[np.asarray(part) for part in found], strict=True)])

    return outputs


def reverse(traced: Traced) -> Callable[[F64, F64], F64]:
    """Vector-Jacobian products: (point (N,), cotangents (C, M)) -> (C, N)."""
    run = compiled(pullback(traced))

    def vjp(point: F64, cotangents: F64) -> F64:
        moving, outputs = at_point(point, traced.bound.leaves, wide=traced.wide), traced.bound.outputs
        with x64(traced.bits64), told("reverse"):
            rows = [run([*moving, *at_point(v, outputs, wide=traced.wide)], traced.still) for v in cotangents]
        return np.stack([numbers(row) for row in rows])

    return vjp


def pullback(traced: Traced) -> Function:
    """The function (leaves and cotangents of the outputs, what stands still) -> gradients, in a program's convention."""

    def pulled(moving: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        leaves, cotangents = moving[: len(traced.bound.leaves)], moving[len(traced.bound.leaves) :]
        found, back = jax.vjp(lambda *xs: traced.outputs(xs, still), *leaves)
        return [turned(g) for g in back([turned(v.astype(out.dtype)) for v, out in zip(cotangents, found, strict=True)])]

    return pulled


def forward(traced: Traced) -> Callable[[F64, F64], F64]:
    """Jacobian-vector products: (point (N,), tangents (K, N)) -> (K, M)."""

    def pushed(moving: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        count = len(traced.bound.leaves)
        found = jax.jvp(lambda *xs: traced.outputs(xs, still), tuple(moving[:count]), tuple(moving[count:]))
        return found[1]  # type: ignore[no-any-return]

    run = compiled(pushed)

    def jvp(point: F64, tangents: F64) -> F64:
        moving = at_point(point, traced.bound.leaves, wide=traced.wide)
        with x64(traced.bits64), told("forward"):
            rows = [run([*moving, *at_point(u, traced.bound.leaves, wide=traced.wide)], traced.still) for u in tangents]
        return np.stack([numbers(row) for row in rows])

    return jvp


def claims(native: Traced, twin: Traced | None) -> tuple[Claim, Claim]:
    """JAX's derivative in reverse and in forward mode, either of which a target may be without."""
    return (
        Claim("reverse", native.eps, reverse(native), twin=reverse(twin) if twin else None, optional=True),
        Claim("forward", native.eps, jvp=forward(native), twin_jvp=forward(twin) if twin else None, optional=True),
    )


@contextmanager
def told(mode: str) -> Iterator[None]:
    """Say what is wrong where a derivative cannot be computed.

    Raises:
        Unavailable: where JAX has none in this mode.
        DerivativeError: where it raises.
    """
    try:
        yield
    except Exception as error:
        if any(text in str(error) for text in NO_MODE):
            raise Unavailable(one_line(error, 120)) from None
        raise DerivativeError(f"the {mode} derivative cannot be computed: {one_line(error)}", user_frames(error)) from None


def attached(traced: Traced, point: F64) -> list[bool]:
    """For each output whether a derivative comes out of it at all: none does behind `stop_gradient`, rounding and the like."""
    seen: list[bool] = []

    def watched(*moving: Any) -> list[Any]:
        found = traced.outputs(moving, still)
        seen[:] = [isinstance(out, jax.core.Tracer) for out in found]
        return found

    with x64(traced.bits64):
        still = [copied(x) for x in traced.still]
        given = [jnp.array(x) for x in at_point(point, traced.bound.leaves, wide=traced.wide)]
        for ask in (lambda: jax.vjp(watched, *given), lambda: jax.jvp(watched, tuple(given), tuple(given))):
            with suppress(Exception):  # a mode that is not there says nothing of it
                ask()
                return seen
    return [True] * len(traced.bound.outputs)


def primals(traced: Traced, point: F64) -> dict[str, F64]:
    """The outputs (M,) as they are computed while derivatives are taken, by the name of the mode, where it is available."""
    moving = at_point(point, traced.bound.leaves, wide=traced.wide)

    def in_reverse(given: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        return jax.vjp(lambda *xs: traced.outputs(xs, still), *given)[0]  # type: ignore[no-any-return]

    def in_forward(given: Sequence[Any], still: Sequence[Any]) -> list[Any]:
        return jax.jvp(lambda *xs: traced.outputs(xs, still), tuple(given), tuple(given))[0]  # type: ignore[no-any-return]

    found = {}
    for mode, function in (("jax.vjp", in_reverse), ("jax.jvp", in_forward)):
        try:
            with x64(traced.bits64):
                found[mode] = numbers(compiled(function)(moving, traced.still))
        except Exception:  # the claims tell
            continue
    return found
