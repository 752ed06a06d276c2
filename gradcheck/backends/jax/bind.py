"""Functions on JAX arrays, their custom derivatives, and pytrees that can be called, such as equinox modules.

The claim is made in the user's dtype. Differences are taken on a float64 twin (inputs and arrays of the target in float64, with
64 bits enabled meanwhile) where the target runs so and its value is the same there; else in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from gradcheck.backends import global_state, optimizer_step
from gradcheck.backends.binding import Binding, shapes_of
from gradcheck.backends.flat import EPS, F64, Leaf, layout_leaves, to_flat
from gradcheck.backends.jax import derivatives, gradient_program
from gradcheck.backends.jax.analytic import written
from gradcheck.backends.jax.arrays import (
    NARROW,
    at_point,
    dtype_of,
    is_array,
    is_differentiable,
    is_wide,
    numbers,
    x64,
)
from gradcheck.backends.jax.derivatives import Traced
from gradcheck.backends.jax.functional import (
    Called,
    called_with,
    leaves_with,
)
from gradcheck.backends.jax.jit import said
from gradcheck.backends.program import Composed, Member, Program, same_function, wider
from gradcheck.backends.user_code import call_user, outputs_of
from gradcheck.errors import TargetError
from gradcheck.tracebacks import one_line, user_frames
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.targets.case import Case
    from gradcheck.targets.signature import Inputs


NARROWED = (
    "{}: float64 given, and checked in float32, which is what JAX computes in; jax.config.update('jax_enable_x64', True), or"
    " JAX_ENABLE_X64=1, has it keep 64 bits"
)
AS_IT_IS = "evaluated without jit: under it the target returns another value"


def bind(case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
    """Bind a function or a pytree that can be called to its inputs; the arrays of the latter are leaves `params['name']`.

    Raises:
        InputError: where nothing is differentiable, or inputs are tracers, deleted, or of another framework.
        TargetError: where the target raises at the primal, or returns no floating-point array.
    """
    called, places = called_with(case, target, inputs)
    bits64 = is_wide()
    leaves = _leaves(called, places, bits64=bits64)
    point = np.concatenate([to_flat(called.call.leaves[i]) for i in places])
    bound = Binding(called.call, places, leaves, (), ())
    before = global_state.snapshot()
    given = [jnp.array(x) for x in at_point(point, leaves, wide=False)]
    first = call_user("the target", lambda: called(leaves_with(bound, given)), (), {}, called.call)
    drawn = global_state.changed(before)
    run = global_state.replayed(called, drawn)
    kept, outputs = outputs_of(first, is_differentiable, np.asarray)
    bound = replace(bound, kept=kept, outputs=outputs)
    bound, apart = _without_detached(bound, derivatives.attached(derivatives.traced(run, bound, bits64=bits64), point))
    native = derivatives.traced(run, bound, bits64=bits64)
    returned = flatten(first).leaves
    value = numbers([returned[i] for i in bound.kept])
    twin, again, refusal = _twin(run, bound, point, value)
    evaluate, value, uncompiled = _evaluated(native, point, value) if twin is None else (derivatives.values(twin), value, "")
    program = Program(
        framework="jax",
        shapes=shapes_of(called.call, bound.outputs),
        name=case.name,
        fn=global_state.replayed(called.fn, drawn),
        composed=_composed(called, native),
        stepped=_stepped(leaves),
        leaves=leaves,
        outputs=bound.outputs,
        point=point,
        value=wider(value, again),
        evaluate=evaluate,
        many=derivatives.many(twin or native),
        native=derivatives.values(native) if twin else None,
        eps=EPS["float64"] if twin else max(EPS[leaf.dtype] for leaf in (*leaves, *bound.outputs)),
        claims=(*written(case, called, native, first), *derivatives.claims(native, twin)),
        differentiated=lambda: derivatives.primals(twin or native, point),
        notes=(
            *_narrowed(called, places, bits64=bits64),
            *(f"{path} carries no gradient: not compared" for path in apart),
            *filter(None, [uncompiled, refusal]),
        ),
    )
    return replace(program, second=lambda v: gradient_program.program(program, native, twin, v))


def _leaves(called: Called, places: Sequence[int], *, bits64: bool) -> tuple[Leaf, ...]:
    """The differentiable leaves, in the dtypes that JAX computes with."""
    chosen = [called.call.leaves[i] for i in places]
    shapes, dtypes = [np.shape(x) for x in chosen], [dtype_of(x, bits64=bits64) for x in chosen]
    return layout_leaves([called.call.paths[i] for i in places], shapes, dtypes)


def _narrowed(called: Called, places: Sequence[int], *, bits64: bool) -> Sequence[str]:
    """What is to be said of inputs of 64 bits where JAX computes with 32."""
    given = [(called.call.paths[i], called.call.leaves[i]) for i in places]
    paths = [path for path, x in given if is_array(x) and x.dtype.name in NARROW]
    return () if bits64 or not paths else (NARROWED.format(", ".join(paths)),)


def _without_detached(bound: Binding, attached: list[bool]) -> tuple[Binding, list[str]]:
    """Leave out the outputs that no derivative comes out of; where that is so of all, their derivative is said to be zero."""
    if all(attached) or not any(attached):
        return bound, []
    every = list(zip(bound.kept, bound.outputs, attached, strict=True))
    paths, shapes, dtypes = zip(*[(leaf.path, leaf.shape, leaf.dtype) for _, leaf, so in every if so], strict=True)
    outputs = layout_leaves(list(paths), list(shapes), list(dtypes))
    return replace(bound, kept=tuple(i for i, _, so in every if so), outputs=outputs), [o.path for _, o, so in every if not so]


def _evaluated(native: Traced, point: F64, value: F64) -> tuple[Callable[[F64], F64], F64, str]:
    """The target in its own dtype, compiled where it is the same function so; its value at a point; and a note.

    Raises:
        TargetError: where it raises on its second call.
    """
    evaluate = derivatives.values(native)
    again = _called_again(evaluate, point)
    if same_function(value, again, native.eps):
        return evaluate, again, ""
    evaluate = derivatives.values(native, plainly=True)
    return evaluate, _called_again(evaluate, point), AS_IT_IS


def _called_again(evaluate: Callable[[F64], F64], point: F64) -> F64:
    try:
        return evaluate(point)
    except Exception as error:
        raise TargetError(f"the target raised on its second call: {said(error)}", user_frames(error)) from None


def _twin(run: Callable[..., Any], bound: Binding, point: F64, value: F64) -> tuple[Traced | None, F64 | None, str]:
    """The target with 64 bits and its value there, where it runs so and is the same; else None, and why not."""
    if all(EPS[leaf.dtype] == EPS["float64"] for leaf in bound.leaves):
        return None, None, ""
    twin = derivatives.traced(run, bound, bits64=True, wide=True)
    try:
        with x64(True):
            found = twin.run(twin.at(point), twin.still)
    except Exception as error:
        return None, None, f"differences in its own dtype: it does not run in float64 ({one_line(error, 100)})"
    if any(EPS[x.dtype.name] > EPS["float64"] for x in found):
        return None, None, "differences in its own dtype: it returns a lower precision than it is given"
    again = numbers(found)
    if not same_function(value, again, max(EPS[leaf.dtype] for leaf in bound.leaves)):
        return None, None, "differences in its own dtype: in float64 it returns another value"
    return twin, again, ""


def _stepped(leaves: Sequence[Leaf]) -> Callable[[Callable[..., Any], F64, F64, float], F64]:
    made = optimizer_step.stepped(leaves, jnp.array, np.asarray)

    def step(optimizer: Callable[..., Any], point: F64, gradient: F64, rate: float) -> F64:
        with x64(True):
            return made(optimizer, point, gradient, rate)

    return step


def _composed(called: Called, native: Traced) -> Composed:
    """The derivative of a combination, by JAX."""
    bound = native.bound

    def composed(at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, _used: frozenset[str]) -> F64:
        def combined(moving: Sequence[Any], still: Sequence[Any]) -> list[Any]:
            outputs = []
            for function, scales in members:
                scaled = [x if scale == 1 else x * scale for x, scale in zip(moving, scales, strict=True)]
                outputs.append(native.outputs(scaled, still) if function is None else call(function, scaled))
            return [jnp.asarray(combine(*parts)) for parts in zip(*outputs, strict=True)]

        def call(function: Callable[..., Any], scaled: Sequence[Any]) -> list[Any]:
            args, kwargs = called.arguments(leaves_with(bound, scaled))
            found = flatten(function(*args, **kwargs)).leaves
            return [found[i] for i in bound.kept]

        found: F64 = derivatives.reverse(replace(native, outputs=combined))(at, cotangent[None])[0]
        return found

    return composed
