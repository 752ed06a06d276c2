"""A JAX target as functions of arrays: its outputs, their vjp and their jvp, in its own dtype or with 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from gradcheck.backends.flat import EPS, F64
from gradcheck.backends.jax.arrays import (
    at_point,
    narrowed,
    numbers,
    turned,
    widened,
    x64,
)
from gradcheck.backends.jax.functional import leaves_with, standing
from gradcheck.backends.jax.jit import (
    Arrays,
    Function,
    compiled,
    eager,
    quickly,
    said,
)
from gradcheck.backends.program import Claim, Unavailable
from gradcheck.errors import DerivativeError
from gradcheck.tracebacks import one_line, user_frames
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.backends.binding import Binding

SMALL = 2048  # numbers among inputs and outputs
NO_MODE = {  # how JAX says that it has a function's derivative in the other mode alone, and how we do
    "can't apply forward-mode": "JAX has no forward mode for a custom_vjp",
    "Reverse-mode differentiation does not work for lax.while_loop": "JAX has no reverse mode for a while_loop",
    "Transpose rule (for reverse-mode differentiation)": "",
}


@dataclass(frozen=True)
class Traced:
    """The differentiable outputs as a function of the differentiable leaves.

    Attributes:
        outputs: (arrays of the differentiable leaves, arrays that stand still) -> the differentiable outputs.
        still: JAX's arrays among the other leaves; they are traced, too.
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

    @property
    def small(self) -> bool:
        """Whether an evaluation takes no time worth mentioning, however it is compiled."""
        return sum(leaf.entries for leaf in (*self.bound.leaves, *self.bound.outputs)) <= SMALL

    @cached_property
    def jitted(self) -> Function:
        """The outputs, traced once for all that is made of them."""
        return jax.jit(self.outputs)  # type: ignore[no-any-return]

    @cached_property
    def run(self) -> Function:
        """The outputs, compiled."""
        return compiled(self.jitted, self.outputs, small=self.small)

    @cached_property
    def pulled(self) -> Function:
        """(leaves and cotangents of the outputs, what stands still) -> outputs and gradients, compiled."""
        return compiled(pullback(self.jitted, self.bound), pullback(self.outputs, self.bound), small=self.small)

    @cached_property
    def pushed(self) -> Function:
        """(leaves and tangents of them, what stands still) -> outputs and their tangents, compiled."""
        return compiled(pushforward(self.jitted), pushforward(self.outputs), small=self.small)

    def at(self, point: F64) -> list[Any]:
        """The differentiable leaves at a point, as NumPy arrays."""
        return at_point(point, self.bound.leaves, wide=self.wide)


def pullback(outputs: Function, bound: Binding) -> Function:
    """The vjp, in a program's convention."""
    count = len(bound.leaves)

    def pulled(moving: Arrays, still: Arrays) -> list[Any]:
        found, back = jax.vjp(lambda *xs: outputs(xs, still), *moving[:count])
        cotangents = [turned(v.astype(out.dtype)) for v, out in zip(moving[count:], found, strict=True)]
        return [*found, *map(turned, back(cotangents))]

    return pulled


def pushforward(outputs: Function) -> Function:
    """The jvp."""

    def pushed(moving: Arrays, still: Arrays) -> list[Any]:
        count = len(moving) // 2
        found, tangents = jax.jvp(lambda *xs: outputs(xs, still), tuple(moving[:count]), tuple(moving[count:]))
        return [*found, *tangents]

    return pushed


def traced(run: Callable[..., Any], bound: Binding, *, bits64: bool, wide: bool = False) -> Traced:
    """A target's kept outputs as a function.

    Args:
        run: every leaf of the call -> what the target returns.
    """

    def outputs(moving: Arrays, still: Arrays) -> list[Any]:
        found = flatten(run(leaves_with(bound, moving, still, wide=wide))).leaves
        return [jnp.asarray(found[i]) for i in bound.kept]

    others = [bound.call.leaves[i] for i in standing(bound)]
    with x64(bits64):
        still = tuple(widened(x) if wide else narrowed(x, bits64=bits64) for x in others)
    return Traced(outputs, still, bound, bits64, wide)


