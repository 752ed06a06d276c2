"""A JAX target as functions of arrays: its outputs, their vjp and their jvp, in its own dtype or with 64 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.core import subjaxprs

from gradcheck.backends.flat import EPS, F64
from gradcheck.backends.flat_call import Binding
from gradcheck.backends.jax.arrays import arrays_at, concatenate_flat, conjugate, narrow, use_x64, widen
from gradcheck.backends.jax.attached import ignore_stop_gradient
from gradcheck.backends.jax.functional import constant_places, fill_leaves
from gradcheck.backends.jax.jit import (
    ArrayFunction,
    Arrays,
    call_eagerly,
    compile_function,
    describe_error,
    fast_compile_options,
)
from gradcheck.backends.jax.random_draws import drawing_without_x64
from gradcheck.backends.program import Claim, Unavailable
from gradcheck.errors import DerivativeError
from gradcheck.tracebacks import format_user_frames, format_user_line, read_message, summarise_error, was_raised_by_user
from gradcheck.trees import flatten

SMALL = 2048  # A target of up to this many input and output entries is compiled fast rather than to fast code.
# What JAX's message contains if a function has no derivative in one of the modes, and the message shown instead; '' keeps it.
MISSING_MODES = {
    "can't apply forward-mode": "JAX has no forward mode for a custom_vjp",
    "Reverse-mode differentiation does not work for lax.while_loop": "JAX has no reverse mode for a while_loop",
    "Transpose rule (for reverse-mode differentiation)": "",
}


@dataclass(frozen=True)
class TracedTarget:
    """The differentiable outputs as a function of the differentiable leaves.

    Attributes:
        outputs: (arrays of the differentiable leaves, constants) -> the differentiable outputs.
        constants: JAX's arrays among the other leaves; they are traced, too.
        bits64: whether JAX computes with 64 bits.
        is_twin: whether this is the twin, whose floating arrays are all float64.
        draws64: whether it draws its random numbers with 64 bits, as the target does.
    """

    outputs: ArrayFunction
    constants: tuple[Any, ...]
    binding: Binding
    bits64: bool
    is_twin: bool = False
    draws64: bool = False

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Have JAX compute and draw random numbers with as many bits as this target needs."""
        with use_x64(self.bits64), nullcontext() if self.draws64 == self.bits64 else drawing_without_x64():
            yield

    @property
    def eps(self) -> float:
        """Relative spacing of floats in the coarsest dtype of the leaves."""
        return EPS["float64"] if self.is_twin else max(EPS[leaf.dtype] for leaf in self.binding.leaves)

    @property
    def small(self) -> bool:
        """Whether an evaluation takes negligible time, however it is compiled."""
        return sum(leaf.entries for leaf in (*self.binding.leaves, *self.binding.outputs)) <= SMALL

    @cached_property
    def jitted(self) -> ArrayFunction:
        """The outputs, traced once for all derivatives."""
        return jax.jit(self.outputs)  # type: ignore[no-any-return]

    @cached_property
    def compiled_outputs(self) -> ArrayFunction:
        """The outputs, compiled."""
        return compile_function(self.jitted, self.outputs, small=self.small)

    @cached_property
    def compiled_vjp(self) -> ArrayFunction:
        """(leaves and cotangents of the outputs, constants) -> outputs and gradients, compiled."""
        return compile_function(
            build_pullback(self.jitted, self.binding), build_pullback(self.outputs, self.binding), small=self.small
        )

    @cached_property
    def compiled_jvp(self) -> ArrayFunction:
        """(leaves and their tangents, constants) -> outputs and their tangents, compiled."""
        return compile_function(build_pushforward(self.jitted), build_pushforward(self.outputs), small=self.small)

    def leaves_at(self, point: F64) -> list[Any]:
        """Return the differentiable leaves at a point (N,), as NumPy arrays."""
        return arrays_at(point, self.binding.leaves, twin=self.is_twin)


def build_pullback(outputs: ArrayFunction, binding: Binding) -> ArrayFunction:
    """Make (leaves and cotangents, constants) -> outputs and gradients, in a program's convention for complex numbers."""
    count = len(binding.leaves)

    def pull_back(moving: Arrays, constants: Arrays) -> list[Any]:
        values, vjp = jax.vjp(lambda *xs: outputs(xs, constants), *moving[:count])
        cotangents = [conjugate(v.astype(out.dtype)) for v, out in zip(moving[count:], values, strict=True)]
        return [*values, *map(conjugate, vjp(cotangents))]

    return pull_back


