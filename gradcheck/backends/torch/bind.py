"""Functions on torch tensors, custom autograd Functions, and nn.Modules.

The claim is made in the user's dtype. Differences are taken on a float64 twin (inputs, parameters and buffers in float64)
where the target runs in float64 and its value is the same there; else in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gradcheck.backends import global_state, hand_written, optimizer_step
from gradcheck.backends.flat import EPS, F64, lay_out_leaves
from gradcheck.backends.flat_call import Binding, shapes_of
from gradcheck.backends.program import Capabilities, Member, Program, VjpOfCombination, trace_on_demand
from gradcheck.backends.torch import composition, devices, lazy_modules, line, random_draws, sparse, vjp_program, vmap
from gradcheck.backends.torch.changed_gradients import describe_changed_gradients, mark_rejection_draws
from gradcheck.backends.torch.contract_target import make_layer
from gradcheck.backends.torch.derivatives import is_connected, make_claims
from gradcheck.backends.torch.functional import TorchFunctionalCall, is_differentiable, make_functional_call, make_outputs_dense
from gradcheck.backends.torch.parameter_swap import swap_scope
from gradcheck.backends.torch.tensors import (
    TWIN_DTYPES,
    carries_gradient,
    dtype_name,
    flat_of,
    flat_of_all,
    flatten_outputs,
    leaves_at,
    replace_leaves,
    to_numpy,
)
from gradcheck.backends.torch.twin_precision import emulated_half_precision, evaluate_target, is_half, twin_precision
from gradcheck.backends.twin import is_same_function, prefer_twin_value
from gradcheck.backends.user_code import call_user_code, find_changed_arrays, lay_out_outputs
from gradcheck.errors import TargetError
from gradcheck.targets.case import Case
from gradcheck.targets.signature import Inputs
from gradcheck.tracebacks import summarise_error
from gradcheck.trees import flatten

# How PyTorch's message begins when a function writes to an input that requires a gradient.
LEAF_OVERWRITTEN = "a leaf Variable that requires grad"
WRITES_TO_INPUTS = "the target writes to its inputs: it is called with copies of them"
CARRIED_STATE = (
    "the output depends on {}, which the forward updates outside of autograd: gradients ignore that, differences do not;"
    " `.eval()` may stop the updates"
)
# Share of the difference between a half-precision value and its twin that rounding may leave unexplained.
UNEXPLAINED = 0.25


@dataclass(frozen=True)
class FirstCall:
    """The target, called once at the primal.

    Attributes:
        functional_call: the target as a function of all its tensors.
        binding: its leaves, without outputs.
        point: the leaves as numbers, (N,).
        returned: what the target returned, with its graph.
        draws: the states of the random generators that it drew from.
        buffers: the module's buffers after the call, by name.
    """

    functional_call: TorchFunctionalCall
    binding: Binding
    point: F64
    returned: Any
    draws: dict[str, Any]
    buffers: dict[str, Any]


class _Evaluation:
    """The target as a function of its leaves' numbers, in float64 (`twin`) or in its own dtype."""

    def __init__(self, run: Callable[..., Any], binding: Binding, *, twin: bool) -> None:
        self.run, self.binding, self.twin = run, binding, twin
        self.latest: tuple[F64, list[Any]] | None = None

    def __call__(self, at: F64) -> F64:
        tensors = leaves_at(self.binding, at, twin=self.twin)
        self.latest = at, tensors
        with twin_precision(self.twin, self.binding.leaves):
            return flatten_outputs(self.run(tensors, self.binding, twin=self.twin), self.binding)

    def mutated_inputs(self) -> list[str]:
        assert self.latest is not None
        at, tensors = self.latest
        self.latest = None  # they take as much memory as the inputs
        before, after = _before_and_after(self.binding, at, tensors, twin=self.twin)
        return find_changed_arrays(self.binding.call.paths, before, after)