def values(of: Traced, *, plainly: bool = False) -> Callable[[F64], F64]:
    """From a point (N,) to the outputs there, (M,)."""

    def evaluate(point: F64) -> F64:
        with x64(of.bits64):
            return numbers(eager(of.outputs, of.at(point), of.still) if plainly else of.run(of.at(point), of.still))

    return evaluate


def many(of: Traced) -> Callable[[F64], F64]:
    """From points (B, N) to the outputs there, (B, M), through `jax.vmap`; raises Unavailable where that does not apply."""

    def mapped(moving: Arrays, still: Arrays) -> Any:
        return jax.vmap(lambda *one: of.jitted(one, still))(*moving)

    run = jax.jit(mapped, **(quickly() if of.small else {}))

    def outputs(points: F64) -> F64:
        stacked = [np.stack(parts) for parts in zip(*map(of.at, points), strict=True)]
        try:
            with x64(of.bits64):
                found = [np.asarray(part) for part in run(stacked, of.still)]
        except Exception as error:
            raise Unavailable(one_line(error, 100)) from None
        return np.stack([numbers(row) for row in zip(*found, strict=True)])

    return outputs


def reverse(of: Traced) -> Callable[[F64, F64], F64]:
    """Vector-Jacobian products: (point (N,), cotangents (C, M)) -> (C, N)."""

    def vjp(point: F64, cotangents: F64) -> F64:
        outputs = of.bound.outputs
        with x64(of.bits64), told("reverse"):
            given = [[*of.at(point), *at_point(v, outputs, wide=of.wide)] for v in cotangents]
            return np.stack([numbers(of.pulled(moving, of.still)[len(outputs) :]) for moving in given])

    return vjp


def forward(of: Traced) -> Callable[[F64, F64], F64]:
    """Jacobian-vector products: (point (N,), tangents (K, N)) -> (K, M)."""

    def jvp(point: F64, tangents: F64) -> F64:
        count, at = len(of.bound.outputs), of.at(point)
        with x64(of.bits64), told("forward"):
            return np.stack([numbers(of.pushed([*at, *of.at(u)], of.still)[count:]) for u in tangents])

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
        known = [ours for theirs, ours in NO_MODE.items() if theirs in str(error)]
        if known:
            raise Unavailable(known[0] or one_line(error, 120)) from None
        raise DerivativeError(f"the {mode} derivative cannot be computed: {said(error)}", user_frames(error)) from None


def attached(of: Traced, point: F64) -> list[bool]:
    """For each output whether a derivative comes out of it at all: none does behind `stop_gradient`, rounding and the like."""
    seen: list[bool] = []

    def watched(*moving: Any) -> list[Any]:
        found = of.jitted(moving, of.still)
        seen[:] = [isinstance(out, type(moving[0])) for out in found]
        return found

    def by_jvp(*moving: Any) -> Any:
        return jax.jvp(watched, moving, moving)[1]

    with x64(of.bits64):
        for ask in (lambda *moving: jax.vjp(watched, *moving)[0], by_jvp):
            with suppress(Exception):  # a mode that is not there says nothing of it
                jax.eval_shape(ask, *of.at(point))
                return seen
    return [True] * len(of.bound.outputs)


def primals(of: Traced, point: F64) -> dict[str, F64]:
    """The outputs (M,) as they come out beside derivatives, by the name of what takes these, where it is available."""
    ones = at_point(np.ones(sum(leaf.entries * leaf.width for leaf in of.bound.outputs)), of.bound.outputs, wide=of.wide)
    found = {}
    for name, function, given in (("jax.vjp", of.pulled, ones), ("jax.jvp", of.pushed, of.at(point))):
        with suppress(Exception), x64(of.bits64):  # the claims tell
            found[name] = numbers(function([*of.at(point), *given], of.still)[: len(of.bound.outputs)])
    return found