def build_pushforward(outputs: ArrayFunction) -> ArrayFunction:
    """Make (leaves and tangents, constants) -> outputs and their tangents."""

    def push_forward(moving: Arrays, constants: Arrays) -> list[Any]:
        count = len(moving) // 2
        values, tangents = jax.jvp(lambda *xs: outputs(xs, constants), tuple(moving[:count]), tuple(moving[count:]))
        return [*values, *tangents]

    return push_forward


def trace_target(
    run: Callable[..., Any], binding: Binding, *, bits64: bool, draws64: bool | None = None, twin: bool = False
) -> TracedTarget:
    """Make a function of the differentiable leaves of a target.

    Args:
        run: every leaf of the call -> what the target returns.
        bits64: whether JAX computes with 64 bits.
        draws64: whether random numbers are drawn with 64 bits; None: as `bits64`.
        twin: whether floating arrays become float64.
    """

    def outputs(moving: Arrays, constants: Arrays) -> list[Any]:
        returned = flatten(run(fill_leaves(binding, moving, constants, twin=twin))).leaves
        return [jnp.asarray(returned[i]) for i in binding.output_places]

    others = [binding.call.leaves[i] for i in constant_places(binding)]
    with use_x64(bits64):
        constants = tuple(widen(x) if twin else narrow(x, bits64=bits64) for x in others)
    return TracedTarget(outputs, constants, binding, bits64, twin, bits64 if draws64 is None else draws64)


def make_evaluate(target: TracedTarget, *, eagerly: bool = False) -> Callable[[F64], F64]:
    """Make the function point (N,) -> outputs (M,).

    Args:
        eagerly: whether to call it without `jit`.
    """

    def evaluate(point: F64) -> F64:
        with target.computing():
            return concatenate_flat(
                call_eagerly(target.outputs, target.leaves_at(point), target.constants)
                if eagerly
                else target.compiled_outputs(target.leaves_at(point), target.constants)
            )

    return evaluate


def make_batched_evaluate(target: TracedTarget) -> Callable[[F64], F64]:
    """Make the function points (B, N) -> outputs (B, M), through `jax.vmap`.

    Raises Unavailable when called if the target cannot be mapped.
    """

    def mapped(moving: Arrays, constants: Arrays) -> Any:
        return jax.vmap(lambda *arrays: target.jitted(arrays, constants))(*moving)

    run = jax.jit(mapped, **(fast_compile_options() if target.small else {}))

    def outputs(points: F64) -> F64:
        stacked = [np.stack(parts) for parts in zip(*map(target.leaves_at, points), strict=True)]
        try:
            with target.computing():
                batches = [np.asarray(batch) for batch in run(stacked, target.constants)]
        except Exception as error:
            raise Unavailable(summarise_error(error, 100)) from None
        return np.stack([concatenate_flat(arrays) for arrays in zip(*batches, strict=True)])

    return outputs


def make_vjp(target: TracedTarget) -> Callable[[F64, F64], F64]:
    """Make the vector-Jacobian products: (point (N,), cotangents (C, M)) -> (C, N)."""

    def vjp(point: F64, cotangents: F64) -> F64:
        outputs = target.binding.outputs
        with target.computing(), explain_failures("reverse"):
            moving = [[*target.leaves_at(point), *arrays_at(v, outputs, twin=target.is_twin)] for v in cotangents]
            return np.stack(
                [concatenate_flat(target.compiled_vjp(arrays, target.constants)[len(outputs) :]) for arrays in moving]
            )

    return vjp


def make_attached_vjp(target: TracedTarget) -> Callable[[F64, F64], tuple[F64, tuple[str, ...]]]:
    """Make the vector-Jacobian products of a target without `stop_gradient`; they also return the user's lines that call it."""

    def vjp(point: F64, cotangents: F64) -> tuple[F64, tuple[str, ...]]:
        outputs, pull_back = target.binding.outputs, build_pullback(target.outputs, target.binding)
        with target.computing(), ignore_stop_gradient() as lines:
            moving = [[*target.leaves_at(point), *arrays_at(v, outputs, twin=target.is_twin)] for v in cotangents]
            rows = [pull_back([jnp.asarray(x) for x in arrays], target.constants)[len(outputs) :] for arrays in moving]
            return np.stack([concatenate_flat(row) for row in rows]), tuple(filter(None, lines))

    return vjp