def bind(case: Case, target: Callable[..., Any], inputs: Inputs, *, parameters_exist: bool = False) -> Program:
    """Bind a function, Function or module to its inputs; a module's trainable parameters become leaves `params['name']`.

    The steps: call the target once, choose the outputs that carry a gradient, look for a float64 twin, assemble the program.

    Args:
        parameters_exist: whether a module that creates parameters at its first call has been called before.

    Raises:
        InputError: if nothing is differentiable.
        TargetError: if the target raises at the primal or returns no floating-point tensor.
    """
    try:
        first = call_once(case, target, inputs)
    except TargetError as error:
        if case.overwrites or LEAF_OVERWRITTEN not in str(error):
            raise
        program = bind(replace(case, overwrites=True), target, inputs, parameters_exist=parameters_exist)
        return replace(program, notes=(*program.notes, WRITES_TO_INPUTS))
    functional_call = first.functional_call
    known_tensors = {*functional_call.parameters, *functional_call.frozen}
    if not parameters_exist and lazy_modules.has_new_tensors(target, known_tensors):
        lazy_modules.call_once(target, inputs, case.seed_label)
        return bind(case, target, inputs, parameters_exist=True)
    binding, detached = choose_outputs(first)
    case, run = hand_written.replay_draws(case, first.draws), global_state.replaying(functional_call, first.draws)
    value = flatten_outputs(first.returned, binding)
    if first.draws:
        run = random_draws.draw_as_target(run, leaves_at(binding, first.point), binding)
    twin, refusal = _evaluate_twin(run, binding, first.point, value)
    evaluation = _Evaluation(run, binding, twin=twin is not None)
    is_detached = not is_connected(first.returned, binding)
    program = Program(
        framework="torch",
        leaves=binding.leaves,
        outputs=binding.outputs,
        point=first.point,
        value=prefer_twin_value(value, twin),
        native_value=value,
        evaluate=evaluation,
        eps=EPS["float64"] if evaluation.twin else max(EPS[leaf.dtype] for leaf in (*binding.leaves, *binding.outputs)),
        claims=make_claims(case, target, functional_call, binding, first.returned, run, twin=evaluation.twin),
        capabilities=_capabilities_of(case, target, first, evaluation),
        name=case.name,
        fn=global_state.replaying(functional_call.fn, first.draws),
        shapes=shapes_of(functional_call.user_call, binding.outputs),
        notes=(
            *functional_call.notes,
            *_describe_carried_state(functional_call, first.buffers, first.draws, binding, first.point, value),
            *(
                f"{path} carries no gradient: {'its claim is zero' if is_detached and not case.claims else 'not compared'}"
                for path in detached
            ),
            *describe_changed_gradients(flatten(first.returned).leaves),
            *filter(None, [refusal]),
        ),
        details=functional_call.details,
        is_detached=is_detached,
        draws=first.draws,
        mutated_inputs=evaluation.mutated_inputs,
        device=next((str(t.device) for t in binding.call.leaves if isinstance(t, torch.Tensor)), ""),
    )
    if is_detached:
        return program
    return program.with_capabilities(
        trace_exactly=trace_on_demand(
            "torch", program=program, run=run, binding=binding, draws=first.draws, twin=evaluation.twin
        ),
        gradient_program=lambda v: vjp_program.make_gradient_program(program, run, binding, v, twin=evaluation.twin),
    )


def call_once(case: Case, target: Callable[..., Any], inputs: Inputs) -> FirstCall:
    """Flatten the arguments, and call the target at the primal with gradients recorded."""
    functional_call, call, places = make_functional_call(case, target, inputs)
    tensors = [torch.as_tensor(call.leaves[i]) for i in places]
    leaves = lay_out_leaves(
        [call.paths[i] for i in places], [tuple(t.shape) for t in tensors], [dtype_name(t.dtype) for t in tensors]
    )
    point, binding = flat_of_all(tensors, leaves), Binding(call, places, leaves, (), ())
    before, buffers = global_state.snapshot(target, call.leaves), dict[str, Any]()
    attached = leaves_at(binding, point, requires_grad=True)

    def start() -> Any:
        return functional_call(attached, binding, twin=False, buffers=buffers)

    with torch.enable_grad():
        returned = call_user_code("the target", start, (), {}, functional_call.user_call)
    binding = replace(binding, leaves=mark_rejection_draws(leaves, [attached[i] for i in places], flatten(returned).leaves))
    return FirstCall(functional_call, binding, point, returned, global_state.changes_since(before), buffers)


