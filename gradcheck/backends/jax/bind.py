"""Functions on JAX arrays, their custom derivatives, and pytrees that can be called, such as equinox modules.

The claim is made in the user's dtype. Differences are taken on a float64 twin: inputs and arrays of the target in
float64, with 64 bits enabled meanwhile. If the target does not run so, or its value differs there, they are taken in its own
dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from gradcheck.backends import global_state, hand_written, optimizer_step
from gradcheck.backends.flat import EPS, F64, Leaf, lay_out_leaves, to_flat
from gradcheck.backends.flat_call import Binding, shapes_of
from gradcheck.backends.jax import derivatives, vjp_program
from gradcheck.backends.jax.arrays import (
    NARROW_DTYPES,
    arrays_at,
    concatenate_flat,
    dtype_of,
    is_array,
    is_differentiable,
    is_x64_enabled,
    use_x64,
)
from gradcheck.backends.jax.derivatives import TracedTarget
from gradcheck.backends.jax.functional import JaxFunctionalCall, fill_leaves, make_functional_call
from gradcheck.backends.jax.hand_written import make_analytic_claim
from gradcheck.backends.jax.jit import describe_error
from gradcheck.backends.jax.rejection_draws import mark_rejection_draws
from gradcheck.backends.program import Capabilities, Claim, Member, Program, VjpOfCombination, trace_on_demand
from gradcheck.backends.twin import is_same_function, prefer_twin_value
from gradcheck.backends.user_code import call_user_code, lay_out_outputs
from gradcheck.errors import TargetError
from gradcheck.targets.case import Case
from gradcheck.tracebacks import format_user_frames, summarise_error
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.targets.signature import Inputs


NARROWED = (
    "{}: float64 given, and checked in float32, which is what JAX computes in; jax.config.update('jax_enable_x64', True), or"
    " JAX_ENABLE_X64=1, has it keep 64 bits"
)
NOT_JITTED = "evaluated without jit: under it the target returns another value"


def bind(case: Case, target: Callable[..., Any], inputs: Inputs) -> Program:
    """Bind a function or a callable pytree to its inputs; the arrays of a pytree become leaves `params['name']`.

    Raises:
        InputError: if nothing is differentiable, or inputs are tracers, deleted, or of another framework.
        TargetError: if the target raises at the primal or returns no floating-point array.
    """
    called, places = make_functional_call(case, target, inputs)
    bits64 = is_x64_enabled()
    leaves = _lay_out_inputs(called, places, bits64=bits64)
    point = np.concatenate([to_flat(called.call.leaves[i]) for i in places])
    binding = Binding(called.call, places, leaves, (), ())
    before = global_state.snapshot(target, called.call.leaves)
    arrays = [jnp.array(x) for x in arrays_at(point, leaves, twin=False)]
    platform = next((device.platform for array in arrays for device in array.devices()), "")  # the call may delete them
    first = call_user_code("the target", lambda: called(fill_leaves(binding, arrays)), (), {}, called.call)
    draws = global_state.changes_since(before)
    case, run = hand_written.replay_draws(case, draws), global_state.replaying(called, draws)
    output_places, outputs = lay_out_outputs(first, is_differentiable, np.asarray)
    binding = replace(binding, output_places=output_places, outputs=outputs)
    attached = derivatives.find_attached_outputs(derivatives.trace_target(run, binding, bits64=bits64), point)
    binding, detached = _without_detached(binding, attached)
    native = derivatives.trace_target(run, binding, bits64=bits64)
    returned = flatten(first).leaves
    value = concatenate_flat([returned[i] for i in binding.output_places])
    twin, value_of_twin, refusal = _trace_twin(run, binding, point, value, native)
    evaluate, value, not_jitted = (
        _choose_evaluation(native, point, value) if twin is None else (derivatives.make_evaluate(twin), value, "")
    )
    program = Program(
        framework="jax",
        shapes=shapes_of(called.call, binding.outputs),
        name=case.name,
        fn=global_state.replaying(called.fn, draws),
        leaves=mark_rejection_draws(native, point),
        outputs=binding.outputs,
        point=point,
        value=prefer_twin_value(value, value_of_twin),
        native_value=value,
        evaluate=evaluate,
        eps=EPS["float64"] if twin else max(EPS[leaf.dtype] for leaf in (*leaves, *binding.outputs)),
        claims=_make_claims(case, called, native, twin, first, is_detached=not any(attached)),
        is_detached=not any(attached),
        capabilities=Capabilities(
            evaluate_many=derivatives.make_batched_evaluate(twin or native),
            evaluate_native=derivatives.make_evaluate(native) if twin else None,
            vjp_of_combination=_make_vjp_of_combination(called, native),
            optimizer_step=_make_step(leaves),
            differentiated_values=lambda: derivatives.evaluate_primals(twin or native, point),
        ),
        notes=(
            *_note_narrowed_inputs(called, places, bits64=bits64),
            *(f"{path} carries no gradient: not compared" for path in detached),
            *filter(None, [not_jitted, refusal]),
        ),
        device=platform,
        draws=draws,
    )
    return program.with_capabilities(
        trace_exactly=trace_on_demand("jax", program=program, target=twin or native),
        gradient_program=lambda v: vjp_program.make_gradient_program(program, native, twin, v),
    )


def _make_claims(
    case: Case, called: JaxFunctionalCall, native: TracedTarget, twin: TracedTarget | None, returned: Any, *, is_detached: bool
) -> tuple[Claim, ...]:
    """Make the claims; if no output carries a derivative, JAX's are zero, and a hand-written one stands in for them."""
    written = make_analytic_claim(case, called, native, returned)
    return written if written and is_detached else (*written, *derivatives.make_claims(native, twin))