def make_jvp(target: TracedTarget) -> Callable[[F64, F64], F64]:
    """Make the Jacobian-vector products: (point (N,), tangents (K, N)) -> (K, M)."""

    def jvp(point: F64, tangents: F64) -> F64:
        count, leaves = len(target.binding.outputs), target.leaves_at(point)
        with target.computing(), explain_failures("forward"):
            return np.stack(
                [
                    concatenate_flat(target.compiled_jvp([*leaves, *target.leaves_at(u)], target.constants)[count:])
                    for u in tangents
                ]
            )

    return jvp


def make_claims(native: TracedTarget, twin: TracedTarget | None) -> tuple[Claim, Claim]:
    """Make the claims of JAX's reverse and forward mode; a target may lack either mode."""
    vjp, twin_vjp, twin_jvp = make_vjp(native), make_vjp(twin) if twin else None, make_jvp(twin) if twin else None
    attached = make_attached_vjp(twin or native)
    return (
        Claim("reverse", native.eps, vjp, twin=twin_vjp, attached=attached, optional=True),
        Claim(
            "forward",
            native.eps,
            jvp=make_jvp(native),
            twin_jvp=twin_jvp,
            attached=attached,
            optional=True,
            has_jvp_rule=lambda: has_custom_jvp(native),
        ),
    )


def has_custom_jvp(target: TracedTarget) -> bool:
    """Whether a `custom_jvp` takes part in a target; true if the target cannot be traced."""
    try:
        with target.computing():
            leaves = target.leaves_at(np.zeros(target.binding.leaves[-1].span.stop))
            waiting = [jax.make_jaxpr(target.jitted)(leaves, target.constants).jaxpr]
    except Exception:
        return True
    while waiting:
        jaxpr = waiting.pop()
        if any(equation.primitive.name.startswith("custom_jvp_call") for equation in jaxpr.eqns):
            return True
        waiting += subjaxprs(jaxpr)
    return False


@contextmanager
def explain_failures(mode: str) -> Iterator[None]:
    """Turn exceptions from a derivative into those of gradcheck.

    Raises:
        Unavailable: if JAX has no derivative of the target in this mode.
        DerivativeError: if the derivative raises for another reason.
    """
    try:
        yield
    except Exception as error:
        messages = [message for part, message in MISSING_MODES.items() if part in read_message(error)]
        if messages or _is_not_transposable(error):
            line = format_user_line(error.__cause__) if error.__cause__ else ""
            raise Unavailable((next(filter(None, messages), "") or summarise_error(error, 120)) + line) from None
        raise DerivativeError(
            f"the {mode} derivative cannot be computed: {describe_error(error)}", format_user_frames(error)
        ) from None


def _is_not_transposable(error: Exception) -> bool:
    """Whether JAX failed to transpose the rule of a custom_jvp, as one that is not linear in its tangents."""
    has_source = type(error.__cause__).__name__ == "JaxStackTraceBeforeTransformation"
    is_from_jax = isinstance(error, AssertionError) or "nonlinear" in read_message(error)
    return has_source and is_from_jax and not was_raised_by_user(error)


def find_attached_outputs(target: TracedTarget, point: F64) -> list[bool]:
    """Say for each output whether it carries a derivative at all: after `stop_gradient` or rounding it does not."""
    attached: list[bool] = []

    def record_outputs(*moving: Any) -> list[Any]:
        outputs = target.jitted(moving, target.constants)
        attached[:] = [isinstance(out, type(moving[0])) for out in outputs]
        return outputs

    def by_jvp(*moving: Any) -> Any:
        return jax.jvp(record_outputs, moving, moving)[1]

    with target.computing():
        for differentiate in (lambda *moving: jax.vjp(record_outputs, *moving)[0], by_jvp):
            with suppress(Exception):  # A mode that the target lacks says nothing about its outputs.
                jax.eval_shape(differentiate, *target.leaves_at(point))
                return attached
    return [True] * len(target.binding.outputs)


def evaluate_primals(target: TracedTarget, point: F64) -> dict[str, F64]:
    """Return the outputs (M,) as `jax.vjp` and `jax.jvp` return them along with derivatives, by the name of the function.

    A mode that the target lacks is left out.
    """
    cotangents = arrays_at(
        np.ones(sum(leaf.entries * leaf.width for leaf in target.binding.outputs)), target.binding.outputs, twin=target.is_twin
    )
    values = {}
    for name, function, directions in (
        ("jax.vjp", target.compiled_vjp, cotangents),
        ("jax.jvp", target.compiled_jvp, target.leaves_at(point)),
    ):
        with suppress(Exception), target.computing():  # The claims report such an error.
            values[name] = concatenate_flat(
                function([*target.leaves_at(point), *directions], target.constants)[: len(target.binding.outputs)]
            )
    return values