def choose_outputs(first: FirstCall) -> tuple[Binding, list[str]]:
    """Bind the floating outputs that carry a gradient, and name the others."""
    output_places, outputs = lay_out_outputs(first.returned, is_differentiable, to_numpy)
    return _without_detached(replace(first.binding, output_places=output_places, outputs=outputs), first.returned)


def _capabilities_of(case: Case, target: Callable[..., Any], first: FirstCall, evaluation: _Evaluation) -> Capabilities:
    """List what PyTorch can do with the target besides evaluating it."""
    functional_call, binding, run, twin = first.functional_call, evaluation.binding, evaluation.run, evaluation.twin
    point, draws = (
        first.point,
        first.draws,
    )  # not `first`, in what the layer keeps: its graph takes a multiple of the inputs' memory
    rounded = twin and is_half(binding.leaves)
    return Capabilities(
        evaluate_along=line.make_line_evaluator(run, binding, point, twin=twin),
        evaluate_many=vmap.make_batched_evaluate(run, binding, twin=twin),
        evaluate_native=(lambda at: evaluate_target(run, binding, at, twin=False)) if twin else None,
        evaluate_rounded=(lambda at: _evaluate_rounded(run, binding, at)) if rounded else None,
        vjp_of_combination=_make_vjp_of_combination(run, functional_call, binding),
        optimizer_step=optimizer_step.make_step(binding.leaves, torch.from_numpy, to_numpy),
        without_tf32=devices.without_tf32 if devices.uses_tf32(functional_call.user_call.leaves) else None,
        layer=make_layer(
            binding,
            lambda: leaves_at(binding, point),
            lambda wrap: global_state.replaying(replace(functional_call, invoke=wrap(functional_call.invoke)), draws),
            first.returned,
            target,
            lambda: _describe_carried_state_now(functional_call, binding, point),
            draws_random=bool(draws),
            upstream=case.upstream,
        ),
    )


def _describe_carried_state(
    functional_call: TorchFunctionalCall,
    buffers: dict[str, Any],
    draws: dict[str, Any],
    binding: Binding,
    point: F64,
    value: F64,
) -> tuple[str, ...]:
    """Note the buffers that a call changes and the next one reads, such as those of a power iteration.

    Args:
        buffers: the module's buffers after a call, by name.
        draws: the states of the random generators that the call drew from.
        point: the primal, (N,).
        value: what the call returned, (M,).
    """
    changed = [name for name, t in functional_call.frozen.items() if not sparse.is_same_tensor(t, buffers[name])]
    if not changed:
        return ()
    next_call = global_state.replaying(replace(functional_call, frozen=buffers), draws)
    try:
        next_value = flatten_outputs(next_call(leaves_at(binding, point), binding, twin=False), binding)
    except Exception:
        return ()
    if np.array_equal(next_value, value, equal_nan=True):
        return ()
    return (CARRIED_STATE.format(", ".join(changed)),)


def _describe_carried_state_now(functional_call: TorchFunctionalCall, binding: Binding, point: F64) -> tuple[str, ...]:
    """Note the buffers that a call changes and the next one reads, in the mode that the module is in now."""
    states, buffers = global_state.snapshot(functional_call.fn), dict[str, Any]()
    try:
        run = global_state.replaying(functional_call, states)
        value = flatten_outputs(run(leaves_at(binding, point), binding, twin=False, buffers=buffers), binding)
        return _describe_carried_state(functional_call, buffers, states, binding, point, value)
    except Exception:
        return ()