def _lay_out_inputs(called: JaxFunctionalCall, places: Sequence[int], *, bits64: bool) -> tuple[Leaf, ...]:
    """Lay out the differentiable leaves in the dtypes that JAX computes with."""
    chosen = [called.call.leaves[i] for i in places]
    shapes, dtypes = [np.shape(x) for x in chosen], [dtype_of(x, bits64=bits64) for x in chosen]
    return lay_out_leaves([called.call.paths[i] for i in places], shapes, dtypes)


def _note_narrowed_inputs(called: JaxFunctionalCall, places: Sequence[int], *, bits64: bool) -> Sequence[str]:
    """Note the inputs of 64 bits if JAX computes with 32."""
    inputs = [(called.call.paths[i], called.call.leaves[i]) for i in places]
    paths = [path for path, x in inputs if is_array(x) and x.dtype.name in NARROW_DTYPES]
    return () if bits64 or not paths else (NARROWED.format(", ".join(paths)),)


def _without_detached(binding: Binding, attached: list[bool]) -> tuple[Binding, list[str]]:
    """Leave out the outputs that carry no derivative; if no output does, keep them all: it is claimed to be zero."""
    if not any(attached):
        return binding, []
    detached = [leaf.path for leaf, carries in zip(binding.outputs, attached, strict=True) if not carries]
    return binding.keep_outputs(attached), detached


def _choose_evaluation(native: TracedTarget, point: F64, value: F64) -> tuple[Callable[[F64], F64], F64, str]:
    """Evaluate the target in its own dtype, compiled if that gives the same value.

    Returns:
        The evaluation, the value at the point, and a note or ''.

    Raises:
        TargetError: if the target raises on its second call.
    """
    evaluate = derivatives.make_evaluate(native)
    compiled_value = _call_again(evaluate, point)
    if is_same_function(point, value, compiled_value, native.eps):
        return evaluate, compiled_value, ""
    evaluate = derivatives.make_evaluate(native, eagerly=True)
    return evaluate, _call_again(evaluate, point), NOT_JITTED


def _call_again(evaluate: Callable[[F64], F64], point: F64) -> F64:
    try:
        return evaluate(point)
    except Exception as error:
        raise TargetError(f"the target raised on its second call: {describe_error(error)}", format_user_frames(error)) from None


def _trace_twin(
    run: Callable[..., Any], binding: Binding, point: F64, value: F64, native: TracedTarget
) -> tuple[TracedTarget | None, F64 | None, str]:
    """Trace the target with 64 bits, if it runs so and returns the same value; else return why not."""
    if all(EPS[leaf.dtype] == EPS["float64"] for leaf in binding.leaves):
        return None, None, ""
    twin = derivatives.trace_target(run, binding, bits64=True, draws64=native.draws64, twin=True)
    try:
        with twin.computing():
            outputs = twin.compiled_outputs(twin.leaves_at(point), twin.constants)
    except Exception as error:
        return None, None, f"differences in its own dtype: it does not run in float64 ({summarise_error(error, 100)})"
    if any(EPS[x.dtype.name] > EPS["float64"] for x in outputs):
        return None, None, "differences in its own dtype: it returns a lower precision than it is given"
    value_of_twin = concatenate_flat(outputs)

    def evaluate_both(at: F64) -> tuple[F64, F64]:
        return derivatives.make_evaluate(native)(at), derivatives.make_evaluate(twin)(at)

    if not is_same_function(point, value, value_of_twin, max(EPS[leaf.dtype] for leaf in binding.leaves), evaluate_both):
        return None, None, "differences in its own dtype: in float64 it returns another value"
    return twin, value_of_twin, ""


def _make_step(leaves: Sequence[Leaf]) -> Callable[[Callable[..., Any], F64, F64, float], F64]:
    step_in_x64 = optimizer_step.make_step(leaves, jnp.array, np.asarray)

    def step(optimizer: Callable[..., Any], point: F64, gradient: F64, rate: float) -> F64:
        with use_x64(True):
            return step_in_x64(optimizer, point, gradient, rate)

    return step


def _make_vjp_of_combination(called: JaxFunctionalCall, native: TracedTarget) -> VjpOfCombination:
    """Differentiate a combination with JAX."""
    binding = native.binding

    def vjp_of_combination(
        at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, _used: frozenset[str]
    ) -> F64:
        def combined(moving: Sequence[Any], constants: Sequence[Any]) -> list[Any]:
            outputs = []
            for function, scales in members:
                scaled = [x if scale == 1 else x * scale for x, scale in zip(moving, scales, strict=True)]
                outputs.append(native.outputs(scaled, constants) if function is None else call(function, scaled))
            return [jnp.asarray(combine(*parts)) for parts in zip(*outputs, strict=True)]

        def call(function: Callable[..., Any], scaled: Sequence[Any]) -> list[Any]:
            args, kwargs = called.arguments(fill_leaves(binding, scaled))
            returned = flatten(function(*args, **kwargs)).leaves
            return [returned[i] for i in binding.output_places]

        gradient: F64 = derivatives.make_vjp(replace(native, outputs=combined))(at, cotangent[None])[0]
        return gradient

    return vjp_of_combination
