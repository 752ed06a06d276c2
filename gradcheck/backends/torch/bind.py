"""Functions on torch tensors, custom autograd Functions, and nn.Modules.

The claim is made in the user's dtype. Differences are taken on a float64 twin (inputs, parameters and buffers in float64)
where the target runs in float64 and its value is the same there; else in its own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gradcheck.backends import global_state, optimizer_step
from gradcheck.backends.binding import Binding, shapes_of
from gradcheck.backends.flat import EPS, F64, layout_leaves
from gradcheck.backends.program import Composed, Member, Program, same_function, wider
from gradcheck.backends.torch import (
    composition,
    devices,
    gradient_program,
    lazy_modules,
    line,
    sparse,
    vmap,
)
from gradcheck.backends.torch.derivatives import claims, connected
from gradcheck.backends.torch.functional import (
    Called,
    called_with,
    densely,
    is_differentiable,
)
from gradcheck.backends.torch.layer import layer_of
from gradcheck.backends.torch.parameter_swap import until_differentiated
from gradcheck.backends.torch.precision import is_half, plainly, wide_default
from gradcheck.backends.torch.tensors import (
    WIDE,
    carries_gradient,
    flat_of,
    flat_of_all,
    leaves_at,
    name_of,
    numbers_of,
    to_numpy,
    with_moved,
)
from gradcheck.backends.user_code import call_user, differing, outputs_of
from gradcheck.errors import TargetError
from gradcheck.targets.signature import Inputs
from gradcheck.tracebacks import one_line
from gradcheck.trees import flatten

if TYPE_CHECKING:
    from gradcheck.targets.case import Case


LEAF_OVERWRITTEN = "a leaf Variable that requires grad"  # how PyTorch begins to say so
CARRIED = (
    "the output depends on {}, which the forward updates outside of autograd: gradients leave that out, differences do not;"
    " .eval() may hold it still"
)

EXPLAINED = 0.25  # of a difference may be left


def bind(case: Case, target: Callable[..., Any], inputs: Inputs, *, settled: bool = False) -> Program:
    """Bind a function, Function or module to its inputs; a module's trainable parameters are leaves `params['name']`.

    Args:
        settled: that the module makes parameters when it is called is no news.

    Raises:
        InputError: where nothing is differentiable.
        TargetError: where the target raises at the primal, or returns no floating-point tensor.
    """
    called, call, places = called_with(case, target, inputs)
    tensors = [torch.as_tensor(call.leaves[i]) for i in places]
    leaves = layout_leaves(
        [call.paths[i] for i in places], [tuple(t.shape) for t in tensors], [name_of(t.dtype) for t in tensors]
    )
    point = flat_of_all(tensors, leaves)
    empty = Binding(call, places, leaves, (), ())
    before, after = global_state.snapshot(), dict[str, Any]()

    def start() -> Any:
        return called(leaves_at(empty, point, requires_grad=True), empty, wide=False, buffers=after)

    try:
        with torch.enable_grad():
            first = call_user("the target", start, (), {}, called.given)
    except TargetError as error:
        if case.overwrites or LEAF_OVERWRITTEN not in str(error):
            raise
        program = bind(replace(case, overwrites=True), target, inputs, settled=settled)
        return replace(program, notes=(*program.notes, "it writes to its inputs: called with what is computed of them"))
    if not settled and lazy_modules.grown(target, {*called.parameters, *called.frozen}):
        lazy_modules.called_once(target, inputs, case.stream)
        return bind(case, target, inputs, settled=True)
    drawn = global_state.changed(before)
    run = global_state.replayed(called, drawn)
    bound, detached = _without_detached(Binding(call, places, leaves, *outputs_of(first, is_differentiable, to_numpy)), first)
    value = numbers_of(first, bound)
    again, refusal = _twin(run, bound, point, value)
    wide = again is not None
    given: list[Any] = []

    def evaluate(at: F64) -> F64:
        given[:] = [at, leaves_at(bound, at, wide=wide)]
        with wide_default(wide, bound.leaves):
            return numbers_of(run(given[1], bound, wide=wide), bound)

    def native(at: F64) -> F64:
        return numbers_of(run(leaves_at(bound, at), bound, wide=False), bound)

    def mutated() -> list[str]:
        at, seen = given
        given.clear()  # as large as the inputs
        return differing(call.paths, *_beside_each_other(bound, at, seen, wide=wide))

    program = Program(
        framework="torch",
        shapes=shapes_of(called.given, bound.outputs),
        name=case.name,
        fn=global_state.replayed(called.fn, drawn),
        composed=_composed(run, called, bound),
        stepped=optimizer_step.stepped(leaves, torch.from_numpy, to_numpy),
        leaves=leaves,
        outputs=bound.outputs,
        point=point,
        value=wider(value, again),
        evaluate=evaluate,
        along=line.lines(run, bound, point, wide=wide),
        many=vmap.many(run, bound, wide=wide),
        native=native if wide else None,
        exactly=devices.without_tf32 if devices.uses_tf32(called.given.leaves) else None,
        plain=(lambda at: _plainly(run, bound, at)) if wide and is_half(leaves) else None,
        layer=layer_of(
            bound,
            lambda: leaves_at(bound, point),
            lambda wrap: global_state.replayed(replace(called, enter=wrap(called.enter)), drawn),
            first,
            target,
            lambda: _carried_now(called, bound, point),
            random=bool(drawn),
            upstream=case.upstream,
        ),
        eps=EPS["float64"] if wide else max(EPS[leaf.dtype] for leaf in (*leaves, *bound.outputs)),
        claims=claims(case, target, called, bound, first, run, wide=wide),
        notes=(
            *called.notes,
            *_carried(called, after, drawn, bound, point, value),
            *(f"{path} carries no gradient: not compared" for path in detached),
            *filter(None, [refusal]),
        ),
        details=called.details,
        mutated=mutated,
    )
    if not connected(first, bound):
        return program
    return replace(program, second=lambda v: gradient_program.program(program, run, bound, v, wide=wide))


def _carried(
    called: Called, after: dict[str, Any], drawn: dict[str, Any], bound: Binding, point: F64, value: F64
) -> tuple[str, ...]:
    """What is to be said of buffers that a call changes and the next one reads, as those of a power iteration."""
    changed = [name for name, t in called.frozen.items() if not sparse.same(t, after[name])]
    if not changed:
        return ()
    later = global_state.replayed(replace(called, frozen=after), drawn)
    try:
        again = numbers_of(later(leaves_at(bound, point), bound, wide=False), bound)
    except Exception:
        return ()
    if np.array_equal(again, value, equal_nan=True):
        return ()
    return (CARRIED.format(", ".join(changed)),)


def _carried_now(called: Called, bound: Binding, point: F64) -> tuple[str, ...]:
    """The same of a call in the mode that the module is in by now."""
    states, after = global_state.snapshot(), dict[str, Any]()
    try:
        found = global_state.replayed(called, states)(leaves_at(bound, point), bound, wide=False, buffers=after)
        return _carried(called, after, states, bound, point, numbers_of(found, bound))
    except Exception:
        return ()


def _composed(run: Callable[..., Any], called: Called, bound: Binding) -> Composed:
    """The derivative of a combination, by PyTorch."""

    def call(function: Callable[..., Any] | None, values: list[Any]) -> list[Any]:
        if function is None:
            return flatten(run(values, bound, wide=False)).leaves  # type: ignore[return-value]
        args, kwargs, _ = called.arguments(values, bound)
        return flatten(densely(function(*args, **kwargs))).leaves  # type: ignore[return-value]

    def composed(at: F64, members: Sequence[Member], combine: Callable[..., Any], cotangent: F64, _used: frozenset[str]) -> F64:
        with torch.enable_grad(), until_differentiated():
            return composition.vjp(call, leaves_at(bound, at, requires_grad=True), bound, members, combine, cotangent)

    return composed


def _without_detached(bound: Binding, first: Any) -> tuple[Binding, list[str]]:
    """Leave out the outputs that carry no gradient; where none does, keep them all for a hand-written derivative."""
    found = flatten(first).leaves
    attached = [(i, leaf) for i, leaf in zip(bound.kept, bound.outputs, strict=True) if carries_gradient(found[i])]
    bare = [(leaf.path, found[i]) for i, leaf in zip(bound.kept, bound.outputs, strict=True) if not carries_gradient(found[i])]
    detached = [path if isinstance(x, torch.Tensor) else f"{path}, a Python {type(x).__name__}," for path, x in bare]
    if not attached or not detached:
        return bound, detached
    paths, shapes, dtypes = zip(*[(leaf.path, leaf.shape, leaf.dtype) for _, leaf in attached], strict=True)
    kept = tuple(i for i, _ in attached)
    return replace(bound, kept=kept, outputs=layout_leaves(list(paths), list(shapes), list(dtypes))), detached


def _beside_each_other(bound: Binding, at: F64, seen: list[Any], *, wide: bool) -> tuple[list[Any], list[Any]]:
    """Every leaf as arrays as it was given and as it is now; of the differentiable ones their numbers, without a copy."""
    moved = {i: at[leaf.span] for i, leaf in zip(bound.places, bound.leaves, strict=True)}
    before = [to_numpy(x) for x in with_moved(bound.call.leaves, moved, wide)]
    return before, [flat_of(t) if i in moved else to_numpy(t) for i, t in enumerate(seen)]


def _twin(run: Callable[..., Any], bound: Binding, point: F64, value: F64) -> tuple[F64 | None, str]:
    """The target's value in float64 where it runs there and is the same; else None, and why not."""
    dtypes = {t.dtype for t in bound.call.leaves if isinstance(t, torch.Tensor)}
    if not dtypes & WIDE.keys():
        return None, ""
    try:
        with wide_default(True, bound.leaves):
            again = numbers_of(run(leaves_at(bound, point, wide=True), bound, wide=True), bound)
    except Exception as error:
        return None, f"differences in its own dtype: it does not run in float64 ({one_line(error, 100)})"
    same = same_function(value, again, max(EPS[leaf.dtype] for leaf in bound.leaves))
    if not (same or (is_half(bound.leaves) and _rounding_explains(run, bound, point, value, again))):
        return None, "differences in its own dtype: in float64 it returns another value"
    return again, ""


def _plainly(run: Callable[..., Any], bound: Binding, at: F64, *, every: bool = False) -> F64:
    """The value as a plain implementation in the leaves' half precision would return it."""
    with torch.no_grad(), plainly(True, bound.leaves, every=every):
        return numbers_of(run(leaves_at(bound, at, wide=True), bound, wide=True), bound)


def _rounding_explains(run: Callable[..., Any], bound: Binding, point: F64, value: F64, again: F64) -> bool:
    """Whether rounding the result of every operation explains what a value and that of its twin differ by."""
    try:
        rounded = _plainly(run, bound, point, every=True)
    except Exception:
        return False
    if not rounded.shape == value.shape == again.shape:
        return False
    with np.errstate(all="ignore"):
        left, whole = np.linalg.norm(rounded - value), np.linalg.norm(again - value)
    return bool(left <= EXPLAINED * whole)