def _make_vjp_of_combination(
    run: Callable[..., Any], functional_call: TorchFunctionalCall, binding: Binding
) -> VjpOfCombination:
    """Make the function that differentiates a combination with PyTorch."""

    def call(function: Callable[..., Any] | None, values: list[Any]) -> list[Any]:
        if function is None:
            return flatten(run(values, binding, twin=False)).leaves  # type: ignore[return-value]
        args, kwargs, _ = functional_call.arguments(values, binding)
        return flatten(make_outputs_dense(function(*args, **kwargs))).leaves  # type: ignore[return-value]

    def vjp_of_combination(
        at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, _methods: frozenset[str]
    ) -> F64:
        with torch.enable_grad(), swap_scope():
            values = leaves_at(binding, at, requires_grad=True)
            return composition.evaluate_vjp(call, values, binding, members, combine, cotangent)

    return vjp_of_combination


def _without_detached(binding: Binding, returned: Any) -> tuple[Binding, list[str]]:
    """Leave out the outputs that carry no gradient, and name them; if none does, keep all for a hand-written derivative."""
    values = flatten(returned).leaves
    outputs = [(leaf, values[i]) for i, leaf in zip(binding.output_places, binding.outputs, strict=True)]
    attached = [carries_gradient(x) for _, x in outputs]
    detached = [
        leaf.path if isinstance(x, torch.Tensor) else f"{leaf.path}, a Python {type(x).__name__},"
        for leaf, x in outputs
        if not carries_gradient(x)
    ]
    return binding.keep_outputs(attached) if any(attached) else binding, detached


def _before_and_after(binding: Binding, at: F64, used: list[Any], *, twin: bool) -> tuple[list[Any], list[Any]]:
    """Return every leaf as an array before a call and after it; a differentiable one as its numbers, without a copy.

    Args:
        at: where the target was called, (N,).
        used: the leaves that it was called with.
        twin: whether it was called in float64.
    """
    numbers = {i: at[leaf.span] for i, leaf in zip(binding.input_places, binding.leaves, strict=True)}
    before = [to_numpy(x) for x in replace_leaves(binding.call.leaves, numbers, twin)]
    return before, [flat_of(t) if i in numbers else to_numpy(t) for i, t in enumerate(used)]


def _evaluate_twin(run: Callable[..., Any], binding: Binding, point: F64, value: F64) -> tuple[F64 | None, str]:
    """Return the target's value in float64; None, and why, if it does not run there or is another function."""
    dtypes = {t.dtype for t in binding.call.leaves if isinstance(t, torch.Tensor)}
    if not dtypes & TWIN_DTYPES.keys():
        return None, ""
    try:
        value_of_twin = evaluate_target(run, binding, point, twin=True)
    except Exception as error:
        return None, f"differences in its own dtype: it does not run in float64 ({summarise_error(error, 100)})"

    def evaluate_both(at: F64) -> tuple[F64, F64]:
        return evaluate_target(run, binding, at, twin=False), evaluate_target(run, binding, at, twin=True)

    same = is_same_function(point, value, value_of_twin, max(EPS[leaf.dtype] for leaf in binding.leaves), evaluate_both)
    if not (same or (is_half(binding.leaves) and _is_explained_by_rounding(run, binding, point, value, value_of_twin))):
        return None, "differences in its own dtype: in float64 it returns another value"
    return value_of_twin, ""


def _evaluate_rounded(run: Callable[..., Any], binding: Binding, at: F64, *, every_operation: bool = False) -> F64:
    """Evaluate the target as a plain implementation in the leaves' half precision would."""
    with torch.no_grad(), emulated_half_precision(True, binding.leaves, every_operation=every_operation):
        return flatten_outputs(run(leaves_at(binding, at, twin=True), binding, twin=True), binding)


def _is_explained_by_rounding(run: Callable[..., Any], binding: Binding, point: F64, value: F64, value_of_twin: F64) -> bool:
    """Whether rounding the result of every operation explains the difference between a value and that of its twin."""
    try:
        rounded = _evaluate_rounded(run, binding, point, every_operation=True)
    except Exception:
        return False
    if not rounded.shape == value.shape == value_of_twin.shape:
        return False
    with np.errstate(all="ignore"):
        unexplained, difference = np.linalg.norm(rounded - value), np.linalg.norm(value_of_twin - value)
    return bool(unexplained <= UNEXPLAINED * difference)
